/* engine.c - the way of a guest's request through the engine, and tasks.
 *
 * I1  An operation that uses the image's space is on sparse.running, in the order
 *     of its start, until its last transfer is back: the first one's number tells
 *     which dropped space may still be in use (drop.c).
 * I2  A task is run from the loop alone, never by whoever wakes it.
 * I3  Nothing of the image is changed before first_write has gone well.
 */
#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sparse/redo.h"
#include "sparse/sparse_priv.h"

_Static_assert(sizeof(struct sparse) <= SPARSE_NODE_CTX, "sparse.h says how large");
_Static_assert(sizeof(struct op) <= SPARSE_REQ_CTX, "sparse.h says how large");

/* Tasks. */

void task_init(struct task *t, void (*run)(struct task *t))
{
	*t = (struct task){ .run = run };
	list_init(&t->link);
}

void task_wait(struct task *t, struct list *on)
{
	ASSERT(list_empty(&t->link));
	t->told = 0;
	list_add(on, &t->link);
}

void task_ready(struct sparse *s, struct task *t)
{
	task_wait(t, &s->ready);
	loop_defer(s->node->env->loop, &s->work);
}

void tasks_wake(struct sparse *s, struct list *from)
{
	struct list *e;

	if (list_empty(from))
		return;
	while ((e = list_pop(from)))
		list_add(&s->ready, e);
	loop_defer(s->node->env->loop, &s->work);
}

void tasks_tell(struct sparse *s, struct list *from, int err)
{
	list_for_each(e, from)
		container_of(e, struct task, link)->told = err;
	tasks_wake(s, from);
}

void slot_begin(struct sparse *s, struct task *t)
{
	ASSERT(!s->now);
	s->now = t;
	t->touched = 0;
}

int slot_end(struct sparse *s, int res)
{
	struct task *t = s->now;

	s->now = NULL;
	redo_commit(s);
	if (res == SPARSE_WAIT) {
		ASSERT(!list_empty(&t->link));	/* else nobody would wake it */
		return res;
	}
	ASSERT(res <= 0);
	cache_release(t);
	return res;
}

static void wake_some(struct sparse *s, struct list *from, unsigned n)
{
	struct list *e;

	for (; n && (e = list_pop(from)); n--)
		task_ready(s, container_of(e, struct task, link));
}

/* Those that are ready now: what they make ready has its turn in the next one. */
static void run_ready(struct loop_work *w)
{
	struct sparse *s = container_of(w, struct sparse, work);
	struct list now = LIST_INIT(now), *e;

	while ((e = list_pop(&s->ready)))
		list_add(&now, e);
	while ((e = list_pop(&now))) {
		struct task *t = container_of(e, struct task, link);

		t->run(t);
	}
	/* Who was woken may not have needed what he waited for any more. */
	wake_some(s, &s->cache.ticket_wait, s->cache.tickets);
	if (s->children)
		wake_some(s, &s->child_wait, CHILD_MAX - s->children_out);
	if (s->parents)
		wake_some(s, &s->parent_wait, PARENT_MAX - s->parents_out);
}

void engine_init(struct sparse *s)
{
	list_init(&s->ready);
	list_init(&s->running);
	list_init(&s->drain_wait);
	list_init(&s->hold_wait);
	list_init(&s->first_wait);
	list_init(&s->making);
	loop_work_init(&s->work, run_ready);
}

/* The first change. */

/* The last cluster of a file may be there in part: it is made whole first; and so is
 * the page, for growing a file from inside one does not go well with what is written
 * to it meanwhile. */
int first_write_now(struct sparse *s)
{
	int err = 0;

	for (unsigned i = 0; !err && i < s->n_files; i++) {
		struct sparse_file *f = &s->files[i];
		uint64_t whole = align_up(f->node->size,
					  max_u64(s->cluster, 4096));

		if (f->space.appends && !f->rdonly && sparse_grows(s, i) &&
		    whole != f->node->size)
			err = sparse_psize(s, i, whole);
	}
	if (!err && s->format->first_write)
		err = s->format->first_write(s);
	return err;
}

static void run_first(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	s->first_err = first_write_now(s);
}

static void first_done(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	cache_forget(s);	/* it may have changed tables */
	s->first = s->first_err ? FIRST_NO : FIRST_DONE;
	if (s->first_err && log_allowed(&s->limit))
		td_warn(s->node, "cannot prepare %s for writing: %s", s->node->arg,
			strerror(-s->first_err));
	/* Who waits hears of it; who comes later tries. */
	tasks_tell(s, &s->first_wait, s->first_err);
}

int first_write(struct sparse *s, struct task *t)
{
	if (s->corrupt)
		return -EIO;
	switch (s->first) {
	case FIRST_DONE:
		return 0;
	case FIRST_NO:
		if (t->told)
			return t->told;
		s->first = FIRST_RUNS;
		s->job.run = run_first;
		s->job.done = first_done;
		worker_submit(s->node->env->workers, &s->job);
		break;
	case FIRST_RUNS:
		break;
	}
	task_wait(t, &s->first_wait);
	return SPARSE_WAIT;
}

/* Damage. */

static void run_mark(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, mark_job);

	s->mark_err = s->format->mark_corrupt(s);
}

