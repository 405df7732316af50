/* vdisk.c - see vdisk.h. */
#include "vdisk.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adopt.h"
#include "base/bytes.h"
#include "broker.h"
#include "ctl.h"
#include "forward.h"
#include "memo.h"
#include "minors.h"
#include "names.h"
#include "op.h"
#include "proc.h"
#include "xen/xen.h"

#define B(s) (1u << VD_##s)

static const struct {
	const char *text;
	uint32_t wire;		/* TAP_ST_* */
	unsigned to;
} states[VD_STATES] = {
	[VD_STARTING]	= { "is starting", TAP_ST_OPENING,
			    B(SILENT) | B(IDLE) | B(CLOSED) | B(OPENING) |
			    B(RUNNING) | B(PAUSING) | B(PAUSED) | B(RESUMING) |
			    B(CLOSING) | B(REVIVING) | B(DEAD) },
	[VD_SILENT]	= { "does not answer", TAP_ST_RUNNING,
			    B(IDLE) | B(CLOSED) | B(OPENING) | B(RUNNING) |
			    B(PAUSING) | B(PAUSED) | B(RESUMING) | B(CLOSING) |
			    B(REVIVING) | B(DEAD) },
	[VD_IDLE]	= { "has no minor", TAP_ST_CLOSED,
			    B(ATTACHING) | B(LEAVING) | B(DEAD) },
	[VD_ATTACHING]	= { "is being attached", TAP_ST_OPENING,
			    B(IDLE) | B(CLOSED) | B(DEAD) },
	[VD_CLOSED]	= { "is closed", TAP_ST_CLOSED,
			    B(OPENING) | B(LEAVING) | B(DEAD) },
	[VD_OPENING]	= { "is being opened", TAP_ST_OPENING,
			    B(CLOSED) | B(RUNNING) | B(DEAD) },
	[VD_RUNNING]	= { "is open", TAP_ST_RUNNING,
			    B(PAUSING) | B(CLOSING) | B(REVIVING) | B(DEAD) },
	[VD_PAUSING]	= { "is being paused", TAP_ST_PAUSING,
			    B(RUNNING) | B(PAUSED) | B(REVIVING) | B(DEAD) },
	[VD_PAUSED]	= { "is paused", TAP_ST_PAUSED,
			    B(RESUMING) | B(CLOSING) | B(REVIVING) | B(DEAD) },
	[VD_RESUMING]	= { "is being unpaused", TAP_ST_PAUSED | TAP_ST_OPENING,
			    B(RUNNING) | B(PAUSED) | B(REVIVING) | B(DEAD) },
	[VD_CLOSING]	= { "is being closed", TAP_ST_CLOSING,
			    B(RUNNING) | B(PAUSED) | B(CLOSED) | B(REVIVING) | B(DEAD) },
	[VD_LEAVING]	= { "is leaving", TAP_ST_CLOSED,
			    B(IDLE) | B(CLOSED) | B(DEAD) },
	[VD_REVIVING]	= { "is being revived", TAP_ST_OPENING,
			    B(RUNNING) | B(PAUSED) | B(DEAD) },
	[VD_DEAD]	= { "is dead", TAP_ST_DEAD, 0 },
};

static void call_answered(struct call *c, int err, const struct msg *m);

static void bury(struct loop_work *w)
{
	free(container_of(w, struct vdisk, bury));
}

struct vdisk *vdisk_new(int number)
{
	struct vdisk *vd = calloc(1, sizeof(*vd));

	if (!vd)
		return NULL;
	ASSERT(!vdisk_by_number(number));
	vd->number = number;
	vd->minor = vd->second = -1;
	vd->listen[0] = vd->listen[1] = -1;
	revive_init(vd);
	vd->pid = -1;
	vd->pidfd.fd = -1;
	chan_init(&vd->chan, &vdisk_chan_ops);
	list_init(&vd->ops);
	list_init(&vd->files);
	list_init(&vd->jobs);
	list_init(&vd->forwards);
	list_init(&vd->call.link);
	vd->call.done = call_answered;
	keys_back_init(vd);
	loop_timer_init(&vd->settle, adopt_settle);
	loop_work_init(&vd->bury, bury);
	list_add(&ctl.vdisks, &vd->link);
	ctl.n_vdisks++;
	return vd;
}

static void close_listen(struct vdisk *vd)
{
	for (size_t i = 0; i < ARRAY_SIZE(vd->listen); i++) {
		if (vd->listen[i] >= 0)
			close(vd->listen[i]);
		vd->listen[i] = -1;
	}
}

