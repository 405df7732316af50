/* Ranges of writes: who waits for whom, in which order, and who does not. */
#include "file/range.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"

struct one {
	struct range r;
	bool runs, waits;
	unsigned order;
};

static struct ranges s;
static unsigned order;

static void go(struct range *r)
{
	struct one *o = container_of(r, struct one, r);

	assert_true(o->waits);
	o->waits = false;
	o->runs = true;
	o->order = ++order;
}

static bool enter(struct one *o, uint64_t start, uint64_t end, bool excl)
{
	*o = (struct one){ .r = { .start = start, .end = end, .excl = excl,
				  .ready = go } };
	o->waits = true;
	if (range_enter(&s, &o->r))
		go(&o->r);
	return o->runs;
}

static void leave(struct one *o)
{
	assert_true(o->runs);
	o->runs = false;
	range_leave(&s, &o->r);
}

static void plain_ranges_do_not_wait_for_each_other(void **state)
{
	struct one a, b;

	(void)state;
	ranges_init(&s);
	assert_true(enter(&a, 0, 8192, false));
	assert_true(enter(&b, 4096, 8192, false));
	leave(&a);
	leave(&b);
}

static void an_exclusive_range_waits_and_is_waited_for(void **state)
{
	struct one a, b, c, d;

	(void)state;
	ranges_init(&s);
	assert_true(enter(&a, 0, 4096, false));
	assert_false(enter(&b, 0, 4096, true));
	assert_false(enter(&c, 0, 4096, false));	/* not past b */
	assert_true(enter(&d, 4096, 8192, true));	/* touches, no more */
	leave(&a);
	assert_true(b.runs);
	assert_false(c.runs);
	leave(&b);
	assert_true(c.runs);
	leave(&c);
	leave(&d);
	assert_int_equal(s.excl, 0);
	assert_int_equal(s.waiting, 0);
}

static void first_come_first_served(void **state)
{
	struct one o[64];

	(void)state;
	ranges_init(&s);
	order = 0;
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(enter(&o[i], i % 8 * 512 / 4096, 4096, true),
				 !i);
	assert_int_equal(s.waiting, 63);
	for (unsigned i = 0; i < 64; i++) {
		assert_int_equal(o[i].order, i + 1);
		leave(&o[i]);
	}
}

static unsigned failed;

static void fail_at_once(struct range *r)
{
	failed++;
	range_leave(&s, r);
}

/* Whose turn comes may find that it cannot be done, and leave there and then. */
static void a_turn_may_be_given_up(void **state)
{
	struct one a, b, c, last;

	(void)state;
	ranges_init(&s);
	failed = 0;
	assert_true(enter(&a, 0, 8192, true));
	assert_false(enter(&b, 0, 8192, true));
	b.r.ready = fail_at_once;
	assert_false(enter(&c, 4096, 8192, true));
	c.r.ready = fail_at_once;
	assert_false(enter(&last, 0, 8192, true));
	leave(&a);
	assert_int_equal(failed, 2);
	assert_true(last.runs);
	leave(&last);
	assert_int_equal(s.excl, 0);
	assert_int_equal(s.waiting, 0);
	assert_true(list_empty(&s.all));
}

/* Against the rule itself: nobody runs beside a conflict, and nobody waits who
 * has no earlier conflict. */
static void random_ranges_obey_the_rule(void **state)
{
	static struct one o[32];
	uint64_t seed = rig_seed(), entered[32] = { 0 }, now = 0;

	(void)state;
	ranges_init(&s);
	for (unsigned step = 0; step < 200000; step++) {
		unsigned i = rig_random(&seed) % 32;

		if (!o[i].runs && !o[i].waits) {
			uint64_t at = rig_random(&seed) % 40;

			entered[i] = ++now;
			enter(&o[i], at, at + 1 + rig_random(&seed) % 6,
			      !(rig_random(&seed) % 3));
		} else if (o[i].runs) {
			leave(&o[i]);
		}
		for (unsigned k = 0; k < 32; k++) {
			bool blocked = false;

			for (unsigned j = 0; j < 32; j++)
				blocked |= j != k && (o[j].runs || o[j].waits) &&
					   entered[j] < entered[k] &&
					   (o[j].r.excl || o[k].r.excl) &&
					   o[j].r.start < o[k].r.end &&
					   o[k].r.start < o[j].r.end;
			assert_false(o[k].runs && blocked);
			assert_false(o[k].waits && !blocked);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_ranges_do_not_wait_for_each_other),
		cmocka_unit_test(an_exclusive_range_waits_and_is_waited_for),
		cmocka_unit_test(first_come_first_served),
		cmocka_unit_test(a_turn_may_be_given_up),
		cmocka_unit_test(random_ranges_obey_the_rule),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
