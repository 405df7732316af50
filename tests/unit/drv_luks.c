/* The luks disk type: random requests against a model, whatever their alignment;
 * what the file holds; what opening refuses. */
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
#include "crypto/crypt.h"
#include "drv_model.h"
#include "drv_rig.h"
#include "loop/loop.h"
#include "luks_rig.h"
#include "mem_store.h"

#define SIZE (4 * MiB)

static const struct luks_format v1 = { .iter_ms = 1 };
static const struct luks_format v2_4k = { .iter_ms = 1, .version = 2,
					  .sector = 4096 };
static const struct luks_format cbc = { .iter_ms = 1, .mode = "cbc-essiv:sha256" };

static const char *dir;
static char path[300];
static struct td_secret secret;

static void make(const struct luks_format *f, uint64_t size)
{
	snprintf(path, sizeof(path), "%s/a.luks", dir);
	luks_file(path, f, "sesame", size);
}

static int try_open(struct rig *g, unsigned flags)
{
	char spec[320];
	int err;

	snprintf(spec, sizeof(spec), "luks:%s", path);
	secret = luks_secret("sesame");
	rig_init(g);
	g->env.secrets = &secret;
	g->env.n_secrets = 1;
	err = rig_open(g, spec, flags);
	return err;
}

static void open_new(struct rig *g, const struct luks_format *f, unsigned flags)
{
	make(f, SIZE);
	assert_int_equal(try_open(g, flags), 0);
	assert_int_equal(td_tree_root(g->tree)->size, SIZE);
}

static void finish(struct rig *g)
{
	assert_int_equal(rig_close(g), 0);
	rig_free(g);
}

static void differential(const struct luks_format *f, unsigned flags, unsigned unit,
			 unsigned max_len, unsigned requests, uint64_t span)
{
	struct model_run how = { .seed = rig_seed(), .requests = requests,
				 .depth = 48, .unit = unit, .max_len = max_len,
				 .span = span };
	struct rig g;

	open_new(&g, f, flags);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, SIZE, NULL), 0);
	assert_int_equal(model_run(&g, &how), 0);
	finish(&g);
}

static void random_requests_equal_the_model(void **state)
{
	(void)state;
	differential(&v1, 0, 512, 256 * KiB, 3000, 0);
	differential(&v1, TD_NODE_NO_DIRECT, 512, 64 * KiB, 2000, 0);
	differential(&v2_4k, 0, 512, 512 * KiB, 1000, 0);
	differential(&cbc, 0, 512, 64 * KiB, 1000, 0);
}

/* Parts of an encrypted sector: neighbours in it survive. */
static void odd_requests_equal_the_model(void **state)
{
	(void)state;
	differential(&v1, 0, 64, 4096, 2000, 16 * KiB);
	differential(&v2_4k, 0, 512, 16 * KiB, 2000, 64 * KiB);
	differential(&v2_4k, 0, 512, 300 * KiB, 1000, 0);
	differential(&v2_4k, TD_NODE_NO_DIRECT, 64, 8192, 1000, 32 * KiB);
}

static void read_raw(uint64_t off, void *buf, size_t len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, buf, len, (off_t)off), len);
	close(fd);
}

/* The file holds nothing that was written, and everything when decrypted. */
static void the_file_holds_what_a_key_can_read(void **state)
{
	static unsigned char buf[64 * KiB], raw[64 * KiB];
	uint64_t payload = crypt_luks_header_bytes(&v1), random = rig_seed();
	struct rig g;

	(void)state;
	open_new(&g, &v1, 0);
	rig_fill(&random, buf, sizeof(buf));
	assert_int_equal(rig_write(&g, MiB, sizeof(buf), buf), 0);
	read_raw(payload + MiB, raw, sizeof(raw));
	for (size_t at = 0; at < sizeof(buf); at += 512)
		assert_memory_not_equal(raw + at, buf + at, 512);
	/* Zeroes are encrypted too, and differ from sector to sector. */
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, MiB, sizeof(buf), NULL), 0);
	read_raw(payload + MiB, raw, sizeof(raw));
	for (size_t at = 512; at < sizeof(raw); at += 512)
		assert_memory_not_equal(raw, raw + at, 512);
	assert_int_equal(rig_read(&g, MiB, sizeof(buf), buf), 0);
	assert_true(!buf[0] && !memcmp(buf, buf + 1, sizeof(buf) - 1));
	finish(&g);
}

