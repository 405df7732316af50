/* steps.h - the kinds of operations.  Each is a list of steps in the order in
 * which they run; steps_life.c and steps_image.c hold them. */
#ifndef CTL_STEPS_H
#define CTL_STEPS_H

#include "op.h"

/* A disk's life.  create and spawn make their own disk: op_start(op, NULL). */
extern const struct op_kind op_spawn, op_create;
extern const struct op_kind op_attach;	/* op->want is the minor */
extern const struct op_kind op_detach, op_destroy, op_free_minor;

/* Its image. */
extern const struct op_kind op_open, op_close, op_pause, op_unpause, op_resize;

/* The step of `create` too. */
void step_open(struct op *op);
/* Ask the tapdisk and wait for the answer; failing ends the step. */
void step_call(struct op *op, uint16_t type, const void *body, size_t len,
	       int during, uint64_t ns);
/* The same, asked already: err says how that went. */
void step_called(struct op *op, int err, uint64_t ns);
/* PARAMS or RESUME (spec "": as before), of what vd->new_spec, new_flags and
 * new_keys say.  0, or -errno and *what could not be done, a constant. */
int image_ask(struct vdisk *vd, uint16_t type, const char *spec, int during,
	      const char **what);
/* Is the disk in one of those states (1 << VD_...)?  If not, the step failed. */
bool step_state(struct op *op, unsigned may);

#endif
