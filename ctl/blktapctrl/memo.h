/* memo.h - RUNDIR/diskN: what a disk is, in case its tapdisk and the daemon die
 * both and nobody is left to ask.
 *
 * Written when the disk is about to be opened, is open, pauses and is about to be
 * unpaused, removed when it is closed; never half of it is there.  No keys: those are
 * nowhere but in memory.  It is also what a tapdisk's word is compared with: one that
 * somebody has taken over might tell the next daemon of any file of the host.
 */
#ifndef CTL_MEMO_H
#define CTL_MEMO_H

#include <stdbool.h>

struct vdisk;

/* vd is open, paused, or being opened or unpaused (then what it will be is there, too);
 * `replaced`: its tapdisk has died, and the next one is not there yet.  Nothing is
 * written of what is known by hearsay. */
void memo_write(const struct vdisk *vd, bool replaced);
void memo_remove(int minor);

/* What memo_write() has left of disk n goes into vd: spec and flags, as it is and as it
 * is to be (new_; the same, if that is not another), img, former pids, restarts,
 * whether it needs keys.  Its state then (VD_*), or -errno. */
int memo_read(struct vdisk *vd, int n, bool *replaced);

#endif
