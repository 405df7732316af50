/* join.c - see join.h. */
#include "io/join.h"

#include <string.h>

static bool is_vector(const struct io_op *op)
{
	return op->cb.aio_lio_opcode == IO_CMD_PREADV ||
	       op->cb.aio_lio_opcode == IO_CMD_PWRITEV;
}

static bool is_write(const struct io_op *op)
{
	return op->cb.aio_lio_opcode == IO_CMD_PWRITE ||
	       op->cb.aio_lio_opcode == IO_CMD_PWRITEV;
}

static const struct iovec *vector(const struct io_op *op)
{
	return op->cb.u.c.buf;
}

static unsigned nr_iov(const struct io_op *op)
{
	return is_vector(op) ? (unsigned)op->cb.u.c.nbytes : 1;
}

void io_batch_begin(struct io_batch *b)
{
	b->nr = b->nr_iov = b->nr_joined = 0;
}

void io_batch_add(struct io_batch *b, struct io_op *op)
{
	b->cb[b->nr] = &op->cb;
	b->ops[b->nr++] = 1;
	b->first = op;
	b->bytes = op->bytes;
	b->end = (uint64_t)op->cb.u.c.offset + op->bytes;
}

static bool follows(const struct io_batch *b, const struct io_op *op)
{
	const struct iocb *a = &b->first->cb, *c = &op->cb;

	return b->bytes && op->bytes &&		/* a flush has none */
	       (uint64_t)c->u.c.offset == b->end &&
	       c->aio_fildes == a->aio_fildes &&
	       !c->aio_rw_flags && !a->aio_rw_flags &&
	       is_write(op) == is_write(b->first) &&
	       !op->alone && !b->first->alone;
}

static void take_iov(struct io_batch *b, const struct io_op *op)
{
	struct iovec *to = b->iov + b->nr_iov;

	if (is_vector(op))
		memcpy(to, vector(op), nr_iov(op) * sizeof(*to));
	else
		*to = (struct iovec){ op->cb.u.c.buf, op->cb.u.c.nbytes };
	b->nr_iov += nr_iov(op);
}

/* The first of several: an iocb beside its own, which stays as it is. */
static bool make_room(struct io_batch *b)
{
	struct iocb *cb = &b->joined[b->nr_joined];

	if (b->nr_joined == JOIN_NR)
		return false;
	*cb = b->first->cb;
	cb->aio_lio_opcode = is_write(b->first) ? IO_CMD_PWRITEV : IO_CMD_PREADV;
	cb->u.c.buf = b->iov + b->nr_iov;
	cb->u.c.nbytes = nr_iov(b->first);
	take_iov(b, b->first);
	b->cb[b->nr - 1] = cb;
	b->nr_joined++;
	return true;
}

bool io_batch_join(struct io_batch *b, struct io_op *op)
{
	bool second = b->ops[b->nr - 1] == 1;
	unsigned n = nr_iov(op) + (second ? nr_iov(b->first) : 0);

	if (!follows(b, op) || op->bytes > JOIN_OP_MAX ||
	    b->first->bytes > JOIN_OP_MAX || b->bytes + op->bytes > JOIN_MAX ||
	    n > JOIN_IOV - b->nr_iov || (second && !make_room(b)))
		return false;
	take_iov(b, op);
	b->cb[b->nr - 1]->u.c.nbytes += nr_iov(op);
	b->ops[b->nr - 1]++;
	b->bytes += op->bytes;
	b->end += op->bytes;
	return true;
}
