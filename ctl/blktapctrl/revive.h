/* revive.h - a tapdisk that died with an image in its hands is replaced, so that
 * nobody notices.
 *
 * RUNNING, PAUSING, PAUSED, RESUMING, CLOSING --death--> REVIVING
 *     a new process under the same number: HELLO -> HOLD (it is paused, with the
 *     size that it had) -> NEWDEV, with the same journal, redo log and sockets ->
 *     unless it was paused: RESUME with TAP_OPEN_RECOVER, from the duplicates of
 *     its files -> RUNNING or PAUSED, and the call that had no answer is made again
 *
 * Not replaced are disks in memory alone, those whose keys nobody has any
 * more, what is killed by us or half made, and what ended in order, by SIGTERM
 * (its journal says so); nor with --no-restart.
 *
 * R1  The new process starts when the old one cannot write any more (revive.c).
 * R2  The duplicates of its files stay open all the time: no lock falls.
 * R3  In REVIVING no operation runs: op.c has them wait, and what one had asked
 *     is still under way for it.
 * R4  A row of deaths, each before a second of service, ends: the disk is dead.
 *     A request that had ended them was given up: another row begins, a few times.
 * R5  One that the host does not let start, or open its image, has not died: that is
 *     tried again for minutes.  If it lasts, or is sure to last, the disk is dead
 *     too, but its journal and redo log, with what its guest was told is written,
 *     stay until it is forgotten, and its memo: the next daemon tries again.
 */
#ifndef CTL_REVIVE_H
#define CTL_REVIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop/loop.h"

struct msg;
struct tap_hello_rsp;
struct vdisk;

#define REVIVE_PIDS 16

struct revival {
	int was;		/* VD_*: as its tapdisk died */
	bool held;		/* it had no image open then */
	bool unclean;		/* its image may have been left open: the next open
				 * has to recover */
	bool unlocked;		/* and its locks have fallen before that */
	bool keyless;		/* its image needs keys that we do not have */
	uint16_t again;		/* the call that had no answer; 0: none */
	uint8_t body[8];	/* of it */
	size_t len;
	unsigned quick;		/* deaths in a row, each before a second of service */
	unsigned rows;		/* of these in a row, each but the last with a request
				 * given up */
	uint32_t given_up;	/* of tap_journal_head, when the last one died */
	unsigned restarts;	/* in all */
	uint64_t since_ns;	/* when it was last fit to serve; 0: not yet */
	bool trouble;		/* this try has failed as in R5, */
	bool final;		/* and so would all others */
	uint64_t trouble_ns;	/* since when all have; 0: the last one has not */
	unsigned tries;		/* since then */
	bool keep;		/* given up so */
	char why[256];		/* it failed otherwise than by death; or "" */
	char last[124];		/* how the last one ended that was replaced */
	pid_t old[REVIVE_PIDS];	/* whose disk it was; the first one stays */
	unsigned n_old;
	struct loop_timer timer;	/* the next try; or: it is late */
};

void revive_init(struct vdisk *vd);
void revive_free(struct vdisk *vd);

/* Could a disk of that spec outlive its tapdisk?  "": who knows. */
bool revive_could(const char *spec);

/* For vdisk.c.  Its tapdisk has ended: true if another takes its place. */
bool revive_begin(struct vdisk *vd, const char *how);
/* It shall be given up: it dies in the next turn, if it is REVIVING. */
void revive_abandon(struct vdisk *vd);
/* The new process talks nonsense; has said hello; has answered what revive.c asked. */
void revive_useless(struct vdisk *vd, const char *why);
void revive_hello(struct vdisk *vd, const struct tap_hello_rsp *h);
void revive_answered(struct vdisk *vd, int err, const char *why,
		     const struct msg *m);

/* Former pids are names of the disk. */
void revive_was(struct vdisk *vd, pid_t pid);
bool revive_knows(const struct vdisk *vd, pid_t pid);

#endif
