/* forward.h - questions that go through to a tapdisk, beside its operations. */
#ifndef CTL_FORWARD_H
#define CTL_FORWARD_H

#include <stdint.h>

#include "client.h"

struct vdisk;

#define FORWARDS_MAX 32		/* of one disk */

/* Ask vd's tapdisk `type` with that text; its answer is a's.  a is copied. */
void forward(struct vdisk *vd, struct ask *a, uint16_t type, const char *text);
/* Its tapdisk is no longer listened to: whoever waits is told. */
void forwards_mute(struct vdisk *vd);

#endif
