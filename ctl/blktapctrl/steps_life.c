/* steps_life.c - how disks begin and end.
 *
 * create   take_minor -> start -> await_hello -> newdev -> named -> open -> settled
 * spawn    take_number -> start -> await_hello
 * attach   bind -> link -> newdev -> named
 * detach   leave -> ended -> forget
 * destroy  shut -> leave -> ended -> free
 *
 * A create that fails, wherever, leaves nothing: its tapdisk is killed, which
 * costs nobody anything, since no guest has seen it.  A tapdisk that does not
 * end when told to, its image closed, is killed as well.
 */
#include "steps.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "ctl.h"
#include "launch.h"
#include "minors.h"
#include "names.h"
#include "vdisk.h"
#include "xen/xen.h"

#define M(s) (1u << VD_##s)

void step_call(struct op *op, uint16_t type, const void *body, size_t len,
	       int during, uint64_t ns)
{
	step_called(op, vdisk_call(op->vd, type, body, len,
				   (enum vdisk_state)during), ns);
}

void step_called(struct op *op, int err, uint64_t ns)
{
	if (err == -EBUSY)
		op_done(op, err, "it is still busy with something that has timed "
				 "out");
	else if (err)
		op_done(op, err, "its tapdisk is not reached: %s", strerror(-err));
	else
		op_await(op, WAIT_CALL, ns);
}

bool step_state(struct op *op, unsigned may)
{
	enum vdisk_state s = op->vd->state;

	if (may & (1u << s))
		return true;
	op_done(op, s == VD_RUNNING || s == VD_PAUSED || s == VD_CLOSED ||
		    s == VD_IDLE ? -EINVAL : -EBUSY,
		"it %s", vdisk_state_text(s));
	return false;
}

/* --- begin --- */

static void take_minor(struct op *op)
{
	int n = minor_take(op->minor, true);
	struct vdisk *vd;

	if (n < 0) {
		op_done(op, n == -EUSERS ? -ENOSPC : n, "%s",
			n == -EUSERS ? "all minors are taken" :
			n == -EEXIST ? "that minor is taken" :
			n == -EINVAL ? "there is no such minor" : strerror(-n));
		return;
	}
	vd = vdisk_new(n);
	if (!vd) {
		minor_free(n);
		op_done(op, -ENOMEM, "%s", strerror(ENOMEM));
		return;
	}
	vd->created = true;
	if (*op->node)
		names_marker_creating_xen(n, op->node);
	minor_bind(n, vd);
	op_take(op, vd);
	op_done(op, 0, " ");
}

/* Whatever was begun for it is undone: take it away. */
static void drop_disk(struct op *op)
{
	struct vdisk *vd = op->vd;
	int minor = vd->minor;

	if (vd->state == VD_STARTING && vd->pid < 0)	/* never started */
		vdisk_enter(vd, VD_DEAD);
	if (vd->state == VD_DEAD) {
		vdisk_forget(vd);
		if (minor >= 0)
			minor_free(minor);
	} else {
		vd->doomed = true;	/* SIGKILL takes its time */
	}
	op_done(op, 0, " ");
}

static void take_number(struct op *op)
{
	struct vdisk *vd = vdisk_new(vdisk_temp_number());

	if (!vd) {
		op_done(op, -ENOMEM, "%s", strerror(ENOMEM));
		return;
	}
	op_take(op, vd);
	op_done(op, 0, " ");
}

static void start(struct op *op)
{
	const char *what;
	int err = launch_start(op->vd, &what);

	op_done(op, err, "%s: %s", what, strerror(-err));
}

static void kill_it(struct op *op)
{
	op_kill(op);
}

static void await_hello(struct op *op)
{
	op_await(op, WAIT_HELLO, OP_CONTROL_NS);
}

static void newdev(struct op *op)
{
	struct vdisk *vd = op->vd;
	struct tap_newdev nd = { .minor = (uint32_t)vd->minor,
				 .created = vd->created };
	const char *what;
	int err = launch_equip(vd, !ctl.no_restart && revive_could(op->text), &what);

	if (err) {
		op_done(op, err, "%s: %s", what, strerror(-err));
		return;
	}
	step_call(op, TAP_NEWDEV, &nd, sizeof(nd), VD_ATTACHING, OP_CONTROL_NS);
}

static void named(struct op *op)
{
	struct vdisk *vd = op->vd;

	if (vd->number != vd->minor) {
		names_remove_channel(vd->number);
		vd->number = vd->chan.number = vd->minor;
	}
	names_compat_nbd(vd->pid, vd->minor, true);
	op_done(op, 0, " ");
}

static void settled(struct op *op)
{
	names_marker_settle(op->vd->minor);
	if (*op->node)
		xen_disk_opened(op->vd->minor);
	op_done(op, 0, " ");
}

static const struct step spawn_steps[] = {
	{ "take number", .run = take_number, .undo = drop_disk },
	{ "start", .run = start, .undo = kill_it },
	{ "hello", .run = await_hello },
};
const struct op_kind op_spawn = {
	.act = "spawn", .steps = spawn_steps, .n_steps = ARRAY_SIZE(spawn_steps),
	.tells = true,
};

static const struct step create_steps[] = {
	{ "take minor", .run = take_minor, .undo = drop_disk },
	{ "start", .run = start, .undo = kill_it },
	{ "hello", .run = await_hello },
	{ "newdev", .run = newdev },
	{ "named", .run = named },
	{ "open", .run = step_open },
	{ "settle", .run = settled },
};
const struct op_kind op_create = {
	.act = "create", .steps = create_steps, .n_steps = ARRAY_SIZE(create_steps),
	.tells = true,
};

