/* none.c - in place of the rest of this folder where libxenstore is not. */
#include <errno.h>

#include "client.h"
#include "keys.h"
#include "xen/xen.h"

const bool xen_built_in;

int xen_start(enum xen_use use, bool vbd)
{
	(void)vbd;
	return use == XEN_ON ? -EOPNOTSUPP : 0;
}

void xen_disk_changed(const struct vdisk *vd)
{
	(void)vd;
}

void xen_tapdisk_ended(int pid)
{
	(void)pid;
}

void xen_disk_opened(int minor)
{
	(void)minor;
}

void xen_disk_gone(const struct vdisk *vd)
{
	(void)vd;
}

void xen_revived(struct vdisk *vd)
{
	(void)vd;
}

bool xen_broken(struct vdisk *vd, uint32_t domid, uint32_t devid, const char *why)
{
	(void)vd;
	(void)domid;
	(void)devid;
	(void)why;
	return false;
}

void xen_muted(struct vdisk *vd)
{
	(void)vd;
}

bool xen_to_tell(void)
{
	return false;
}

static void without(struct ask *a)
{
	ask_fail(a, -EOPNOTSUPP, "cannot ask xenstore: built without Xen");
}

void xen_attach(struct ask *a, const struct tap_verb *v, const char *text,
		struct key_fds *keys)
{
	(void)v;
	(void)text;
	(void)keys;
	without(a);
}

void xen_detach(struct ask *a, const struct tap_verb *v, const char *text)
{
	(void)v;
	(void)text;
	without(a);
}

void xen_list(struct ask *a)
{
	without(a);
}

void xen_node_ask(const char *node, const char *spec, uint32_t flags,
		  xen_node_then *then, void *arg)
{
	(void)node;
	then(arg, spec, flags, "");
}
