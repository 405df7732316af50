/* op.h - operations: what a verb asks, as a list of steps.
 *
 * A step runs, and ends with op_done(), now or later.  When one fails, those
 * before it are undone in reverse; then the asker gets the first reason.  A disk
 * has a queue of operations: one runs.  An asker may vanish; the operation goes
 * on.
 *
 * I1  A disk's running operation is the first of vdisk.ops.
 * I2  op_done() never runs the next step itself: no recursion.
 * I3  An operation waits for at most one thing (op.wait), at most until its
 *     timer; what comes later changes the disk's state, not the operation.
 * I4  With err set and not undoing, it does what was asked, and something was
 *     lost on the way.
 */
#ifndef CTL_OP_H
#define CTL_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "keys.h"
#include "loop/loop.h"
#include "names.h"
#include "tap_proto.h"

struct client;
struct op;
struct vdisk;

/* Who asked what; client NULL: nobody waits any more. */
struct ask {
	struct list link;	/* client's */
	struct client *client;
	uint32_t id;
	uint16_t type;		/* of the request */
};

struct step {
	const char *name;
	void (*run)(struct op *op);
	void (*undo)(struct op *op);	/* or NULL: nothing to undo */
	bool dead_too;		/* makes sense on a dead disk */
	/* What a step that is late does: it fails, or the tapdisk is ended by
	 * force and the step waits for that. */
	enum { LATE_FAILS, LATE_KILLS, LATE_KILLS_FORCED } late;
};

struct op_kind {
	const char *act;	/* "pause": for messages */
	const struct step *steps;
	unsigned n_steps;
	bool tells;		/* answered with a struct tap_disk */
	bool quiet;		/* success is not worth a line of log */
};

enum op_wait { WAIT_NOTHING, WAIT_HELLO, WAIT_CALL, WAIT_DEATH,
	       WAIT_REVIVED /* the step has not run yet */ };

struct op {
	struct list link;	/* vdisk.ops */
	const struct op_kind *kind;
	struct vdisk *vd;	/* NULL before a step has made it */
	struct ask ask;
	void (*ended)(struct op *op);	/* optional: shutdown counts */

	int minor;		/* of the disk, for messages; create: wanted */
	int want;		/* attach: the minor */
	uint32_t flags;		/* TAP_OPEN_*, TAP_VERB_* */
	uint64_t size;
	uint64_t patience_ns;	/* for open, close, pause */
	char *text;		/* spec */
	char node[NAMES_NODE_MAX];		/* of the guest's device that it is for; or "" */
	struct key_fds keys;	/* for it */

	unsigned step;
	bool undoing, killed;
	bool hushed;		/* that it fails is told by who began it */
	enum op_wait wait;
	int err;
	char why[512];
	struct loop_timer timer;
	struct loop_work work;
};

#define OP_QUEUE_MAX 16
#define OP_CONTROL_NS (10ull * 1000000000ull)

/* text is copied.  NULL: no memory. */
struct op *op_new(const struct op_kind *kind, const struct tap_verb *v,
		  const char *text);
/* Start it, or queue it behind the disk's others; vd NULL: it makes its own.
 * -EBUSY: the queue is full, and op is the caller's still. */
int op_start(struct op *op, struct vdisk *vd);
void op_free(struct op *op);		/* never started */
/* Both at once, for one that nobody has asked for.  `ended' may be NULL, or runs later.
 * NULL: the queue is full, or no memory. */
struct op *op_begin(const struct op_kind *kind, struct vdisk *vd, const char *text,
		    void (*ended)(struct op *op));
/* The operation has made its disk: it is the first in its queue. */
void op_take(struct op *op, struct vdisk *vd);

/* The step has ended: 0, or -errno and why. */
void op_done(struct op *op, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The step waits; after that time it has failed. */
void op_await(struct op *op, enum op_wait what, uint64_t ns);

/* End the tapdisk by force and wait for that. */
void op_kill(struct op *op);

/* Something has happened to vd: its running operation, if it waits for that,
 * has its step done.  Death fails every other wait. */
void op_event(struct vdisk *vd, enum op_wait what, int err, const char *why);
/* The call that it waits for has done its work, and lost something (I4). */
void op_lost(struct vdisk *vd, int err, const char *why);

#endif
