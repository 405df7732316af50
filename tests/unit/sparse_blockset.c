/* The set of blocks against a bitmap: added, removed and asked in any order, while
 * it grows and while removed ones leave their places behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "drv_rig.h"
#include "sparse/blockset.h"

#define KEYS 5000u

static void test_it_agrees_with_a_bitmap(void **state)
{
	static bool there[KEYS];
	struct blockset b = { 0 };
	uint64_t seed = rig_seed(), live = 0;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		uint64_t r = rig_random(&seed), k = r % KEYS;
		/* Keys that collide as well as ones that lie apart. */
		uint64_t key = (k + 1) * (k % 3 ? 1 : 1ull << 40);

		switch (r >> 40 & 3) {
		case 0:
		case 1:
			assert_int_equal(blockset_add(&b, key), 0);
			live += !there[k];
			there[k] = true;
			break;
		case 2:
			assert_int_equal(blockset_del(&b, key), there[k]);
			live -= there[k];
			there[k] = false;
			break;
		default:
			assert_int_equal(blockset_has(&b, key), there[k]);
		}
		assert_int_equal(b.live, live);
		assert_true(b.used <= b.mask);
	}
	blockset_free(&b);
	assert_false(blockset_has(&b, 1));
}

static void test_what_comes_and_goes_does_not_make_it_grow(void **state)
{
	struct blockset b = { 0 };

	(void)state;
	for (uint64_t k = 1; k < 1000000; k++) {
		assert_int_equal(blockset_add(&b, k), 0);
		assert_true(blockset_del(&b, k));
	}
	assert_true(b.mask < 1024);
	blockset_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_agrees_with_a_bitmap),
		cmocka_unit_test(test_what_comes_and_goes_does_not_make_it_grow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
