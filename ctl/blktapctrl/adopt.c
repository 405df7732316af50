/* adopt.c - see adopt.h. */
#include "adopt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "broker.h"
#include "ctl.h"
#include "memo.h"
#include "minors.h"
#include "names.h"
#include "proc.h"
#include "steps.h"
#include "vdisk.h"

#define PATIENCE_NS (4 * NS_PER_S)
#define SETTLE_NS (500 * NS_PER_MS)

static struct {
	unsigned waiting;
	void (*ready)(void);
	struct loop_timer timer;
	struct loop_work done;
} adopt;

int adopt_state(const struct tap_hello_rsp *h)
{
	if (h->minor < 0)
		return h->state == TAP_ST_CLOSED ? VD_IDLE : -1;
	switch (h->state) {
	case TAP_ST_RUNNING:
		return VD_RUNNING;
	case TAP_ST_CLOSED:
		return VD_CLOSED;
	case TAP_ST_OPENING:
		return VD_OPENING;
	case TAP_ST_PAUSING:
		return VD_PAUSING;
	case TAP_ST_CLOSING:
		return VD_CLOSING;
	case TAP_ST_PAUSED:
	case TAP_ST_PAUSED | TAP_ST_RESUME_FAILED:
	case TAP_ST_PAUSED | TAP_ST_OPENING:
		return VD_PAUSED;
	default:
		return -1;
	}
}

/* --- the end of adoption --- */

static void sweep(enum run_name what, int n)
{
	if (what == RUN_MARKER) {
		if (minor_taken(n) && !minor_disk(n) && names_marker_creating(n))
			minor_free(n);
		return;
	}
	if (!vdisk_by_number(n) && !minor_disk(n))
		names_remove(what, n);
}

static void done_work(struct loop_work *w)
{
	(void)w;
	loop_timer_clear(&adopt.timer);
	names_scan(sweep);
	adopt.ready();
}

void adopt_resolved(struct vdisk *vd)
{
	if (!vd->adopting)
		return;
	vd->adopting = false;
	ASSERT(adopt.waiting > 0);
	if (--adopt.waiting == 0)
		loop_defer(ctl.loop, &adopt.done);
}

/* The socket still has its other end: so the process that the kernel named when
 * it was connected has not ended, and its number is no other's. */
