/* A disk in qcow2 that is made smaller, piece by piece, and a file that fails once on the
 * way: the disk has its old size, goes on, and can be made smaller the next time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "image_rig.h"

#define OLD (20 * MiB)		/* pieces of 8 MiB */
#define NEW (2 * MiB + 512)
#define STEP (MiB / 2)
#define LEN 4096u

static struct rig g;
static struct mem_store m;
static uint8_t want[LEN], buf[LEN];
static const uint8_t zero[LEN];

static void make(const char *path)
{
	struct mem_image *i;

	rig_fill(&group.seed, want, sizeof(want));
	assert_int_equal(image_make("qcow2", path, OLD, NULL, "cluster_size=512"), 0);
	i = image_in_memory(&g, &m);
	mem_image_load(i, path);
	assert_int_equal(rig_open(&g, "qcow2:a", 0), 0);
	for (uint64_t at = 0; at < OLD; at += STEP)
		assert_int_equal(rig_write(&g, at, LEN, want), 0);
	assert_int_equal(rig_close(&g), 0);
	mem_image_save(i, path);
	image_memory_free(&g, &m);
}

static void holds(uint64_t upto, const char *when, unsigned nth)
{
	for (uint64_t at = 0; at < upto; at += STEP) {
		uint64_t n = min_u64(LEN, upto - at);
		int err = rig_read(&g, at, n, buf);

		if (err || memcmp(buf, want, n))
			fail_msg("%s %u: at %llu: %d", when, nth,
				 (unsigned long long)at, err);
	}
}

#define FLUSHES (1u << TD_OP_FLUSH)
#define OTHERS (1u << TD_OP_READ | 1u << TD_OP_WRITE | 1u << TD_OP_ZEROES | \
		1u << TD_OP_DISCARD | 1u << TD_OP_RESIZE)

/* One of them fails.  False: there were not so many. */
static bool fails_once(const char *path, unsigned ops, unsigned nth)
{
	struct mem_image *i = image_in_memory(&g, &m);
	uint64_t size = OLD;
	char out[4096];
	unsigned hits;
	int err;

	mem_image_load(i, path);
	assert_int_equal(rig_open(&g, "qcow2:a", 0), 0);
	mem_store_fail(&m, &(struct mem_fault){ .ops = ops, .nth = nth, .count = 1,
						.err = -EIO });
	err = rig_shrink(&g, NEW);
	hits = m.hits;
	mem_store_fail(&m, NULL);
	if (err && (err != -EIO || !hits))
		fail_msg("operation %u: %d, %u failed", nth, err, hits);
	if (err) {
		assert_int_equal(td_tree_root(g.tree)->size, OLD);
		holds(NEW, "after operation", nth);
		if (ops == FLUSHES) {	/* what it lost no later one tells as written */
			assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), -EIO);
			(void)rig_close(&g);
			assert_int_equal(rig_open(&g, "qcow2:a", 0), 0);
			/* The last one is that of the size itself: it may be there. */
			size = td_tree_root(g.tree)->size;
			assert_true(size == OLD || size == NEW);
			holds(NEW, "opened again after flush", nth);
		}
		for (uint64_t at = 0; at < size; at += STEP)
			assert_int_equal(rig_write(&g, at, min_u64(LEN, size - at), want), 0);
		holds(size, "written after operation", nth);
		/* If tables could not be written: what waits for them waits for this. */
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		assert_int_equal(rig_shrink(&g, NEW), 0);
	}
	assert_int_equal(td_tree_root(g.tree)->size, NEW);
	holds(NEW, "smaller, operation", nth);
	/* Nothing that was behind the end is left to be seen. */
	assert_int_equal(rig_resize(&g, OLD), 0);
	for (uint64_t at = NEW; at < OLD; at = align_down(at, STEP) + STEP) {
		assert_int_equal(rig_read(&g, at, LEN, buf), 0);
		if (memcmp(buf, zero, LEN))
			fail_msg("operation %u: at %llu is what was there", nth,
				 (unsigned long long)at);
	}
	assert_int_equal(rig_close(&g), 0);
	snprintf(out, sizeof(out), "%s/out", group.dir);
	mem_image_save(i, out);
	image_memory_free(&g, &m);
	err = shell_status("qemu-img check -q -f qcow2 %s >%s.said 2>&1", out, out);
	if (err && err != 3)	/* space may be lost where that could not be written */
		shell("cat %s.said; echo operation %u: not clean; false", out, nth);
	return hits;
}

static void each_fails_once(unsigned ops, unsigned least)
{
	char path[4096];
	unsigned nth = 1;

	snprintf(path, sizeof(path), "%s/a", group.dir);
	make(path);
	while (fails_once(path, ops, nth))
		nth++;
	assert_in_range(nth, least, 10000);
}

static void the_old_size_stays_when_it_fails(void **state)
{
	(void)state;
	each_fails_once(OTHERS, 10);
}

static void the_old_size_stays_when_a_flush_fails(void **state)
{
	(void)state;
	each_fails_once(FLUSHES, 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_old_size_stays_when_it_fails),
		cmocka_unit_test(the_old_size_stays_when_a_flush_fails),
	};

	shell_needs("qemu-img");
	return cmocka_run_group_tests(tests, rig_group_begin, rig_group_end);
}
