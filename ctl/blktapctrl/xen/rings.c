/* rings.c - what the tapdisk of a device is asked, and what its frontend is told
 * that the disk can do: computed from the disk's capabilities, never typed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"
#include "names.h"
#include "op.h"
#include "proc.h"
#include "td_driver.h"
#include "vdisk.h"
#include "xen/dev.h"

/* A frontend's rings are mapped in no time; what takes longer hangs. */
#define CONNECT_NS (10 * NS_PER_S)
/* A host that is short of something may have it again.  A guest waits without a limit of
 * its own, and shall hear of it some day: after as long as a client of libtapring. */
#define RETRY_NS NS_PER_S
#define RETRIES 30

/* VDISK_READONLY etc. of blkif.h's `info'. */
enum vdisk_info { INFO_CDROM = 1, INFO_READONLY = 4 };

static bool readonly(const struct xen_dev *d, const struct vdisk *vd)
{
	return d->back.readonly || (vd->flags & TAP_OPEN_RDONLY) ||
	       !(vd->img.caps & TD_CAP_WRITE);
}

static void rings_end(struct xen_dev *d)
{
	d->calling = false;
	loop_timer_clear(&d->late);
}

static void retry(struct loop_timer *t)
{
	dev_touch(container_of(t, struct xen_dev, late));
}

bool rings_rest(const struct xen_dev *d)
{
	return loop_timer_is_set(&d->late);
}

/* Its tapdisk keeps what it knows of the rings (X4 of tapdisk/ring/xen.c), unless it is
 * that which is wrong. */
static bool try_again(struct xen_dev *d, int err, const char *why)
{
	if (err == -ESTALE || err == -EINVAL || err == -EBADMSG || d->retries == RETRIES)
		return false;
	if (!d->retries++)
		log_warn("%s: its rings are not taken up: %s; trying again for %u s",
			 dev_name(d), why, RETRIES);
	loop_timer_init(&d->late, retry);
	loop_timer_set(ctl.loop, &d->late, RETRY_NS);
	return true;
}

static void connect_failed(struct xen_dev *d, int err, const char *why, bool died)
{
	char text[XEN_WHY_MAX];

	if (died) {	/* with its tapdisk: what becomes of the disk wakes us */
		if (d->state == DEV_CONNECTING)
			dev_enter(d, DEV_WAIT);
		d->dirty = true;
		return;
	}
	snprintf(text, sizeof(text), "its tapdisk cannot serve it: %.128s", why);
	if (d->state == DEV_CONNECTING) {
		dev_refuse(d, text);
		return;
	}
	if (try_again(d, err, why))
		return;
	/* Nobody knows any more where its rings stand: it is lost to its guest, who
	 * is told. */
	log_err("%s: %s", dev_name(d), text);
	d->lost = false;
	d->broken = true;
	dev_enter(d, DEV_LEAVING);
	dev_touch(d);
}

void rings_names(const struct xen_dev *d, const struct vdisk *vd,
		 struct nodes_write *w)
{
	char path[RUNDIR_MAX + 32];

	if (d->mapped)
		nodes_add(w, "kthread-pid", "%d", (int)vd->pid);
	nodes_add(w, "pid", "%d", (int)vd->pid);
	if (d->back.scripted)
		snprintf(path, sizeof(path), "/run/blktap-control/nbd%d.%d",
			 (int)vd->pid, vd->minor);
	else
		run_path(RUN_NBD, vd->minor, path, sizeof(path));
	nodes_add(w, "physical-device-path", "%s", path);
}

static void connect_answered(struct call *c, int err, const struct msg *m)
{
	struct xen_dev *d = container_of(c, struct xen_dev, call);
	struct vdisk *vd = disk_of(d);
	bool again = d->state == DEV_CONNECTED;
	char why[256];

	rings_end(d);
	if (err == -EEXIST && !again) {
		/* By a daemon before us, that came no further: the frontend may
		 * have begun anew since, so that once more is right. */
		d->mapped = true;
		dev_enter(d, DEV_WAIT);
		rings_disconnect(d);
		return;
	}
	if (err && !(again && err == -EEXIST)) {
		connect_failed(d, err, msg_why(m, err, why, sizeof(why)), !m);
		return;
	}
	d->mapped = true;
	d->lost = d->broken = false;
	d->retries = 0;
	if (!err)	/* else by whom knows what */
		d->known = true;
	if (vd) {		/* not closed under it */
		stat_begin(d, vd);
		if (again)
			log_info("%s: served by tapdisk %d now", dev_name(d),
				 (int)vd->pid);
	}
	dev_touch(d);
}

/* For as long as it does not answer nobody knows where the rings stand: there is nothing
 * to be done but to wait for it, or for its end. */
static void connect_late(struct loop_timer *t)
{
	struct xen_dev *d = container_of(t, struct xen_dev, late);

	log_err("%s: its tapdisk does not answer; waiting", dev_name(d));
}

