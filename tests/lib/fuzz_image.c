/* fuzz_image.c - see fuzz_image.h. */
#include "fuzz_image.h"

#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drv_rig.h"
#include "formats.h"
#include "image_judge.h"
#include "mem_store.h"

#define IMAGE_MAX (8 * MiB)
#define FILE_MAX (64 * MiB)
#define IO_MAX (64 * KiB)
#define DEPTH 4u

enum { RDONLY = 1, BACKED = 2, BLOCK_4K = 4 };	/* flags */

struct run {
	struct rig *g;
	unsigned inflight;
	bool idle;
};

struct io {
	struct run *run;
	struct iovec iov;
};

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
	__attribute__((weak));

static void put_pieces(struct mem_image *m, const uint8_t **p, const uint8_t *end)
{
	while (end - *p >= 4) {
		uint64_t at = ((*p)[0] | (*p)[1] << 8 | (*p)[2] << 16) * 64ull;
		size_t n = (*p)[3] * 8u;

		*p += 4;
		if (!n)
			break;
		n = min_u64(n, (uint64_t)(end - *p));
		if (at < IMAGE_MAX)
			mem_image_write(m, at, *p, n);
		*p += n;
	}
}

static void io_done(struct td_req *r, int rc)
{
	struct io *io = r->owner;
	struct run *run = io->run;

	(void)rc;
	td_pool_put(run->g->pool, r);
	free(io->iov.iov_base);
	free(io);
	run->inflight--;
	run->idle = true;
	loop_stop(run->g->env.loop);
}

static void wait_until(struct run *run, unsigned left)
{
	while (run->inflight > left) {
		run->idle = false;
		rig_run(run->g, &run->idle);
	}
}

static void start(struct run *run, enum td_op op, unsigned flags, uint64_t off,
		  uint64_t len, int fill)
{
	struct io *io = calloc(1, sizeof(*io));

	if (!io || posix_memalign(&io->iov.iov_base, 512, len + 512))
		abort();
	memset(io->iov.iov_base, fill, len);
	io->iov.iov_len = len;
	io->run = run;
	run->inflight++;
	rig_start(run->g, op, flags, off, len, &io->iov, 1, io_done, io);
}

static void read_back(struct run *run, uint64_t off, uint64_t len, int fill,
		      bool clean)
{
	char *buf = malloc(len);
	int rc;

	wait_until(run, 0);
	memset(buf, fill, len);
	rc = rig_write(run->g, off, len, buf);
	memset(buf, ~fill, len);
	if (!rc)
		rc = rig_read(run->g, off, len, buf);
	for (uint64_t i = 0; clean && !rc && i < len; i++)
		ASSERT(buf[i] == (char)fill);
	free(buf);
}

static void request(struct run *run, const uint8_t *p, bool clean)
{
	static const enum td_op ops[] = {
		TD_OP_READ, TD_OP_WRITE, TD_OP_WRITE, TD_OP_ZEROES,
		TD_OP_DISCARD, TD_OP_FLUSH, TD_OP_READ, TD_OP_EXTENTS,
	};
	const struct td_node *n = td_tree_root(run->g->tree);
	enum td_op op = ops[p[0] & 7];
	uint64_t size = n->size, off, len;

	if (!size)
		return;
	off = (p[1] | p[2] << 8) * 512ull;
	if (p[0] & 8)				/* all over the disk */
		off = size / 65536 * (off / 512);
	off = align_down(off % size, 512);
	len = (1 + (p[3] & 127)) * (p[3] & 128 ? 4096ull : 512);
	len = min_u64(min_u64(len, IO_MAX), size - off);
	if (op == TD_OP_FLUSH) {
		off = len = 0;
	} else if (op == TD_OP_EXTENTS) {
		struct td_extent v[8];
		struct td_extents x = { .v = v, .max = 8 };

		wait_until(run, 0);
		rig_extents(run->g, off, size - off, &x);
		return;
	} else if ((p[0] & 0x70) == 0x70 && n->caps & TD_CAP_WRITE) {
		read_back(run, off, len, p[3], clean);
		return;
	}
	start(run, op, op == TD_OP_WRITE && p[0] & 16 ? TD_REQ_FUA : 0, off, len,
	      p[3]);
	wait_until(run, p[0] & 128 ? 0 : DEPTH - 1);
}

static struct rig *the_rig(void)
{
	static struct rig g;

	if (!g.env.loop) {
		rig_init(&g);
		g.env.store = &mem_store_driver;
		log_open(LOG_TO_STDERR, "fuzz", getenv("FUZZ_LOG") ?
			 LOG_LVL_WARN : (enum log_level)0);
	}
	return &g;
}

