/* slow.c - what O_DIRECT would refuse, through a bounce buffer, a chunk at a
 * time: list of steps
 *
 *   read:  chunk_begin -> transfer -> read_chunk -> next chunk
 *   write: chunk_begin -> (transfer of the head block, and of the tail block,
 *          where we change them in part) -> write_chunk -> transfer -> next
 *
 * Knows nothing of ranges: who calls it for writing holds one.  Whoever has a
 * buffer waits for nothing but the kernel, so buffers always come back.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "file/file_priv.h"

static void chunk_begin(struct file_req *q);

static void end(struct file_req *q, int err)
{
	void *buf = q->buf;

	q->buf = NULL;
	bounce_put(&q->f->bounce, buf);
	q->then(q, err);
}

static char *at(struct file_req *q, uint64_t off)
{
	return (char *)q->buf + (off - q->chunk);
}

/* One transfer between the buffer and [io, io_end); then step(). */

static void transfer_done(struct io_op *op, int64_t res);

static void transfer_more(struct file_req *q)
{
	struct io_queue *io = q->f->node->env->io;

	q->vec.iov_base = at(q, q->io);
	q->vec.iov_len = q->io_end - q->io;
	if (q->io_write)
		io_writev(io, &q->op, q->f->fd, &q->vec, 1, q->io, 0,
			  transfer_done);
	else
		io_readv(io, &q->op, q->f->fd, &q->vec, 1, q->io,
			 transfer_done);
}

static void transfer_done(struct io_op *op, int64_t res)
{
	struct file_req *q = container_of(op, struct file_req, op);

	if (res > 0)
		q->io += (uint64_t)res;
	if (res < 0) {
		end(q, (int)res);
	} else if (q->io == q->io_end) {
		q->step(q);
	} else if (res && is_aligned(q->io, q->f->geo.align)) {
		transfer_more(q);	/* short: go on */
	} else if (q->io_write) {
		end(q, -EIO);
	} else {			/* the end of the file */
		memset(at(q, q->io), 0, q->io_end - q->io);
		q->step(q);
	}
}

static void transfer(struct file_req *q, bool writes, uint64_t from, uint64_t to,
		     void (*step)(struct file_req *q))
{
	q->io_write = writes;
	q->io = from;
	q->io_end = to;
	q->step = step;
	transfer_more(q);
}

static void chunk_done(struct file_req *q)
{
	q->from = min_u64(q->chunk_end, q->end);
	if (q->from == q->end)
		end(q, 0);
	else
		chunk_begin(q);
}

static void read_chunk(struct file_req *q)
{
	iov_fill(q->r->iov, q->r->iovcnt, q->from - q->r->offset, at(q, q->from),
		 min_u64(q->chunk_end, q->end) - q->from);
	chunk_done(q);
}

static void write_chunk(struct file_req *q)
{
	uint32_t align = q->f->geo.align;
	uint64_t len = min_u64(q->chunk_end, q->end) - q->from;

	if (q->read_head) {
		q->read_head = false;
		/* Head and tail in one or two blocks: one read for both. */
		if (q->chunk_end - q->chunk <= 2ull * align) {
			q->read_tail = false;
			transfer(q, false, q->chunk, q->chunk_end, write_chunk);
		} else {
			transfer(q, false, q->chunk, q->chunk + align,
				 write_chunk);
		}
		return;
	}
	if (q->read_tail) {
		q->read_tail = false;
		transfer(q, false, q->chunk_end - align, q->chunk_end,
			 write_chunk);
		return;
	}
	if (q->r->op == TD_OP_WRITE)
		iov_read(q->r->iov, q->r->iovcnt, q->from - q->r->offset,
			 at(q, q->from), len);
	else
		memset(at(q, q->from), 0, len);
	transfer(q, true, q->chunk, q->chunk_end, chunk_done);
}

static void chunk_begin(struct file_req *q)
{
	uint32_t align = q->f->geo.align;

	q->chunk = align_down(q->from, align);
	q->chunk_end = min_u64(q->chunk + BOUNCE_BYTES,
			       align_up(q->end, align));
	if (q->r->op == TD_OP_READ) {
		transfer(q, false, q->chunk, q->chunk_end, read_chunk);
		return;
	}
	q->read_head = q->chunk < q->from;
	q->read_tail = q->chunk_end > q->end;
	q->f->rmw += q->read_head || q->read_tail;
	write_chunk(q);
}

static void got_buffer(struct bounce_wait *w, void *buf)
{
	struct file_req *q = container_of(w, struct file_req, wait);

	q->buf = buf;
	chunk_begin(q);
}

void file_slow(struct file_req *q, uint64_t from, uint64_t to,
	       void (*then)(struct file_req *q, int err))
{
	void *buf;

	ASSERT(from < to);
	q->f->bounced++;
	q->from = from;
	q->end = to;
	q->then = then;
	q->wait.ready = got_buffer;
	buf = bounce_get(&q->f->bounce, &q->wait);
	if (buf)
		got_buffer(&q->wait, buf);
}