/* As the nodes have it. */
static void rings_read(struct xen_dev *d, const struct vdisk *vd)
{
	struct tap_xen_connect *c = &d->rings;

	*c = d->front.c;
	c->vbd = (struct tap_xen_vbd){ d->domid, d->devid };
	c->flags = (uint16_t)((d->front.persistent ? TAP_XEN_PERSISTENT : 0) |
			      (readonly(d, vd) ? TAP_XEN_READONLY : 0));
	c->max_indirect = RINGS_INDIRECT;
}

void rings_connect(struct xen_dev *d, bool again)
{
	struct vdisk *vd = disk_of(d);
	int err;

	loop_timer_clear(&d->late);
	if (!again) {
		d->known = d->lost = d->broken = false;
		d->retries = 0;
		dev_enter(d, DEV_CONNECTING);
	}
	if (!d->known)
		rings_read(d, vd);
	if (again)
		d->rings.flags |= TAP_XEN_RECONNECT;
	d->call.done = connect_answered;
	err = chan_call(&vd->chan, &d->call, TAP_XEN_CONNECT, &d->rings,
			sizeof(d->rings));
	if (err) {
		if (err == -EPIPE)	/* it ends, or is to */
			rings_cut(vd);
		connect_failed(d, err, strerror(-err), err == -EPIPE);
		return;
	}
	d->calling = true;
	loop_timer_init(&d->late, connect_late);
	loop_timer_set(ctl.loop, &d->late, CONNECT_NS);
}

static void disconnect_answered(struct call *c, int err, const struct msg *m)
{
	struct xen_dev *d = container_of(c, struct xen_dev, call);
	char why[256];

	rings_end(d);
	if (err && m && err != -ENOENT)
		log_err("%s: its tapdisk does not let go: %s", dev_name(d),
			msg_why(m, err, why, sizeof(why)));
	d->mapped = false;
	dev_touch(d);
}

/* The guest is told that its pages are its own again: not while a tapdisk that cannot
 * be asked has them.  Its end tells us; another may take its place. */
void rings_cut(struct vdisk *vd)
{
	static struct log_limit limit;

	if (log_allowed(&limit))
		log_err("%s: its tapdisk cannot be asked about a guest's rings: "
			"ending it", vdisk_name(vd));
	proc_kill(vd);
}

void rings_disconnect(struct xen_dev *d)
{
	struct tap_xen_vbd v = { d->domid, d->devid };
	struct vdisk *vd = disk_of(d);
	bool lives = vd && vd->state != VD_DEAD && vd->state != VD_REVIVING;
	int err = -EPIPE;

	if (lives && vd->chan.mute) {
		rings_cut(vd);
		return;
	}
	if (lives) {
		d->call.done = disconnect_answered;
		err = chan_call(&vd->chan, &d->call, TAP_XEN_DISCONNECT, &v,
				sizeof(v));
	}
	if (!err) {
		/* However long its requests take: they use the guest's pages. */
		d->calling = true;
		return;
	}
	if (lives) {
		if (err == -EPIPE)
			rings_cut(vd);
		else
			loop_timer_set(ctl.loop, &d->again, RETRY_NS);
		return;
	}
	d->mapped = false;		/* with its tapdisk */
	dev_touch(d);
}

/* --- what the frontend is told --- */

void rings_geometry(struct xen_dev *d, const struct vdisk *vd,
		    struct nodes_write *w)
{
	d->sectors = vd->img.bytes / 512;	/* whatever sector-size is */
	nodes_add(w, "sectors", "%llu", (unsigned long long)d->sectors);
}

void rings_publish(struct xen_dev *d, const struct vdisk *vd,
		   struct nodes_write *w)
{
	uint32_t caps = vd->img.caps;
	bool ro = readonly(d, vd), discard = !ro && (caps & TD_CAP_DISCARD);
	bool flush = !ro && (caps & TD_CAP_FLUSH);

	nodes_add(w, "feature-flush-cache", "%d", flush);
	nodes_add(w, "feature-barrier", "%d", flush);
	nodes_add(w, "feature-discard", "%d", discard);
	if (discard) {
		nodes_add(w, "discard-granularity", "%u", vd->img.phys_size);
		nodes_add(w, "discard-alignment", "0");
		nodes_add(w, "discard-secure", "0");
	}
	nodes_add(w, "feature-persistent", "1");
	nodes_add(w, "feature-max-indirect-segments", "%u", RINGS_INDIRECT);
	nodes_add(w, "sector-size", "%u", vd->img.sector_size);
	nodes_add(w, "physical-sector-size", "%u", vd->img.phys_size);
	nodes_add(w, "info", "%d", (ro ? INFO_READONLY : 0) |
				   (d->back.cdrom ? INFO_CDROM : 0));
	rings_geometry(d, vd, w);
	nodes_add(w, "kthread-pid", "%d", (int)vd->pid);
}
