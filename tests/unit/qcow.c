/* qcow (version 1) images: QEMU's, our own, and those that QEMU cannot make or reads
 * wrongly, made by hand: read, written, reopened, and judged by QEMU where it is
 * right.  Hostile tables do no harm. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "image_rig.h"

#define SIZE (3 * MiB + 7 * 512)


static const char *path(const char *name)
{
	static char p[4][PATH_MAX];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(p[i], sizeof(p[i]), "%s/%s", group.dir, name);
	return p[i];
}

/* below: further lines of the spec, or NULL. */
static const char *spec(const char *image, const char *below)
{
	static char s[2 * PATH_MAX];

	snprintf(s, sizeof(s), "qcow:%s%s%s", image, below ? "\n" : "",
		 below ? below : "");
	return s;
}

static void work_on(const char *image, const char *below, struct ref *r)
{
	group.seed += 2;
	assert_int_equal(image_work(spec(image, below), r, group.seed), 0);
}

static void qemu_agrees(const char *image, const struct ref *r)
{
	ref_save(r, path("want.raw"));
	shell("qemu-img compare -q -f qcow -F raw %s %s", image, path("want.raw"));
}

static void images_of_qemu(void **state)
{
	struct ref r = ref_new(SIZE);

	(void)state;
	shell_needs("qemu-img");
	for (unsigned packed = 0; packed < 2; packed++) {
		ref_fill(&r, group.seed++);
		ref_save(&r, path("a.raw"));
		/* 7.2 ends with 1 after a good conversion with -c. */
		shell_status("qemu-img convert -q %s -f raw -O qcow %s %s 2>/dev/null",
			     packed ? "-c" : "", path("a.raw"), path("a.qcow"));
		work_on(path("a.qcow"), NULL, &r);
		qemu_agrees(path("a.qcow"), &r);
	}
	ref_free(&r);
}

/* A file of 560 bytes: its tables are behind its end. */
static void an_image_shorter_than_its_tables(void **state)
{
	struct ref r = ref_new(SIZE);
	struct stat st;

	(void)state;
	shell_needs("qemu-img");
	shell("qemu-img create -q -f qcow %s %llu", path("s.qcow"), SIZE);
	assert_int_equal(truncate(path("s.qcow"), 48), 0);
	work_on(path("s.qcow"), NULL, &r);
	qemu_agrees(path("s.qcow"), &r);
	assert_int_equal(stat(path("s.qcow"), &st), 0);
	assert_true(st.st_size > 4096);
	ref_free(&r);
}

static void with_a_backing_file(void **state)
{
	struct ref r = ref_new(SIZE), base = ref_new(2 * MiB + 512);
	char below[PATH_MAX + 8];

	(void)state;
	shell_needs("qemu-img");
	ref_fill(&base, group.seed++);
	ref_save(&base, path("base.raw"));
	shell("qemu-img create -q -f qcow -b base.raw -F raw %s %llu", path("t.qcow"),
	      SIZE);
	memcpy(r.bytes, base.bytes, base.size);
	snprintf(below, sizeof(below), "aio:%s", path("base.raw"));
	work_on(path("t.qcow"), below, &r);
	qemu_agrees(path("t.qcow"), &r);
	/* The image does not say what the file is: we do not guess. */
	image_refused(spec(path("t.qcow"), NULL), 0, "base.raw");
	ref_load(&r, path("base.raw"));
	assert_memory_equal(r.bytes, base.bytes, base.size);
	ref_free(&base);
	ref_free(&r);
}

static void what_we_make_is_good_for_qemu(void **state)
{
	struct ref r = ref_new(SIZE), base = ref_new(SIZE);
	char below[PATH_MAX + 8];

	(void)state;
	shell_needs("qemu-img");
	assert_int_equal(image_make("qcow", path("m.qcow"), SIZE, NULL, ""), 0);
	qemu_agrees(path("m.qcow"), &r);
	work_on(path("m.qcow"), NULL, &r);
	qemu_agrees(path("m.qcow"), &r);

	ref_fill(&base, group.seed++);
	ref_save(&base, path("base2.raw"));
	assert_int_equal(image_make("qcow", path("n.qcow"), SIZE, "base2.raw", ""), 0);
	memcpy(r.bytes, base.bytes, SIZE);
	snprintf(below, sizeof(below), "aio:%s", path("base2.raw"));
	qemu_agrees(path("n.qcow"), &r);
	work_on(path("n.qcow"), below, &r);
	qemu_agrees(path("n.qcow"), &r);
	ref_free(&base);
	ref_free(&r);
}

