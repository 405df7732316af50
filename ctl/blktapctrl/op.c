/* op.c - see op.h. */
#include "op.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "client.h"
#include "ctl.h"
#include "vdisk.h"

static void op_work(struct loop_work *w);
static void op_late(struct loop_timer *t);

struct op *op_new(const struct op_kind *kind, const struct tap_verb *v,
		  const char *text)
{
	struct op *op = calloc(1, sizeof(*op));

	if (!op)
		return NULL;
	op->text = strdup(text);
	if (!op->text) {
		free(op);
		return NULL;
	}
	op->kind = kind;
	op->minor = op->want = v->minor;
	op->flags = v->flags;
	op->size = v->size;
	op->patience_ns = (v->timeout ? v->timeout : 30u) * NS_PER_S;
	list_init(&op->link);
	list_init(&op->ask.link);
	loop_timer_init(&op->timer, op_late);
	loop_work_init(&op->work, op_work);
	return op;
}

void op_free(struct op *op)
{
	ask_drop(&op->ask);
	loop_timer_clear(&op->timer);
	loop_work_cancel(&op->work);
	key_fds_close(&op->keys);
	free(op->text);
	free(op);
}

static void run(struct op *op)
{
	loop_defer(ctl.loop, &op->work);
}

int op_start(struct op *op, struct vdisk *vd)
{
	if (vd && vd->n_ops >= OP_QUEUE_MAX)
		return -EBUSY;
	if (vd)
		op_take(op, vd);
	if (!vd || vd->ops.next == &op->link)
		run(op);
	return 0;
}

struct op *op_begin(const struct op_kind *kind, struct vdisk *vd, const char *text,
		    void (*ended)(struct op *op))
{
	static const struct tap_verb v = { .pid = -1, .minor = -1 };
	struct op *op = op_new(kind, &v, text);

	if (!op)
		return NULL;
	op->ended = ended;
	if (op_start(op, vd)) {
		op_free(op);
		return NULL;
	}
	return op;
}

void op_take(struct op *op, struct vdisk *vd)
{
	ASSERT(!op->vd);
	op->vd = vd;
	op->minor = vd->minor;
	list_add(&vd->ops, &op->link);
	vd->n_ops++;
}

/* The operation may have taken the disk's minor away, or given it one. */
static const char *name(const struct op *op)
{
	static char buf[32];

	if (op->minor < 0)
		return op->vd ? vdisk_name(op->vd) : "daemon";
	snprintf(buf, sizeof(buf), "disk %d", op->minor);
	return buf;
}

/* "disk 3: cannot open aio:/srv/a: No such file or directory" */
static void explain(const struct op *op, char *buf, size_t len)
{
	char text[TEXT_SHORT + 1];

	text_spec(op->text, text);
	if (op->undoing || op->step < op->kind->n_steps)
		snprintf(buf, len, "%s: cannot %s%s%s: %s", name(op),
			 op->kind->act, *text ? " " : "", text, op->why);
	else							/* I4 */
		snprintf(buf, len, "%s: %s: %s", name(op), op->kind->act,
			 op->why);
}

static void answer(struct op *op)
{
	static union {
		struct tap_disk d;
		char room[TAP_MSG_MAX - sizeof(struct tap_hdr)];
	} body;
	char text[sizeof(op->why) + 384], spec[TEXT_SHORT + 1];

	if (op->err) {
		explain(op, text, sizeof(text));
		if (!op->hushed)
			log_warn("%s", text);
		ask_reply(&op->ask, 0, op->err, text, strlen(text));
		return;
	}
	if (!op->kind->quiet)
		log_info("%s: %s%s%s: done", name(op), op->kind->act,
			 *op->text ? " " : "", text_spec(op->text, spec));
	ask_reply(&op->ask, 0, 0, &body,
		  op->kind->tells ? vdisk_tell(op->vd, &body.d, sizeof(body)) : 0);
}

/* The disk is no more: so are the operations that wait for it. */
static void flush_queue(struct vdisk *vd)
{
	struct list *e;

	while ((e = list_pop(&vd->ops))) {
		struct op *op = container_of(e, struct op, link);

		op->err = -ENODEV;
		snprintf(op->why, sizeof(op->why), "it is gone");
		answer(op);
		if (op->ended)
			op->ended(op);
		op->vd = NULL;
		op_free(op);
	}
}

