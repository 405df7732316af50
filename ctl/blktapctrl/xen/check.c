/* check.c - see check.h. */
#include "xen/check.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/size.h"
#include "tapring_proto.h"

/* --- the backend's half --- */

static const char *get(const struct xen_reader *r, const char *key)
{
	return r->get(r, key);
}

static int number(const char *s)
{
	uint64_t v;

	return s && !uint_parse(s, INT_MAX, &v) ? (int)v : -1;
}

enum xenbus_state xen_check_state(const char *value)
{
	int v = number(value);

	return v < 0 || v > XB_RECONFIGURED ? XB_NONE : (enum xenbus_state)v;
}

/* ".../nbd4711.3": tapdisk 4711, minor 3. */
static void parse_device_path(const char *path, struct xen_back *b)
{
	const char *name = path ? strrchr(path, '/') : NULL;
	char pid[16];
	const char *dot;

	if (!name || strncmp(name, "/nbd", 4))
		return;
	name += 4;
	dot = strchr(name, '.');
	if (!dot || (size_t)(dot - name) >= sizeof(pid))
		return;
	memcpy(pid, name, (size_t)(dot - name));
	pid[dot - name] = '\0';
	if (number(pid) <= 0 || number(dot + 1) < 0)
		return;
	b->pid = number(pid);
	b->minor = number(dot + 1);
}

static bool is_our_script(const char *script)
{
	static const char *const ours[] = { "block-tap", "block-blktap" };
	const char *name = strrchr(script, '/');

	name = name ? name + 1 : script;
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (!strcmp(name, ours[i]))
			return true;
	return false;
}

static void copy(char *to, size_t room, const char *s)
{
	if (s && strlen(s) < room)
		strcpy(to, s);
	else
		*to = '\0';
}

void xen_check_back(const struct xen_reader *r, struct xen_back *b)
{
	const char *s;

	memset(b, 0, sizeof(*b));
	b->minor = b->pid = b->own = b->kthread = -1;
	copy(b->frontend, sizeof(b->frontend), get(r, "frontend"));
	b->exists = b->frontend[0] == '/';
	if (!b->exists)
		return;
	b->state = xen_check_state(get(r, "state"));
	s = get(r, "online");
	b->online = !s || strcmp(s, "0");
	s = get(r, "blktap-detach");
	b->detach = !b->online && s && !strcmp(s, "1");
	s = get(r, "mode");
	b->readonly = !s || !strchr(s, 'w');
	s = get(r, "device-type");
	b->cdrom = s && !strcmp(s, "cdrom");
	s = get(r, "script");
	b->scripted = s && *s;
	b->ours = b->scripted && is_our_script(s);
	s = get(r, "hotplug-status");
	b->answered = s && *s;
	b->hotplug = s && !strcmp(s, "connected");
	parse_device_path(get(r, "physical-device-path"), b);
	if (b->minor < 0) {
		b->minor = number(get(r, "minor"));
		b->pid = number(get(r, "pid"));
	}
	b->own = number(get(r, "blktap-minor"));
	b->kthread = number(get(r, "kthread-pid"));
	copy(b->params, sizeof(b->params), get(r, "params"));
	s = get(r, "sectors");
	if (!s || uint_parse(s, UINT64_MAX / 512, &b->sectors))
		b->sectors = 0;
}

/* --- the frontend's half --- */

/* What a guest wrote, as a log may have it. */
static const char *shown(const char *value, char *buf, size_t len)
{
	size_t n = 0;

	for (; value[n] && n < len - 1; n++)
		buf[n] = value[n] < ' ' || value[n] > '~' ? '?' : value[n];
	buf[n] = '\0';
	return buf;
}

static int bad(struct xen_front *f, const char *key, const char *value,
	       const char *want)
{
	char text[32];

	if (value)
		snprintf(f->why, sizeof(f->why), "its %s is '%s', not %s", key,
			 shown(value, text, sizeof(text)), want);
	else
		snprintf(f->why, sizeof(f->why), "its %s is missing", key);
	return -EINVAL;
}

static int take(const struct xen_reader *r, struct xen_front *f, const char *key,
		uint64_t min, uint64_t max, uint32_t *v)
{
	const char *s = get(r, key);
	char want[48];
	uint64_t n;

	if (s && !uint_parse(s, max, &n) && n >= min) {
		*v = (uint32_t)n;
		return 0;
	}
	snprintf(want, sizeof(want), "%llu to %llu", (unsigned long long)min,
		 (unsigned long long)max);
	return bad(f, key, s, want);
}

/* A key that may be missing. */
static int take_or(const struct xen_reader *r, struct xen_front *f,
		   const char *key, uint32_t missing, uint64_t min, uint64_t max,
		   uint32_t *v)
{
	*v = missing;
	return get(r, key) ? take(r, f, key, min, max, v) : 0;
}