static void qemu_and_we_by_turns(void **state)
{
	struct ref r = ref_new(SIZE);

	(void)state;
	shell_needs("qemu-io");
	assert_int_equal(image_make("qcow", path("q.qcow"), SIZE, NULL, ""), 0);
	assert_int_equal(image_alternate(spec(path("q.qcow"), NULL), "qcow",
					 path("q.qcow"), &r, group.seed++, 20), 0);
	qemu_agrees(path("q.qcow"), &r);
	ref_free(&r);
}

static void encrypted(void **state)
{
	static const struct td_secret key = { (const unsigned char *)"open sesame", 11 };
	static const char *const opts = "driver=qcow,encrypt.format=aes,"
					"encrypt.key-secret=s,file.filename=";
	struct ref r = ref_new(SIZE);
	struct rig g;

	(void)state;
	shell_needs("qemu-img");
	ref_fill(&r, group.seed++);
	ref_save(&r, path("e.raw"));
	shell("qemu-img create -q -f qcow --object secret,id=s,data='open sesame' "
	      "-o encrypt.format=aes,encrypt.key-secret=s %s %llu 2>/dev/null",
	      path("e.qcow"), SIZE);
	shell("qemu-img convert -q -n -f raw --object secret,id=s,data='open sesame' "
	      "--target-image-opts %s %s%s 2>/dev/null", path("e.raw"), opts,
	      path("e.qcow"));
	image_refused(spec(path("e.qcow"), NULL), 0, "passphrase");
	for (unsigned i = 0; i < 2; i++) {
		rig_init(&g);
		g.env.secrets = &key;
		g.env.n_secrets = 1;
		assert_int_equal(rig_open(&g, spec(path("e.qcow"), NULL), 0), 0);
		assert_int_equal(image_differs(&g, &r), 0);
		assert_int_equal(image_random(&g, &r, group.seed++, 200, 512, 100 * KiB), 0);
		image_must_close(&g);
	}
	ref_save(&r, path("want.raw"));
	shell("qemu-img compare -q --object secret,id=s,data='open sesame' "
	      "--image-opts %s%s driver=raw,file.filename=%s 2>/dev/null", opts,
	      path("e.qcow"), path("want.raw"));
	ref_free(&r);
}

/* Images by hand. */

struct hand {
	unsigned cb, l2_bits;
	uint64_t l1_at;
	bool little;		/* Xen's first images */
	const char *backing;
	int fd;
	uint64_t end;		/* of the file */
	uint64_t entries;
};

static void put_at(int fd, uint64_t off, const void *buf, size_t len)
{
	assert_int_equal(pwrite(fd, buf, len, (off_t)off), len);
}

static void put64(int fd, uint64_t off, uint64_t v, bool little)
{
	uint8_t b[8];

	if (little)
		put_le64(b, v);
	else
		put_be64(b, v);
	put_at(fd, off, b, 8);
}

static uint64_t get64(int fd, uint64_t off)
{
	uint8_t b[8] = { 0 };

	assert_true(pread(fd, b, 8, (off_t)off) >= 0);
	return get_be64(b);
}

