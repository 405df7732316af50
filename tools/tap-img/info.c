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
	OPTS_KEYS,
	OPT_DESCRIBED_ROW,
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

/* By the format's own words, or by what its driver makes of it. */
static json_t *describe(struct img *im)
{
	json_t *o = json_object();
	struct stat st;

	if (im->tool && im->tool->info) {
		if (im->tool->info(im->root, o)) {
			json_decref(o);
			return NULL;
		}
	} else {
		set_int(o, "virtual-size", img_size(im));
	}
	json_object_set_new(o, "filename", json_string(im->name));
	json_object_set_new(o, "format", json_string(im->format));
	if (!stat(im->name, &st))
		set_int(o, "actual-size", (uint64_t)st.st_blocks * 512);
	if (!json_object_get(o, "dirty-flag"))
		json_object_set_new(o, "dirty-flag", json_false());
	return o;
}

/* The backing file's name as it is found from where we are. */
static void add_full_name(json_t *o, const char *image)
{
	const char *name = json_string_value(json_object_get(o, "backing-filename"));
	char *full;

	if (!name)
		return;
	full = name_from_image(image, name);
	json_object_set_new(o, "full-backing-filename", json_string(full));
	free(full);
}

json_t *info_of(const char *name, const char *format)
{
	const struct td_format_tool *t = NULL;
	json_t *o;
	struct img im;
	int err;

	if (format)
		t = td_format_find(format);
	else if (img_probe(name, &t))
		return NULL;
	if (t && t->info)
		err = img_open_file(&im, name, t->name, 0);
	else
		err = img_open(&im, name, format ? format : t ? t->name : "raw", 0);
	if (err)
		return NULL;
	o = describe(&im);
	if (o)
		add_full_name(o, name);
	img_close(&im);
	return o;
}

/* Text. */

uint64_t json_u64(const json_t *o, const char *name)
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
				printf("%*s[%zu]:%s%s\n", indent + 4, "", i,
				       json_is_string(e) ? " " : "",
				       json_is_string(e) ? json_string_value(e) : "");
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
	       size_human(json_u64(o, "virtual-size"), buf),
	       (unsigned long long)json_u64(o, "virtual-size"));
	printf("disk size: %s\n", json_object_get(o, "actual-size") ?
	       size_human(json_u64(o, "actual-size"), buf) : "unavailable");
	if (json_is_true(json_object_get(o, "encrypted")))
		printf("encrypted: yes\n");
	if (json_object_get(o, "cluster-size"))
		printf("cluster_size: %llu\n",
		       (unsigned long long)json_u64(o, "cluster-size"));
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
	snapshots_print(json_object_get(o, "snapshots"));
	if (json_object_size(more)) {
		printf("Format specific information:\n");
		print_members(more, 4);
	}
}

/* The image and what it is built on, as the images say it. */
static json_t *info_chain(const char *name, const char *format)
{
	json_t *all = json_array(), *o = NULL;

	for (unsigned n = 0; name; n++) {
		if (n > TD_CHAIN_MAX) {
			log_err("more than %u images in one chain: it may come back "
				"to itself", TD_CHAIN_MAX);
			o = NULL;
		} else {
			o = info_of(name, format);
		}
		if (!o) {
			json_decref(all);
			return NULL;
		}
		json_array_append_new(all, o);
		name = get_text(o, "full-backing-filename");
		format = get_text(o, "backing-filename-format");
	}
	return all;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct info i = { 0 };
	json_t *o, *e;
	char **word;
	size_t k;
	int n, st = args_parse(c, argc, argv, option, &i, &word, &n);

	if (st >= 0)
		return st;
	if (n != 1)
		return args_wrong(c, "wants one image");
	if (image_word(env_opts.described, &word[0], &i.format))
		return ST_FAILED;
	o = i.chain ? info_chain(word[0], i.format) : info_of(word[0], i.format);
	if (!o)
		return ST_FAILED;
	if (i.json) {
		json_dumpf(o, stdout, JSON_INDENT(4));
		printf("\n");
	} else if (i.chain) {
		json_array_foreach(o, k, e) {
			if (k)
				printf("\n");
			print_text(e);
		}
	} else {
		print_text(o);
	}
	json_decref(o);
	return ST_OK;
}

const struct command cmd_info = {
	.name	= "info",
	.usage	= "FILE",
	.help	= "Says what an image is.",
	.table	= table,
	.run	= run,
};
