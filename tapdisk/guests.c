/* guests.c - see guests.h. */
#include "guests.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "msg.h"
#include "outbox.h"
#include "ring/xen.h"

/* A guest whose rings are let go: the answer is due. */
struct leaving {
	struct guests *g;
	uint32_t id;
	unsigned daemon;
};

static void broken(void *arg, const struct tap_xen_vbd *vbd, const char *why)
{
	struct guests *g = arg;
	struct tap_xen_broken b = { *vbd };
	size_t len = strnlen(why, TAP_TEXT_MAX);
	struct msg_out o;

	memcpy(o.body, &b, sizeof(b));
	memcpy(o.body + sizeof(b), why, len);
	msg_seal(&o, TAP_XEN_BROKEN, 0, 0, 0, (uint32_t)(sizeof(b) + len));
	outbox_send(g->out, &o);
}

int guests_init(struct guests *g, struct loop *l, struct disk *d, struct outbox *out)
{
	*g = (struct guests){ .rings = xen_rings_new(l, d, broken, g), .out = out };
	return g->rings ? 0 : -ENOMEM;
}

void guests_free(struct guests *g)
{
	xen_rings_free(g->rings);
}

void guests_connect(struct guests *g, const struct msg *m, struct journal *j)
{
	struct tap_xen_connect x;
	const char *why = NULL;
	int err;

	memcpy(&x, m->body, sizeof(x));
	err = xen_connect(g->rings, &x, j, &why);
	if (err)
		outbox_fail(g->out, TAP_XEN_CONNECT, m->hdr->id, err, why);
	else
		outbox_reply(g->out, TAP_XEN_CONNECT, m->hdr->id, NULL, 0);
}

static void gone(void *arg, int err)
{
	struct leaving *v = arg;
	struct guests *g = v->g;

	if (v->daemon != g->daemons)
		log_dbg(LOG_CTL, "who asked to disconnect a guest is gone");
	else if (err)
		outbox_fail(g->out, TAP_XEN_DISCONNECT, v->id, err, NULL);
	else
		outbox_reply(g->out, TAP_XEN_DISCONNECT, v->id, NULL, 0);
	free(v);
}

void guests_disconnect(struct guests *g, const struct msg *m)
{
	struct leaving *v = malloc(sizeof(*v));
	struct tap_xen_vbd vbd;
	int err = -ENOMEM;

	memcpy(&vbd, m->body, sizeof(vbd));
	if (v) {
		*v = (struct leaving){ g, m->hdr->id, g->daemons };
		err = xen_disconnect(g->rings, &vbd, gone, v);
	}
	if (err) {
		free(v);
		outbox_fail(g->out, TAP_XEN_DISCONNECT, m->hdr->id, err, NULL);
	}
}

void guests_stats_to(struct guests *g, uint32_t domid, uint32_t devid, int fd)
{
	struct tap_xen_vbd vbd = { domid, devid };

	xen_stats_to(g->rings, &vbd, fd);
}

void guests_forget_daemon(struct guests *g)
{
	g->daemons++;
}
