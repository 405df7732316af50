/* xen_host.h - Xen's two devices, opened once a process: the table of grants
 * and the event channels.  For ring/xen*.c alone.
 */
#ifndef RING_XEN_HOST_H
#define RING_XEN_HOST_H

#include <xenevtchn.h>
#include <xengnttab.h>

struct xen_host {
	xengnttab_handle *gnt;		/* NULL: there is no Xen here */
	xenevtchn_handle *evt;
};
extern struct xen_host xen_host;

#endif
