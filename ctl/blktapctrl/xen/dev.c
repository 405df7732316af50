/* dev.c - the states of a device.
 *
 *   NEW -> WAIT -> CONNECTING -> CONNECTED -> LEAVING -> CLOSED
 *
 * WAIT may be left for CLOSED at once: a frontend that never came closes nothing,
 * and then nobody but us moves.  CLOSED begins again (WAIT) if the frontend does.
 * A device of a daemon before this one enters where its node stands.  GONE is for
 * good: a node that is made again meanwhile is another device's.
 *
 * Without xenstore a device stays in its state, and does only what needs none: a
 * connected one whose tapdisk was replaced has its rings taken up (I4).
 *
 * While the rings are served the toolstack's wish to end (online 0, state 5)
 * changes nothing: the guest may still use its disk, and says when it does no more.
 * That is 6: a frontend in 5 waits for the last user of its disk (Linux before 5.15).
 */
#include "xen/dev.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/vdev.h"
#include "ctl.h"
#include "minors.h"
#include "vdisk.h"

#define DOMAIN_NS (1 * NS_PER_S)	/* how often a closed device's is looked for */

struct list xen_devs = LIST_INIT(xen_devs);

#define B(s) (1u << DEV_##s)

static bool step_new(struct xen_dev *d);
static bool step_wait(struct xen_dev *d);
static bool step_connecting(struct xen_dev *d);
static bool step_connected(struct xen_dev *d);
static bool step_leaving(struct xen_dev *d);
static bool step_closed(struct xen_dev *d);
static void step_gone(struct xen_dev *d);
static void alone_connected(struct xen_dev *d);

static const struct {
	const char *text;
	unsigned to;
	bool (*step)(struct xen_dev *d);	/* true: look again at once */
	void (*alone)(struct xen_dev *d);	/* instead, without xenstore */
} states[DEV_STATES] = {
	[DEV_NEW]	 = { "new", B(WAIT) | B(CONNECTED) | B(CLOSED) | B(GONE),
			     .step = step_new },
	[DEV_WAIT]	 = { "waiting", B(CONNECTING) | B(CLOSED) | B(GONE),
			     .step = step_wait },
	[DEV_CONNECTING] = { "connecting", B(WAIT) | B(CONNECTED) | B(LEAVING) |
			     B(CLOSED), .step = step_connecting },
	[DEV_CONNECTED]	 = { "connected", B(LEAVING), .step = step_connected,
			     .alone = alone_connected },
	[DEV_LEAVING]	 = { "leaving", B(WAIT) | B(CLOSED) | B(GONE),
			     .step = step_leaving },
	[DEV_CLOSED]	 = { "closed", B(WAIT) | B(GONE), .step = step_closed },
	[DEV_GONE]	 = { .text = "gone" },	/* step_gone(): nothing is read for it */
};

static const char *const kinds[XK_KINDS] = { "tap", "vbd3", "vbd" };

const char *xen_kind_text(enum xen_kind k)
{
	return kinds[k];
}

const char *dev_name(const struct xen_dev *d)
{
	static char bufs[2][48];
	static unsigned next;
	char *buf = bufs[next++ % 2], vdev[VDEV_NAME_MAX];

	snprintf(buf, sizeof(bufs[0]), "%s of domain %u",
		 vdev_name(d->devid, vdev), d->domid);
	return buf;
}

static void retry(struct loop_timer *t)
{
	dev_touch(container_of(t, struct xen_dev, again));
}

static void poke(struct loop_work *w)
{
	dev_step(container_of(w, struct xen_dev, poke));
}

struct xen_dev *dev_find(enum xen_kind kind, uint32_t domid, uint32_t devid)
{
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->kind == kind && d->domid == domid && d->devid == devid)
			return d;
	}
	return NULL;
}

bool dev_of_node(const char *node, struct xen_dev **d)
{
	char kind[8], again[NAMES_NODE_MAX];
	unsigned domid, devid;

	if (sscanf(node, "%7[^/]/%u/%u", kind, &domid, &devid) != 3)
		return false;
	snprintf(again, sizeof(again), "%s/%u/%u", kind, domid, devid);
	for (int k = 0; k < XK_KINDS; k++)
		if (!strcmp(kind, xen_kind_text((enum xen_kind)k)) &&
		    !strcmp(node, again) && (k != XK_VBD || xen_vbd_too)) {
			if (d)
				*d = dev_find((enum xen_kind)k, domid, devid);
			return true;
		}
	return false;
}

