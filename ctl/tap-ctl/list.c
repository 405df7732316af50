/* list.c - tap-ctl list: every disk, tapdisk and reserved minor.
 *
 * The filters are ANDed and ours to apply, but for the pid: the daemon knows which
 * ones a disk has had.  One that asks for what an entry does not have leaves it out:
 * block-tap takes the pid and the minor of whatever comes last, so a tapdisk without
 * an image must not pass for one with the image that was asked for.
 */
#include <string.h>
#include <unistd.h>

#include "tap-ctl.h"

struct list_out {
	const struct call *c;
	bool tty;
	json_t *array;		/* --json */
};

static bool wanted(const struct call *c, const struct disk *k)
{
	const char *type = c->value['t'], *file = c->value['f'];

	if (c->minor >= 0 && k->minor != c->minor)
		return false;
	if (type && strcmp(type, k->type))
		return false;
	return !file || !strcmp(file, k->path);
}

static int list_one(void *arg, const struct msg *m)
{
	struct list_out *o = arg;
	struct disk k;
	int err;

	if (!m->hdr->len)	/* the end */
		return 0;
	err = disk_parse(&k, m);
	if (err || !wanted(o->c, &k))
		return err;
	if (o->array)
		json_array_append_new(o->array, disk_json(&k));
	else if (o->tty)
		disk_row(&k, stdout);
	else
		disk_line(&k, stdout);
	return 0;
}

int run_list(struct call *c)
{
	struct list_out o = {
		.c = c,
		.tty = isatty(STDOUT_FILENO),
		.array = c->json ? json_array() : NULL,
	};
	struct call every = *c;
	int err;

	/* The daemon is asked for all minors, and errors are about the list. */
	every.minor = -1;
	err = ask(&every, "", 0, list_one, &o);
	if (!o.array)
		return err;
	if (!err)
		return print_json(o.array);
	json_decref(o.array);
	return err;
}
