/* join.h - reads, or writes, that follow one another in a file go to the kernel as
 * one: it is one extent to look up, one request to the device, one completion.
 * A random write that allocates a cluster is such a neighbour of the one before,
 * and so is what a client has cut into pages.
 *
 * Only small ones are joined, and not to more than JOIN_MAX, so that the device has
 * several at a time.  What does not come back whole is done again, each operation by
 * itself: then each has the error, or the end of the file, that is its own.  A write
 * that has to reach the disk (RWF_DSYNC) is never joined: the kernel tells once that
 * something was lost before, and to do it again would hide that.
 */
#ifndef IO_JOIN_H
#define IO_JOIN_H

#include <stdbool.h>

#include "io/io.h"

#define JOIN_OP_MAX (32u << 10)
#define JOIN_MAX (128u << 10)
#define JOIN_IOV 256u		/* of all that are joined in one call */
#define JOIN_NR 64u		/* iocbs of several operations, in one call */

/* What one io_submit(2) is given.  The kernel copies all of it but `cb` itself. */
struct io_batch {
	struct iocb *cb[IO_DEPTH_MAX];
	uint16_t ops[IO_DEPTH_MAX];	/* that an iocb stands for */
	unsigned nr;
	struct io_op *first;		/* of the last iocb */
	uint64_t end;			/* in the file */
	uint32_t bytes;
	unsigned nr_iov, nr_joined;
	struct iocb joined[JOIN_NR];
	struct iovec iov[JOIN_IOV];
};

void io_batch_begin(struct io_batch *b);
void io_batch_add(struct io_batch *b, struct io_op *op);
/* To the last one, if it follows that. */
bool io_batch_join(struct io_batch *b, struct io_op *op);

#endif