struct xen_dev *dev_new(enum xen_kind kind, uint32_t domid, uint32_t devid)
{
	struct xen_dev *d = calloc(1, sizeof(*d));

	if (!d) {
		log_err("no memory for vbd %u of domain %u", devid, domid);
		return NULL;
	}
	d->kind = kind;
	d->domid = domid;
	d->devid = devid;
	d->minor = -1;
	list_init(&d->waiters);
	list_init(&d->call.link);
	loop_timer_init(&d->again, retry);
	loop_work_init(&d->poke, poke);
	loop_timer_init(&d->late, NULL);
	list_add(&xen_devs, &d->link);
	return d;
}

static void dev_free(struct xen_dev *d)
{
	ASSERT(!d->busy && !d->calling && !d->op && !d->mapped);
	attach_gone(d);
	stat_end(d);
	loop_timer_clear(&d->again);
	loop_timer_clear(&d->late);
	loop_work_cancel(&d->poke);
	list_del(&d->link);
	free(d);
}

void dev_enter(struct xen_dev *d, enum dev_state next)
{
	if (next == d->state)
		return;
	ASSERT(states[d->state].to & (1u << next));
	log_dbg(LOG_CTL, "%s: %s -> %s", dev_name(d), states[d->state].text,
		states[next].text);
	d->state = next;
	if ((next == DEV_CONNECTED || next == DEV_CLOSED) &&
	    log_allowed(&d->moves))
		log_info("%s: %s", dev_name(d), states[next].text);
}

void dev_touch(struct xen_dev *d)
{
	d->dirty = true;
	dev_step(d);
}

/* Its node was removed and made again, and we saw neither.  1 is its maker's word, which
 * nobody but us moves on; or what we have told it is not there. */
static bool was_made_anew(const struct xen_dev *d)
{
	if (!d->back.exists || d->state == DEV_NEW)
		return false;
	return d->back.state == XB_INITIALISING ||
	       (d->own && d->told && d->back.own != d->minor);
}

void dev_step(struct xen_dev *d)
{
	for (;;) {
		if (d->busy || d->calling)	/* I1 */
			return;
		if (!store_is_up()) {
			if (states[d->state].alone)
				states[d->state].alone(d);
			return;
		}
		if (d->state == DEV_GONE) {
			step_gone(d);
			return;
		}
		if (d->dirty || !d->seen) {
			nodes_read(d);
			return;
		}
		/* What was opened for the one goes before the other is begun with. */
		if (was_made_anew(d))
			d->anew = true;
		if (d->anew)
			d->back.exists = false;
		if (d->kind == XK_VBD && !d->back.ours && d->back.exists)
			return;			/* another backend's */
		if (d->back.exists && !d->watched) {
			nodes_watch(d);
			return;
		}
		if (!states[d->state].step(d))
			return;
	}
}

void dev_refuse(struct xen_dev *d, const char *why)
{
	struct nodes_write *w = nodes_begin(d);

	if (log_allowed(&d->limit))
		log_warn("%s: refused: %s", dev_name(d), why);
	nodes_add(w, "hotplug-error", "%s", why);
	nodes_send(w, XB_CLOSED, DEV_CLOSED);
}

/* The toolstack wants it to end. */
static bool asked(const struct xen_dev *d)
{
	return !d->back.online || d->back.state == XB_CLOSING ||
	       d->back.state == XB_CLOSED || !d->domain;
}

/* The frontend has let go, or is no more. */
static bool front_left(const struct xen_dev *d)
{
	switch (d->front.state) {
	case XB_CLOSING:
	case XB_CLOSED:
		return true;
	case XB_NONE:
		return d->met || !d->domain;
	default:
		return false;
	}
}

/* It is about to, and says when it has. */
static bool front_leaves(const struct xen_dev *d)
{
	return d->front.state == XB_CLOSING && d->domain;
}

static void write_state(struct xen_dev *d, enum xenbus_state s,
			enum dev_state next)
{
	nodes_send(nodes_begin(d), s, next);
}

/* 2, and what a frontend looks at before it answers that. */
static void write_wait(struct xen_dev *d)
{
	struct nodes_write *w = nodes_begin(d);

	nodes_add(w, "max-ring-page-order", "%u", TAP_XEN_ORDER);
	nodes_add(w, "multi-queue-max-queues", "%u", TAP_XEN_QUEUES);
	nodes_send(w, XB_INIT_WAIT, DEV_WAIT);
}

