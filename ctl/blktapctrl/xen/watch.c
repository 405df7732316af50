/* watch.c - which devices there are: watches of whole kinds, and looking through
 * them when one fires above a device. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "ctl.h"
#include "minors.h"
#include "vdisk.h"
#include "xen/dev.h"
#include "xen/xen.h"

const bool xen_built_in = true;
bool xen_vbd_too;
static bool scanned[XK_KINDS];		/* since the connection is up */

/* A domain's number: those above are Xen's own. */
static bool parse_u32(const char *s, uint32_t max, uint32_t *v)
{
	uint64_t n;

	if (uint_parse(s, max, &n))
		return false;
	*v = (uint32_t)n;
	return true;
}

/* params: they were written. */
static void found(enum xen_kind kind, const char *domain, const char *device, bool params)
{
	uint32_t domid, devid;
	struct xen_dev *d;

	if (!parse_u32(domain, TAP_XEN_DOMID_MAX, &domid) ||
	    !parse_u32(device, UINT32_MAX, &devid))
		return;
	d = dev_find(kind, domid, devid);
	if (!d)
		d = dev_new(kind, domid, devid);
	if (!d)
		return;
	d->renamed |= params;
	dev_touch(d);
}

/* --- looking through a kind --- */

struct pair {
	char domain[16], device[16];
};

struct scan {
	struct store_job job;
	enum xen_kind kind;
	char dir[DEV_PATH_MAX];
	char domain[16];	/* that is being looked through */
	struct store *s;
	struct pair *pairs;
	unsigned n;
};

static void scan_device(void *arg, const char *name)
{
	struct scan *c = arg;
	struct pair *more;

	if (strlen(name) >= sizeof(c->pairs->device))
		return;
	more = realloc(c->pairs, (c->n + 1) * sizeof(*more));
	if (!more)
		return;
	c->pairs = more;
	strcpy(more[c->n].domain, c->domain);
	strcpy(more[c->n++].device, name);
}

static void scan_domain(void *arg, const char *name)
{
	struct scan *c = arg;
	char path[DEV_PATH_MAX + 16];

	if (strlen(name) >= sizeof(c->domain))
		return;
	strcpy(c->domain, name);
	snprintf(path, sizeof(path), "%s/%s", c->dir, name);
	store_list(c->s, path, scan_device, c);
}

static int scan_run(struct store_job *j, struct store *s)
{
	struct scan *c = container_of(j, struct scan, job);

	c->s = s;
	return store_list(s, c->dir, scan_domain, c);
}

/* What it knows already is looked at again: it may be gone. */
static void touch_kind(enum xen_kind kind)
{
	list_for_each_safe(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->kind == kind)
			dev_touch(d);
	}
}

static void scan_done(struct store_job *j)
{
	struct scan *c = container_of(j, struct scan, job);

	if (!j->err || j->err == -ENOENT)
		scanned[c->kind] = true;
	for (unsigned i = 0; i < c->n; i++)
		found(c->kind, c->pairs[i].domain, c->pairs[i].device, false);
	touch_kind(c->kind);
	free(c->pairs);
	free(c);
}

static void scan_kind(enum xen_kind kind)
{
	struct scan *c = calloc(1, sizeof(*c));

	ASSERT(c);
	c->job.run = scan_run;
	c->job.done = scan_done;
	c->kind = kind;
	snprintf(c->dir, sizeof(c->dir), "backend/%s", xen_kind_text(kind));
	store_submit(&c->job);
}

bool watch_scanned(void)
{
	for (int k = 0; k < XK_KINDS; k++)
		if (!scanned[k] && (k != XK_VBD || xen_vbd_too))
			return false;
	return true;
}

/* --- the connection --- */

struct watch_job {
	struct store_job job;
	char path[DEV_PATH_MAX];
};

static int watch_run(struct store_job *j, struct store *s)
{
	struct watch_job *w = container_of(j, struct watch_job, job);

	return store_watch(s, w->path, w->path);
}

static void watch_done(struct store_job *j)
{
	struct watch_job *w = container_of(j, struct watch_job, job);

	if (j->err && j->err != -ENOTCONN)
		log_err("xenstore: cannot watch %s: %s", w->path,
			strerror(-j->err));
	free(w);
}