static void hand_begin(struct hand *h, const char *name, uint64_t size)
{
	uint8_t b[64] = "QFI\xfb\0\0\0\1";
	uint64_t span = 1ull << (h->cb + h->l2_bits), name_at;

	h->fd = open(path(name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(h->fd >= 0);
	h->entries = (size + span - 1) / span;
	h->end = align_up(h->l1_at + h->entries * 8, 512);
	if (h->backing) {
		name_at = h->end;		/* anywhere will do */
		h->end += 512;
		put_be64(b + 8, name_at);
		put_be32(b + 16, (uint32_t)strlen(h->backing));
		put_at(h->fd, name_at, h->backing, strlen(h->backing));
	}
	put_be64(b + 24, size);
	b[32] = (uint8_t)h->cb;
	b[33] = (uint8_t)h->l2_bits;
	put_be64(b + 40, h->l1_at);
	if (h->little)
		memcpy(b + 48, "XEN\xfb", 4);
	put_at(h->fd, 0, b, h->little ? 64 : 48);
	assert_int_equal(ftruncate(h->fd, (off_t)h->end), 0);
}

/* Where cluster c's entry is; its table is made. */
static uint64_t hand_entry(struct hand *h, uint64_t c)
{
	uint64_t at = h->l1_at + (c >> h->l2_bits) * 8, l2;
	uint64_t in = (c & ((1u << h->l2_bits) - 1)) * 8;
	uint8_t b[8] = { 0 };

	assert_int_equal(pread(h->fd, b, 8, (off_t)at), 8);
	l2 = h->little ? get_le64(b) : get_be64(b);
	if (!l2) {
		l2 = align_up(h->end, 1u << h->cb);
		h->end = l2 + (8ull << h->l2_bits);
		assert_int_equal(ftruncate(h->fd, (off_t)h->end), 0);
		put64(h->fd, at, l2, h->little);
	}
	return l2 + in;
}

static size_t squeeze(const uint8_t *in, size_t len, uint8_t *out, int window)
{
	z_stream z = { .next_in = (Bytef *)in, .avail_in = (uInt)len, .next_out = out,
		       .avail_out = (uInt)len - 1 };
	int rc;

	assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -window, 8, 0), Z_OK);
	rc = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return rc == Z_STREAM_END ? z.total_out : 0;
}

/* A cluster of r: as it is, or compressed, at any byte. */
static void hand_cluster(struct hand *h, const struct ref *r, uint64_t c, bool pack)
{
	static uint8_t in[64 * KiB], out[64 * KiB];
	uint64_t at = hand_entry(h, c), cs = 1ull << h->cb, off = c * cs;
	size_t len = min_u64(cs, r->size - off), n;

	memset(in, 0, cs);
	memcpy(in, r->bytes + off, len);
	n = pack ? squeeze(in, cs, out, 15) : 0;
	if (n) {
		put_at(h->fd, h->end, out, n);
		put64(h->fd, at, 1ull << 63 | (uint64_t)n << (63 - h->cb) | h->end,
		      false);
		h->end += n;
	} else {
		h->end = align_up(h->end, cs);
		put_at(h->fd, h->end, in, cs);
		put64(h->fd, at, h->end, false);
		h->end += cs;
	}
}

/* Half of the clusters hold what r says, the others nothing: what is below. */
static void hand_image(struct hand *h, const char *name, struct ref *r,
		       const struct ref *below)
{
	uint64_t cs = 1ull << h->cb;

	hand_begin(h, name, r->size);
	for (uint64_t c = 0; c * cs < r->size; c++) {
		uint64_t off = c * cs, len = min_u64(cs, r->size - off);

		switch (rig_random(&group.seed) % 4) {
		case 0:
			hand_cluster(h, r, c, true);
			break;
		case 1:
			hand_cluster(h, r, c, false);
			break;
		default:
			memset(r->bytes + off, 0, len);
			if (below && off < below->size)
				memcpy(r->bytes + off, below->bytes + off,
				       min_u64(len, below->size - off));
		}
	}
	close(h->fd);
}

static void all_sizes_of_clusters_and_tables(void **state)
{
	static const unsigned cbs[] = { 9, 12, 16 }, l2s[] = { 6, 9, 13 };
	static const uint64_t l1s[] = { 0x30, 0x38, 4096 };

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		struct hand h = { .cb = cbs[i / 3], .l2_bits = l2s[i % 3],
				  .l1_at = l1s[i % 3] };
		struct ref r = ref_new(SIZE);

		ref_fill(&r, group.seed++);
		hand_image(&h, "h.qcow", &r, NULL);
		work_on(path("h.qcow"), NULL, &r);
		if (!shell_status("command -v qemu-img >/dev/null"))
			qemu_agrees(path("h.qcow"), &r);
		ref_free(&r);
	}
}

/* QEMU copies nothing from below when a cluster is more than a sector: it is no
 * judge of this. */
