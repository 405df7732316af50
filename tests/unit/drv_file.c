/* The raw file store, on real files of the temporary folder's file system and
 * of a tmpfs: alignment, tails, space, and random requests against a model. */
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

#include "base/bytes.h"
#include "drv_model.h"
#include "drv_rig.h"
#include "io/io.h"
#include "loop/loop.h"

static const char *dirs[2];	/* disk, tmpfs */
#define DISK dirs[0]

static const char *spec(const char *path)
{
	static char s[4200];

	snprintf(s, sizeof(s), "aio:%s", path);
	return s;
}

static void open_new(struct rig *g, const char *dir, uint64_t bytes,
		     unsigned flags)
{
	rig_init(g);
	assert_int_equal(rig_open(g, spec(rig_file(dir, "a.img", bytes)), flags),
			 0);
}

static void finish(struct rig *g)
{
	assert_int_equal(rig_close(g), 0);
	rig_free(g);
}

static void differential(const char *dir, uint64_t bytes, unsigned flags,
			 unsigned unit, unsigned max_len, unsigned requests)
{
	struct model_run how = { .seed = rig_seed(), .requests = requests,
				 .depth = 32, .unit = unit, .max_len = max_len };
	struct rig g;

	open_new(&g, dir, bytes, flags);
	assert_int_equal(model_run(&g, &how), 0);
	finish(&g);
}

static void random_requests_equal_the_model(void **state)
{
	(void)state;
	for (int d = 0; d < 2; d++) {
		differential(dirs[d], 4 * MiB, 0, 512, 128 * KiB, 3000);
		differential(dirs[d], 4 * MiB, TD_NODE_NO_DIRECT, 512, 64 * KiB,
			     2000);
	}
}

static void overlapping_small_requests_lose_nothing(void **state)
{
	(void)state;
	for (int d = 0; d < 2; d++) {
		differential(dirs[d], 32 * KiB, 0, 512, 8192, 6000);
		/* Aligned to nothing: each one is a read-modify-write. */
		differential(dirs[d], 16 * KiB, 0, 64, 4096, 4000);
	}
}

static void requests_larger_than_a_bounce_buffer(void **state)
{
	(void)state;
	differential(DISK, MiB, 0, 64, 700 * KiB, 300);
}

static void tail_reads_zeroes_and_writing_it_grows_the_file(void **state)
{
	static char buf[1024], want[1024];
	struct stat st;
	struct rig g;
	int fd;

	(void)state;
	for (int d = 0; d < 2; d++) {
		const char *path = rig_file(dirs[d], "tail.img", 1000);

		fd = open(path, O_WRONLY | O_CLOEXEC);
		memset(buf, 'x', sizeof(buf));
		assert_int_equal(pwrite(fd, buf, 1000, 0), 1000);
		close(fd);
		rig_init(&g);
		assert_int_equal(rig_open(&g, spec(path), 0), 0);
		assert_int_equal(td_tree_root(g.tree)->size, 1024);
		memset(buf, 'y', sizeof(buf));
		assert_int_equal(rig_read(&g, 0, 1024, buf), 0);
		memset(want, 'x', 1000);
		memset(want + 1000, 0, 24);
		assert_memory_equal(buf, want, 1024);
		memset(buf, 'z', 512);
		assert_int_equal(rig_write(&g, 512, 512, buf), 0);
		memset(want + 512, 'z', 512);
		assert_int_equal(rig_read(&g, 0, 1024, buf), 0);
		assert_memory_equal(buf, want, 1024);
		finish(&g);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_size, 1024);
	}
}

/* A reader need not know the file's end: what is behind it is zeroes. */
static void a_file_cut_short_reads_as_zeroes(void **state)
{
	static char buf[MiB], zero[MiB];
	struct rig g;

	(void)state;
	open_new(&g, DISK, 2 * MiB, 0);
	memset(buf, 'x', MiB);
	assert_int_equal(rig_write(&g, 0, MiB, buf), 0);
	assert_int_equal(truncate(rig_file(DISK, "a.img", 4096 * 3), 4096 * 3), 0);
	assert_int_equal(rig_read(&g, 0, MiB, buf), 0);
	assert_memory_equal(buf, zero, MiB);
	assert_int_equal(rig_read(&g, MiB + 512, MiB - 512, buf), 0);
	assert_memory_equal(buf, zero, MiB - 512);
	/* The same through a bounce buffer that has been used. */
	memset(buf, 'x', 8192);
	assert_int_equal(rig_write(&g, 0, 8000, buf + 1), 0);
	memset(buf, 'y', MiB);
	assert_int_equal(rig_read(&g, 8100, MiB - 8192, buf + 1), 0);
	assert_memory_equal(buf + 1, zero, MiB - 8192);
	finish(&g);
}

