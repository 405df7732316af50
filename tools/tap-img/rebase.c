/* rebase.c - tap-img rebase: another backing file for an image.
 *
 * Unless it is told that the two are the same (-u), what the image has from its old
 * backing file, and would not have from the new one, is first written into it; the
 * header names the new one when all of that is on the disk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

#define BUF (1u << 20)
#define GRAIN 65536u	/* compared and written in pieces of that size */

static const struct opt table[] = {
	{ 'b', "backing", "FILE", "the new backing file; empty: none" },
	{ 'F', "backing-format", "FORMAT", "of it" },
	{ 'u', "unsafe", NULL, "it has what the old one has: only change the name" },
	{ 'f', "format", "FORMAT", "of the image (qcow2)" },
	{ 't', "cache", "MODE", "of the image: none, writeback, ... (writeback)" },
	{ 'T', "source-cache", "MODE", "of the backing file (writeback)" },
	OPT_PROGRESS_ROW,
	OPT_QUIET_ROW,
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct rebase {
	const char *format, *backing, *backing_format;
	struct cache cache, src_cache;
	bool unsafe, progress, quiet;

	struct img top, new;
	char *was, *is;			/* the same bytes, before and after */
};

static int option(void *to, int id, const char *value)
{
	struct rebase *r = to;

	switch (id) {
	case 'b':
		r->backing = value;
		return ST_OK;
	case 'F':
		r->backing_format = value;
		return ST_OK;
	case 'u':
		r->unsafe = true;
		return ST_OK;
	case 'f':
		r->format = value;
		return ST_OK;
	case 't':
		return arg_cache(value, &r->cache);
	case 'T':
		return arg_cache(value, &r->src_cache);
	case 'p':
		r->progress = true;
		return ST_OK;
	default:
		r->quiet = true;
		return ST_OK;
	}
}

/* [off, off + len) of the new backing file; zeroes behind its end. */
static int read_new(struct rebase *r, uint64_t off, uint64_t len)
{
	uint64_t size = r->new.tree ? img_size(&r->new) : 0;
	uint64_t n = off < size ? min_u64(len, size - off) : 0;

	memset(r->is + n, 0, len - n);
	return n ? img_io(&r->new, TD_OP_READ, 0, off, n, r->is) : 0;
}

/* What was there stays there.  Zeroes that come from no backing file, or from behind the
 * end of one, are said by nothing: they have to be written. */
static int keep(struct rebase *r, uint64_t off, const char *was, uint64_t len, bool below)
{
	if (below && is_zero(was, len))
		return img_io(&r->top, TD_OP_ZEROES, 0, off, len, NULL);
	return img_io(&r->top, TD_OP_WRITE, 0, off, len, (void *)was);
}

/* A run that the image itself says nothing of; below: the old backing file does. */
static int merge(struct rebase *r, uint64_t off, uint64_t len, bool below)
{
	int err = 0;

	for (uint64_t end = off + len, n; off < end && !err; off += n) {
		n = min_u64(BUF, end - off);
		err = img_io(&r->top, TD_OP_READ, 0, off, n, r->was);
		if (!err)
			err = read_new(r, off, n);
		for (uint64_t at = 0, m; at < n && !err; at += m) {
			m = min_u64(GRAIN, n - at);
			if (memcmp(r->was + at, r->is + at, m))
				err = keep(r, off + at, r->was + at, m, below);
		}
		if (err)
			log_err("cannot take over %llu bytes at %llu of %s: %s",
				(unsigned long long)n, (unsigned long long)off,
				r->top.name, strerror(-err));
		progress_add(n);
	}
	return err;
}

static int merge_all(struct rebase *r)
{
	uint64_t off = 0, size = img_size(&r->top);
	struct td_extent e;
	struct scan s;
	int err = 0;

	progress_begin(size, r->progress && !r->quiet);
	scan_begin(&s, &r->top, TD_REQ_WHERE);
	for (; off < size && !err; off += e.length) {
		err = scan_at(&s, off, size - off, &e);
		if (err)
			break;
		if (e.depth || e.flags & TD_EXTENT_ABSENT)
			err = merge(r, off, e.length, e.depth);
		else
			progress_add(e.length);
	}
	if (!err) {
		err = img_io(&r->top, TD_OP_FLUSH, 0, 0, 0, NULL);
		if (err)
			log_err("cannot flush %s: %s", r->top.name, strerror(-err));
	}
	progress_end(!err);
	return err;
}

static int open_new(struct rebase *r, const char *name)
{
	char *path;
	int err;

	if (!*r->backing)
		return 0;
	path = name_from_image(name, r->backing);
	err = img_open(&r->new, path, r->backing_format,
		       r->src_cache.direct ? IMG_DIRECT : 0);
	free(path);
	return err;
}

static int safe(struct rebase *r, const char *name)
{
	int err, end;

	r->was = malloc(BUF);
	r->is = malloc(BUF);
	ASSERT(r->was && r->is);
	err = img_open(&r->top, name, r->format, IMG_WRITE |
		       (r->cache.direct ? IMG_DIRECT : 0));
	if (!err)
		err = open_new(r, name);
	if (!err)
		err = merge_all(r);
	img_close(&r->new);
	end = img_close(&r->top);
	free(r->was);
	free(r->is);
	return err ? err : end;
}

static int rename_backing(struct rebase *r, const char *name)
{
	int err, end;

	err = img_open_file(&r->top, name, r->format, IMG_WRITE);
	if (err)
		return err;
	if (r->top.tool && r->top.tool->rebase) {
		err = r->top.tool->rebase(r->top.root, r->backing,
					  *r->backing ? r->backing_format : NULL);
	} else {
		log_err("%s: an image of format %s keeps the backing file it has",
			name, r->top.format);
		err = -EOPNOTSUPP;
	}
	end = img_close(&r->top);
	return err ? err : end;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct rebase r = { 0 };
	const struct td_format_tool *t;
	char **word;
	int n, st = args_parse(c, argc, argv, option, &r, &word, &n);

	if (st >= 0)
		return st;
	if (n != 1 || !r.backing)
		return args_wrong(c, "wants one image, and -b");
	if (*r.backing && !r.backing_format)
		return args_wrong(c, "a backing file needs its format: -F raw, -F qcow2, "
				  "...");
	if (image_word(env_opts.described, &word[0], &r.format))
		return ST_FAILED;
	if (!r.format)
		r.format = "qcow2";
	t = td_format_find(r.format);
	if (!t || !t->rebase) {
		log_err("images of format %s keep the backing file they have", r.format);
		return ST_FAILED;
	}
	if (!r.unsafe && safe(&r, word[0]))
		return ST_FAILED;
	return rename_backing(&r, word[0]) ? ST_FAILED : ST_OK;
}

const struct command cmd_rebase = {
	.name	= "rebase",
	.usage	= "-b BACKING FILE",
	.help	= "Gives an image another backing file.",
	.table	= table,
	.run	= run,
};
