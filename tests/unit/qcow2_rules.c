/* qcow2: what the format asks of a writer besides data: feature bits, bitmaps,
 * extensions, growth of tables, compressed writes, damage.  Each claim on a small
 * image of qemu-img, judged by qemu-img and by the bytes in the file. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
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
#include "drv_rig.h"
#include "qcow2/header.h"

static struct rig g;
static const char *dir;
static char image[256], spec[300];
static uint8_t buf[4 << 20], want[4 << 20];

static int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* In the folder; i is the image. */
static int sh(const char *fmt, ...)
{
	char command[2048];
	int n = snprintf(command, sizeof(command), "cd %s && ", dir);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	return system(command);
}

static void bytes_put(uint64_t at, const void *p, size_t len)
{
	int fd = open(image, O_WRONLY);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, p, len, (off_t)at), len);
	close(fd);
}

static uint64_t u64_at(uint64_t at)
{
	uint8_t p[8];
	int fd = open(image, O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, p, sizeof(p), (off_t)at), sizeof(p));
	close(fd);
	return get_be64(p);
}

static void u64_put(uint64_t at, uint64_t v)
{
	uint8_t p[8];

	put_be64(p, v);
	bytes_put(at, p, sizeof(p));
}

static void fresh(const char *opts, const char *size)
{
	assert_int_equal(sh("rm -rf * && qemu-img create -q -f qcow2 %s %s i %s",
			    *opts ? "-o" : "", opts, size), 0);
}

static void open_it(unsigned flags)
{
	assert_int_equal(rig_open(&g, spec, flags), 0);
}

static void close_it(void)
{
	assert_int_equal(rig_close(&g), 0);
}

static void check_it(void)
{
	assert_int_equal(sh("qemu-img check -q -f qcow2 i"), 0);
}

static void unknown_autoclear_bits_go_before_the_first_write(void **state)
{
	uint64_t bits = 1ull << 17 | 1ull << 63;

	(void)state;
	fresh("", "1M");
	u64_put(QCOW2_AT_AUTOCLEAR, bits);
	u64_put(QCOW2_AT_COMPAT, 1ull << 40);
	open_it(TD_NODE_RDONLY);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	close_it();
	assert_int_equal(u64_at(QCOW2_AT_AUTOCLEAR), bits);
	open_it(0);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	close_it();
	assert_int_equal(u64_at(QCOW2_AT_AUTOCLEAR), bits);
	open_it(0);
	assert_int_equal(rig_write(&g, 0, 4096, buf), 0);
	close_it();
	assert_int_equal(u64_at(QCOW2_AT_AUTOCLEAR), 0);
	assert_int_equal(u64_at(QCOW2_AT_COMPAT), 1ull << 40);
	check_it();
}

static void an_image_marked_as_damaged_is_read_only(void **state)
{
	(void)state;
	fresh("", "1M");
	u64_put(QCOW2_AT_INCOMPAT, QCOW2_CORRUPT);
	assert_int_equal(rig_open(&g, spec, 0), -EACCES);
	assert_non_null(strstr(rig_why(), "marked as damaged"));
	open_it(TD_NODE_RDONLY);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	close_it();
}

static void recording_bitmaps_are_outdated_and_others_stay(void **state)
{
	(void)state;
	fresh("", "1M");
	assert_int_equal(sh("qemu-img bitmap --add --enable i on && "
			    "qemu-img bitmap --add --disable i off"), 0);
	open_it(0);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	close_it();
	assert_int_equal(sh("qemu-img info i | grep -q in-use"), 256);
	open_it(0);
	assert_int_equal(rig_write(&g, 0, 4096, buf), 0);
	close_it();
	assert_int_equal(sh("qemu-img info --output=json i | jq -e "
			    "'[.[\"format-specific\"].data.bitmaps[] | "
			    "{(.name): (.flags | index(\"in-use\") != null)}] | add "
			    "== {\"on\": true, \"off\": false}' >/dev/null"), 0);
	check_it();
}

