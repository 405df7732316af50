/* fill.c - a write to clusters that have no space of their own yet: put the bytes
 * around it in their place, with it, and then make the tables point there.
 *
 *   buffer -> read what was there (head and tail) -> [encrypt] -> write -> link
 *   a compressed one: buffer -> pack -> place -> write -> link
 *
 * I1  No two fills occupy the same cluster: whoever meets one waits for it, and
 *     looks again when it is over.
 * I2  The tables point to a place when all bytes of it are written: the request's
 *     and what was there before.  Where both what was there and the fresh place
 *     read as zeroes, nothing needs to be copied, and the tables may reach stable
 *     storage before the data: until then it reads as it did.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypt.h"
#include "sparse/sparse_priv.h"

static void fill_run(struct task *t);
static bool step_buffer(struct fill *f);
static bool step_read(struct fill *f);
static bool step_seal(struct fill *f);
static bool step_write(struct fill *f);
static bool step_link(struct fill *f);

int fill_new(struct sparse *s)
{
	list_init(&s->fills);
	list_init(&s->fill_free);
	list_init(&s->fill_wait);
	s->fill_pool = calloc(FILL_MAX, sizeof(*s->fill_pool));
	if (!s->fill_pool)
		return -ENOMEM;
	for (unsigned i = 0; i < FILL_MAX; i++) {
		struct fill *f = &s->fill_pool[i];

		f->s = s;
		list_init(&f->waiters);
		list_add(&s->fill_free, &f->link);
	}
	return 0;
}

void fill_free(struct sparse *s)
{
	free(s->fill_pool);
	s->fill_pool = NULL;
}

struct fill *fill_find(struct sparse *s, uint64_t c0, uint64_t c1)
{
	struct fill *first = NULL;

	list_for_each(e, &s->fills) {
		struct fill *f = container_of(e, struct fill, link);

		if (f->c0 < c1 && c0 < f->c1 && (!first || f->c0 < first->c0))
			first = f;
	}
	return first;
}

struct fill *fill_get(struct sparse *s, struct task *t)
{
	struct list *e = list_pop(&s->fill_free);
	struct fill *f;

	if (!e) {
		task_wait(t, &s->fill_wait);
		return NULL;
	}
	f = container_of(e, struct fill, link);
	task_init(&f->task, fill_run);
	f->run = (struct run){ 0 };
	f->packed = 0;
	f->reads = 0;
	f->err = 0;
	f->buf = NULL;
	f->fresh = f->zero = false;
	return f;
}

static void fill_end(struct fill *f, int err)
{
	struct sparse *s = f->s;
	struct op *o = f->op;

	cache_release(&f->task);
	if (err && f->run.host != f->run.end) {
		f->run.zero = false;
		space_give(s, f->file, &f->run);
	}
	if (err && f->packed)
		sparse_drop(s, f->file, f->host, f->packed);
	buf_put(s, f->buf, f->buf_len);
	list_del(&f->link);
	list_add(&s->fill_free, &f->link);
	tasks_wake(s, &f->waiters);
	tasks_wake(s, &s->fill_wait);
	op_part_done(o, err);
}

static void fill_run(struct task *t)
{
	struct fill *f = container_of(t, struct fill, task);

	while (f->step(f))
		;
}

/* End from a step. */
static bool stop(struct fill *f, int err)
{
	fill_end(f, err);
	return false;
}

/* What is to be kept of what was there before. */

static uint64_t head_len(const struct fill *f)
{
	return f->pos - f->f0;
}

static uint64_t tail_len(const struct fill *f)
{
	return f->f1 - f->end;
}

static bool keeps(const struct fill *f)
{
	return head_len(f) || tail_len(f);
}

static bool step_buffer(struct fill *f)
{
	struct sparse *s = f->s;

	f->buf_len = s->crypt ? f->f1 - f->f0 :
		     f->old_zero ? 0 : head_len(f) + tail_len(f);
	f->step = step_read;
	if (!f->buf_len)
		return true;
	f->buf = buf_get(s, f->buf_len, &f->task);
	if (!f->buf) {
		f->step = step_buffer;
		return false;
	}
	return true;
}

static void read_done(struct rd *q, struct fill *f)
{
	if (q->err && !f->err)
		f->err = q->err;
	if (!--f->reads)
		task_ready(f->s, &f->task);
}

static void head_done(struct rd *q)
{
	read_done(q, container_of(q, struct fill, head));
}

static void tail_done(struct rd *q)
{
	read_done(q, container_of(q, struct fill, tail));
}

