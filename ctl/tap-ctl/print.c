/* print.c - disks, errors and JSON, as tap-ctl writes them.
 *
 * The formats of `list` are tapdisk3's, which scripts parse: do not touch.
 * Names may hold anything; what would break a line or move a cursor is shown
 * as '?', and in JSON as the escape that it asks for.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/rundir.h"
#include "tap-ctl.h"

/* Where tapdisk3 keeps its markers, and what Xen's block-tap strips. */
#define TD3_MARKER "/run/blktap-control/tapdisk/tapdisk-"

const char *marker_path(int32_t minor, char *buf, size_t len)
{
	if (!rundir_is_default())
		return run_path(RUN_MARKER, minor, buf, len);
	snprintf(buf, len, TD3_MARKER "%d", minor);
	return buf;
}

/* The store of FILTER:OPTIONS|...|TYPE:REST.  A path may hold a '|' itself, so
 * what follows a type and starts with '/' is the end. */
static void split_spec(struct disk *k)
{
	const char *s = k->spec, *colon;
	size_t n;

	while ((colon = strchr(s, ':')) && colon[1] != '/') {
		const char *bar = strchr(colon, '|');

		if (!bar)
			break;
		s = bar + 1;
	}
	n = colon ? (size_t)(colon - s) : 0;
	if (n >= sizeof(k->type))
		n = sizeof(k->type) - 1;
	memcpy(k->type, s, n);
	k->type[n] = '\0';
	k->path = colon ? colon + 1 : s;
}

int disk_parse(struct disk *k, const struct msg *m)
{
	const struct tap_disk *d = m->body;	/* aligned: see msg.h */
	char *nl;

	if (m->hdr->len < sizeof(*d) ||
	    msg_text(m, sizeof(*d), k->spec, sizeof(k->spec)))
		return -EBADMSG;
	k->pid = d->pid;
	k->minor = d->minor;
	k->state = d->state;
	k->flags = d->flags;
	k->img = d->img;
	k->restarts = d->restarts;
	memcpy(k->last, d->last, sizeof(k->last));
	k->last[sizeof(k->last) - 1] = '\0';
	if (k->state & TAP_ST_CLOSED)
		k->spec[0] = '\0';	/* the last image is not its any more */
	nl = strchr(k->spec, '\n');
	k->backing = nl ? nl + 1 : NULL;
	if (nl)
		*nl = '\0';
	split_spec(k);
	return 0;
}

/* Half of a disk has no state: a minor without a process or the reverse; but one
 * whose tapdisk has died or is about to be replaced has one. */
static bool has_state(const struct disk *k)
{
	return k->minor >= 0 && (k->pid >= 0 ||
				 k->state & (TAP_ST_DEAD | TAP_ST_OPENING));
}

const char *disk_state(const struct disk *k)
{
	static const struct { uint32_t bit; const char *word; } t[] = {
		{ TAP_ST_DEAD, "dead" },
		{ TAP_ST_PAUSED, "paused" },
		{ TAP_ST_PAUSING, "pausing" },
		{ TAP_ST_CLOSING, "closing" },
		{ TAP_ST_OPENING, "opening" },
		{ TAP_ST_CLOSED, "closed" },
	};

	if (!has_state(k))
		return k->minor < 0 ? "spawned" : "allocated";
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (k->state & t[i].bit)
			return t[i].word;
	return k->state ? "unknown" : "running";
}

static bool has_args(const struct disk *k)
{
	return k->spec[0] && k->type[0];
}

