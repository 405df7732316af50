/* convert.c - tap-img convert: the disks in one or more images, one after another,
 * into a new image or (-n) one that is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

#define JOBS_DEFAULT 8u
#define JOBS_MAX 16u
#define GRAIN_DEFAULT 4096u
#define GRAIN_MAX (1u << 20)
#define SPARSE_MAX 2147483136u	/* as qemu-img has it */

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the sources (looked for in each)" },
	{ 'O', "output-format", "FORMAT", "of the destination (raw)" },
	{ 'o', "options", "NAME=VALUE,...", "of the destination; -o help lists them" },
	{ 'B', "backing", "FILE", "the destination holds only what FILE does not" },
	{ 'F', "backing-format", "FORMAT", "of the backing file" },
	{ 'n', "no-create", NULL, "the destination is there already" },
	{ OPT_TARGET_ZERO, "target-is-zero", NULL, "with -n: it reads as zeroes" },
	{ 'c', "compress", NULL, "write compressed clusters" },
	{ 'S', "sparse", "SIZE", "runs of zeroes from SIZE on are left out (4k); 0: "
	  "nothing is" },
	{ 'm', "jobs", "N", "pieces copied at a time, 1 to 16 (8)" },
	{ 'W', "out-of-order", NULL, "write pieces as they come" },
	{ 'T', "source-cache", "MODE", "none, writeback, ... (none)" },
	{ 't', "cache", "MODE", "of the destination (none)" },
	{ 'C', "copy-offload", NULL, NULL },
	OPT_PROGRESS_ROW,
	OPT_QUIET_ROW,
	OPT_SHARE_ROW,
	{ OPT_TARGET_IMAGE_OPTS, "target-image-opts", NULL, "with -n: the destination "
	  "is described as by --image-opts" },
	{ OPT_SALVAGE, "salvage", NULL, "what cannot be read becomes zeroes" },
	{ 'r', "rate-limit", "RATE", "bytes of data a second" },
	{ 'l', "snapshot", "NAME", "the disk as a snapshot inside the source has it" },
	{ OPT_BITMAPS, "bitmaps", NULL, NULL },
	{ OPT_SKIP_BROKEN, "skip-broken-bitmaps", NULL, NULL },
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct convert {
	struct make make;
	const char *format;
	struct cache src_cache, cache;
	uint64_t grain;
	unsigned jobs;
	uint64_t rate;
	const char *snapshot;
	bool no_create, target_zero, target_opts, pack, any_order, progress, quiet;
	bool salvage, offload, sparse_said;
};

static int sparse_size(const char *value, uint64_t *bytes)
{
	if (arg_size("-S", value, bytes))
		return ST_FAILED;
	if (is_aligned(*bytes, 512) && *bytes <= SPARSE_MAX)
		return ST_OK;
	log_err("bad -S '%s': want a multiple of 512, at most %u, or 0", value,
		SPARSE_MAX);
	return ST_FAILED;
}

static int option(void *to, int id, const char *value)
{
	struct convert *v = to;

	switch (id) {
	case 'f':
		v->format = value;
		return ST_OK;
	case 'O':
		v->make.format = value;
		return ST_OK;
	case 'o':
		return values_add(&v->make.values, value);
	case 'B':
		v->make.backing = value;
		return ST_OK;
	case 'F':
		v->make.backing_format = value;
		return ST_OK;
	case 'n':
		v->no_create = true;
		return ST_OK;
	case OPT_TARGET_ZERO:
		v->target_zero = true;
		return ST_OK;
	case 'c':
		v->pack = true;
		return ST_OK;
	case 'S':
		v->sparse_said = true;
		return sparse_size(value, &v->grain);
	case 'm':
		return arg_number("-m", value, 1, JOBS_MAX, &v->jobs);
	case 'W':
		v->any_order = true;
		return ST_OK;
	case 'T':
		return arg_cache(value, &v->src_cache);
	case 't':
		return arg_cache(value, &v->cache);
	case 'p':
		v->progress = true;
		return ST_OK;
	case 'q':
		v->quiet = true;
		return ST_OK;
	case 'U':
		env_opts.share = true;
		return ST_OK;
	case 'C':
		v->offload = true;
		return ST_OK;
	case 'r':
		return arg_size("rate", value, &v->rate);
	case 'l':
		v->snapshot = value;
		return ST_OK;
	case OPT_SALVAGE:
		v->salvage = true;
		return ST_OK;
	case OPT_TARGET_IMAGE_OPTS:
		v->target_opts = true;
		return ST_OK;
	default:
		log_err("bitmaps are not copied; qemu-img convert --bitmaps does that");
		return ST_FAILED;
	}
}

