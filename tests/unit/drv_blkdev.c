/* The raw store on a block device of 4096-byte sectors: requests of 512 bytes
 * at depth 32 are read-modify-writes of shared blocks. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_loop.h"
#include "drv_model.h"
#include "drv_rig.h"

#define SIZE (4 * MiB)

static char spec[80];

static void finish(struct rig *g)
{
	assert_int_equal(rig_close(g), 0);
	rig_free(g);
}

static void open_device(struct rig *g, unsigned flags)
{
	rig_init(g);
	assert_int_equal(rig_open(g, spec, flags), 0);
	assert_int_equal(td_tree_root(g->tree)->size, SIZE);
}

static void differential(unsigned unit, unsigned max_len, unsigned requests,
			 unsigned depth, uint64_t span)
{
	struct model_run how = { .seed = rig_seed(), .requests = requests,
				 .depth = depth, .unit = unit,
				 .max_len = max_len, .span = span };
	struct rig g;

	open_device(&g, 0);
	assert_true(td_tree_root(g.tree)->phys >= 4096);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, SIZE, NULL), 0);
	assert_int_equal(model_run(&g, &how), 0);
	finish(&g);
}

static void sectors_of_512_on_blocks_of_4096(void **state)
{
	(void)state;
	differential(512, 64 * KiB, 4000, 32, 0);
}

static void neighbours_in_one_block_survive(void **state)
{
	(void)state;
	differential(512, 2048, 6000, 64, 16 * KiB);
	differential(64, 4096, 4000, 32, 16 * KiB);
}

static void more_bounces_than_buffers(void **state)
{
	(void)state;
	differential(512, 16 * KiB, 4000, 64, MiB);
}

static void zeroes_of_parts_of_a_block(void **state)
{
	static char buf[64 * KiB], want[64 * KiB];
	struct rig g;

	(void)state;
	open_device(&g, 0);
	memset(buf, 'x', sizeof(buf));
	memset(want, 'x', sizeof(want));
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 512, 512, NULL), 0);
	memset(want + 512, 0, 512);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, TD_REQ_NO_HOLE, 4096 * 2 + 512,
				4096 * 5, NULL), 0);
	memset(want + 4096 * 2 + 512, 0, 4096 * 5);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 4096 * 10 + 512, 4096,
				NULL), 0);	/* no whole block: nothing */
	assert_int_equal(rig_read(&g, 0, sizeof(buf), buf), 0);
	assert_memory_equal(buf, want, sizeof(buf));
	finish(&g);
}

static void everything_is_data_and_growth_must_be_there(void **state)
{
	struct td_extent v[4];
	struct td_extents x = { .v = v, .max = 4 };
	struct rig g;

	(void)state;
	open_device(&g, 0);
	assert_int_equal(rig_extents(&g, 512, MiB, &x), 0);
	assert_int_equal(x.n, 1);
	assert_int_equal(v[0].length, MiB);
	assert_int_equal(v[0].flags, 0);
	assert_int_equal(rig_resize(&g, 2 * SIZE), -ERANGE);
	assert_int_equal(rig_resize(&g, 0), 0);
	assert_int_equal(td_tree_root(g.tree)->size, SIZE);
	finish(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sectors_of_512_on_blocks_of_4096),
		cmocka_unit_test(neighbours_in_one_block_survive),
		cmocka_unit_test(more_bounces_than_buffers),
		cmocka_unit_test(zeroes_of_parts_of_a_block),
		cmocka_unit_test(everything_is_data_and_growth_must_be_there),
	};
	const char *dir = rig_dir("/tmp");
	const char *dev = loop_attach(rig_file(dir, "disk", SIZE), 4096, true);
	int rc = 77;

	if (dev) {
		snprintf(spec, sizeof(spec), "phy:%s", dev);
		rc = cmocka_run_group_tests(tests, NULL, NULL);
		loop_detach();
	}
	rig_dir_remove(dir);
	return rc;
}
