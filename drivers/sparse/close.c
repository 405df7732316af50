/* close.c - the end: everything is written back, what was dropped is free, what was
 * claimed and not used is given back; then the format leaves a clean image.
 *
 *   round, drops, what is left over, round -> format's close -> trees
 *
 * When that fails, or the image is damaged, it is left as it is.
 */
#include <string.h>

#include "sparse/sparse_priv.h"

/* Each returns 0: on to the next; SPARSE_WAIT; -errno. */

int life_settle(struct sparse *s, struct task *t)
{
	bool busy = s->n_running || s->first == FIRST_RUNS || s->marking;

	for (unsigned i = 0; i < s->n_files; i++) {
		struct space *sp = &s->files[i].space;

		if (sp->refilling) {
			task_wait(t, &sp->waiters);
			return SPARSE_WAIT;
		}
	}
	list_for_each(e, &s->making) {
		struct making *m = container_of(e, struct making, link);

		if (!m->ready && !m->err) {
			task_wait(t, &m->waiters);
			return SPARSE_WAIT;
		}
	}
	if (busy) {
		task_wait(t, s->first == FIRST_RUNS ? &s->first_wait :
			     &s->drain_wait);
		return SPARSE_WAIT;
	}
	return 0;
}

/* All is written, and all that was dropped is free. */
int life_clean(struct sparse *s, struct task *t)
{
	int err = round_clean(s, t);

	if (err || drop_idle(s))
		return err;
	drop_check(s);
	if (!list_empty(&s->drop_task.link) || s->punching) {
		task_wait(t, &s->drain_wait);
	} else {
		round_start(s);		/* they wait for one more */
		task_wait(t, &s->round.waiters);
	}
	return SPARSE_WAIT;
}

static int give_back(struct sparse *s, struct task *t)
{
	while (s->ctl_file < s->n_files) {
		struct sparse_file *f = &s->files[s->ctl_file];
		uint64_t done = 0;
		int err;

		if (s->left.host == s->left.end && !space_leftover(f, &s->left)) {
			s->ctl_file++;
			continue;
		}
		done = s->left.end - s->left.host;
		if (s->format->claim && s->format->release) {
			slot_begin(s, t);
			err = slot_end(s, s->format->release(s, s->ctl_file,
							     s->left.host, done,
							     &done));
			if (err)
				return err;
		} else {
			sparse_freed(s, s->ctl_file, s->left.host, done);
		}
		s->left.host += done;
	}
	return 0;
}

static int tables_left(struct sparse *s, struct task *t)
{
	(void)t;
	s->closing = true;
	table_free(s);
	s->ctl_file = 0;
	return 0;
}

static void run_close(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);
	int err = 0;

	for (unsigned i = 0; !err && i < s->n_files; i++) {
		struct sparse_file *f = &s->files[i];
		uint64_t end;

		if (!f->space.appends || f->rdonly || !sparse_grows(s, i))
			continue;
		end = space_trim(s, f);
		if (end < f->node->size)
			err = sparse_psize(s, i, end);
	}
	if (!err && s->format->close)
		err = s->format->close(s);
	for (unsigned i = 0; !err && i < s->n_files; i++)
		if (!s->files[i].rdonly)
			err = sparse_psync(s, i);
	if (err)
		s->ctl_err = err;
}

static void closed(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	s->ctl_file = s->n_files;
	life_close_trees(s);
}

/* Nothing of us is under way any more. */
static bool quiet(struct sparse *s, struct task *t)
{
	s->quitting = true;
	if (s->round.running) {
		task_wait(t, &s->round.waiters);
		return false;
	}
	/* (What the closing itself has met may have to be marked.) */
	if (!list_empty(&s->drop_task.link) || s->punching || s->marking) {
		task_wait(t, &s->drain_wait);
		return false;
	}
	return true;
}

/* As it is: who opens it next finds space lost at worst. */
static void give_up(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);

	if (!quiet(s, t))
		return;
	s->ctl_file = s->n_files;
	life_close_trees(s);
}

static int (*const close_steps[])(struct sparse *s, struct task *t) = {
	life_clean, tables_left, give_back, life_clean,
};

static void close_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = life_settle(s, t);

	if (err)
		return;
	while (!err && s->ctl_step < ARRAY_SIZE(close_steps) &&
	       s->first == FIRST_DONE && !s->corrupt) {
		err = close_steps[s->ctl_step](s, t);
		s->ctl_step += !err;
	}
	if (err == SPARSE_WAIT)
		return;
	if (!err && s->ctl_step == ARRAY_SIZE(close_steps) && !s->corrupt) {
		life_run_job(s, run_close, closed);
		return;
	}
	if (err) {
		td_err(s->node, "cannot finish %s: %s", s->node->arg, strerror(-err));
		s->ctl_err = err;
	}
	t->run = give_up;
	give_up(t);
}

void sparse_close(struct td_node *n, struct td_req *r)
{
	struct sparse *s = n->priv;

	s->ctl = r;
	s->ctl_err = 0;
	s->ctl_step = 0;
	s->round.last_err = 0;		/* one more try */
	task_init(&s->ctl_task, close_run);
	close_run(&s->ctl_task);
}
