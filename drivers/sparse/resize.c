/* resize.c - a larger disk, while clients have it open: requests are held meanwhile.
 *
 *   drain, round -> format's resize -> zeroes over what the parent would show, round
 *   -> format's resized -> they go on
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

	if (err)
		td_err(s->node, "cannot resize %s: %s", s->node->arg,
		       err == -ERANGE ? "disks never shrink" : strerror(-err));
	engine_resume(s);
	td_complete(r, err);
}

static void settled(struct sparse *s)
{
	if (!s->ctl_err)
		td_set_geometry(s->node, s->size, s->node->phys);
	else if (s->size != s->old_size)
		s->size = s->old_size;
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

static void grown_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = s->ctl_err ? s->ctl_err : life_clean(s, t);

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

static void zeroed(struct op *o, int err)
{
	struct sparse *s = o->s;

	s->ctl_err = err;
	s->ctl_task.run = grown_run;
	task_ready(s, &s->ctl_task);
}

/* The tables have room: what is behind the old end must not be the parent's. */
static void grown(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	cache_forget(s);
	if (s->ctl_err || !s->parent || s->parent->size <= s->old_size) {
		s->ctl_task.run = grown_run;
		task_ready(s, &s->ctl_task);
		return;
	}
	s->own_req = (struct td_req){
		.op = TD_OP_ZEROES, .offset = s->old_size,
		.length = min_u64(s->size, s->parent->size) - s->old_size,
	};
	op_own(&s->own_op, s, &s->own_req, zeroed);
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
	life_run_job(s, run_resize, grown);
}

void sparse_resize(struct td_node *n, struct td_req *r)
{
	struct sparse *s = n->priv;

	s->ctl = r;
	s->new_size = r->length;
	s->held = true;
	if (!r->length || r->length == s->size)
		resize_end(s, 0);
	else if (r->length < s->size)
		resize_end(s, -ERANGE);
	else if (!is_aligned(r->length, 512) || r->length > INT64_MAX)
		resize_end(s, -EINVAL);
	else if (s->rdonly || s->corrupt)
		resize_end(s, s->rdonly ? -EROFS : -EIO);
	else {
		task_init(&s->ctl_task, resize_run);
		resize_run(&s->ctl_task);
	}
}