static void no_message_of_open(const char *says)
{
	assert_true(rig_open(&g, spec, 0) < 0);
	if (!strstr(rig_why(), says))
		fail_msg("%s", rig_why());
}

static void what_cannot_be_opened_says_why(void **state)
{
	(void)state;
	fresh("", "1M");
	u64_put(QCOW2_AT_INCOMPAT, 1ull << 20);
	no_message_of_open("bit 20");
	fresh("encrypt.format=aes,encrypt.key-secret=s0 "
	      "--object secret,id=s0,data=pw", "1M");
	no_message_of_open("no key was given");
	fresh("", "1M");
	bytes_put(0, "QFI", 3);
	bytes_put(3, "\373\0\0\0\1", 5);
	no_message_of_open("older format");
	assert_int_equal(sh("head -c 1000000 /dev/zero >i"), 0);
	no_message_of_open("no qcow2 image");
	fresh("", "1M");
	assert_int_equal(sh("cp i b && qemu-img create -q -f qcow2 -b b -F qcow2 i && "
			    "rm b"), 0);
	no_message_of_open("backing file");
	/* the format of the backing file is not said: never guessed */
	fresh("", "1M");
	assert_int_equal(sh("truncate -s 1M b && qemu-img create -q -f qcow2 "
			    "-o compat=0.10 -b b -F raw i && "
			    "printf '\\0\\0\\0\\0' | dd of=i bs=1 seek=72 conv=notrunc "
			    "2>/dev/null"), 0);
	no_message_of_open("explicitly");
}

/* An L2 entry that points to a table: the write is refused, the image is marked,
 * the table stays, reading goes on. */
static void data_over_tables_is_damage(void **state)
{
	static const uint64_t place[] = { 0x10000, 0x20000, 0x30000, 0x40000 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(place); i++) {
		uint64_t was;

		fresh("", "64M");
		assert_int_equal(sh("qemu-io -f qcow2 -c 'write -q 0 64k' i"), 0);
		assert_int_equal(u64_at(0x40000), 1ull << 63 | 0x50000);
		u64_put(0x40008, 1ull << 63 | place[i]);
		was = u64_at(place[i]);
		open_it(0);
		memset(buf, 0xff, 4096);
		assert_int_equal(rig_write(&g, 65536, 4096, buf), -EIO);
		assert_int_equal(rig_write(&g, 0, 4096, buf), -EIO);
		assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
		rig_close(&g);
		assert_int_equal(u64_at(place[i]), was);
		assert_int_equal(u64_at(QCOW2_AT_INCOMPAT), QCOW2_CORRUPT);
	}
}

/* The same by an entry that is shared or compressed, so that a write would give the
 * place back: the table must not become free space. */
static void tables_are_not_given_back(void **state)
{
	static const uint64_t entry[] = {
		0x20000, 0x10000, 0x20000, 0x30000, 0x40000, 1ull << 62 | 0x100,
		1ull << 62 | 0x30010,
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(entry); i++) {
		fresh("", "64M");
		assert_int_equal(sh("qemu-io -f qcow2 -c 'write -q 0 64k' i && "
				    "cp i was"), 0);
		u64_put(0x40008, entry[i]);
		open_it(0);
		memset(buf, 0xff, 65536);
		if (i & 1)
			assert_int_equal(rig_write(&g, 65536, 65536, buf), -EIO);
		else
			assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 65536, 65536,
						NULL), -EIO);
		rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL);
		rig_close(&g);
		/* header (but for the mark), tables */
		assert_int_equal(sh("for t in 0:72 65536:65536 196608:65536; do "
				    "for f in i was; do dd if=$f iflag=skip_bytes,"
				    "count_bytes skip=${t%%:*} count=${t#*:} of=$f.t "
				    "2>/dev/null; done; cmp i.t was.t || exit 1; done"),
				 0);
		assert_int_equal(u64_at(QCOW2_AT_INCOMPAT), QCOW2_CORRUPT);
	}
}

