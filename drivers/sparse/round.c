/* round.c - the write-back of tables, in the order that a power cut cannot turn
 * into damage, and guest flushes, which wait for a round.
 *
 * A round begins by freezing every dirty slice: a consistent state of all tables
 * at one moment.  Stage after stage its slices are written, as they were at that
 * moment; between two stages that both have work, and before the first table that
 * points to data that must not come later (sparse.dep), all files that were
 * written are synced.  So whatever a table on stable storage points to is there
 * too.  Changes go on meanwhile and belong to the next round.
 *
 * I1  A slice of stage n is written only when no file holds an unsynced write of
 *     a lower stage.
 * I2  round.done = n is set after a sync that began when all of round n had been
 *     written.
 * I3  A flush is answered after a round that began after it came.
 *
 * When a write or sync fails, what is left thaws and is dirty again; those who
 * wait hear of it.  A failed sync is remembered by the store: no later one will
 * pretend, so no pointer gets ahead of what it points to.
 */
#include "sparse/redo.h"
#include "sparse/sparse_priv.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"

#define ROUND_AGE_NS (5 * NS_PER_S)
#define ROUND_RETRY_NS (1 * NS_PER_S)
#define JOIN_MAX 32u		/* neighbouring slices of one write */

static void round_go(struct task *t);

static void aged(struct loop_timer *t)
{
	struct sparse *s = container_of(t, struct sparse, round.timer);

	if (s->cache.n_dirty || drop_pending(s))
		round_start(s);
}

void round_init(struct sparse *s)
{
	struct round *r = &s->round;

	for (unsigned i = 0; i < SPARSE_STAGES; i++)
		list_init(&r->frozen[i]);
	list_init(&r->flushes);
	list_init(&r->next_flushes);
	list_init(&r->waiters);
	task_init(&r->task, round_go);
	loop_timer_init(&r->timer, aged);
}

void round_free(struct sparse *s)
{
	loop_timer_clear(&s->round.timer);
}

static struct loop *loop_of(const struct sparse *s)
{
	return s->node->env->loop;
}

/* By age, and by amount. */
void round_dirtied(struct sparse *s)
{
	if (!loop_timer_is_set(&s->round.timer))
		loop_timer_set(loop_of(s), &s->round.timer, ROUND_AGE_NS);
	if (s->cache.n_dirty > s->cache.dirty_max / 2 && !s->round.last_err)
		round_start(s);
}

void round_start(struct sparse *s)
{
	struct round *r = &s->round;

	r->wanted = true;
	if (!r->running && list_empty(&r->task.link))
		task_ready(s, &r->task);
}

static void freeze(struct sparse *s)
{
	struct round *r = &s->round;
	struct list *e;

	while ((e = list_pop(&s->cache.dirty))) {
		struct sparse_slice *sl =
			container_of(e, struct sparse_slice, dirty_link);

		sl->dirty = false;
		sl->frozen = true;
		list_add(&r->frozen[s->format->classes[sl->class].stage],
			 &sl->round_link);
	}
	while ((e = list_pop(&r->next_flushes)))
		list_add(&r->flushes, e);
}

static void thaw_all(struct sparse *s)
{
	struct list *e;

	for (unsigned i = 0; i < SPARSE_STAGES; i++) {
		struct list *l = &s->round.frozen[i];

		while ((e = list_pop(l)))
			cache_thaw(container_of(e, struct sparse_slice, round_link),
				   false);
	}
}

static void round_end(struct sparse *s)
{
	struct round *r = &s->round;
	struct list flushes = LIST_INIT(flushes), *e;

	r->running = false;
	r->last_err = r->err;
	if (r->err) {
		thaw_all(s);
		r->failed_at = loop_now(loop_of(s));
		if (log_allowed(&s->limit))
			td_warn(s->node, "cannot write back tables: %s",
				strerror(-r->err));
	} else {
		redo_retire(s);
		r->done = r->nr;
		r->rounds++;
	}
	while ((e = list_pop(&r->flushes)))
		list_add(&flushes, e);
	if (!list_empty(&r->next_flushes) || (r->wanted && !r->err))
		round_start(s);
	else if (s->cache.n_dirty || drop_pending(s))
		loop_timer_set(loop_of(s), &r->timer,
			       r->err ? ROUND_RETRY_NS : ROUND_AGE_NS);
	tasks_wake(s, &r->waiters);
	tasks_wake(s, &s->cache.room_wait);
	drop_check(s);
	while ((e = list_pop(&flushes)))
		op_end(container_of(e, struct op, task.link), r->err);
}

/* The last one out goes on, unless the task waits for a request and will. */
static void landed(struct round *r)
{
	if (!--r->flying && list_empty(&r->task.link))
		round_go(&r->task);
}

/* Syncing. */

