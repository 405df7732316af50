/* snap.h - snapshots inside a qcow2 image: made, gone back to, deleted, while no
 * disk uses the image. */
#ifndef QCOW2_SNAP_H
#define QCOW2_SNAP_H

#include "formats.h"

/* name: of the snapshot, or (not for a new one) its id.  0, or -errno after
 * td_err(); a crash in between leaves the old state or the new one, and at worst
 * lost space and flags that tap-img check -r leaks puts right. */
int qcow2_snap(struct td_node *store, enum td_snap_op op, const char *name);

#endif
