/* Bounce buffers: bounded, first come first served, given back when idle. */
#include "file/bounce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"

struct one {
	struct bounce_wait wait;
	void *buf;
	unsigned order;
};

static unsigned order;

static void got(struct bounce_wait *w, void *buf)
{
	struct one *o = container_of(w, struct one, wait);

	assert_null(o->buf);
	o->buf = buf;
	o->order = ++order;
}

struct stopper {
	struct loop_timer t;
	struct loop *l;
};

static void stop_loop(struct loop_timer *t)
{
	loop_stop(container_of(t, struct stopper, t)->l);
}

/* Until it holds no buffer: two of its seconds, at a machine's leisure. */
static void run_until_empty(struct loop *l, const struct bounce *b)
{
	struct stopper s = { .l = l };

	loop_timer_init(&s.t, stop_loop);
	for (int i = 0; i < 600 && b->made; i++) {
		loop_timer_set(l, &s.t, 100 * NS_PER_MS);
		loop_run(l);
	}
}

static void who_waits_gets_the_next_one_at_once(void **state)
{
	static struct one o[BOUNCE_MAX + 3];
	struct loop *l = loop_new();
	struct bounce b;

	(void)state;
	bounce_init(&b, l);
	for (unsigned i = 0; i < BOUNCE_MAX + 3; i++) {
		o[i] = (struct one){ .wait.ready = got };
		o[i].buf = bounce_get(&b, &o[i].wait);
		assert_true(!!o[i].buf == (i < BOUNCE_MAX));
		if (o[i].buf)
			memset(o[i].buf, (int)i, BOUNCE_BYTES);
	}
	order = 0;
	for (unsigned i = 0; i < 3; i++) {
		bounce_put(&b, o[i].buf);
		assert_int_equal(o[BOUNCE_MAX + i].order, i + 1);
		assert_ptr_equal(o[BOUNCE_MAX + i].buf, o[i].buf);
	}
	for (unsigned i = 3; i < BOUNCE_MAX + 3; i++)
		bounce_put(&b, o[i].buf);
	assert_int_equal(b.made, BOUNCE_MAX);
	run_until_empty(l, &b);
	assert_int_equal(b.made, 0);
	assert_false(loop_timer_is_set(&b.trim));
	bounce_free(&b);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_waits_gets_the_next_one_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
