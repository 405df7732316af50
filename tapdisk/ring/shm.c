/* shm.c - rings over plain shared memory: the listening socket of a disk.
 * What a client says and does is conn.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "front.h"
#include "loop/loop.h"
#include "ring/conn.h"

#define ACCEPT_BATCH 8		/* clients in one go: others want to be served */
#define RETRY_NS 1000000000ull	/* after we ran out of descriptors */

struct ring_server {
	struct loop *loop;
	struct disk *disk;
	unsigned minor;
	struct loop_fd listen;
	bool listening;
	struct loop_timer retry;
	struct ring_conn_owner conns;
};

/* Out of descriptors or memory: the client that waits would wake us for ever. */
static void rest(struct ring_server *s, int err)
{
	log_warn("cannot accept a ring client, will try again: %s", strerror(err));
	loop_fd_del(s->loop, &s->listen);
	s->listening = false;
	loop_timer_set(s->loop, &s->retry, RETRY_NS);
}

static void listen_ready(struct loop_fd *f, uint32_t events)
{
	struct ring_server *s = container_of(f, struct ring_server, listen);

	(void)events;
	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			ring_conn_new(s->loop, s->disk, &s->conns, s->minor, fd);
			continue;
		}
		if (errno == ECONNABORTED || errno == EINTR)
			continue;
		if (errno != EAGAIN)
			rest(s, errno);
		return;
	}
}

static void listen_again(struct loop_timer *t)
{
	struct ring_server *s = container_of(t, struct ring_server, retry);

	s->listening = !loop_fd_add(s->loop, &s->listen, EPOLLIN);
	if (!s->listening)
		loop_timer_set(s->loop, &s->retry, RETRY_NS);
}

struct ring_server *ring_server_new(struct loop *l, struct disk *d,
				    int listen_fd, unsigned minor)
{
	struct ring_server *s = calloc(1, sizeof(*s));
	int err, fl;

	if (!s)
		return NULL;
	s->loop = l;
	s->disk = d;
	s->minor = minor;
	s->listen.fd = listen_fd;
	s->listen.fn = listen_ready;
	list_init(&s->conns.conns);
	loop_timer_init(&s->retry, listen_again);
	/* A client that gave up between poll and accept must not stop us. */
	fl = fcntl(listen_fd, F_GETFL);
	err = fl < 0 || fcntl(listen_fd, F_SETFL, fl | O_NONBLOCK) ? -errno :
	      loop_fd_add(l, &s->listen, EPOLLIN);
	if (err) {
		free(s);
		errno = -err;
		return NULL;
	}
	s->listening = true;
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
	loop_timer_clear(&s->retry);
	if (s->listening)
		loop_fd_del(s->loop, &s->listen);
	close(s->listen.fd);
	free(s);
}