static int check_options(const struct command *c, struct convert *v, unsigned n)
{
	v->grain = min_u64(v->grain, GRAIN_MAX);
	while (v->grain & (v->grain - 1))	/* to a power of two */
		v->grain &= v->grain - 1;
	if (v->target_zero && !v->no_create)
		return args_wrong(c, "--target-is-zero needs -n");
	if (v->no_create && (v->make.values.n || v->make.backing))
		return args_wrong(c, "-n makes no image: -o and -B do not apply");
	if (v->target_zero && v->make.backing)
		return args_wrong(c, "an image with a backing file is not zero");
	if (v->snapshot && n > 1)
		return args_wrong(c, "-l is for one source");
	if (v->target_opts && !v->no_create)
		return args_wrong(c, "--target-image-opts needs -n");
	/* -C is a hint and is not followed; what contradicts it is told all the same. */
	if (v->offload && v->sparse_said)
		return args_wrong(c, "-C and -S exclude each other");
	if (v->offload && v->salvage)
		return args_wrong(c, "-C and --salvage exclude each other");
	return ST_OK;
}

static int open_source(const struct convert *v, const char *name, const char *format,
		       struct img *im)
{
	unsigned flags = IMG_PROBE | (v->src_cache.direct ? IMG_DIRECT : 0);
	char *id = NULL;
	int err;

	if (v->snapshot) {
		id = snapshot_id(name, format, v->snapshot);
		if (!id)
			return -ENOENT;
	}
	env_snapshot(id);
	err = img_open(im, name, format, flags);
	env_snapshot(NULL);
	free(id);
	return err;
}

/* All sources, and how large they are together. */
static int open_sources(const struct convert *v, char **name, unsigned n,
			struct img *src, uint64_t *size)
{
	for (unsigned i = 0; i < n; i++) {
		const char *format = v->format;

		if (image_word(env_opts.described, &name[i], &format) ||
		    open_source(v, name[i], format, &src[i]))
			return ST_FAILED;
		if (src[i].guessed && !v->quiet)
			log_warn("%s: no format was given and none is recognised: "
				 "copied as raw (-f raw says so)", name[i]);
		if (img_size(&src[i]) > INT64_MAX - *size) {
			log_err("the sources are larger than any disk together");
			return ST_FAILED;
		}
		*size += img_size(&src[i]);
	}
	return ST_OK;
}

static int open_dst(struct convert *v, uint64_t size, struct img *dst)
{
	if (!v->no_create) {
		v->make.quiet = true;
		if (make_image(&v->make))
			return ST_FAILED;
	}
	if (img_open(dst, v->make.name, v->make.format, IMG_WRITE |
		     (v->cache.direct ? IMG_DIRECT : 0)))
		return ST_FAILED;
	if (img_size(dst) < size) {
		log_err("%s is too small: %llu bytes for %llu", dst->name,
			(unsigned long long)img_size(dst),
			(unsigned long long)size);
		return ST_FAILED;
	}
	return ST_OK;
}

/* What is made anew reads as zeroes, but for the sectors of a device, and what is
 * decrypted without ever having been encrypted. */
static bool starts_zero(const struct convert *v, const struct img *dst)
{
	if (v->no_create)
		return v->target_zero;
	return !v->make.backing && !(img_is_raw(dst) && img_is_device(dst)) &&
	       !(dst->tool && dst->tool->noise);
}