static void on_up(void)
{
	static bool before;

	log_info("xenstore: connected");
	if (!before)
		disk_orphans();
	before = true;
	for (int k = 0; k < XK_KINDS; k++) {
		struct watch_job *w;

		if (k == XK_VBD && !xen_vbd_too)
			continue;
		w = calloc(1, sizeof(*w));
		ASSERT(w);
		w->job.run = watch_run;
		w->job.done = watch_done;
		snprintf(w->path, sizeof(w->path), "backend/%s",
			 xen_kind_text((enum xen_kind)k));
		store_submit(&w->job);	/* which fires at once */
	}
}

static void on_down(void)
{
	log_warn("xenstore: the connection has ended; trying again");
	memset(scanned, 0, sizeof(scanned));
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		d->watched = false;
		dev_touch(d);
	}
}

/* "backend/tap/3/51712/state": the device, or less. */
static void on_event(const char *path, const char *token)
{
	char copy[DEV_PATH_MAX], *part[5] = { NULL }, *save = NULL, *p;
	unsigned n = 0;
	size_t len;

	if (!*path) {
		for (int k = 0; k < XK_KINDS; k++)
			if (k != XK_VBD || xen_vbd_too)
				scan_kind((enum xen_kind)k);
		return;
	}
	/* A frontend's watch has its device as the token. */
	p = strncmp(path, "backend/", 8) ? (char *)(uintptr_t)token :
					   (char *)(uintptr_t)path;
	len = strnlen(p, sizeof(copy) - 1);
	memcpy(copy, p, len);
	copy[len] = '\0';
	for (p = strtok_r(copy, "/", &save); p && n < 5;
	     p = strtok_r(NULL, "/", &save))
		part[n++] = p;
	for (int k = 0; k < XK_KINDS && n >= 2; k++) {
		if (strcmp(part[1], xen_kind_text((enum xen_kind)k)))
			continue;
		if (n >= 4)
			found((enum xen_kind)k, part[2], part[3],
			      n == 5 && !strcmp(part[4], "params"));
		else
			scan_kind((enum xen_kind)k);
	}
}

static const struct store_ops ops = { on_up, on_down, on_event };

int xen_start(enum xen_use use, bool vbd)
{
	if (use == XEN_OFF || (use == XEN_AUTO && !store_likely()))
		return 0;
	xen_vbd_too = vbd;
	stat_sweep();
	return store_start(&ops);
}

/* --- what happens to disks --- */

void xen_disk_changed(const struct vdisk *vd)
{
	if (vd->minor < 0)
		return;
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->minor == vd->minor || d->back.minor == vd->minor)
			loop_defer(ctl.loop, &d->poke);
	}
}

void xen_disk_gone(const struct vdisk *vd)
{
	if (vd->minor < 0)
		return;
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (!d->own || d->minor != vd->minor)
			continue;
		d->minor = -1;
		d->own = d->mapped = d->lost = d->known = false;
		loop_defer(ctl.loop, &d->poke);
	}
}

void xen_revived(struct vdisk *vd)
{
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->minor != vd->minor)
			continue;
		d->retries = 0;
		if (!d->mapped)
			continue;
		d->mapped = false;
		d->lost = d->state == DEV_CONNECTED || d->state == DEV_CONNECTING;
		loop_defer(ctl.loop, &d->poke);
	}
}

bool xen_broken(struct vdisk *vd, uint32_t domid, uint32_t devid, const char *why)
{
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->minor != vd->minor || d->domid != domid ||
		    d->devid != devid || !d->mapped)
			continue;
		if (log_allowed(&d->stops))
			log_err("%s: its rings were stopped: %s", dev_name(d), why);
		d->mapped = false;	/* as after a disconnect */
		d->broken = true;
		if (d->state == DEV_CONNECTING)
			loop_defer(ctl.loop, &d->poke);
		return true;
	}
	return false;
}

void xen_muted(struct vdisk *vd)
{
	list_for_each(e, &xen_devs) {
		const struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->minor == vd->minor && d->calling)
			rings_cut(vd);
	}
}

bool xen_to_tell(void)
{
	if (!store_is_up())
		return false;
	list_for_each(e, &xen_devs) {
		const struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->busy || d->state == DEV_CONNECTING ||
		    d->state == DEV_CONNECTED || d->state == DEV_LEAVING)
			return true;
	}
	return false;
}
