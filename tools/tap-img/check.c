/* check.c - tap-img check: is an image consistent? */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

enum { ST_CORRUPT = 2, ST_LEAKS = 3, ST_NO_CHECK = 63 };

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the image (looked for in it)" },
	{ 'r', "repair", "WHAT", "leaks or all" },
	{ 'T', "source-cache", "MODE", "none, writeback, ... (writeback)" },
	OPT_JSON_ROW,
	OPT_QUIET_ROW,
	OPT_SHARE_ROW,
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
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

static void say(void *arg, const char *line)
{
	(void)arg;
	fprintf(stderr, "%s\n", line);
}

/* One check; ST_OK: it ran. */
static int check_once(const struct check *c, struct img *im, bool fix,
		      struct td_check *k)
{
	*k = (struct td_check){
		.say = say, .fix_leaks = fix && c->repair,
		.fix_errors = fix && c->repair && !strcmp(c->repair, "all"),
	};
	return im->tool->check(im->root, k) ? ST_FAILED : ST_OK;
}

static void set_int(json_t *o, const char *name, uint64_t v, bool always)
{
	if (v || always)
		json_object_set_new(o, name, json_integer((json_int_t)v));
}

static void print_json(const struct img *im, const struct td_check *k)
{
	json_t *o = json_object();

	json_object_set_new(o, "filename", json_string(im->name));
	json_object_set_new(o, "format", json_string(im->format));
	set_int(o, "check-errors", k->failures, true);
	set_int(o, "image-end-offset", k->end, false);
	set_int(o, "corruptions", k->corruptions, false);
	set_int(o, "leaks", k->leaks, false);
	set_int(o, "corruptions-fixed", k->corruptions_fixed, false);
	set_int(o, "leaks-fixed", k->leaks_fixed, false);
	set_int(o, "total-clusters", k->total, false);
	set_int(o, "allocated-clusters", k->allocated, false);
	set_int(o, "fragmented-clusters", k->fragmented, false);
	set_int(o, "compressed-clusters", k->packed, false);
	json_dumpf(o, stdout, JSON_INDENT(4));
	printf("\n");
	json_decref(o);
}

static void print_text(const struct td_check *k)
{
	typedef unsigned long long ull;

	if (!k->corruptions && !k->leaks && !k->failures)
		printf("No errors were found on the image.\n");
	if (k->corruptions)
		printf("\n%llu errors were found on the image.\nData may be "
		       "corrupted, or further writes to the image may corrupt it.\n",
		       (ull)k->corruptions);
	if (k->leaks)
		printf("\n%llu leaked clusters were found on the image.\nThis means "
		       "waste of disk space, but no harm to data.\n", (ull)k->leaks);
	if (k->failures)
		printf("\n%llu internal errors have occurred during the check.\n",
		       (ull)k->failures);
	if (k->total && k->allocated)
		printf("%llu/%llu = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% "
		       "compressed clusters\n", (ull)k->allocated, (ull)k->total,
		       (double)k->allocated * 100 / (double)k->total,
		       (double)k->fragmented * 100 / (double)k->allocated,
		       (double)k->packed * 100 / (double)k->allocated);
	if (k->end)
		printf("Image end offset: %llu\n", (ull)k->end);
}

static int check(const struct check *c, struct img *im)
{
	struct td_check k, was;
	int st = check_once(c, im, true, &k);

	if (st == ST_OK && (k.corruptions_fixed || k.leaks_fixed)) {
		was = k;
		if (!c->json && !c->quiet)
			printf("The following inconsistencies were found and "
			       "repaired:\n\n    %llu leaked clusters\n    %llu "
			       "corruptions\n\nDouble checking the fixed image "
			       "now...\n", (unsigned long long)k.leaks_fixed,
			       (unsigned long long)k.corruptions_fixed);
		fflush(stdout);
		st = check_once(c, im, false, &k);
		k.leaks_fixed = was.leaks_fixed;
		k.corruptions_fixed = was.corruptions_fixed;
	}
	if (st != ST_OK)
		return st;
	if (c->json)
		print_json(im, &k);
	else if (!c->quiet)
		print_text(&k);
	if (k.failures)
		return ST_FAILED;
	return k.corruptions ? ST_CORRUPT : k.leaks ? ST_LEAKS : ST_OK;
}

/* A format without a check of its own: its driver looks at every entry of its tables
 * when it is asked where the disk is. */
static int check_map(struct img *im, struct td_check *k)
{
	uint64_t off = 0, size = img_size(im), end;
	const struct td_node *store = im->root;
	struct td_extent e;
	struct scan s;

	while (store->child)
		store = store->child;
	scan_begin(&s, im, TD_REQ_WHERE);
	for (; off < size; off += e.length) {
		if (scan_at(&s, off, size - off, &e)) {
			k->corruptions++;
			break;
		}
		end = e.host + (e.flags & TD_EXTENT_AT ? e.length : 0);
		if (e.depth || e.file || end <= align_up(store->size, img_unit(im)))
			continue;
		td_check_say(k, "error: bytes %llu to %llu of the disk lie behind the "
			     "end of the file", (unsigned long long)off,
			     (unsigned long long)(off + e.length));
		k->corruptions++;
	}
	return ST_OK;
}

static int check_driver(const struct check *c, const char *name, const char *format)
{
	struct td_check k = { .say = say };
	struct img im;
	int st;

	if (c->repair) {
		log_err("%s: images of format %s are not repaired", name, format);
		return ST_FAILED;
	}
	if (img_open(&im, name, format, IMG_PROBE |
		     (c->cache.direct ? IMG_DIRECT : 0)))
		return ST_FAILED;
	st = check_map(&im, &k);
	img_close(&im);
	if (st == ST_OK && c->json)
		print_json(&im, &k);
	else if (st == ST_OK && !c->quiet)
		print_text(&k);
	return st != ST_OK ? st : k.corruptions ? ST_CORRUPT : ST_OK;
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
	if (image_word(env_opts.described, &word[0], &c.format))
		return ST_FAILED;
	if (img_open_file(&im, word[0], c.format, IMG_PROBE |
			  (c.repair ? IMG_WRITE : 0) |
			  (c.cache.direct ? IMG_DIRECT : 0)))
		return ST_FAILED;
	if (im.tool && im.tool->check) {
		st = check(&c, &im);
	} else if (im.tool && im.tool->info) {
		img_close(&im);
		return check_driver(&c, word[0], im.format);
	} else {
		log_err("%s: images of format %s have nothing to check", im.name,
			im.format);
		st = ST_NO_CHECK;
	}
	if (img_close(&im) && st == ST_OK)
		st = ST_FAILED;
	return st;
}

const struct command cmd_check = {
	.name	= "check",
	.usage	= "FILE",
	.help	= "Checks an image: 0 it is consistent, 2 it is damaged, 3 space is lost.",
	.table	= table,
	.run	= run,
};
