/* disk.h - what a guest sees: a disk of fixed-size sectors with flush and
 * barrier order, that can be paused, resized and watched.
 *
 * Front ends (rings, NBD clients) register and submit requests; the control
 * channel opens, closes, pauses and resizes.  Knows neither rings nor formats.
 *
 * I1  A request is on exactly one of: a front's own hands, the disk's waiting
 *     queue (a barrier is being drained), or in the tree.
 * I2  inflight counts requests submitted by fronts and not yet answered; the
 *     tree is opened, closed and swapped only when it is 0.
 * I3  Nothing that was accepted after a barrier starts before the barrier is
 *     complete, and the barrier starts when all accepted before are complete.
 */
#ifndef DISK_H
#define DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "td_req.h"

struct disk;
struct disk_front;
struct json_t;
struct td_env;
struct td_pool;

enum disk_state {
	DISK_CLOSED,
	DISK_OPENING,
	DISK_RUNNING,
	DISK_DRAINING,		/* towards PAUSED or CLOSED */
	DISK_PAUSED,
	DISK_CLOSING,
	DISK_STATES
};

/* A client of the disk.  The disk calls these from the loop. */
struct disk_front_ops {
	const char *name;	/* "ring", "nbd" */
	/* Take no more requests from the client until resume(); those that
	 * were submitted will be answered. */
	void (*quiesce)(struct disk_front *f);
	/* The disk runs (again): bind pools to its tree, take requests. */
	void (*resume)(struct disk_front *f);
	/* The size has changed: tell the client. */
	void (*resized)(struct disk_front *f);
	/* The disk is closing: say good-bye to the client and unregister, now
	 * or later.  No request is in flight. */
	void (*disconnect)(struct disk_front *f);
	void (*stats)(struct disk_front *f, struct json_t *into);
};

struct disk_front {
	const struct disk_front_ops *ops;
	struct disk *disk;
	struct list link;
	struct td_pool *pool;	/* the front's; bound by disk_front_bind() */
	unsigned inflight;
};

struct disk *disk_new(struct td_env *env);
void disk_free(struct disk *d);			/* closed, no fronts */

/* Control.  Each answers once through fn, from the loop, with 0 or -errno and a
 * reason ("" if strerror says it all).  One at a time: -EBUSY otherwise;
 * -EINVAL from a state that does not allow it. */
typedef void disk_ctl_fn(void *arg, int err, const char *why);
void disk_open(struct disk *d, const char *spec, unsigned flags /* TD_NODE_* */,
	       disk_ctl_fn *fn, void *arg);
/* A closed disk becomes what a paused one is, as another process has had it.  0,
 * or -EINVAL, -ENOMEM. */
struct disk_shape {
	uint64_t size;
	uint32_t phys, caps;	/* as below */
};
int disk_hold(struct disk *d, const char *spec, unsigned flags,
	      const struct disk_shape *shape);
void disk_close(struct disk *d, disk_ctl_fn *fn, void *arg);
void disk_pause(struct disk *d, disk_ctl_fn *fn, void *arg);
/* spec NULL or "": the image that it had.  Failure leaves it paused. */
void disk_resume(struct disk *d, const char *spec, unsigned flags,
		 disk_ctl_fn *fn, void *arg);
void disk_resize(struct disk *d, uint64_t bytes, disk_ctl_fn *fn, void *arg);

/* What it is. */
enum disk_state disk_state(const struct disk *d);
const char *disk_state_name(enum disk_state s);
bool disk_resume_failed(const struct disk *d);
const char *disk_spec(const struct disk *d);	/* "" before the first open */
unsigned disk_flags(const struct disk *d);	/* TD_NODE_* */
bool disk_rdonly(const struct disk *d);
uint64_t disk_size(const struct disk *d);	/* bytes; kept while paused */
uint32_t disk_sector(const struct disk *d);	/* logical: 512 */
uint32_t disk_phys(const struct disk *d);	/* physical block, bytes */
uint32_t disk_whole(const struct disk *d);	/* as td_node.whole; running */
uint32_t disk_caps(const struct disk *d);	/* TD_CAP_*, of the root */
struct td_env *disk_env(const struct disk *d);
struct json_t *disk_stats(const struct disk *d);	/* a new object */
void disk_dump(const struct disk *d);		/* to the log: SIGUSR1 */

/* Fronts. */
void disk_front_add(struct disk *d, struct disk_front *f);
void disk_front_del(struct disk_front *f);	/* inflight == 0 */
/* Bind f->pool to the disk's tree; in resume(), or before the first request
 * when the disk runs already.  0 or -ENOMEM. */
int disk_front_bind(struct disk_front *f);
/* May f submit now? */
bool disk_running(const struct disk *d);

/* Accept r (from f->pool) for the guest.  The range is checked here: r is
 * answered with -EINVAL when it leaves the disk, -EROFS, -EOPNOTSUPP... r->done
 * runs once, from the loop. */
void disk_submit(struct disk_front *f, struct td_req *r);

#endif