/* Entries that are right, of names as long as can be: too many of them. */
static void a_table_of_snapshots_has_64_mib_at_most(void **state)
{
	const unsigned n = 520, len = 40 + 16 + 2 * 65535 + 2;
	uint8_t e[56] = { 0 };

	(void)state;
	fresh("", "1M");
	assert_int_equal(sh("truncate -s 80M i"), 0);
	put_be64(e, 0x30000);
	put_be32(e + 8, 1);
	memset(e + 12, 0xff, 4);
	put_be32(e + 36, 16);
	put_be64(e + 48, MiB);
	for (unsigned i = 0; i < n; i++)
		bytes_put(MiB + (uint64_t)i * len, e, sizeof(e));
	put_be32(e, n);
	put_be64(e + 4, MiB);
	bytes_put(QCOW2_AT_SNAPSHOTS, e, 12);
	no_message_of_open("larger than 64 MiB");
}

/* All name one L1 table, which is not read for each when it was not closed cleanly. */
static void snapshots_have_a_gib_of_l1_tables_at_most(void **state)
{
	uint8_t e[56] = { 0 };

	(void)state;
	fresh("", "1M");
	assert_int_equal(sh("truncate -s 80M i"), 0);
	put_be64(e, 40 * MiB);
	put_be32(e + 8, QCOW2_L1_MAX);
	put_be32(e + 36, 16);
	put_be64(e + 48, MiB);
	for (unsigned i = 0; i < 33; i++)
		bytes_put(MiB + i * sizeof(e), e, sizeof(e));
	put_be32(e, 33);
	put_be64(e + 4, MiB);
	bytes_put(QCOW2_AT_SNAPSHOTS, e, 12);
	no_message_of_open("for writing: its snapshots have more than 1 GiB");
	u64_put(QCOW2_AT_INCOMPAT, QCOW2_DIRTY);
	no_message_of_open("not closed cleanly, and its snapshots have more than 1 GiB");
}

static void tables_in_one_place_are_refused(void **state)
{
	(void)state;
	fresh("", "1G");
	u64_put(0x30000, 1ull << 63 | 0x10000);	/* L2 table: the refcount table */
	no_message_of_open("in the same place");
	open_it(TD_NODE_RDONLY);
	close_it();
}

/* The disk grows: L1 table, refcount table, header. */
static void growing_keeps_and_adds(void **state)
{
	static const char *const opts[] = {
		"", "cluster_size=512", "compat=0.10,cluster_size=4k",
		"extended_l2=on", "cluster_size=512,refcount_bits=64",
		"data_file=d",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
		uint64_t seed = 5, big = (16 + 300 * i) * MiB;

		fresh(opts[i], "3M");
		rig_fill(&seed, want, 2 * MiB);
		open_it(0);
		assert_int_equal(rig_write(&g, MiB, 2 * MiB, want), 0);
		assert_int_equal(rig_resize(&g, big), 0);
		assert_int_equal(td_tree_root(g.tree)->size, big);
		assert_int_equal(rig_write(&g, big - 2 * MiB, 2 * MiB, want), 0);
		assert_int_equal(rig_resize(&g, big + MiB), 0);
		assert_int_equal(rig_read(&g, MiB, 2 * MiB, buf), 0);
		assert_memory_equal(buf, want, 2 * MiB);
		close_it();
		check_it();
		open_it(0);
		assert_int_equal(td_tree_root(g.tree)->size, big + MiB);
		assert_int_equal(rig_read(&g, big - 2 * MiB, 3 * MiB, buf), 0);
		assert_memory_equal(buf, want, 2 * MiB);
		for (uint64_t k = 2 * MiB; k < 3 * MiB; k++)
			assert_int_equal(buf[k], 0);
		close_it();
	}
}