void vdisk_free(struct vdisk *vd)
{
	ASSERT(list_empty(&vd->ops) && vd->minor < 0 && vd->pidfd.fd < 0);
	ASSERT(!chan_is_open(&vd->chan) && list_empty(&vd->files));
	loop_timer_clear(&vd->settle);
	revive_free(vd);
	close_listen(vd);
	broker_abandon(vd);
	key_fds_close(&vd->keys);
	key_fds_close(&vd->new_keys);
	keys_back_end(vd);
	list_del(&vd->link);
	ctl.n_vdisks--;
	/* Its channel or its pidfd may be the caller's caller. */
	loop_defer(ctl.loop, &vd->bury);
}

struct vdisk *vdisk_by_number(int number)
{
	list_for_each(e, &ctl.vdisks) {
		struct vdisk *vd = container_of(e, struct vdisk, link);

		if (vd->number == number)
			return vd;
	}
	return NULL;
}

/* A former pid, or a dead disk's, names it while no other has, or has had, the same. */
struct vdisk *vdisk_by_pid(pid_t pid)
{
	struct vdisk *former = NULL;
	unsigned n = 0;

	list_for_each(e, &ctl.vdisks) {
		struct vdisk *vd = container_of(e, struct vdisk, link);

		if (vd->pid == pid && vd->state != VD_DEAD)
			return vd;
		if (revive_knows(vd, pid)) {
			former = vd;
			n++;
		}
	}
	return n == 1 ? former : NULL;
}

int vdisk_temp_number(void)
{
	int n = TAP_TEMP_MINOR;

	while (vdisk_by_number(n) || names_foreign(n))
		n++;
	return n;
}

void vdisk_enter(struct vdisk *vd, enum vdisk_state next)
{
	ASSERT(next < VD_STATES && (states[vd->state].to & (1u << next)));
	log_dbg(LOG_CTL, "%s: %s -> %s", vdisk_name(vd), states[vd->state].text,
		states[next].text);
	vd->state = next;
	/* Only what has an image, or may soon have one, holds files. */
	if (next == VD_CLOSED || next == VD_PAUSED)
		broker_close(vd);
	if (next == VD_CLOSED) {	/* by whatever way */
		vd->revival.unclean = vd->revival.keyless = vd->hearsay = false;
		key_fds_close(&vd->keys);
		keys_back_end(vd);
	}
	if (next == VD_CLOSED && vd->minor >= 0)
		memo_remove(vd->minor);
	else if (next == VD_PAUSED || next == VD_RESUMING || next == VD_OPENING)
		memo_write(vd, false);
	xen_disk_changed(vd);
}

const char *vdisk_state_text(enum vdisk_state s)
{
	return states[s].text;
}

const char *vdisk_name(const struct vdisk *vd)
{
	static char bufs[4][32];
	static unsigned next;
	char *buf = bufs[next++ % 4];

	if (vd->minor >= 0)
		snprintf(buf, sizeof(bufs[0]), "disk %d", vd->minor);
	else if (vd->pid > 0)
		snprintf(buf, sizeof(bufs[0]), "tapdisk %d", (int)vd->pid);
	else
		snprintf(buf, sizeof(bufs[0]), "tapdisk on pipe %d", vd->number);
	return buf;
}

size_t vdisk_tell(const struct vdisk *vd, struct tap_disk *d, size_t room)
{
	size_t len = strlen(vd->spec);

	ASSERT(sizeof(*d) + len <= room);
	*d = (struct tap_disk){
		/* A dead one's may be another process's by now. */
		.pid = vd->state == VD_DEAD ? -1 : vd->pid,
		.minor = vd->minor,
		.state = states[vd->state].wire |
			 (vd->failed_resume ? TAP_ST_RESUME_FAILED : 0) |
			 (vd->state == VD_REVIVING && vd->revival.held ?
			  TAP_ST_PAUSED : 0),
		.flags = vd->flags,
		.img = vd->img,
		.restarts = vd->revival.restarts,
	};
	strcpy(d->last, vd->revival.last);
	memcpy(d->spec, vd->spec, len);
	return sizeof(*d) + len;
}

/* --- death --- */

void vdisk_kill(struct vdisk *vd)
{
	if (vd->state == VD_DEAD)
		return;
	vd->killed = true;
	proc_kill(vd);
	revive_abandon(vd);
}

