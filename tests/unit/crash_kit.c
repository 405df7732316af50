/* The kit of crash tests, by itself: the store in memory fails when told and keeps
 * a true record; a power cut leaves what it must and nothing else; the model knows
 * a wrong sector; the judge knows a damaged image. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "disk_model.h"
#include "drv_model.h"
#include "drv_rig.h"
#include "image_judge.h"
#include "mem_store.h"
#include "power_cut.h"

#define SIZE (64 * KiB)

static struct rig g;
static struct mem_store m;
static char a[4096], b[4096], out[4096];

static void open_disk(void)
{
	rig_init(&g);
	g.env.store = &mem_store_driver;
	mem_store_init(&m, 1);
	mem_image_resize(&m.file[mem_store_file(&m, "disk")].image, SIZE);
	m.record = true;
	memset(a, 'a', sizeof(a));
	memset(b, 'b', sizeof(b));
	assert_int_equal(rig_open(&g, "aio:disk", 0), 0);
}

static void close_disk(void)
{
	assert_int_equal(rig_close(&g), 0);
	mem_store_free(&m);
	rig_free(&g);
}

static void copies_of_images_do_not_change_each_other(void **state)
{
	struct mem_image x = { 0 }, y = { 0 };
	uint64_t end;

	mem_image_write(&x, 5000, "abc", 3);
	mem_image_copy(&y, &x);
	assert_int_equal(mem_image_hash(&x), mem_image_hash(&y));
	mem_image_write(&y, 5001, "x", 1);
	mem_image_read(&x, 4999, out, 5);
	assert_memory_equal(out, "\0abc\0", 5);
	mem_image_read(&y, 4999, out, 5);
	assert_memory_equal(out, "\0axc\0", 5);
	assert_int_not_equal(mem_image_hash(&x), mem_image_hash(&y));
	mem_image_resize(&x, 5001);
	mem_image_resize(&x, 9000);
	mem_image_read(&x, 5000, out, 3);
	assert_memory_equal(out, "a\0\0", 3);
	assert_false(mem_image_data(&x, 0, &end));
	assert_int_equal(end, 4096);
	assert_true(mem_image_data(&x, 4096, &end));
	assert_int_equal(end, 8192);
	mem_image_free(&x);
	mem_image_free(&y);
	(void)state;
}

static void store_equals_the_model(void **state)
{
	struct model_run how = { .seed = rig_seed(), .requests = 3000,
				 .depth = 32, .unit = 512, .max_len = 16384 };

	open_disk();
	m.random = how.seed;
	assert_int_equal(model_run(&g, &how), 0);
	assert_true(m.depth > 8);
	close_disk();
	(void)state;
}

static void faults_come_when_told(void **state)
{
	struct mem_fault f = { .ops = 1u << TD_OP_WRITE, .nth = 2, .count = 1,
			       .err = -ENOSPC, .keep = 1 };

	open_disk();
	mem_store_fail(&m, &f);
	assert_int_equal(rig_write(&g, 0, 4096, a), 0);
	assert_int_equal(rig_write(&g, 0, 4096, b), -ENOSPC);
	assert_int_equal(rig_write(&g, 8192, 4096, b), 0);
	assert_int_equal(m.hits, 1);
	assert_int_equal(rig_read(&g, 0, 1024, out), 0);
	assert_memory_equal(out, b, 512);
	assert_memory_equal(out + 512, a, 512);

	f = (struct mem_fault){ .ops = 1u << TD_OP_FLUSH, .nth = 1, .count = 1,
				.err = -EIO };
	mem_store_fail(&m, &f);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), -EIO);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), -EIO);
	m.max_bytes = SIZE;
	assert_int_equal(rig_resize(&g, 2 * SIZE), -ENOSPC);
	close_disk();
	(void)state;
}

static void cut_leaves(struct power_cut *c, enum power_cut_how how, uint64_t which,
		       uint64_t off, char first, char second)
{
	struct mem_image files[MEM_FILES] = { { 0 } };

	power_cut_build(c, how, which, files);
	mem_image_read(&files[0], off, out, 1024);
	assert_int_equal(out[0], first);
	assert_int_equal(out[512], second);
	mem_image_free(&files[0]);
}

static void what_was_flushed_survives_a_cut(void **state)
{
	struct mem_image start[1] = { { 0 } };
	struct power_cut c;
	bool torn = false;

	open_disk();
	mem_image_copy(&start[0], &m.file[0].image);
	assert_int_equal(rig_write(&g, 0, 4096, a), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(rig_write(&g, 0, 4096, b), 0);
	assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 8192, 4096,
				&(char[4096]){ 'f' }), 0);
	power_cut_init(&c, &m, start);

	/* Before anything was: nothing.  Before the flush has ended: perhaps. */
	cut_leaves(&c, CUT_STABLE, 0, 0, 0, 0);
	power_cut_go(&c, m.ops[1].end);
	cut_leaves(&c, CUT_STABLE, 0, 0, 0, 0);
	cut_leaves(&c, CUT_DONE, 0, 0, 'a', 'a');
	power_cut_go(&c, m.ops[1].end + 1);
	cut_leaves(&c, CUT_STABLE, 0, 0, 'a', 'a');
	/* The second write is under way. */
	power_cut_go(&c, m.ops[2].begin + 1);
	cut_leaves(&c, CUT_DONE, 0, 0, 'a', 'a');
	cut_leaves(&c, CUT_BEGUN, 0, 0, 'b', 'b');
	power_cut_go(&c, m.clock);
	cut_leaves(&c, CUT_STABLE, 0, 8192, 'f', 0);
	cut_leaves(&c, CUT_STABLE, 0, 0, 'a', 'a');
	for (uint64_t i = 0; i < 50; i++) {
		struct mem_image files[MEM_FILES] = { { 0 } };

		power_cut_build(&c, CUT_TORN, i, files);
		mem_image_read(&files[0], 0, out, 1024);
		assert_true((out[0] == 'a' || out[0] == 'b') &&
			    (out[512] == 'a' || out[512] == 'b'));
		torn |= out[0] != out[512];
		mem_image_free(&files[0]);
	}
	assert_true(torn);
	power_cut_free(&c);
	mem_image_free(&start[0]);
	close_disk();
	(void)state;
}

