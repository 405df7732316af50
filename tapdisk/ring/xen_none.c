/* xen_none.c - xen.h where Xen's libraries were not there to build with. */
#include <errno.h>
#include <stddef.h>
#include <unistd.h>

#include "ring/xen.h"

const bool xen_built_in = false;

void xen_host_open(void)
{
}

unsigned xen_host_ioctls(struct sandbox_ioctl *v)
{
	(void)v;
	return 0;
}

void xen_host_close(void)
{
}

/* There is one, and it has nothing in it. */
struct xen_rings {
	char nothing;
};

struct xen_rings *xen_rings_new(struct loop *l, struct disk *d,
				xen_broken_fn *broken, void *arg)
{
	static struct xen_rings none;

	(void)l;
	(void)d;
	(void)broken;
	(void)arg;
	return &none;
}

void xen_rings_free(struct xen_rings *x)
{
	(void)x;
}

int xen_connect(struct xen_rings *x, const struct tap_xen_connect *c,
		struct journal *j, const char **why)
{
	(void)x;
	(void)c;
	(void)j;
	*why = "this tapdisk was built without Xen";
	return -EOPNOTSUPP;
}

int xen_disconnect(struct xen_rings *x, const struct tap_xen_vbd *vbd,
		   xen_gone_fn *fn, void *arg)
{
	(void)x;
	(void)vbd;
	(void)fn;
	(void)arg;
	return -ENOENT;
}

void xen_stats_to(struct xen_rings *x, const struct tap_xen_vbd *vbd, int fd)
{
	(void)x;
	(void)vbd;
	close(fd);
}
