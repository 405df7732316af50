/* resize.c - tap-img resize: a disk's size, which goes through the image's driver.
 * It becomes smaller only if that is asked for by name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the image: it is never guessed here" },
	{ OPT_SHRINK, "shrink", NULL, "what lies behind the new size is lost" },
	{ OPT_PREALLOC, "preallocation", "MODE", "of what is new: off, metadata, falloc "
	  "or full (off)" },
	OPT_QUIET_ROW,
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct resize {
	const char *format, *space;
	bool shrink, quiet;
};

static int option(void *to, int id, const char *value)
{
	struct resize *r = to;

	switch (id) {
	case 'f':
		r->format = value;
		return ST_OK;
	case OPT_SHRINK:
		r->shrink = true;
		return ST_OK;
	case OPT_PREALLOC:
		r->space = value;
		return space_mode(value, false);
	default:
		r->quiet = true;
		return ST_OK;
	}
}

/* "SIZE", "+SIZE" or "-SIZE" to a size that a disk may have. */
static int new_size(const char *word, uint64_t old, uint64_t *size)
{
	bool by = *word == '+' || *word == '-';
	uint64_t v;

	if (arg_size("size", word + by, &v))
		return ST_FAILED;
	if (*word == '-' && v > old) {
		log_err("the disk has %llu bytes: it cannot lose %llu",
			(unsigned long long)old, (unsigned long long)v);
		return ST_FAILED;
	}
	if (*word == '+' && v > INT64_MAX - old) {
		log_err("no disk is that large");
		return ST_FAILED;
	}
	*size = align_up(*word == '+' ? old + v : *word == '-' ? old - v : v, 512);
	if (*size)
		return ST_OK;
	log_err("a disk of no size is none");
	return ST_FAILED;
}

static int shrink(const struct resize *r, struct img *im, uint64_t size)
{
	int err;

	if (r->space && strcmp(r->space, "off")) {
		log_err("%s: --preallocation is for disks that become larger", im->name);
		return ST_FAILED;
	}
	if (!r->shrink) {
		log_err("%s: --shrink is needed to make a disk smaller: what lies "
			"behind its new end is lost", im->name);
		return ST_FAILED;
	}
	if (!img_is_raw(im))
		return img_resize(im, size, TD_REQ_SHRINK) ? ST_FAILED : ST_OK;
	err = td_blocking_size(im->root, size);
	if (err)
		log_err("cannot shrink %s: %s", im->name, strerror(-err));
	return err ? ST_FAILED : ST_OK;
}

static int grow(const struct resize *r, struct img *im, uint64_t size)
{
	uint64_t old = img_size(im);

	if (r->space && img_is_raw(im) && space_mode(r->space, true))
		return ST_FAILED;
	if (img_resize(im, size, 0))
		return ST_FAILED;
	return make_space(im, r->space, old, size) ? ST_FAILED : ST_OK;
}

/* A format is not guessed for writing: say what to say. */
static int format_wanted(const char *name)
{
	const struct td_format_tool *t;

	if (img_probe(name, &t))
		return ST_FAILED;
	if (t)
		log_err("give the format: -f %s (what %s looks like), or -f raw",
			t->name, name);
	else
		log_err("give the format: -f raw (%s looks like nothing else)", name);
	return ST_FAILED;
}

static int resize(const struct resize *r, const char *name, const char *word)
{
	struct img im;
	uint64_t size;
	int st;

	if (!r->format)
		return format_wanted(name);
	if (img_open(&im, name, r->format, IMG_WRITE))
		return ST_FAILED;
	st = new_size(word, img_size(&im), &size);
	if (st == ST_OK && size < img_size(&im))
		st = shrink(r, &im, size);
	else if (st == ST_OK && size > img_size(&im))
		st = grow(r, &im, size);
	if (img_close(&im))
		st = ST_FAILED;
	if (st == ST_OK && !r->quiet)
		printf("Image resized.\n");
	return st;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct resize r = { 0 };
	const char *size = NULL;
	char **word;
	int n, st;

	/* The size comes last and may begin with '-': it is no option. */
	if (argc > 2 && argv[argc - 1][0] == '-' && argv[argc - 1][1] >= '0' &&
	    argv[argc - 1][1] <= '9')
		size = argv[--argc];
	st = args_parse(c, argc, argv, option, &r, &word, &n);
	if (st >= 0)
		return st;
	if (n + (size != NULL) != 2)
		return args_wrong(c, "wants an image and a size");
	if (image_word(env_opts.described, &word[0], &r.format))
		return ST_FAILED;
	return resize(&r, word[0], size ? size : word[1]);
}

const struct command cmd_resize = {
	.name	= "resize",
	.usage	= "FILE [+|-]SIZE",
	.help	= "Makes the disk in an image larger or, if it must be, smaller.",
	.table	= table,
	.run	= run,
};