static void large_clusters_with_a_backing_file(void **state)
{
	struct ref base = ref_new(2 * MiB + 5 * 512);
	char below[PATH_MAX + 8];

	(void)state;
	ref_fill(&base, group.seed++);
	ref_save(&base, path("hb.raw"));
	snprintf(below, sizeof(below), "aio:%s", path("hb.raw"));
	for (unsigned cb = 12; cb <= 16; cb += 4) {
		struct hand h = { .cb = cb, .l2_bits = 9, .l1_at = 0x30,
				  .backing = "hb.raw" };
		struct ref r = ref_new(SIZE);

		ref_fill(&r, group.seed++);
		hand_image(&h, "hc.qcow", &r, &base);
		work_on(path("hc.qcow"), below, &r);
		ref_free(&r);
	}
	ref_free(&base);
}

static void xens_images_keep_their_little_endian_table(void **state)
{
	struct hand h = { .cb = 12, .l2_bits = 9, .l1_at = 4096, .little = true };
	struct ref r = ref_new(SIZE);
	uint8_t b[8];
	int fd;

	(void)state;
	ref_fill(&r, group.seed++);
	hand_image(&h, "x.qcow", &r, NULL);
	work_on(path("x.qcow"), NULL, &r);
	fd = open(path("x.qcow"), O_RDONLY | O_CLOEXEC);
	for (uint64_t i = 0; i < h.entries; i++) {
		assert_int_equal(pread(fd, b, 8, (off_t)(4096 + i * 8)), 8);
		assert_true(get_le64(b) < 16 * MiB);
	}
	close(fd);
	ref_free(&r);
}

/* Space that is given back is used again, and leaves no blocks in the file. */
static void discards_give_space_back(void **state)
{
	struct ref r = ref_new(4 * MiB);
	struct stat before, after;
	struct rig g;

	(void)state;
	assert_int_equal(image_make("qcow", path("d.qcow"), r.size, NULL, ""), 0);
	image_must_open(&g, spec(path("d.qcow"), NULL), 0);
	rig_fill(&group.seed, r.bytes, r.size);
	assert_int_equal(rig_write(&g, 0, r.size, r.bytes), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(stat(path("d.qcow"), &before), 0);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, r.size, NULL), 0);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		assert_int_equal(rig_write(&g, 0, r.size, r.bytes), 0);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	}
	assert_int_equal(image_differs(&g, &r), 0);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, r.size, NULL), 0);
	memset(r.bytes, 0, r.size);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(image_differs(&g, &r), 0);
	/* Holes are punched when nobody can read there any more. */
	for (unsigned i = 0; i < 3000; i++) {
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		assert_int_equal(stat(path("d.qcow"), &after), 0);
		if (after.st_blocks < 2048)
			break;
		usleep(10000);
	}
	image_must_close(&g);
	assert_int_equal(stat(path("d.qcow"), &after), 0);
	assert_true(before.st_size >= (off_t)r.size);
	assert_true(after.st_size < 4 * before.st_size);
	assert_true(after.st_blocks < 2048);
	ref_free(&r);
}

/* Whole clusters, compressed by the writer: as tools do it. */
static void packed_writes(void **state)
{
	struct ref r = ref_new(SIZE);
	struct stat st;
	struct rig g;

	(void)state;
	for (uint64_t i = 0; i < r.size; i++)
		r.bytes[i] = (uint8_t)(i / 300 * 7);
	rig_fill(&group.seed, r.bytes + MiB, 100 * KiB);	/* does not get smaller */
	assert_int_equal(image_make("qcow", path("p.qcow"), r.size, NULL, ""), 0);
	image_must_open(&g, spec(path("p.qcow"), NULL), 0);
	for (uint64_t at = 0, n; at < r.size; at += n) {
		n = min_u64(r.size - at, 4096);
		assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_PACK, at, n,
					r.bytes + at), 0);
	}
	assert_int_equal(image_differs(&g, &r), 0);
	image_must_close(&g);
	assert_int_equal(stat(path("p.qcow"), &st), 0);
	assert_true(st.st_size < (off_t)(2 * MiB));
	if (!shell_status("command -v qemu-img >/dev/null"))
		qemu_agrees(path("p.qcow"), &r);
	work_on(path("p.qcow"), NULL, &r);
	ref_free(&r);
}

/* Hostile tables. */

#define BAD_CB 12u
#define BAD_L1 0x30u