/* --- attach --- */

static void bind_minor(struct op *op)
{
	struct vdisk *vd = op->vd;
	struct vdisk *other = minor_disk(op->want);

	if (!step_state(op, M(IDLE)))
		return;
	if (!minor_taken(op->want)) {
		op_done(op, -ENODEV, "minor %d is not allocated", op->want);
	} else if (other) {
		op_done(op, -EBUSY, "minor %d is tapdisk %d's", op->want,
			other->pid);
	} else {
		minor_bind(op->want, vd);
		/* A guest's that had it before has nothing to do with this one. */
		names_marker_settle(op->want);
		op->minor = op->want;
		op_done(op, 0, " ");
	}
}

static void unbind_minor(struct op *op)
{
	xen_disk_gone(op->vd);
	if (op->vd->minor >= 0)
		minor_unbind(op->vd->minor);
	op_done(op, 0, " ");
}

static void link_names(struct op *op)
{
	int err = names_link(op->vd->number, op->vd->minor);

	op_done(op, err, "its pipes cannot be renamed: %s", strerror(-err));
}

static void unlink_names(struct op *op)
{
	struct vdisk *vd = op->vd;

	names_remove_disk(vd->minor);
	/* It was told its minor and has not answered: nobody knows what it
	 * believes to be, and it has no image. */
	if (vd->state == VD_ATTACHING)
		op_kill(op);
	else
		op_done(op, 0, " ");
}

static const struct step attach_steps[] = {
	{ "bind minor", .run = bind_minor, .undo = unbind_minor },
	{ "link names", .run = link_names, .undo = unlink_names },
	{ "newdev", .run = newdev },
	{ "named", .run = named },
};
const struct op_kind op_attach = {
	.act = "attach", .steps = attach_steps, .n_steps = ARRAY_SIZE(attach_steps),
};

/* --- end --- */

/* destroy: whatever it does, it shall be closed. */
static void shut(struct op *op)
{
	struct vdisk *vd = op->vd;
	struct tap_close c = { .flags = op->flags & TAP_VERB_FORCE };

	switch (vd->state) {
	case VD_DEAD:
	case VD_CLOSED:
	case VD_IDLE:
		op_done(op, 0, " ");
		return;
	case VD_RUNNING:
	case VD_PAUSED:
		if (!vd->chan.mute && !vd->calling) {
			step_call(op, TAP_CLOSE, &c, sizeof(c), VD_CLOSING,
				  op->patience_ns);
			return;
		}
		break;
	default:
		break;
	}
	if (op->flags & TAP_VERB_FORCE) {
		log_warn("%s: it %s: ending its tapdisk %d by force",
			 vdisk_name(vd), vdisk_state_text(vd->state), vd->pid);
		op_kill(op);
	} else {
		op_done(op, -EBUSY, "it %s%s; to give it up, kill %d and try again",
			vdisk_state_text(vd->state),
			vd->chan.mute ? " and its tapdisk talks nonsense" : "",
			vd->pid);
	}
}

static void leave(struct op *op)
{
	if (op->vd->state == VD_DEAD)
		op_done(op, 0, " ");
	else if (op->vd->chan.mute)	/* closed, and deaf */
		op_kill(op);
	else if (step_state(op, M(IDLE) | M(CLOSED)))
		step_call(op, TAP_DETACH, NULL, 0, VD_LEAVING, OP_CONTROL_NS);
}

static void ended(struct op *op)
{
	if (op->vd->state == VD_DEAD)
		op_done(op, 0, " ");
	else
		op_await(op, WAIT_DEATH, OP_CONTROL_NS);
}

static void forget(struct op *op)
{
	vdisk_forget(op->vd);
	op_done(op, 0, " ");
}

static void free_it(struct op *op)
{
	int minor = op->vd->minor;

	if (op->vd->state != VD_DEAD && op->vd->pid < 0) {
		op_done(op, -EBUSY, "a tapdisk has it that does not answer");
		return;
	}
	if (op->vd->state != VD_DEAD) {
		op_done(op, -EBUSY, "tapdisk %d has it", op->vd->pid);
		return;
	}
	vdisk_forget(op->vd);
	if (minor >= 0)
		minor_free(minor);
	op_done(op, 0, " ");
}

static const struct step detach_steps[] = {
	{ "leave", .run = leave, .dead_too = true, .late = LATE_KILLS },
	{ "end", .run = ended, .dead_too = true, .late = LATE_KILLS },
	{ "forget", .run = forget, .dead_too = true },
};
const struct op_kind op_detach = {
	.act = "detach", .steps = detach_steps, .n_steps = ARRAY_SIZE(detach_steps),
};

static const struct step destroy_steps[] = {
	{ "shut", .run = shut, .dead_too = true, .late = LATE_KILLS_FORCED },
	{ "leave", .run = leave, .dead_too = true, .late = LATE_KILLS },
	{ "end", .run = ended, .dead_too = true, .late = LATE_KILLS },
	{ "free", .run = free_it, .dead_too = true },
};
const struct op_kind op_destroy = {
	.act = "destroy", .steps = destroy_steps, .n_steps = ARRAY_SIZE(destroy_steps),
};

static const struct step free_steps[] = {
	{ "free", .run = free_it, .dead_too = true },
};
const struct op_kind op_free_minor = {
	.act = "free", .steps = free_steps, .n_steps = ARRAY_SIZE(free_steps),
};
