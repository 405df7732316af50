/* vmdk disks: QEMU's, our own, and those that QEMU cannot make or open, made by
 * hand: read, written, reopened, and judged by QEMU where it is right.  Hostile
 * tables and damaged directories do no harm. */
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

#define SIZE (34 * MiB + 7 * 512)	/* two grain tables, and half a grain */
#define GRAIN (64 * KiB)


static const char *path(const char *name)
{
	static char p[4][PATH_MAX];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(p[i], sizeof(p[i]), "%s/%s", group.dir, name);
	return p[i];
}

static const char *spec(const char *name)
{
	static char s[PATH_MAX + 8];

	snprintf(s, sizeof(s), "vmdk:%s/%s", group.dir, name);
	return s;
}

static void work_on(const char *name, struct ref *r)
{
	group.seed += 2;
	assert_int_equal(image_work(spec(name), r, group.seed), 0);
}

static void holds(const char *name, const struct ref *r)
{
	struct rig g;

	image_must_open(&g, spec(name), TD_NODE_RDONLY);
	assert_int_equal(image_differs(&g, r), 0);
	image_must_close(&g);
}

static void qemu_agrees(const char *name, const struct ref *r, bool check)
{
	ref_save(r, path("want.raw"));
	shell("qemu-img compare -q -f vmdk -F raw %s %s", path(name), path("want.raw"));
	if (check)
		shell("qemu-img check -q -f vmdk %s >/dev/null", path(name));
}

static void remove_all(void)
{
	shell("rm -f %s/*", group.dir);
}

static void convert(const char *name, const struct ref *r, const char *opts)
{
	ref_save(r, path("a.raw"));
	shell("qemu-img convert -q -f raw -O vmdk %s%s %s %s", *opts ? "-o " : "", opts,
	      path("a.raw"), path(name));
}

static uint64_t text_at(const char *name)
{
	char b[4];
	FILE *f = fopen(path(name), "r");

	assert_non_null(f);
	assert_int_equal(fread(b, 1, 4, f), 4);
	fclose(f);
	return memcmp(b, "KDMV", 4) ? 0 : 512;
}

static uint32_t cid_of(const char *name)
{
	static char text[10241];
	FILE *f = fopen(path(name), "r");
	size_t n;
	char *p;

	assert_non_null(f);
	fseek(f, (long)text_at(name), SEEK_SET);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	p = strstr(text, "\nCID=");
	assert_non_null(p);
	return (uint32_t)strtoul(p + 5, NULL, 16);
}

static const char *const variants[] = {
	"", "zeroed_grain=on", "subformat=monolithicFlat",
	"subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat",
	"subformat=twoGbMaxExtentSparse,zeroed_grain=on",
};

static void images_of_qemu(void **state)
{
	struct ref r = ref_new(SIZE);

	(void)state;
	shell_needs("qemu-img");
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		ref_fill(&r, group.seed++);
		convert("a.vmdk", &r, variants[i]);
		work_on("a.vmdk", &r);
		qemu_agrees("a.vmdk", &r, true);
		remove_all();
	}
	ref_free(&r);
}

static void what_we_make_is_good_for_qemu(void **state)
{
	struct ref r = ref_new(SIZE);

	(void)state;
	shell_needs("qemu-img");
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		char opts[200];

		snprintf(opts, sizeof(opts), "%s%sadapter_type=lsilogic,hwversion=7",
			 variants[i], *variants[i] ? "," : "");
		memset(r.bytes, 0, r.size);
		assert_int_equal(image_make("vmdk", path("a.vmdk"), SIZE, NULL, opts), 0);
		qemu_agrees("a.vmdk", &r, true);
		work_on("a.vmdk", &r);
		qemu_agrees("a.vmdk", &r, true);
		remove_all();
	}
	memset(r.bytes, 0, r.size);
	assert_int_equal(image_make("vmdk", path("o.vmdk"), SIZE, NULL,
				    "subformat=streamOptimized"), 0);
	qemu_agrees("o.vmdk", &r, true);
	holds("o.vmdk", &r);
	assert_int_equal(image_make("vmdk", path("a.vmdk"), SIZE, NULL,
				    "subformat=none"), -EINVAL);
	assert_int_equal(image_make("vmdk", path("a.vmdk"), 0, NULL, ""), -EINVAL);
	assert_int_equal(image_make("vmdk", path("a.vmdk"), 3ull << 40, NULL, ""),
			 -EINVAL);
	remove_all();
	ref_free(&r);
}

