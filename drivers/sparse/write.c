/* write.c - a guest's write, piece by piece: in place where the image has space of
 * its own for it, else by a fill, which gives it some.
 *
 * A write that is one piece in place is passed on as it is.  Pieces run side by
 * side; what meets a cluster that is being filled waits for that fill alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypt.h"
#include "sparse/sparse_priv.h"

#define CRYPT_PIECE (1u << 20)

int check_host(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
	       uint64_t off)
{
	if (meta_hit(s, file, host, len))
		return sparse_corrupt(s, "data at %llu of the disk would be written over "
				      "tables at %llu", (unsigned long long)off,
				      (unsigned long long)host);
	if (range_ok(host, len, s->files[file].node->size))
		return 0;
	if (log_allowed(&s->limit))
		td_err(s->node, "data at %llu of the disk has its place behind the end "
		       "of %s: it cannot be written", (unsigned long long)off,
		       s->files[file].node->arg);
	return -EIO;
}

void op_part_done(struct op *o, int err)
{
	if (err && !o->err)
		o->err = err;
	if (--o->pending)
		return;
	tasks_wake(o->s, &o->s->drain_wait);	/* writers_there() */
	if (!o->busy && list_empty(&o->task.link))
		o->task.run(&o->task);
}

static uint64_t op_iov(struct op *o, uint64_t len, struct iovec *to, unsigned max,
		       unsigned *n)
{
	if (o->zero)
		return iov_zeroes(len, to, max, n);
	return iov_cut(o->r->iov, o->r->iovcnt, o->pos - o->r->offset, len, to, max, n);
}

/* In place. */

static void piece_done(struct child *c, int err)
{
	struct op *o = c->owner;

	if (c->buf)
		buf_put(c->s, c->buf, c->buf_len);
	child_put(c);
	op_part_done(o, err);
}

static void passed(struct td_req *r, int err)
{
	struct op *o = td_ctx(r->node, r);

	o->s->files[0].unsynced = true;
	r->offset = o->offset;
	op_end(o, err);
}

static void seal(struct worker_job *j)
{
	struct child *c = container_of(j, struct child, job);

	c->err = crypt_sectors(c->s->crypt, true, c->buf, c->len, c->sector);
}

static void sealed(struct worker_job *j)
{
	struct child *c = container_of(j, struct child, job);

	if (c->err)
		piece_done(c, c->err);
	else
		child_submit(c, c->file, TD_OP_WRITE, c->skip, c->len, piece_done,
			     c->owner);
}

/* Whole sectors, through a buffer. */
static int write_sealed(struct op *o, const struct sparse_extent *x)
{
	struct sparse *s = o->s;
	uint64_t len = min_u64(x->length, CRYPT_PIECE);
	struct child *c;
	uint8_t *buf = buf_get(s, len, &o->task);

	if (!buf)
		return SPARSE_WAIT;
	c = child_get(s, &o->task);
	if (!c) {
		buf_put(s, buf, len);
		return SPARSE_WAIT;
	}
	if (o->zero)
		memset(buf, 0, len);
	else
		iov_read(o->r->iov, o->r->iovcnt, o->pos - o->r->offset, buf, len);
	c->buf = buf;
	c->buf_len = c->len = len;
	c->skip = x->host;
	c->sector = (s->crypt_by_host ? x->host : o->pos) / 512;
	c->file = &s->files[x->file];
	c->owner = o;
	c->iov[0] = (struct iovec){ buf, len };
	c->r->iovcnt = 1;
	c->job = (struct worker_job){ .run = seal, .done = sealed };
	o->pos += len;
	o->pending++;
	if (len > CRYPT_INLINE) {
		worker_submit(s->node->env->workers, &c->job);
	} else {
		seal(&c->job);
		sealed(&c->job);
	}
	return 0;
}

static int write_in_place(struct op *o, const struct sparse_extent *x)
{
	struct sparse *s = o->s;
	uint64_t len;
	struct child *c;
	unsigned n;

	if (s->crypt)
		return write_sealed(o, x);
	c = child_get(s, &o->task);
	if (!c)
		return SPARSE_WAIT;
	len = op_iov(o, x->length, c->iov, CHILD_IOV, &n);
	c->r->iovcnt = n;
	c->buf = NULL;
	o->pos += len;
	o->pending++;
	child_submit(c, &s->files[x->file], TD_OP_WRITE, x->host, len, piece_done, o);
	return 0;
}

