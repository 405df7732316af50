/* compare.c - tap-img compare: do two images hold the same disk?
 *
 * Ranges that both call zeroes are skipped; what one calls zeroes is read from the
 * other; the rest is read from both, several pieces at a time.  Of the differences
 * that have been seen when the last piece in flight is back, the first counts:
 * pieces are begun in order, so nothing before it was left out.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

#define JOBS 8u
#define BUF (1u << 20)
#define SECTOR 512u

enum { ST_DIFFER = 1, ST_OPEN = 2, ST_EXTENTS = 3, ST_READ = 4 };

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the first image (looked for in it)" },
	{ 'F', "second-format", "FORMAT", "of the second" },
	{ 's', "strict", NULL, "sizes and allocation must be the same too" },
	{ 'T', "source-cache", "MODE", "none, writeback, ... (writeback)" },
	OPT_PROGRESS_ROW,
	OPT_QUIET_ROW,
	OPT_SHARE_ROW,
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct job {
	struct compare *c;
	uint64_t off, len;
	unsigned reading;
	bool has[2];		/* buf holds that image's bytes; else zeroes */
	char *buf[2];
};

struct compare {
	const char *format[2];
	struct cache cache;
	bool strict, progress, quiet;

	struct img im[2];
	struct job job[JOBS];
	uint64_t differs;	/* the first that was seen, or UINT64_MAX */
	int st;
};

static int option(void *to, int id, const char *value)
{
	struct compare *c = to;

	switch (id) {
	case 'f':
		c->format[0] = value;
		return ST_OK;
	case 'F':
		c->format[1] = value;
		return ST_OK;
	case 's':
		c->strict = true;
		return ST_OK;
	case 'T':
		return arg_cache(value, &c->cache) ? ST_OPEN : ST_OK;
	case 'p':
		c->progress = true;
		return ST_OK;
	case 'q':
		c->quiet = true;
		return ST_OK;
	default:
		env_opts.share = true;
		return ST_OK;
	}
}

static void look(struct job *j)
{
	for (uint64_t at = 0; at < j->len; at += SECTOR) {
		uint64_t n = min_u64(j->len - at, SECTOR);
		bool same = j->has[0] && j->has[1] ?
			    !memcmp(j->buf[0] + at, j->buf[1] + at, n) :
			    is_zero(j->buf[j->has[1]] + at, n);

		if (!same) {
			j->c->differs = min_u64(j->c->differs, j->off + at);
			return;
		}
	}
}

static bool same(const struct job *j)
{
	return j->has[0] && j->has[1] ? !memcmp(j->buf[0], j->buf[1], j->len) :
	       is_zero(j->buf[j->has[1]], j->len);
}

static void read_done(struct td_req *r, int err)
{
	const struct img_part *p = r->owner;
	struct job *j = p->owner;
	struct compare *c = j->c;
	struct img *im = &c->im[p->iov.iov_base == j->buf[1]];

	td_pool_put(im->pool, r);
	if (err && c->st == ST_OK) {
		log_err("cannot read %s at byte %llu: %s", im->name,
			(unsigned long long)j->off, strerror(-err));
		c->st = ST_READ;
	}
	if (--j->reading)
		return;
	if (c->st == ST_OK && !same(j))
		look(j);
	progress_add(j->len);
	env_wake();
}

static struct job *free_job(struct compare *c)
{
	for (;;) {
		for (unsigned i = 0; i < JOBS; i++)
			if (!c->job[i].reading)
				return &c->job[i];
		env_wait();
	}
}

static void start(struct compare *c, uint64_t off, uint64_t len, const bool *data)
{
	struct job *j = free_job(c);

	j->c = c;
	j->off = off;
	j->len = len;
	j->reading = data[0] + data[1];
	for (unsigned i = 0; i < 2; i++) {
		j->has[i] = data[i];
		if (data[i] && !img_start(&c->im[i], TD_OP_READ, 0, off, len,
					  j->buf[i], read_done, j))
			ASSERT(!"two requests a job");
	}
}

static void drain(struct compare *c)
{
	for (unsigned i = 0; i < JOBS; i++)
		while (c->job[i].reading)
			env_wait();
}