static void a_file_that_may_still_be_short_has_no_tail(void **state)
{
	struct mem_image start[1] = { { 0 } };
	struct power_cut c;

	open_disk();
	mem_image_copy(&start[0], &m.file[0].image);
	assert_int_equal(rig_resize(&g, 2 * SIZE), 0);
	assert_int_equal(rig_write(&g, SIZE, 4096, a), 0);
	power_cut_init(&c, &m, start);
	power_cut_go(&c, m.clock);
	cut_leaves(&c, CUT_DONE, 0, SIZE, 'a', 'a');
	cut_leaves(&c, CUT_STABLE, 0, SIZE, 0, 0);
	/* Written, but the file is not that long. */
	for (uint64_t i = 0; i < 2; i++)
		cut_leaves(&c, CUT_BUT_ONE, i, SIZE, 0, 0);
	power_cut_free(&c);
	mem_image_free(&start[0]);
	close_disk();
	(void)state;
}

static void model_knows_old_from_lost(void **state)
{
	static const char none[4096];
	struct disk_model *d = disk_model_new(none, sizeof(none));
	uint32_t w1, w2, w3, f;

	w1 = disk_model_begin(d, TD_OP_WRITE, 0, 0, 512, 1);
	disk_model_end(d, w1, 0, 2);
	f = disk_model_begin(d, TD_OP_FLUSH, 0, 0, 0, 3);
	disk_model_end(d, f, 0, 4);
	w2 = disk_model_begin(d, TD_OP_WRITE, 0, 0, 512, 5);
	disk_model_end(d, w2, 0, 6);
	w3 = disk_model_begin(d, TD_OP_WRITE, 0, 512, 512, 7);
	disk_model_end(d, w3, -EIO, 8);

	disk_model_stamp(w1, 0, out);
	assert_int_equal(disk_model_cut(d, 0, out, 512, 9), 0);
	/* A live read must see the last. */
	assert_int_equal(disk_model_read(d, 0, out, 512, 9, 10), 1);
	assert_int_equal(disk_model_read(d, 0, out, 512, 6, 10), 0);
	disk_model_stamp(w2, 0, out);
	assert_int_equal(disk_model_cut(d, 0, out, 512, 9), 0);
	assert_int_equal(disk_model_cut(d, 0, out, 512, 5), 1);	/* not yet */
	/* Before the flush zeroes may be there, after it no more. */
	assert_int_equal(disk_model_cut(d, 0, none, 512, 4), 0);
	assert_int_equal(disk_model_cut(d, 0, none, 512, 5), 1);
	/* A failed write may be there or not, its neighbour's bytes never. */
	disk_model_stamp(w3, 1, out);
	assert_int_equal(disk_model_cut(d, 512, out, 512, 9), 0);
	assert_int_equal(disk_model_cut(d, 512, none, 512, 9), 0);
	disk_model_stamp(w1, 0, out);
	assert_int_equal(disk_model_cut(d, 512, out, 512, 9), 1);
	disk_model_free(d);
	(void)state;
}

