/* The polling policy: tries less often what gains nothing, never gives up for
 * good, sleeps when much is in the kernel, rests when others want the CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "loop/poll.h"

#define MAX_NS 50000u

static void test_off_never_spins(void **state)
{
	struct poll_policy p;

	(void)state;
	poll_init(&p, 0);
	assert_int_equal(poll_budget(&p, 1, 0), 0);
}

static void test_deep_sleeps_shallow_spins(void **state)
{
	struct poll_policy p;

	(void)state;
	poll_init(&p, MAX_NS);
	assert_int_equal(poll_budget(&p, 1, 32), 0);
	assert_int_equal(poll_budget(&p, 1, 1), MAX_NS);
	assert_int_equal(poll_budget(&p, 1, 0), MAX_NS);
}

/* Waits without a spin until the next one. */
static unsigned waits_until_spin(struct poll_policy *p)
{
	unsigned n = 0;

	while (!poll_budget(p, 1, 0)) {
		n++;
		assert_true(n < 10000);
	}
	return n;
}

static void test_misses_are_tried_ever_more_rarely_but_for_ever(void **state)
{
	struct poll_policy p;
	unsigned last = 0, n = 0;

	(void)state;
	poll_init(&p, MAX_NS);
	for (int i = 0; i < 20; i++) {
		poll_spun(&p, false);
		n = waits_until_spin(&p);
		assert_true(n >= last);
		last = n;
	}
	assert_in_range(n, 100, 1000);
	poll_spun(&p, true);
	assert_int_equal(poll_budget(&p, 1, 0), MAX_NS);
}

/* 10 ms on, `share` percent of the time since the last look queueing, in so many
 * turns; what it then grants. */
static uint64_t after(struct poll_policy *p, uint64_t *now, unsigned share,
		      unsigned turns)
{
	static struct poll_account a;

	*now += 10000000u;
	a.queued_ns += (*now - p->looked_at) / 100 * share;
	a.turns += turns;
	assert_true(poll_look_due(p, *now));
	poll_look(p, *now, &a);
	assert_false(poll_look_due(p, *now));
	return poll_budget(p, *now, 0);
}

static void test_who_had_to_queue_rests_and_who_did_not_polls(void **state)
{
	struct poll_policy p;
	uint64_t now = 1000000000000u;

	(void)state;
	poll_init(&p, MAX_NS);
	after(&p, &now, 0, 0);
	assert_int_equal(after(&p, &now, 0, 1), MAX_NS);
	assert_int_equal(after(&p, &now, 1, 1), MAX_NS);	/* too little */
	/* A thousand wake-ups of 2 us each are no crowd. */
	assert_int_equal(after(&p, &now, 20, 1000), MAX_NS);
	assert_int_equal(after(&p, &now, 20, 10), 0);
}

static void test_a_crowd_makes_it_rest_longer_each_time(void **state)
{
	struct poll_policy p;
	uint64_t now = 1000000000000u, rest = 0, last = 0;

	(void)state;
	poll_init(&p, MAX_NS);
	after(&p, &now, 0, 0);
	for (int i = 0; i < 20; i++) {
		uint64_t start = now;

		assert_int_equal(after(&p, &now, 50, 10), 0);
		/* What it gains in between changes nothing. */
		poll_spun(&p, true);
		while (!poll_budget(&p, now, 0))
			now += 100000;
		rest = now - start;
		assert_true(rest >= last);
		last = rest;
	}
	assert_in_range(rest, 500000000u, 2000000000u);
	now += 60ull * 1000000000u;			/* calm for a minute */
	assert_int_equal(after(&p, &now, 0, 0), MAX_NS);
	assert_int_equal(after(&p, &now, 50, 10), 0);
	assert_int_equal(poll_budget(&p, now + 20000000u, 0), MAX_NS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_off_never_spins),
		cmocka_unit_test(test_deep_sleeps_shallow_spins),
		cmocka_unit_test(
			test_misses_are_tried_ever_more_rarely_but_for_ever),
		cmocka_unit_test(test_who_had_to_queue_rests_and_who_did_not_polls),
		cmocka_unit_test(test_a_crowd_makes_it_rest_longer_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
