/* launch.h - a tapdisk is started, and gets what it needs to be a disk. */
#ifndef CTL_LAUNCH_H
#define CTL_LAUNCH_H

#include <stdbool.h>

struct vdisk;

/* Each: 0, or -errno and *what could not be done, a constant. */

/* Make pipes and socket for vd->number, start a tapdisk there and say hello. */
int launch_start(struct vdisk *vd, const char **what);
/* Pass it what belongs to vd->minor: listening sockets, and stores if another may
 * take its place. */
int launch_equip(struct vdisk *vd, bool lasting, const char **what);
/* The same, again: what the tapdisk before it had. */
int launch_equip_again(struct vdisk *vd, const char **what);

#endif