static uint8_t *tail_buf(const struct fill *f)
{
	if (!f->buf)		/* there is no tail */
		return NULL;
	return f->buf + (f->s->crypt ? f->end - f->f0 : head_len(f));
}

static void start_rd(struct fill *f, struct rd *q, struct iovec *iov, uint8_t *to,
		     uint64_t from, uint64_t end, void (*done)(struct rd *q))
{
	*iov = (struct iovec){ to, end - from };
	*q = (struct rd){ .s = f->s, .base = from, .pos = from, .end = end,
			  .iov = iov, .iovcnt = 1, .done = done };
	f->s->copied += end - from;
	rd_start(q);
}

static bool step_read(struct fill *f)
{
	struct sparse *s = f->s;

	f->step = s->crypt ? step_seal : step_write;
	if (s->crypt && f->old_zero) {
		memset(f->buf, 0, head_len(f));
		memset(tail_buf(f), 0, tail_len(f));
	}
	if (f->old_zero || !keeps(f))
		return true;
	f->reads = 1;		/* our own, so that neither ends it under us */
	if (head_len(f)) {
		f->reads++;
		start_rd(f, &f->head, &f->head_iov, f->buf, f->f0, f->pos,
			 head_done);
	}
	if (tail_len(f)) {
		f->reads++;
		start_rd(f, &f->tail, &f->tail_iov, tail_buf(f), f->end, f->f1,
			 tail_done);
	}
	return !--f->reads;
}

static uint64_t sector_of(const struct fill *f)
{
	return (f->s->crypt_by_host ? f->host : f->f0) / 512;
}

static void seal(struct worker_job *j)
{
	struct fill *f = container_of(j, struct fill, job);

	f->err = crypt_sectors(f->s->crypt, true, f->buf, f->buf_len, sector_of(f));
}

static void sealed(struct worker_job *j)
{
	struct fill *f = container_of(j, struct fill, job);

	fill_run(&f->task);
}

static void copy_data(struct fill *f, uint8_t *to)
{
	struct op *o = f->op;

	if (o->zero)
		memset(to, 0, f->end - f->pos);
	else
		iov_read(o->r->iov, o->r->iovcnt, f->pos - o->r->offset, to,
			     f->end - f->pos);
}

static bool step_seal(struct fill *f)
{
	if (f->err)
		return stop(f, f->err);
	copy_data(f, f->buf + head_len(f));
	f->step = step_write;
	f->job = (struct worker_job){ .run = seal, .done = sealed };
	if (f->buf_len <= CRYPT_INLINE) {
		seal(&f->job);
		return true;
	}
	worker_submit(f->s->node->env->workers, &f->job);
	return false;
}

static void written(struct child *c, int err)
{
	struct fill *f = c->owner;

	child_put(c);
	if (err) {
		fill_end(f, err);
		return;
	}
	f->step = step_link;
	fill_run(&f->task);
}

/* Vectors of what is kept. */
static unsigned add_kept(const struct fill *f, struct iovec *iov, uint8_t *buf,
			 uint64_t len)
{
	unsigned n = 0;

	if (len && f->old_zero)
		iov_zeroes(len, iov, ZERO_IOV, &n);
	else if (len)
		iov[n++] = (struct iovec){ buf, len };
	return n;
}

/* Zeroes for the space's sake, where it reads as zeroes and so does what is kept: the
 * file may reserve it, or nothing is to be done. */
static bool only_place(const struct fill *f)
{
	const struct op *o = f->op;

	return o->zero && o->r->flags & TD_REQ_PLACE && f->zero &&
	       (f->old_zero || !keeps(f));
}

static bool step_place_zeroes(struct fill *f)
{
	struct sparse *s = f->s;
	struct child *c;

	f->step = step_link;
	if (!(f->op->r->flags & TD_REQ_NO_HOLE))
		return true;
	f->step = step_write;
	c = child_get(s, &f->task);
	if (!c)
		return false;
	c->r->flags = TD_REQ_NO_HOLE;
	child_submit(c, &s->files[f->file], TD_OP_ZEROES, f->host, f->f1 - f->f0, written,
		     f);
	return false;
}

/* One transfer: head, data, tail; without head and tail where fresh space has the
 * zeroes that they are. */
