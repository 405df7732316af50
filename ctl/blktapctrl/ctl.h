/* ctl.h - the daemon: what all its parts stand on.
 *
 *   client.c   connections to ctl.sock          verbs.c    what they may ask
 *   op.c       operations: steps, unwinding     steps*.c   the steps
 *   vdisk.c    a tapdisk process and its disk   chan.c     talking with it
 *   proc.c     starting and watching processes  broker.c   files for it
 *   minors.c   which minors are taken           adopt.c    after a restart
 *   names*.c   the run directory                policy.c   who may open what
 *   xen/       guests of Xen: xenstore
 *   launch.c   a tapdisk gets what it needs     revive.c   one for one that died
 *   memo.c     what the next daemon must know
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct loop;
struct workers;

struct ctl {
	struct loop *loop;
	struct workers *workers;
	uint64_t epoch;		/* random: this life of the daemon */
	struct list vdisks;	/* struct vdisk.link */
	unsigned n_vdisks;
	bool leaving;		/* shutdown was asked for: nothing new */

	/* Configuration. */
	const char *tapdisk;	/* program */
	char **tapdisk_args;	/* NULL-ended: what each is started with, after
				 * its number */
	const char *const *image_dirs;	/* NULL-ended: policy.h P4 */
	bool no_restart;	/* a tapdisk that dies is not replaced */
};
extern struct ctl ctl;

#endif
