/* io.h - asynchronous file I/O: everything that was queued in one pass of the
 * loop is submitted together, with a few io_submit(2); completions are read from
 * the completion ring that the kernel maps into the process (no system call).
 *
 * At most `depth` operations are in the kernel; the rest wait here, in order.
 * Small ones that follow one another in a file are one operation there.
 * io_op is the caller's and belongs to the queue until `done` has run, from
 * the loop, with the bytes transferred or -errno.  Buffers, offsets and
 * lengths must suit the descriptor (O_DIRECT); a short transfer is reported as
 * such.  An array of vectors is the caller's for as long.  One thread: the loop's.
 */
#ifndef IO_IO_H
#define IO_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include <libaio.h>

#include "base/list.h"

struct loop;
struct io_queue;
struct io_op;

typedef void io_done_fn(struct io_op *op, int64_t res);

struct io_op {
	io_done_fn *done;
	int64_t res;
	/* The queue's: */
	struct iocb cb;
	struct list link;
	struct io_op *next;	/* joined to this one (join.h) */
	uint32_t bytes;
	bool unsignalled, alone;
};

#define IO_DEPTH_MAX 256	/* events a queue asks the kernel for */
#define IO_DEPTH_MIN 8		/* fewer than this and io_queue_new() fails */

/* Events are one pool for the whole system.  A disk that takes no more than one
 * part in IO_SHARE of what is left leaves some to those that come after: some
 * hundreds fit Linux' default of 65536.  io_depth_fair() is that share now (it
 * reads /proc); io_depth_share() is its arithmetic. */
#define IO_SHARE 32
unsigned io_depth_fair(void);
unsigned io_depth_share(uint64_t used, uint64_t max);

/* Asks for `depth` events, and for half as many each time the system (fs.
 * aio-max-nr) is short, down to IO_DEPTH_MIN.  0 or -errno. */
int io_queue_new(struct loop *l, unsigned depth, struct io_queue **q);
void io_queue_free(struct io_queue *q);		/* nothing in flight */
unsigned io_queue_depth(const struct io_queue *q);

/* flags: RWF_* of preadv2(2) and pwritev2(2), e.g. RWF_DSYNC for FUA. */
void io_readv(struct io_queue *q, struct io_op *op, int fd,
	      const struct iovec *iov, unsigned iovcnt, uint64_t offset,
	      io_done_fn *done);
void io_writev(struct io_queue *q, struct io_op *op, int fd,
	       const struct iovec *iov, unsigned iovcnt, uint64_t offset,
	       int flags, io_done_fn *done);
/* fdatasync; never blocks the loop. */
void io_datasync(struct io_queue *q, struct io_op *op, int fd, io_done_fn *done);

struct io_stats {
	uint64_t submits;	/* io_submit calls */
	uint64_t ops;		/* operations */
	uint64_t joined;	/* those of them that went with another */
	uint64_t waited;	/* operations that found the queue full */
};
const struct io_stats *io_stats(const struct io_queue *q);

#endif
