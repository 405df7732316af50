/* xen.h - rings of Xen guests as fronts of the disk: grants and event channels.
 *
 * Who is who (xenstore, states, features) is blktapctrl's business; here come
 * numbers that a guest has chosen, so they are checked again.  Built without
 * Xen's libraries there is the same interface, which refuses (xen_none.c).
 */
#ifndef RING_XEN_H
#define RING_XEN_H

#include <stdbool.h>

#include "tap_proto.h"

struct disk;
struct journal;
struct loop;
struct sandbox_ioctl;
struct xen_rings;

extern const bool xen_built_in;

/* Open Xen's devices, if this host has them.  Before sandbox_enter(). */
void xen_host_open(void);
/* What the sandbox must let through, at most XEN_IOCTLS; their number. */
#define XEN_IOCTLS 8u
unsigned xen_host_ioctls(struct sandbox_ioctl *v);
void xen_host_close(void);

/* Rings that were stopped without anybody's asking, or from within: nothing of
 * theirs is mapped any more. */
typedef void xen_broken_fn(void *arg, const struct tap_xen_vbd *vbd,
			   const char *why);
/* Once, from the loop: 0 or -errno. */
typedef void xen_gone_fn(void *arg, int err);

/* NULL: no memory. */
struct xen_rings *xen_rings_new(struct loop *l, struct disk *d,
				xen_broken_fn *broken, void *arg);
/* Stops them all; those with I/O in flight free themselves when it has ended. */
void xen_rings_free(struct xen_rings *x);

/* j: where to keep the record of its rings, or NULL.  0, or -errno and *why;
 * -ESTALE: to reconnect, and there is no record; -EINVAL, -EBADMSG: or it is not one of
 * these rings.  After any other the record is as it was, for another try. */
int xen_connect(struct xen_rings *x, const struct tap_xen_connect *c,
		struct journal *j, const char **why);
/* 0 and fn follows, or -errno and it does not (-ENOENT). */
int xen_disconnect(struct xen_rings *x, const struct tap_xen_vbd *vbd,
		   xen_gone_fn *fn, void *arg);
/* Counters for xentop go to fd, which is taken over in any case. */
void xen_stats_to(struct xen_rings *x, const struct tap_xen_vbd *vbd, int fd);

#endif