/* Images that have a backing file. */
static const char *const layered[] = {
	"", "-o compat=0.10,cluster_size=4k", "-o extended_l2=on",
};

static void growing_over_a_longer_backing_file_shows_zeroes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(layered); i++) {
		assert_int_equal(sh("rm -rf * && yes x | head -c 3M >b && qemu-img "
				    "create -q -f qcow2 %s -b b -F raw i 1048064",
				    layered[i]), 0);
		open_it(0);
		assert_int_equal(rig_resize(&g, 4 * MiB), 0);
		assert_int_equal(rig_read(&g, 0, 4 * MiB, buf), 0);
		for (uint64_t k = 0; k < 4 * MiB; k++)
			assert_int_equal(buf[k], k >= 1048064 ? 0 : k & 1 ? '\n' : 'x');
		close_it();
		check_it();
	}
}

/* Space that the image's file takes of its file system. */
static uint64_t file_space(void)
{
	struct stat st;

	assert_int_equal(stat(image, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* The disk shrinks: what is behind its end is given back, and not seen again. */
static void shrinking_keeps_and_gives_back(void **state)
{
	static const char *const opts[] = {
		"", "cluster_size=512", "compat=0.10,cluster_size=4k",
		"extended_l2=on", "cluster_size=512,refcount_bits=64",
		"data_file=d",
	};
	static const uint64_t to[] = { MiB + 512, 2 * MiB, 512 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(opts) * ARRAY_SIZE(to); i++) {
		uint64_t seed = 5, less = to[i % ARRAY_SIZE(to)];

		fresh(opts[i / ARRAY_SIZE(to)], "12M");
		rig_fill(&seed, want, 3 * MiB);
		open_it(0);
		assert_int_equal(rig_write(&g, 0, 3 * MiB, want), 0);
		for (unsigned k = 3; k < 12; k += 3)
			assert_int_equal(rig_write(&g, k * MiB, 3 * MiB, want), 0);
		assert_int_equal(rig_resize(&g, less), -ERANGE);
		assert_int_equal(rig_shrink(&g, less), 0);
		assert_int_equal(td_tree_root(g.tree)->size, less);
		close_it();
		check_it();
		assert_true(file_space() < less + 4 * MiB);
		open_it(0);
		assert_int_equal(td_tree_root(g.tree)->size, less);
		assert_int_equal(rig_resize(&g, 3 * MiB), 0);
		assert_int_equal(rig_read(&g, 0, 3 * MiB, buf), 0);
		assert_memory_equal(buf, want, less);
		for (uint64_t k = less; k < 3 * MiB; k++)
			assert_int_equal(buf[k], 0);
		assert_int_equal(rig_write(&g, MiB, 2 * MiB, want), 0);
		close_it();
		check_it();
	}
}

/* Rounds of write-back so far. */
static uint64_t rounds(void)
{
	const struct td_node *n = td_tree_root(g.tree);
	json_t *o = json_object();
	json_int_t v;

	n->driver->stats((struct td_node *)n, o);
	v = json_integer_value(json_object_get(o, "rounds"));
	json_decref(o);
	return (uint64_t)v;
}

/* ... in pieces of 16384 clusters, here 8 MiB: what one gives back is given back before
 * the next, or memory would be needed for all of them. */
static void shrinking_goes_piece_by_piece(void **state)
{
	uint64_t seed = 5, before;

	(void)state;
	fresh("cluster_size=512", "80M");
	rig_fill(&seed, want, 4 * KiB);
	open_it(0);
	for (unsigned k = 0; k < 80; k += 4)
		assert_int_equal(rig_write(&g, k * MiB, 4 * KiB, want), 0);
	before = rounds();
	assert_int_equal(rig_shrink(&g, 2 * MiB), 0);
	assert_in_range(rounds() - before, 10, 1000);
	close_it();
	check_it();
	assert_true(file_space() < MiB);
	open_it(0);
	assert_int_equal(rig_read(&g, 0, 4 * KiB, buf), 0);
	assert_memory_equal(buf, want, 4 * KiB);
	close_it();
}

/* What a snapshot has behind the new end it keeps. */
static void shrinking_leaves_snapshots(void **state)
{
	uint64_t seed = 5;

	(void)state;
	fresh("cluster_size=512", "4M");
	rig_fill(&seed, want, 4 * MiB);
	open_it(0);
	assert_int_equal(rig_write(&g, 0, 4 * MiB, want), 0);
	close_it();
	assert_int_equal(sh("qemu-img snapshot -c s i"), 0);
	open_it(0);
	assert_int_equal(rig_write(&g, 3 * MiB, MiB / 2, want), 0);
	assert_int_equal(rig_shrink(&g, MiB), 0);
	close_it();
	check_it();
	assert_int_equal(sh("qemu-img snapshot -a s i"), 0);
	check_it();
	open_it(0);
	assert_int_equal(td_tree_root(g.tree)->size, 4 * MiB);
	assert_int_equal(rig_read(&g, 0, 4 * MiB, buf), 0);
	assert_memory_equal(buf, want, 4 * MiB);
	close_it();
}

/* Nothing of the backing file comes to light either. */
static void shrinking_above_a_backing_file(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(layered); i++) {
		assert_int_equal(sh("rm -rf * && yes x | head -c 4M >b && qemu-img "
				    "create -q -f qcow2 %s -b b -F raw i 4M",
				    layered[i]), 0);
		open_it(0);
		assert_int_equal(rig_write(&g, 2 * MiB, MiB, want), 0);
		assert_int_equal(rig_shrink(&g, 1048064), 0);
		assert_int_equal(rig_resize(&g, 4 * MiB), 0);
		assert_int_equal(rig_read(&g, 0, 4 * MiB, buf), 0);
		for (uint64_t k = 0; k < 4 * MiB; k++)
			assert_int_equal(buf[k], k >= 1048064 ? 0 : k & 1 ? '\n' : 'x');
		close_it();
		check_it();
	}
}

static void shrinking_is_refused_where_it_cannot_be(void **state)
{
	(void)state;
	fresh("compat=0.10", "1M");
	assert_int_equal(sh("qemu-img snapshot -c s i"), 0);
	open_it(0);
	assert_int_equal(rig_shrink(&g, MiB / 2), -EOPNOTSUPP);
	assert_int_equal(td_tree_root(g.tree)->size, MiB);
	close_it();
}

/* Version 3, but the snapshot's extra data ends before the size of its disk: that is the
 * disk's, and would be cut with it. */
static void shrinking_does_not_cut_snapshots(void **state)
{
	uint8_t e[128] = { 0 };
	uint64_t at;

	(void)state;
	fresh("", "1M");
	assert_int_equal(sh("qemu-io -f qcow2 -c 'write -q -P 7 0 1M' i && "
			    "qemu-img snapshot -c old i"), 0);
	at = u64_at(QCOW2_AT_SNAPSHOTS + 4);
	put_be64(e, u64_at(at));
	put_be64(e + 8, u64_at(at + 8));	/* L1 entries, lengths of id and name */
	put_be32(e + 36, 8);
	memcpy(e + 48, "1old", 4);
	bytes_put(at, e, sizeof(e));
	open_it(0);
	assert_int_equal(rig_shrink(&g, MiB / 2), -EOPNOTSUPP);
	assert_non_null(strstr(rig_why(), "(delete it, or mend it: qemu-img check -r all)"));
	assert_int_equal(td_tree_root(g.tree)->size, MiB);
	close_it();
	assert_int_equal(sh("qemu-img snapshot -a old i && "
			    "qemu-io -f qcow2 -c 'read -P 7 0 1M' i >out && "
			    "! grep -q failed out"), 0);
	/* As the message says. */
	assert_int_equal(sh("qemu-img check -q -r all i >/dev/null 2>&1"), 0);
	open_it(0);
	assert_int_equal(rig_shrink(&g, MiB / 2), 0);
	close_it();
	check_it();
}

/* A size that is there, and is 0, no check mends; the snapshot's name is as long as it is
 * told. */
static void shrinking_does_not_cut_snapshots_of_size_0(void **state)
{
	static const char name[] = "a-name-of-forty-bytes-which-is-told-all.";
	uint64_t at;

	(void)state;
	fresh("", "1M");
	assert_int_equal(sh("qemu-img snapshot -c %s i", name), 0);
	at = u64_at(QCOW2_AT_SNAPSHOTS + 4);
	u64_put(at + 40 + 8, 0);
	open_it(0);
	assert_int_equal(rig_shrink(&g, MiB / 2), -EOPNOTSUPP);
	assert_non_null(strstr(rig_why(), name));
	assert_non_null(strstr(rig_why(), "(delete it)"));
	close_it();
	assert_int_equal(sh("qemu-img snapshot -d %s i", name), 0);
	open_it(0);
	assert_int_equal(rig_shrink(&g, MiB / 2), 0);
	close_it();
	check_it();
}

static void growing_is_refused_where_it_cannot_be(void **state)
{
	(void)state;
	fresh("", "1M");
	assert_int_equal(sh("qemu-img bitmap --add i on"), 0);
	open_it(0);
	assert_int_equal(rig_resize(&g, 2 * MiB), -EOPNOTSUPP);
	close_it();
	fresh("compat=0.10", "1M");
	assert_int_equal(sh("qemu-img snapshot -c s i"), 0);
	open_it(0);
	assert_int_equal(rig_resize(&g, 2 * MiB), -EOPNOTSUPP);
	close_it();
}

/* Tools write compressed clusters; they share host clusters, as far as counts go. */
static void compressed_writes(void **state)
{
	static const struct {
		const char *opts;
		uint64_t cluster;
		unsigned kib;		/* of the file, at most */
	} t[] = {
		{ "", 65536, 1200 }, { "compression_type=zstd", 65536, 1200 },
		{ "refcount_bits=2", 65536, 2200 },
		{ "refcount_bits=1", 65536, 4600 },
		{ "cluster_size=512", 512, 1500 },
		{ "cluster_size=2M,extended_l2=on", 2 * MiB, 9000 },
		{ "compat=0.10,cluster_size=4k", 4096, 1500 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		uint64_t seed = 7;

		fresh(t[i].opts, "4M");
		for (uint64_t k = 0; k < sizeof(want); k++)
			want[k] = (uint8_t)(k >> 7);
		rig_fill(&seed, want + MiB, MiB / 2);
		open_it(0);
		for (uint64_t k = 0; k < sizeof(want); k += t[i].cluster)
			assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_PACK, k,
						t[i].cluster, want + k), 0);
		assert_int_equal(rig_read(&g, 0, 4 * MiB, buf), 0);
		assert_memory_equal(buf, want, 4 * MiB);
		close_it();
		check_it();
		if (sh("[ $(du -k i | cut -f1) -lt %u ] || { du -k i; exit 1; }",
		       t[i].kib))
			fail_msg("%s: the file is too large", t[i].opts);
		open_it(0);
		rig_fill(&seed, want + 70000 / 512 * 512, 4096);
		assert_int_equal(rig_write(&g, 70000 / 512 * 512, 4096,
					   want + 70000 / 512 * 512), 0);
		assert_int_equal(rig_read(&g, 0, 4 * MiB, buf), 0);
		assert_memory_equal(buf, want, 4 * MiB);
		assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 2 * MiB, 2 * MiB, NULL), 0);
		close_it();
		check_it();
	}
}

