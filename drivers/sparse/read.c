/* read.c - where bytes of the disk are, and their way into a buffer.
 *
 * A read looks its range up piece by piece: in this image; where that says nothing,
 * in its parent, as long as that is of the same kind, without a request of its own
 * (a chain of any depth costs one look into the cache a layer).  What was found in
 * a layer stays true while the read waits in the one below: layers below the first
 * do not change, and whoever changes the first at the same time may be seen or not.
 *
 * A guest's read that is one piece of the image's own file is passed on as it is.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypt.h"
#include "sparse/sparse_priv.h"

static void rd_run(struct task *t);

int rd_resolve(struct rd *q, struct sparse_extent *x, struct sparse **layer)
{
	for (;;) {
		struct sparse *l = q->layer;
		uint64_t len = q->limit;
		int err;

		*layer = l;
		if (q->pos >= l->size) {
			*x = (struct sparse_extent){ .kind = SPARSE_ZERO,
						     .length = len };
			return 0;
		}
		len = min_u64(len, l->size - q->pos);
		slot_begin(l, &q->task);
		err = slot_end(l, l->format->map(l, q->pos, len, x));
		if (err)
			return err;
		ASSERT(x->length && x->length <= len);
		if (x->kind != SPARSE_HOLE)
			return 0;
		if (!l->parent || q->pos >= l->parent->size) {
			x->kind = SPARSE_HOLE;
			*layer = l;
			return 0;
		}
		q->limit = min_u64(x->length, l->parent->size - q->pos);
		if (!l->parent_sparse) {
			*x = (struct sparse_extent){ .kind = SPARSE_DATA,
				.length = q->limit, .host = q->pos };
			*layer = NULL;
			return 0;
		}
		q->layer = l->parent_sparse;
	}
}

static void rd_next(struct rd *q, uint64_t len)
{
	q->pos += len;
	q->layer = q->s;
	q->limit = q->end - q->pos;
}

void rd_part_done(struct rd *q, int err)
{
	if (err && !q->err)
		q->err = err;
	/* The task may wait for something: then it goes on from there. */
	if (!--q->pending && !q->running && list_empty(&q->task.link))
		rd_run(&q->task);
}

static void part_done(struct child *c, int err)
{
	struct rd *q = c->owner;

	child_put(c);
	rd_part_done(q, err);
}

/* Encrypted data: decrypted where it lies when all pieces are whole sectors, else
 * through a buffer. */

static void decrypt(struct worker_job *j)
{
	struct child *c = container_of(j, struct child, job);
	struct crypt *k = c->layer->crypt;
	uint64_t sector = c->sector;

	if (c->buf) {
		c->err = crypt_sectors(k, false, c->buf, c->buf_len, sector);
		return;
	}
	for (unsigned i = 0; i < c->r->iovcnt && !c->err; i++) {
		c->err = crypt_sectors(k, false, c->iov[i].iov_base,
				       c->iov[i].iov_len, sector);
		sector += c->iov[i].iov_len / 512;
	}
}

static void decrypted(struct worker_job *j)
{
	struct child *c = container_of(j, struct child, job);
	struct rd *q = c->owner;
	int err = c->err;

	if (c->buf && !err)
		iov_fill(q->iov, q->iovcnt, c->iov_off, c->buf + c->skip, c->len);
	free(c->buf);
	child_put(c);
	rd_part_done(q, err);
}

static void sealed_done(struct child *c, int err)
{
	c->err = err;
	c->job = (struct worker_job){ .run = decrypt, .done = decrypted };
	if (!err && c->r->length > CRYPT_INLINE) {
		worker_submit(c->s->node->env->workers, &c->job);
		return;
	}
	if (!err)
		decrypt(&c->job);
	decrypted(&c->job);
}

static bool whole_sectors(const struct child *c, uint64_t host, uint32_t sector)
{
	uint64_t bits = host;

	for (unsigned i = 0; i < c->r->iovcnt; i++)
		bits |= c->iov[i].iov_len;
	return is_aligned(bits, sector);
}

/* 0 or -ENOMEM. */
static int read_sealed(struct rd *q, struct child *c, struct sparse *l,
		       struct sparse_file *f, uint64_t host, uint64_t len)
{
	uint32_t sector = crypt_sector(l->crypt);
	uint64_t from = align_down(host, sector);
	uint64_t to = align_up(host + len, sector);
	void *buf;

