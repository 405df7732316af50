/* measure.c - tap-img measure: how large a file an image needs. */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'O', "output-format", "FORMAT", "of the new image (raw)" },
	{ 'o', "options", "NAME=VALUE,...", "of the new image; -o help lists them" },
	{ OPT_SIZE, "size", "SIZE", "of an empty disk" },
	{ 'f', "format", "FORMAT", "of the image to be converted (looked for in it)" },
	OPT_JSON_ROW,
	OPT_SHARE_ROW,
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

static int measure(struct measure *m, const char *name)
{
	struct img im = { 0 };
	int st;

	if (name) {
		if (img_open(&im, name, m->format, IMG_PROBE, NULL))
			return ST_FAILED;
		m->make.size = img_size(&im);
		m->make.has_size = true;
	}
	st = make_check(&m->make);
	if (st == ST_OK)
		print(m, m->make.size, m->make.size);
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
