/* shm.c - rings over plain shared memory: the listening socket of a disk.
 * What a client says and does is conn.c's.
 */
#include <errno.h>
#include <stdlib.h>

#include "front.h"
#include "loop/accept.h"
#include "loop/loop.h"
#include "ring/conn.h"

struct ring_server {
	struct loop *loop;
	struct disk *disk;
	unsigned minor;
	struct acceptor door;
	struct ring_conn_owner conns;
};

static void let_in(struct acceptor *a, int fd)
{
	struct ring_server *s = container_of(a, struct ring_server, door);

	ring_conn_new(s->loop, s->disk, &s->conns, s->minor, fd);
}

struct ring_server *ring_server_new(struct loop *l, struct disk *d,
				    int listen_fd, unsigned minor)
{
	struct ring_server *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return NULL;
	s->loop = l;
	s->disk = d;
	s->minor = minor;
	s->door.whom = "a ring client";
	s->door.fn = let_in;
	list_init(&s->conns.conns);
	err = acceptor_start(&s->door, l, listen_fd);
	if (err) {
		free(s);
		errno = -err;
		return NULL;
	}
	return s;
}

void ring_server_journal(struct ring_server *s, struct journal *j)
{
	s->conns.journal = j;
	s->conns.reserved_until = loop_now(s->loop) + RING_RESERVE_NS;
}

void ring_server_free(struct ring_server *s)
{
	ring_conns_cut(&s->conns);
	acceptor_stop(&s->door);
	free(s);
}
