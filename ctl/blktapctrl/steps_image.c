/* steps_image.c - open, close, pause, unpause and resize: one question to the
 * tapdisk each, which may take as long as the asker is patient.  After that the
 * asker gets -ETIMEDOUT, and the tapdisk goes on; see vdisk.h I1. */
#include "steps.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "names.h"
#include "policy.h"
#include "vdisk.h"

#define M(s) (1u << VD_##s)
#define OPEN_FLAGS ((uint32_t)(TAP_OPEN_RDONLY | TAP_OPEN_NO_DIRECT))

/* Room for the redo log of what will be opened. */
static int make_room(const struct vdisk *vd)
{
	if (vd->new_flags & TAP_OPEN_RDONLY || !policy_has_tables(vd->new_spec))
		return 0;
	return names_store_fill(RUN_REDO, vd->minor, TAP_REDO_BYTES);
}

/* spec: what it is asked to open; "" = as before. */
static void open_call(struct op *op, uint16_t type, const char *spec, int during)
{
	static union {
		struct tap_params p;
		char room[sizeof(struct tap_params) + TAP_TEXT_MAX];
	} body;
	struct vdisk *vd = op->vd;
	size_t len = strlen(spec);
	int err = vd->calling ? 0 : make_room(vd);

	if (err) {
		op_done(op, err, "no room for its redo log in %s: %s", rundir(),
			strerror(-err));
		return;
	}
	if (!vd->calling) {	/* else it is refused below */
		key_fds_move(&vd->new_keys, &op->keys);
		err = key_fds_send(&vd->new_keys, &vd->chan);
	}
	if (err) {
		op_done(op, err, "its keys cannot be passed: %s", strerror(-err));
		return;
	}
	body.p.flags = vd->new_flags | vd->new_keys.n << TAP_OPEN_KEYS_SHIFT;
	memcpy(body.p.spec, spec, len);
	step_call(op, type, &body, sizeof(body.p) + len, during, op->patience_ns);
}

void step_open(struct op *op)
{
	struct vdisk *vd = op->vd;

	if (!step_state(op, M(CLOSED)))
		return;
	strcpy(vd->new_spec, op->text);
	vd->new_flags = op->flags & OPEN_FLAGS;
	open_call(op, TAP_PARAMS, vd->new_spec, VD_OPENING);
}

static void step_unpause(struct op *op)
{
	struct vdisk *vd = op->vd;

	if (!step_state(op, M(PAUSED)))
		return;
	strcpy(vd->new_spec, *op->text ? op->text : vd->spec);
	vd->new_flags = vd->flags | (op->flags & OPEN_FLAGS);
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