static void qemu_and_we_by_turns(void **state)
{
	struct ref r = ref_new(SIZE);

	(void)state;
	shell_needs("qemu-io");
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		memset(r.bytes, 0, r.size);
		assert_int_equal(image_make("vmdk", path("a.vmdk"), SIZE, NULL,
					    variants[i]), 0);
		assert_int_equal(image_alternate(spec("a.vmdk"), "vmdk", path("a.vmdk"),
						 &r, group.seed++, i ? 5 : 20), 0);
		qemu_agrees("a.vmdk", &r, true);
		remove_all();
	}
	ref_free(&r);
}

/* More than 2 GiB: several files, and a request over the border of two. */
static void a_disk_of_many_files(void **state)
{
	static uint8_t buf[256 * KiB], got[256 * KiB];
	uint64_t at = 2 * GiB - 100 * KiB;
	struct rig g;

	(void)state;
	shell_needs("qemu-io");
	for (unsigned ours = 0; ours < 2; ours++) {
		if (ours)
			assert_int_equal(image_make("vmdk", path("b.vmdk"), 5 * GiB, NULL,
					"subformat=twoGbMaxExtentSparse"), 0);
		else
			shell("qemu-img create -q -f vmdk -o "
			      "subformat=twoGbMaxExtentSparse %s 5G", path("b.vmdk"));
		image_must_open(&g, spec("b.vmdk"), 0);
		assert_int_equal(td_tree_root(g.tree)->size, 5 * GiB);
		image_refused(spec("b-s001.vmdk"), TD_NODE_RDONLY, "piece of a disk");
		memset(buf, 0x5a, sizeof(buf));
		assert_int_equal(rig_write(&g, at, sizeof(buf), buf), 0);
		assert_int_equal(rig_write(&g, 5 * GiB - sizeof(buf), sizeof(buf), buf),
				 0);
		assert_int_equal(rig_read(&g, at, sizeof(buf), got), 0);
		assert_memory_equal(buf, got, sizeof(buf));
		image_must_close(&g);
		shell("qemu-io -f vmdk -c 'read -q -P 0x5a %llu %llu' "
		      "-c 'read -q -P 0x5a %llu %llu' -c 'read -q -P 0 1G 1M' %s",
		      (unsigned long long)at, 256 * KiB, 5 * GiB - 256 * KiB, 256 * KiB,
		      path("b.vmdk"));
		remove_all();
	}
}

static void streams_are_read_and_not_written(void **state)
{
	struct ref r = ref_new(SIZE);

	(void)state;
	shell_needs("qemu-img");
	ref_fill(&r, group.seed++);
	convert("s.vmdk", &r, "subformat=streamOptimized");
	holds("s.vmdk", &r);
	image_refused(spec("s.vmdk"), 0, "read-only");
	remove_all();
	ref_free(&r);
}

/* Parents. */

static void children_know_their_parent(void **state)
{
	struct ref r = ref_new(SIZE);
	struct rig g;
	static uint8_t buf[512];

	(void)state;
	shell_needs("qemu-img");
	for (unsigned i = 0; i < 4; i++) {
		const char *zeroed = i % 2 ? "zeroed_grain=on" : "zeroed_grain=off";

		ref_fill(&r, group.seed++);
		convert("base.vmdk", &r, "");
		if (i < 2)
			shell("cd %s && qemu-img create -q -f vmdk -b base.vmdk -F vmdk "
			      "-o %s child.vmdk", group.dir, zeroed);
		else
			assert_int_equal(image_make("vmdk", path("child.vmdk"), SIZE,
						    "base.vmdk", zeroed), 0);
		holds("child.vmdk", &r);
		work_on("child.vmdk", &r);
		qemu_agrees("child.vmdk", &r, true);
		remove_all();
	}
	/* A parent that was written since is no parent any more. */
	convert("base.vmdk", &r, "");
	assert_int_equal(image_make("vmdk", path("child.vmdk"), SIZE, "base.vmdk", ""), 0);
	image_must_open(&g, spec("base.vmdk"), 0);
	assert_int_equal(rig_write(&g, 0, 512, buf), 0);
	image_must_close(&g);
	image_refused(spec("child.vmdk"), TD_NODE_RDONLY, "has changed");
	remove_all();
	ref_free(&r);
}