static void refusals_are_explained(void **state)
{
	struct rig g;

	(void)state;
	rig_init(&g);
	assert_int_equal(rig_open(&g, spec(rig_file(DISK, "empty", 0)), 0),
			 -EINVAL);
	assert_non_null(strstr(rig_why(), "truncate -s"));
	assert_int_equal(rig_open(&g, spec("/dev/null"), 0), -EINVAL);
	assert_non_null(strstr(rig_why(), "not a regular file or a block"));
	assert_int_equal(rig_open(&g, spec(DISK), TD_NODE_RDONLY), -EISDIR);
	assert_int_equal(rig_open(&g, "aio:/nowhere/at/all", 0), -ENOENT);
	assert_non_null(strstr(rig_why(), "/nowhere/at/all"));
	assert_int_equal(rig_open(&g, "aio:", 0), -EINVAL);
	rig_free(&g);
}

static unsigned flags_seen;

static int remember_flags(struct rig *g, const char *path, unsigned flags)
{
	(void)g;
	flags_seen = flags;
	return open(path, O_CLOEXEC | (flags & TD_NODE_RDONLY ? O_RDONLY :
				       O_RDWR));
}

static void read_only_goes_down_to_the_open_flags(void **state)
{
	static char buf[4096];
	struct rig g;

	(void)state;
	rig_init(&g);
	g.open_file = remember_flags;
	assert_int_equal(rig_open(&g, spec(rig_file(DISK, "ro", MiB)),
				  TD_NODE_RDONLY), 0);
	assert_true(flags_seen & TD_NODE_RDONLY);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	assert_int_equal(rig_write(&g, 0, 4096, buf), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, 4096, NULL), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	finish(&g);
}

static int give_read_only(struct rig *g, const char *path, unsigned flags)
{
	(void)g;
	(void)flags;
	return open(path, O_CLOEXEC | O_RDONLY);
}

static void a_read_only_descriptor_does_not_make_a_writable_disk(void **state)
{
	struct rig g;

	(void)state;
	rig_init(&g);
	g.open_file = give_read_only;
	assert_int_equal(rig_open(&g, spec(rig_file(DISK, "ro", MiB)), 0),
			 -EROFS);
	rig_free(&g);
}

