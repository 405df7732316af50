/* worker.c - see worker.h.
 *
 * I1  `mutex` guards jobs, done, and every thread's slot; the rest is the
 *     loop's.
 * I2  A slot goes free -> running (by the loop) -> leaving (by its thread, as
 *     the last thing it does) -> free (joined by the loop): so each thread is
 *     joined once, and no join waits for work.
 * I3  ndone is the number of jobs on `done`; the loop reads it without the
 *     mutex, so that a pass without finished jobs costs one load.
 */
#include "loop/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "loop/loop.h"

#define WORKER_STACK (128u * 1024)
#define WORKER_IDLE_S 1

struct worker {
	struct workers *pool;
	pthread_t thread;
	enum { SLOT_FREE, SLOT_RUNNING, SLOT_LEAVING } state;
};

struct workers {
	struct loop *loop;
	struct loop_hook submit, poll;
	pthread_mutex_t mutex;
	pthread_cond_t more;	/* jobs has grown, or stop is set */
	struct list jobs, done;
	unsigned ndone;
	unsigned idle;		/* threads that wait for `more` */
	unsigned queued;	/* jobs on `jobs` */
	bool stop;
	unsigned max;
	struct worker slots[];
};

/* Under the mutex.  NULL: idle for too long, or told to stop. */
static struct worker_job *next_job(struct workers *w)
{
	struct timespec until;
	struct list *e;
	int err = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WORKER_IDLE_S;
	w->idle++;
	while (list_empty(&w->jobs) && !w->stop && err != ETIMEDOUT)
		err = pthread_cond_timedwait(&w->more, &w->mutex, &until);
	w->idle--;
	e = list_pop(&w->jobs);
	if (!e)
		return NULL;
	w->queued--;
	return container_of(e, struct worker_job, link);
}

/* Without the mutex.  One wake-up is enough for all that the loop finds. */
static void put_done(struct workers *w, struct worker_job *j)
{
	bool first;

	pthread_mutex_lock(&w->mutex);
	list_add(&w->done, &j->link);
	first = !w->ndone;
	/* Pairs with the acquire in any_done(): only an early look; what a
	 * job wrote is handed over by the mutex. */
	__atomic_store_n(&w->ndone, w->ndone + 1, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&w->mutex);
	if (first)
		loop_wake(w->loop);
}

static void *worker_main(void *arg)
{
	struct worker *me = arg;
	struct workers *w = me->pool;
	struct worker_job *j;

	pthread_mutex_lock(&w->mutex);
	while ((j = next_job(w))) {
		pthread_mutex_unlock(&w->mutex);
		j->run(j);
		put_done(w, j);
		pthread_mutex_lock(&w->mutex);
	}
	me->state = SLOT_LEAVING;
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

/* Under the mutex: a thread takes it only for moments, and those that leave
 * have let go of it for good. */
static struct worker *free_slot(struct workers *w)
{
	for (unsigned i = 0; i < w->max; i++) {
		struct worker *s = &w->slots[i];

		if (s->state == SLOT_LEAVING) {
			/* It has only to return; it may still need the mutex's
			 * release that comes before that. */
			pthread_mutex_unlock(&w->mutex);
			pthread_join(s->thread, NULL);
			pthread_mutex_lock(&w->mutex);
			s->state = SLOT_FREE;
		}
		if (s->state == SLOT_FREE)
			return s;
	}
	return NULL;
}

static bool any_running(const struct workers *w)
{
	for (unsigned i = 0; i < w->max; i++)
		if (w->slots[i].state == SLOT_RUNNING)
			return true;
	return false;
}

/* Signals are for the loop's thread. */
static int start_thread(struct worker *s)
{
	sigset_t all, old;
	pthread_attr_t attr;
	int err;

	err = pthread_attr_init(&attr);
	if (err)
		return -err;
	pthread_attr_setstacksize(&attr, WORKER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(&s->thread, &attr, worker_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

void worker_submit(struct workers *w, struct worker_job *j)
{
	struct worker *s = NULL;

	pthread_mutex_lock(&w->mutex);
	list_add(&w->jobs, &j->link);
	w->queued++;
	if (w->queued > w->idle)
		s = free_slot(w);
	if (s) {
		s->state = SLOT_RUNNING;
		if (start_thread(s))
			s->state = SLOT_FREE;
	}
	if (any_running(w)) {
		pthread_cond_signal(&w->more);
		j = NULL;
	} else {
		/* No thread at all: then the queue holds this job alone. */
		list_del(&j->link);
		w->queued--;
	}
	pthread_mutex_unlock(&w->mutex);
	if (!j)
		return;

	j->run(j);
	put_done(w, j);
}

static bool any_done(struct workers *w)
{
	return __atomic_load_n(&w->ndone, __ATOMIC_ACQUIRE) != 0;
}

static bool submit_hook(struct loop_hook *h)
{
	struct workers *w = container_of(h, struct workers, submit);
	struct list done = LIST_INIT(done), *e;

	if (!any_done(w))
		return false;
	pthread_mutex_lock(&w->mutex);
	while ((e = list_pop(&w->done)))
		list_add(&done, e);
	__atomic_store_n(&w->ndone, 0, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&w->mutex);
	while ((e = list_pop(&done))) {
		struct worker_job *j = container_of(e, struct worker_job, link);

		j->done(j);
	}
	return true;
}

static bool poll_hook(struct loop_hook *h)
{
	return any_done(container_of(h, struct workers, poll));
}

struct workers *workers_new(struct loop *l, unsigned max)
{
	struct workers *w = calloc(1, sizeof(*w) + max * sizeof(w->slots[0]));
	pthread_condattr_t attr;

	if (!w)
		return NULL;
	w->loop = l;
	w->max = max;
	for (unsigned i = 0; i < max; i++)
		w->slots[i].pool = w;
	list_init(&w->jobs);
	list_init(&w->done);
	pthread_mutex_init(&w->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->more, &attr);
	pthread_condattr_destroy(&attr);
	loop_hook_add(l, LOOP_SUBMIT, &w->submit, submit_hook);
	loop_hook_add(l, LOOP_POLL, &w->poll, poll_hook);
	return w;
}

void workers_free(struct workers *w)
{
	pthread_mutex_lock(&w->mutex);
	w->stop = true;
	pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->mutex);
	for (unsigned i = 0; i < w->max; i++) {
		bool used;

		pthread_mutex_lock(&w->mutex);
		used = w->slots[i].state != SLOT_FREE;
		pthread_mutex_unlock(&w->mutex);
		if (used)
			pthread_join(w->slots[i].thread, NULL);
	}
	ASSERT(list_empty(&w->jobs) && list_empty(&w->done));
	loop_hook_del(&w->submit);
	loop_hook_del(&w->poll);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->mutex);
	free(w);
}