/* The first write of a session changes the CID, nothing else does. */
static void the_cid_changes_with_the_first_write(void **state)
{
	static uint8_t buf[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		uint32_t cid, after;
		struct rig g;

		assert_int_equal(image_make("vmdk", path("c.vmdk"), SIZE, NULL,
					    variants[i]), 0);
		cid = cid_of("c.vmdk");
		image_must_open(&g, spec("c.vmdk"), 0);
		assert_int_equal(rig_read(&g, 0, 512, buf), 0);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		image_must_close(&g);
		assert_int_equal(cid_of("c.vmdk"), cid);
		image_must_open(&g, spec("c.vmdk"), 0);
		assert_int_equal(rig_write(&g, 0, 512, buf), 0);
		after = cid_of("c.vmdk");
		assert_int_not_equal(after, cid);
		assert_int_equal(rig_write(&g, 4096, 512, buf), 0);
		image_must_close(&g);
		assert_int_equal(cid_of("c.vmdk"), after);
		image_must_open(&g, spec("c.vmdk"), 0);	/* in place this time */
		assert_int_equal(rig_write(&g, 0, 512, buf), 0);
		image_must_close(&g);
		assert_int_not_equal(cid_of("c.vmdk"), after);
		remove_all();
	}
}

/* By hand. */

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(path(name), "w");

	assert_non_null(f);
	assert_int_equal(fputs(text, f) >= 0, 1);
	assert_int_equal(fclose(f), 0);
}

#define BARE "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
#define HEAD BARE "createType=\"vmfs\"\n"

static void lines_that_qemu_does_not_know(void **state)
{
	struct ref flat = ref_new(MiB), r = ref_new(5 * MiB);
	static uint8_t buf[8192];
	struct rig g;

	(void)state;
	/* vmfs, an offset, CRLF, blanks, other spelling, zeroes, read-only, and a
	 * sparse extent at the end. */
	ref_fill(&flat, group.seed++);
	ref_save(&flat, path("ro.img"));
	memcpy(r.bytes + 2 * MiB, flat.bytes, MiB);
	ref_fill(&flat, group.seed++);
	ref_save(&flat, path("rw.img"));
	memcpy(r.bytes, flat.bytes + 4096, MiB - 4096);
	assert_int_equal(image_make("vmdk", path("x.vmdk"), 2 * MiB, NULL, ""), 0);
	write_text("l.vmdk",
		   "# disk DESCRIPTORFILE\r\nVersion = 1\r\ncid = \"12345678\"\r\n"
		   "parentCID = ffffffff\r\nCREATETYPE = \"2GbMaxExtentSparse\"\r\n\r\n"
		   "RW 2040 VMFS \"rw.img\" 8\r\n"
		   "RW 2056 ZERO\r\n"
		   "RDONLY 2048 FLAT \"ro.img\" 0\r\n"
		   "rw 4096 sparse \"x.vmdk\"\r\n");
	holds("l.vmdk", &r);
	image_must_open(&g, spec("l.vmdk"), 0);
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(rig_write(&g, 512, 8192, buf), 0);
	memcpy(r.bytes + 512, buf, 8192);
	assert_int_equal(rig_write(&g, 3 * MiB + 512, 8192, buf), 0);
	memcpy(r.bytes + 3 * MiB + 512, buf, 8192);
	assert_int_equal(rig_write(&g, MiB, 512, buf), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, MiB, 4096, NULL), 0);
	assert_int_equal(rig_write(&g, 2 * MiB, 512, buf), -EROFS);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 2 * MiB, 4096, NULL), -EROFS);
	assert_int_equal(image_differs(&g, &r), 0);
	image_must_close(&g);
	holds("l.vmdk", &r);
	ref_load(&flat, path("rw.img"));
	assert_memory_equal(flat.bytes + 4096, r.bytes, MiB - 4096);
	remove_all();
	ref_free(&flat);
	ref_free(&r);
}

