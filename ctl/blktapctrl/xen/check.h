/* check.h - what stands in the two halves of a device's nodes, taken apart.
 *
 * Pure.  The backend's half is dom0's and is read leniently; the frontend's is a
 * guest's, and every value of it is looked at: what comes out of here lies in its
 * range, or there is a reason for the log, in which nothing moves a cursor.
 */
#ifndef CTL_XEN_CHECK_H
#define CTL_XEN_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tap_proto.h"

/* XenbusState of xen/io/xenbus.h.  XB_NONE: the node is not there, or says
 * nonsense. */
enum xenbus_state {
	XB_NONE, XB_INITIALISING, XB_INIT_WAIT, XB_INITIALISED, XB_CONNECTED,
	XB_CLOSING, XB_CLOSED, XB_RECONFIGURING, XB_RECONFIGURED
};

/* The value of a key, good until the next call; NULL: it is not there. */
struct xen_reader {
	const char *(*get)(const struct xen_reader *r, const char *key);
};

#define XEN_PATH_MAX 256	/* a frontend's path */
#define XEN_WHY_MAX 192

/* The backend's half. */
struct xen_back {
	bool exists;		/* it names a frontend */
	enum xenbus_state state;
	bool online;
	bool detach;		/* xen-detach: its nodes go when it is closed */
	bool readonly;		/* mode has no `w' */
	bool cdrom;
	bool ours;		/* its script is one of ours, or block-tap */
	bool scripted;		/* a script makes it */
	bool hotplug;		/* and has said that it is connected */
	bool answered;		/* or anything at all */
	int minor;		/* by the script; -1 */
	int pid;		/* likewise */
	int own;		/* the minor that we opened for it; -1 */
	int kthread;		/* the tapdisk that served it last; -1 */
	uint64_t sectors;	/* as the frontend was told */
	char frontend[XEN_PATH_MAX];
	char params[TAP_TEXT_MAX + 1];
};
void xen_check_back(const struct xen_reader *r, struct xen_back *b);

/* The frontend's. */
enum xenbus_state xen_check_state(const char *value);
struct xen_front {
	enum xenbus_state state;
	int err;		/* of its rings: 0, -EINVAL, or -EAGAIN: it is not
				 * in a state to have any */
	bool persistent;
	struct tap_xen_connect c;	/* queues, order, abi, evtchn, ref */
	char why[XEN_WHY_MAX];
};
void xen_check_front(const struct xen_reader *r, struct xen_front *f);

/* What a tapdisk is to open: params as it stands ("aio:/srv/a"), but for what
 * toolstacks put before it ("tap:qcow2:/srv/a", "aio:qcow2:/srv/a", "/dev/sdb").
 * False: it names nothing.  spec has TAP_TEXT_MAX + 1 bytes. */
bool xen_spec(const char *params, char *spec);
/* Does it say that it is a drive's medium ("tap:cdrom:/srv/a.iso")? */
bool xen_spec_is_cdrom(const char *params);

#endif
