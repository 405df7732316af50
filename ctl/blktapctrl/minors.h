/* minors.h - which minors are taken, and by which disk.
 *
 * I1  A minor is taken if and only if its marker file is there.
 * I2  A minor's disk has that minor (vdisk->minor).
 */
#ifndef CTL_MINORS_H
#define CTL_MINORS_H

#include <stdbool.h>

struct vdisk;

/* Take `want`, or the lowest free one if it is -1.  The minor; -EEXIST (taken),
 * -EUSERS (all are), -EINVAL or -errno (-ENOSPC: no room for its marker). */
int minor_take(int want, bool creating);
void minor_adopt(int minor);		/* its marker is there already */
void minor_free(int minor);		/* removes the marker; no disk */
bool minor_taken(int minor);		/* any int */
struct vdisk *minor_disk(int minor);	/* any int; NULL: none */
void minor_bind(int minor, struct vdisk *vd);
void minor_unbind(int minor);

#endif
