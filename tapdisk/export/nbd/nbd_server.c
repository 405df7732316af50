/* nbd_server.c - the listening socket of a disk's NBD export, and what its
 * clients share: buffers, and one hook that sends all replies of a pass.
 *
 * While the disk is closed a client is greeted with the end of its connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/letgo.h"
#include "base/log.h"
#include "export/nbd/nbd_priv.h"
#include "front.h"

void nbd_export_now(const struct nbd_server *s, struct nbd_export *x)
{
	x->size = disk_size(s->disk);
	x->phys = disk_phys(s->disk);
	x->flags = nbd_export_flags(disk_caps(s->disk), disk_rdonly(s->disk));
	x->minor = s->minor;
}

/* Send what this pass has brought; then those go on that were waiting for it. */
static bool server_push(struct loop_hook *h)
{
	struct nbd_server *s = container_of(h, struct nbd_server, push);
	struct list now = LIST_INIT(now), *e;
	bool more = false;

	while ((e = list_pop(&s->dirty)))
		list_add(&now, e);
	while ((e = list_pop(&now))) {
		struct nbd_client *c = container_of(e, struct nbd_client, push);
		bool waits = c->choked || c->paced;

		nbd_client_send(c);
		c->paced = false;
		if (waits)
			nbd_client_parse(c);
		more |= waits && !c->choked;
		nbd_client_settle(c);
	}
	if (s->bufs.cached && !loop_timer_is_set(&s->tick))
		loop_timer_set(s->loop, &s->tick, NBD_TICK_NS);
	return more;
}

/* A second without any buffer asked for: the server is idle. */
static void server_tick(struct loop_timer *t)
{
	struct nbd_server *s = container_of(t, struct nbd_server, tick);

	if (s->bufs.gets == s->gets_seen) {
		nbd_buf_trim(&s->bufs);
		return;
	}
	s->gets_seen = s->bufs.gets;
	loop_timer_set(s->loop, &s->tick, NBD_TICK_NS);
}

static bool admit(struct nbd_server *s)
{
	static struct log_limit limit;

	switch (disk_state(s->disk)) {
	case DISK_CLOSED:
	case DISK_CLOSING:
		return false;
	case DISK_OPENING:	/* has a size: it is only being unpaused */
		if (!disk_size(s->disk))
			return false;
		break;
	default:
		break;
	}
	if (letgo_busy())
		return false;
	if (s->nclients < NBD_CLIENTS_MAX)
		return true;
	if (log_allowed(&limit))
		log_warn("nbd: a client was turned away: %u are connected",
			 s->nclients);
	return false;
}

static void server_let_in(struct acceptor *a, int fd)
{
	struct nbd_server *s = container_of(a, struct nbd_server, door);
	static struct log_limit limit;
	int err;

	if (!admit(s)) {
		close(fd);
		return;
	}
	err = nbd_client_new(s, fd);
	if (err && log_allowed(&limit))
		log_warn("nbd: no room for a client: %s", strerror(-err));
}

struct nbd_server *nbd_server_new(struct loop *l, struct disk *d, int listen_fd,
				  unsigned minor)
{
	struct nbd_server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return NULL;
	s->loop = l;
	s->disk = d;
	s->minor = minor;
	s->door.whom = "an NBD client";
	s->door.fn = server_let_in;
	list_init(&s->clients);
	list_init(&s->dirty);
	loop_timer_init(&s->tick, server_tick);
	err = acceptor_start(&s->door, l, listen_fd);
	if (err) {
		free(s);
		errno = -err;
		return NULL;
	}
	loop_hook_add(l, LOOP_PUSH, &s->push, server_push);
	return s;
}

static void server_end(struct nbd_server *s)
{
	ASSERT(list_empty(&s->dirty));
	loop_timer_clear(&s->tick);
	loop_hook_del(&s->push);
	nbd_buf_trim(&s->bufs);
	free(s);
}

void nbd_server_left(struct nbd_server *s)
{
	s->nclients--;
	if (s->dying && !s->nclients)
		server_end(s);
}

void nbd_server_free(struct nbd_server *s)
{
	if (!s)
		return;
	acceptor_stop(&s->door);
	s->dying = true;
	s->nclients++;		/* holds s while its clients go */
	list_for_each_safe(e, &s->clients) {
		struct nbd_client *c = container_of(e, struct nbd_client, link);

		nbd_client_drop(c, NULL);
		if (!c->inflight)
			nbd_client_free(c);
	}
	nbd_server_left(s);
}