	c->layer = l;
	c->err = 0;
	c->buf = NULL;
	c->sector = (l->crypt_by_host ? from : q->pos - (host - from)) / 512;
	if (whole_sectors(c, host, sector)) {
		child_submit(c, f, TD_OP_READ, host, len, sealed_done, q);
		return 0;
	}
	if (posix_memalign(&buf, 4096, to - from))
		return -ENOMEM;
	c->buf = buf;
	c->buf_len = to - from;
	c->skip = host - from;
	c->iov_off = q->pos - q->base;
	c->len = len;
	memset(buf, 0, to - from);
	to = min_u64(to, f->node->size);
	c->iov[0] = (struct iovec){ buf, to - from };
	c->r->iovcnt = 1;
	child_submit(c, f, TD_OP_READ, from, to - from, sealed_done, q);
	return 0;
}

/* The guest's own request, passed on. */

static void passed(struct td_req *r, int err)
{
	struct op *o = td_ctx(r->node, r);

	r->offset = o->offset;
	op_end(o, err);
}

static void pass(struct op *o, uint64_t host)
{
	o->offset = o->r->offset;
	o->r->offset = host;
	td_pass(o->s->node, o->r, passed);
}

/* x->length bytes from a file of layer l (NULL: from the parent's own storage).
 * 0: under way or done; SPARSE_WAIT. */
static int read_data(struct rd *q, struct sparse *l, const struct sparse_extent *x)
{
	struct sparse_file *f = l ? &l->files[x->file] : NULL;
	uint64_t len = x->length, there = len, off = q->pos - q->base;
	struct child *c;
	unsigned n;

	if (f)		/* what is behind the file's end are zeroes */
		there = x->host >= f->node->size ? 0 :
			min_u64(len, f->node->size - x->host);
	if (!there) {
		iov_zero(q->iov, q->iovcnt, off, len);
		rd_next(q, len);
		return 0;
	}
	/* Each layer has requests that fit its own trees. */
	c = l ? child_get(l, &q->task) :
		child_get_parent(q->layer, &q->task);
	if (!c)
		return SPARSE_WAIT;
	len = iov_cut(q->iov, q->iovcnt, off, there, c->iov, CHILD_IOV, &n);
	c->r->iovcnt = n;
	q->pending++;
	if (!l) {
		child_submit_parent(c, TD_OP_READ, x->host, len, part_done, q);
	} else if (!l->crypt) {
		child_submit(c, f, TD_OP_READ, x->host, len, part_done, q);
	} else if (read_sealed(q, c, l, f, x->host, len)) {
		c->file = f;
		child_put(c);
		rd_part_done(q, -ENOMEM);
		return 0;
	}
	rd_next(q, len);
	return 0;
}

/* The whole request is one piece of file 0, as it is on the disk. */
static bool may_pass(const struct rd *q, const struct sparse *l,
		     const struct sparse_extent *x)
{
	return q->guest && l == q->s && !x->file && !l->crypt && !q->pending &&
	       q->pos == q->base && x->length == q->end - q->pos &&
	       range_ok(x->host, x->length, l->files[0].node->size);
}

static int read_extent(struct rd *q, struct sparse *l, const struct sparse_extent *x)
{
	switch (x->kind) {
	case SPARSE_DATA:
		return read_data(q, l, x);
	case SPARSE_PACKED:
		return pack_read(q, l, x);
	default:
		iov_zero(q->iov, q->iovcnt, q->pos - q->base, x->length);
		rd_next(q, x->length);
		return 0;
	}
}

static void rd_run(struct task *t)
{
	struct rd *q = container_of(t, struct rd, task);
	struct sparse_extent x;
	struct sparse *l;
	int err = 0;

	q->running = true;
	while (q->pos < q->end && !q->err && !err) {
		err = rd_resolve(q, &x, &l);
		if (!err && x.kind == SPARSE_DATA && may_pass(q, l, &x)) {
			pass(container_of(q, struct op, rd), x.host);
			return;
		}
		if (!err)
			err = read_extent(q, l, &x);
	}
	q->running = false;
	if (err == SPARSE_WAIT)
		return;
	cache_release(t);
	if (err < 0 && !q->err)
		q->err = err;
	if (!q->pending)
		q->done(q);
}

void rd_start(struct rd *q)
{
	task_init(&q->task, rd_run);
	q->pending = 0;
	q->err = 0;
	q->running = false;
	q->layer = q->s;
	q->limit = q->end - q->pos;
	rd_run(&q->task);
}

static void read_done(struct rd *q)
{
	op_end(container_of(q, struct op, rd), q->err);
}

void read_start(struct op *o)
{
	struct rd *q = &o->rd;

	q->s = o->s;
	q->base = q->pos = o->pos;
	q->end = o->end;
	q->iov = o->r->iov;
	q->iovcnt = o->r->iovcnt;
	q->done = read_done;
	q->guest = o->r;
	rd_start(q);
}
