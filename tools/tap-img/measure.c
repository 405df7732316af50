/* measure.c - tap-img measure: how large a file an image needs. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'O', "output-format", "FORMAT", "of the new image (raw)" },
	{ 'o', "options", "NAME=VALUE,...", "of the new image; -o help lists them" },
	{ OPT_SIZE, "size", "SIZE", "of an empty disk" },
	{ 'f', "format", "FORMAT", "of the image to be converted (looked for in it)" },
	OPT_JSON_ROW,
	OPT_SHARE_ROW,
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct measure {
	struct make make;
	const char *format;
	bool json;
};

static int option(void *to, int id, const char *value)
{
	struct measure *m = to;

	switch (id) {
	case 'O':
		m->make.format = value;
		return ST_OK;
	case 'o':
		return values_add(&m->make.values, value);
	case OPT_SIZE:
		m->make.has_size = true;
		return arg_size("--size", value, &m->make.size);
	case 'f':
		m->format = value;
		return ST_OK;
	case 'U':
		env_opts.share = true;
		return ST_OK;
	default:
		return arg_output(value, &m->json);
	}
}

struct sizes {
	uint64_t need, full, bitmaps;
	bool has_bitmaps;
};

static void print(const struct measure *m, const struct sizes *s)
{
	printf(m->json ? "{\n    \"required\": %llu,\n    \"fully-allocated\": %llu" :
	       "required size: %llu\nfully allocated size: %llu",
	       (unsigned long long)s->need, (unsigned long long)s->full);
	if (s->has_bitmaps)
		printf(m->json ? ",\n    \"bitmaps\": %llu" : "\nbitmaps size: %llu",
		       (unsigned long long)s->bitmaps);
	printf(m->json ? "\n}\n" : "\n");
}

#define BITMAP_ENTRY 24u	/* bytes of a bitmap in qcow2's directory, and its name */

/* What the bitmaps of an image would take in a qcow2 image with such clusters: QEMU
 * copies them.  Only if it can have any. */
static void measure_bitmaps(const struct img *im, uint64_t cs, struct sizes *s)
{
	json_t *o = info_of(im->name, im->format), *b;
	const json_t *data = json_object_get(json_object_get(o, "format-specific"), "data");
	const char *compat = json_string_value(json_object_get(data, "compat"));
	uint64_t dir = 0;
	size_t i, k;

	s->has_bitmaps = compat && strcmp(compat, "0.10");
	json_array_foreach(json_object_get(data, "bitmaps"), i, b) {
		const json_t *flags = json_object_get(b, "flags"), *flag;
		const char *name = json_string_value(json_object_get(b, "name"));
		uint64_t grain = json_u64(b, "granularity"), clusters;
		bool stale = false;

		json_array_foreach((json_t *)flags, k, flag)
			stale |= !strcmp(json_string_value(flag), "in-use");
		if (stale)
			continue;
		clusters = (img_size(im) + grain - 1) / grain;	/* bits, bytes, clusters */
		clusters = ((clusters + 7) / 8 + cs - 1) / cs;
		s->bitmaps += clusters * cs + align_up(clusters * 8, cs);
		dir += align_up(BITMAP_ENTRY + strlen(name), 8);
	}
	s->bitmaps += align_up(dir, cs);
	json_decref(o);
}

static bool is_old(const char *compat)
{
	return compat && (!strcmp(compat, "0.10") || !strcmp(compat, "v2"));
}

/* Bytes of the disk that hold something, in units of the new image. */
static int count_data(struct img *im, uint32_t unit, uint64_t *bytes)
{
	uint64_t off = 0, size = img_size(im), seen = 0;
	struct td_extent e;
	struct scan s;

	*bytes = 0;
	scan_begin(&s, im, 0);
	for (; off < size; off += e.length) {
		uint64_t from, to;

		if (scan_at(&s, off, size - off, &e))
			return ST_FAILED;
		if (e.flags & TD_EXTENT_ZERO)
			continue;
		from = max_u64(align_down(off, unit), seen);
		to = align_up(off + e.length, unit);
		*bytes += to > from ? to - from : 0;
		seen = max_u64(seen, to);
	}
	*bytes = min_u64(*bytes, size);
	return ST_OK;
}

static int measure(struct measure *m, const char *name)
{
	struct td_format_make what = { 0 };
	struct img im = { 0 };
	struct sizes s = { 0 };
	uint64_t data = 0, cs;
	const char *unit, *space;
	int st;

	if (name) {
		if (img_open(&im, name, m->format, IMG_PROBE))
			return ST_FAILED;
		m->make.size = img_size(&im);
		m->make.has_size = m->make.size_found = true;
	}
	m->make.backing_unseen = true;
	st = make_check(&m->make);
	if (st != ST_OK)
		goto out;
	if (!m->make.tool->measure && m->make.tool != td_format_find("raw")) {
		log_err("how large images of format %s get is not known",
			m->make.tool->name);
		st = ST_FAILED;
		goto out;
	}
	s.need = s.full = m->make.size;
	if (m->make.tool->measure) {
		what.size = s.full;
		what.backing = m->make.backing;
		what.backing_format = m->make.backing_format;
		what.values = m->make.values.v;
		what.n_values = m->make.values.n;
		unit = td_format_value(m->make.tool->opts, &what, "cluster_size");
		space = td_format_value(m->make.tool->opts, &what, "preallocation");
		if (unit && (size_parse(unit, &data) || !is_pow2(data) ||
			     data > UINT32_MAX))
			data = 0;	/* measure says what is wrong with it */
		cs = data;
		if (name)
			st = count_data(&im, data ? (uint32_t)data : 512, &data);
		if (space && (!strcmp(space, "falloc") || !strcmp(space, "full")))
			data = s.full;
		else if (!name)
			data = 0;
		if (st == ST_OK && (m->make.tool->measure(&what, data, &s.need) ||
				    m->make.tool->measure(&what, s.full, &s.full)))
			st = ST_FAILED;
		if (st == ST_OK && name && cs && m->make.tool == td_format_find("qcow2") &&
		    !is_old(td_format_value(m->make.tool->opts, &what, "compat")))
			measure_bitmaps(&im, cs, &s);
	}
	if (st == ST_OK)
		print(m, &s);
out:
	img_close(&im);
	return st > 0 ? st : ST_OK;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct measure m = { 0 };
	char **word;
	int n, st = args_parse(c, argc, argv, option, &m, &word, &n);

	if (st < 0 && !m.make.values.help && n + m.make.has_size != 1)
		st = args_wrong(c, "wants either an image or --size");
	if (st < 0 && n)
		st = image_word(env_opts.described, &word[0], &m.format) ? ST_FAILED : -1;
	if (st < 0) {
		m.make.name = "";
		st = measure(&m, n ? word[0] : NULL);
	}
	make_free(&m.make);
	return st;
}

const struct command cmd_measure = {
	.name	= "measure",
	.usage	= "[FILE]",
	.help	= "Says how large a file a new image needs.",
	.table	= table,
	.run	= run,
};
