/* unmap.c - discard, write-zeroes and block status.
 *
 * Whole units go to the format, which changes its tables.  What is left at the ends
 * of a range, and what an image cannot say, is written as zeroes, unless it reads
 * as zeroes already; a discard of such parts is forgotten.
 */
#include <errno.h>
#include <stdlib.h>

#include "sparse/sparse_priv.h"

#define TURN (1ull << 30)	/* bytes of one call */
#define EXTENTS_STEPS 1024u	/* of one block status: then it tells what it knows,
				 * others want to be served */

static void unmap_run(struct task *t);

/* Zeroes that are written out: [o->pos, end), then on. */

static void zeroes_written(struct op *o)
{
	o->end = o->stop;
	task_init(&o->task, unmap_run);
	if (o->err)
		op_end(o, o->err);
	else
		unmap_run(&o->task);
}

static void write_zeroes(struct op *o, uint64_t len)
{
	o->zero = true;
	o->busy = false;
	o->end = o->pos + len;
	write_part(o, zeroes_written);
}

static void told(struct child *c, int err)
{
	struct op *o = c->owner;

	child_put(c);
	op_part_done(o, err);
}

/* The file itself: it may know how to. */
static int tell_file(struct op *o, const struct sparse_extent *x, enum td_op op)
{
	struct sparse *s = o->s;
	struct child *c;
	int err = check_host(s, x->file, x->host, x->length, o->pos);

	if (err)
		return err;
	c = child_get(s, &o->task);
	if (!c)
		return SPARSE_WAIT;
	if (op == TD_OP_ZEROES)
		c->r->flags = o->r->flags & TD_REQ_NO_HOLE;
	o->pos += x->length;
	o->pending++;
	child_submit(c, &s->files[x->file], op, x->host, x->length, told, o);
	return 0;
}

static int map(struct op *o, uint64_t len, struct sparse_extent *x)
{
	struct sparse *s = o->s;

	slot_begin(s, &o->task);
	return slot_end(s, s->format->map(s, o->pos, len, x));
}

/* `len` bytes at pos that the format has no word for.  *gone: they are being written,
 * and this task goes on when that is done. */
static int by_hand(struct op *o, uint64_t len, bool *gone)
{
	struct sparse *s = o->s;
	bool discard = o->r->op == TD_OP_DISCARD, own;
	struct sparse_extent x;
	int err = map(o, len, &x);

	if (err)
		return err;
	own = x.kind == SPARSE_DATA && x.own && !s->crypt && !x.fixed;
	if (discard) {
		if (own && !s->files[x.file].space.appends &&
		    (s->files[x.file].node->caps & TD_CAP_DISCARD))
			return tell_file(o, &x, TD_OP_DISCARD);
		o->pos += x.length;
		return 0;
	}
	if (reads_zero(s, &x, o->pos) ||
	    (x.kind == SPARSE_HOLE && o->r->flags & TD_REQ_SHRINK)) {
		o->pos += x.length;
		return 0;
	}
	if (x.fixed)
		return -EROFS;
	if (own && x.length >= s->unit)
		return tell_file(o, &x, TD_OP_ZEROES);
	*gone = true;
	write_zeroes(o, x.length);
	return 0;
}

/* A file without free space that is known (a data file) keeps its places: what is no
 * longer read there is punched.  x: such a place at pos, for *c to punch; *c NULL: there
 * is none.  0, SPARSE_WAIT, -errno. */
static int fixed_place(struct op *o, uint64_t len, struct sparse_extent *x,
		       struct child **c)
{
	struct sparse *s = o->s;
	int err;

	*c = NULL;
	if (s->n_files == 1)
		return 0;
	err = map(o, len, x);
	if (err || x->kind != SPARSE_DATA || !x->own || x->fixed ||
	    s->files[x->file].space.appends ||
	    !(s->files[x->file].node->caps & TD_CAP_DISCARD))
		return err;
	err = check_host(s, x->file, x->host, x->length, o->pos);
	if (err)
		return err;
	*c = child_get(s, &o->task);
	return *c ? 0 : SPARSE_WAIT;
}