/* What is freed comes back to the file system. */
static void discard_gives_space_back(void **state)
{
	(void)state;
	fresh("", "64M");
	assert_int_equal(sh("qemu-io -f qcow2 -c 'write -q -P 1 0 32M' i"), 0);
	open_it(0);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, 32 * MiB, NULL), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	assert_int_equal(rig_write(&g, 40 * MiB, MiB, want), 0);
	close_it();
	check_it();
	assert_int_equal(sh("[ $(du -k i | cut -f1) -lt 4096 ]"), 0);
}

/* Also of a data file, whose places stay the disk's own: what is discarded reads as
 * zeroes, and what lies beside it stays. */
static void discard_punches_a_data_file(void **state)
{
	static const char *const opts[] = { "data_file=d", "data_file=d,extended_l2=on",
					    "data_file=d,data_file_raw=on" };
	uint64_t seed = 3;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(opts); i++) {
		fresh(opts[i], "16M");
		rig_fill(&seed, want, 4 * MiB);
		open_it(0);
		for (uint64_t at = 0; at < 16 * MiB; at += 4 * MiB)
			assert_int_equal(rig_write(&g, at, 4 * MiB, want), 0);
		assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, 12 * MiB, NULL), 0);
		assert_int_equal(rig_io(&g, i ? TD_OP_DISCARD : TD_OP_ZEROES, 0,
					13 * MiB, MiB, NULL), 0);
		assert_int_equal(rig_write(&g, 3 * MiB, 4096, want), 0);
		assert_int_equal(rig_read(&g, 12 * MiB, 4 * MiB, buf), 0);
		assert_memory_equal(buf, want, MiB);
		assert_memory_equal(buf + 2 * MiB, want + 2 * MiB, 2 * MiB);
		assert_int_equal(rig_read(&g, 3 * MiB, MiB, buf), 0);
		assert_memory_equal(buf, want, 4096);
		for (uint64_t k = 4096; k < MiB; k++)
			assert_int_equal(buf[k], 0);
		close_it();
		check_it();
		assert_int_equal(sh("[ $(du -k d | cut -f1) -lt 3500 ]"), 0);
	}
}

