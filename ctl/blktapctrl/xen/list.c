/* list.c - tap-ctl xen-list: what is known of guests' disks. */
#include <errno.h>
#include <string.h>

#include "client.h"
#include "vdisk.h"
#include "xen/dev.h"
#include "xen/xen.h"

void xen_list(struct ask *a)
{
	union {
		struct tap_xen_dev x;
		char room[TAP_MSG_MAX - sizeof(struct tap_hdr)];
	} body;

	if (!store_is_up()) {
		ask_fail(a, -ENOTCONN, "cannot list guests' disks: xenstore is not "
			 "reached");
		return;
	}
	list_for_each(e, &xen_devs) {
		const struct xen_dev *d = container_of(e, struct xen_dev, link);
		const struct vdisk *vd = disk_of(d);
		size_t len = strlen(d->back.params);

		if (d->state == DEV_GONE || !d->back.exists)
			continue;
		body.x = (struct tap_xen_dev){
			.vbd = { d->domid, d->devid },
			.minor = d->minor, .pid = vd && vd->state != VD_DEAD ? vd->pid : -1,
			.back = (uint8_t)d->back.state,
			.front = (uint8_t)d->front.state,
			.flags = (uint16_t)((d->back.readonly ? TAP_XEN_DEV_READONLY : 0) |
					    (d->mapped ? TAP_XEN_DEV_SERVED : 0) |
					    (d->broken ? TAP_XEN_DEV_BROKEN : 0)),
		};
		strcpy(body.x.kind, xen_kind_text(d->kind));
		memcpy(body.x.params, d->back.params, len);
		ask_reply(a, TAP_MORE, 0, &body, sizeof(body.x) + len);
	}
	ask_reply(a, 0, 0, NULL, 0);
}
