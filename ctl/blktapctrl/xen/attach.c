/* attach.c - tap-ctl xen-attach and xen-detach: nodes of backend/tap, which no
 * toolstack makes.
 *
 * attach   find the guest -> open the disk -> both nodes, in one transaction; all
 *          else is as with any device that appears.  Its failures leave nothing.
 * detach   the wish to end -> the guest lets go -> both nodes away.  A guest that
 *          does not let go in time keeps it until it does.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/size.h"
#include "base/vdev.h"
#include "client.h"
#include "ctl.h"
#include "minors.h"
#include "names.h"
#include "op.h"
#include "policy.h"
#include "steps.h"
#include "vdisk.h"
#include "xen/dev.h"
#include "xen/xen.h"

#define GUEST_MAX 128		/* bytes of a guest's name */

struct request {
	struct store_job job;
	struct list link;	/* xen_dev.waiters, or `attaching' */
	struct ask ask;
	struct loop_timer timer;	/* detach */
	struct op *op;
	struct key_fds keys;
	uint64_t wait_ns;
	char guest[GUEST_MAX];
	uint32_t domid, devid;
	bool readonly, cdrom;
	int minor, pid;
	char spec[TAP_TEXT_MAX + 1];
	struct store *s;	/* the thread's */
	char why[128];
	char act[200];		/* "attach xvda to domain 3" */
};

static struct list attaching = LIST_INIT(attaching);

static void request_end(struct request *r)
{
	list_del(&r->link);
	loop_timer_clear(&r->timer);
	key_fds_close(&r->keys);
	ask_drop(&r->ask);
	free(r);
}

static void request_fail(struct request *r, int err, const char *why)
{
	log_warn("xen: cannot %s: %s", r->act, why);
	ask_fail(&r->ask, err, "cannot %s: %s", r->act, why);
	request_end(r);
}

/* --- in the thread --- */

