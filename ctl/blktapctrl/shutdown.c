/* shutdown.c - see shutdown.h. */
#include "shutdown.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "client.h"
#include "ctl.h"
#include "minors.h"
#include "steps.h"
#include "vdisk.h"
#include "xen/xen.h"

#define TELL_NS (50 * NS_PER_MS)
#define TELL_MAX 40		/* 2 s: xenstored may be slow, or a guest */

static struct {
	struct ask ask;
	struct loop_timer timer;	/* guests are being told */
	unsigned waited;
	unsigned left, failed;
	int err;
	char why[600];		/* of the first that failed */
	int lost_err;		/* closed, but a flush had failed: the first */
	char lost[600];
} going;

static void failed(const struct vdisk *vd, int err, const char *why)
{
	if (!going.failed++) {
		going.err = err;
		snprintf(going.why, sizeof(going.why), "%s: %s", vdisk_name(vd), why);
	}
}

static void shutdown_end(void)
{
	if (going.failed) {
		log_warn("shutdown: %u disks stay: %s", going.failed, going.why);
		ctl.leaving = false;
		ask_fail(&going.ask, going.err, "cannot shut down: %u disks stay; %s",
			 going.failed, going.why);
		return;
	}
	if (xen_to_tell() && going.waited++ < TELL_MAX) {
		loop_timer_set(ctl.loop, &going.timer, TELL_NS);
		return;
	}
	for (int n = 0; n < TAP_MINOR_MAX; n++)
		if (minor_taken(n) && !minor_disk(n))
			minor_free(n);
	loop_stop(ctl.loop);
}

static void look_again(struct loop_timer *t)
{
	(void)t;
	shutdown_end();
}

void shutdown_answer(void)
{
	if (going.lost_err)
		ask_fail(&going.ask, going.lost_err, "shut down; %s", going.lost);
	else
		ask_reply(&going.ask, 0, 0, NULL, 0);
}

static void one_ended(struct op *op)
{
	/* Gone is gone, whoever did it. */
	if (op->err && op->err != -ENODEV && !op->vd->gone)
		failed(op->vd, op->err, op->why);
	else if (op->err && op->err != -ENODEV && !going.lost_err) {
		going.lost_err = op->err;
		snprintf(going.lost, sizeof(going.lost), "disk %d: %s",
			 op->minor, op->why);
	}
	if (--going.left == 0)
		shutdown_end();
}

void shutdown_begin(struct ask *a, const struct tap_verb *v)
{
	struct tap_verb all = *v;

	if (ctl.leaving) {
		ask_fail(a, -EBUSY, "a shutdown is under way");
		return;
	}
	log_info("shutdown: closing %u disks", ctl.n_vdisks);
	ctl.leaving = true;
	going.failed = going.waited = 0;
	loop_timer_init(&going.timer, look_again);
	going.lost_err = 0;
	going.left = 1;		/* this function */
	all.pid = all.minor = -1;
	ask_init(&going.ask, a->client, a->id, a->type);
	ask_drop(a);
	list_for_each(e, &ctl.vdisks) {
		struct vdisk *vd = container_of(e, struct vdisk, link);
		struct op *op = op_new(&op_destroy, &all, "");

		if (!op || op_start(op, vd)) {
			failed(vd, -EBUSY, "too much waits for it already");
			if (op)
				op_free(op);
			continue;
		}
		op->ended = one_ended;
		going.left++;
	}
	if (--going.left == 0)
		shutdown_end();
}