#define DEV_MAX 64

/* One on the file `disk`: its name, and a spec on it. */
static void loop_device(char *dev, char *on)
{
	char path[80];
	FILE *f;

	if (sh("losetup -f --show disk >name 2>/dev/null"))
		skip();
	snprintf(path, sizeof(path), "%s/name", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%63s", dev), 1);
	fclose(f);
	snprintf(on, DEV_MAX + 16, "qcow2:%s", dev);
}

/* On a block device free space begins behind what is counted, holds anything, and
 * has an end. */
static void an_image_on_a_block_device(void **state)
{
	char dev[DEV_MAX], on[DEV_MAX + 16];
	uint64_t seed = 11, off;
	bool full;
	int err = 0;

	(void)state;
	assert_int_equal(sh("rm -rf * && head -c 12M /dev/urandom >disk"), 0);
	loop_device(dev, on);
	err = sh("qemu-img create -q -f qcow2 -o cluster_size=4k %s 16M && "
		 "qemu-io -f qcow2 -c 'write -q -P 3 1M 64k' %s", dev, dev);
	if (!err)
		err = rig_open(&g, on, 0);
	for (off = 2 * MiB; !err && off < 4 * MiB; off += 40960) {
		/* alone in its cluster: the rest of it must be zeroes */
		rig_fill(&seed, want, 512);
		err = rig_write(&g, off + 1024, 512, want);
		if (!err)
			err = rig_read(&g, off, 4096, buf);
		for (unsigned k = 0; !err && k < 4096; k++)
			if (buf[k] != (k >= 1024 && k < 1536 ? want[k - 1024] : 0))
				err = -EBADMSG;
	}
	for (off = 4 * MiB; !err && off < 16 * MiB; off += MiB)
		err = rig_write(&g, off, MiB, want);
	full = err == -ENOSPC;
	if (full)
		err = rig_read(&g, MiB, 64 * KiB, buf);
	for (unsigned k = 0; !err && k < 64 * KiB; k++)
		if (buf[k] != 3)
			err = -EBADMSG;
	if (!err)
		err = rig_close(&g);
	if (!err)
		err = sh("qemu-img check -q -f qcow2 %s", dev);
	sh("losetup -d %s", dev);
	assert_int_equal(err, 0);
	assert_true(full);
}

/* One that was not closed, on a device that ends within a cluster. */
static void a_dirty_image_on_a_block_device(void **state)
{
	char dev[DEV_MAX], on[DEV_MAX + 16];
	int err;

	(void)state;
	assert_int_equal(sh("rm -rf * && truncate -s %u disk", 12 * 1024 * 1024 + 4096), 0);
	loop_device(dev, on);
	err = sh("qemu-img create -q -f qcow2 -o lazy_refcounts=on %s 8M && "
		 "{ qemu-io -f qcow2 -c 'write -q -P 3 1M 1M' -c abort %s 2>/dev/null; "
		 "[ $(od -An -tx1 -j79 -N1 %s) = 01 ]; }", dev, dev, dev);
	if (!err)
		err = rig_open(&g, on, 0);
	if (!err)
		err = rig_read(&g, MiB, 64 * KiB, buf);
	for (unsigned k = 0; !err && k < 64 * KiB; k++)
		if (buf[k] != 3)
			err = -EBADMSG;
	if (!err)
		err = rig_close(&g);
	if (!err)
		err = sh("qemu-img check -q -f qcow2 %s", dev);
	sh("losetup -d %s", dev);
	assert_int_equal(err, 0);
}

static int set_up(void **state)
{
	(void)state;
	dir = rig_dir("/tmp");
	snprintf(image, sizeof(image), "%s/i", dir);
	snprintf(spec, sizeof(spec), "qcow2:%s", image);
	rig_init(&g);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_free(&g);
	rig_dir_remove(dir);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_autoclear_bits_go_before_the_first_write),
		cmocka_unit_test(an_image_marked_as_damaged_is_read_only),
		cmocka_unit_test(recording_bitmaps_are_outdated_and_others_stay),
		cmocka_unit_test(what_cannot_be_opened_says_why),
		cmocka_unit_test(data_over_tables_is_damage),
		cmocka_unit_test(tables_are_not_given_back),
		cmocka_unit_test(a_table_of_snapshots_has_64_mib_at_most),
		cmocka_unit_test(snapshots_have_a_gib_of_l1_tables_at_most),
		cmocka_unit_test(tables_in_one_place_are_refused),
		cmocka_unit_test(growing_keeps_and_adds),
		cmocka_unit_test(growing_over_a_longer_backing_file_shows_zeroes),
		cmocka_unit_test(growing_is_refused_where_it_cannot_be),
		cmocka_unit_test(shrinking_keeps_and_gives_back),
		cmocka_unit_test(shrinking_goes_piece_by_piece),
		cmocka_unit_test(shrinking_leaves_snapshots),
		cmocka_unit_test(shrinking_above_a_backing_file),
		cmocka_unit_test(shrinking_is_refused_where_it_cannot_be),
		cmocka_unit_test(shrinking_does_not_cut_snapshots),
		cmocka_unit_test(shrinking_does_not_cut_snapshots_of_size_0),
		cmocka_unit_test(compressed_writes),
		cmocka_unit_test(discard_gives_space_back),
		cmocka_unit_test(discard_punches_a_data_file),
		cmocka_unit_test(an_image_on_a_block_device),
		cmocka_unit_test(a_dirty_image_on_a_block_device),
	};

	if (system("qemu-img --version >/dev/null 2>&1 && jq --version "
		   ">/dev/null 2>&1") != 0) {
		printf("SKIP: no qemu-img and jq to judge by\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
