/* resize.c - a larger disk, while clients have it open: requests are held meanwhile.
 *
 *   drain, round -> format's resize -> zeroes over what the parent would show, round
 *   -> format's resized -> they go on
 *
 * A smaller one, of tools:
 *
 *   drain, round -> format's shrink -> zeroes over the rest of the last cluster -> piece by
 *   piece, what is behind it is forgotten, round, its space is free -> format's resized
 *
 * Space goes before the size: a power cut leaves the disk as long as it was, with some of
 * what was to go gone, and never space of what is behind the end.  (If it is the size that
 * cannot be written, the file may have the new one and we the old: tools close at once.)
 * Space goes in pieces, from the new end on (a table goes with the last that it maps),
 * because what an operation has dropped is kept in memory until it ends.
 */
#include <errno.h>
#include <string.h>

#include "sparse/sparse_priv.h"

static void run_resize(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	if (s->first != FIRST_DONE)
		s->ctl_err = first_write_now(s);
	if (s->ctl_err)
		return;
	s->first = FIRST_DONE;		/* all requests are held */
	s->ctl_err = s->format->resize(s, s->new_size);
}

static void resize_end(struct sparse *s, int err)
{
	struct td_req *r = s->ctl;

	if (err && !s->ctl_told)
		td_err(s->node, "cannot resize %s: %s", s->node->arg,
		       err == -ERANGE ? "disks never shrink" : strerror(-err));
	engine_resume(s);
	td_complete(r, err);
}

int sparse_refuse(struct sparse *s, int err, const char *why)
{
	td_err(s->node, "cannot resize %s: %s", s->node->arg, why);
	s->ctl_told = true;
	return err;
}

static void settled(struct sparse *s)
{
	s->size = s->ctl_err ? s->old_size : s->new_size;
	if (!s->ctl_err)
		td_set_geometry(s->node, s->size, s->node->phys);
	resize_end(s, s->ctl_err);
}

static void resized(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	cache_forget(s);	/* the format may have changed tables */
	settled(s);
}

static void run_resized(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	if (s->format->resized)
		s->ctl_err = s->format->resized(s);
}

/* The tables say it, but for the size. */
static void said_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = s->ctl_err ? s->ctl_err : life_settle(s, t);

	if (!err)	/* a search for free space, too, is over, and written */
		err = life_clean(s, t);
	if (err == SPARSE_WAIT)
		return;
	if (!err && s->corrupt)		/* now: it may be being marked */
		err = -EIO;
	s->ctl_err = err;
	if (err)
		settled(s);	/* tables may be dirty: they stay */
	else
		life_run_job(s, run_resized, resized);
}

static void said(struct op *o, int err)
{
	struct sparse *s = o->s;

	s->ctl_err = err;
	s->ctl_task.run = said_run;
	task_ready(s, &s->ctl_task);
}

/* The tables have room: what is behind the old end must not be the parent's. */
static void grown(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	cache_forget(s);
	if (s->ctl_err || !s->parent || s->parent->size <= s->old_size) {
		said(&s->own_op, s->ctl_err);
		return;
	}
	s->own_req = (struct td_req){
		.op = TD_OP_ZEROES, .offset = s->old_size,
		.length = min_u64(s->size, s->parent->size) - s->old_size,
	};
	op_own(&s->own_op, s, &s->own_req, said);
}

/* Smaller. */

#define PIECE_CLUSTERS 16384u	/* 1 GiB of a disk whose clusters have 64 KiB */

static void run_shrink(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	s->ctl_err = s->format->shrink(s, s->new_size);
	if (!s->ctl_err && s->first != FIRST_DONE)
		s->ctl_err = first_write_now(s);
	if (!s->ctl_err)
		s->first = FIRST_DONE;
}

/* From where on clusters have nothing of the smaller disk. */
static uint64_t forgotten_from(const struct sparse *s)
{
	return min_u64(cluster_up(s, s->new_size), s->old_size);
}

static void forgotten(struct op *o, int err);

/* The next piece, when what the one before has dropped is free. */
static void forget_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	uint64_t at = s->own_req.offset + s->own_req.length, end;
	int err = s->ctl_err ? s->ctl_err : life_settle(s, t);

	if (!err)
		err = life_clean(s, t);
	if (err == SPARSE_WAIT)
		return;
	end = min_u64(align_up(at + 1, PIECE_CLUSTERS * (uint64_t)s->cluster),
		      s->old_size);
	s->own_req = (struct td_req){
		.op = TD_OP_DISCARD, .flags = TD_REQ_SHRINK, .offset = at,
		.length = end - at,
	};
	if (err || at == s->old_size)
		said(&s->own_op, err);
	else
		op_own(&s->own_op, s, &s->own_req, forgotten);
}

/* Also the zeroes, or nothing, before the first piece. */
static void forgotten(struct op *o, int err)
{
	struct sparse *s = o->s;

	s->ctl_err = err;
	s->ctl_task.run = forget_run;
	task_ready(s, &s->ctl_task);
}

static void may_shrink(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);
	uint64_t end = forgotten_from(s);

	cache_forget(s);
	s->own_req = (struct td_req){
		.op = TD_OP_ZEROES, .flags = TD_REQ_SHRINK, .offset = s->new_size,
		.length = end - s->new_size,
	};
	if (s->ctl_err)
		settled(s);
	else if (!s->own_req.length)
		forgotten(&s->own_op, 0);
	else
		op_own(&s->own_op, s, &s->own_req, forgotten);
}

static void resize_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = life_settle(s, t);

	if (!err)
		err = life_clean(s, t);
	if (err == SPARSE_WAIT)
		return;
	if (!err && s->corrupt)
		err = -EIO;
	if (err) {
		resize_end(s, err);
		return;
	}
	s->ctl_err = 0;
	s->old_size = s->size;
	s->own_op.s = s;
	if (s->new_size < s->size)
		life_run_job(s, run_shrink, may_shrink);
	else
		life_run_job(s, run_resize, grown);
}

void sparse_resize(struct td_node *n, struct td_req *r)
{
	struct sparse *s = n->priv;

	s->ctl = r;
	s->new_size = r->length;
	s->held = true;
	s->ctl_told = false;
	if (!r->length || r->length == s->size)
		resize_end(s, 0);
	else if (r->length < s->size && !(r->flags & TD_REQ_SHRINK))
		resize_end(s, -ERANGE);
	else if (r->length < s->size && !s->format->shrink)
		resize_end(s, sparse_refuse(s, -EOPNOTSUPP, "images of its format are "
					    "not made smaller"));
	else if (!is_aligned(r->length, 512) || r->length > INT64_MAX)
		resize_end(s, -EINVAL);
	else if (s->rdonly || s->corrupt)
		resize_end(s, s->rdonly ? -EROFS : -EIO);
	else {
		task_init(&s->ctl_task, resize_run);
		resize_run(&s->ctl_task);
	}
}
