/* info.c - tap-ctl info, resize and stats: what is known of one disk. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/rundir.h"
#include "base/size.h"
#include "tap-ctl.h"

static int take_disk(void *arg, const struct msg *m)
{
	return disk_parse(arg, m);
}

/* KEY=VALUE lines; sectors, sector_size and info are tapdisk3's three (sectors
 * of sector_size bytes; info has blkif's VDISK_READONLY, 4). */
static void print_info(const struct disk *k)
{
	const struct tap_img *i = &k->img;
	char path[128];

	disk_line(k, stdout);
	if (i->sector_size)
		printf("sectors=%" PRIu64 "\nsector_size=%u\n",
		       i->bytes / i->sector_size, i->sector_size);
	printf("info=%#x\n", k->flags & TAP_OPEN_RDONLY ? 4 : 0);
	printf("size=%" PRIu64 "\n", i->bytes);
	printf("ring=%s\n", run_path(RUN_RING, k->minor, path, sizeof(path)));
	printf("nbd=%s\n", run_path(RUN_NBD, k->minor, path, sizeof(path)));
}

int run_info(struct call *c)
{
	struct disk k;
	int err = ask(c, "", 0, take_disk, &k);

	if (err)
		return err;
	if (c->json)
		return print_json(disk_json(&k));
	print_info(&k);
	return 0;
}

int run_resize(struct call *c)
{
	struct disk k;
	uint64_t size = 0;
	char text[16];
	int err;

	if (c->operand && (size_parse(c->operand, &size) || !size))
		return call_usage(c, "'%s' is not a size: want a number of bytes, "
				  "optionally with k, M, G or T", c->operand);
	err = ask(c, "", size, take_disk, &k);
	if (err)
		return err;
	if (c->json)
		return print_json(disk_json(&k));
	printf("%" PRIu64 " (%s)\n", k.img.bytes,
	       size_text(k.img.bytes, text));
	return 0;
}

struct text {
	char *s;
	size_t len;
};

static int take_text(void *arg, const struct msg *m)
{
	struct text *t = arg;
	char *s = realloc(t->s, t->len + m->hdr->len + 1);

	if (!s)
		return -ENOMEM;
	t->s = s;
	memcpy(s + t->len, m->body, m->hdr->len);
	t->len += m->hdr->len;
	s[t->len] = '\0';
	return 0;
}

/* One disk's, as a JSON object in *j.  The daemon's text is JSON already; it is
 * read only to be sure of it. */
static int ask_stats(const struct call *c, json_t **j)
{
	struct text t = { 0 };
	int err = ask(c, "", 0, take_text, &t);

	if (!err) {
		*j = t.s ? json_loadb(t.s, t.len, 0, NULL) : NULL;
		if (!*j)
			err = call_fail(c, -EBADMSG, "blktapctrl's answer is not "
					"JSON");
	}
	free(t.s);
	return err;
}

static int take_minor(void *arg, const struct msg *m)
{
	json_t *minors = arg;
	struct disk k;
	int err;

	if (!m->hdr->len)	/* the end */
		return 0;
	err = disk_parse(&k, m);
	if (!err && k.minor >= 0 && k.pid >= 0 && !(k.state & TAP_ST_DEAD))
		json_array_append_new(minors, json_integer(k.minor));
	return err;
}

/* Of every disk that has a process, in an array.  One that goes away meanwhile
 * is left out; so is one that has died or does not answer, but of that it is told. */
static int all_stats(const struct call *c)
{
	static const struct verb list = { .name = "list", .ask = TAP_CTL_LIST };
	json_t *minors = json_array(), *all = json_array(), *minor, *one;
	struct call each = *c;
	int err, one_err, lost = 0;
	size_t i;

	each.verb = &list;
	err = ask(&each, "", 0, take_minor, minors);
	each.verb = c->verb;
	json_array_foreach(minors, i, minor) {
		if (err)
			break;
		each.minor = (int32_t)json_integer_value(minor);
		each.quiet = true;
		one_err = ask_stats(&each, &one);
		each.quiet = false;
		if (!one_err)
			json_array_append_new(all, one);
		else if (one_err != -ENODEV)
			lost = call_fail(&each, one_err, "%s", strerror(-one_err));
	}
	json_decref(minors);
	if (err)
		json_decref(all);
	else
		print_json(all);
	return err ? err : lost;
}

int run_stats(struct call *c)
{
	json_t *j;
	int err;

	if (c->minor < 0 && c->pid < 0)
		return all_stats(c);
	err = ask_stats(c, &j);
	if (err)
		return err;
	json_dumpf(j, stdout, JSON_COMPACT);	/* a line, as tapdisk3's */
	putchar('\n');
	json_decref(j);
	return 0;
}
