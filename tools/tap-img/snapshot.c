/* snapshot.c - tap-img snapshot: states of a disk that are kept inside its image. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "tap_img.h"

static const struct opt table[] = {
	{ 'l', "list", NULL, "list the snapshots (so without any of these)" },
	{ 'c', "create", "NAME", "make one of the disk as it is" },
	{ 'a', "apply", "NAME", "make the disk what it was; what it is is lost" },
	{ 'd', "delete", "NAME", "delete one" },
	{ 'f', "format", "FORMAT", "of the image (qcow2; -l: looked for in it)" },
	OPT_QUIET_ROW,
	OPT_SHARE_ROW,
	OPT_DESCRIBED_ROW,
	OPTS_EVERY
};

struct snapshot {
	const char *format, *name;
	unsigned asked;			/* -l, -c, -a, -d */
	bool list;
	enum td_snap_op op;
};

static int option(void *to, int id, const char *value)
{
	struct snapshot *s = to;

	switch (id) {
	case 'l':
		s->list = true;
		s->asked++;
		return ST_OK;
	case 'c':
	case 'a':
	case 'd':
		s->op = id == 'c' ? TD_SNAP_CREATE : id == 'a' ? TD_SNAP_APPLY :
			TD_SNAP_DELETE;
		s->name = value;
		s->asked++;
		return ST_OK;
	case 'f':
		s->format = value;
		return ST_OK;
	case 'U':
		env_opts.share = true;
		return ST_OK;
	default:
		return ST_OK;
	}
}

static void print(const json_t *o)
{
	time_t date = (time_t)json_u64(o, "date-sec");
	uint64_t clock = json_u64(o, "vm-clock-sec");
	unsigned ms = (unsigned)(json_u64(o, "vm-clock-nsec") / 1000000);
	char size[32], when[64] = "", vm[64], icount[24] = "";
	struct tm tm;

	if (localtime_r(&date, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(vm, sizeof(vm), "%02llu:%02u:%02u.%03u",
		 (unsigned long long)(clock / 3600), (unsigned)(clock / 60 % 60),
		 (unsigned)(clock % 60), ms);
	if (json_object_get(o, "icount"))
		snprintf(icount, sizeof(icount), "%llu",
			 (unsigned long long)json_u64(o, "icount"));
	printf("%-10s%-17s%8s%20s%13s%11s\n",
	       json_string_value(json_object_get(o, "id")),
	       json_string_value(json_object_get(o, "name")),
	       size_human(json_u64(o, "vm-state-size"), size), when, vm, icount);
}

void snapshots_print(const json_t *list)
{
	size_t i;
	json_t *o;

	if (!list)
		return;
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG",
	       "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	json_array_foreach((json_t *)list, i, o)
		print(o);
}

static const char *text_of(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

/* The first that matches: by id, or else by name. */
static const char *find(const json_t *all, const char *id, const char *name, bool both)
{
	const json_t *o;
	size_t i;

	for (unsigned by_name = 0; by_name < 2; by_name++) {
		json_array_foreach((json_t *)all, i, o) {
			const char *its_id = text_of(o, "id"), *its_name = text_of(o, "name");
			bool is = both ? (!id || !strcmp(id, its_id)) &&
					 (!name || !strcmp(name, its_name)) :
				  !strcmp(by_name ? its_name : its_id, id);

			if (is)
				return its_id;
		}
	}
	return NULL;
}

char *snapshot_id(const char *image, const char *format, const char *which)
{
	json_t *o = info_of(image, format);
	struct values v = { 0 };
	char *id = NULL, *name = NULL, *found = NULL;
	bool both = !strncmp(which, "snapshot.", 9);
	const char *is;

	if (!o)
		return NULL;
	if (both) {
		values_add(&v, which);
		id = values_take(&v, "snapshot.id");
		name = values_take(&v, "snapshot.name");
	}
	is = both && !id && !name ? NULL :
	     find(json_object_get(o, "snapshots"), both ? id : which, name, both);
	if (is)
		found = strdup(is);
	else
		log_err("%s has no snapshot '%s' inside", image, which);
	values_free(&v);
	free(id);
	free(name);
	json_decref(o);
	return found;
}

static int list(const struct snapshot *s, const char *name)
{
	json_t *o = info_of(name, s->format);

	if (!o)
		return ST_FAILED;
	snapshots_print(json_object_get(o, "snapshots"));
	json_decref(o);
	return ST_OK;
}

static int run(const struct command *c, int argc, char **argv)
{
	struct snapshot s = { 0 };
	struct img im;
	char **word;
	int n, st = args_parse(c, argc, argv, option, &s, &word, &n);

	if (st >= 0)
		return st;
	if (n != 1 || s.asked > 1)
		return args_wrong(c, "wants one image, and one thing to do");
	if (image_word(env_opts.described, &word[0], &s.format))
		return ST_FAILED;
	if (s.list || !s.asked)
		return list(&s, word[0]);
	if (img_open_file(&im, word[0], s.format ? s.format : "qcow2", IMG_WRITE))
		return ST_FAILED;
	if (!im.tool || !im.tool->snap) {
		log_err("%s: images of format %s have no snapshots inside", im.name,
			im.format);
		st = ST_FAILED;
	} else {
		st = im.tool->snap(im.root, s.op, s.name) ? ST_FAILED : ST_OK;
	}
	if (img_close(&im))
		st = ST_FAILED;
	return st;
}

const struct command cmd_snapshot = {
	.name	= "snapshot",
	.usage	= "FILE",
	.help	= "Lists, makes, goes back to or deletes snapshots inside an image.",
	.table	= table,
	.run	= run,
};