static void synced(struct child *c, int err)
{
	struct sparse_file *f = c->owner;
	struct sparse *s = c->s;
	struct round *r = &s->round;

	child_put(c);
	if (err) {
		f->unsynced = s->dep = true;
		r->err = r->err ? r->err : err;
	}
	r->syncs++;
	landed(r);
}

/* Every file that was written since its last sync began, once: what is written
 * meanwhile belongs to the next round.  False: the task waits for a request. */
static bool sync_files(struct sparse *s)
{
	struct round *r = &s->round;

	for (; r->sync_next < s->n_files; r->sync_next++) {
		struct sparse_file *f = &s->files[r->sync_next];
		struct child *c;

		if (!f->unsynced || f->rdonly)
			continue;
		c = child_get(s, &r->task);
		if (!c)
			return false;
		f->unsynced = false;
		r->flying++;
		child_submit(c, f, TD_OP_FLUSH, 0, 0, synced, f);
	}
	return true;
}

/* Writing. */

static void written(struct child *c, int err)
{
	struct sparse_slice *sl = c->owner;
	struct sparse *s = c->s;
	struct round *r = &s->round;

	child_put(c);
	if (err)
		r->err = r->err ? r->err : err;
	while (sl) {
		struct sparse_slice *next = sl->joined;

		cache_thaw(sl, !err);
		r->written++;
		sl = next;
	}
	s->dep = true;
	tasks_wake(s, &s->cache.room_wait);
	landed(r);
}

/* The first slice of the list and those behind it that follow it in the file too
 * (tables are mostly dirtied in their order). */
static void write_slices(struct sparse *s, struct list *l, struct child *c)
{
	struct sparse_slice *first = NULL, *last = NULL;
	unsigned n = 0;
	uint64_t end = 0;

	while (!list_empty(l) && n < JOIN_MAX) {
		struct sparse_slice *sl =
			list_first(l, struct sparse_slice, round_link);

		if (first && (sl->off != end || sl->file != first->file))
			break;
		list_del(&sl->round_link);
		c->iov[n++] = (struct iovec){
			sl->old ? sl->old : sl->data, sl->len };
		sl->joined = NULL;
		if (last)
			last->joined = sl;
		else
			first = sl;
		last = sl;
		end = sl->off + sl->len;
	}
	c->r->iovcnt = n;
	s->round.flying++;
	child_submit(c, &s->files[first->file], TD_OP_WRITE, first->off,
		     end - first->off, written, first);
}

/* False: the task waits for a request. */
static bool write_stage(struct sparse *s)
{
	struct round *r = &s->round;
	struct list *l = &r->frozen[r->stage];

	while (!list_empty(l) && !r->err) {
		struct child *c = child_get(s, &r->task);

		if (!c)
			return false;
		write_slices(s, l, c);
	}
	return true;
}

/* To the next stage with work; a sync before it where I1 asks for one, and at the
 * end. */
static void next_stage(struct sparse *s)
{
	struct round *r = &s->round;

	while (r->stage < SPARSE_STAGES && list_empty(&r->frozen[r->stage]))
		r->stage++;
	r->sync = r->stage == SPARSE_STAGES || (r->stage && s->dep);
	r->sync_next = 0;
	if (r->sync)
		s->dep = false;
}

static bool begin(struct sparse *s)
{
	struct round *r = &s->round;

	if (!r->wanted)
		return false;
	r->wanted = false;
	r->running = true;
	r->err = 0;
	r->stage = 0;
	r->nr++;
	loop_timer_clear(&r->timer);
	freeze(s);
	redo_freeze(s);
	next_stage(s);
	return true;
}

/* One step after the other, each when nothing of the one before is out. */
static void round_go(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, round.task);
	struct round *r = &s->round;

	if (!r->running && !begin(s))
		return;
	for (;;) {
		if (r->err ? r->flying : !(r->sync ? sync_files(s) : write_stage(s)))
			return;
		if (r->flying)
			return;
		if (r->err || r->stage == SPARSE_STAGES) {
			round_end(s);
			return;
		}
		if (r->sync)
			r->sync = false;
		else
			next_stage(s);
	}
}

void round_flush(struct op *o)
{
	list_add(&o->s->round.next_flushes, &o->task.link);
	round_start(o->s);
}

int round_clean(struct sparse *s, struct task *t)
{
	struct round *r = &s->round;

	if (!r->running && !s->cache.n_dirty && redo_empty(s)) {
		bool unsynced = false;

		for (unsigned i = 0; i < s->n_files; i++)
			unsynced |= s->files[i].unsynced && !s->files[i].rdonly;
		if (!unsynced)
			return 0;
	}
	if (!r->running && r->last_err)
		return r->last_err;
	round_start(s);
	task_wait(t, &r->waiters);
	return SPARSE_WAIT;
}
