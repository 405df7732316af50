/* steps_image.c - open, close, pause, unpause and resize: one question to the
 * tapdisk each, which may take as long as the asker is patient.  After that the
 * asker gets -ETIMEDOUT, and the tapdisk goes on; see vdisk.h I1. */
#include "steps.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "broker.h"
#include "names.h"
#include "policy.h"
#include "vdisk.h"
#include "xen/xen.h"

#define M(s) (1u << VD_##s)
#define OPEN_FLAGS ((uint32_t)(TAP_OPEN_RDONLY | TAP_OPEN_NO_DIRECT))

/* Room for the redo log of what will be opened. */
static int make_room(const struct vdisk *vd)
{
	if (vd->new_flags & TAP_OPEN_RDONLY || !policy_has_tables(vd->new_spec))
		return 0;
	return names_store_fill(RUN_REDO, vd->minor, TAP_REDO_BYTES);
}

int image_ask(struct vdisk *vd, uint16_t type, const char *spec, int during,
	      const char **what)
{
	static union {
		struct tap_params p;
		char room[sizeof(struct tap_params) + TAP_TEXT_MAX];
	} body;
	struct revival *r = &vd->revival;
	size_t len = strlen(spec);
	int err;

	if (vd->calling)
		return -EBUSY;
	*what = "give its redo log room in the run directory";
	err = make_room(vd);
	if (err)
		return err;
	*what = "pass its keys";
	err = key_fds_send(&vd->new_keys, &vd->chan);
	if (err)
		return err;
	*what = NULL;
	/* Until an open succeeds: that the next has duplicates again does not help. */
	if (r->unclean && !broker_keeps(vd))
		r->unlocked = true;
	body.p.flags = vd->new_flags | (r->unclean ? TAP_OPEN_RECOVER : 0) |
		       (r->unclean && r->unlocked ? TAP_OPEN_UNLOCKED : 0) |
		       vd->new_keys.n << TAP_OPEN_KEYS_SHIFT;
	memcpy(body.p.spec, spec, len);
	return vdisk_call(vd, type, &body, sizeof(body.p) + len,
			  (enum vdisk_state)during);
}

static void open_call(struct op *op, uint16_t type, const char *spec, int during)
{
	struct vdisk *vd = op->vd;
	const char *what = NULL;
	int err;

	if (!vd->calling)	/* else it is refused */
		key_fds_move(&vd->new_keys, &op->keys);
	err = image_ask(vd, type, spec, during, &what);
	if (err && what)
		op_done(op, err, "cannot %s: %s", what, strerror(-err));
	else
		step_called(op, err, op->patience_ns);
}

void step_open(struct op *op)
{
	struct vdisk *vd = op->vd;

	if (!step_state(op, M(CLOSED)))
		return;
	/* Before it is open: a daemon after us shall know as well.  (A create's says it.) */
	if (*op->node && op->kind == &op_open) {
		names_marker_xen(vd->minor, op->node);
		xen_disk_opened(vd->minor);
	}
	strcpy(vd->new_spec, op->text);
	vd->new_flags = op->flags & OPEN_FLAGS;
	open_call(op, TAP_PARAMS, vd->new_spec, VD_OPENING);
}

static void step_unpause(struct op *op)
{
	struct vdisk *vd = op->vd;

	if (!step_state(op, M(PAUSED)))
		return;
	if (vd->hearsay && !*op->text) {
		op_done(op, -EPERM, "only its tapdisk says what its image is: name it");
		return;
	}
	if (vd->revival.unclean && *op->text && strcmp(op->text, vd->new_spec)) {
		log_warn("%s: what a tapdisk that died left to do for its image is "
			 "not done: it gets another", vdisk_name(vd));
		vd->revival.unclean = false;
	}
	strcpy(vd->new_spec, *op->text ? op->text : vd->spec);
	vd->new_flags = vd->flags;
	if (*op->text)	/* else it opens what it had, as it had it */
		vd->new_flags |= op->flags & OPEN_FLAGS;
	open_call(op, TAP_RESUME, op->text, VD_RESUMING);
}

static void step_close(struct op *op)
{
	struct tap_close c = { .flags = op->flags & TAP_VERB_FORCE };

	if (step_state(op, M(RUNNING) | M(PAUSED)))
		step_call(op, TAP_CLOSE, &c, sizeof(c), VD_CLOSING,
			  op->patience_ns);
}

static void step_pause(struct op *op)
{
	if (step_state(op, M(RUNNING)))
		step_call(op, TAP_PAUSE, NULL, 0, VD_PAUSING, op->patience_ns);
}

static void step_resize(struct op *op)
{
	if (step_state(op, M(RUNNING)))
		step_call(op, TAP_RESIZE, &op->size, sizeof(op->size), VD_RUNNING,
			  op->patience_ns);
}

#define KIND(verb, fn, tell)                                                  \
	static const struct step verb##_steps[] = { { #verb, .run = fn } };   \
	const struct op_kind op_##verb = {                                    \
		.act = #verb, .steps = verb##_steps, .n_steps = 1,            \
		.tells = tell,                                                \
	}

KIND(open, step_open, false);
KIND(close, step_close, false);
KIND(pause, step_pause, false);
KIND(unpause, step_unpause, false);
KIND(resize, step_resize, true);
