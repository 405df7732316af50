/* keys_back.c - see keys_back.h. */
#include "keys_back.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "ctl.h"
#include "proc.h"
#include "vdisk.h"

#define WHY_MAX 256
#define AGAIN_NS (5 * NS_PER_S)	/* and how long it may take */

static bool lacking(const struct vdisk *vd)
{
	return vd->revival.keyless && !vd->keys.n;
}

static void drop(struct keys_back *b)
{
	key_fds_close(&b->got);
	chan_forget(&b->call);
	loop_timer_clear(&b->again);
	b->want = -1;
	b->open = false;
}

static void let_go(struct vdisk *vd)
{
	if (!vd->keys_back.last)
		return;
	vd->keys_back.last = false;
	proc_kill(vd);
}

static void complain(struct vdisk *vd, const char *why)
{
	struct keys_back *b = &vd->keys_back;

	if (!lacking(vd))
		log_dbg(LOG_CTL, "%s: it has no other keys: %s", vdisk_name(vd), why);
	else if (!b->told)
		log_warn("%s: its tapdisk does not give its keys back, and is not "
			 "replaced if it dies: %s; asking on", vdisk_name(vd), why);
	b->told |= lacking(vd);
}

static void stop(struct vdisk *vd, const char *why)
{
	struct keys_back *b = &vd->keys_back;

	complain(vd, why);
	drop(b);
	let_go(vd);
	if (lacking(vd) && chan_is_open(&vd->chan))
		loop_timer_set(ctl.loop, &b->again, AGAIN_NS);
}

static void complete(struct vdisk *vd)
{
	struct keys_back *b = &vd->keys_back;

	if (b->want < 0 || b->got.n != (unsigned)b->want)
		return;
	if (lacking(vd))
		log_info("%s: has its keys again", vdisk_name(vd));
	if (b->got.n >= vd->keys.n)	/* none of ours is missing */
		key_fds_move(&vd->keys, &b->got);
	vd->revival.keyless = b->told = false;
	drop(b);
	let_go(vd);
}

static void number_told(struct call *call, int err, const struct msg *m)
{
	struct vdisk *vd = container_of(call, struct vdisk, keys_back.call);
	char why[WHY_MAX];
	uint32_t n = 0;

	if (!m) {			/* the channel is closed */
		keys_back_end(vd);
		return;
	}
	if (!err && m->hdr->len == sizeof(n))
		memcpy(&n, m->body, sizeof(n));
	if (err)
		stop(vd, msg_why(m, err, why, sizeof(why)));
	else if (!n && m->hdr->len == sizeof(n))
		stop(vd, "it has none");
	else if (!n || n > TAP_KEYS_MAX || n < vd->keys_back.got.n)
		stop(vd, "it has told nonsense");
	else {
		vd->keys_back.want = (int)n;
		complete(vd);
	}
}

/* A question that has no answer yet is not repeated: a process that is stopped would
 * answer all of them one day. */
static void in_time(struct loop_timer *t)
{
	struct vdisk *vd = container_of(t, struct vdisk, keys_back.again);
	struct keys_back *b = &vd->keys_back;

	if (b->open && (b->last || list_empty(&b->call.link))) {
		stop(vd, "it takes too long");
	} else if (b->open) {
		complain(vd, "it takes too long");
		loop_timer_set(ctl.loop, &b->again, AGAIN_NS);
	} else if (lacking(vd) && chan_is_open(&vd->chan)) {
		keys_back_ask(vd);
	}
}

void keys_back_init(struct vdisk *vd)
{
	loop_timer_init(&vd->keys_back.again, in_time);
	vd->keys_back.want = -1;
	list_init(&vd->keys_back.call.link);
	vd->keys_back.call.done = number_told;
}

void keys_back_ask(struct vdisk *vd)
{
	struct keys_back *b = &vd->keys_back;
	int err;

	drop(b);
	chan_connect(&vd->chan);
	err = chan_call(&vd->chan, &b->call, TAP_KEYS, NULL, 0);
	if (err) {
		stop(vd, strerror(-err));
		return;
	}
	b->open = true;
	loop_timer_set(ctl.loop, &b->again, AGAIN_NS);
}

void keys_back_ask_and_end(struct vdisk *vd)
{
	vd->keys_back.last = true;
	keys_back_ask(vd);
}

bool keys_back_take(struct vdisk *vd, uint32_t id, int fd)
{
	struct keys_back *b = &vd->keys_back;
	const char *why;

	if (!b->open || id != b->call.id) {
		close(fd);
		return false;
	}
	if (key_fds_add(&b->got, fd, &why)) {
		stop(vd, why);
		return false;
	}
	complete(vd);
	return true;
}

void keys_back_end(struct vdisk *vd)
{
	drop(&vd->keys_back);
	vd->keys_back.last = vd->keys_back.told = false;
}
