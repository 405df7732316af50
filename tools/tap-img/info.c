/* info.c - tap-img info: what an image is.  The members are those of qemu-img's
 * ImageInfo; the text is made of them. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'f', "format", "FORMAT", "of the image (looked for in it)" },
	{ OPT_CHAIN, "backing-chain", NULL, "also of its backing files" },
	OPT_JSON_ROW,
	OPT_SHARE_ROW,
	OPTS_EVERY
};

struct info {
	const char *format;
	bool json, chain;
};

static int option(void *to, int id, const char *value)
{
	struct info *i = to;

	switch (id) {
	case 'f':
		i->format = value;
		return ST_OK;
	case OPT_CHAIN:
		i->chain = true;
		return ST_OK;
	case 'U':
		env_opts.share = true;
		return ST_OK;
	default:
		return arg_output(value, &i->json);
	}
}

static void set_int(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

json_t *info_of(struct img *im)
{
	json_t *o = json_object();
	struct stat st;

	set_int(o, "virtual-size", img_size(im));
	json_object_set_new(o, "filename", json_string(im->name));
	json_object_set_new(o, "format", json_string(im->format));
	if (!stat(im->name, &st))
		set_int(o, "actual-size", (uint64_t)st.st_blocks * 512);
	json_object_set_new(o, "dirty-flag", json_false());
	return o;
}

/* Text. */

static uint64_t get_int(const json_t *o, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(o, name));
}

static const char *get_text(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

/* Members of "format-specific", one a line, "lazy-refcounts" as "lazy refcounts". */
static void print_members(const json_t *o, int indent)
{
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)o, name, v) {
		printf("%*s", indent, "");
		for (const char *p = name; *p; p++)
			putchar(*p == '-' ? ' ' : *p);
		if (json_is_object(v) || json_is_array(v)) {
			size_t i;
			json_t *e;

			printf(":\n");
			if (json_is_object(v))
				print_members(v, indent + 4);
			json_array_foreach(v, i, e) {
				printf("%*s[%zu]:\n", indent + 4, "", i);
				print_members(e, indent + 8);
			}
		} else if (json_is_boolean(v)) {
			printf(": %s\n", json_is_true(v) ? "true" : "false");
		} else if (json_is_string(v)) {
			printf(": %s\n", json_string_value(v));
		} else {
			printf(": %lld\n", (long long)json_integer_value(v));
		}
	}
}

static void print_text(const json_t *o)
{
	const json_t *more = json_object_get(json_object_get(o, "format-specific"),
					     "data");
	const char *backing = get_text(o, "backing-filename");
	const char *full = get_text(o, "full-backing-filename");
	char buf[32];

	printf("image: %s\n", get_text(o, "filename"));
	printf("file format: %s\n", get_text(o, "format"));
	printf("virtual size: %s (%llu bytes)\n",
	       size_human(get_int(o, "virtual-size"), buf),
	       (unsigned long long)get_int(o, "virtual-size"));
	printf("disk size: %s\n", json_object_get(o, "actual-size") ?
	       size_human(get_int(o, "actual-size"), buf) : "unavailable");
	if (json_is_true(json_object_get(o, "encrypted")))
		printf("encrypted: yes\n");
	if (json_object_get(o, "cluster-size"))
		printf("cluster_size: %llu\n",
		       (unsigned long long)get_int(o, "cluster-size"));
	if (json_is_true(json_object_get(o, "dirty-flag")))
		printf("cleanly shut down: no\n");
	if (backing) {
		printf("backing file: %s", backing);
		if (full && strcmp(full, backing))
			printf(" (actual path: %s)", full);
		printf("\n");
	}
	if (get_text(o, "backing-filename-format"))
		printf("backing file format: %s\n",
		       get_text(o, "backing-filename-format"));
	if (json_object_size(more)) {
		printf("Format specific information:\n");
		print_members(more, 4);
	}
}

static int run(const struct command *c, int argc, char **argv)
{
	struct info i = { 0 };
	struct img im;
	json_t *o;
	char **word;
	int n, st = args_parse(c, argc, argv, option, &i, &word, &n);

	if (st >= 0)
		return st;
	if (n != 1)
		return args_wrong(c, "wants one image");
	if (img_open(&im, word[0], i.format, IMG_PROBE, NULL))
		return ST_FAILED;
	o = info_of(&im);
	if (i.json) {
		json_t *all = o;

		if (i.chain)
			all = json_pack("[o]", o);
		json_dumpf(all, stdout, JSON_INDENT(4));
		printf("\n");
		json_decref(all);
	} else {
		print_text(o);
		json_decref(o);
	}
	img_close(&im);
	return ST_OK;
}

const struct command cmd_info = {
	.name	= "info",
	.usage	= "FILE",
	.help	= "Says what an image is.",
	.table	= table,
	.run	= run,
};
