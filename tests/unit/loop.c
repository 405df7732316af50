/* loop: deferred work, timers, descriptors, hooks, wake-ups, signals. */
#include "loop/loop.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

static struct loop *loop;
static char trace[64];

static void say(char c)
{
	size_t n = strlen(trace);

	assert_true(n + 1 < sizeof(trace));
	trace[n] = c;
}

static int setup(void **s)
{
	(void)s;
	memset(trace, 0, sizeof(trace));
	loop = loop_new();
	return loop ? 0 : -1;
}

static int teardown(void **s)
{
	(void)s;
	loop_free(loop);
	return 0;
}

static struct loop_work wa, wb, wc;

static void work_a(struct loop_work *w)
{
	(void)w;
	say('a');
	loop_defer(loop, &wb);
	loop_defer(loop, &wc);
	loop_work_cancel(&wc);
	say('A');
}

static void work_b(struct loop_work *w)
{
	(void)w;
	say('b');
	loop_stop(loop);
}

static void work_c(struct loop_work *w)
{
	(void)w;
	say('c');
}

static void test_deferred_work_runs_later_and_once(void **s)
{
	(void)s;
	loop_work_init(&wa, work_a);
	loop_work_init(&wb, work_b);
	loop_work_init(&wc, work_c);
	loop_defer(loop, &wa);
	loop_defer(loop, &wa);
	assert_string_equal(trace, "");
	loop_run(loop);
	assert_string_equal(trace, "aAb");
}

static struct loop_timer ta, tb, tc;

static void timer_a(struct loop_timer *t)
{
	(void)t;
	say('a');
}

static void timer_b(struct loop_timer *t)
{
	(void)t;
	say('b');
	loop_stop(loop);
}

static void timer_c(struct loop_timer *t)
{
	(void)t;
	say('c');
}

static void test_timers_fire_in_order_of_deadline(void **s)
{
	uint64_t start = clock_ns();

	(void)s;
	loop_timer_init(&ta, timer_a);
	loop_timer_init(&tb, timer_b);
	loop_timer_init(&tc, timer_c);
	do {	/* again, if this process was not scheduled in between */
		loop_timer_set(loop, &tb, 3 * NS_PER_MS);
		loop_timer_set(loop, &ta, NS_PER_MS);
		loop_timer_set(loop, &tc, 2 * NS_PER_MS);
		loop_timer_set(loop, &tc, NS_PER_MS / 2);	/* moves */
	} while (tc.at >= ta.at || ta.at >= tb.at);
	assert_true(loop_timer_is_set(&tc));
	loop_run(loop);
	assert_string_equal(trace, "cab");
	assert_true(clock_ns() - start >= 3 * NS_PER_MS);
	loop_timer_clear(&ta);				/* not set: nothing */
}

static struct loop_fd fa, fb;

/* Whoever of the two comes first removes the other. */
static void fd_kills_other(struct loop_fd *f, uint32_t events)
{
	assert_true(events & EPOLLIN);
	say('f');
	loop_fd_del(loop, f == &fa ? &fb : &fa);
	loop_fd_del(loop, f);
	loop_stop(loop);
}