void print_clean(const char *s, FILE *to)
{
	for (; *s; s++)
		putc((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s, to);
}

void disk_row(const struct disk *k, FILE *to)
{
	char pid[12] = "-", minor[12] = "-", state[12] = "-";

	if (k->pid >= 0)
		snprintf(pid, sizeof(pid), "%d", k->pid);
	if (k->minor >= 0)
		snprintf(minor, sizeof(minor), "%d", k->minor);
	if (has_state(k))
		snprintf(state, sizeof(state), "%#x", k->state);
	fprintf(to, "%8s %4s %4s %10s ", pid, minor, state,
		has_args(k) ? k->type : "-");
	print_clean(has_args(k) ? k->path : "-", to);
	putc('\n', to);
}

void disk_line(const struct disk *k, FILE *to)
{
	const char *gap = "";

	if (k->pid >= 0) {
		fprintf(to, "pid=%d", k->pid);
		gap = " ";
	}
	if (k->minor >= 0) {
		fprintf(to, "%sminor=%d", gap, k->minor);
		gap = " ";
	}
	if (has_state(k)) {
		fprintf(to, "%sstate=%#x", gap, k->state);
		gap = " ";
	}
	if (has_args(k)) {
		fprintf(to, "%sargs=", gap);
		print_clean(k->spec, to);
	}
	putc('\n', to);
}

json_t *text_json(const char *s)
{
	json_t *j = json_string(s);
	size_t n = strlen(s);
	char *buf, *p;

	if (j)
		return j;
	/* Not UTF-8: each byte as the character of that number. */
	buf = p = malloc(2 * n + 1);
	if (!buf)
		abort();
	for (; *s; s++) {
		unsigned char b = (unsigned char)*s;

		if (b < 0x80) {
			*p++ = (char)b;
		} else {
			*p++ = (char)(0xc0 | b >> 6);
			*p++ = (char)(0x80 | (b & 0x3f));
		}
	}
	*p = '\0';
	j = json_string(buf);
	free(buf);
	return j;
}

static void set_number(json_t *j, const char *key, int64_t v, bool known)
{
	json_object_set_new(j, key, known ? json_integer(v) : json_null());
}

static void set_text(json_t *j, const char *key, const char *s, bool known)
{
	json_object_set_new(j, key, known ? text_json(s) : json_null());
}

/* An array of what was given below the image, null if nothing was said. */
static json_t *backing_json(const struct disk *k)
{
	json_t *all = k->backing ? json_array() : json_null();
	const char *s = k->backing;
	char line[TAP_TEXT_MAX + 1];

	while (s && *s) {
		size_t n = strcspn(s, "\n");

		memcpy(line, s, n);
		line[n] = '\0';
		json_array_append_new(all, text_json(line));
		s += n + (s[n] == '\n');
	}
	return all;
}

json_t *disk_json(const struct disk *k)
{
	bool named = k->minor >= 0, args = has_args(k);
	bool open = k->img.bytes || k->img.sector_size;
	json_t *j = json_object();
	char path[128];

	set_number(j, "pid", k->pid, k->pid >= 0);
	set_number(j, "minor", k->minor, named);
	set_text(j, "state", disk_state(k), true);
	set_text(j, "type", k->type, args);
	set_text(j, "path", k->path, args);
	set_text(j, "args", k->spec, args);
	json_object_set_new(j, "backing", backing_json(k));
	set_number(j, "size", (int64_t)k->img.bytes, open);
	set_number(j, "sector_size", k->img.sector_size, open);
	set_number(j, "physical_sector_size", k->img.phys_size, open);
	json_object_set_new(j, "read_only",
			    json_boolean(k->flags & TAP_OPEN_RDONLY));
	json_object_set_new(j, "direct",
			    json_boolean(!(k->flags & TAP_OPEN_NO_DIRECT)));
	json_object_set_new(j, "unpause_failed",
			    json_boolean(k->state & TAP_ST_RESUME_FAILED));
	set_number(j, "restarts", k->restarts, true);
	set_text(j, "last_death", k->last, *k->last);
	set_text(j, "ring", run_path(RUN_RING, k->minor, path, sizeof(path)), named);
	set_text(j, "nbd", run_path(RUN_NBD, k->minor, path, sizeof(path)), named);
	set_text(j, "marker", marker_path(k->minor, path, sizeof(path)), named);
	return j;
}

int print_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(j);
	return 0;
}

int print_done(const struct call *c)
{
	json_t *j;

	if (!c->json)
		return 0;
	j = json_object();
	if (c->pid >= 0)
		set_number(j, "pid", c->pid, true);
	if (c->minor >= 0)
		set_number(j, "minor", c->minor, true);
	return print_json(j);
}

int call_fail(const struct call *c, int err, const char *fmt, ...)
{
	char why[TAP_TEXT_MAX + 256];
	va_list ap;

	if (c->quiet)
		return err;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	fflush(stdout);
	fprintf(stderr, "%s: ", TAPCTL);
	if (c->minor >= 0) {
		fprintf(stderr, "disk %d: ", c->minor);
	} else if (c->value['a']) {
		print_clean(c->value['a'], stderr);
		fputs(": ", stderr);
	} else if (c->pid >= 0) {
		fprintf(stderr, "tapdisk %d: ", c->pid);
	}
	fprintf(stderr, "cannot %s: ", c->verb->act ? c->verb->act : c->verb->name);
	print_clean(why, stderr);
	putc('\n', stderr);
	return err;
}

int call_refused(const struct call *c, int err, const char *words)
{
	if (c->quiet)
		return err;
	fflush(stdout);
	fprintf(stderr, "%s: ", TAPCTL);
	print_clean(words, stderr);
	putc('\n', stderr);
	return err;
}

int call_usage(const struct call *c, const char *fmt, ...)
{
	char why[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	fprintf(stderr, "%s %s: ", TAPCTL, c->verb->name);
	print_clean(why, stderr);
	fprintf(stderr, "; see '%s %s --help'\n", TAPCTL, c->verb->name);
	return -EINVAL;
}