/* By a fill. */

/* How much of [pos, pos + len) one transfer can carry between head and tail. */
static uint64_t one_transfer(struct op *o, uint64_t len)
{
	struct iovec iov[DATA_IOV];
	unsigned n;

	return o->s->crypt ? len : op_iov(o, len, iov, DATA_IOV, &n);
}

bool reads_zero(const struct sparse *s, const struct sparse_extent *x,
		       uint64_t off)
{
	return x->kind == SPARSE_ZERO ||
	       (x->kind == SPARSE_HOLE && (!s->parent || off >= s->parent->size));
}

/* Other operations under way that write to [from, to): all that came before, and of
 * those that came later the ones that have begun to (others wait for us). */
static bool writers_there(const struct op *me, uint64_t from, uint64_t to)
{
	list_for_each(e, &me->s->running) {
		const struct op *o = container_of(e, struct op, running);

		if (o != me && o->writes && (o->seq < me->seq || o->pending) &&
		    o->r->offset < to && from < o->r->offset + o->r->length)
			return true;
	}
	return false;
}

/* Part of an encrypted sector, in place: read, change, write back, alone. */
static int rewrite_sectors(struct op *o, const struct sparse_extent *x)
{
	struct sparse *s = o->s;
	uint32_t sector = crypt_sector(s->crypt);
	uint64_t end = o->pos + min_u64(x->length, CRYPT_PIECE);
	uint64_t f0 = align_down(o->pos, sector), f1 = align_up(end, sector);
	struct fill *f = fill_find(s, cluster_down(s, f0), cluster_up(s, f1));

	if (f || writers_there(o, f0, f1)) {
		task_wait(&o->task, f ? &f->waiters : &s->drain_wait);
		return SPARSE_WAIT;
	}
	f = fill_get(s, &o->task);
	if (!f)
		return SPARSE_WAIT;
	f->op = o;
	f->c0 = cluster_down(s, f0);
	f->c1 = cluster_up(s, f1);
	f->f0 = f0;
	f->f1 = f1;
	f->pos = o->pos;
	f->end = end;
	f->file = x->file;
	f->host = x->host - (o->pos - f0);
	f->fresh = f->zero = f->old_zero = false;
	f->linked = true;
	o->pos = end;
	o->pending++;
	fill_start(f);
	return 0;
}

static int write_fill(struct op *o, const struct sparse_extent *x)
{
	struct sparse *s = o->s;
	uint64_t c0 = cluster_down(s, o->pos), end, c1;
	bool reuse = x->space && x->own, whole;
	struct run run = { 0 };
	struct fill *f = fill_find(s, c0, c0 + s->cluster);
	int err;

	if (f) {
		task_wait(&o->task, &f->waiters);
		return SPARSE_WAIT;
	}
	end = o->pos + one_transfer(o, min_u64(x->length, FILL_BYTES));
	if (end < o->pos + x->length && cluster_down(s, end) > o->pos)
		end = cluster_down(s, end);
	c1 = cluster_up(s, end);
	f = fill_find(s, c0, c1);
	if (f)
		c1 = f->c0;
	if (list_empty(&s->fill_free)) {
		task_wait(&o->task, &s->fill_wait);
		return SPARSE_WAIT;
	}
	if (!reuse) {
		err = space_take(s, x->file, c1 - c0, &o->task, &run);
		if (err)
			return err;
		c1 = c0 + (run.end - run.host);
	}
	end = min_u64(end, c1);
	f = fill_get(s, &o->task);
	f->op = o;
	f->c0 = c0;
	f->c1 = c1;
	f->pos = o->pos;
	f->end = end;
	/* Space that others use too is left whole; with it its other units. */
	whole = !reuse && (x->space || x->kind == SPARSE_PACKED);
	f->f0 = whole ? c0 : align_down(o->pos, s->unit);
	f->f1 = whole ? c1 : align_up(end, s->unit);
	f->file = x->file;
	f->fresh = !reuse;
	f->run = run;
	f->host = reuse ? x->host - (o->pos - f->f0) : run.host + (f->f0 - c0);
	f->zero = !reuse && run.zero;
	f->old_zero = reads_zero(s, x, f->f0) && !whole;
	f->linked = false;
	o->pos = end;
	o->pending++;
	fill_start(f);
	return 0;
}

