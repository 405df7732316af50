/* forward.c - see forward.h. */
#include "forward.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/log.h"
#include "ctl.h"
#include "vdisk.h"

/* An answer may not be larger: its sender is not trusted. */
#define ANSWER_MAX (256 * 1024)

#define NONSENSE "its tapdisk talks nonsense"

struct forward {
	struct call call;
	struct list link;	/* of the disk's, in the order asked */
	struct vdisk *vd;	/* lives longer: its channel ends the call */
	struct ask ask;
	size_t bytes;
	char text[64];		/* for messages */
	struct loop_timer timer;
};

static const char *act(const struct ask *a)
{
	return a->type == TAP_CTL_STATS ? "tell statistics" : "debug";
}

static void forward_end(struct forward *f)
{
	chan_forget(&f->call);
	loop_timer_clear(&f->timer);
	ask_drop(&f->ask);
	list_del(&f->link);
	f->vd->n_forwards--;
	free(f);
}

/* To the asker, if it has not been told before. */
static void forward_tell(struct forward *f, int err, const char *why)
{
	ask_fail(&f->ask, err, "%s: cannot %s%s%s: %s", vdisk_name(f->vd),
		 act(&f->ask), *f->text ? " " : "", f->text, why);
}

static void forward_fail(struct forward *f, int err, const char *why)
{
	forward_tell(f, err, why);
	forward_end(f);
}

/* It stays, and counts, until it is answered: a process that is stopped answers one
 * day all that it was ever asked, which must not look like a flood. */
static void forward_late(struct loop_timer *t)
{
	forward_tell(container_of(t, struct forward, timer), -ETIMEDOUT,
		     "its tapdisk has not answered in time");
}

/* A tapdisk answers in the order asked.  What it has not answered before this was
 * too much for its pipe, and does not come any more. */
static void forward_lost_before(const struct forward *f)
{
	struct list *e;

	while ((e = f->vd->forwards.next) != &f->link)
		forward_fail(container_of(e, struct forward, link), -ENOBUFS,
			     "its tapdisk had too much to tell at once");
}

static void forward_answered(struct call *c, int err, const struct msg *m)
{
	struct forward *f = container_of(c, struct forward, call);
	char why[512];

	if (err) {
		forward_fail(f, m ? err : -ENXIO,
		     m ? msg_why(m, err, why, sizeof(why)) : "its tapdisk has ended");
		return;
	}
	f->bytes += m->hdr->len;
	if (f->bytes > ANSWER_MAX) {
		forward_fail(f, -EMSGSIZE, "its tapdisk answers without end");
		return;
	}
	ask_reply(&f->ask, m->hdr->flags & TAP_MORE, 0, m->body, m->hdr->len);
	if (m->hdr->flags & TAP_MORE)
		return;
	forward_lost_before(f);
	forward_end(f);
}

void forwards_mute(struct vdisk *vd)
{
	while (!list_empty(&vd->forwards))
		forward_fail(list_first(&vd->forwards, struct forward, link),
			     -ENXIO, NONSENSE);
}

void forward(struct vdisk *vd, struct ask *a, uint16_t type,
	     const char *text)
{
	const char *why = NULL;
	struct forward *f;
	int err;

	if (vd->chan.mute)
		why = NONSENSE;
	else if (!vd->chan.greeted)
		why = "its tapdisk does not answer";
	else if (vd->state == VD_DEAD)
		why = "it is dead";
	else if (vd->n_forwards >= FORWARDS_MAX)
		why = "too much waits for it already";
	f = why ? NULL : calloc(1, sizeof(*f));
	if (!f) {
		ask_fail(a, why ? -ENXIO : -ENOMEM, "%s: cannot %s: %s",
			 vdisk_name(vd), act(a), why ? why : strerror(ENOMEM));
		return;
	}
	f->call.done = forward_answered;
	f->call.parts = true;
	f->vd = vd;
	snprintf(f->text, sizeof(f->text), "%s", text);
	list_init(&f->call.link);
	loop_timer_init(&f->timer, forward_late);
	ask_init(&f->ask, a->client, a->id, a->type);
	ask_drop(a);
	list_add(&vd->forwards, &f->link);
	vd->n_forwards++;
	err = chan_call(&vd->chan, &f->call, type, text, strlen(text));
	if (err == -EPIPE)		/* which its process' end will confirm */
		forward_answered(&f->call, err, NULL);
	else if (err)
		forward_fail(f, err, err == -ENOBUFS ? "its tapdisk does not read "
			     "what it is asked" : strerror(-err));
	if (err)
		return;
	log_dbg(LOG_CTL, "%s: asked to %s", vdisk_name(vd), act(a));
	loop_timer_set(ctl.loop, &f->timer, OP_CONTROL_NS);
}