static void extents_without_access_and_short_files(void **state)
{
	static uint8_t buf[4096], zero[4096];
	struct stat st;
	struct rig g;

	(void)state;
	rig_file(group.dir, "f.img", 4096);
	write_text("n.vmdk", HEAD "RW 2048 VMFS \"f.img\"\n"
		   "NOACCESS 2048 FLAT \"secret.img\"\n");
	image_must_open(&g, spec("n.vmdk"), 0);
	assert_int_equal(rig_read(&g, MiB, 4096, buf), -EIO);
	assert_int_equal(rig_write(&g, MiB, 4096, buf), -EIO);
	assert_int_equal(rig_read(&g, MiB - 4096, 4096, buf), 0);
	assert_memory_equal(buf, zero, 4096);
	memset(buf, 1, sizeof(buf));
	assert_int_equal(rig_write(&g, 512 * KiB, 4096, buf), 0);
	image_must_close(&g);
	assert_int_equal(stat(path("f.img"), &st), 0);
	assert_int_equal(st.st_size, MiB);
	remove_all();
}

static void descriptors_that_are_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{ HEAD, "no extents" },
		{ BARE "RW 1 ZERO\n", "createType" },
		{ BARE "createType=\"custom\"\nRW 1 ZERO\n", "custom" },
		{ HEAD "RW 8 SPARSE \"a.img\"\nRW 8 FLAT \"a.img\"\n", "twice" },
		{ HEAD "RW 8 SPARSE \"a.img\"\n", "neither" },
		{ HEAD "RW 8 VMFSSPARSE \"a.img\"\n", "VMFSSPARSE" },
		{ HEAD "RW 8 FLAT \"none.img\"\n", "none.img" },
		{ "# Disk DescriptorFile\nCID=1\nparentCID=2\ncreateType=vmfs\nRW 1 ZERO\n",
		  "parentFileNameHint" },
		{ "COWD", "COWD" },
		{ "\xbe\xba\xfe\xca", "seSparse" },
		{ "hello", "neither" },
	};

	(void)state;
	rig_file(group.dir, "a.img", 4096);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_text("r.vmdk", cases[i].text);
		image_refused(spec("r.vmdk"), 0, cases[i].why);
	}
	remove_all();
}

/* Directories. */

static uint8_t *map_file(const char *name, size_t *len)
{
	FILE *f = fopen(path(name), "r");
	uint8_t *p;

	assert_non_null(f);
	fseek(f, 0, SEEK_END);
	*len = (size_t)ftell(f);
	rewind(f);
	p = malloc(*len + 8 * MiB);
	assert_non_null(p);
	memset(p, 0, *len + 8 * MiB);
	assert_int_equal(fread(p, 1, *len, f), *len);
	fclose(f);
	return p;
}

