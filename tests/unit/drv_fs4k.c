/* The raw store on files of an ext4 whose device has 4096-byte sectors, so
 * direct I/O on them wants 4096 too: whole blocks, and ends that are none. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/bytes.h"
#include "drv_loop.h"
#include "drv_model.h"
#include "drv_rig.h"

static char dir[128];

static void open_new(struct rig *g, uint64_t bytes)
{
	char spec[300];

	snprintf(spec, sizeof(spec), "aio:%s", rig_file(dir, "a.img", bytes));
	rig_init(g);
	assert_int_equal(rig_open(g, spec, 0), 0);
}

static void finish(struct rig *g)
{
	assert_int_equal(rig_close(g), 0);
	rig_free(g);
}

static long stat_of(struct rig *g, const char *key)
{
	struct td_node *n = td_tree_root(g->tree);
	json_t *o = json_object(), *v;
	long r;

	n->driver->stats(n, o);
	v = json_object_get(o, key);
	assert_non_null(v);
	r = json_is_integer(v) ? (long)json_integer_value(v) : json_is_true(v);
	json_decref(o);
	return r;
}

static void whole_blocks_are_direct(void **state)
{
	struct model_run how = { .requests = 4000, .depth = 32, .unit = 512,
				 .max_len = 16 * KiB };
	struct rig g;

	(void)state;
	how.seed = rig_seed();
	open_new(&g, MiB);
	if (!stat_of(&g, "direct") || stat_of(&g, "align") != 4096) {
		finish(&g);
		skip();
	}
	assert_int_equal(model_run(&g, &how), 0);
	assert_true(stat_of(&g, "rmw") > 500);
	assert_int_equal(rig_resize(&g, MiB + 512), -EINVAL);
	assert_int_equal(rig_resize(&g, MiB + 4096), 0);
	finish(&g);
}

static void an_odd_end_goes_through_the_page_cache(void **state)
{
	struct model_run how = { .requests = 3000, .depth = 32, .unit = 512,
				 .max_len = 16 * KiB };
	static char buf[512];
	struct stat st;
	struct rig g;

	(void)state;
	how.seed = rig_seed();
	open_new(&g, 256 * KiB + 700);
	assert_false(stat_of(&g, "direct"));
	assert_int_equal(td_tree_root(g.tree)->size, 256 * KiB + 1024);
	assert_int_equal(model_run(&g, &how), 0);
	memset(buf, 'e', 512);
	assert_int_equal(rig_write(&g, 256 * KiB + 512, 512, buf), 0);
	memset(buf, 0, 512);
	assert_int_equal(rig_read(&g, 256 * KiB + 512, 512, buf), 0);
	assert_int_equal(buf[511], 'e');
	finish(&g);
	snprintf(buf, sizeof(buf), "%s/a.img", dir);
	assert_int_equal(stat(buf, &st), 0);
	assert_int_equal(st.st_size, 256 * KiB + 1024);
}

/* A file grown by others to an odd end: the odd part waits for its block. */
static void growth_is_taken_up_in_whole_blocks(void **state)
{
	char path[160];
	struct rig g;

	(void)state;
	open_new(&g, MiB);
	snprintf(path, sizeof(path), "%s/a.img", dir);
	assert_int_equal(truncate(path, MiB + 10000), 0);
	assert_int_equal(rig_resize(&g, 0), 0);
	assert_int_equal(td_tree_root(g.tree)->size, MiB + 8192);
	finish(&g);
}

static void idle_disks_hold_no_buffers(void **state)
{
	static char buf[512];
	struct rig g;

	(void)state;
	open_new(&g, MiB);
	assert_int_equal(rig_write(&g, 512, 512, buf), 0);
	assert_int_equal(stat_of(&g, "buffers"), 1);
	for (int i = 0; i < 3000 && stat_of(&g, "buffers"); i++) {
		usleep(10 * 1000);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	}
	assert_int_equal(stat_of(&g, "buffers"), 0);
	finish(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_blocks_are_direct),
		cmocka_unit_test(an_odd_end_goes_through_the_page_cache),
		cmocka_unit_test(growth_is_taken_up_in_whole_blocks),
		cmocka_unit_test(idle_disks_hold_no_buffers),
	};
	const char *top = rig_dir("/tmp");
	const char *dev = loop_attach(rig_file(top, "disk", 32 * MiB), 4096,
				      true);
	int rc = 77;

	snprintf(dir, sizeof(dir), "%s/mnt", top);
	if (dev && !mkdir(dir, 0700)) {
		if (command("mkfs.ext4 -q -F %s >/dev/null 2>&1", dev) &&
		    private_mount(dev, dir, "ext4", "")) {
			rc = cmocka_run_group_tests(tests, NULL, NULL);
			(void)command("umount -l %s", dir);
		}
		loop_detach();
		rmdir(dir);
	}
	rig_dir_remove(top);
	return rc;
}
