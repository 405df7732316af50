/* xen_host.c - see xen_host.h.  The libraries are given descriptors of a host
 * that has Xen, before the sandbox closes; what they log is a guest's doing and
 * no news, so it goes to our debug messages.
 */
#include "ring/xen_host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <xentoollog.h>
#include <xen/sys/evtchn.h>
#include <xen/sys/gntdev.h>

#include "base/bytes.h"
#include "base/log.h"
#include "ring/xen.h"
#include "sandbox.h"

const bool xen_built_in = true;

struct xen_host xen_host;

static void __attribute__((format(printf, 5, 0)))
lib_message(struct xentoollog_logger *l, xentoollog_level level, int errnoval,
	    const char *context, const char *format, va_list ap)
{
	char text[128];

	(void)l;
	(void)level;
	if (!(log_areas & LOG_RING))
		return;
	vsnprintf(text, sizeof(text), format, ap);
	log_dbg(LOG_RING, "%s: %s: %s", context ? context : "xen", text,
		errnoval > 0 ? strerror(errnoval) : "");
}

static void lib_forget(struct xentoollog_logger *l)
{
	(void)l;
}

static struct xentoollog_logger logger = {
	.vmessage = lib_message, .destroy = lib_forget,
};

void xen_host_open(void)
{
	if (access("/dev/xen/gntdev", F_OK))
		return;
	xen_host.gnt = xengnttab_open(&logger, 0);
	xen_host.evt = xenevtchn_open(&logger, 0);
	if (!xen_host.gnt || !xen_host.evt ||
	    fcntl(xenevtchn_fd(xen_host.evt), F_SETFL, O_NONBLOCK)) {
		log_warn("cannot serve guests of Xen: %s", strerror(errno));
		xen_host_close();
	}
}

unsigned xen_host_ioctls(struct sandbox_ioctl *v)
{
	static const unsigned long gnt[] = {
		IOCTL_GNTDEV_MAP_GRANT_REF, IOCTL_GNTDEV_UNMAP_GRANT_REF,
		IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR, IOCTL_GNTDEV_GRANT_COPY,
	};
	static const unsigned long evt[] = {
		IOCTL_EVTCHN_BIND_INTERDOMAIN, IOCTL_EVTCHN_UNBIND,
		IOCTL_EVTCHN_NOTIFY,
	};
	unsigned n = 0;

	_Static_assert(ARRAY_SIZE(gnt) + ARRAY_SIZE(evt) <= XEN_IOCTLS, "room");
	if (!xen_host.gnt)
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(gnt); i++)
		v[n++] = (struct sandbox_ioctl){ xengnttab_fd(xen_host.gnt), gnt[i] };
	for (size_t i = 0; i < ARRAY_SIZE(evt); i++)
		v[n++] = (struct sandbox_ioctl){ xenevtchn_fd(xen_host.evt), evt[i] };
	return n;
}

void xen_host_close(void)
{
	if (xen_host.gnt)
		xengnttab_close(xen_host.gnt);
	if (xen_host.evt)
		xenevtchn_close(xen_host.evt);
	xen_host.gnt = NULL;
	xen_host.evt = NULL;
}