/* One run that neither image changes in: skip it, or compare it in pieces. */
static uint64_t step(struct compare *c, uint64_t off, const struct td_extent *e)
{
	uint64_t len = min_u64(e[0].length, e[1].length);
	bool data[2] = { !(e[0].flags & TD_EXTENT_ZERO),
			 !(e[1].flags & TD_EXTENT_ZERO) };

	if (c->strict && e[0].flags != e[1].flags) {
		drain(c);
		if (c->differs == UINT64_MAX && c->st == ST_OK) {
			if (!c->quiet)
				printf("Strict mode: Offset %llu block status "
				       "mismatch!\n", (unsigned long long)off);
			c->st = ST_DIFFER;
		}
		return 0;
	}
	if (!data[0] && !data[1]) {
		progress_add(len);
		return len;
	}
	len = min_u64(len, BUF);
	start(c, off, len, data);
	return len;
}

static void walk(struct compare *c, uint64_t end)
{
	struct scan s[2];
	uint64_t off = 0;

	for (unsigned i = 0; i < 2; i++)
		scan_begin(&s[i], &c->im[i], c->strict ? TD_REQ_WHERE : 0);
	while (off < end && c->st == ST_OK && c->differs == UINT64_MAX) {
		struct td_extent e[2];

		for (unsigned i = 0; i < 2 && c->st == ST_OK; i++)
			if (scan_at(&s[i], off, end - off, &e[i]))
				c->st = ST_EXTENTS;
		if (c->st == ST_OK)
			off += step(c, off, e);
	}
	drain(c);
}

static void say(const struct compare *c, const char *text)
{
	if (!c->quiet)
		printf("%s\n", text);
}

static int compare(struct compare *c)
{
	uint64_t a = img_size(&c->im[0]), b = img_size(&c->im[1]);
	uint64_t end = max_u64(a, b);

	if (a != b && c->strict) {
		say(c, "Strict mode: Image size mismatch!");
		return ST_DIFFER;
	}
	c->differs = UINT64_MAX;
	progress_begin(end, c->progress && !c->quiet);
	walk(c, end);
	progress_end(c->st == ST_OK && c->differs == UINT64_MAX);
	if (c->st != ST_OK)
		return c->st;
	if (a != b && c->differs >= min_u64(a, b))
		say(c, "Warning: Image size mismatch!");
	if (c->differs != UINT64_MAX) {
		if (!c->quiet)
			printf("Content mismatch at offset %llu!\n",
			       (unsigned long long)c->differs);
		return ST_DIFFER;
	}
	say(c, "Images are identical.");
	return ST_OK;
}

static int open_both(struct compare *c, char **word)
{
	for (unsigned i = 0; i < JOBS; i++)
		for (unsigned k = 0; k < 2; k++)
			ASSERT(!posix_memalign((void **)&c->job[i].buf[k], 4096,
					       BUF));
	for (unsigned i = 0; i < 2; i++)
		if (image_word(env_opts.described, &word[i], &c->format[i]) ||
		    img_open(&c->im[i], word[i], c->format[i], IMG_PROBE |
			     (c->cache.direct ? IMG_DIRECT : 0)))
			return ST_OPEN;
	return ST_OK;
}

static int run(const struct command *cmd, int argc, char **argv)
{
	struct compare *c = calloc(1, sizeof(*c));
	char **word;
	int n, st;

	ASSERT(c);
	st = args_parse(cmd, argc, argv, option, c, &word, &n);
	if (st == ST_FAILED)
		st = ST_OPEN;		/* 1 is a difference */
	if (st < 0 && n != 2) {
		args_wrong(cmd, "wants two images");
		st = ST_OPEN;
	}
	if (st < 0)
		st = open_both(c, word);
	else
		n = 0;
	if (n && st == ST_OK)
		st = compare(c);
	for (unsigned i = 0; i < 2; i++)
		img_close(&c->im[i]);
	for (unsigned i = 0; i < JOBS; i++)
		for (unsigned k = 0; k < 2; k++)
			free(c->job[i].buf[k]);
	free(c);
	return st;
}

const struct command cmd_compare = {
	.name	= "compare",
	.usage	= "FILE1 FILE2",
	.help	= "Compares the disks in two images: 0 the same, 1 not, 2 to 4 an error.",
	.table	= table,
	.run	= run,
};