static void write_file(const char *name, const uint8_t *p, size_t len)
{
	FILE *f = fopen(path(name), "w");

	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

#define RGD(p) ((p) + 512 * get_le64((p) + 48))
#define GD(p) ((p) + 512 * get_le64((p) + 56))
#define GT(p, gd, i) ((p) + 512ull * get_le32((gd) + 4 * (i)))

static void tables_that_are_not_there_are_made(void **state)
{
	struct ref r = ref_new(SIZE);
	uint8_t *p;
	size_t len;

	(void)state;
	for (unsigned sets = 0; sets < 4; sets++) {
		assert_int_equal(image_make("vmdk", path("g.vmdk"), SIZE, NULL, ""), 0);
		p = map_file("g.vmdk", &len);
		if (!(sets & 1))
			memset(GD(p), 0, 8);
		if (!(sets & 2))
			memset(RGD(p), 0, 8);
		write_file("g.vmdk", p, len);
		free(p);
		memset(r.bytes, 0, r.size);
		holds("g.vmdk", &r);
		work_on("g.vmdk", &r);
		p = map_file("g.vmdk", &len);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_not_equal(get_le32(GD(p) + 4 * i), 0);
			assert_int_not_equal(get_le32(RGD(p) + 4 * i), 0);
			assert_memory_equal(GT(p, GD(p), i), GT(p, RGD(p), i), 2048);
		}
		free(p);
		if (!shell_status("command -v qemu-img >/dev/null"))
			qemu_agrees("g.vmdk", &r, true);
	}
	remove_all();
	ref_free(&r);
}

static void a_damaged_directory_is_replaced_by_the_other(void **state)
{
	struct ref r = ref_new(SIZE);
	uint8_t *p;
	size_t len;

	(void)state;
	shell_needs("qemu-img");
	for (unsigned i = 0; i < 2; i++) {
		ref_fill(&r, group.seed++);
		convert("d.vmdk", &r, "");
		p = map_file("d.vmdk", &len);
		memset(i ? RGD(p) : GD(p), 0xee, 8);
		write_file("d.vmdk", p, len);
		free(p);
		holds("d.vmdk", &r);
		work_on("d.vmdk", &r);
		qemu_agrees("d.vmdk", &r, true);
		p = map_file("d.vmdk", &len);
		assert_memory_equal(GD(p), RGD(p), 8);
		free(p);
	}
	p = map_file("d.vmdk", &len);
	memset(RGD(p), 0xee, 8);
	memset(GD(p), 0xee, 8);
	write_file("d.vmdk", p, len);
	free(p);
	image_refused(spec("d.vmdk"), TD_NODE_RDONLY, "grain directory");
	remove_all();
	ref_free(&r);
}

/* A cut between the two: what is in one set alone counts. */
static void an_entry_of_one_set_is_enough(void **state)
{
	struct ref r = ref_new(SIZE);
	uint8_t *p;
	size_t len;

	(void)state;
	shell_needs("qemu-img");
	for (unsigned i = 0; i < 2; i++) {
		ref_fill(&r, group.seed++);
		convert("e.vmdk", &r, "");
		p = map_file("e.vmdk", &len);
		for (unsigned k = i; k < 512; k += 3)
			put_le32(GT(p, i ? RGD(p) : GD(p), 0) + 4 * k, 0);
		write_file("e.vmdk", p, len);
		free(p);
		work_on("e.vmdk", &r);
		holds("e.vmdk", &r);
	}
	remove_all();
	ref_free(&r);
}

/* Real streams: markers, directory and footer at the end. */

static size_t add_marker(uint8_t *p, size_t at, uint64_t sectors, uint32_t type)
{
	put_le64(p + at, sectors);
	put_le32(p + at + 12, type);
	return at + 512;
}

/* One grain at p + at; returns where the next one goes. */
static size_t add_grain(uint8_t *p, size_t at, uint64_t lba, const uint8_t *bytes,
			size_t n)
{
	uLongf len = 2 * GRAIN;

	put_le64(p + at, lba);
	assert_int_equal(compress2(p + at + 12, &len, bytes, n, 6), Z_OK);
	put_le32(p + at + 8, (uint32_t)len);
	return align_up(at + 12 + len, 512);
}