/* A guest's page that changes under a write, and one that is written from a
 * constant: the memory of a write is never touched. */
static void the_memory_of_a_write_stays_as_it_is(void **state)
{
	static unsigned char buf[256 * KiB];
	struct rig g;

	(void)state;
	memset(buf, 'x', sizeof(buf));
	open_new(&g, &v1, 0);
	for (uint64_t len = 512; len <= sizeof(buf); len *= 2) {
		assert_int_equal(rig_write(&g, 0, len, buf), 0);
		assert_true(buf[0] == 'x' && !memcmp(buf, buf + 1, len - 1));
	}
	finish(&g);
}

static void durable_writes_of_every_size_read_back(void **state)
{
	static unsigned char buf[MiB], back[MiB];
	static const uint64_t lens[] = { 512, 4096, 128 * KiB, 128 * KiB + 512, MiB };
	uint64_t random = rig_seed();
	struct rig g;

	(void)state;
	open_new(&g, &v1, 0);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		rig_fill(&random, buf, lens[i]);
		assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 512, lens[i],
					buf), 0);
		assert_int_equal(rig_read(&g, 512, lens[i], back), 0);
		assert_memory_equal(buf, back, lens[i]);
	}
	assert_int_equal(rig_io(&g, TD_OP_WRITE, 0, 512, 0, NULL), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	finish(&g);
}

static void resize_makes_the_file_longer(void **state)
{
	static unsigned char buf[4096], back[4096];
	struct stat st;
	struct rig g;

	(void)state;
	memset(buf, 'x', sizeof(buf));
	open_new(&g, &v1, 0);
	assert_int_equal(rig_resize(&g, SIZE + 8 * MiB), 0);
	assert_int_equal(td_tree_root(g.tree)->size, SIZE + 8 * MiB);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size,
			 crypt_luks_header_bytes(&v1) + SIZE + 8 * MiB);
	assert_int_equal(rig_write(&g, SIZE + 8 * MiB - 4096, 4096, buf), 0);
	assert_int_equal(rig_read(&g, SIZE + 8 * MiB - 4096, 4096, back), 0);
	assert_memory_equal(buf, back, sizeof(buf));
	assert_int_equal(rig_resize(&g, SIZE), -ERANGE);
	assert_int_equal(rig_resize(&g, UINT64_MAX - 511), -EINVAL);
	/* Grown by somebody else. */
	assert_int_equal(truncate(path, st.st_size + (off_t)MiB), 0);
	assert_int_equal(rig_resize(&g, 0), 0);
	assert_int_equal(td_tree_root(g.tree)->size, SIZE + 9 * MiB);
	finish(&g);
}

/* A length that is no multiple of the host's block stays what it is. */
static void an_odd_file_keeps_its_length(void **state)
{
	static unsigned char buf[8192];
	struct stat st;
	struct rig g;

	(void)state;
	make(&v1, SIZE + 512);
	assert_int_equal(try_open(&g, 0), 0);
	assert_int_equal(td_tree_root(g.tree)->size, SIZE + 512);
	assert_int_equal(rig_write(&g, SIZE - 512, 1024, buf), 0);
	finish(&g);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, crypt_luks_header_bytes(&v1) + SIZE + 512);
}

static void refused(struct rig *g, unsigned flags, int want, const char *says)
{
	assert_int_equal(try_open(g, flags), want);
	if (!strstr(rig_why(), says))
		fail_msg("'%s' lacks '%s'", rig_why(), says);
	rig_free(g);
}