static bool step_new(struct xen_dev *d)
{
	const struct vdisk *vd;

	if (!d->back.exists) {
		dev_enter(d, DEV_GONE);
		return true;
	}
	/* What a daemon before us had opened for it, if it is that still. */
	if (d->back.own >= 0 && disk_is_own(d)) {
		d->minor = d->back.own;
		d->own = d->told = true;
	} else if (disk_is_named(d)) {
		d->minor = d->back.minor;
	}
	vd = disk_of(d);
	d->mapped = vd && vd->pid == d->back.kthread &&
		    (d->back.state == XB_CONNECTED || d->back.state == XB_CLOSING);
	switch (d->back.state) {
	case XB_NONE:
		return false;	/* half made */
	case XB_INITIALISING:
		if (asked(d) || front_left(d))
			write_state(d, XB_CLOSED, DEV_CLOSED);
		else
			write_wait(d);
		return false;
	case XB_CLOSING:
		if (!d->mapped && d->front.state != XB_CONNECTED &&
		    !front_leaves(d)) {
			write_state(d, XB_CLOSED, DEV_CLOSED);
			return false;
		}
		/* Its guest may use it still. */
		__attribute__((fallthrough));
	case XB_CONNECTED:
		/* Its tapdisk serves it, whoever asked it to. */
		d->lost = !d->mapped;
		if (d->mapped)
			log_info("%s: taken over as it is", dev_name(d));
		if (d->mapped && (d->front.state == XB_CONNECTED || front_leaves(d)))
			stat_begin(d, disk_of(d));
		dev_enter(d, DEV_CONNECTED);
		return true;
	case XB_CLOSED:
		dev_enter(d, DEV_CLOSED);
		return true;
	default:
		dev_enter(d, DEV_WAIT);
		return true;
	}
}

static bool step_wait(struct xen_dev *d)
{
	const struct vdisk *vd;
	struct nodes_write *w;

	/* Since a daemon before us: they are let go before all else. */
	if (d->mapped) {
		rings_disconnect(d);
		return false;
	}
	if (!d->back.exists) {
		dev_enter(d, DEV_GONE);
		return true;
	}
	if (asked(d) || front_left(d)) {
		write_state(d, XB_CLOSED, DEV_CLOSED);
		return false;
	}
	vd = disk_ready(d);
	if (!vd || d->busy)
		return false;
	if (d->back.pid > 0 && d->back.pid != vd->pid) {
		w = nodes_begin(d);
		rings_names(d, vd, w);
		nodes_send(w, XB_NONE, DEV_WAIT);
		return false;
	}
	if (d->front.state != XB_INITIALISED && d->front.state != XB_CONNECTED)
		return false;
	if (d->front.err)
		dev_refuse(d, d->front.why);
	else
		rings_connect(d, false);
	return false;
}

/* The rings are mapped; the frontend is to be told. */
static bool step_connecting(struct xen_dev *d)
{
	struct vdisk *vd = disk_of(d);
	struct nodes_write *w;

	if (!d->back.exists || front_left(d) || asked(d)) {
		dev_enter(d, DEV_LEAVING);
		return true;
	}
	/* Again would be for ever: it needs nothing of the guest. */
	if (d->broken) {
		stat_end(d);
		dev_refuse(d, "its tapdisk has stopped its rings");
		return false;
	}
	/* Its tapdisk is dead; the next is connected, whose coming wakes us. */
	if (d->mapped && vd && vd->state == VD_REVIVING)
		return false;
	if (!d->mapped || !vd || !disk_has_image(vd)) {
		dev_enter(d, d->mapped ? DEV_LEAVING : DEV_WAIT);
		return true;
	}
	w = nodes_begin(d);
	rings_publish(d, vd, w);
	nodes_send(w, XB_CONNECTED, DEV_CONNECTED);
	return false;
}

/* `tap-ctl shutdown' has closed its disk, and nobody opens it again. */
static bool shut_down(const struct xen_dev *d)
{
	const struct vdisk *vd = disk_of(d);

	return ctl.leaving && (!vd || vd->state == VD_CLOSED ||
			       vd->state == VD_LEAVING || vd->state == VD_DEAD);
}

