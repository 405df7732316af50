/* chunk.c - requests of the luks type that need buffers: each is cut into chunks of
 * one buffer, which go their ways independently.
 *
 *   write               fill (copy and encrypt) -> write
 *   write, odd edges    read -> fill (decrypt, copy, encrypt) -> write
 *   read                read -> fill (decrypt and copy)
 *
 * A durable write of one chunk is written so; of several, a flush follows the last.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/log.h"
#include "luks/luks_priv.h"
#include "td_driver.h"

struct chunk {
	struct td_req *io;	/* of the file */
	struct luks_req *q;
	char *buf;
	uint64_t from, to;	/* of the disk: what the request has of it */
	uint64_t start, stop;	/* whole sectors around that: what buf holds */
	struct iovec vec;
	struct worker_job job;
	int err;
};

size_t luks_chunk_bytes(void)
{
	return sizeof(struct chunk);
}

static void feed(struct luks_req *q);

/* The end of a request. */

static void request_end(struct luks_req *q)
{
	if (q->r->op == TD_OP_WRITE)
		range_leave(&q->l->ranges, &q->range);	/* I1 */
	td_complete(q->r, q->err);
}

static void chunk_put(struct chunk *c)
{
	struct luks *l = c->q->l;
	char *buf = c->buf;

	td_pool_put(l->pool, c->io);
	bounce_put(&l->bounce, buf);	/* I2: after the request */
}

static void flushed(struct td_req *io, int err)
{
	struct chunk *c = io->owner;
	struct luks_req *q = c->q;

	q->err = err;
	chunk_put(c);
	request_end(q);
}

static void chunk_end(struct chunk *c, int err)
{
	struct luks_req *q = c->q;
	const struct td_req *r = q->r;
	bool last;

	if (err && !q->err) {
		q->err = err;
		q->pos = q->end;	/* hand out no more */
	}
	last = !--q->pending && q->pos == q->end && !q->waiting;
	if (last && !q->err && (r->flags & TD_REQ_FUA) &&
	    c->to - c->from != r->length) {
		c->io->op = TD_OP_FLUSH;
		c->io->flags = 0;
		c->io->offset = c->io->length = 0;
		c->io->done = flushed;
		td_submit(q->l->node->child, c->io);
		return;
	}
	chunk_put(c);
	if (last)
		request_end(q);
}

/* Copy between the chunk's buffer and the request's memory. */
static void copy(const struct chunk *c, bool in)
{
	const struct td_req *r = c->q->r;
	char *p = c->buf + (c->from - c->start);

	if (in)
		iov_read(r->iov, r->iovcnt, c->from - r->offset, p, c->to - c->from);
	else
		iov_fill(r->iov, r->iovcnt, c->from - r->offset, p, c->to - c->from);
}

static bool has_edges(const struct chunk *c)
{
	return c->start != c->from || c->stop != c->to;
}

static void fill(struct worker_job *j)
{
	struct chunk *c = container_of(j, struct chunk, job);
	struct luks *l = c->q->l;
	uint64_t len = c->stop - c->start, number = luks_number(l, c->start);
	bool write = c->q->r->op == TD_OP_WRITE;

	c->err = 0;
	if (!write || has_edges(c))
		c->err = crypt_sectors(l->crypt, false, c->buf, len, number);
	if (c->err)
		return;
	copy(c, write);
	if (write)
		c->err = crypt_sectors(l->crypt, true, c->buf, len, number);
}

static void written(struct td_req *io, int err)
{
	chunk_end(io->owner, err);
}

static void start_io(struct chunk *c, enum td_op op, unsigned flags,
		     td_done_fn *done)
{
	struct luks *l = c->q->l;

	c->vec = (struct iovec){ .iov_base = c->buf, .iov_len = c->stop - c->start };
	c->io->op = op;
	c->io->flags = flags;
	c->io->offset = l->info.payload + c->start;
	c->io->length = c->vec.iov_len;
	c->io->iov = &c->vec;
	c->io->iovcnt = 1;
	c->io->done = done;
	c->io->owner = c;
	td_submit(l->node->child, c->io);
}

static void filled(struct worker_job *j)
{
	struct chunk *c = container_of(j, struct chunk, job);
	const struct td_req *r = c->q->r;
	bool whole = c->to - c->from == r->length;

	if (c->err || r->op != TD_OP_WRITE)
		chunk_end(c, c->err);
	else
		start_io(c, TD_OP_WRITE, whole ? r->flags & TD_REQ_FUA : 0, written);
}

static void start_fill(struct chunk *c)
{
	struct luks *l = c->q->l;

	c->job.run = fill;
	c->job.done = filled;
	if (c->stop - c->start > LUKS_INLINE) {
		l->by_worker++;
		worker_submit(l->node->env->workers, &c->job);
	} else {
		fill(&c->job);
		filled(&c->job);
	}
}

static void read_back(struct td_req *io, int err)
{
	struct chunk *c = io->owner;

	if (err)
		chunk_end(c, err);
	else
		start_fill(c);
}

static void start_chunk(struct luks_req *q, void *buf)
{
	struct luks *l = q->l;
	struct td_req *io = td_pool_get(l->pool);
	struct chunk *c;

	ASSERT(io);			/* I2 */
	c = td_pool_extra(l->pool, io);
	c->io = io;
	c->q = q;
	c->buf = buf;
	c->from = q->pos;
	c->start = align_down(q->pos, l->sector);
	c->to = min_u64(q->end, c->start + BOUNCE_BYTES);
	c->stop = align_up(c->to, l->sector);
	q->pos = c->to;
	q->pending++;
	if (q->r->op == TD_OP_WRITE && !has_edges(c)) {
		start_fill(c);
		return;
	}
	l->rmw += q->r->op == TD_OP_WRITE;
	start_io(c, TD_OP_READ, 0, read_back);
}

/* A buffer that was waited for. */
static void buffer_ready(struct bounce_wait *w, void *buf)
{
	struct luks_req *q = container_of(w, struct luks_req, wait);

	q->waiting = false;
	if (!q->err) {
		start_chunk(q, buf);
		feed(q);
		return;
	}
	bounce_put(&q->l->bounce, buf);
	if (!q->pending)
		request_end(q);
}

static void feed(struct luks_req *q)
{
	while (q->pos < q->end) {
		void *buf = bounce_get(&q->l->bounce, &q->wait);

		if (!buf) {
			q->waiting = true;
			return;
		}
		start_chunk(q, buf);
	}
}

static void write_ready(struct range *range)
{
	feed(container_of(range, struct luks_req, range));
}

void luks_chunks(struct luks *l, struct td_req *r)
{
	struct luks_req *q = td_ctx(l->node, r);

	*q = (struct luks_req){ .l = l, .r = r, .pos = r->offset,
				.end = r->offset + r->length };
	q->wait.ready = buffer_ready;
	if (!r->length) {
		td_complete(r, 0);
		return;
	}
	if (r->op != TD_OP_WRITE) {
		feed(q);
		return;
	}
	q->range.start = align_down(q->pos, l->sector);
	q->range.end = align_up(q->end, l->sector);
	q->range.excl = q->range.start != q->pos || q->range.end != q->end;
	q->range.ready = write_ready;
	if (range_enter(&l->ranges, &q->range))
		feed(q);
}