void fuzz_image(const char *format, const uint8_t *data, size_t size)
{
	const uint8_t *p = data, *end = data + size;
	struct rig *g = the_rig();
	struct run run = { .g = g };
	struct judgement before, after;
	struct mem_store m;
	struct mem_image *image;
	char spec[64];
	unsigned flags;

	if (size < 8)
		return;
	flags = *p++;
	mem_store_init(&m, size);
	m.max_bytes = FILE_MAX;
	if (flags & BLOCK_4K)
		m.phys = 4096;
	image = &m.file[mem_store_file(&m, "/i/image")].image;
	mem_image_write(&m.file[mem_store_file(&m, "/i/base")].image, 8192, data,
			min_u64(size, 512));
	mem_image_resize(&m.file[1].image, 40960);
	put_pieces(image, &p, end);
	mem_image_resize(image, align_up(image->size, 512));
	image_judge(format, image, &before);
	snprintf(spec, sizeof(spec), "%s:/i/image%s", format,
		 flags & BACKED ? "\naio:/i/base" : "");
	if (!rig_open(g, spec, flags & RDONLY ? TD_NODE_RDONLY : 0)) {
		bool clean = !before.errors && !before.dirty && !before.marked;

		for (; end - p >= 4; p += 4)
			request(&run, p, clean);
		wait_until(&run, 0);
		rig_close(g);
		image_judge(format, image, &after);
		/* (It may have found what the judge did not.) */
		if (clean && !after.marked && after.errors) {
			fprintf(stderr, "clean before, and now: %s\n", after.first);
			abort();
		}
	}
	mem_store_free(&m);
}

static void said(void *arg, const char *line)
{
	(void)arg;
	if (getenv("FUZZ_LOG"))
		fprintf(stderr, "%s\n", line);
}

static void repair(const struct td_format_tool *t, struct td_node *n, unsigned how)
{
	struct td_check c = { .say = said, .fix_leaks = how, .fix_errors = how & 2 };
	struct td_check again = { .say = said };

	if (t->check(n, &c) || !how || c.failures || c.corruptions || c.leaks)
		return;
	ASSERT(!t->check(n, &again));
	ASSERT(!again.failures && !again.corruptions && !again.leaks);
}

static void command(const struct td_format_tool *t, struct td_node *n,
		    const uint8_t *p)
{
	json_t *o;

	switch (p[0] & 7) {
	case 0:
	case 1:
	case 2:
		repair(t, n, p[0] & 7);
		break;
	case 3:
	case 4:
	case 5:
		t->snap(n, (enum td_snap_op)((p[0] & 7) - 3), p[1] & 1 ? "a" : "1");
		break;
	case 6:
		o = json_object();
		t->info(n, o);
		json_decref(o);
		break;
	default:
		t->rebase(n, p[1] & 1 ? "" : "base", "raw");
	}
}

void fuzz_tools(const char *format, const uint8_t *data, size_t size)
{
	const struct td_format_tool *t = td_format_find(format);
	const uint8_t *p = data + 1, *end = data + size;
	struct rig *g = the_rig();
	struct mem_store m;
	struct mem_image *image;

	if (size < 8)
		return;
	mem_store_init(&m, size);
	m.max_bytes = FILE_MAX;
	image = &m.file[mem_store_file(&m, "/i/image")].image;
	put_pieces(image, &p, end);
	mem_image_resize(image, align_up(image->size, 512));
	if (!rig_open(g, "aio:/i/image", 0)) {
		for (; end - p >= 4; p += 4)
			command(t, td_tree_root(g->tree), p);
		rig_close(g);
	}
	mem_store_free(&m);
}

/* Where in the input the image's bytes are: a place for a number, or 0. */
static size_t pick(const uint8_t *data, size_t size, unsigned *seed)
{
	size_t at = 1, pieces = 0, n = 0;

	for (unsigned pass = 0; pass < 2; pass++) {
		for (at = 1, n = 0; at + 12 <= size && data[at + 3]; n++) {
			size_t len = data[at + 3] * 8u;

			if (pass && n == pieces) {
				len = min_u64(len, size - at - 4);
				return at + 4 + rand_r(seed) % (len / 4) * 4;
			}
			at += 4 + len;
		}
		if (!n)
			return 0;
		pieces = (unsigned)rand_r(seed) % n;
	}
	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
			       unsigned seed)
{
	static const uint64_t values[] = {
		0, 1, 2, 7, 8, 9, 16, 63, 64, 255, 256, 511, 512, 513, 4095, 4096,
		8192, 12288, 65535, 65536, 1u << 20, 0x7fffffff, 0x80000000,
		0xffffffff, 1ull << 40, (1ull << 56) - 1, 1ull << 56, 1ull << 61,
		(1ull << 62) + 4096, (1ull << 63) - 1, 1ull << 63,
		(1ull << 63) + 4096, (1ull << 63) + 4097, UINT64_MAX - 511,
		UINT64_MAX,
	};
	uint64_t v = values[(unsigned)rand_r(&seed) % ARRAY_SIZE(values)];
	size_t at = size > 20 && rand_r(&seed) & 1 ? pick(data, size, &seed) : 0;

	if (!at || at + 8 > size)
		return LLVMFuzzerMutate ? LLVMFuzzerMutate(data, size, max) : size;
	switch (rand_r(&seed) & 7) {
	case 0:
		put_be32(data + at, (uint32_t)v);
		break;
	case 1:				/* vmdk's are the other way round */
		v = htobe64(v);
		put_be64(data + at, v);
		break;
	case 2:				/* what is there, but a bit or a place off */
		put_be64(data + at, get_be64(data + at) ^
			 1ull << (rand_r(&seed) & 63));
		break;
	case 3:
		put_be64(data + at, get_be64(data + at) + 4096);
		break;
	case 4:				/* the same number as elsewhere */
		v = pick(data, size, &seed);
		if (v && v + 8 <= size)
			memmove(data + at, data + v, 8);
		break;
	default:
		put_be64(data + at, v);
	}
	return size;
}
