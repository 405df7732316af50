/* disk.c - the disk below a device.
 *
 * Either a hotplug script has opened it, and its node names pid and minor, or we
 * do, from params, as `tap-ctl create' would, and take it away again when the
 * device ends.  blktap-minor in the node says that it is ours: a daemon after us
 * reads it.
 *
 * A script's disk is its own to close.  libxl does not run the script when
 * something took too long, or kills it; so a disk that was opened for a node of block-tap
 * or block-blktap, or that one referred to, is closed here too when none has referred to
 * it for some seconds, and that node has no script at work any more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"
#include "minors.h"
#include "names.h"
#include "op.h"
#include "policy.h"
#include "steps.h"
#include "vdisk.h"
#include "xen/dev.h"
#include "xen/xen.h"

#define ORPHAN_NS (5 * NS_PER_S)
#define ORPHAN_DOUBLES 4
#define DROP_AGAIN_NS (2 * NS_PER_S)
/* How often, and how long, an open is tried that may succeed later.  Toolstacks wait for
 * hotplug-status for 10 s at least, and shall hear the reason. */
#define OPEN_AGAIN_NS (1 * NS_PER_S)
#define OPEN_FOR_NS (8 * NS_PER_S)

/* An empty drive is one whose every request fails; as large as what was in it last, or
 * smaller than any medium. */
#define EMPTY "error:op=read,op=write|null:"
#define EMPTY_SECTORS 8

struct vdisk *disk_of(const struct xen_dev *d)
{
	return d->minor < 0 ? NULL : minor_disk(d->minor);
}

bool disk_has_image(const struct vdisk *vd)
{
	switch (vd->state) {
	case VD_RUNNING:
	case VD_PAUSING:
	case VD_PAUSED:
	case VD_RESUMING:
		return vd->img.bytes && !vd->chan.mute;
	default:
		return false;
	}
}

/* The image alone: what was said of those below it stands behind it. */
static bool has_image_of(const struct vdisk *vd, const char *spec)
{
	size_t len = strcspn(vd->spec, "\n");

	return strlen(spec) == len && !memcmp(spec, vd->spec, len);
}

static void mark(const struct xen_dev *d)
{
	char node[NAMES_NODE_MAX];

	names_marker_xen(d->minor, dev_node(d, node));
}

static bool marked_as_of(const struct xen_dev *d, int minor)
{
	char node[NAMES_NODE_MAX];

	return names_marker_is_of(minor, dev_node(d, node));
}

bool disk_is_own(const struct xen_dev *d)
{
	const struct vdisk *vd = minor_disk(d->back.own);
	bool named = vd && d->back.pid > 0 && vdisk_by_pid(d->back.pid) == vd;
	char spec[TAP_TEXT_MAX + 1];

	/* The number may be anybody's by now.  (There may have been no room to mark it.) */
	if (!vd || (!named && !marked_as_of(d, d->back.own)))
		return false;
	if (xen_spec(d->back.params, spec) ? has_image_of(vd, spec) :
	    d->back.cdrom && !strncmp(vd->spec, EMPTY, strlen(EMPTY)))
		return true;
	/* A drive, whose params have changed meanwhile; else the node is another's, which
	 * was made in the place of the one. */
	return d->back.cdrom && named;
}

bool disk_is_named(const struct xen_dev *d)
{
	const struct vdisk *vd = minor_disk(d->back.minor);

	return vd && (d->back.pid <= 0 || vdisk_by_pid(d->back.pid) == vd);
}

static struct xen_dev *dev_by_op(const struct op *op)
{
	list_for_each(e, &xen_devs) {
		struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->op == op)
			return d;
	}
	return NULL;
}

/* --- opening --- */

/* Written when the device is read next: nothing may be under way now. */
static void cannot_open(struct xen_dev *d, const char *why)
{
	d->failed = true;
	d->open_until = 0;
	snprintf(d->why, sizeof(d->why), "%.180s", why);
	d->told = false;
	dev_touch(d);
}

/* Another has it that is about to close it (a guest that was rebooted, a tapdisk of a
 * daemon before us), or the host is short of something. */