static bool there(const struct vdisk *vd)
{
	char byte;

	return vd->chan.fd.fd >= 0 &&
	       recv(vd->chan.fd.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0;
}

/* Watch the process that the kernel says is there.  False: it has ended, or
 * cannot be watched and is left as it is. */
static bool watch(struct vdisk *vd)
{
	int err;

	if (vd->pidfd.fd >= 0)
		return true;
	err = proc_watch(vd, vd->chan.peer);
	if (!err && there(vd))
		return true;
	if (!err || err == -ESRCH)
		vdisk_died(vd, "has ended");
	else
		log_err("%s: its tapdisk cannot be watched: %s", vdisk_name(vd),
			strerror(-err));
	return false;
}

/* Some have not answered: stopped, or waiting for a dead server's file.  They
 * serve guests, for all that is known: they stay, and are asked on. */
static void adopt_late(struct loop_timer *t)
{
	(void)t;
	list_for_each_safe(e, &ctl.vdisks) {
		struct vdisk *vd = container_of(e, struct vdisk, link);
		bool replaced;
		int n;

		if (!vd->adopting)
			continue;
		if (vd->state == VD_REVIVING) {
			adopt_resolved(vd);
			continue;
		}
		log_err("%s: its tapdisk does not answer; asking on",
			vdisk_name(vd));
		vdisk_enter(vd, VD_SILENT);
		/* It may be that minor, as far as anybody knows: the minor's names
		 * stay, and no other gets them. */
		n = vd->second >= 0 ? vd->second : vd->number;
		if (minor_taken(n) && !minor_disk(n))
			minor_bind(n, vd);
		/* And its image, for who looks for his. */
		if (vd->minor >= 0)
			memo_read(vd, n, &replaced);
		adopt_resolved(vd);
		if (vd->chan.peer > 0)
			watch(vd);
	}
}

/* --- what one has answered --- */

static void distrust(struct vdisk *vd, const char *why)
{
	log_err("%s: its tapdisk lies about itself (%s): not listened to any more",
		vdisk_name(vd), why);
	vd->chan.mute = true;
	if (vd->state == VD_STARTING)
		vdisk_enter(vd, VD_SILENT);
	op_event(vd, WAIT_HELLO, -EPROTO, "its tapdisk lies about itself");
	adopt_resolved(vd);
}

/* Nobody waits for it any more. */
static void take_away(struct vdisk *vd)
{
	struct op *op = op_begin(&op_destroy, vd, "", NULL);

	log_info("%s: half made, and its maker is gone: taking it away",
		 vdisk_name(vd));
	if (op)
		op->flags = TAP_VERB_FORCE;
}

/* Names and minor as the tapdisk says, if that can be. */
static const char *reconcile(struct vdisk *vd, int minor)
{
	int err;

	if (vd->minor >= 0 && minor < 0 && vd->state == VD_SILENT) {
		/* Bound by adopt_late().  Half of a create keeps it until it is
		 * taken away; half of an attach has never had it. */
		if (vd->second >= 0) {
			names_remove_disk(vd->second);
			minor_unbind(vd->minor);
		}
		return NULL;
	}
	if (vd->minor >= 0 && vd->minor != minor)
		return "another minor than before";
	if (vd->minor >= 0 && vd->number == minor)
		return NULL;
	if (minor < 0) {
		/* Half of a create: it has a minor's names and marker.  (Half of
		 * an attach has two sets of names; sweep() takes the second.) */
		if (minor_taken(vd->number) && !minor_disk(vd->number))
			minor_bind(vd->number, vd);
		return NULL;
	}
	if (minor >= TAP_MINOR_MAX ||
	    (minor != vd->number && vd->number < TAP_TEMP_MINOR) ||
	    (minor_disk(minor) && minor_disk(minor) != vd))
		return "not its minor";
	if (minor != vd->number) {
		if (!names_same(vd->number, minor)) {
			err = names_link(vd->number, minor);
			if (err)
				return strerror(-err);
		}
		names_remove_channel(vd->number);
		vd->number = vd->chan.number = minor;
	}
	if (!minor_taken(minor)) {
		if (names_marker_make(minor, false))
			return "its minor is somebody else's";
		minor_adopt(minor);
	}
	if (vd->minor < 0)
		minor_bind(minor, vd);
	return NULL;
}

/* What the daemon before us has written down of it, into vd; as memo_read(). */
static int remembered(struct vdisk *vd, const struct tap_hello_rsp *h, bool *replaced)
{
	/* (A tapdisk does not choose whose memo is read.) */
	int n = h->minor < 0 || vd->number < TAP_TEMP_MINOR ? vd->number : h->minor;

	*replaced = false;
	return n < TAP_MINOR_MAX ? memo_read(vd, n, replaced) : -ENOENT;
}

/* The daemon before us died as it replaced a tapdisk: this one is not yet what it
 * shall be. */
static bool half_revived(const struct tap_hello_rsp *h, int was)
{
	return h->minor < 0 || (adopt_state(h) != VD_RUNNING &&
				(adopt_state(h) != VD_PAUSED || was != VD_PAUSED));
}

static uint32_t told_flags(const struct tap_hello_rsp *h)
{
	return h->flags & (TAP_OPEN_RDONLY | TAP_OPEN_NO_DIRECT);
}

/* Whoever is in its place later is given the image's file, and so is it when it is
 * unpaused: its word alone is not taken for which one that is. */
static const char *another_image(const struct vdisk *vd, const struct tap_hello_rsp *h,
				 const char *spec)
{
	uint32_t flags = told_flags(h);
	int state = adopt_state(h);

	/* (What is being opened has the name of the one before, or none.) */
	if (vd->hearsay || state == VD_IDLE || state == VD_CLOSED ||
	    (state == VD_OPENING && !h->img.bytes) ||
	    (!strcmp(spec, vd->spec) && flags == vd->flags) ||
	    (!strcmp(spec, vd->new_spec) && flags == vd->new_flags))
		return NULL;
	return "another image than it was given";
}

/* An open with a size is an unpause: the daemon before us died as it waited for it. */
static bool unpausing(const struct vdisk *vd, const struct tap_hello_rsp *h)
{
	return adopt_state(h) == VD_OPENING && h->img.bytes && vd->state != VD_OPENING;
}

/* What it is to be when it is open, the memo has said. */
static void take_image(struct vdisk *vd, const struct tap_hello_rsp *h, const char *spec,
		       int state)
{
	bool opens = state == VD_OPENING || state == VD_RESUMING;

	if (!opens || vd->hearsay) {
		strcpy(vd->spec, spec);
		vd->flags = told_flags(h);
	}
	if (vd->hearsay) {
		strcpy(vd->new_spec, spec);
		vd->new_flags = vd->flags;
	}
}

/* What it tells of them is true where it has, or had, an image. */
static void ask_keys(struct vdisk *vd, const struct tap_hello_rsp *h)
{
	bool some = h->flags & TAP_OPEN_KEYS;

	if (vd->state == VD_CLOSED || vd->state == VD_IDLE || vd->state == VD_OPENING)
		return;
	vd->revival.keyless = some && !vd->keys.n;
	if (some)
		keys_back_ask(vd);
}

static void rebuild(struct vdisk *vd, const struct tap_hello_rsp *h,
		    const char *spec)
{
	char text[TEXT_SHORT + 1];
	bool half, replaced = false, first = vd->adopting || vd->state == VD_SILENT;
	const char *why = "a state that cannot be";
	int state = adopt_state(h), was = first ? remembered(vd, h, &replaced) : 0;

	if (replaced && was >= 0 && !ctl.no_restart && half_revived(h, was)) {
		log_info("%s: its tapdisk %d is half of a replacement: ending it",
			 vdisk_name(vd), vd->pid);
		if (h->flags & TAP_OPEN_KEYS && !vd->keys.n)
			keys_back_ask_and_end(vd);	/* it alone has them */
		else
			proc_kill(vd);
		return;
	}
	if (state >= 0)
		why = reconcile(vd, h->minor);
	if (was < 0 && state != VD_IDLE && state != VD_CLOSED)
		vd->hearsay = true;
	if (!why)
		why = another_image(vd, h, spec);
	if (why) {
		distrust(vd, why);
		return;
	}
	if (unpausing(vd, h))
		state = VD_RESUMING;
	take_image(vd, h, spec, state);
	vd->img = h->img;
	vd->failed_resume = h->state & TAP_ST_RESUME_FAILED;
	vd->created = h->created;
	if ((int)vd->state != state)
		vdisk_enter(vd, (enum vdisk_state)state);
	ask_keys(vd, h);
	half = vd->minor >= 0 && names_marker_creating(vd->minor);
	if (vd->minor >= 0)
		names_compat_nbd(vd->pid, vd->minor, true);
	if (half && (state == VD_IDLE || state == VD_CLOSED ||
		     state == VD_OPENING)) {
		if (first)
			take_away(vd);
	} else if (half) {
		names_marker_settle(vd->minor);
	} else if (state == VD_OPENING || state == VD_RESUMING ||
		   state == VD_PAUSING || state == VD_CLOSING) {
		loop_timer_set(ctl.loop, &vd->settle, SETTLE_NS);
	}
	/* (Of the daemon before us, which has not heard that it was opened.) */
	if (vd->state == VD_RUNNING)
		vd->revival.unclean = false;
	if (vd->state == VD_RUNNING || vd->state == VD_PAUSED) {
		broker_adopt(vd);
		memo_write(vd, false);
	}
	vd->revival.since_ns = loop_now(ctl.loop);
	if (first)
		log_info("%s: adopted: tapdisk %d %s%s%s", vdisk_name(vd), vd->pid,
			 vdisk_state_text(vd->state), *spec ? " " : "",
			 text_spec(spec, text));
	if (first && vd->hearsay)
		log_warn("%s: nothing but its tapdisk says what its image is: no other "
			 "takes its place", vdisk_name(vd));
	adopt_resolved(vd);
}

void adopt_settle(struct loop_timer *t)
{
	chan_hello(&container_of(t, struct vdisk, settle)->chan);
}

/* A tapdisk that we have started. */
static void begun(struct vdisk *vd, const struct tap_hello_rsp *h)
{
	if (h->pid != vd->pid || vd->chan.peer != vd->pid)
		distrust(vd, "not the process that was started");
	else if (adopt_state(h) != VD_IDLE)
		distrust(vd, "it has just been started");
	else {
		vdisk_enter(vd, VD_IDLE);
		op_event(vd, WAIT_HELLO, 0, "");
	}
}

void adopt_hello(struct vdisk *vd, const struct tap_hello_rsp *h,
		 const char *spec)
{
	if (vd->state == VD_DEAD || vd->chan.mute)
		return;
	if (vd->doubt) {
		vdisk_told(vd, adopt_state(h));
		return;
	}
	if (vd->child) {
		if (vd->state == VD_STARTING)
			begun(vd, h);
		else if (vd->state == VD_REVIVING)
			revive_hello(vd, h);
		return;
	}
	if (!watch(vd))
		return;
	if (h->pid != vd->pid) {
		distrust(vd, "another process than it is");
		return;
	}
	/* Asked again only while something was under way. */
	if (vd->calling || (vd->state != VD_STARTING && vd->state != VD_SILENT &&
			    vd->state != VD_OPENING && vd->state != VD_RESUMING &&
			    vd->state != VD_PAUSING && vd->state != VD_CLOSING))
		return;
	rebuild(vd, h, spec);
}

/* --- the beginning --- */

static void find_marker(enum run_name what, int n)
{
	if (what == RUN_MARKER && n < TAP_MINOR_MAX)
		minor_adopt(n);
}

static void find_tapdisk(enum run_name what, int n)
{
	struct vdisk *vd;
	int err;

	if (what != RUN_PIPE_WRITE || vdisk_by_number(n))
		return;
	/* Two names of one: the temporary one is asked, and tells. */
	if (n < TAP_TEMP_MINOR)
		list_for_each(e, &ctl.vdisks) {
			vd = container_of(e, struct vdisk, link);
			if (vd->number >= TAP_TEMP_MINOR &&
			    names_same(vd->number, n)) {
				vd->second = n;
				return;
			}
		}
	vd = vdisk_new(n);
	if (!vd) {
		log_err("cannot adopt the tapdisk on pipe %d: %s", n,
			strerror(ENOMEM));
		return;
	}
	err = chan_open(&vd->chan, n, O_WRONLY);
	if (err && err != -ENXIO) {
		log_warn("pipe %d is left alone: %s", n, strerror(-err));
		vdisk_enter(vd, VD_DEAD);
		vdisk_free(vd);
		return;
	}
	vd->adopting = true;
	adopt.waiting++;
	if (err)	/* nobody reads */
		vdisk_died(vd, "has ended while there was no daemon");
	else
		chan_hello(&vd->chan);
}

/* One whose tapdisk had died, and its pipes gone, when the daemon died too. */
static void find_memo(enum run_name what, int n)
{
	struct vdisk *vd;
	bool replaced;

	if (what != RUN_MEMO || n >= TAP_MINOR_MAX || vdisk_by_number(n) ||
	    minor_disk(n))
		return;
	vd = vdisk_new(n);
	if (!vd)
		return;
	if (memo_read(vd, n, &replaced) == VD_OPENING) {	/* it never was */
		memo_remove(n);
		vdisk_enter(vd, VD_DEAD);
		vdisk_free(vd);
		return;
	}
	vd->adopting = true;
	adopt.waiting++;
	vdisk_died(vd, "has ended while there was no daemon");
}

static void find_temp(enum run_name what, int n)
{
	if (n >= TAP_TEMP_MINOR)
		find_tapdisk(what, n);
}

void adopt_start(void (*ready)(void))
{
	adopt.ready = ready;
	loop_timer_init(&adopt.timer, adopt_late);
	loop_work_init(&adopt.done, done_work);
	/* One that is dead is resolved at once: it must not seem to be the last. */
	adopt.waiting++;
	names_compat_init();
	names_scan(find_marker);
	names_scan(find_temp);
	names_scan(find_tapdisk);
	names_scan(find_memo);
	if (--adopt.waiting)
		loop_timer_set(ctl.loop, &adopt.timer, PATIENCE_NS);
	else
		loop_defer(ctl.loop, &adopt.done);
}