static void test_no_event_after_fd_del_even_in_one_batch(void **s)
{
	int a[2], b[2];

	(void)s;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
	fa = (struct loop_fd){ a[0], fd_kills_other };
	fb = (struct loop_fd){ b[0], fd_kills_other };
	assert_int_equal(loop_fd_add(loop, &fa, EPOLLIN), 0);
	assert_int_equal(loop_fd_add(loop, &fb, EPOLLIN), 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	assert_int_equal(write(b[1], "x", 1), 1);
	loop_run(loop);
	assert_string_equal(trace, "f");
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static struct loop_hook hs, hp, hw;
static int rounds;

static bool submit_hook(struct loop_hook *h)
{
	(void)h;
	say('s');
	if (rounds++ == 0)
		loop_defer(loop, &wc);		/* a completion: go round again */
	return false;
}

static bool push_hook(struct loop_hook *h)
{
	(void)h;
	say('p');
	return false;
}

static bool sleep_hook(struct loop_hook *h)
{
	(void)h;
	say('w');
	loop_stop(loop);
	return true;
}

static void test_answers_are_pushed_once_after_all_completions(void **s)
{
	(void)s;
	rounds = 0;
	loop_work_init(&wc, work_c);
	loop_hook_add(loop, LOOP_SUBMIT, &hs, submit_hook);
	loop_hook_add(loop, LOOP_PUSH, &hp, push_hook);
	loop_hook_add(loop, LOOP_SLEEP, &hw, sleep_hook);
	loop_run(loop);
	/* What a submit hook completes is run, and submitted, before the push. */
	assert_string_equal(trace, "scspw");
	loop_hook_del(&hs);
	loop_hook_del(&hp);
	loop_hook_del(&hw);
}

static void *waker(void *arg)
{
	(void)arg;
	usleep(2000);
	loop_wake(loop);
	return NULL;
}

static bool stop_on_second_sleep(struct loop_hook *h)
{
	(void)h;
	say('w');
	if (strcmp(trace, "ww") != 0)
		return false;
	loop_stop(loop);
	return true;
}

static void test_wake_from_another_thread(void **s)
{
	pthread_t t;

	(void)s;
	loop_hook_add(loop, LOOP_SLEEP, &hw, stop_on_second_sleep);
	assert_int_equal(pthread_create(&t, NULL, waker, NULL), 0);
	/* Should the wake-up be lost. */
	loop_timer_init(&tb, timer_b);
	loop_timer_set(loop, &tb, 60 * NS_PER_S);
	loop_run(loop);
	pthread_join(t, NULL);
	loop_timer_clear(&tb);
	assert_memory_equal(trace, "ww", 2);
	loop_hook_del(&hw);
}

static int got_signal;

static void on_signal(struct loop *l, int signo)
{
	got_signal = signo;
	loop_stop(l);
}

static void test_signals_come_from_the_loop(void **s)
{
	static const int signos[] = { SIGUSR2 };

	(void)s;
	assert_int_equal(loop_signals(loop, signos, 1, on_signal), 0);
	raise(SIGUSR2);
	assert_int_equal(got_signal, 0);
	loop_run(loop);
	assert_int_equal(got_signal, SIGUSR2);
}

static struct loop_hook hx;

static bool kills_all(struct loop_hook *h)
{
	(void)h;
	say('k');
	loop_hook_del(&hs);
	loop_hook_del(&hp);
	loop_hook_del(&hw);
	return false;
}

static void test_a_hook_may_remove_any_hook(void **s)
{
	(void)s;
	loop_hook_add(loop, LOOP_PUSH, &hs, push_hook);
	loop_hook_add(loop, LOOP_PUSH, &hp, kills_all);
	loop_hook_add(loop, LOOP_PUSH, &hw, push_hook);
	loop_hook_add(loop, LOOP_PUSH, &hx, sleep_hook);
	loop_run(loop);
	assert_string_equal(trace, "pkw");
	loop_hook_del(&hx);
}

static bool never(struct loop_hook *h)
{
	(void)h;
	return false;
}

/* A loop that always finds work still sees its descriptors (I3). */
static bool always(struct loop_hook *h)
{
	(void)h;
	return true;
}

static void fd_stops(struct loop_fd *f, uint32_t events)
{
	(void)events;
	loop_fd_del(loop, f);
	loop_stop(loop);
}

static void test_busy_loop_starves_no_descriptor(void **s)
{
	int a[2];

	(void)s;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
	fa = (struct loop_fd){ a[0], fd_stops };
	assert_int_equal(loop_fd_add(loop, &fa, EPOLLIN), 0);
	assert_int_equal(write(a[1], "x", 1), 1);
	loop_hook_add(loop, LOOP_PUSH, &hp, always);
	loop_hook_add(loop, LOOP_POLL, &hs, never);
	loop_run(loop);
	assert_true(loop_stats(loop)->sleeps == 0);
	loop_hook_del(&hp);
	loop_hook_del(&hs);
	close(a[0]);
	close(a[1]);
}

static unsigned looks;		/* of the spin, at `come` */
static bool come;

static bool look(struct loop_hook *h)
{
	(void)h;
	__atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&come, __ATOMIC_RELAXED))
		return false;
	loop_stop(loop);
	return true;
}

/* On the spin's own processor: it can only bring what is awaited while the spin
 * lets go of that. */
static void *bring(void *arg)
{
	uint64_t start;

	(void)arg;
	while (__atomic_load_n(&looks, __ATOMIC_RELAXED) < 3)
		sched_yield();
	for (start = clock_ns(); clock_ns() - start < 50 * NS_PER_US;)
		;
	__atomic_store_n(&come, true, __ATOMIC_RELAXED);
	loop_wake(loop);		/* should it have gone to sleep */
	return NULL;
}

static void test_a_spin_that_lent_its_processor_gained_nothing(void **s)
{
	struct loop_hook h;
	cpu_set_t was, one;
	pthread_t t;
	bool seen = false;

	(void)s;
	assert_int_equal(sched_getaffinity(0, sizeof(was), &was), 0);
	CPU_ZERO(&one);
	for (int c = 0; c < CPU_SETSIZE && !CPU_COUNT(&one); c++)
		if (CPU_ISSET(c, &was))
			CPU_SET(c, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	loop_hook_add(loop, LOOP_POLL, &h, look);
	/* More than once: the system may take the processor at any moment. */
	for (int i = 0; i < 50 && !seen; i++) {
		uint64_t won = loop_stats(loop)->polls_won;
		uint64_t polls = loop_stats(loop)->polls;

		looks = 0;
		come = false;
		loop_poll_max(loop, 50 * NS_PER_MS);
		assert_int_equal(pthread_create(&t, NULL, bring, NULL), 0);
		loop_run(loop);
		pthread_join(t, NULL);
		seen = loop_stats(loop)->polls == polls + 1 &&
		       loop_stats(loop)->polls_won == won;
	}
	assert_true(seen);
	loop_hook_del(&h);
	assert_int_equal(sched_setaffinity(0, sizeof(was), &was), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_deferred_work_runs_later_and_once),
		T(test_timers_fire_in_order_of_deadline),
		T(test_no_event_after_fd_del_even_in_one_batch),
		T(test_answers_are_pushed_once_after_all_completions),
		T(test_a_hook_may_remove_any_hook),
		T(test_wake_from_another_thread),
		T(test_signals_come_from_the_loop),
		T(test_busy_loop_starves_no_descriptor),
		T(test_a_spin_that_lent_its_processor_gained_nothing),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
