/* memo.h - RUNDIR/diskN: what a disk is, in case its tapdisk and the daemon die
 * both and nobody is left to ask.
 *
 * Written when the disk opens, pauses and is about to be unpaused, removed when it
 * is closed; never half of it is there.  No keys: those are nowhere but in memory.
 */
#ifndef CTL_MEMO_H
#define CTL_MEMO_H

#include <stdbool.h>

struct vdisk;

/* vd is open, paused or being unpaused (then to what it will be); `replaced`: its
 * tapdisk has died, and the next one is not there yet. */
void memo_write(const struct vdisk *vd, bool replaced);
void memo_remove(int minor);

/* What memo_write() has left of disk n goes into vd: spec, flags, img, former
 * pids, restarts, whether it needs keys.  Its state then (VD_*), or -errno. */
int memo_read(struct vdisk *vd, int n, bool *replaced);

#endif