static size_t make_stream(uint8_t *p, const struct ref *r)
{
	size_t at = 128 * 512, gd;
	uint64_t grains = (r->size + GRAIN - 1) / GRAIN;
	uint32_t gts[8] = { 0 };

	memcpy(p, "KDMV\3\0\0\0\1\0\3\0", 12);
	put_le64(p + 12, r->size / 512);
	put_le64(p + 20, 128);
	put_le64(p + 28, 1);
	put_le64(p + 36, 20);
	put_le32(p + 44, 512);
	put_le64(p + 56, UINT64_MAX);
	put_le64(p + 64, 128);
	memcpy(p + 73, "\n \r\n\1", 5);
	strcpy((char *)p + 512, BARE "createType=\"streamOptimized\"\n"
	       "RDONLY 69639 SPARSE \"another name.vmdk\"\n");
	for (uint64_t t = 0; t * 512 < grains; t++) {
		static uint8_t table[2048];

		memset(table, 0, sizeof(table));
		for (uint64_t g = t * 512; g < grains && g < (t + 1) * 512; g++) {
			uint64_t off = g * GRAIN, n = min_u64(GRAIN, r->size - off);

			if (g % 5 == 2) {
				memset(r->bytes + off, 0, n);
				continue;
			}
			put_le32(table + g % 512 * 4, (uint32_t)(at / 512));
			at = add_grain(p, at, off / 512, r->bytes + off, n);
		}
		at = add_marker(p, at, 4, 1);
		gts[t] = (uint32_t)(at / 512);
		memcpy(p + at, table, 2048);
		at += 2048;
	}
	at = add_marker(p, at, 1, 2);
	gd = at;
	for (unsigned t = 0; t < 8; t++)
		put_le32(p + at + 4 * t, gts[t]);
	at = add_marker(p, at + 512, 1, 3);
	memcpy(p + at, p, 512);
	put_le64(p + at + 56, gd / 512);
	return at + 2 * 512;			/* and the end-of-stream marker */
}

static void real_streams_are_read(void **state)
{
	struct ref r = ref_new(SIZE);
	uint8_t *p = calloc(1, 2 * SIZE);
	size_t len;

	(void)state;
	assert_non_null(p);
	ref_fill(&r, group.seed++);
	len = make_stream(p, &r);
	write_file("st.vmdk", p, len);
	holds("st.vmdk", &r);
	if (!shell_status("command -v qemu-img >/dev/null"))
		qemu_agrees("st.vmdk", &r, false);
	image_refused(spec("st.vmdk"), 0, "read-only");
	write_file("st.vmdk", p, len + 10240);		/* padded */
	holds("st.vmdk", &r);
	write_file("st.vmdk", p, len - 512);		/* cut */
	image_refused(spec("st.vmdk"), TD_NODE_RDONLY, "its end");
	put_le64(p + len - 1024 + 20, 64);		/* header and footer differ */
	write_file("st.vmdk", p, len);
	image_refused(spec("st.vmdk"), TD_NODE_RDONLY, "differ");
	free(p);
	remove_all();
	ref_free(&r);
}

static void damaged_grains_are_errors(void **state)
{
	struct ref r = ref_new(SIZE);
	uint8_t *p = calloc(1, 2 * SIZE), buf[512];
	size_t len;
	struct rig g;

	(void)state;
	assert_non_null(p);
	rig_fill(&group.seed, r.bytes, r.size);
	len = make_stream(p, &r);
	p[128 * 512 + 12 + 1000] ^= 1;			/* of the first grain */
	write_file("dg.vmdk", p, len);
	image_must_open(&g, spec("dg.vmdk"), TD_NODE_RDONLY);
	assert_int_equal(rig_read(&g, 0, 512, buf), -EIO);
	assert_int_equal(rig_read(&g, GRAIN, 512, buf), 0);
	assert_memory_equal(buf, r.bytes + GRAIN, 512);
	image_must_close(&g);
	put_le32(p + 128 * 512 + 8, UINT32_MAX);	/* its length */
	write_file("dg.vmdk", p, len);
	image_must_open(&g, spec("dg.vmdk"), TD_NODE_RDONLY);
	assert_int_equal(rig_read(&g, 0, 512, buf), -EIO);
	image_must_close(&g);
	free(p);
	remove_all();
	ref_free(&r);
}