static void mark_done(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, mark_job);

	if (s->mark_err)
		td_warn(s->node, "cannot mark %s as damaged: %s", s->node->arg,
			strerror(-s->mark_err));
	s->marking = false;
	tasks_wake(s, &s->drain_wait);
}

/* When neither a round nor a preparation writes to the header besides us; and when
 * the redo log is empty, for nobody takes up an image with the mark. */
static void mark(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, mark_task);

	if (!s->round.running && !redo_empty(s) && !s->round.last_err) {
		round_start(s);
		task_wait(t, &s->round.waiters);
		return;
	}
	if (s->round.running || s->first == FIRST_RUNS) {
		task_wait(t, s->round.running ? &s->round.waiters : &s->first_wait);
		return;
	}
	s->mark_job.run = run_mark;
	s->mark_job.done = mark_done;
	worker_submit(s->node->env->workers, &s->mark_job);
}

int sparse_corrupt(struct sparse *s, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (log_allowed(&s->limit))
		td_err(s->node, "%s is damaged: %s%s", s->node->arg, text,
		       s->rdonly ? "" : "; it is not written to any more");
	if (s->rdonly || s->corrupt)
		return -EIO;
	s->corrupt = true;
	if (s->format->mark_corrupt) {
		s->marking = true;
		task_init(&s->mark_task, mark);
		task_ready(s, &s->mark_task);
	}
	return -EIO;
}

/* Operations. */

static void op_start(struct op *o)
{
	struct sparse *s = o->s;

	o->started = true;
	o->seq = ++s->seq;
	list_add(&s->running, &o->running);
	s->n_running++;
}

void op_end(struct op *o, int err)
{
	struct sparse *s = o->s;

	if (o->started) {
		list_del(&o->running);
		s->n_running--;
		tasks_wake(s, &s->drain_wait);
		if (drop_pending(s))
			drop_check(s);
	}
	if (o->done)
		o->done(o, err);
	else
		td_complete(o->r, err);
}

static void op_go(struct op *o)
{
	switch (o->r->op) {
	case TD_OP_READ:
		op_start(o);
		read_start(o);
		break;
	case TD_OP_WRITE:
		o->writes = true;
		op_start(o);
		write_start(o);
		break;
	case TD_OP_DISCARD:
	case TD_OP_ZEROES:
		o->writes = true;
		op_start(o);
		unmap_start(o);
		break;
	case TD_OP_EXTENTS:
		op_start(o);
		extents_start(o);
		break;
	default:
		ASSERT(o->r->op == TD_OP_FLUSH);
		round_flush(o);
	}
}

static void op_init(struct op *o, struct sparse *s, struct td_req *r)
{
	o->s = s;
	o->r = r;
	o->done = NULL;
	list_init(&o->task.link);
	o->task.ticket = NULL;
	o->task.n_held = 0;
	o->started = o->writes = o->zero = o->pack = o->busy = false;
	o->pending = 0;
	o->err = 0;
	o->pos = r->offset;
	o->end = r->offset + r->length;
}

void sparse_submit(struct td_node *n, struct td_req *r)
{
	struct sparse *s = n->priv;
	struct op *o = td_ctx(n, r);

	op_init(o, s, r);
	if (s->held)
		list_add(&s->hold_wait, &o->task.link);
	else if (!r->length && r->op != TD_OP_FLUSH)
		td_complete(r, 0);
	else
		op_go(o);
}

void op_own(struct op *o, struct sparse *s, struct td_req *r,
	    void (*done)(struct op *o, int err))
{
	op_init(o, s, r);
	o->done = done;
	op_go(o);
}

/* A resize is over. */
void engine_resume(struct sparse *s)
{
	struct list *e;

	s->held = false;
	while (!s->held && (e = list_pop(&s->hold_wait))) {
		struct op *o = container_of(e, struct op, task.link);

		sparse_submit(s->node, o->r);
	}
}

/* What formats ask. */

struct sparse *sparse_of(const struct td_node *n)
{
	return n->driver->submit == sparse_submit ? n->priv : NULL;
}

void *sparse_priv(const struct sparse *s)
{
	return s->priv;
}

struct td_node *sparse_node(const struct sparse *s)
{
	return s->node;
}

bool sparse_rdonly(const struct sparse *s)
{
	return s->rdonly;
}

uint64_t sparse_bytes(const struct sparse *s, unsigned file)
{
	return s->files[file].node->size;
}

static void count(struct json_t *j, const char *name, uint64_t v)
{
	json_object_set_new(j, name, json_integer((json_int_t)v));
}

void sparse_stats(struct td_node *n, struct json_t *into)
{
	const struct sparse *s = n->priv;

	count(into, "cluster", s->cluster);
	count(into, "cache_slices", s->cache.made);
	count(into, "cache_max", s->cache.max);
	count(into, "cache_hits", s->cache.hits);
	count(into, "cache_misses", s->cache.misses);
	count(into, "dirty_slices", s->cache.n_dirty);
	count(into, "rounds", s->round.rounds);
	count(into, "syncs", s->round.syncs);
	count(into, "slices_written", s->round.written);
	count(into, "allocated", s->allocated);
	count(into, "copied", s->copied);
	count(into, "given_back", s->given_back);
	json_object_set_new(into, "corrupt", json_boolean(s->corrupt));
}