static void what_cannot_be_opened_says_why(void **state)
{
	struct rig g;

	(void)state;
	make(&v1, SIZE);
	assert_int_equal(truncate(path, 100), 0);
	refused(&g, 0, -EINVAL, "neither on nor off");
	assert_int_equal(truncate(path, 0) || truncate(path, 4096), 0);
	refused(&g, 0, -EINVAL, "no LUKS header");
	assert_int_equal(unlink(path), 0);
	refused(&g, 0, -ENOENT, "No such file");
	luks_file(path, &v1, "other", SIZE);
	refused(&g, TD_NODE_RDONLY, -EKEYREJECTED, "no passphrase given opens it");
}

static void a_disk_that_is_only_read_is_not_written(void **state)
{
	static unsigned char buf[4096];
	struct rig g;

	(void)state;
	open_new(&g, &v1, TD_NODE_RDONLY);
	assert_int_equal(rig_read(&g, 0, sizeof(buf), buf), 0);
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, 4096, NULL), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	finish(&g);
}

/* More at once than there are buffers for, most of it in workers. */
static void large_requests_wait_for_buffers(void **state)
{
	static unsigned char buf[RIG_DEPTH][MiB / 2];
	struct iovec iov[RIG_DEPTH];
	struct rig g;

	(void)state;
	make(&v1, RIG_DEPTH * (MiB / 2));
	assert_int_equal(try_open(&g, 0), 0);
	for (int read = 0; read < 2; read++) {
		struct rig_all all = { .g = &g };

		for (unsigned i = 0; i < RIG_DEPTH; i++) {
			memset(buf[i], read ? 0 : (int)i + 1, sizeof(buf[i]));
			iov[i] = (struct iovec){ buf[i], sizeof(buf[i]) };
			rig_all_add(&all, read ? TD_OP_READ : TD_OP_WRITE, 0,
				    i * sizeof(buf[i]), sizeof(buf[i]), &iov[i], 1);
		}
		rig_all_wait(&all);
		assert_int_equal(all.good, RIG_DEPTH);
	}
	for (unsigned i = 0; i < RIG_DEPTH; i++)
		assert_true(buf[i][0] == i + 1 &&
			    !memcmp(buf[i], buf[i] + 1, sizeof(buf[i]) - 1));
	finish(&g);
}

/* A store that answers in an order of its own, and fails when told. */

static struct mem_store mem;

static void open_mem(struct rig *g, const struct luks_format *f)
{
	make(f, SIZE);
	mem_store_init(&mem, rig_seed());
	mem_image_load(&mem.file[mem_store_file(&mem, "a")].image, path);
	secret = luks_secret("sesame");
	rig_init(g);
	g->env.secrets = &secret;
	g->env.n_secrets = 1;
	g->env.store = &mem_store_driver;
	assert_int_equal(rig_open(g, "luks:a", 0), 0);
}

/* Of an encrypted sector that is discarded in part nothing may be lost: here by a store that
 * discards to the byte. */
static void discards_spare_what_is_around_them(void **state)
{
	static unsigned char buf[32 * KiB], back[32 * KiB];
	struct rig g;

	(void)state;
	memset(buf, 'x', sizeof(buf));
	open_mem(&g, &v2_4k);
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 512, 1024, NULL), 0);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 8192 - 512, 8192 + 1024, NULL),
			 0);
	assert_int_equal(rig_read(&g, 0, sizeof(back), back), 0);
	assert_memory_equal(back, buf, 8192);
	assert_memory_equal(back + 16384, buf, sizeof(buf) - 16384);
	finish(&g);
	mem_store_free(&mem);
}

static void any_order_of_answers_equals_the_model(void **state)
{
	struct model_run how = { .seed = rig_seed(), .requests = 3000, .depth = 64,
				 .unit = 512, .max_len = 300 * KiB };
	struct rig g;

	(void)state;
	open_mem(&g, &v2_4k);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, SIZE, NULL), 0);
	assert_int_equal(model_run(&g, &how), 0);
	finish(&g);
	mem_store_free(&mem);
}