/* Grains that are tables, or nowhere. */
static void hostile_tables_do_no_harm(void **state)
{
	static const uint32_t sectors[] = { 1, 21, 22, 38, 39, 42, UINT32_MAX,
					    1u << 30 };
	static uint8_t buf[4096];
	size_t len, after_len;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sectors); i++) {
		uint8_t *p, *after;
		struct rig g;

		assert_int_equal(image_make("vmdk", path("h.vmdk"), 100 * MiB, NULL, ""),
				 0);
		p = map_file("h.vmdk", &len);
		assert_int_equal(get_le64(p + 48), 21);
		assert_int_equal(get_le64(p + 56), 38);
		put_le32(GT(p, GD(p), 0), sectors[i]);
		put_le32(GT(p, RGD(p), 0), sectors[i]);
		write_file("h.vmdk", p, len);
		image_must_open(&g, spec("h.vmdk"), 0);
		memset(buf, 0x41, sizeof(buf));
		assert_int_equal(rig_write(&g, 0, 4096, buf), -EIO);
		assert_int_equal(rig_write(&g, 32 * KiB, 512, buf), -EIO);
		image_must_close(&g);
		after = map_file("h.vmdk", &after_len);
		/* All but the CID is as it was. */
		memcpy(after + 512, p + 512, 512);
		assert_true(after_len >= len);
		assert_memory_equal(after, p, len);
		free(p);
		free(after);
	}
	remove_all();
}

/* Flag of zeroed grains: a hole in the parent. */
static void zeroes_give_space_back(void **state)
{
	struct ref r = ref_new(8 * MiB);
	struct stat st;
	struct rig g;

	(void)state;
	rig_fill(&group.seed, r.bytes, r.size);
	for (unsigned child = 0; child < 2; child++) {
		assert_int_equal(image_make("vmdk", path("zb.vmdk"), r.size, NULL, ""), 0);
		if (child) {
			image_must_open(&g, spec("zb.vmdk"), 0);
			assert_int_equal(rig_write(&g, 0, r.size, r.bytes), 0);
			image_must_close(&g);
		}
		assert_int_equal(image_make("vmdk", path("z.vmdk"), r.size,
					    child ? "zb.vmdk" : NULL,
					    "zeroed_grain=on"), 0);
		image_must_open(&g, spec("z.vmdk"), 0);
		for (unsigned i = 0; i < 4; i++) {
			assert_int_equal(rig_write(&g, 0, r.size, r.bytes), 0);
			assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
			assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, r.size, NULL), 0);
			assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		}
		memset(r.bytes, 0, r.size);
		assert_int_equal(image_differs(&g, &r), 0);
		image_must_close(&g);
		holds("z.vmdk", &r);
		if (!shell_status("command -v qemu-img >/dev/null"))
			qemu_agrees("z.vmdk", &r, true);
		assert_int_equal(stat(path("z.vmdk"), &st), 0);
		assert_true(st.st_blocks < 4096);
		assert_true(st.st_size < 30 * (off_t)MiB);
		rig_fill(&group.seed, r.bytes, r.size);
	}
	remove_all();
	ref_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(images_of_qemu),
		cmocka_unit_test(what_we_make_is_good_for_qemu),
		cmocka_unit_test(qemu_and_we_by_turns),
		cmocka_unit_test(a_disk_of_many_files),
		cmocka_unit_test(streams_are_read_and_not_written),
		cmocka_unit_test(children_know_their_parent),
		cmocka_unit_test(the_cid_changes_with_the_first_write),
		cmocka_unit_test(lines_that_qemu_does_not_know),
		cmocka_unit_test(extents_without_access_and_short_files),
		cmocka_unit_test(descriptors_that_are_refused),
		cmocka_unit_test(tables_that_are_not_there_are_made),
		cmocka_unit_test(a_damaged_directory_is_replaced_by_the_other),
		cmocka_unit_test(an_entry_of_one_set_is_enough),
		cmocka_unit_test(real_streams_are_read),
		cmocka_unit_test(damaged_grains_are_errors),
		cmocka_unit_test(hostile_tables_do_no_harm),
		cmocka_unit_test(zeroes_give_space_back),
	};

	return cmocka_run_group_tests(tests, rig_group_begin, rig_group_end);
}
