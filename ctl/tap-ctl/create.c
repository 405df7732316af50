/* create.c - tap-ctl create, allocate, spawn: what makes something and prints
 * its name. */
#include <errno.h>
#include <unistd.h>

#include "tap-ctl.h"

static int take_disk(void *arg, const struct msg *m)
{
	return disk_parse(arg, m);
}

/* Ask, and have exactly what the verb makes. */
static int make(struct call *c, const char *text, struct disk *k)
{
	int err;

	k->pid = k->minor = -1;
	err = ask(c, text, 0, take_disk, k);
	if (err)
		return err;
	if ((c->verb->ask != TAP_CTL_SPAWN && k->minor < 0) ||
	    (c->verb->ask != TAP_CTL_ALLOCATE && k->pid <= 0))
		return call_fail(c, -EBADMSG, "blktapctrl's answer is broken");
	return 0;
}

int run_allocate(struct call *c)
{
	struct disk k;
	char path[128];
	json_t *j;
	int err = make(c, "", &k);

	if (err)
		return err;
	marker_path(k.minor, path, sizeof(path));
	if (!c->json) {
		puts(path);
		return 0;
	}
	j = json_object();
	json_object_set_new(j, "minor", json_integer(k.minor));
	json_object_set_new(j, "marker", text_json(path));
	return print_json(j);
}

int run_spawn(struct call *c)
{
	struct disk k;
	int err = make(c, "", &k);
	json_t *j;

	if (err)
		return err;
	if (!c->json) {
		printf(isatty(STDOUT_FILENO) ? "tapdisk spawned with pid %d\n" :
		       "%d\n", k.pid);
		return 0;
	}
	j = json_object();
	json_object_set_new(j, "pid", json_integer(k.pid));
	return print_json(j);
}

int run_create(struct call *c)
{
	struct disk k;
	char path[128], text[TAP_TEXT_MAX + 1];
	int err = image_text(c, text);

	if (!err)
		image_by_script(c, text);
	if (!err)
		err = make(c, text, &k);
	if (err)
		return err;
	if (c->json)
		return print_json(disk_json(&k));
	puts(marker_path(k.minor, path, sizeof(path)));
	return 0;
}
