/* create.c - tap-img create: an empty image. */
#include <string.h>

#include "base/log.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the image (raw)" },
	{ 'b', "backing", "FILE", "what the image does not hold is in FILE" },
	{ 'F', "backing-format", "FORMAT", "of the backing file" },
	{ 'u', "unsafe", NULL, "the backing file need not be there" },
	{ 'o', "options", "NAME=VALUE,...", "of the format; -o help lists them" },
	OPT_QUIET_ROW,
	OPTS_KEYS,
	OPTS_EVERY
};

static int option(void *to, int id, const char *value)
{
	struct make *m = to;

	switch (id) {
	case 'f':
		m->format = value;
		return ST_OK;
	case 'b':
		m->backing = value;
		return ST_OK;
	case 'F':
		m->backing_format = value;
		return ST_OK;
	case 'u':
		m->backing_unseen = true;
		return ST_OK;
	case 'o':
		return values_add(&m->values, value);
	default:
		m->quiet = true;
		return ST_OK;
	}
}

static int create(const struct command *c, struct make *m, char **word, int n)
{
	int st;

	if (!m->values.help && (n < 1 || n > 2))
		return args_wrong(c, "wants a file and, without a backing file, a "
				  "size");
	m->name = n ? word[0] : "";
	m->has_size = n == 2;
	if (m->has_size && arg_size("size", word[1], &m->size))
		return ST_FAILED;
	st = make_check(m);
	if (st == ST_OK && make_image(m))
		st = ST_FAILED;
	return st < 0 ? ST_OK : st;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct make m = { 0 };
	char **word;
	int n, st = args_parse(c, argc, argv, option, &m, &word, &n);

	if (st < 0)
		st = create(c, &m, word, n);
	make_free(&m);
	return st;
}

const struct command cmd_create = {
	.name	= "create",
	.usage	= "FILE [SIZE]",
	.help	= "Makes an empty image.  A FILE that is there is overwritten.",
	.table	= table,
	.run	= run,
};