/* The tables have changed already: space that stays is no failure. */
static void punched(struct child *c, int err)
{
	(void)err;
	told(c, 0);
}

static enum sparse_unmap how_of(const struct td_req *r)
{
	if (r->op == TD_OP_DISCARD)
		return r->flags & TD_REQ_SHRINK ? SPARSE_FORGET : SPARSE_DISCARD;
	return r->flags & TD_REQ_NO_HOLE ? SPARSE_ZEROES_KEEP : SPARSE_ZEROES;
}

static int ask_format(struct op *o, uint64_t len, uint64_t *done)
{
	struct sparse *s = o->s;
	enum sparse_unmap how = how_of(o->r);
	struct child *c = NULL;
	struct sparse_extent x;
	int err = how == SPARSE_ZEROES_KEEP ? 0 : fixed_place(o, len, &x, &c);

	if (err)
		return err;
	if (c)
		len = x.length;
	slot_begin(s, &o->task);
	err = slot_end(s, s->format->unmap(s, o->pos, len, how, done));
	if (c && err) {
		c->file = &s->files[x.file];
		child_put(c);
	} else if (c) {
		o->pending++;
		child_submit(c, &s->files[x.file], TD_OP_DISCARD, x.host, *done, punched,
			     o);
	}
	return err;
}

static int by_format(struct op *o, uint64_t len, bool *gone)
{
	struct sparse *s = o->s;
	uint64_t done = 0;
	int err = -EOPNOTSUPP;

	/* It is asked once: what by_hand() waits for is held until then. */
	if (s->format->unmap && o->unsaid != o->pos)
		err = ask_format(o, len, &done);
	if (err == -EOPNOTSUPP) {
		o->unsaid = o->pos;
		return by_hand(o, min_u64(len, FILL_BYTES), gone);
	}
	if (!err) {
		ASSERT(done && done <= len);
		o->pos += done;
	}
	return err;
}

/* The next part of the range. */
static int step(struct op *o, bool *gone)
{
	struct sparse *s = o->s;
	uint64_t len = min_u64(o->stop - o->pos, TURN), part;
	struct fill *f = fill_find(s, cluster_down(s, o->pos),
				   cluster_up(s, o->pos + len));

	if (f && f->c0 <= o->pos) {
		cache_release(&o->task);
		task_wait(&o->task, &f->waiters);
		return SPARSE_WAIT;
	}
	if (f)
		len = f->c0 - o->pos;
	if (o->r->flags & TD_REQ_PLACE) {
		*gone = true;
		write_zeroes(o, min_u64(len, FILL_BYTES));
		return 0;
	}
	part = min_u64(len, align_up(o->pos + 1, s->unit) - o->pos);
	if (is_aligned(o->pos, s->unit) &&
	    (part == s->unit || o->pos + part == s->size)) {
		if (o->pos + len != s->size)
			len = align_down(len, s->unit);
		return by_format(o, len, gone);
	}
	if (o->r->op == TD_OP_DISCARD) {
		o->pos += part;
		return 0;
	}
	return by_hand(o, part, gone);
}

static void unmap_run(struct task *t)
{
	struct op *o = container_of(t, struct op, task);
	int err = first_write(o->s, t);
	bool gone = false;

	if (err == SPARSE_WAIT)
		return;
	o->busy = true;
	while (!err && !o->err && o->pos < o->stop) {
		err = step(o, &gone);
		if (gone)
			return;
	}
	o->busy = false;
	if (err == SPARSE_WAIT)
		return;
	cache_release(t);
	if (err < 0 && !o->err)
		o->err = err;
	if (!o->pending)
		op_end(o, o->err);
}

void unmap_start(struct op *o)
{
	o->stop = o->end;
	o->unsaid = UINT64_MAX;
	task_init(&o->task, unmap_run);
	unmap_run(&o->task);
}

