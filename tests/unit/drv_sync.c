/* A flush that has failed stays failed until the disk is reopened, and running
 * out of space is an error of the request alone.  On a file system that is too
 * small for its loop device. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_loop.h"
#include "drv_rig.h"
#include "loop/loop.h"
#include "redo_area.h"

static char spec[200], full[200];
static char buf[MiB];

static void a_failed_flush_is_remembered(void **state)
{
	struct rig g;

	(void)state;
	rig_init(&g);
	assert_int_equal(rig_open(&g, spec, TD_NODE_NO_DIRECT), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
	assert_true(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL) < 0);
	/* The kernel would say yes now: it has told its error. */
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), -EIO);
	assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 0, 512, buf), -EIO);
	assert_int_equal(rig_read(&g, 0, 512, buf), 0);
	assert_int_equal(rig_close(&g), 0);
	assert_int_equal(rig_open(&g, spec, TD_NODE_NO_DIRECT), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

/* The memory that outlives a process says it to the next one, which has the file's
 * disk taken up; who just opens it begins anew. */
static void a_successor_knows_of_it(void **state)
{
	static char area[REDO_AREA_MIN] __attribute__((aligned(4096)));
	struct td_redo redo = { .area = area, .bytes = sizeof(area) };
	struct rig g;

	(void)state;
	rig_init(&g);
	g.env.redo = &redo;
	for (int turn = 0; turn < 3; turn++) {
		redo.recover = turn == 1;
		assert_int_equal(redo_area_prepare(&redo), 0);
		assert_int_equal(rig_open(&g, spec, TD_NODE_NO_DIRECT), 0);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL),
				 turn == 1 ? -EIO : 0);
		if (!turn) {
			memset(buf, 'x', sizeof(buf));
			assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
			assert_true(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL) < 0);
		}
		assert_int_equal(rig_close(&g), 0);
	}
	rig_free(&g);
}

/* The kernel tells its error to one of those that wait at that moment. */
static void flushes_that_run_together_fail_together(void **state)
{
	struct rig g;

	(void)state;
	rig_init(&g);
	for (int i = 0; i < 20; i++) {
		struct rig_all all = { .g = &g };

		assert_int_equal(rig_open(&g, spec, TD_NODE_NO_DIRECT), 0);
		memset(buf, 'a' + i, sizeof(buf));
		assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
		for (int k = 0; k < 16; k++)
			rig_all_add(&all, TD_OP_FLUSH, 0, 0, 0, NULL, 0);
		rig_all_wait(&all);
		assert_int_equal(all.failed, 16);
		assert_int_equal(rig_close(&g), 0);
	}
	rig_free(&g);
}

static void a_full_file_system_fails_the_write_alone(void **state)
{
	struct rig g;

	(void)state;
	rig_init(&g);
	assert_int_equal(rig_open(&g, full, 0), 0);
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), -ENOSPC);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_flush_is_remembered),
		cmocka_unit_test(a_successor_knows_of_it),
		cmocka_unit_test(flushes_that_run_together_fail_together),
		cmocka_unit_test(a_full_file_system_fails_the_write_alone),
	};
	const char *top, *dev;
	char dir[128];
	int rc = 77;

	if (geteuid()) {
		puts("SKIP: a loop device needs root");
		return 77;
	}
	top = rig_dir("/tmp");
	snprintf(dir, sizeof(dir), "%s/mnt", top);
	if (!mkdir(dir, 0700) &&
	    private_mount("none", dir, "tmpfs", "size=256k")) {
		dev = loop_attach(rig_file(dir, "disk", 4 * MiB), 512, false);
		if (dev) {
			snprintf(spec, sizeof(spec), "aio:%s", dev);
			snprintf(full, sizeof(full), "aio:%s",
				 rig_file(dir, "full", 4 * MiB));
			rc = cmocka_run_group_tests(tests, NULL, NULL);
			loop_detach();
		}
		(void)command("umount -l %s", dir);
	}
	rmdir(dir);
	rig_dir_remove(top);
	return rc;
}