static uint64_t allocated(const char *dir)
{
	char path[4200];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a.img", dir);
	assert_int_equal(stat(path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void discard_gives_space_back_and_no_hole_keeps_it(void **state)
{
	static char buf[MiB], zero[MiB];
	struct rig g;

	(void)state;
	for (int d = 0; d < 2; d++) {
		open_new(&g, dirs[d], 2 * MiB, 0);
		memset(buf, 'x', MiB);
		assert_int_equal(rig_write(&g, 0, MiB, buf), 0);
		assert_int_equal(rig_write(&g, MiB, MiB, buf), 0);
		assert_true(allocated(dirs[d]) >= 2 * MiB);
		assert_int_equal(rig_io(&g, TD_OP_ZEROES, TD_REQ_NO_HOLE, 512,
					MiB - 1024, NULL), 0);
		assert_true(allocated(dirs[d]) >= 2 * MiB);
		assert_int_equal(rig_read(&g, 0, MiB, buf), 0);
		assert_int_equal(buf[511], 'x');
		assert_int_equal(buf[MiB - 512], 'x');
		assert_memory_equal(buf + 512, zero, MiB - 1024);
		assert_int_equal(rig_io(&g, TD_OP_ZEROES, TD_REQ_FAST, 0, MiB,
					NULL), 0);
		assert_true(allocated(dirs[d]) < 2 * MiB);
		assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, MiB + 100,
					MiB - 200, NULL), 0);
		assert_true(allocated(dirs[d]) < MiB / 4);
		assert_int_equal(rig_read(&g, MiB, MiB, buf), 0);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(buf[i] | buf[MiB - 1 - i], 'x');
		finish(&g);
	}
}

static void block_status_is_that_of_the_file(void **state)
{
	struct td_extent v[8];
	struct td_extents x = { .v = v, .max = 8 };
	static char buf[64 * KiB];
	const uint32_t hole = TD_EXTENT_HOLE | TD_EXTENT_ZERO;
	struct rig g;

	(void)state;
	for (int d = 0; d < 2; d++) {
		open_new(&g, dirs[d], MiB, 0);
		memset(buf, 'x', sizeof(buf));
		assert_int_equal(rig_write(&g, 256 * KiB, sizeof(buf), buf), 0);
		assert_int_equal(rig_extents(&g, 0, MiB, &x), 0);
		assert_int_equal(x.n, 3);
		assert_int_equal(v[0].length, 256 * KiB);
		assert_int_equal(v[0].flags, hole);
		assert_int_equal(v[1].length, 64 * KiB);
		assert_int_equal(v[1].flags, 0);
		assert_int_equal(v[2].length, (1024 - 320) * KiB);
		assert_int_equal(v[2].flags, hole);
		x.max = 1;		/* room for less: stops early */
		assert_int_equal(rig_extents(&g, 260 * KiB, 100 * KiB, &x), 0);
		assert_int_equal(x.n, 1);
		assert_int_equal(v[0].length, 60 * KiB);
		x.max = 8;
		finish(&g);
	}
}

static void resize_grows_and_never_shrinks(void **state)
{
	static char buf[4096];
	const char *path;
	struct stat st;
	struct rig g;

	(void)state;
	open_new(&g, DISK, MiB, 0);
	path = rig_file(DISK, "b", 0);
	(void)path;
	assert_int_equal(rig_resize(&g, MiB / 2), -ERANGE);
	assert_int_equal(rig_resize(&g, MiB + 100), -EINVAL);
	assert_int_equal(td_tree_root(g.tree)->size, MiB);
	assert_int_equal(rig_resize(&g, 2 * MiB), 0);
	assert_int_equal(td_tree_root(g.tree)->size, 2 * MiB);
	assert_int_equal(rig_write(&g, 2 * MiB - 4096, 4096, buf), 0);
	assert_int_equal(truncate(strcat(strcpy(buf, DISK), "/a.img"), 3 * MiB),
			 0);
	assert_int_equal(rig_resize(&g, 0), 0);
	assert_int_equal(td_tree_root(g.tree)->size, 3 * MiB);
	assert_int_equal(stat(buf, &st), 0);
	assert_int_equal(st.st_size, 3 * MiB);
	finish(&g);
}

/* tmpfs makes files of any size. */
static void resize_goes_no_further_than_open(void **state)
{
	const uint64_t max = (uint64_t)INT64_MAX + 1 - 2 * 65536;
	struct rig g;

	(void)state;
	open_new(&g, dirs[1], MiB, 0);
	assert_int_equal(rig_resize(&g, (uint64_t)INT64_MAX + 1 - 4096), -EFBIG);
	assert_int_equal(td_tree_root(g.tree)->size, MiB);
	assert_int_equal(rig_resize(&g, max), 0);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, max - 4096, 4096, NULL), 0);
	assert_int_equal(rig_close(&g), 0);
	assert_int_equal(rig_open(&g, spec(rig_file(dirs[1], "a.img", max)), 0),
			 0);
	finish(&g);
}

static void few_io_submits_for_all_requests_of_a_pass(void **state)
{
	static char mem[32 * 4096] __attribute__((aligned(4096)));
	struct iovec iov[32];
	struct rig g;
	struct rig_all all = { .g = &g };
	uint64_t submits;

	(void)state;
	open_new(&g, DISK, MiB, 0);
	submits = io_stats(g.env.io)->submits;
	for (unsigned i = 0; i < 32; i++) {
		iov[i] = (struct iovec){ mem + i * 4096, 4096 };
		rig_all_add(&all, i & 1 ? TD_OP_WRITE : TD_OP_READ, 0, i * 4096,
			    4096, &iov[i], 1);
	}
	rig_all_wait(&all);
	assert_int_equal(all.good, 32);
	assert_in_range(io_stats(g.env.io)->submits - submits, 1, 5);
	finish(&g);
}