static bool may_pass(int err)
{
	switch (err) {
	case -EAGAIN:
	case -EBUSY:
	case -EEXIST:		/* its minor: the next may have any */
	case -ENOMEM:
	case -ENOSPC:
	case -EMFILE:
	case -ENFILE:
	case -ENOBUFS:
	case -ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

static void open_failed(struct xen_dev *d, const struct op *op)
{
	uint64_t now = clock_ns();

	if (may_pass(op->err) && now + OPEN_AGAIN_NS < d->open_until) {
		if (!op->hushed)
			log_warn("%s: tried again for some seconds", dev_name(d));
		d->open_next = now + OPEN_AGAIN_NS;
		loop_timer_set(ctl.loop, &d->again, OPEN_AGAIN_NS);
		return;
	}
	if (op->hushed)
		log_warn("%s: %s", dev_name(d), op->why);
	cannot_open(d, op->why);
}

/* Is it too early to try again? */
static bool open_rests(struct xen_dev *d)
{
	uint64_t now = clock_ns();

	if (!d->open_until || now >= d->open_next)
		return false;
	loop_timer_set(ctl.loop, &d->again, d->open_next - now);
	return true;
}

static void open_ended(struct op *op)
{
	struct xen_dev *d = dev_by_op(op);

	if (!d)
		return;
	d->op = NULL;
	if (op->err) {
		open_failed(d, op);
		return;
	}
	d->open_until = 0;
	d->minor = op->minor;
	d->own = true;
	d->told = false;
	dev_touch(d);
}

/* The minor that it had, if its tapdisk died with the daemon before us, or after it. */
static int former_minor(const struct xen_dev *d)
{
	int n = d->back.own;

	if (n < 0 || n >= TAP_MINOR_MAX)
		return -1;
	if (vdisk_by_number(n))		/* of a tapdisk that is not believed */
		return -1;
	if (minor_taken(n) && !minor_disk(n) && marked_as_of(d, n))
		minor_free(n);
	return minor_taken(n) ? -1 : n;
}

static void empty_spec(uint64_t sectors, char *spec)
{
	snprintf(spec, TAP_TEXT_MAX + 1, EMPTY "%llu",
		 (unsigned long long)(sectors ? sectors : EMPTY_SECTORS) * 512);
}

static bool first_spec(const struct xen_dev *d, char *spec)
{
	if (d->back.cdrom && !*d->back.params)
		empty_spec(d->back.sectors, spec);
	else if (!xen_spec(d->back.params, spec))
		return false;
	return !policy_spec(spec);
}

/* A daemon before us had opened it for this device, and could not write so any more. */
static struct vdisk *opened_before(const struct xen_dev *d, const char *spec)
{
	for (int n = 0; n < TAP_MINOR_MAX; n++) {
		struct vdisk *vd = minor_disk(n);

		if (vd && disk_has_image(vd) && list_empty(&vd->ops) &&
		    has_image_of(vd, spec) &&
		    !(vd->flags & TAP_OPEN_RDONLY) == !d->back.readonly &&
		    marked_as_of(d, n))
			return vd;
	}
	return NULL;
}

static void open_own(struct xen_dev *d)
{
	struct tap_verb v = { .pid = -1, .minor = -1 };
	char spec[TAP_TEXT_MAX + 1];
	struct vdisk *vd;
	struct op *op;

	if (ctl.leaving)
		return;
	strcpy(d->tried, d->back.params);
	d->renamed = false;
	if (!first_spec(d, spec)) {
		cannot_open(d, "its params are not TYPE:/path");
		return;
	}
	vd = opened_before(d, spec);
	if (vd) {
		log_info("%s: has %s already", dev_name(d), vdisk_name(vd));
		d->minor = vd->minor;
		d->own = true;
		d->told = false;
		d->open_until = 0;
		dev_touch(d);
		return;
	}
	if (d->back.readonly)
		v.flags = TAP_OPEN_RDONLY;
	v.minor = former_minor(d);
	op = op_new(&op_create, &v, spec);
	ASSERT(op);
	dev_node(d, op->node);
	op->hushed = d->open_until;
	if (!d->open_until)
		d->open_until = clock_ns() + OPEN_FOR_NS;
	op->ended = open_ended;
	d->op = op;
	op_start(op, NULL);
}

/* Tell the toolstack, and a daemon after us. */
static void tell(struct xen_dev *d)
{
	struct nodes_write *w = nodes_begin(d);
	struct vdisk *vd = disk_of(d);
	char path[RUNDIR_MAX + 32];

	nodes_tells(w, true);
	if (d->failed) {
		nodes_add(w, "hotplug-error", "%s", d->why);
		nodes_add(w, "hotplug-status", "error");
	} else {
		nodes_add(w, "blktap-minor", "%d", d->minor);
		nodes_add(w, "pid", "%d", (int)vd->pid);
		nodes_add(w, "physical-device-path", "%s",
			  run_path(RUN_NBD, d->minor, path, sizeof(path)));
		if (*d->why)
			nodes_add(w, "hotplug-error", "%s", "");
		nodes_add(w, "hotplug-status", "connected");
	}
	nodes_send(w, XB_NONE, d->state);
}

/* By a script: does the node tell the truth? */
static struct vdisk *by_script(struct xen_dev *d)
{
	struct vdisk *vd = minor_disk(d->back.minor);

	/* Each time: a minor is another disk's when the script has closed this one.  (A
	 * tapdisk that was replaced is named by its former pid.) */
	if (!disk_is_named(d)) {
		if (log_allowed(&d->limit))
			log_warn("%s: there is no disk %d of a tapdisk %d",
				 dev_name(d), d->back.minor, d->back.pid);
		d->minor = -1;
		return NULL;
	}
	if (d->minor != d->back.minor) {
		d->minor = d->back.minor;
		if (d->ours)
			mark(d);
	}
	return disk_has_image(vd) ? vd : NULL;
}

struct vdisk *disk_ready(struct xen_dev *d)
{
	struct vdisk *vd;

	if (d->back.scripted && !d->back.hotplug)
		return NULL;
	if (!d->own && d->back.scripted && d->back.minor >= 0)
		return by_script(d);
	if (d->op)
		return NULL;
	if (d->failed && (d->renamed || strcmp(d->back.params, d->tried)))
		d->failed = d->told = false;
	if (d->open_until && strcmp(d->back.params, d->tried))
		d->open_until = 0;
	if (d->failed) {
		if (!d->told)
			tell(d);
		return NULL;
	}
	vd = disk_of(d);
	if (!vd) {
		if (!open_rests(d))
			open_own(d);
		return NULL;
	}
	if (!disk_has_image(vd))
		return NULL;
	if (!d->told) {
		tell(d);
		return NULL;
	}
	return vd;
}

/* --- the end --- */

static void drop_ended(struct op *op)
{
	struct xen_dev *d = dev_by_op(op);

	if (!d)
		return;
	d->op = NULL;
	if (op->err && op->vd && !op->vd->gone) {
		loop_timer_set(ctl.loop, &d->again, DROP_AGAIN_NS);
		return;
	}
	d->minor = -1;
	d->own = false;
	d->dirty = true;
	/* The disk is not freed yet: not now. */
	loop_timer_set(ctl.loop, &d->again, 0);
}

bool disk_drop(struct xen_dev *d)
{
	struct vdisk *vd = disk_of(d);

	if (d->op)
		return false;
	d->open_until = 0;
	if (!d->own || !vd) {
		if (d->own)	/* without a disk it is not ours to free */
			d->minor = -1;
		d->own = false;
		if (!d->told || d->failed || d->state == DEV_GONE)
			return true;
		/* Their removal, which comes next, makes the room that is missing. */
		if (d->changed_not && dev_removable(d))
			return true;
		/* A daemon after us shall not take another's for it. */
		nodes_forget(d);
		return false;
	}
	d->op = op_begin(&op_destroy, vd, "", drop_ended);
	if (!d->op)
		loop_timer_set(ctl.loop, &d->again, DROP_AGAIN_NS);
	return false;
}

/* --- another medium --- */

/* If it was not to be, the old one is taken up again: a disk that waits for ever
 * is worse.  (A disk never shrinks: so may a medium not.) */
static void medium_ended(struct op *op)
{
	struct xen_dev *d = dev_by_op(op);

	if (!d)
		return;
	d->op = NULL;
	if (op->err) {
		d->failed_medium = true;
		log_err("%s: its medium cannot be changed: %s", dev_name(d), op->why);
		if (op->vd && !op->vd->gone)
			op_begin(&op_unpause, op->vd, "", NULL);
	} else {
		log_info("%s: has another medium", dev_name(d));
	}
	loop_timer_set(ctl.loop, &d->again, 0);
}

bool disk_change_medium(struct xen_dev *d)
{
	char spec[TAP_TEXT_MAX + 1];
	struct vdisk *vd = disk_of(d);

	if (!d->own || !vd || d->op)
		return d->op != NULL;
	if (!xen_spec(d->back.params, spec))
		empty_spec(vd->img.bytes / 512, spec);
	if (d->failed_medium && (d->renamed || strcmp(spec, d->medium)))
		d->failed_medium = false;
	if (has_image_of(vd, spec) || d->failed_medium || policy_spec(spec))
		return false;
	if (vd->state != VD_RUNNING && vd->state != VD_PAUSED)
		return true;
	d->renamed = false;
	snprintf(d->medium, sizeof(d->medium), "%s", spec);
	if (vd->state == VD_RUNNING && !op_begin(&op_pause, vd, "", NULL))
		return false;
	d->op = op_begin(&op_unpause, vd, spec, medium_ended);
	return d->op != NULL;
}

/* --- orphans --- */

struct orphan {
	struct list link;
	struct loop_timer timer;
	int minor;
	struct op *op;		/* closing it */
	unsigned tries;		/* that have failed */
};

static struct list orphans = LIST_INIT(orphans);

static void orphan_free(struct orphan *o)
{
	list_del(&o->link);
	loop_timer_clear(&o->timer);
	free(o);
}

/* Twice as long each time that it could not be closed. */
static void orphan_later(struct orphan *o)
{
	loop_timer_set(ctl.loop, &o->timer, ORPHAN_NS << o->tries);
}

static void orphan_failed(struct orphan *o)
{
	if (o->tries < ORPHAN_DOUBLES)
		o->tries++;
	orphan_later(o);
}

/* A device stands on it: the end of that looks again. */
static bool stood_on(int minor)
{
	list_for_each(e, &xen_devs)
		if (container_of(e, struct xen_dev, link)->minor == minor)
			return true;
	return false;
}

static bool referred_to(int minor)
{
	list_for_each(e, &xen_devs) {
		const struct xen_dev *d = container_of(e, struct xen_dev, link);

		if (d->back.minor == minor || d->back.own == minor)
			return true;
	}
	return false;
}

/* Its script, which may be slow, is still to name it.  (Where the node is gone, the device
 * goes soon, and another may have the node.) */
static bool on_its_way(const struct xen_dev *d)
{
	return !d->back.exists ||
	       (d->back.ours && d->back.online && !d->back.answered);
}

/* Do we know what all nodes say? */
static bool all_seen(void)
{
	list_for_each(e, &xen_devs)
		if (!container_of(e, struct xen_dev, link)->seen)
			return false;
	return store_is_up() && watch_scanned();
}

static void orphan_ended(struct op *op)
{
	list_for_each(e, &orphans) {
		struct orphan *o = container_of(e, struct orphan, link);

		if (o->op != op)
			continue;
		o->op = NULL;
		if (op->err)
			orphan_failed(o);
		else
			orphan_free(o);
		return;
	}
}

static void orphan_due(struct loop_timer *t)
{
	struct orphan *o = container_of(t, struct orphan, timer);
	struct vdisk *vd = minor_disk(o->minor);
	char node[NAMES_NODE_MAX];
	struct xen_dev *d;

	/* The minor may be another's by now; and what is not watched is not known. */
	if (!vd || !names_marker_node(o->minor, node) || !dev_of_node(node, &d) ||
	    stood_on(o->minor)) {
		orphan_free(o);
		return;
	}
	if (!all_seen() || referred_to(o->minor) || attach_writes(o->minor) ||
	    (d && (d->dirty || d->busy || d->calling || on_its_way(d)))) {
		o->tries = 0;
		orphan_later(o);
		return;
	}
	if (!o->tries)
		log_warn("%s: no node of xenstore refers to it any more: closing it",
			 vdisk_name(vd));
	o->op = op_begin(&op_destroy, vd, "", orphan_ended);
	if (!o->op)
		orphan_failed(o);
}

void disk_orphan(int minor)
{
	char node[NAMES_NODE_MAX];
	struct orphan *o = NULL;

	if (!minor_disk(minor) || !names_marker_node(minor, node))
		return;		/* it has gone: another's has no such marker */
	list_for_each(e, &orphans)
		if (container_of(e, struct orphan, link)->minor == minor)
			o = container_of(e, struct orphan, link);
	if (!o) {
		o = calloc(1, sizeof(*o));
		if (!o)
			return;
		o->minor = minor;
		loop_timer_init(&o->timer, orphan_due);
		list_add(&orphans, &o->link);
	}
	if (!o->op)
		orphan_later(o);
}

void disk_orphans(void)
{
	for (int n = 0; n < TAP_MINOR_MAX; n++)
		disk_orphan(n);
}

void xen_disk_opened(int minor)
{
	disk_orphan(minor);
}
