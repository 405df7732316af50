/* qcow2: random requests on images of qemu-img in many variants, against a mirror
 * in memory; qemu-img checks and reads what is left, and writes in between.
 *
 * One row of `variants` is one kind of image; what every row must do is in
 * take_turns().  VARIANT=name: that row alone; TURNS=n: more of it.
 */
#include <errno.h>
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

#define SECRET "--object secret,id=s0,data=pw"
#define AES "encrypt.format=aes,encrypt.key-secret=s0"
#define LUKS "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10"

enum kind_of_turn {
	NO_DISCARD	= 1u << 0,	/* shows what is below it */
	ENCRYPTED	= 1u << 1,
	DATA_FILE	= 1u << 2,
	BACKED		= 1u << 3,
};

static const struct variant {
	const char *name;
	const char *opts;	/* qemu-img create -o ... */
	unsigned mib;
	unsigned flags;
	const char *before;	/* shell, in the image's folder */
	const char *after;	/* on image i: snapshots, ... */
} variants[] = {
	{ "v2", "compat=0.10", 8, 0, NULL, NULL },
	{ "v2, 512", "compat=0.10,cluster_size=512", 4, 0, NULL, NULL },
	{ "default", NULL, 16, 0, NULL, NULL },
	{ "512", "cluster_size=512", 4, 0, NULL, NULL },
	{ "1k", "cluster_size=1k", 4, 0, NULL, NULL },
	{ "4k", "cluster_size=4k", 8, 0, NULL, NULL },
	{ "16k", "cluster_size=16k", 8, 0, NULL, NULL },
	{ "128k", "cluster_size=128k", 16, 0, NULL, NULL },
	{ "1M", "cluster_size=1M", 16, 0, NULL, NULL },
	{ "2M", "cluster_size=2M", 24, 0, NULL, NULL },
	{ "1 bit", "refcount_bits=1,cluster_size=4k", 8, 0, NULL, NULL },
	{ "2 bits", "refcount_bits=2,cluster_size=4k", 8, 0, NULL, NULL },
	{ "4 bits", "refcount_bits=4,cluster_size=4k", 8, 0, NULL, NULL },
	{ "8 bits", "refcount_bits=8,cluster_size=512", 4, 0, NULL, NULL },
	{ "32 bits", "refcount_bits=32,cluster_size=512", 4, 0, NULL, NULL },
	{ "64 bits", "refcount_bits=64,cluster_size=512", 4, 0, NULL, NULL },
	{ "extended 16k", "extended_l2=on,cluster_size=16k", 8, 0, NULL, NULL },
	{ "extended 64k", "extended_l2=on", 8, 0, NULL, NULL },
	{ "extended 128k", "extended_l2=on,cluster_size=128k", 16, 0, NULL, NULL },
	{ "extended 2M", "extended_l2=on,cluster_size=2M", 24, 0, NULL, NULL },
	{ "metadata", "preallocation=metadata", 8, 0, NULL, NULL },
	{ "full, 4k", "preallocation=full,cluster_size=4k", 8, 0, NULL, NULL },
	{ "lazy", "lazy_refcounts=on", 8, 0, NULL, NULL },
	{ "lazy, dirty", "lazy_refcounts=on,cluster_size=4k", 8, 0, NULL,
	  "qemu-io -f qcow2 -c 'write -q -P 5 1M 2M' -c 'discard -q 1M 64k' "
	  "-c 'write -q -P 6 5M 1M' -c abort i >/dev/null 2>&1; true" },
	{ "lazy, dirty, snapshot", "lazy_refcounts=on,cluster_size=4k", 8, 0, NULL,
	  "qemu-io -f qcow2 -c 'write -q -P 5 1M 3M' i && "
	  "qemu-img snapshot -c s1 i && "
	  "qemu-io -f qcow2 -c 'write -q -P 6 2M 4M' -c abort i "
	  ">/dev/null 2>&1; true" },
	{ "compressed", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c src i", NULL },
	{ "compressed, 4k", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c -o cluster_size=4k src i", NULL },
	{ "compressed, 1 bit", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c -o refcount_bits=1 src i", NULL },
	{ "compressed, v2, 512", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c -o compat=0.10,cluster_size=512 "
	  "src i", NULL },
	{ "compressed, zstd", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c -o compression_type=zstd src i",
	  NULL },
	{ "compressed, 2M, extended", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c "
	  "-o compression_type=zstd,cluster_size=2M,extended_l2=on src i", NULL },
	{ "compressed, snapshot", NULL, 8, 0,
	  "qemu-img convert -f raw -O qcow2 -c src i",
	  "qemu-img snapshot -c s1 i && qemu-img snapshot -c s2 i" },
	{ "snapshots", "cluster_size=4k", 8, 0, NULL,
	  "qemu-io -f qcow2 -c 'write -q -P 5 1M 3M' i && "
	  "qemu-img snapshot -c s1 i && "
	  "qemu-io -f qcow2 -c 'write -q -P 6 2M 4M' i && "
	  "qemu-img snapshot -c s2 i && "
	  "qemu-io -f qcow2 -c 'write -q -P 7 3M 64k' i && "
	  "qemu-img snapshot -c s3 i && qemu-img snapshot -d s2 i" },
	{ "snapshots, extended", "extended_l2=on", 8, 0, NULL,
	  "qemu-io -f qcow2 -c 'write -q -P 5 1M 3M' i && "
	  "qemu-img snapshot -c s1 i && "
	  "qemu-io -f qcow2 -c 'write -q -P 6 2050k 6k' i" },
	{ "snapshots, v2", "compat=0.10,cluster_size=512", 4, 0, NULL,
	  "qemu-io -f qcow2 -c 'write -q -P 5 1M 1M' i && "
	  "qemu-img snapshot -c s1 i" },
	{ "backing raw", NULL, 8, BACKED, "qemu-img create -q -f qcow2 -b src "
	  "-F raw i", NULL },
	{ "backing raw, shorter", NULL, 12, BACKED, "qemu-img create -q -f qcow2 "
	  "-b src -F raw i 12M", NULL },
	{ "backing raw, longer, v2", NULL, 5, BACKED | NO_DISCARD,
	  "qemu-img create -q -f qcow2 -o compat=0.10,cluster_size=4k -b src "
	  "-F raw i 5M", NULL },
	{ "backing qcow2, extended", NULL, 8, BACKED,
	  "qemu-img convert -f raw -O qcow2 -c src './b: 1' && "
	  "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=128k "
	  "-b './b: 1' -F qcow2 i", NULL },
	{ "chain of 3", NULL, 8, BACKED,
	  "qemu-img create -q -f qcow2 -b src -F raw b1 && "
	  "qemu-io -f qcow2 -c 'write -q -P 9 3M 999k' -c 'write -z 4M 1M' b1 "
	  ">/dev/null && qemu-img create -q -f qcow2 -o cluster_size=512 -b b1 "
	  "-F qcow2 b2 && qemu-io -f qcow2 -c 'write -q -P 8 3M 9k' b2 && "
	  "qemu-img create -q -f qcow2 -o cluster_size=1M -b b2 -F qcow2 i", NULL },
	{ "data file", "data_file=d", 8, DATA_FILE, NULL, NULL },
	{ "data file, raw", "data_file=d,data_file_raw=on", 8, DATA_FILE, NULL, NULL },
	{ "data file, extended", "data_file=d,extended_l2=on", 8, DATA_FILE, NULL,
	  "qemu-io -f qcow2 -c 'write -q -P 5 1M 3M' i" },
	{ "aes", AES ",cluster_size=4k", 8, ENCRYPTED, NULL, NULL },
	{ "luks", LUKS, 8, ENCRYPTED, NULL, NULL },
	{ "luks, data file", LUKS ",data_file=d", 8, ENCRYPTED | DATA_FILE, NULL, NULL },
	{ "luks, extended", LUKS ",extended_l2=on", 8, ENCRYPTED, NULL, NULL },
};

static struct rig g;
static const char *dir;
static char image[256];
static uint64_t seed;
static unsigned turns = 1;	/* TURNS */
static const struct td_secret secret = { (const unsigned char *)"pw", 2 };

static int sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* In the folder. */
static int sh(const char *fmt, ...)
{
	char command[4096];
	int n = snprintf(command, sizeof(command), "cd %s && ", dir), rc;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command + n, sizeof(command) - (size_t)n, fmt, ap);
	va_end(ap);
	rc = system(command);
	return rc;
}

static void must(int rc, const struct variant *v, const char *what)
{
	if (rc)
		fail_msg("%s: %s (%d): %s; seed %llu", v->name, what, rc, rig_why(),
			 (unsigned long long)seed);
}

/* What a program of qemu opens. */
static const char *opened_by_qemu(const struct variant *v)
{
	if (!(v->flags & ENCRYPTED))
		return "i";
	return strstr(v->opts, "luks") ?
	       SECRET " --image-opts driver=qcow2,file.filename=i,"
		      "encrypt.format=luks,encrypt.key-secret=s0" :
	       SECRET " --image-opts driver=qcow2,file.filename=i,"
		      "encrypt.format=aes,encrypt.key-secret=s0";
}

static const char *format_for_qemu(const struct variant *v)
{
	return v->flags & ENCRYPTED ? "" : "-f qcow2";
}

static void make(const struct variant *v)
{
	/* What compresses, what does not, and holes. */
	must(sh("rm -rf * && head -c 2M /dev/urandom >src && "
		"yes 'a line of text that repeats' | head -c 2M >>src && "
		"truncate -s 6M src && yes text | head -c 700000 >>src && "
		"truncate -s 8M src"), v, "source");
	if (v->before)
		must(sh("%s", v->before), v, "before");
	else
		/* qemu-img's account of its own time is often empty at first. */
		must(sh("for n in $(seq 300); do qemu-img create -q %s -f qcow2 %s %s "
			"i %uM 2>err && exit 0; grep -q CPU err || break; done; "
			"cat err; exit 1",
			v->flags & ENCRYPTED ? SECRET : "", v->opts ? "-o" : "",
			v->opts ? v->opts : "", v->mib), v, "create");
	if (v->after)
		must(sh("%s", v->after), v, "after");
}

/* The disk as qemu sees it. */
static void read_by_qemu(const struct variant *v, uint8_t *disk, uint64_t size)
{
	char path[300];
	FILE *f;

	must(sh("qemu-img convert %s -O raw %s raw", format_for_qemu(v),
		opened_by_qemu(v)), v, "qemu reads it");
	snprintf(path, sizeof(path), "%s/raw", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	memset(disk, 0, size);
	assert_true(fread(disk, 1, size, f) > 0);
	fclose(f);
}

static void same(const struct variant *v, const uint8_t *got, const uint8_t *want,
		 uint64_t off, uint64_t len, const char *what)
{
	for (uint64_t i = 0; i < len; i++)
		if (got[i] != want[i])
			fail_msg("%s: %s: byte %llu is %02x, not %02x; seed %llu",
				 v->name, what, (unsigned long long)(off + i), got[i],
				 want[i], (unsigned long long)seed);
}

static uint8_t buf[4 << 20];

static void read_all(const struct variant *v, const uint8_t *disk, uint64_t size,
		     const char *what)
{
	for (uint64_t at = 0, n; at < size; at += n) {
		n = min_u64(1 << 20, size - at);
		must(rig_read(&g, at, n, buf), v, "read");
		same(v, buf, disk + at, at, n, what);
	}
}

/* What is discarded reads as zeroes or as it was; in both cases it stays so. */
static void discarded(const struct variant *v, uint8_t *disk, uint64_t off,
		      uint64_t len)
{
	must(rig_read(&g, off, len, buf), v, "read after discard");
	for (uint64_t i = 0; i < len; i++)
		if (buf[i] && buf[i] != disk[off + i])
			fail_msg("%s: discarded byte %llu is %02x; seed %llu",
				 v->name, (unsigned long long)(off + i), buf[i],
				 (unsigned long long)seed);
	memcpy(disk + off, buf, len);
}

static void one_request(const struct variant *v, uint8_t *disk, uint64_t size)
{
	static const unsigned most[] = { 1, 8, 64, 600, 4096 };
	uint64_t sectors = size / 512, off, len;
	unsigned op = rig_random(&seed) % 10;
	int rc;

	len = 1 + rig_random(&seed) % most[rig_random(&seed) % ARRAY_SIZE(most)];
	off = rig_random(&seed) % sectors;
	if (rig_random(&seed) % 3 == 0)		/* clusters' borders */
		off = align_down(off, 128);
	len = min_u64(len, sectors - off) * 512;
	off *= 512;
	if (op < 3) {
		must(rig_read(&g, off, len, buf), v, "read");
		same(v, buf, disk + off, off, len, "read");
	} else if (op < 7) {
		rig_fill(&seed, buf, len);
		memcpy(disk + off, buf, len);
		must(rig_write(&g, off, len, buf), v, "write");
	} else if (op < 8) {
		rc = rig_io(&g, TD_OP_ZEROES, rig_random(&seed) & 1 ?
			    TD_REQ_NO_HOLE : 0, off, len, NULL);
		must(rc, v, "zeroes");
		memset(disk + off, 0, len);
	} else if (op < 9) {
		rc = rig_io(&g, TD_OP_DISCARD, 0, off, len, NULL);
		if (rc != -EOPNOTSUPP)
			must(rc, v, "discard");
		discarded(v, disk, off, len);
	} else {
		must(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), v, "flush");
	}
}

static void open_it(const struct variant *v, unsigned flags)
{
	char spec[300];

	snprintf(spec, sizeof(spec), "qcow2:%s", image);
	g.env.secrets = &secret;
	g.env.n_secrets = v->flags & ENCRYPTED ? 1 : 0;
	must(rig_open(&g, spec, flags), v, "open");
}

/* Snapshots, as raw files NAME.before or .after. */
static void keep_snapshots(const struct variant *v, const char *suffix)
{
	if (!v->after || !strstr(v->after, "snapshot"))
		return;
	must(sh("for s in s1 s2 s3; do "
		"qemu-img snapshot -l i | grep -qw $s || continue; "
		"qemu-img convert -l $s -f qcow2 -O raw i $s.%s || exit 1; done",
		suffix), v, "snapshots");
}

static void check_by_qemu(const struct variant *v, const uint8_t *disk,
			  uint64_t size)
{
	static uint8_t seen[32 << 20];

	must(sh("qemu-img check -q %s %s", format_for_qemu(v), opened_by_qemu(v)),
	     v, "qemu-img check");
	read_by_qemu(v, seen, size);
	same(v, seen, disk, 0, size, "qemu reads");
	if (v->flags & DATA_FILE && strstr(v->opts, "raw"))
		must(sh("cmp d raw"), v, "the data file is the disk");
	keep_snapshots(v, "after");
	must(sh("for s in *.before; do [ -e \"$s\" ] || continue; "
		"cmp $s ${s%%.before}.after || exit 1; done"), v,
	     "snapshots are as they were");
}

static void write_by_qemu(const struct variant *v, uint8_t *disk)
{
	static const char io[] = "qemu-io %s %s -c 'write -q -P 3 100k 300k' "
				 "-c 'write -q -P 4 3000k 512' "
				 "-c 'write -q -z 2M 130k' >/dev/null";

	if (v->flags & ENCRYPTED)	/* qemu-io has its own order of words */
		return;
	must(sh(io, format_for_qemu(v), opened_by_qemu(v)), v, "qemu writes");
	memset(disk + 100 * KiB, 3, 300 * KiB);
	memset(disk + 3000 * KiB, 4, 512);
	memset(disk + 2 * MiB, 0, 130 * KiB);
}

static void take_turns(const struct variant *v)
{
	static uint8_t disk[32 << 20];
	uint64_t size = v->mib * MiB;

	make(v);
	keep_snapshots(v, "before");
	read_by_qemu(v, disk, size);
	open_it(v, TD_NODE_RDONLY);
	assert_int_equal(td_tree_root(g.tree)->size, size);
	read_all(v, disk, size, "first read");
	must(rig_close(&g), v, "close");
	for (unsigned turn = 0; turn < turns; turn++) {
		write_by_qemu(v, disk);
		open_it(v, 0);
		for (unsigned i = 0; i < 100; i++)
			one_request(v, disk, size);
		if (turn & 1)
			must(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), v, "flush");
		read_all(v, disk, size, "read back");
		must(rig_close(&g), v, "close");
		check_by_qemu(v, disk, size);
	}
}

static void random_requests_on_every_variant(void **state)
{
	const char *only = getenv("VARIANT");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++)
		if (!only || !strcmp(only, variants[i].name))
			take_turns(&variants[i]);
}

/* Many at once, on fresh images; the model knows only those that read as zeroes. */
static void many_requests_at_once(void **state)
{
	const char *only = getenv("VARIANT");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		const struct variant *v = &variants[i];
		struct model_run how = {
			.seed = rig_random(&seed), .requests = 600, .depth = 24,
			.unit = 512, .max_len = 256 << 10,
		};

		if (v->before || v->after || (only && strcmp(only, v->name)))
			continue;
		make(v);
		open_it(v, 0);
		must((int)model_run(&g, &how), v, "model");
		must(rig_close(&g), v, "close");
		must(sh("qemu-img check -q %s %s", format_for_qemu(v),
			opened_by_qemu(v)), v, "qemu-img check");
	}
}

static int set_up(void **state)
{
	(void)state;
	seed = rig_seed();
	if (getenv("TURNS"))
		turns = (unsigned)atoi(getenv("TURNS"));
	dir = rig_dir("/tmp");
	snprintf(image, sizeof(image), "%s/i", dir);
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
		cmocka_unit_test(random_requests_on_every_variant),
		cmocka_unit_test(many_requests_at_once),
	};

	if (system("qemu-img --version >/dev/null 2>&1") != 0) {
		printf("SKIP: no qemu-img to compare with\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
