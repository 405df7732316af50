/* measure.c - tap-img measure: how large a file an image needs. */
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

static void print(const struct measure *m, uint64_t need, uint64_t full)
{
	if (m->json)
		printf("{\n    \"required\": %llu,\n    \"fully-allocated\": %llu\n}\n",
		       (unsigned long long)need, (unsigned long long)full);
	else
		printf("required size: %llu\nfully allocated size: %llu\n",
		       (unsigned long long)need, (unsigned long long)full);
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
	uint64_t need, full, data = 0;
	const char *unit, *space;
	int st;

	if (name) {
		if (img_open(&im, name, m->format, IMG_PROBE))
			return ST_FAILED;
		m->make.size = img_size(&im);
		m->make.has_size = true;
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
	need = full = m->make.size;
	if (m->make.tool->measure) {
		what.size = full;
		what.backing = m->make.backing;
		what.backing_format = m->make.backing_format;
		what.values = m->make.values.v;
		what.n_values = m->make.values.n;
		unit = td_format_value(m->make.tool->opts, &what, "cluster_size");
		space = td_format_value(m->make.tool->opts, &what, "preallocation");
		if (unit && (size_parse(unit, &data) || !is_pow2(data) ||
			     data > UINT32_MAX))
			data = 0;	/* measure says what is wrong with it */
		if (name)
			st = count_data(&im, data ? (uint32_t)data : 512, &data);
		if (space && (!strcmp(space, "falloc") || !strcmp(space, "full")))
			data = full;
		else if (!name)
			data = 0;
		if (st == ST_OK && (m->make.tool->measure(&what, data, &need) ||
				    m->make.tool->measure(&what, full, &full)))
			st = ST_FAILED;
	}
	if (st == ST_OK)
		print(m, need, full);
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