static bool step_connected(struct xen_dev *d)
{
	struct nodes_write *w;
	struct vdisk *vd;

	if (!d->back.exists || (front_left(d) && !front_leaves(d)) || shut_down(d) ||
	    d->front.state == XB_INITIALISING || d->front.state == XB_INIT_WAIT) {
		dev_enter(d, DEV_LEAVING);
		return true;
	}
	/* A guest that shuts down waits for this. */
	if (front_leaves(d) && d->back.state != XB_CLOSING) {
		write_state(d, XB_CLOSING, DEV_CONNECTED);
		return false;
	}
	if (d->back.cdrom && disk_change_medium(d))
		return false;
	/* Somebody has closed it under the guest: it is not ours to open again. */
	vd = d->lost || disk_of(d) ? disk_ready(d) : NULL;
	/* Better a guest that hears of it than one that waits for ever. */
	if (d->lost && d->failed && d->told && !d->busy) {
		dev_enter(d, DEV_LEAVING);
		return true;
	}
	if (!vd || d->busy)
		return false;
	if (d->lost) {
		if (d->known || !d->front.err) {
			if (!rings_rest(d))
				rings_connect(d, true);
			return false;
		}
		dev_enter(d, DEV_LEAVING);
		return true;
	}
	if (d->mapped && d->back.kthread != vd->pid) {
		w = nodes_begin(d);
		rings_names(d, vd, w);
		nodes_send(w, XB_NONE, DEV_CONNECTED);
		return false;
	}
	if (asked(d))
		return false;
	if (!d->sectors)		/* taken over */
		d->sectors = d->back.sectors;
	if (d->mapped && vd->img.bytes / 512 != d->sectors) {
		log_info("%s: its disk has %llu bytes now", dev_name(d),
			 (unsigned long long)vd->img.bytes);
		w = nodes_begin(d);
		rings_geometry(d, vd, w);
		nodes_send(w, XB_CONNECTED, DEV_CONNECTED);
	}
	return false;
}

static void alone_connected(struct xen_dev *d)
{
	const struct vdisk *vd = disk_of(d);

	if (d->lost && !rings_rest(d) && d->known && vd && disk_has_image(vd) &&
	    (d->own || disk_is_named(d)))
		rings_connect(d, true);
}

static bool step_leaving(struct xen_dev *d)
{
	if (d->back.exists && d->back.state != XB_CLOSING &&
	    d->front.state == XB_CLOSING) {
		write_state(d, XB_CLOSING, DEV_LEAVING);
		return false;
	}
	if (d->mapped) {
		rings_disconnect(d);
		return false;
	}
	stat_end(d);
	if (!d->back.exists) {
		dev_enter(d, DEV_GONE);
		return true;
	}
	/* It will say when it has let go; a frontend that is gone has. */
	if (front_leaves(d))
		return false;
	if (d->back.online && (d->front.state == XB_INITIALISING ||
			       d->front.state == XB_INIT_WAIT))
		write_wait(d);		/* it begins again */
	else
		write_state(d, XB_CLOSED, DEV_CLOSED);
	return false;
}

static bool step_closed(struct xen_dev *d)
{
	if (!d->back.exists) {
		dev_enter(d, DEV_GONE);
		return true;
	}
	/* The toolstack's wish came after our word. */
	if (d->back.state != XB_CLOSED) {
		write_state(d, XB_CLOSED, DEV_CLOSED);
		return false;
	}
	if (d->back.online && d->domain &&
	    (d->front.state == XB_INITIALISING ||
	     d->front.state == XB_INIT_WAIT)) {
		write_wait(d);
		return false;
	}
	/* The disk is no more: a daemon after us shall not take another's for it. */
	if (d->back.online && d->domain && !d->own && d->back.own >= 0 &&
	    !minor_disk(d->back.own)) {
		nodes_forget(d);
		return false;
	}
	/* A guest's directory goes after its frontends: look for it. */
	if (d->back.online && d->domain) {
		if (!d->back.scripted && d->front.state == XB_NONE)
			loop_timer_set(ctl.loop, &d->again, DOMAIN_NS);
		return false;
	}
	if (!disk_drop(d))
		return false;
	if (dev_removable(d))
		nodes_remove(d);
	return false;
}

static void step_gone(struct xen_dev *d)
{
	struct xen_dev *next;

	if (d->watched) {
		nodes_unwatch(d);
		return;
	}
	if (!disk_drop(d))
		return;
	if (!d->own && d->ours && d->minor >= 0)
		disk_orphan(d->minor);
	next = d->dirty || d->anew ? dev_new(d->kind, d->domid, d->devid) : NULL;
	dev_free(d);
	if (next)
		dev_touch(next);
}