/* An image whose disk's second cluster is at `value`. */
static void bad_image(const char *name, uint64_t value)
{
	struct hand h = { .cb = BAD_CB, .l2_bits = 9, .l1_at = BAD_L1 };
	struct ref r = ref_new(SIZE);

	rig_fill(&group.seed, r.bytes, r.size);
	hand_begin(&h, name, SIZE);
	hand_cluster(&h, &r, 0, false);
	put64(h.fd, hand_entry(&h, 1), value, false);
	close(h.fd);
	ref_free(&r);
}

static void a_bad_table(const char *name, uint64_t l2)
{
	struct hand h = { .cb = BAD_CB, .l2_bits = 9, .l1_at = BAD_L1 };

	hand_begin(&h, name, SIZE);
	put64(h.fd, BAD_L1, l2, false);
	close(h.fd);
}

static void refused(const char *name, bool reads)
{
	static uint8_t buf[4096];
	struct rig g;

	shell("cp %s %s", path(name), path("before"));
	image_must_open(&g, spec(path(name), NULL), 0);
	if (!reads)
		assert_int_equal(rig_read(&g, 4096, 4096, buf), -EIO);
	memset(buf, 0x41, sizeof(buf));
	assert_int_equal(rig_write(&g, 4096, 4096, buf), -EIO);
	assert_int_equal(rig_write(&g, 4096 + 512, 512, buf), -EIO);
	image_must_close(&g);
	/* Nothing was written: neither over a table nor anywhere else. */
	shell("cmp -n $(stat -c %%s %s) %s %s", path("before"), path("before"),
	      path(name));
}

static void hostile_tables_do_no_harm(void **state)
{
	static const uint64_t values[] = {
		513,			/* no sector */
		1ull << 40,		/* behind the end of the file */
		~(1ull << 63) & ~511ull,
		1ull << 63,		/* compressed, no bytes */
		1ull << 63 | 100ull << 51 | 1ull << 40,
		UINT64_MAX,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		bad_image("v.qcow", values[i]);
		refused("v.qcow", false);
	}
	/* A cluster that is the header, or a table. */
	bad_image("w.qcow", 512);
	{
		int fd = open(path("w.qcow"), O_RDWR | O_CLOEXEC);
		uint64_t l2 = get64(fd, BAD_L1);

		close(fd);
		bad_image("w.qcow", l2);
		refused("w.qcow", true);
		bad_image("w.qcow", l2 + 512);
		refused("w.qcow", true);
	}
	a_bad_table("t1.qcow", 8);			/* over the header */
	refused("t1.qcow", false);
	a_bad_table("t1.qcow", BAD_L1);		/* over level 1 */
	refused("t1.qcow", false);
	a_bad_table("t1.qcow", 4096 + 4);
	refused("t1.qcow", false);
	a_bad_table("t1.qcow", 1ull << 40);
	refused("t1.qcow", false);
	a_bad_table("t1.qcow", UINT64_MAX & ~7ull);
	refused("t1.qcow", false);
}

static void bad_headers_are_refused_with_a_reason(void **state)
{
	(void)state;
	rig_file(group.dir, "no.qcow", MiB);
	image_refused(spec(path("no.qcow"), NULL), 0, "no qcow image");
	shell("printf 'QFI\\373\\0\\0\\0\\2' | dd of=%s conv=notrunc status=none",
	      path("no.qcow"));
	image_refused(spec(path("no.qcow"), NULL), 0, "qcow2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_of_qemu),
		cmocka_unit_test(an_image_shorter_than_its_tables),
		cmocka_unit_test(with_a_backing_file),
		cmocka_unit_test(what_we_make_is_good_for_qemu),
		cmocka_unit_test(qemu_and_we_by_turns),
		cmocka_unit_test(encrypted),
		cmocka_unit_test(all_sizes_of_clusters_and_tables),
		cmocka_unit_test(large_clusters_with_a_backing_file),
		cmocka_unit_test(xens_images_keep_their_little_endian_table),
		cmocka_unit_test(discards_give_space_back),
		cmocka_unit_test(packed_writes),
		cmocka_unit_test(hostile_tables_do_no_harm),
		cmocka_unit_test(bad_headers_are_refused_with_a_reason),
	};

	return cmocka_run_group_tests(tests, rig_group_begin, rig_group_end);
}
