/* An image of qcow2 that was not closed cleanly, and a file that cannot be read in a bad
 * moment: it is not opened for writing, and the reason is what went wrong, not what was
 * put right before. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "image_rig.h"
#include "qcow2/tables.h"

#define CLUSTER 4096u
#define TABLE ((uint64_t)CLUSTER / 8 * CLUSTER)		/* of the disk, by one L2 table */

static struct rig g;
static struct mem_store m;

static uint64_t be64_at(const struct mem_image *i, uint64_t at)
{
	uint8_t p[8];

	mem_image_read(i, at, p, sizeof(p));
	return get_be64(p);
}

static void be64_put(struct mem_image *i, uint64_t at, uint64_t v)
{
	uint8_t p[8];

	put_be64(p, v);
	mem_image_write(i, at, p, sizeof(p));
}

/* Dirty, and in both its L2 tables a flag is to be repaired. */
static void make(const char *path)
{
	static uint8_t buf[CLUSTER];
	struct mem_image *i;
	uint64_t l1;

	assert_int_equal(image_make("qcow2", path, 2 * TABLE, NULL, "cluster_size=4k"), 0);
	i = image_in_memory(&g, &m);
	mem_image_load(i, path);
	assert_int_equal(rig_open(&g, "qcow2:a", 0), 0);
	for (unsigned t = 0; t < 2; t++)
		assert_int_equal(rig_write(&g, t * TABLE, sizeof(buf), buf), 0);
	assert_int_equal(rig_close(&g), 0);
	be64_put(i, QCOW2_AT_INCOMPAT, QCOW2_DIRTY);
	l1 = be64_at(i, QCOW2_AT_L1 + 4);
	for (unsigned t = 0; t < 2; t++) {
		uint64_t l2 = be64_at(i, l1 + 8 * t) & QCOW2_HOST_MASK;

		assert_true(be64_at(i, l2) & QCOW2_COPIED);
		be64_put(i, l2, be64_at(i, l2) & ~QCOW2_COPIED);
	}
	mem_image_save(i, path);
	image_memory_free(&g, &m);
}

static void the_reason_is_what_failed(void **state)
{
	char path[4096];
	unsigned told = 0;
	bool all = false;

	(void)state;
	snprintf(path, sizeof(path), "%s/a", group.dir);
	make(path);
	for (unsigned nth = 1; !all; nth++) {
		mem_image_load(image_in_memory(&g, &m), path);
		mem_store_fail(&m, &(struct mem_fault){ .ops = 1u << TD_OP_READ, .nth = nth,
							.count = 1, .err = -EIO });
		if (!rig_open(&g, "qcow2:a", 0)) {
			all = !m.hits;
			assert_int_equal(rig_close(&g), 0);
		} else {
			assert_true(m.hits);
			assert_null(strstr(rig_why(), "entry 0x"));
			told += strstr(rig_why(), "cannot be read") != NULL;
		}
		image_memory_free(&g, &m);
	}
	assert_in_range(told, 3, 100);		/* counted, and the flags looked at */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_reason_is_what_failed),
	};

	return cmocka_run_group_tests(tests, rig_group_begin, rig_group_end);
}