static void end(struct op *op)
{
	struct vdisk *vd = op->vd;

	answer(op);
	if (vd) {
		list_del(&op->link);
		vd->n_ops--;
	}
	if (op->ended)
		op->ended(op);
	op_free(op);
	if (!vd)
		return;
	/* Dead without a minor: nobody could name it. */
	if (!vd->gone && vd->state == VD_DEAD && vd->minor < 0)
		vdisk_forget(vd);
	if (vd->gone) {
		flush_queue(vd);
		vdisk_free(vd);
	} else if (!list_empty(&vd->ops)) {
		run(list_first(&vd->ops, struct op, link));
	}
}

static void op_work(struct loop_work *w)
{
	struct op *op = container_of(w, struct op, work);
	const struct step *s;

	ASSERT(op->wait == WAIT_NOTHING);
	while (op->undoing && op->step > 0) {
		s = &op->kind->steps[--op->step];
		if (s->undo) {
			log_dbg(LOG_CTL, "%s: undo %s",
				op->vd ? vdisk_name(op->vd) : "-", s->name);
			s->undo(op);
			return;
		}
	}
	if (op->undoing || op->step == op->kind->n_steps) {
		end(op);
		return;
	}
	s = &op->kind->steps[op->step];
	log_dbg(LOG_CTL, "%s: %s: %s", op->vd ? vdisk_name(op->vd) : "-",
		op->kind->act, s->name);
	if (op->vd && op->vd->state == VD_REVIVING)
		op_await(op, WAIT_REVIVED, op->patience_ns);
	else if (op->vd && op->vd->state == VD_DEAD && !s->dead_too)
		op_done(op, -ENXIO, "its tapdisk %s", op->vd->end);
	else
		s->run(op);
}

void op_done(struct op *op, int err, const char *fmt, ...)
{
	va_list ap;

	ASSERT(err <= 0);
	loop_timer_clear(&op->timer);
	op->wait = WAIT_NOTHING;
	if (err && !op->err) {
		op->err = err;
		va_start(ap, fmt);
		vsnprintf(op->why, sizeof(op->why), fmt, ap);
		va_end(ap);
	}
	if (err)
		op->undoing = true;
	else if (!op->undoing)
		op->step++;
	loop_defer(ctl.loop, &op->work);			/* I2 */
}

void op_await(struct op *op, enum op_wait what, uint64_t ns)
{
	op->wait = what;
	loop_timer_set(ctl.loop, &op->timer, ns);
}

static void op_late(struct loop_timer *t)
{
	struct op *op = container_of(t, struct op, timer);
	static const char *const what[] = {
		[WAIT_HELLO] = "come up", [WAIT_CALL] = "answered",
		[WAIT_DEATH] = "ended", [WAIT_REVIVED] = "taken over",
	};

	const struct step *s = &op->kind->steps[op->step];

	if (!op->undoing && !op->killed &&
	    (s->late == LATE_KILLS || (s->late == LATE_KILLS_FORCED &&
				       (op->flags & TAP_VERB_FORCE)))) {
		log_warn("%s: tapdisk %d has not %s in time: ending it by force",
			 name(op), op->vd->pid, what[op->wait]);
		op_kill(op);
		return;
	}
	if (op->wait == WAIT_REVIVED || op->vd->pid < 0)
		op_done(op, -ETIMEDOUT, "its tapdisk died, and none has taken over "
			"in time");
	else
		op_done(op, -ETIMEDOUT, "tapdisk %d has not %s in time",
			op->vd->pid, what[op->wait]);
}

#define KILL_NS (5 * NS_PER_S)

void op_kill(struct op *op)
{
	op->killed = true;
	if (op->vd->state == VD_DEAD) {
		op_done(op, 0, " ");
		return;
	}
	vdisk_kill(op->vd);
	op_await(op, WAIT_DEATH, KILL_NS);
}

void op_event(struct vdisk *vd, enum op_wait what, int err, const char *why)
{
	struct op *op;

	if (list_empty(&vd->ops))
		return;
	op = list_first(&vd->ops, struct op, link);		/* I1 */
	if (op->wait == WAIT_REVIVED && (what == WAIT_REVIVED || what == WAIT_DEATH)) {
		loop_timer_clear(&op->timer);
		op->wait = WAIT_NOTHING;
		run(op);
	} else if (op->wait == what)
		op_done(op, err, "%s", why);
	else if (what == WAIT_DEATH && op->wait != WAIT_NOTHING)
		op_done(op, -ENXIO, "its tapdisk %s", vd->end);
}

void op_lost(struct vdisk *vd, int err, const char *why)
{
	struct op *op;

	if (list_empty(&vd->ops))
		return;
	op = list_first(&vd->ops, struct op, link);		/* I1 */
	if (op->wait != WAIT_CALL)
		return;
	if (!op->err) {
		op->err = err;					/* I4 */
		snprintf(op->why, sizeof(op->why), "%s", why);
	}
	op_done(op, 0, " ");
}