static int take_protocol(const struct xen_reader *r, struct xen_front *f)
{
	static const struct {
		const char *name;
		enum tapring_abi abi;
	} known[] = {
		{ "x86_64-abi", TAPRING_ABI_X86_64 },
		{ "x86_32-abi", TAPRING_ABI_X86_32 },
		{ "arm-abi", TAPRING_ABI_NATIVE },
	};
	const char *s = get(r, "protocol");

	f->c.abi = TAPRING_ABI_NATIVE;
	if (!s)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (!strcmp(s, known[i].name)) {
			f->c.abi = known[i].abi;
			return 0;
		}
	return bad(f, "protocol", s, "x86_64-abi, x86_32-abi or arm-abi");
}

/* dir: "" or "queue-N/".  Port 0 is none of Xen's; a reference is an index into
 * the guest's table, whose size is Xen's to know. */
static int take_queue(const struct xen_reader *r, struct xen_front *f,
		      const char *dir, unsigned q)
{
	unsigned pages = 1u << f->c.order;
	char key[48];
	int err;

	snprintf(key, sizeof(key), "%sevent-channel", dir);
	err = take(r, f, key, 1, 131071, &f->c.evtchn[q]);
	for (unsigned i = 0; i < pages && !err; i++) {
		snprintf(key, sizeof(key), "%sring-ref%u", dir, i);
		/* At order 0 the name has no number, as it was before there were
		 * more; some write both. */
		if (f->c.order == 0) {
			char old[48];

			snprintf(old, sizeof(old), "%sring-ref", dir);
			if (get(r, old))
				strcpy(key, old);
		}
		err = take(r, f, key, 0, UINT32_MAX, &f->c.ref[q][i]);
	}
	return err;
}

static int take_rings(const struct xen_reader *r, struct xen_front *f)
{
	uint32_t queues, order, persistent;
	char dir[32];
	int err;

	err = take_or(r, f, "multi-queue-num-queues", 1, 1, TAP_XEN_QUEUES, &queues);
	if (!err)
		err = take_or(r, f, "ring-page-order", 0, 0, TAP_XEN_ORDER, &order);
	if (!err)
		err = take_or(r, f, "feature-persistent", 0, 0, 1, &persistent);
	if (!err)
		err = take_protocol(r, f);
	if (err)
		return err;
	f->c.queues = (uint16_t)queues;
	f->c.order = (uint16_t)order;
	f->persistent = persistent;
	/* With one queue its keys stand beside the others. */
	if (queues == 1)
		return take_queue(r, f, "", 0);
	for (unsigned q = 0; q < queues && !err; q++) {
		snprintf(dir, sizeof(dir), "queue-%u/", q);
		err = take_queue(r, f, dir, q);
	}
	return err;
}

void xen_check_front(const struct xen_reader *r, struct xen_front *f)
{
	memset(f, 0, sizeof(*f));
	f->state = xen_check_state(get(r, "state"));
	f->err = -EAGAIN;
	/* In 5 it has them still, until it is in 6. */
	if (f->state == XB_INITIALISED || f->state == XB_CONNECTED ||
	    f->state == XB_CLOSING)
		f->err = take_rings(r, f);
}

/* --- names --- */

static size_t type_len(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz"
			     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return s[n] == ':' ? n : 0;
}

static bool is_word(const char *s, size_t n, const char *word)
{
	return strlen(word) == n && !memcmp(word, s, n);
}

/* A word that says no more than that we are meant, or what for. */
static bool is_prefix(const char *s, size_t n)
{
	static const char *const words[] = { "tap", "tap2", "tapdisk", "cdrom" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (is_word(s, n, words[i]))
			return true;
	return false;
}

/* libxl puts the format that it believes in before every target, so that
 * "qcow2:/srv/a" becomes "aio:qcow2:/srv/a": a raw file's path begins with '/'. */
static bool is_guess(const char *s, size_t n)
{
	return n == 3 && (!memcmp(s, "aio", 3) || !memcmp(s, "vhd", 3)) &&
	       type_len(s + n + 1);
}

/* What is left of params without those words; *cdrom: one of them was that. */
static const char *bare(const char *params, bool *cdrom)
{
	size_t n;

	*cdrom = false;
	while ((n = type_len(params)) &&
	       (is_prefix(params, n) || is_guess(params, n))) {
		*cdrom |= is_word(params, n, "cdrom");
		params += n + 1;
	}
	return params;
}

bool xen_spec(const char *params, char *spec)
{
	bool cdrom;
	size_t n;

	params = bare(params, &cdrom);
	n = type_len(params);
	if (*params == '/' && strlen(params) + 4 <= TAP_TEXT_MAX) {
		sprintf(spec, "aio:%s", params);
		return true;
	}
	if (!n || !params[n + 1] || strlen(params) > TAP_TEXT_MAX)
		return false;
	strcpy(spec, params);
	return true;
}

bool xen_spec_is_cdrom(const char *params)
{
	bool cdrom;

	(void)bare(params, &cdrom);
	return cdrom;
}
