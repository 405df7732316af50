/* xen.h - guests of Xen, as the rest of the daemon sees them.
 *
 * All that is asked of this part; a build without libxenstore has xen_none.c in
 * its place.  From the loop alone.
 */
#ifndef CTL_XEN_XEN_H
#define CTL_XEN_XEN_H

#include <stdbool.h>
#include <stdint.h>

struct client;
struct msg;
struct tap_verb;
struct vdisk;
struct ask;
struct key_fds;

enum xen_use { XEN_AUTO, XEN_ON, XEN_OFF };

extern const bool xen_built_in;

/* Begin, if the host looks as if there were a xenstored (XEN_AUTO) or always
 * (XEN_ON); vbd: serve backend/vbd too, where a script of ours makes it.  0 or
 * -errno. */
int xen_start(enum xen_use use, bool vbd);

/* A disk was opened, closed, resized, ...: who stands on it looks again. */
void xen_disk_changed(const struct vdisk *vd);
/* Its marker names a guest's device: it is closed if that is not, or does not come, to
 * stand on it. */
void xen_disk_opened(int minor);
/* It is no minor's disk any more: the next of that minor is another. */
void xen_disk_gone(const struct vdisk *vd);
/* A tapdisk has ended; -1: an unknown one. */
void xen_tapdisk_ended(int pid);
/* Its tapdisk has been replaced, and serves no ring yet. */
void xen_revived(struct vdisk *vd);
/* Its tapdisk has stopped a guest's rings by itself.  False: it had none of that. */
bool xen_broken(struct vdisk *vd, uint32_t domid, uint32_t devid, const char *why);
/* Its tapdisk is not listened to any more. */
void xen_muted(struct vdisk *vd);

/* The daemon is leaving: is there a guest yet to be told that its disk is closed? */
bool xen_to_tell(void);

/* What tap-ctl asks; each is answered, now or later, always.  a is copied, keys
 * are taken. */
void xen_attach(struct ask *a, const struct tap_verb *v, const char *text,
		struct key_fds *keys);
void xen_detach(struct ask *a, const struct tap_verb *v, const char *text);
void xen_list(struct ask *a);

/* tap-ctl open or create on behalf of a hotplug script: the node (XENBUS_PATH) may say
 * more than the script does.  then() runs with what is to be opened, once, perhaps at
 * once; spec and flags as they were if nothing can be asked.  of: the device that it is
 * opened for, as markers name it ("vbd3/3/51712"), if its script is one of ours; or "". */
typedef void xen_node_then(void *arg, const char *spec, uint32_t flags, const char *of);
void xen_node_ask(const char *node, const char *spec, uint32_t flags,
		  xen_node_then *then, void *arg);

#endif
