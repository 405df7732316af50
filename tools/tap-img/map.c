/* map.c - tap-img map: which parts of a disk are where.  Printed as it is found:
 * an image may have millions of runs.  JSON has numbers and booleans alone. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the image (looked for in it)" },
	{ OPT_START, "start-offset", "OFFSET", "begin there (0)" },
	{ OPT_MAX, "max-length", "SIZE", "so much of it (all)" },
	OPT_JSON_ROW,
	OPT_SHARE_ROW,
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct map {
	const char *format;
	uint64_t start, max;
	bool json;
};

static int option(void *to, int id, const char *value)
{
	struct map *m = to;

	switch (id) {
	case 'f':
		m->format = value;
		return ST_OK;
	case OPT_START:
		return arg_size("--start-offset", value, &m->start);
	case OPT_MAX:
		return arg_size("--max-length", value, &m->max);
	case 'U':
		env_opts.share = true;
		return ST_OK;
	default:
		return arg_output(value, &m->json);
	}
}

struct run {
	uint64_t start;
	struct td_extent e;
};

static bool goes_on(const struct run *r, uint64_t at, const struct td_extent *e)
{
	return r->e.length && r->start + r->e.length == at &&
	       r->e.flags == e->flags && r->e.depth == e->depth &&
	       r->e.file == e->file &&
	       (!(e->flags & TD_EXTENT_AT) || r->e.host + r->e.length == e->host);
}

static const char *yes(bool b)
{
	return b ? "true" : "false";
}

static void print_json(const struct run *r, bool first)
{
	const struct td_extent *e = &r->e;

	printf("%s{ \"start\": %llu, \"length\": %llu, \"depth\": %u, "
	       "\"present\": %s, \"zero\": %s, \"data\": %s",
	       first ? "" : ",\n", (unsigned long long)r->start,
	       (unsigned long long)e->length, e->depth,
	       yes(!(e->flags & TD_EXTENT_ABSENT)), yes(e->flags & TD_EXTENT_ZERO),
	       yes(!(e->flags & (TD_EXTENT_ZERO | TD_EXTENT_HOLE))));
	if (e->flags & TD_EXTENT_AT)
		printf(", \"offset\": %llu", (unsigned long long)e->host);
	printf("}");
}

/* The images of a chain, the first on top, as far down as was asked for. */
struct files {
	const struct img *im;
	json_t *info[TD_CHAIN_MAX + 1];
	unsigned n;
	char *name;		/* of the last file that was asked for ... */
	unsigned depth, file;	/* ... which is this */
};

static const char *text_of(const json_t *o, const char *name)
{
	return o ? json_string_value(json_object_get(o, name)) : NULL;
}

static json_t *info_at(struct files *f, unsigned depth)
{
	while (f->n <= depth && f->n < ARRAY_SIZE(f->info)) {
		const json_t *above = f->n ? f->info[f->n - 1] : NULL;
		const char *name = f->n ? text_of(above, "full-backing-filename") :
				   f->im->name;

		f->info[f->n] = name ? info_of(name, f->n ?
					       text_of(above, "backing-filename-format") :
					       f->im->format) : NULL;
		f->n++;
	}
	return depth < f->n ? f->info[depth] : NULL;
}

/* The n-th file that an image has beside its own, by the name in it; NULL: it does not
 * say. */
static const char *beside(const json_t *o, unsigned n)
{
	const json_t *data = json_object_get(json_object_get(o, "format-specific"),
					     "data");
	const json_t *list = json_object_get(data, "extents"), *e;
	size_t i;

	if (!list)
		return text_of(data, "data-file");
	json_array_foreach((json_t *)list, i, e) {
		const char *name = text_of(e, "filename"), *other;
		size_t k = 0;

		for (; k < i; k++) {
			other = text_of(json_array_get(list, k), "filename");
			if (!strcmp(other, name))
				break;
		}
		if (*name && k == i && !--n)
			return name;
	}
	return NULL;
}

static const char *file_of(struct files *f, const struct td_extent *e)
{
	const json_t *o;
	const char *own, *name;

	if (!e->depth && !e->file)
		return f->im->name;
	if (f->name && f->depth == e->depth && f->file == e->file)
		return f->name;
	o = info_at(f, e->depth);
	own = text_of(o, "filename");
	name = own && e->file ? beside(o, e->file) : own;
	free(f->name);
	f->name = name && e->file ? name_from_image(own, name) :
		  strdup(name ? name : "?");
	f->depth = e->depth;
	f->file = e->file;
	ASSERT(f->name);
	return f->name;
}

static void files_free(struct files *f)
{
	free(f->name);
	while (f->n)
		json_decref(f->info[--f->n]);
}

static int print_text(struct files *f, const struct run *r)
{
	const struct td_extent *e = &r->e;

	if (e->flags & (TD_EXTENT_ZERO | TD_EXTENT_HOLE))
		return ST_OK;
	if (!(e->flags & TD_EXTENT_AT)) {
		log_err("bytes at %llu are compressed, encrypted or in no file: only "
			"--output=json can tell of them",
			(unsigned long long)r->start);
		return ST_FAILED;
	}
	printf("%#-16llx%#-16llx%#-16llx%s\n", (unsigned long long)r->start,
	       (unsigned long long)e->length, (unsigned long long)e->host,
	       file_of(f, e));
	return ST_OK;
}

static int print_all(const struct map *m, struct img *im)
{
	uint64_t at = m->start, end = img_size(im);
	struct files f = { .im = im };
	struct run r = { 0 };
	bool first = true;
	struct scan s;
	int st = ST_OK;

	if (m->max < end - min_u64(at, end))
		end = at + m->max;
	if (m->json)
		printf("[");
	else
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	scan_begin(&s, im, TD_REQ_WHERE);
	while (st == ST_OK) {
		struct td_extent e = { 0 };

		if (at < end && scan_at(&s, at, end - at, &e)) {
			st = ST_FAILED;
			break;
		}
		if (e.length && goes_on(&r, at, &e)) {
			r.e.length += e.length;
			at += e.length;
			continue;
		}
		if (r.e.length && m->json)
			print_json(&r, first);
		else if (r.e.length)
			st = print_text(&f, &r);
		first &= !r.e.length;
		if (at >= end)
			break;
		r = (struct run){ at, e };
		at += e.length;
	}
	if (m->json && st == ST_OK)
		printf("]\n");
	files_free(&f);
	return st;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct map m = { .max = UINT64_MAX };
	struct img im;
	char **word;
	int n, st = args_parse(c, argc, argv, option, &m, &word, &n);

	if (st >= 0)
		return st;
	if (n != 1)
		return args_wrong(c, "wants one image");
	if (image_word(env_opts.described, &word[0], &m.format) ||
	    img_open(&im, word[0], m.format, IMG_PROBE))
		return ST_FAILED;
	st = print_all(&m, &im);
	img_close(&im);
	return st;
}

const struct command cmd_map = {
	.name	= "map",
	.usage	= "FILE",
	.help	= "Shows which parts of a disk are allocated, and where.",
	.table	= table,
	.run	= run,
};