static void flush_and_fua_complete(void **state)
{
	static char buf[4096] __attribute__((aligned(4096)));
	struct rig g;

	(void)state;
	for (int d = 0; d < 2; d++) {
		open_new(&g, dirs[d], MiB, 0);
		assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 4096, 4096,
					buf), 0);
		assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 100, 200,
					buf), 0);
		assert_int_equal(rig_io(&g, TD_OP_ZEROES, TD_REQ_FUA, 100,
					200000, NULL), 0);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		finish(&g);
	}
}

static int setup(void **state)
{
	(void)state;
	dirs[0] = rig_dir(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	dirs[1] = rig_dir("/dev/shm");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	rig_dir_remove(dirs[0]);
	rig_dir_remove(dirs[1]);
	return 0;
}

/* The last sector is old or new, also where the file has grown to its end. */
static void a_new_odd_end_is_never_seen_half_written(void **state)
{
	static char w[512], buf[512];
	struct iovec wv = { w, 512 }, rv = { buf, 512 };
	const char *path;
	struct rig g;

	(void)state;
	open_new(&g, dirs[1], 4096, TD_NODE_NO_DIRECT);
	for (unsigned i = 0; i < 400; i++) {
		struct rig_all all = { .g = &g };
		uint64_t at = 4096 + i * 512;

		path = rig_file(dirs[1], "a.img", at + 300);
		(void)path;
		assert_int_equal(rig_resize(&g, 0), 0);
		memset(w, 'x', 512);
		rig_all_add(&all, TD_OP_READ, 0, at, 512, &rv, 1);
		rig_all_add(&all, TD_OP_WRITE, 0, at, 512, &wv, 1);
		rig_all_wait(&all);
		assert_int_equal(all.good, 2);
		assert_int_equal(buf[0], buf[511]);
	}
	finish(&g);
}

/* Two threads copy to and from the same pages: who reads has to wait. */
static void a_cached_read_waits_for_a_write(void **state)
{
	static char w[8 * MiB], buf[8 * MiB];
	struct iovec wv = { w, sizeof(w) }, rv = { buf, sizeof(buf) };
	struct rig g;

	(void)state;
	open_new(&g, dirs[1], sizeof(w), TD_NODE_NO_DIRECT);
	for (int i = 1; i < 9; i++) {
		struct rig_all all = { .g = &g };

		memset(w, i, sizeof(w));
		rig_all_add(&all, TD_OP_WRITE, 0, 0, sizeof(w), &wv, 1);
		rig_all_add(&all, TD_OP_READ, 0, 0, sizeof(w), &rv, 1);
		rig_all_wait(&all);
		assert_int_equal(all.good, 2);
		assert_memory_equal(buf, w, sizeof(w));
	}
	finish(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_requests_equal_the_model),
		cmocka_unit_test(overlapping_small_requests_lose_nothing),
		cmocka_unit_test(requests_larger_than_a_bounce_buffer),
		cmocka_unit_test(tail_reads_zeroes_and_writing_it_grows_the_file),
		cmocka_unit_test(a_file_cut_short_reads_as_zeroes),
		cmocka_unit_test(refusals_are_explained),
		cmocka_unit_test(read_only_goes_down_to_the_open_flags),
		cmocka_unit_test(
			a_read_only_descriptor_does_not_make_a_writable_disk),
		cmocka_unit_test(discard_gives_space_back_and_no_hole_keeps_it),
		cmocka_unit_test(block_status_is_that_of_the_file),
		cmocka_unit_test(resize_grows_and_never_shrinks),
		cmocka_unit_test(resize_goes_no_further_than_open),
		cmocka_unit_test(a_new_odd_end_is_never_seen_half_written),
		cmocka_unit_test(a_cached_read_waits_for_a_write),
		cmocka_unit_test(few_io_submits_for_all_requests_of_a_pass),
		cmocka_unit_test(flush_and_fua_complete),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
