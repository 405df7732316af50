/* vdisk.h - a tapdisk process and the disk that it serves, as the daemon knows
 * it.
 *
 * I1  state says what the tapdisk has answered, and what it has been asked and
 *     has not answered: a request that timed out is still being done.
 * I2  One exclusive call at a time: state is STARTING, ATTACHING, OPENING,
 *     PAUSING, RESUMING, CLOSING or LEAVING while it runs.
 * I3  DEAD: channel and names are gone; duplicates of its files stay until the
 *     disk is forgotten, so that nobody takes them by surprise.
 * I4  A close that fails may have closed all the same (a flush was lost): state
 *     stays CLOSING, and the call is not over, until the tapdisk has said what it
 *     is.
 */
#ifndef CTL_VDISK_H
#define CTL_VDISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "base/log.h"
#include "chan.h"
#include "keys.h"
#include "keys_back.h"
#include "loop/loop.h"
#include "revive.h"
#include "tap_proto.h"

struct op;

enum vdisk_state {
	VD_STARTING,	/* process runs, no HELLO yet */
	VD_SILENT,	/* adopted, and does not answer HELLO */
	VD_IDLE,	/* no minor */
	VD_ATTACHING,
	VD_CLOSED,	/* a minor, no image */
	VD_OPENING,
	VD_RUNNING,
	VD_PAUSING,
	VD_PAUSED,
	VD_RESUMING,
	VD_CLOSING,
	VD_LEAVING,	/* told to end */
	VD_REVIVING,	/* its tapdisk died, another takes its place: revive.h */
	VD_DEAD,
	VD_STATES
};

struct vdisk {
	struct list link;	/* ctl.vdisks */
	int number;		/* of the names: minor, or TAP_TEMP_MINOR + k; -1 once
				 * gone */
	int minor;		/* -1: none; moved by minor_bind() */
	pid_t pid;		/* -1: unknown */
	bool child;		/* ours to reap */
	bool created;		/* half of a create until it is open */
	bool gone;		/* forgotten: freed when its operation ends */
	bool killed;		/* by us */
	bool doomed;		/* to be forgotten when it has ended */
	bool adopting;		/* adopt.c waits for its HELLO */
	int second;		/* adopt.c: the minor whose names it has as well: half
				 * of an attach; or -1 */
	bool failed_resume;
	bool hearsay;		/* what its image is, its tapdisk says, and nothing else:
				 * nobody else is given that file for it */
	enum vdisk_state state, before;	/* before: what a failed call leaves */
	uint32_t flags;		/* TAP_OPEN_* */
	struct tap_img img;
	char spec[TAP_TEXT_MAX + 1];	/* "": never opened */

	struct key_fds keys;	/* of its image; also while it is paused or dead */

	struct keys_back keys_back;	/* on their way from its tapdisk */

	/* What an open or unpause under way would make of it. */
	struct key_fds new_keys;	/* none: as before */
	uint32_t new_flags;
	char new_spec[TAP_TEXT_MAX + 1];

	struct chan chan;
	struct loop_fd pidfd;
	struct call call;	/* the exclusive one */
	bool calling;
	uint8_t asked[8];	/* its payload, if that is short */
	size_t asked_len;
	struct revival revival;
	int listen[2];		/* its sockets of rings and NBD; -1 */
	bool doubt;	/* its close failed: has it closed? it is asked (I4) */
	int doubt_err;		/* and not told yet */
	char doubt_why[256];
	struct list ops;	/* the first one runs */
	unsigned n_ops;
	struct list files;	/* broker.c's duplicates */
	struct list jobs;	/* broker.c's openings under way */
	unsigned n_files, n_jobs;
	int refused;		/* what the call's last file was refused with, or 0 */
	char refusal[384];	/* "cannot open FILE: reason" */
	struct list forwards;	/* forward.c: stats and debug, in order */
	unsigned n_forwards;
	struct loop_timer settle;	/* adopt.c: ask again */
	struct loop_work bury;
	char end[256];		/* how it ended */
	struct log_limit limit;
};

/* Not yet started; number must be free.  NULL: no memory. */
struct vdisk *vdisk_new(int number);
/* Unlinks and frees; not running or its operation has ended. */
void vdisk_free(struct vdisk *vd);
/* A number from TAP_TEMP_MINOR on that no vdisk has. */
int vdisk_temp_number(void);
struct vdisk *vdisk_by_number(int number);
struct vdisk *vdisk_by_pid(pid_t pid);

void vdisk_enter(struct vdisk *vd, enum vdisk_state next);
const char *vdisk_state_text(enum vdisk_state s);	/* "is paused" */
/* "disk 3" or "tapdisk 4711"; good until the fourth call from now. */
const char *vdisk_name(const struct vdisk *vd);
/* As list and info tell it; returns the whole length. */
size_t vdisk_tell(const struct vdisk *vd, struct tap_disk *d, size_t room);

/* The process has ended, or must be taken for ended. */
void vdisk_died(struct vdisk *vd, const char *how);
/* End it by force; its death comes later. */
void vdisk_kill(struct vdisk *vd);
/* Take away all that is left of it; it must be dead.  Its minor, if it has one,
 * stays taken and loses its disk. */
void vdisk_forget(struct vdisk *vd);

/* The exclusive call (steps.c): moves to `during`; its answer moves on and is
 * told to the running operation, if one still waits. */
int vdisk_call(struct vdisk *vd, uint16_t type, const void *body, size_t len,
	       enum vdisk_state during);
/* adopt.c: the tapdisk has told its state (VD_*, or -1), as I4 waits for. */
void vdisk_told(struct vdisk *vd, int state);

/* It is open, says m, the answer to PARAMS or RESUME: new_spec, new_flags and
 * new_keys are its own now, and it runs.  0, or -EPROTO and nothing has changed. */
int vdisk_opened(struct vdisk *vd, const struct msg *m);

extern const struct chan_ops vdisk_chan_ops;

#endif
