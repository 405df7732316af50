/* broker.h - opens the files of disks for their tapdisks, which may not.
 *
 * A tapdisk asks while an open or unpause of its disk is under way, and for what
 * policy.h allows; the file is opened and locked in a worker, a duplicate stays
 * here so that its lock outlives a crash, and the descriptor goes to the
 * tapdisk.
 */
#ifndef CTL_BROKER_H
#define CTL_BROKER_H

#include <stdbool.h>
#include <stdint.h>

struct vdisk;

/* True: it is being opened; false: refused at once. */
bool broker_ask(struct vdisk *vd, uint32_t id, uint32_t flags, const char *path);
/* vd was adopted, open or paused: get duplicates of its files and listening sockets
 * from its tapdisk, in place of those that died with the other daemon.  Best
 * effort. */
void broker_adopt(struct vdisk *vd);
/* Its tapdisk has died, the duplicates are for the next one: what that asks for is
 * passed from them, under the locks that they hold. */
void broker_return(struct vdisk *vd);
/* They are there, still to be passed: of files that it writes to. */
bool broker_keeps(const struct vdisk *vd);
void broker_close(struct vdisk *vd);	/* the duplicates: locks go */
void broker_abandon(struct vdisk *vd);	/* what is being opened is for nobody */

#endif