void vdisk_died(struct vdisk *vd, const char *how)
{
	bool expected = vd->state == VD_LEAVING || vd->killed || vd->pid < 0 ||
			*vd->revival.why;	/* told already */

	if (*vd->revival.why && !vd->killed)
		how = vd->revival.why;
	snprintf(vd->end, sizeof(vd->end), "%s", how);
	if (expected)
		log_dbg(LOG_CTL, "%s: its tapdisk %d %s", vdisk_name(vd), vd->pid,
			how);
	else
		log_err("%s: its tapdisk %d %s", vdisk_name(vd), vd->pid, how);
	loop_timer_clear(&vd->settle);
	keys_back_end(vd);
	proc_unwatch(vd);
	xen_tapdisk_ended(vd->pid);
	if (revive_begin(vd, vd->end))
		return;
	vdisk_enter(vd, VD_DEAD);
	chan_close(&vd->chan);
	close_listen(vd);
	if (vd->revival.keep)
		names_remove_served(vd->number);
	else
		names_remove_disk(vd->number);
	if (vd->minor >= 0) {
		if (vd->minor != vd->number)	/* between two names */
			names_remove_disk(vd->minor);
		names_compat_nbd(vd->pid, vd->minor, false);
	}
	op_event(vd, WAIT_DEATH, 0, "");
	adopt_resolved(vd);
	/* Nobody could name it, or nobody wants it: nothing to keep it for. */
	if (list_empty(&vd->ops) && (vd->minor < 0 || vd->doomed)) {
		int minor = vd->minor;

		vdisk_forget(vd);
		if (minor >= 0)
			minor_free(minor);
		vdisk_free(vd);
	}
}

void vdisk_forget(struct vdisk *vd)
{
	ASSERT(vd->state == VD_DEAD);
	broker_close(vd);
	key_fds_close(&vd->keys);
	if (vd->revival.keep)
		names_remove_disk(vd->number);
	xen_disk_gone(vd);
	if (vd->minor >= 0)
		minor_unbind(vd->minor);
	vd->number = -1;	/* another may have it before this one is freed */
	vd->gone = true;
}

/* --- calls --- */

int vdisk_call(struct vdisk *vd, uint16_t type, const void *body, size_t len,
	       enum vdisk_state during)
{
	int err;

	if (vd->calling)					/* I2 */
		return -EBUSY;
	if (vd->chan.mute)
		return -EIO;
	/* Written down before it is asked: a daemon that comes between knows of it. */
	vd->before = vd->state;
	if (during != vd->state)
		vdisk_enter(vd, during);
	err = chan_call(&vd->chan, &vd->call, type, body, len);
	if (err) {
		if (vd->state != vd->before)
			vdisk_enter(vd, vd->before);
		return err;
	}
	vd->calling = true;
	vd->asked_len = len <= sizeof(vd->asked) ? len : 0;
	if (vd->asked_len)
		memcpy(vd->asked, body, len);
	vd->refused = 0;
	return 0;
}

static bool take_img(struct vdisk *vd, const struct msg *m)
{
	struct tap_img img;

	if (m->hdr->len != sizeof(img))
		return false;
	memcpy(&img, m->body, sizeof(img));
	if (img.bytes % 512)
		return false;
	vd->img = img;
	return true;
}

int vdisk_opened(struct vdisk *vd, const struct msg *m)
{
	if (!take_img(vd, m))
		return -EPROTO;
	strcpy(vd->spec, vd->new_spec);
	vd->flags = vd->new_flags;
	if (vd->new_keys.n) {
		key_fds_move(&vd->keys, &vd->new_keys);
		vd->revival.keyless = false;
	}
	if (vd->keys.n)
		keys_back_ask(vd);
	vd->failed_resume = vd->hearsay = false;
	vd->revival.unclean = vd->revival.unlocked = false;
	vd->revival.since_ns = loop_now(ctl.loop);
	vdisk_enter(vd, VD_RUNNING);
	memo_write(vd, false);
	return 0;
}

static void has_closed(struct vdisk *vd)
{
	memset(&vd->img, 0, sizeof(vd->img));
	vd->failed_resume = false;
	vdisk_enter(vd, VD_CLOSED);
}

