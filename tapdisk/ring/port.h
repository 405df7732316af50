/* port.h - the rings of one client as a front of the disk: takes requests off
 * the rings, gives them to the disk, puts the answers back.  Where the memory
 * and the notifications come from is the owner's business (shm.c; Xen): a small
 * table.
 *
 * P1  A request that was consumed is answered exactly once.
 * P2  No more is in flight than the rings have slots: the pool never runs dry.
 * P3  Memory that was resolved stays until stopped() has been called.
 * P4  What resolve() held is released before its answer is written.
 * P5  A bad request costs its sender an error, a broken ring costs its sender
 *     the connection, and neither costs anybody else anything.
 */
#ifndef RING_PORT_H
#define RING_PORT_H

#include "disk/disk.h"
#include "loop/loop.h"
#include "ring/decode.h"
#include "ring/ring.h"

struct ring_port;

#define RING_BATCH 32u

/* All required, but stats. */
struct ring_port_ops {
	const char *name;		/* of the front, in statistics */
	/* The data of b: page[i] = 4096 bytes that stand for b->gref[i], until
	 * *hold is released if it is set, else as long as p is.  0 or -errno. */
	int (*resolve)(struct ring_port *p, const struct blkif_req *b,
		       void **page, void **hold);
	/* What held writes carry is needed now: err[i] = 0 or -errno.  Many at
	 * once, RING_BATCH at most. */
	void (*load)(struct ring_port *p, void **hold, int *err, unsigned n);
	/* Requests have ended with err[i]: what they read is the guest's, and
	 * err[i] becomes what it is told.  Many at once. */
	void (*release)(struct ring_port *p, void **hold, int *err, unsigned n);
	/* Copy the first len bytes of the pages gref[].  0 or -errno. */
	int (*fetch)(struct ring_port *p, const uint32_t *gref, void *to,
		     size_t len);
	/* Answers are there. */
	void (*notify)(struct ring_port *p, unsigned queue);
	/* The ring is about to ask for a notification. */
	void (*arming)(struct ring_port *p, unsigned queue);
	void (*resized)(struct ring_port *p, uint64_t sectors);
	/* The ring is broken, or the disk is closing: hang up, and call
	 * ring_port_stop().  From the loop, at most once. */
	void (*hang_up)(struct ring_port *p, const char *why);
	/* Nothing is in flight any more: everything may be freed, p too. */
	void (*stopped)(struct ring_port *p);
	void (*stats)(struct ring_port *p, struct json_t *into);
};

/* Reads, writes. */
struct ring_port_io {
	uint64_t taken, done, sectors, us;
};

struct ring_port {
	const struct ring_port_ops *ops;
	struct loop *loop;
	struct disk_front front;
	struct disk_front_ops front_ops;
	unsigned nr_rings;
	bool running;		/* the disk takes requests */
	bool stopping;
	bool full;		/* the owner's: it has no room for another request;
				 * none is taken until it has */
	bool rdonly;		/* the owner's: what would write is refused */
	const char *broken;	/* why, or NULL */
	struct blkif_limits limits;
	struct ring ring[TAPRING_MAX_QUEUES];

	/* Taken, in order, but not given to the disk yet: they need load(). */
	struct td_req *batch[RING_BATCH];
	unsigned nr_batch;
	/* Ended, held: released and answered before the next push. */
	struct td_req *ended, **last_ended;

	struct loop_hook submit, push, poll, sleep;
	struct loop_work end;

	/* Vectors of requests with many pieces; a request has its own few. */
	struct iovec *vecs, *free_vecs;
	unsigned nr_vecs, fresh_vecs;	/* fresh: the next never used */

	uint64_t bad, failed, notified;
	struct ring_port_io io[2];	/* [TD_OP_READ], [TD_OP_WRITE] */

	/* Of the request in hand. */
	struct blkif_req req;
	struct blkif_segment seg[TAPRING_MAX_INDIRECT];
	void *page[TAPRING_MAX_INDIRECT];
};

/* p is zeroed, but for its owner's flags; p->ring[0 .. nr_rings) are initialised; max_indirect: segments.  0 or -errno
 * (-ENODEV: there is no open disk). */
int ring_port_start(struct ring_port *p, const struct ring_port_ops *ops,
		    struct loop *l, struct disk *d, unsigned nr_rings,
		    unsigned max_indirect);
/* Take no more requests; stopped() follows, from the loop.  Not from a hook. */
void ring_port_stop(struct ring_port *p);

/* What the client did is no ring: hang_up() follows, from the loop. */
void ring_port_break(struct ring_port *p, const char *why);

/* A disk that clients can connect to: open, or paused. */
bool ring_port_disk_ready(const struct disk *d);

#endif
