/* td_req.h - one request on its way through a disk's tree of nodes.
 *
 * A request belongs to exactly one layer at a time: to whoever filled it until
 * td_submit(), then to the node that it was submitted to, and again to its
 * submitter from the moment its `done` runs.  Every submitted request is
 * completed exactly once, by td_complete(), and `done` never runs inside
 * td_submit() or td_complete(): it runs from the event loop.
 *
 * Offsets and lengths are bytes.  Errors are 0 or -errno.  Everything here is
 * used by the one thread that owns the disk; there are no locks.
 *
 * open, close and resize travel as requests too, so that a driver may wait for
 * a file, a server or a worker without blocking the loop.
 */
#ifndef TD_REQ_H
#define TD_REQ_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct disk_front;
struct td_node;
struct td_req;

enum td_op {
	TD_OP_READ,	/* offset, length, iov: fill all of iov */
	TD_OP_WRITE,	/* offset, length, iov, TD_REQ_FUA */
	TD_OP_FLUSH,	/* everything completed before is on stable storage */
	TD_OP_DISCARD,	/* offset, length: contents become undefined; a hint.
			 * TD_REQ_FUA is the core's: drivers do not see it */
	TD_OP_ZEROES,	/* offset, length, TD_REQ_FUA | _NO_HOLE | _FAST */
	TD_OP_EXTENTS,	/* offset, length, extents: block status, of the
			 * beginning of the range at least */
	TD_OP_OPEN,	/* no range; after success size and limits are set */
	TD_OP_CLOSE,	/* no range; no other request is in flight */
	TD_OP_RESIZE,	/* length = the new size, 0 = take up what the store has
			 * grown to; never shrinks (-ERANGE) without TD_REQ_SHRINK */
	TD_OP_NR
};

enum td_req_flag {
	TD_REQ_FUA	= 1u << 0, /* durable when it completes */
	TD_REQ_NO_HOLE	= 1u << 1, /* zeroes: keep the space allocated */
	TD_REQ_FAST	= 1u << 2, /* zeroes: -EOPNOTSUPP rather than slow */
	TD_REQ_BARRIER	= 1u << 3, /* disk layer only: drain, do, persist */
	TD_REQ_PACK	= 1u << 4, /* write whole clusters compressed; of tools, on
				    * the root of a tree that is a format */
	TD_REQ_WHERE	= 1u << 5, /* extents: also say where; of tools */
	TD_REQ_PLACE	= 1u << 7, /* zeroes: all of it is given its space; of tools */
	TD_REQ_SHRINK	= 1u << 6, /* resize: to a smaller size, what is behind it is
				    * lost; of tools */
};

/* Answer of TD_OP_EXTENTS: runs that cover the range from its start.  The
 * driver appends with td_extent_add(); it may stop early, after at least one. */
struct td_extent {
	uint64_t length;	/* bytes, > 0 */
	uint32_t flags;		/* TD_EXTENT_* */
	/* With TD_REQ_WHERE, else 0: */
	uint16_t depth;		/* images above the one that says so: 0 for the disk's
				 * own, 1 for its backing file, ... */
	uint16_t file;		/* of that image's files, which: 0 is its first */
	uint64_t host;		/* AT: where in that file */
};

enum td_extent_flag {
	TD_EXTENT_HOLE	= 1u << 0, /* no space is allocated */
	TD_EXTENT_ZERO	= 1u << 1, /* reads as zeroes */
	/* With TD_REQ_WHERE alone: */
	TD_EXTENT_AT	= 1u << 2, /* host is the place of these bytes, as they are */
	TD_EXTENT_PACKED = 1u << 3, /* compressed */
	TD_EXTENT_ABSENT = 1u << 4, /* no image of the chain says anything of it */
};

struct td_extents {
	struct td_extent *v;
	unsigned n, max;	/* used, room; max >= 1 */
};

enum td_req_state {
	TD_REQ_IDLE,		/* its submitter's: not submitted, or done */
	TD_REQ_INFLIGHT,	/* some node's */
	TD_REQ_DONE,		/* completed; `done` is due to run */
};

typedef void td_done_fn(struct td_req *r, int err);

struct td_req {
	/* Filled by the submitter; constant while in flight. */
	enum td_op op;
	unsigned flags;		/* TD_REQ_* */
	uint64_t offset;	/* bytes */
	uint64_t length;	/* bytes; READ/WRITE: the sum of iov */
	struct iovec *iov;	/* READ/WRITE; the array must outlive the request */
	unsigned iovcnt;
	struct td_extents *extents;	/* EXTENTS */
	td_done_fn *done;
	void *owner;		/* the submitter's, untouched by others */

	/* The core's (drivers/node.c); nobody else writes these. */
	struct td_req *next;	/* on the list of whoever holds it */
	struct td_node *node;	/* who holds it */
	struct td_node *top;	/* where it was submitted */
	enum td_req_state state;
	int err;
	void *ctx;		/* room for the contexts of all nodes */

	/* The disk layer's (tapdisk/disk), for requests of front ends. */
	struct disk_front *front;
	td_done_fn *answer;	/* the front's `done` */
	uint64_t start_ns;
};

/* Append a run; a neighbour that goes on as it began merges.  False when there
 * is no room left. */
static inline int td_extent_add_at(struct td_extents *x, const struct td_extent *e)
{
	if (x->n) {
		struct td_extent *l = &x->v[x->n - 1];

		if (l->flags == e->flags && l->depth == e->depth &&
		    l->file == e->file &&
		    (!(e->flags & TD_EXTENT_AT) || l->host + l->length == e->host)) {
			l->length += e->length;
			return 1;
		}
	}
	if (x->n == x->max)
		return 0;
	x->v[x->n++] = *e;
	return 1;
}

static inline int td_extent_add(struct td_extents *x, uint64_t length,
				uint32_t flags)
{
	struct td_extent e = { .length = length, .flags = flags };

	return td_extent_add_at(x, &e);
}

#endif
