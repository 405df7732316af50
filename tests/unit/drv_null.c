/* The driver template: null:SIZE gives zeroes, and refuses what is no size. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drivers.h"
#include "drv_rig.h"

static void every_driver_of_the_list_is_complete(void **state)
{
	(void)state;
	for (const struct td_driver *const *d = td_drivers; *d; d++) {
		assert_int_equal(td_driver_check(*d), 0);
		assert_ptr_equal(td_driver_find((*d)->name,
						strlen((*d)->name)), *d);
	}
	assert_string_equal(td_driver_find("file", 4)->name, "aio");
	assert_string_equal(td_driver_find("phy", 3)->name, "aio");
	assert_null(td_driver_find("ai", 2));
	assert_null(td_driver_find("aiox", 4));
}

static void reads_are_zeroes_and_writes_vanish(void **state)
{
	static char buf[8192], zero[8192];
	struct rig g;

	(void)state;
	rig_init(&g);
	assert_int_equal(rig_open(&g, "null:1M", 0), 0);
	assert_int_equal(td_tree_root(g.tree)->size, MiB);
	memset(buf, 0xaa, sizeof(buf));
	assert_int_equal(rig_write(&g, 4096, sizeof(buf), buf), 0);
	assert_int_equal(rig_read(&g, 4096, sizeof(buf), buf), 0);
	assert_memory_equal(buf, zero, sizeof(buf));
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, MiB, NULL), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

static void a_bad_size_is_refused_and_explained(void **state)
{
	static const char *const bad[] = { "null:12 parsecs", "null:0",
		"null:-1", "null:99999999999999999999", "null:16E" };
	struct rig g;

	(void)state;
	rig_init(&g);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_true(rig_open(&g, bad[i], 0) < 0);
		assert_non_null(strstr(rig_why(), "bad size '"));
		assert_non_null(strstr(rig_why(), strchr(bad[i], ':') + 1));
	}
	rig_free(&g);
}

static void read_only_refuses_writes(void **state)
{
	static char buf[512];
	struct rig g;

	(void)state;
	rig_init(&g);
	assert_int_equal(rig_open(&g, "null:1000", TD_NODE_RDONLY), 0);
	assert_int_equal(td_tree_root(g.tree)->size, 1024);
	assert_int_equal(rig_write(&g, 0, 512, buf), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, 512, NULL), -EROFS);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_driver_of_the_list_is_complete),
		cmocka_unit_test(reads_are_zeroes_and_writes_vanish),
		cmocka_unit_test(a_bad_size_is_refused_and_explained),
		cmocka_unit_test(read_only_refuses_writes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