static void qemu_image(struct mem_image *x, const char *options, const char *fmt)
{
	const char *dir = rig_dir(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	char line[512];

	snprintf(line, sizeof(line), "qemu-img create -q -f %s %s %s/i 1M && "
		 "qemu-io -f %s -c 'write -q 0 300k' -c 'write -q 700k 9k' %s/i "
		 ">/dev/null", fmt, options, dir, fmt, dir);
	if (system(line)) {
		rig_dir_remove(dir);
		skip();
	}
	snprintf(line, sizeof(line), "%s/i", dir);
	mem_image_load(x, line);
	rig_dir_remove(dir);
}

static void judge_agrees_with_qemu(void **state)
{
	static const char *const images[][2] = {
		{ "", "qcow2" }, { "-o cluster_size=512", "qcow2" },
		{ "-o refcount_bits=1", "qcow2" },
		{ "-o refcount_bits=64,extended_l2=on", "qcow2" },
		{ "-o compat=0.10,cluster_size=4k", "qcow2" },
		{ "", "qcow" }, { "", "vmdk" },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(images); i++) {
		struct mem_image x = { 0 };
		struct judgement j;

		qemu_image(&x, images[i][0], images[i][1]);
		image_judge(images[i][1], &x, &j);
		if (j.errors)
			printf("%s %s: %s\n", images[i][1], images[i][0], j.first);
		assert_int_equal(j.errors + j.leaks, 0);
		mem_image_free(&x);
	}
	(void)state;
}

static void judge_knows_damage(void **state)
{
	struct mem_image x = { 0 }, y = { 0 };
	struct judgement j;
	unsigned char e[8];
	uint64_t l1, l2, blocks;

	qemu_image(&x, "", "qcow2");
	mem_image_read(&x, 40, e, 8);
	l1 = get_be64(e);
	mem_image_read(&x, l1, e, 8);
	l2 = get_be64(e) & 0x00fffffffffffe00;
	mem_image_read(&x, 48, e, 8);
	mem_image_read(&x, get_be64(e), e, 8);
	blocks = get_be64(e);

	/* A count too high is a leak, too low is damage. */
	mem_image_copy(&y, &x);
	mem_image_write(&y, blocks + 2 * (x.size / 65536), "\0\1", 2);
	mem_image_resize(&y, x.size + 65536);
	image_judge("qcow2", &y, &j);
	assert_int_equal(j.errors, 0);
	assert_int_equal(j.leaks, 1);
	mem_image_copy(&y, &x);
	mem_image_write(&y, blocks + 2 * 5, "\0\0", 2);
	image_judge("qcow2", &y, &j);
	assert_true(j.errors);

	/* Two places of the disk in one cluster, counted right. */
	mem_image_copy(&y, &x);
	mem_image_read(&y, l2, e, 8);
	e[0] &= 0x7f;
	mem_image_write(&y, l2, e, 8);
	mem_image_write(&y, l2 + 8, e, 8);
	image_judge("qcow2", &y, &j);
	assert_true(j.errors);
	mem_image_free(&x);
	mem_image_free(&y);
	(void)state;
}

static bool qemu_finds_it_clean(const struct mem_image *x)
{
	const char *dir = rig_dir(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	char path[256], line[512];
	int status;

	snprintf(path, sizeof(path), "%s/i", dir);
	mem_image_save(x, path);
	snprintf(line, sizeof(line), "qemu-img check -q -f qcow2 %s 2>/dev/null", path);
	status = system(line);
	rig_dir_remove(dir);
	return !status;
}

/* A compressed cluster may take sectors behind the file's end: those of the next cluster
 * alone, and only if that is counted. */
static void judge_knows_what_is_packed_at_the_end(void **state)
{
	static const struct {
		unsigned sectors, count;	/* taken; of the cluster behind the end */
		bool clean;
	} t[] = {
		{ 1, 0, true }, { 2, 0, false }, { 2, 1, true }, { 128, 1, true },
		{ 129, 0, false }, { 129, 1, false }, { 256, 0, false },
	};
	struct mem_image x = { 0 };
	unsigned char e[8];
	uint64_t l2, blocks, end;

	qemu_image(&x, "", "qcow2");
	mem_image_read(&x, 40, e, 8);
	mem_image_read(&x, get_be64(e), e, 8);
	l2 = get_be64(e) & 0x00fffffffffffe00;
	mem_image_read(&x, 48, e, 8);
	mem_image_read(&x, get_be64(e), e, 8);
	blocks = get_be64(e);
	end = x.size + 65536;
	mem_image_write(&x, blocks + 2 * (x.size / 65536), "\0\1", 2);
	mem_image_resize(&x, end);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		struct mem_image y = { 0 };
		struct judgement j;

		mem_image_copy(&y, &x);
		put_be64(e, 1ull << 62 | (t[i].sectors - 1ull) << 54 | (end - 512));
		mem_image_write(&y, l2 + 8 * 14, e, 8);
		put_be64(e, (uint64_t)t[i].count << 48);
		mem_image_write(&y, blocks + 2 * (end / 65536), e, 2);
		image_judge("qcow2", &y, &j);
		assert_int_equal(qemu_finds_it_clean(&y), t[i].clean);
		assert_int_equal(!j.errors && !j.leaks, t[i].clean);
		mem_image_free(&y);
	}
	mem_image_free(&x);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_of_images_do_not_change_each_other),
		cmocka_unit_test(store_equals_the_model),
		cmocka_unit_test(faults_come_when_told),
		cmocka_unit_test(what_was_flushed_survives_a_cut),
		cmocka_unit_test(a_file_that_may_still_be_short_has_no_tail),
		cmocka_unit_test(model_knows_old_from_lost),
		cmocka_unit_test(judge_agrees_with_qemu),
		cmocka_unit_test(judge_knows_damage),
		cmocka_unit_test(judge_knows_what_is_packed_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
