/* The raw store on a kernel that takes back what it promised: fallocate(2), ours
 * here, refuses from some moment on.  Files of the temporary folder. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"
#include "loop/loop.h"

static const char *dir;
static bool refuses;
static unsigned asked;

int fallocate(int fd, int mode, off_t off, off_t len)
{
	(void)fd;
	(void)mode;
	(void)off;
	(void)len;
	__atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
	if (!__atomic_load_n(&refuses, __ATOMIC_RELAXED))
		return 0;
	errno = EOPNOTSUPP;
	return -1;
}

static void open_new(struct rig *g)
{
	char spec[300];

	snprintf(spec, sizeof(spec), "aio:%s", rig_file(dir, "a.img", MiB));
	refuses = false;
	rig_init(g);
	assert_int_equal(rig_open(g, spec, 0), 0);
	assert_true(td_tree_root(g->tree)->caps & TD_CAP_FAST_ZERO);
	refuses = true;
	asked = 0;
}

static struct rig_all run(struct rig *g, enum td_op op, unsigned flags, unsigned n)
{
	struct rig_all all = { .g = g };

	for (unsigned i = 0; i < n; i++)
		rig_all_add(&all, op, flags, i % 2 * 4096, 64 * KiB, NULL, 0);
	rig_all_wait(&all);
	return all;
}

/* Those that waited for the first learn from it, and none stays behind. */
static void fast_zeroes_that_wait_for_each_other_are_all_refused(void **state)
{
	struct rig_all all;
	struct rig g;

	(void)state;
	open_new(&g);
	all = run(&g, TD_OP_ZEROES, TD_REQ_FAST, 16);
	assert_int_equal(all.failed, 16);
	assert_int_equal(all.err, -EOPNOTSUPP);
	assert_int_equal(asked, 2);	/* to punch, and to zero */
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, TD_REQ_FAST, 0, 4096, NULL),
			 -EOPNOTSUPP);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

static void zeroes_are_written_where_nothing_else_is_left(void **state)
{
	static char buf[MiB], want[MiB];
	struct rig_all all;
	struct rig g;

	(void)state;
	open_new(&g);
	memset(buf, 'x', sizeof(buf));
	memset(want, 'x', sizeof(want));
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
	all = run(&g, TD_OP_ZEROES, 0, 16);
	assert_int_equal(all.good, 16);
	memset(want, 0, 68 * KiB);
	assert_int_equal(rig_read(&g, 0, sizeof(buf), buf), 0);
	assert_memory_equal(buf, want, sizeof(buf));
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

static void discards_that_wait_are_all_refused(void **state)
{
	struct rig_all all;
	struct rig g;

	(void)state;
	open_new(&g);
	all = run(&g, TD_OP_DISCARD, 0, 16);
	assert_int_equal(all.failed, 16);
	assert_int_equal(all.err, -EOPNOTSUPP);
	assert_false(td_tree_root(g.tree)->caps & TD_CAP_DISCARD);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			fast_zeroes_that_wait_for_each_other_are_all_refused),
		cmocka_unit_test(zeroes_are_written_where_nothing_else_is_left),
		cmocka_unit_test(discards_that_wait_are_all_refused),
	};
	int rc;

	dir = rig_dir("/tmp");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_dir_remove(dir);
	return rc;
}