static void fails(struct rig *g, unsigned ops, unsigned nth, enum td_op op,
		  unsigned flags, uint64_t off, void *buf)
{
	const struct mem_fault f = { .ops = ops, .nth = nth, .count = 1,
				     .err = -ENOSPC };

	mem_store_fail(&mem, &f);
	assert_int_equal(rig_io(g, op, flags, off, MiB, buf), -ENOSPC);
	mem_store_fail(&mem, NULL);
	/* And it is over. */
	assert_int_equal(rig_io(g, op, flags, off, MiB, buf), 0);
}

static void errors_of_the_store_come_through(void **state)
{
	static unsigned char buf[MiB];
	const struct mem_fault flush = { .ops = 1u << TD_OP_FLUSH, .nth = 1,
					 .count = 1, .err = -EIO };
	struct rig g;

	(void)state;
	open_mem(&g, &v2_4k);
	for (unsigned nth = 1; nth <= 8; nth++) {
		fails(&g, 1u << TD_OP_WRITE, nth, TD_OP_WRITE, 0, 0, buf);
		fails(&g, 1u << TD_OP_WRITE, nth, TD_OP_WRITE, 0, 512, buf);
		fails(&g, 1u << TD_OP_READ, nth, TD_OP_READ, 0, 512, buf);
	}
	fails(&g, 1u << TD_OP_READ, 1, TD_OP_READ, 0, 0, buf);
	fails(&g, 1u << TD_OP_READ, 2, TD_OP_WRITE, 0, 512, buf);
	/* A flush that failed is never over. */
	mem_store_fail(&mem, &flush);
	assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 0, MiB, buf), -EIO);
	finish(&g);
	mem_store_free(&mem);
}

/* All waiting ones too, with their buffers. */
static void many_failures_at_once_lose_no_request(void **state)
{
	static unsigned char buf[RIG_DEPTH][MiB];
	const struct mem_fault f = { .ops = 1u << TD_OP_WRITE, .nth = 5,
				     .err = -EIO };
	struct iovec iov[RIG_DEPTH];
	struct rig g;
	struct rig_all all = { .g = &g };

	(void)state;
	open_mem(&g, &v1);
	mem_store_fail(&mem, &f);
	for (unsigned i = 0; i < RIG_DEPTH; i++) {
		iov[i] = (struct iovec){ buf[i], sizeof(buf[i]) };
		rig_all_add(&all, TD_OP_WRITE, i % 2 ? TD_REQ_FUA : 0, i * 512,
			    sizeof(buf[i]), &iov[i], 1);
	}
	rig_all_wait(&all);
	assert_int_equal(all.good + all.failed, RIG_DEPTH);
	assert_int_equal(all.err, -EIO);
	mem_store_fail(&mem, NULL);
	assert_int_equal(rig_write(&g, 0, MiB, buf[0]), 0);
	finish(&g);
	mem_store_free(&mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_requests_equal_the_model),
		cmocka_unit_test(odd_requests_equal_the_model),
		cmocka_unit_test(the_file_holds_what_a_key_can_read),
		cmocka_unit_test(the_memory_of_a_write_stays_as_it_is),
		cmocka_unit_test(durable_writes_of_every_size_read_back),
		cmocka_unit_test(discards_spare_what_is_around_them),
		cmocka_unit_test(resize_makes_the_file_longer),
		cmocka_unit_test(an_odd_file_keeps_its_length),
		cmocka_unit_test(what_cannot_be_opened_says_why),
		cmocka_unit_test(a_disk_that_is_only_read_is_not_written),
		cmocka_unit_test(large_requests_wait_for_buffers),
		cmocka_unit_test(any_order_of_answers_equals_the_model),
		cmocka_unit_test(errors_of_the_store_come_through),
		cmocka_unit_test(many_failures_at_once_lose_no_request),
	};
	int rc;

	dir = rig_dir(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	rig_dir_remove(dir);
	return rc;
}
