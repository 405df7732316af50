/* launch.h - a tapdisk is started, and gets what it needs to be a disk. */
#ifndef CTL_LAUNCH_H
#define CTL_LAUNCH_H

struct vdisk;

/* Each: 0, or -errno and *what could not be done, a constant. */

/* Make pipes and socket for vd->number, start a tapdisk there and say hello. */
int launch_start(struct vdisk *vd, const char **what);
/* Pass it what belongs to vd->minor: stores and listening sockets, made anew, or
 * again those that the tapdisk before it had. */
int launch_equip(struct vdisk *vd, bool anew, const char **what);

#endif
