/* check.c - tap-img check: is an image consistent? */
#include <string.h>

#include "base/log.h"
#include "tap_img.h"

enum { ST_NO_CHECK = 63 };

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the image (looked for in it)" },
	{ 'r', "repair", "WHAT", "leaks or all" },
	{ 'T', "source-cache", "MODE", "none, writeback, ... (writeback)" },
	OPT_JSON_ROW,
	OPT_QUIET_ROW,
	OPT_SHARE_ROW,
	OPTS_EVERY
};

struct check {
	const char *format, *repair;
	struct cache cache;
	bool json, quiet;
};

static int option(void *to, int id, const char *value)
{
	struct check *c = to;

	switch (id) {
	case 'f':
		c->format = value;
		return ST_OK;
	case 'r':
		c->repair = value;
		if (!strcmp(value, "leaks") || !strcmp(value, "all"))
			return ST_OK;
		log_err("bad value for -r: '%s': want leaks or all", value);
		return ST_FAILED;
	case 'T':
		return arg_cache(value, &c->cache);
	case 'q':
		c->quiet = true;
		return ST_OK;
	case 'U':
		env_opts.share = true;
		return ST_OK;
	default:
		return arg_output(value, &c->json);
	}
}

static int run(const struct command *cmd, int argc, char **argv)
{
	struct check c = { 0 };
	struct img im;
	char **word;
	int n, st = args_parse(cmd, argc, argv, option, &c, &word, &n);

	if (st >= 0)
		return st;
	if (n != 1)
		return args_wrong(cmd, "wants one image");
	if (img_open(&im, word[0], c.format, IMG_PROBE, NULL))
		return ST_FAILED;
	log_err("%s: images of format %s have nothing to check", im.name, im.format);
	img_close(&im);
	return ST_NO_CHECK;
}

const struct command cmd_check = {
	.name	= "check",
	.usage	= "FILE",
	.help	= "Checks an image: 0 it is consistent, 2 it is damaged, 3 space is lost.",
	.table	= table,
	.run	= run,
};