/* Block status: as a read finds its bytes. */

static void extents_run(struct task *t);

static unsigned depth_of(const struct sparse *s, const struct sparse *layer)
{
	unsigned n = 0;

	for (; s != layer; s = s->parent_sparse)
		n++;
	return n;
}

static bool add(struct op *o, const struct sparse *l, const struct sparse_extent *x)
{
	struct rd *q = &o->rd;
	struct td_extent e = { .length = x->length };

	if (x->kind == SPARSE_HOLE || x->kind == SPARSE_ZERO)
		e.flags = TD_EXTENT_ZERO | (x->space ? 0 : TD_EXTENT_HOLE);
	if (o->r->flags & TD_REQ_WHERE) {
		e.depth = (uint16_t)depth_of(o->s, l ? l : q->layer);
		e.file = l ? (uint16_t)x->file : 0;
		e.depth += !l;
		if (x->kind == SPARSE_HOLE)
			e.flags |= TD_EXTENT_ABSENT;
		if (x->kind == SPARSE_PACKED)
			e.flags |= TD_EXTENT_PACKED;
		if (l && x->space && x->kind != SPARSE_PACKED && !l->crypt) {
			e.flags |= TD_EXTENT_AT;
			e.host = x->host;
		}
	}
	return td_extent_add_at(o->r->extents, &e);
}

static void parent_told(struct child *c, int err)
{
	struct op *o = c->owner;
	const struct td_extents *got = c->r->extents;

	for (unsigned i = 0; !err && i < got->n; i++) {
		struct td_extent e = got->v[i];

		if (o->r->flags & TD_REQ_WHERE)
			e.depth = (uint16_t)(e.depth + 1 +
					     depth_of(o->s, o->rd.layer));
		if (!td_extent_add_at(o->r->extents, &e)) {
			o->rd.end = o->rd.pos;	/* no room: that is all */
			break;
		}
		o->rd.pos += e.length;
	}
	free(c->buf);
	child_put(c);
	o->rd.layer = o->s;
	o->rd.limit = o->rd.end - o->rd.pos;
	if (err)
		op_end(o, err);
	else
		extents_run(&o->rd.task);
}

/* What a parent that is no sparse format says. */
static int ask_parent(struct op *o, const struct sparse_extent *x)
{
	enum { N = 16 };
	struct child *c = child_get_parent(o->rd.layer, &o->rd.task);
	struct td_extents *list;

	if (!c)
		return SPARSE_WAIT;
	c->buf = calloc(1, sizeof(*list) + N * sizeof(struct td_extent));
	if (!c->buf) {
		child_put(c);
		return -ENOMEM;
	}
	list = (void *)c->buf;
	list->v = (void *)(list + 1);
	list->max = N;
	c->r->extents = list;
	c->r->flags = o->r->flags & TD_REQ_WHERE;
	child_submit_parent(c, TD_OP_EXTENTS, x->host, x->length, parent_told, o);
	return 0;
}

static void extents_run(struct task *t)
{
	struct rd *q = container_of(t, struct rd, task);
	struct op *o = container_of(q, struct op, rd);
	struct sparse_extent x;
	struct sparse *l;
	unsigned n = 0;
	int err = 0;

	while (q->pos < q->end && n++ < EXTENTS_STEPS) {
		err = rd_resolve(q, &x, &l);
		if (!err && !l) {
			err = ask_parent(o, &x);
			if (!err)
				return;
		}
		if (err || !add(o, l, &x))
			break;
		q->pos += x.length;
		q->layer = q->s;
		q->limit = q->end - q->pos;
	}
	if (err != SPARSE_WAIT)
		op_end(o, err);
}

void extents_start(struct op *o)
{
	struct rd *q = &o->rd;

	q->s = q->layer = o->s;
	q->base = q->pos = o->pos;
	q->end = o->end;
	q->limit = q->end - q->pos;
	task_init(&q->task, extents_run);
	extents_run(&q->task);
}