static int copy(struct convert *v, struct img *src, unsigned n, struct img *dst,
		uint64_t size)
{
	struct copy c = {
		.src = src, .n_src = n, .dst = dst, .size = size,
		.jobs = v->jobs, .ordered = !v->any_order, .pack = v->pack,
		.unit = img_unit(dst), .dst_zero = starts_zero(v, dst),
		.differ = v->make.backing, .salvage = v->salvage, .quiet = v->quiet,
		.rate = v->rate,
	};
	int err;

	if (v->grain)
		c.grain = (uint32_t)max_u64(v->grain, c.unit);
	progress_begin(size, v->progress && !v->quiet);
	err = copy_run(&c);
	if (!err && !v->cache.unsafe) {
		err = img_io(dst, TD_OP_FLUSH, 0, 0, 0, NULL);
		if (err)
			log_err("cannot flush %s: %s", dst->name, strerror(-err));
	}
	progress_end(!err);
	return err ? ST_FAILED : ST_OK;
}

/* May clusters be compressed? */
static int check_pack(struct convert *v)
{
	const struct td_format_tool *t = td_format_find(v->make.format ? v->make.format :
							"raw");

	if (!v->pack || !t)
		return ST_OK;
	if (t->pack == TD_PACK_NEVER) {
		log_err("images of format %s are not written compressed", t->name);
		return ST_FAILED;
	}
	for (unsigned i = 0; i < v->make.values.n; i++) {
		const struct td_format_value *o = &v->make.values.v[i];

		if (strcmp(o->name, "preallocation") || !strcmp(o->value, "off"))
			continue;
		log_err("clusters are compressed or preallocated, not both");
		return ST_FAILED;
	}
	if (t->pack == TD_PACK_PLAIN) {
		if (!v->quiet)
			log_warn("images of format %s are not written compressed: clusters "
				 "are written as they are", t->name);
		v->pack = false;
	}
	return ST_OK;
}

static int convert(struct convert *v, char **name, unsigned n)
{
	struct img *src = calloc(n, sizeof(*src)), dst = { 0 };
	uint64_t size = 0;
	int st;

	ASSERT(src);
	st = image_word(v->target_opts, &name[n], &v->make.format);
	v->make.name = name[n];
	if (st == ST_OK && v->target_opts && !v->make.format) {
		log_err("--target-image-opts: what format? driver=FORMAT says it");
		st = ST_FAILED;
	}
	if (st == ST_OK)
		st = check_pack(v);
	if (st == ST_OK)
		st = open_sources(v, name, n, src, &size);
	if (st == ST_OK && !v->no_create) {
		v->make.size = size;
		v->make.has_size = v->make.size_found = true;
		st = make_check(&v->make);
	}
	if (st == ST_OK)
		st = open_dst(v, size, &dst);
	if (st == ST_OK)
		st = copy(v, src, n, &dst, size);
	for (unsigned i = 0; i < n; i++)
		img_close(&src[i]);
	if (img_close(&dst))
		st = ST_FAILED;
	free(src);
	return st;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct convert v = {
		.jobs = JOBS_DEFAULT, .grain = GRAIN_DEFAULT,
		.src_cache.direct = true, .cache.direct = true,
	};
	char **word;
	int n, st = args_parse(c, argc, argv, option, &v, &word, &n);

	if (st < 0 && v.make.values.help) {
		st = make_check(&v.make) > 0;
	} else if (st < 0 && n < 2) {
		st = args_wrong(c, "wants one or more sources and a destination");
	} else if (st < 0) {
		st = check_options(c, &v, (unsigned)n - 1);
		if (st == ST_OK)
			st = convert(&v, word, (unsigned)n - 1);
	}
	make_free(&v.make);
	return st;
}

const struct command cmd_convert = {
	.name	= "convert",
	.usage	= "FILE... DESTINATION",
	.help	= "Copies the disk in an image (or several, one after another) into another.",
	.table	= table,
	.run	= run,
};
