/* accept.c - see accept.h. */
#include "loop/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define BATCH 8			/* of one pass */
#define REST_NS NS_PER_S

static bool is_open(const struct acceptor *a)
{
	return !a->paused && !loop_timer_is_set(&a->rest);
}

static void watch(struct acceptor *a)
{
	loop_fd_mod(a->loop, &a->listen, is_open(a) ? EPOLLIN : 0);
}

static void rested(struct loop_timer *t)
{
	watch(container_of(t, struct acceptor, rest));
}

static void rest(struct acceptor *a, int err)
{
	if (log_allowed(&a->limit))
		log_warn("cannot accept %s, will try again: %s", a->whom,
			 strerror(err));
	loop_timer_set(a->loop, &a->rest, REST_NS);
	watch(a);
}

static void somebody_came(struct loop_fd *f, uint32_t events)
{
	struct acceptor *a = container_of(f, struct acceptor, listen);

	(void)events;
	for (int i = 0; i < BATCH && is_open(a); i++) {
		int fd = accept4(f->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0)
			a->fn(a, fd);
		else if (errno == EAGAIN)
			return;
		else if (errno != EINTR && errno != ECONNABORTED)
			rest(a, errno);
	}
}

int acceptor_start(struct acceptor *a, struct loop *l, int listen_fd)
{
	int fl = fcntl(listen_fd, F_GETFL), err;

	a->listen.fd = -1;
	/* One who gave up between poll and accept must not stop us. */
	if (fl < 0 || fcntl(listen_fd, F_SETFL, fl | O_NONBLOCK))
		return -errno;
	a->loop = l;
	a->listen = (struct loop_fd){ .fd = listen_fd, .fn = somebody_came };
	loop_timer_init(&a->rest, rested);
	err = loop_fd_add(l, &a->listen, is_open(a) ? EPOLLIN : 0);
	if (err)
		a->listen.fd = -1;
	return err;
}

void acceptor_pause(struct acceptor *a, bool paused)
{
	a->paused = paused;
	if (a->listen.fd >= 0)
		watch(a);
}

void acceptor_stop(struct acceptor *a)
{
	if (a->listen.fd < 0)
		return;
	loop_timer_clear(&a->rest);
	loop_fd_del(a->loop, &a->listen);
	close(a->listen.fd);
	a->listen.fd = -1;
}