/* A compressed write: one cluster (the last may be cut by the disk's end). */
static int write_packed(struct op *o)
{
	struct sparse *s = o->s;
	struct fill *f = fill_find(s, o->pos, o->pos + s->cluster);

	if (f) {
		task_wait(&o->task, &f->waiters);
		return SPARSE_WAIT;
	}
	f = fill_get(s, &o->task);
	if (!f)
		return SPARSE_WAIT;
	f->op = o;
	f->c0 = f->f0 = f->pos = o->pos;
	f->c1 = f->f1 = o->pos + s->cluster;
	f->end = o->end;
	f->file = 0;
	f->fresh = true;
	f->old_zero = f->linked = false;
	o->pos = o->end;
	o->pending++;
	fill_start_packed(f);
	return 0;
}

static bool may_pass(const struct op *o, const struct sparse_extent *x)
{
	return !o->zero && !x->file && !o->s->crypt && !o->pending &&
	       o->pos == o->r->offset && x->length == o->r->length;
}

static int write_extent(struct op *o, const struct sparse_extent *x)
{
	struct sparse *s = o->s;
	struct fill *f;
	int err;

	if (x->fixed && o->zero && x->kind == SPARSE_ZERO) {
		o->pos += x->length;
		return 0;
	}
	if (x->fixed)
		return -EROFS;
	if (x->kind != SPARSE_DATA || !x->own)
		return write_fill(o, x);
	/* A fill that rewrites part of it. */
	f = list_empty(&s->fills) ? NULL :
	    fill_find(s, cluster_down(s, o->pos), cluster_up(s, o->pos + x->length));
	if (f && f->linked) {
		task_wait(&o->task, &f->waiters);
		return SPARSE_WAIT;
	}
	err = check_host(s, x->file, x->host, x->length, o->pos);
	if (err)
		return err;
	if (s->crypt && !is_aligned(o->pos | x->length, crypt_sector(s->crypt)))
		return rewrite_sectors(o, x);
	return write_in_place(o, x);
}

static void write_run(struct task *t)
{
	struct op *o = container_of(t, struct op, task);
	struct sparse *s = o->s;
	struct sparse_extent x;
	int err = first_write(s, t);

	if (err == SPARSE_WAIT)
		return;
	o->busy = true;
	while (!err && !o->err && o->pos < o->end) {
		if (o->pack) {
			err = write_packed(o);
			continue;
		}
		slot_begin(s, t);
		err = slot_end(s, s->format->map(s, o->pos, o->end - o->pos, &x));
		if (err)
			break;
		if (x.kind == SPARSE_DATA && x.own && !x.fixed && may_pass(o, &x) &&
		    list_empty(&s->fills)) {
			err = check_host(s, 0, x.host, x.length, o->pos);
			if (err)
				break;
			o->offset = o->r->offset;
			o->r->offset = x.host;
			td_pass(s->node, o->r, passed);
			return;
		}
		err = write_extent(o, &x);
	}
	o->busy = false;
	if (err == SPARSE_WAIT)
		return;
	cache_release(t);	/* another part failed while this one waited */
	if (err < 0 && !o->err)
		o->err = err;
	if (!o->pending)
		o->then(o);
}

void write_part(struct op *o, void (*then)(struct op *o))
{
	o->then = then;
	task_init(&o->task, write_run);
	write_run(&o->task);
}

static void all_written(struct op *o)
{
	op_end(o, o->err);
}

void write_start(struct op *o)
{
	struct sparse *s = o->s;

	o->pack = o->r->flags & TD_REQ_PACK;
	if (o->pack && (!s->packer || !s->packer->pack || s->crypt ||
			!is_aligned(o->pos, s->cluster) ||
			(o->end - o->pos != s->cluster && o->end != s->size) ||
			o->end - o->pos > s->cluster)) {
		op_end(o, -EOPNOTSUPP);
		return;
	}
	write_part(o, all_written);
}