static int say(struct request *r, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static int say(struct request *r, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	return err;
}

static void find_name(void *arg, const char *domid)
{
	struct request *r = arg;
	char path[64];
	const char *name;
	uint64_t n;

	snprintf(path, sizeof(path), "/local/domain/%.16s/name", domid);
	name = store_read(r->s, path);
	if (name && !strcmp(name, r->guest) &&
	    !uint_parse(domid, TAP_XEN_DOMID_MAX, &n))
		r->domid = (uint32_t)n;
}

static int find_guest(struct request *r)
{
	char path[64];
	uint64_t n;

	r->domid = UINT32_MAX;
	if (!uint_parse(r->guest, TAP_XEN_DOMID_MAX, &n)) {
		snprintf(path, sizeof(path), "/local/domain/%u", (unsigned)n);
		if (store_read(r->s, path))
			r->domid = (uint32_t)n;
	} else {
		store_list(r->s, "/local/domain", find_name, r);
	}
	return r->domid == UINT32_MAX ?
	       say(r, -ENOENT, "there is no such guest") : 0;
}

static void front_path(const struct request *r, char *buf, size_t len)
{
	snprintf(buf, len, "/local/domain/%u/device/vbd/%u", r->domid, r->devid);
}

static void back_path(const struct request *r, const char *kind, char *buf,
		      size_t len)
{
	snprintf(buf, len, "backend/%s/%u/%u", kind, r->domid, r->devid);
}

static int must_be_free(struct request *r)
{
	char path[XEN_PATH_MAX];

	front_path(r, path, sizeof(path));
	if (store_read(r->s, path))
		return say(r, -EEXIST, "it has such a device already");
	for (int k = 0; k < XK_KINDS; k++) {
		back_path(r, xen_kind_text((enum xen_kind)k), path, sizeof(path));
		if (store_read(r->s, path))
			return say(r, -EEXIST, "there is %s", path);
	}
	return 0;
}

static int find_run(struct store_job *j, struct store *s)
{
	struct request *r = container_of(j, struct request, job);
	int err;

	r->s = s;
	err = find_guest(r);
	return err ? err : must_be_free(r);
}

static int put(struct request *r, const char *dir, const char *key,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));
static int put(struct request *r, const char *dir, const char *key,
	       const char *fmt, ...)
{
	char path[XEN_PATH_MAX + 32], value[TAP_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", dir, key);
	return store_write(r->s, path, value);
}

static int write_both(struct store *s, void *arg)
{
	struct request *r = arg;
	char front[XEN_PATH_MAX], back[XEN_PATH_MAX], vdev[VDEV_NAME_MAX], home[64];
	char nbd[RUNDIR_MAX + 32];
	const char *p, *type = r->cdrom ? "cdrom" : "disk";
	int err;

	r->s = s;
	err = must_be_free(r);
	if (err)
		return err;
	/* A guest's frontend wants the whole path. */
	front_path(r, front, sizeof(front));
	p = store_read(s, "domid");
	snprintf(home, sizeof(home), "/local/domain/%.16s/", p ? p : "0");
	strcpy(back, home);
	back_path(r, "tap", back + strlen(back), sizeof(back) - sizeof(home));
	/* Permissions first: what is below inherits them. */
	err = store_write(s, front, "");
	if (!err)
		err = store_chmod(s, front, r->domid, 0);
	if (!err)
		err = store_write(s, back, "");
	if (!err)
		err = store_chmod(s, back, 0, r->domid);
	err = err ? err : put(r, back, "frontend", "%s", front);
	err = err ? err : put(r, back, "frontend-id", "%u", r->domid);
	err = err ? err : put(r, back, "online", "1");
	err = err ? err : put(r, back, "removable", r->cdrom ? "1" : "0");
	err = err ? err : put(r, back, "bootable", "0");
	err = err ? err : put(r, back, "dev", "%s",
			      vdev_name(r->devid, vdev));
	err = err ? err : put(r, back, "type", "tap");
	err = err ? err : put(r, back, "mode", r->readonly ? "r" : "w");
	err = err ? err : put(r, back, "device-type", "%s", type);
	err = err ? err : put(r, back, "params", "%s", r->spec);
	err = err ? err : put(r, back, "blktap-minor", "%d", r->minor);
	err = err ? err : put(r, back, "pid", "%d", r->pid);
	err = err ? err : put(r, back, "physical-device-path", "%s",
			      run_path(RUN_NBD, r->minor, nbd, sizeof(nbd)));
	err = err ? err : put(r, back, "hotplug-status", "connected");
	err = err ? err : put(r, back, "state", "1");
	err = err ? err : put(r, front, "backend", "%s", back);
	err = err ? err : put(r, front, "backend-id", "%s", p ? p : "0");
	err = err ? err : put(r, front, "virtual-device", "%u", r->devid);
	err = err ? err : put(r, front, "device-type", "%s", type);
	err = err ? err : put(r, front, "state", "1");
	return err;
}

static int write_run(struct store_job *j, struct store *s)
{
	return store_transaction(s, write_both,
				 container_of(j, struct request, job));
}

/* --- attach, in the loop --- */

static const char *reason(const struct request *r, int err)
{
	return *r->why ? r->why : err == -ENOTCONN ?
	       "xenstore does not answer" : strerror(-err);
}

bool attach_writes(int minor)
{
	list_for_each(e, &attaching)
		if (container_of(e, struct request, link)->minor == minor)
			return true;
	return false;
}

static void written(struct store_job *j)
{
	struct request *r = container_of(j, struct request, job);
	struct vdisk *vd = minor_disk(r->minor);
	union {
		struct tap_disk d;
		char room[TAP_MSG_MAX - sizeof(struct tap_hdr)];
	} body;

	if (j->err) {
		/* The minor may be another's by now. */
		if (vd && vdisk_by_pid(r->pid) == vd)
			op_begin(&op_destroy, vd, "", NULL);
		request_fail(r, j->err, reason(r, j->err));
		return;
	}
	log_info("xen: %s: done", r->act);
	if (vd)
		ask_reply(&r->ask, 0, 0, &body,
			  vdisk_tell(vd, &body.d, sizeof(body)));
	request_end(r);
}

static void opened(struct op *op)
{
	struct request *r = NULL;

	list_for_each(e, &attaching)
		if (container_of(e, struct request, link)->op == op)
			r = container_of(e, struct request, link);
	if (!r)
		return;
	r->op = NULL;
	if (op->err) {
		request_fail(r, op->err, op->why);
		return;
	}
	r->minor = op->minor;
	r->pid = op->vd->pid;
	r->spec[strcspn(r->spec, "\n")] = '\0';
	r->job.run = write_run;
	r->job.done = written;
	store_submit(&r->job);
}

static void found(struct store_job *j)
{
	struct request *r = container_of(j, struct request, job);
	struct tap_verb v = { .pid = -1, .minor = -1,
			      .flags = r->readonly ? TAP_OPEN_RDONLY : 0 };

	if (j->err) {
		request_fail(r, j->err, reason(r, j->err));
		return;
	}
	if (ctl.leaving) {	/* since it was asked */
		request_fail(r, -ESHUTDOWN, "the daemon is shutting down");
		return;
	}
	r->op = op_new(&op_create, &v, r->spec);
	ASSERT(r->op);
	key_fds_move(&r->op->keys, &r->keys);
	snprintf(r->op->node, sizeof(r->op->node), "tap/%u/%u", r->domid, r->devid);
	r->op->ended = opened;
	op_start(r->op, NULL);
}

/* A line of text, which is cut off; NULL: there is none. */
static char *line(char **text)
{
	char *s = *text, *nl = s ? strchr(s, '\n') : NULL;

	if (nl)
		*nl = '\0';
	*text = nl ? nl + 1 : NULL;
	return s;
}

/* "GUEST\nVDEV\n[MODE\nSPEC...]" into r; a reason, or NULL. */
static const char *parse(struct request *r, const char *text, bool attach)
{
	char *copy = strdup(text), *at = copy;
	const char *guest, *vdev, *mode, *why = NULL;

	ASSERT(copy);
	guest = line(&at);
	vdev = line(&at);
	mode = attach ? line(&at) : "w";
	if (!vdev || !mode || (attach && !at))
		why = "bad message";
	else if (!*guest || strlen(guest) >= sizeof(r->guest))
		why = "that is no name of a guest";
	else if (vdev_parse(vdev, &r->devid))
		why = "that is no virtual device: want xvda, sda, hda or a number";
	else if (strcmp(mode, "r") && strcmp(mode, "w"))
		why = "the mode is neither r nor w";
	else if (attach && (!xen_spec(at, r->spec) || policy_spec(r->spec)))
		why = "want tap:TYPE:/path";
	if (vdev && guest)
		snprintf(r->act, sizeof(r->act), "%s %.32s %s guest %.100s",
			 attach ? "attach" : "detach", vdev,
			 attach ? "to" : "from", guest);
	if (!why) {
		strcpy(r->guest, guest);
		r->cdrom = attach && xen_spec_is_cdrom(at);
		r->readonly = *mode == 'r' || r->cdrom;
	}
	free(copy);
	return why;
}

static struct request *request_new(struct ask *a, const struct tap_verb *v,
				   const char *text, bool attach)
{
	struct request *r = calloc(1, sizeof(*r));
	const char *why;

	ASSERT(r);
	list_init(&r->link);
	loop_timer_init(&r->timer, NULL);
	r->minor = -1;
	r->wait_ns = (v->timeout ? v->timeout : 30u) * NS_PER_S;
	snprintf(r->act, sizeof(r->act), "%s", attach ? "attach" : "detach");
	ask_init(&r->ask, a->client, a->id, a->type);
	ask_drop(a);
	why = parse(r, text, attach);
	if (why)
		request_fail(r, -EINVAL, why);
	else if (!store_is_up())
		request_fail(r, -ENOTCONN, "xenstore is not reached");
	else
		return r;
	return NULL;
}

void xen_attach(struct ask *a, const struct tap_verb *v, const char *text,
		struct key_fds *keys)
{
	struct request *r = request_new(a, v, text, true);

	if (!r)
		return;
	if (v->flags & TAP_OPEN_RDONLY)
		r->readonly = true;
	key_fds_move(&r->keys, keys);
	list_add(&attaching, &r->link);
	r->job.run = find_run;
	r->job.done = found;
	store_submit(&r->job);
}

/* --- detach --- */

static void detach_late(struct loop_timer *t)
{
	struct request *r = container_of(t, struct request, timer);

	request_fail(r, -ETIMEDOUT, "the guest has not let go of it yet");
}

static void wished(struct store_job *j)
{
	struct request *r = container_of(j, struct request, job);
	struct xen_dev *d;

	if (j->err) {
		request_fail(r, j->err, reason(r, j->err));
		return;
	}
	/* The wish stands in its node, whether or not that was seen yet. */
	d = dev_find(XK_TAP, r->domid, r->devid);
	if (!d)
		d = dev_new(XK_TAP, r->domid, r->devid);
	if (!d) {
		request_fail(r, -ENOMEM, strerror(ENOMEM));
		return;
	}
	list_del(&r->link);
	list_add(&d->waiters, &r->link);
	loop_timer_init(&r->timer, detach_late);
	loop_timer_set(ctl.loop, &r->timer, r->wait_ns);
	dev_touch(d);
}

static int write_wish(struct store *s, void *arg)
{
	struct request *r = arg;
	char dir[XEN_PATH_MAX], path[XEN_PATH_MAX + 16];
	enum xenbus_state now;
	int err;

	r->s = s;
	back_path(r, "tap", dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/script", dir);
	if (store_read(s, path))
		return say(r, -EBUSY, "it is the toolstack's");
	snprintf(path, sizeof(path), "%s/state", dir);
	now = xen_check_state(store_read(s, path));
	if (now == XB_NONE) {
		back_path(r, "vbd3", dir, sizeof(dir));
		if (store_read(s, dir))
			return say(r, -EBUSY, "it is the toolstack's: "
				   "xl block-detach");
		return say(r, -ENOENT, "it has no such device");
	}
	err = put(r, dir, "online", "0");
	/* Whoever is the daemon when the guest lets go. */
	err = err ? err : put(r, dir, "blktap-detach", "1");
	if (!err && now != XB_CLOSED)
		err = put(r, dir, "state", "%d", XB_CLOSING);
	return err;
}

static int wish_run(struct store_job *j, struct store *s)
{
	struct request *r = container_of(j, struct request, job);
	int err;

	r->s = s;
	err = find_guest(r);
	return err ? err : store_transaction(s, write_wish, r);
}

void xen_detach(struct ask *a, const struct tap_verb *v, const char *text)
{
	struct request *r = request_new(a, v, text, false);

	if (!r)
		return;
	list_add(&attaching, &r->link);
	r->job.run = wish_run;
	r->job.done = wished;
	store_submit(&r->job);
}

void attach_gone(struct xen_dev *d)
{
	while (!list_empty(&d->waiters)) {
		struct request *r = list_first(&d->waiters, struct request, link);

		log_info("xen: %s: done", r->act);
		ask_reply(&r->ask, 0, 0, NULL, 0);
		request_end(r);
	}
}