static bool step_write(struct fill *f)
{
	struct sparse *s = f->s;
	struct op *o = f->op;
	bool kept = !(f->old_zero && f->zero);
	uint64_t from = kept ? f->f0 : f->pos, to = kept ? f->f1 : f->end;
	struct child *c;
	unsigned n = 0, m;
	int err = f->err;

	if (!err)
		err = check_host(s, f->file, f->host + (from - f->f0), to - from,
				 f->pos);
	if (err)
		return stop(f, err);
	if (only_place(f))
		return step_place_zeroes(f);
	c = child_get(s, &f->task);
	if (!c)
		return false;
	if (s->crypt) {
		c->iov[n++] = (struct iovec){ f->buf, to - from };
	} else {
		if (kept)
			n = add_kept(f, c->iov, f->buf, head_len(f));
		if (o->zero)
			iov_zeroes(f->end - f->pos, c->iov + n, DATA_IOV, &m);
		else
			iov_cut(o->r->iov, o->r->iovcnt, f->pos - o->r->offset,
				f->end - f->pos, c->iov + n, DATA_IOV, &m);
		n += m;
		if (kept)
			n += add_kept(f, c->iov + n, tail_buf(f), tail_len(f));
	}
	c->r->iovcnt = n;
	child_submit(c, &s->files[f->file], TD_OP_WRITE, f->host + (from - f->f0),
		     to - from, written, f);
	return false;
}

static bool step_link(struct fill *f)
{
	struct sparse *s = f->s;
	/* Whole units, also where the disk ends within one. */
	struct sparse_link l = { .offset = f->f0,
				 .length = align_up(f->f1 - f->f0, s->unit),
				 .file = f->file, .host = f->host, .fresh = f->fresh,
				 .packed = f->packed };
	int err;

	if (f->linked)
		return stop(f, 0);
	if (!(f->old_zero && f->zero))
		s->dep = true;		/* I2 */
	slot_begin(s, &f->task);
	err = slot_end(s, s->format->link(s, &l));
	if (err == SPARSE_WAIT)
		return false;
	return stop(f, err);
}

void fill_start(struct fill *f)
{
	struct sparse *s = f->s;

	list_add(&s->fills, &f->link);
	if (s->crypt)
		f->zero = false;	/* zeroes there are not zeroes here */
	/* A file that only holds data ends with the disk. */
	if (!s->files[f->file].space.appends)
		f->f1 = max_u64(f->end, min_u64(f->f1, s->size));
	f->step = step_buffer;
	fill_run(&f->task);
}

/* Compressed. */

static void pack(struct worker_job *j)
{
	struct fill *f = container_of(j, struct fill, job);
	uint32_t cluster = f->s->cluster;

	f->packed = (uint32_t)f->s->packer->pack(f->buf, cluster, f->buf + cluster);
}

static bool step_place(struct fill *f)
{
	struct sparse *s = f->s;
	struct child *c;
	int err = 0;

	if (!f->host) {
		uint64_t host;

		err = space_take_packed(s, f->file, f->packed, &f->task, &host);
		if (err == SPARSE_WAIT)
			return false;
		if (err) {
			f->packed = 0;
			return stop(f, err);
		}
		f->host = host;
	}
	c = child_get(s, &f->task);
	if (!c)
		return false;
	c->iov[0] = (struct iovec){ f->buf + s->cluster, f->packed };
	c->r->iovcnt = 1;
	child_submit(c, &s->files[f->file], TD_OP_WRITE, f->host, f->packed, written,
		     f);
	return false;
}

/* It does not get smaller: as it is. */
static bool step_space(struct fill *f)
{
	struct sparse *s = f->s;
	int err = space_take(s, f->file, s->cluster, &f->task, &f->run);

	if (err == SPARSE_WAIT)
		return false;
	if (err)
		return stop(f, err);
	f->host = f->run.host;
	f->zero = f->run.zero;
	buf_put(s, f->buf, f->buf_len);
	f->buf = NULL;
	f->f1 = f->c1;
	f->step = step_buffer;
	return true;
}

static void packed(struct worker_job *j)
{
	struct fill *f = container_of(j, struct fill, job);

	f->step = f->packed ? step_place : step_space;
	fill_run(&f->task);
}

static bool step_pack(struct fill *f)
{
	struct sparse *s = f->s;

	f->buf_len = 2ull * s->cluster;
	f->buf = buf_get(s, f->buf_len, &f->task);
	if (!f->buf)
		return false;
	copy_data(f, f->buf);
	memset(f->buf + (f->end - f->pos), 0, f->f1 - f->end);
	f->job = (struct worker_job){ .run = pack, .done = packed };
	worker_submit(s->node->env->workers, &f->job);
	return false;
}

void fill_start_packed(struct fill *f)
{
	list_add(&f->s->fills, &f->link);
	f->host = 0;
	f->step = step_pack;
	fill_run(&f->task);
}
