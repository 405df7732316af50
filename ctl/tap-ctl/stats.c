/* stats.c - tap-ctl stats: the statistics of a disk, or of all.
 *
 * The daemon's text is JSON already; it is read only to be sure of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"

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

static json_t *text_read(const struct text *t)
{
	return t->s ? json_loadb(t->s, t->len, 0, NULL) : NULL;
}

static int one_disk(const struct call *c)
{
	struct text t = { 0 };
	int err = ask(c, "", 0, take_text, &t);
	json_t *j = err ? NULL : text_read(&t);

	if (!err && !j)
		err = call_fail(c, -EBADMSG, "blktapctrl's answer is not JSON");
	free(t.s);
	if (err)
		return err;
	json_dumpf(j, stdout, JSON_COMPACT);	/* a line, as tapdisk3's */
	putchar('\n');
	json_decref(j);
	return 0;
}

/* --- of all disks --- */

struct all {
	unsigned n;
	int32_t *minor;
	struct told {
		struct text text;
		int err;
	} *told;		/* of each */
};

static int take_minor(void *arg, const struct msg *m)
{
	struct all *a = arg;
	struct disk k;
	int32_t *more;
	int err;

	if (!m->hdr->len)	/* the end */
		return 0;
	err = disk_parse(&k, m);
	if (err || k.minor < 0 || k.pid < 0 || (k.state & TAP_ST_DEAD))
		return err;
	more = realloc(a->minor, (a->n + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	a->minor = more;
	a->minor[a->n++] = k.minor;
	return 0;
}

static void take_part(void *arg, unsigned i, int err, const struct msg *m)
{
	struct told *t = &((struct all *)arg)->told[i];

	if (!err && !t->err)
		err = take_text(&t->text, m);
	if (err)
		t->err = err;
}

/* An array of them, in the order of their minors.  A disk that went away meanwhile is left
 * out; so is one that has died or does not answer, but of that it is told. */
static int print_all(const struct call *c, const struct all *a)
{
	json_t *array = json_array();
	struct call each = *c;
	int lost = 0;

	for (unsigned i = 0; i < a->n; i++) {
		const struct told *t = &a->told[i];
		json_t *one = t->err ? NULL : text_read(&t->text);

		each.minor = a->minor[i];
		if (one)
			json_array_append_new(array, one);
		else if (!t->err)
			lost = call_fail(&each, -EBADMSG, "blktapctrl's answer is "
					 "not JSON");
		else if (t->err != -ENODEV)
			lost = call_fail(&each, t->err, "%s", strerror(-t->err));
	}
	print_json(array);
	return lost;
}

static int all_disks(const struct call *c)
{
	static const struct verb list = { .name = "list", .ask = TAP_CTL_LIST };
	struct call listing = *c;
	struct all a = { 0 };
	int err;

	listing.verb = &list;
	err = ask(&listing, "", 0, take_minor, &a);
	if (!err) {
		a.told = calloc(a.n + 1, sizeof(*a.told));
		err = a.told ? ask_each(c, a.minor, a.n, take_part, &a) :
		      call_fail(c, -ENOMEM, "%s", strerror(ENOMEM));
	}
	if (!err)
		err = print_all(c, &a);
	for (unsigned i = 0; a.told && i < a.n; i++)
		free(a.told[i].text.s);
	free(a.told);
	free(a.minor);
	return err;
}

int run_stats(struct call *c)
{
	return c->minor < 0 && c->pid < 0 ? all_disks(c) : one_disk(c);
}
