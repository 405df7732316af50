/* Worker threads: every job runs once and ends in the loop, threads come on
 * demand, are bounded, and leave. */
#include "loop/worker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "loop/loop.h"

#define JOBS 2000

struct job {
	struct worker_job j;
	struct pool_test *t;
	unsigned ran, done;
	bool elsewhere;		/* not in the loop's thread */
	unsigned sleep_us;
	unsigned serial;
};

struct pool_test {
	struct loop *loop;
	struct workers *w;
	unsigned left, in_run, most, next;
	struct job jobs[JOBS];
};

static struct pool_test t;
static pthread_t loops;

static void run(struct worker_job *j)
{
	struct job *q = container_of(j, struct job, j);
	unsigned now = __atomic_add_fetch(&t.in_run, 1, __ATOMIC_SEQ_CST);
	unsigned most = __atomic_load_n(&t.most, __ATOMIC_SEQ_CST);

	while (now > most &&
	       !__atomic_compare_exchange_n(&t.most, &most, now, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
	q->elsewhere = !pthread_equal(pthread_self(), loops);
	q->serial = __atomic_fetch_add(&t.next, 1, __ATOMIC_SEQ_CST);
	if (q->sleep_us)
		usleep(q->sleep_us);
	q->ran++;
	__atomic_sub_fetch(&t.in_run, 1, __ATOMIC_SEQ_CST);
}

static void done(struct worker_job *j)
{
	struct job *q = container_of(j, struct job, j);

	q->done++;
	if (!--t.left)
		loop_stop(t.loop);
}

static void start(unsigned max)
{
	memset(&t, 0, sizeof(t));
	loops = pthread_self();
	t.loop = loop_new();
	assert_non_null(t.loop);
	t.w = workers_new(t.loop, max);
	assert_non_null(t.w);
}

static void submit(unsigned n, unsigned sleep_us)
{
	t.left = n;
	for (unsigned i = 0; i < n; i++) {
		t.jobs[i] = (struct job){ .sleep_us = sleep_us };
		t.jobs[i].j.run = run;
		t.jobs[i].j.done = done;
		worker_submit(t.w, &t.jobs[i].j);
		/* Never before worker_submit() has returned. */
		assert_int_equal(t.jobs[i].done, 0);
	}
	loop_run(t.loop);
}

static void end(void)
{
	workers_free(t.w);
	loop_free(t.loop);
}

static unsigned threads(void)
{
	char line[256];
	unsigned n = 0;
	FILE *f = fopen("/proc/self/status", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		sscanf(line, "Threads: %u", &n);
	fclose(f);
	return n;
}

/* One that has been joined may be counted for a moment more. */
static bool threads_become(unsigned n)
{
	for (int i = 0; i < 4000 && threads() != n; i++)
		usleep(10 * 1000);
	return threads() == n;
}

static unsigned threads_at_rest(void)
{
	unsigned least = threads();

	for (int i = 0; i < 20; i++) {
		unsigned n = threads();

		least = n < least ? n : least;
		usleep(10 * 1000);
	}
	return least;
}

static void all_ran_elsewhere(unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_true(t.jobs[i].ran == 1 && t.jobs[i].elsewhere);
}

static void every_job_runs_once_and_ends_in_the_loop(void **state)
{
	(void)state;
	start(4);
	submit(JOBS, 0);
	for (unsigned i = 0; i < JOBS; i++)
		assert_true(t.jobs[i].ran == 1 && t.jobs[i].done == 1);
	submit(1, 0);
	assert_int_equal(t.jobs[0].ran, 1);
	end();
}

static void at_most_max_at_a_time_and_in_order(void **state)
{
	(void)state;
	start(3);
	submit(30, 10000);
	assert_int_equal(t.most, 3);
	end();
	start(1);
	submit(100, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(t.jobs[i].serial, i);
	end();
}

static void idle_threads_leave_and_come_back(void **state)
{
	unsigned before = threads_at_rest();

	(void)state;
	start(4);
	assert_int_equal(threads(), before);
	submit(8, 20000);
	all_ran_elsewhere(8);
	assert_true(threads_become(before));
	submit(8, 1000);
	all_ran_elsewhere(8);
	end();
	assert_true(threads_become(before));
}

static void without_a_thread_the_loop_does_it(void **state)
{
	unsigned before = threads();

	(void)state;
	start(0);
	submit(5, 0);
	assert_int_equal(threads(), before);
	for (unsigned i = 0; i < 5; i++)
		assert_true(t.jobs[i].ran == 1 && t.jobs[i].done == 1 &&
			    !t.jobs[i].elsewhere);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_thread_the_loop_does_it),
		cmocka_unit_test(every_job_runs_once_and_ends_in_the_loop),
		cmocka_unit_test(at_most_max_at_a_time_and_in_order),
		cmocka_unit_test(idle_threads_leave_and_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