/* The state that an answer makes (rule: one function). */
static int settle_call(struct vdisk *vd, int err, const struct msg *m)
{
	switch (vd->call.type) {
	case TAP_PARAMS:
	case TAP_RESUME:
		if (!err)
			err = vdisk_opened(vd, m);
		if (!err)
			break;
		key_fds_close(&vd->new_keys);
		vd->failed_resume = vd->call.type == TAP_RESUME;
		vdisk_enter(vd, vd->before);
		break;
	case TAP_NEWDEV:	/* steps_life.c gives the minor back */
		vdisk_enter(vd, err ? VD_IDLE : VD_CLOSED);
		break;
	case TAP_CLOSE:		/* if it has failed, vdisk_told() goes on */
		if (!err)
			has_closed(vd);
		break;
	case TAP_PAUSE:
		vdisk_enter(vd, err ? vd->before : VD_PAUSED);
		break;
	case TAP_DETACH:
		if (err)
			vdisk_enter(vd, vd->before);
		break;
	case TAP_RESIZE:
		if (!err && !take_img(vd, m))
			err = -EPROTO;
		xen_disk_changed(vd);
		break;
	}
	return err;
}

/* It has closed, but something was lost. */
static void tell_doubt(struct vdisk *vd)
{
	int err = vd->doubt_err;

	vd->doubt_err = 0;
	op_lost(vd, err, vd->doubt_why);
}

static void call_answered(struct call *c, int err, const struct msg *m)
{
	struct vdisk *vd = container_of(c, struct vdisk, call);
	char why[512];

	vd->calling = false;
	if (!m)		/* the channel has ended; vdisk_died() tells the rest */
		return;
	if (err && err == vd->refused)
		snprintf(why, sizeof(why), "%s", vd->refusal);
	else
		msg_why(err ? m : NULL, err, why, sizeof(why));
	if (vd->state == VD_REVIVING) {
		revive_answered(vd, err, why, m);
		return;
	}
	if (err && c->type == TAP_CLOSE) {
		vd->calling = vd->doubt = true;			/* I4 */
		vd->doubt_err = err;
		snprintf(vd->doubt_why, sizeof(vd->doubt_why), "%.255s", why);
		chan_hello(&vd->chan);
		return;
	}
	if (!err && settle_call(vd, 0, m)) {
		err = -EPROTO;
		snprintf(why, sizeof(why), "its tapdisk answered nonsense");
	} else if (err) {
		settle_call(vd, err, m);
	}
	if (!err && c->type == TAP_CLOSE && vd->doubt_err)
		tell_doubt(vd);		/* of a close before a death */
	else
		op_event(vd, WAIT_CALL, err, why);
}

void vdisk_told(struct vdisk *vd, int state)
{
	ASSERT(vd->doubt && vd->calling && vd->state == VD_CLOSING);
	vd->doubt = vd->calling = false;
	if (state == VD_CLOSED) {
		has_closed(vd);
		tell_doubt(vd);
	} else {
		int err = vd->doubt_err;

		vd->doubt_err = 0;
		vdisk_enter(vd, vd->before);
		op_event(vd, WAIT_CALL, err, vd->doubt_why);
	}
}

/* --- what its tapdisk says by itself --- */

static struct vdisk *vd_of(struct chan *c)
{
	return container_of(c, struct vdisk, chan);
}

static void on_hello(struct chan *c, const struct tap_hello_rsp *h,
		     const char *spec)
{
	adopt_hello(vd_of(c), h, spec);
}

static bool on_file(struct chan *c, uint32_t id, const struct tap_file_ask *a,
		    const char *path)
{
	return broker_ask(vd_of(c), id, a->flags, path);
}

static bool on_key(struct chan *c, uint32_t id, int fd)
{
	return keys_back_take(vd_of(c), id, fd);
}

static bool on_xen_broken(struct chan *c, const struct tap_xen_vbd *vbd,
			  const char *why)
{
	return xen_broken(vd_of(c), vbd->domid, vbd->devid, why);
}

static void on_broken(struct chan *c, const char *why, bool nonsense)
{
	struct vdisk *vd = vd_of(c);

	if (vd->pidfd.fd < 0) {		/* nothing else tells */
		vd->killed = vd->killed || nonsense;	/* it may live: no other */
		vdisk_died(vd, "has ended");
	} else if (nonsense) {
		if (vd->state == VD_REVIVING) {
			revive_useless(vd, why);
			return;
		}
		log_err("%s: not listened to any more: %s", vdisk_name(vd), why);
		op_event(vd, WAIT_CALL, -EIO, why);
		op_event(vd, WAIT_HELLO, -EIO, why);
		forwards_mute(vd);
		xen_muted(vd);
	} else {			/* its end is near, and says more */
		log_dbg(LOG_CTL, "%s: %s", vdisk_name(vd), why);
	}
}

const struct chan_ops vdisk_chan_ops = {
	.hello = on_hello,
	.file = on_file,
	.key = on_key,
	.xen_broken = on_xen_broken,
	.broken = on_broken,
};
