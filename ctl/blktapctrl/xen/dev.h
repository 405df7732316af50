/* dev.h - a guest's disk: one node of xenstore's backend half, its frontend, and
 * the disk that it stands on.  For this folder alone.
 *
 *   store.c    the thread with the connection     check.c  values taken apart
 *   watch.c    which devices there are            nodes.c  reading and writing them
 *   dev.c      the states of one                  disk.c   the disk below it
 *   rings.c    what its tapdisk is asked          stat.c   xentop's numbers
 *   attach.c   tap-ctl xen-attach, -detach       list.c     tap-ctl xen-list
 *   script.c   what a node says to its script
 *
 * Events say only that something has changed: they coalesce, repeat, and come in
 * any order.  So a device that an event names is read again, whole, and what is
 * to be done follows from what it is then (dev_step).
 *
 * I1  One thing at a time: while a job of the store (busy) or a question to the
 *     tapdisk (calling) is under way nothing else is begun.
 * I2  state is what we have written; what stands in `back` and `front` is what
 *     was read last.
 * I3  Nothing is ever written to a node that is not there any more: writes are
 *     transactions that look first.  A removed node stays removed.
 * I4  What a tapdisk was asked to connect, and did (`rings', if known), is what
 *     its successor is asked: what stands in xenstore by then does not matter, nor
 *     whether there is one.  A daemon that has taken a device over knows nothing
 *     of it, and reads.
 */
#ifndef CTL_XEN_DEV_H
#define CTL_XEN_DEV_H

#include "base/list.h"
#include "base/log.h"
#include "chan.h"
#include "loop/loop.h"
#include "names.h"
#include "xen/check.h"
#include "xen/store.h"

struct op;
struct vdisk;

enum xen_kind { XK_TAP, XK_VBD3, XK_VBD, XK_KINDS };

enum dev_state {
	DEV_NEW,	/* nothing of ours is written */
	DEV_WAIT,	/* 2: waits for its disk and for the frontend */
	DEV_CONNECTING,	/* its tapdisk maps the rings */
	DEV_CONNECTED,	/* 4 */
	DEV_LEAVING,	/* 5: the rings are let go */
	DEV_CLOSED,	/* 6 */
	DEV_GONE,	/* there is no node: to be freed */
	DEV_STATES
};

struct xen_dev {
	struct list link;
	enum xen_kind kind;
	uint32_t domid, devid;
	enum dev_state state;

	struct xen_back back;
	struct xen_front front;
	bool domain;		/* the guest's directory is there */
	bool seen;		/* both were read at least once */
	bool dirty;		/* something has changed since */
	bool busy, calling;	/* I1 */
	bool watched;		/* its frontend's state: of */
	char watching[XEN_PATH_MAX];
	bool met;		/* the frontend was there */
	bool anew;		/* another device has its node by now */
	bool ours;		/* its script was block-tap or block-blktap */
	struct loop_timer again;
	unsigned changed_not;	/* writes in a row that have failed; at most a few */
	struct loop_work poke;	/* its disk has changed */

	/* The disk below. */
	int minor;		/* -1: none yet */
	bool own;		/* opened by us for this device alone */
	bool told;		/* and written into its node */
	bool failed;		/* it cannot be opened: until params are written */
	bool renamed;		/* params were written, perhaps the same: try them again */
	char tried[TAP_TEXT_MAX + 1];	/* the params that were opened last */
	uint64_t open_until;	/* they are tried again, if that may help; 0: not tried */
	uint64_t open_next;	/* not before */
	struct op *op;		/* opening or destroying it, or changing its medium */
	char why[XEN_WHY_MAX];	/* it failed, or had before: the reason; or "" */
	bool failed_medium;	/* `medium' cannot be opened: likewise */
	char medium[TAP_TEXT_MAX + 1];

	/* The rings. */
	struct call call;
	struct loop_timer late;	/* of the call; or, lost, until the next */
	bool mapped;		/* its tapdisk serves them */
	bool lost;		/* the tapdisk that did is no more */
	unsigned retries;	/* lost, and not taken up: so many times in a row */
	bool broken;		/* stopped by the tapdisk */
	bool known;		/* I4 */
	struct tap_xen_connect rings;	/* known: as connected; else as asked */
	uint64_t sectors;	/* as the frontend was told */
	bool stat;		/* xentop's file is there, with that pid */
	pid_t stat_pid;
	/* A guest can cause all of these; none of them hides another. */
	struct log_limit limit, moves, stops;

	struct list waiters;	/* attach.c: who waits for it to be gone */
};

/* Closed, its nodes are ours to remove: what no script made no toolstack takes away with
 * its domain. */
static inline bool dev_removable(const struct xen_dev *d)
{
	return !d->back.scripted && (d->back.detach || !d->domain);
}

extern struct list xen_devs;
extern bool xen_vbd_too;

/* dev.c */
struct xen_dev *dev_find(enum xen_kind kind, uint32_t domid, uint32_t devid);
/* Can the device of that node ("tap/3/51712") be known to us?  *d: it, or NULL; d may be
 * NULL. */
bool dev_of_node(const char *node, struct xen_dev **d);
struct xen_dev *dev_new(enum xen_kind kind, uint32_t domid, uint32_t devid);
void dev_touch(struct xen_dev *d);	/* something has changed: look */
void dev_step(struct xen_dev *d);	/* do what is to be done */
void dev_enter(struct xen_dev *d, enum dev_state next);
/* "vbd xvda of domain 3"; good until the second call from now. */
const char *dev_name(const struct xen_dev *d);
const char *xen_kind_text(enum xen_kind k);
/* Nobody will move it any more: closed with that reason, in node and log. */
void dev_refuse(struct xen_dev *d, const char *why);

/* watch.c */
bool watch_scanned(void);	/* is every device that has a node known? */

/* nodes.c */
#define DEV_PATH_MAX 64		/* of "backend/tap/3/51712" */
/* Its node: "tap/3/51712".  buf. */
const char *dev_node(const struct xen_dev *d, char buf[NAMES_NODE_MAX]);
void nodes_read(struct xen_dev *d);
/* A write: keys are collected, then sent; when it has succeeded the device is in
 * `next`.  A state of XB_NONE stays. */
struct nodes_write;
struct nodes_write *nodes_begin(struct xen_dev *d);
void nodes_add(struct nodes_write *w, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* ... and `told' is that: not before, for what could not be written is told later. */
void nodes_tells(struct nodes_write *w, bool told);
void nodes_send(struct nodes_write *w, enum xenbus_state state,
		enum dev_state next);
/* Nothing of ours is below it any more. */
void nodes_forget(struct xen_dev *d);
/* Take both nodes away. */
void nodes_remove(struct xen_dev *d);
void nodes_watch(struct xen_dev *d);
void nodes_unwatch(struct xen_dev *d);

/* disk.c */
/* The disk below, if it is open and may be used; else it is seen to. */
struct vdisk *disk_ready(struct xen_dev *d);
/* That disk, in whatever state. */
struct vdisk *disk_of(const struct xen_dev *d);
bool disk_has_image(const struct vdisk *vd);
/* Is what blktap-minor names ours? */
bool disk_is_own(const struct xen_dev *d);
/* Is there a disk of the node's minor, and is its tapdisk the node's?  A minor may
 * have become another disk's. */
bool disk_is_named(const struct xen_dev *d);
/* Nobody needs it any more.  True: it is gone, or was none of ours. */
bool disk_drop(struct xen_dev *d);
/* params have changed: cdroms alone. */
bool disk_change_medium(struct xen_dev *d);
void disk_orphan(int minor);	/* look soon whether it is one */
void disk_orphans(void);	/* at all that a daemon before us may have left */

/* rings.c */
void rings_connect(struct xen_dev *d, bool again);
/* Lost, and not taken up: is it too early to try again? */
bool rings_rest(const struct xen_dev *d);
void rings_disconnect(struct xen_dev *d);
void rings_cut(struct vdisk *vd);	/* end its tapdisk, which cannot be asked */
/* Which process it is that has its disk, and serves its rings. */
void rings_names(const struct xen_dev *d, const struct vdisk *vd,
		 struct nodes_write *w);
/* Keys of a connected device: features, geometry. */
void rings_publish(struct xen_dev *d, const struct vdisk *vd,
		   struct nodes_write *w);
void rings_geometry(struct xen_dev *d, const struct vdisk *vd,
		    struct nodes_write *w);
#define RINGS_INDIRECT 256u

/* stat.c */
void stat_begin(struct xen_dev *d, struct vdisk *vd);
void stat_end(struct xen_dev *d);
void stat_sweep(void);	/* what the dead have left */

/* attach.c */
void attach_gone(struct xen_dev *d);	/* tell who waits */
bool attach_writes(int minor);		/* are nodes being made for that disk? */

#endif
