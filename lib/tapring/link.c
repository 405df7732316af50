/* link.c - libtapring: the connection to a server that may die, and finding its
 * successor; and what the server says of the disk.
 *
 * L1  The link is in one state; it is moved under the lock alone.  Whoever calls
 *     the library while there is no server drives the search on, and none waits
 *     for it but tapring_wait().
 * L2  Descriptors that callers know or sleep on keep their numbers: new sockets
 *     are put in the place of old ones by dup3(), and what callers poll are epoll
 *     sets, from which a dead socket is taken and in which a timer wakes them for
 *     the next try.
 * L3  An end of file is of one life of the link.  Of an earlier one it is no news:
 *     another queue's thread has found the successor already.
 * L4  It ends for good if the server said so (TAPRING_CLOSED), if it gave no
 *     token, if its successor does not know us, or when the time is over.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include "tapring_priv.h"

#define NS_PER_MS UINT64_C(1000000)

static void set_link(struct tapring *r, enum link l)
{
	__atomic_store_n(&r->link, l, __ATOMIC_RELEASE);
}

static int watch(int set, int fd)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLRDHUP };

	return epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) ? -errno : 0;
}

static void unwatch(int set, int fd)
{
	(void)epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL);
}

/* at: of CLOCK_MONOTONIC; 0: never. */
static void wake_at(struct tapring *r, uint64_t at)
{
	struct itimerspec t = { .it_value = {
		.tv_sec = (time_t)(at / 1000000000u),
		.tv_nsec = (long)(at % 1000000000u) } };

	(void)timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

int link_init(struct tapring *r)
{
	int err = 0;

	pthread_mutex_init(&r->lock, NULL);
	r->events_fd = epoll_create1(EPOLL_CLOEXEC);
	r->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	r->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->events_fd < 0 || r->timer < 0 || r->news < 0)
		return -errno;
	err = watch(r->events_fd, r->sock);
	if (!err)
		err = watch(r->events_fd, r->timer);
	if (!err)
		err = watch(r->events_fd, r->news);
	for (unsigned n = 0; !err && n < r->info.queues; n++) {
		struct tapring_queue *q = &r->queue[n];

		q->poll_fd = epoll_create1(EPOLL_CLOEXEC);
		err = q->poll_fd < 0 ? -errno : watch(q->poll_fd, q->fd);
		if (!err)
			err = watch(q->poll_fd, r->timer);
	}
	return err;
}

void link_free(struct tapring *r)
{
	const int fd[] = { r->next_sock, r->news, r->timer, r->events_fd };

	for (unsigned i = 0; i < sizeof(fd) / sizeof(fd[0]); i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

static void ended(struct tapring *r, int err)
{
	r->error = err;
	if (r->next_sock >= 0)
		close(r->next_sock);
	r->next_sock = -1;
	wake_at(r, 1);		/* and nobody reads it: awake for ever */
	set_link(r, LINK_ENDED);
}

/* The size, as it was told; whoever waits for events is to hear of it. */
static void new_size(struct tapring *r, uint64_t sectors)
{
	if (sectors == r->sectors)
		return;
	__atomic_store_n(&r->sectors, sectors, __ATOMIC_RELAXED);
	r->changed = true;
	(void)!write(r->news, &(uint64_t){ 1 }, sizeof(uint64_t));
}

/* What the server has said.  0: it is there; -EPIPE: end of file; or it has ended
 * by the way. */
static int listen_to(struct tapring *r)
{
	for (;;) {
		ssize_t n = recv(r->sock, (char *)&r->in.status + r->have,
				 sizeof(r->in.status) - r->have, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return -EPIPE;
		r->have += (size_t)n;
		if (r->have < sizeof(r->in.status))
			continue;
		r->have = 0;
		if (r->in.status.magic != TAPRING_MAGIC) {
			ended(r, -EPROTO);
			return 0;
		}
		if (r->in.status.event == TAPRING_CLOSED) {		/* L4 */
			ended(r, -EPIPE);
			return 0;
		}
		if (r->in.status.event == TAPRING_RESIZED)
			new_size(r, r->in.status.sectors);
	}
}

/* Look for a server, from now on. */
static void lose(struct tapring *r)
{
	static const struct tapring_token none;

	if (!r->limit_ns || !memcmp(&r->token, &none, sizeof(none))) {
		ended(r, -EPIPE);
		return;
	}
	for (unsigned n = 0; n < r->info.queues; n++)
		unwatch(r->queue[n].poll_fd, r->queue[n].fd);
	unwatch(r->events_fd, r->sock);
	r->since = r->next_try = now_ns();
	wake_at(r, r->next_try);
	set_link(r, LINK_DIAL);
}

void link_lost(struct tapring *r, uint32_t life)
{
	pthread_mutex_lock(&r->lock);
	if (r->link == LINK_UP && r->life == life) {			/* L3 */
		listen_to(r);	/* it may have said goodbye */
		if (r->link == LINK_UP)
			lose(r);
	}
	pthread_mutex_unlock(&r->lock);
}

/* Finding a successor. */

/* Look again soon, and less often after a while. */
static void later(struct tapring *r, uint64_t now)
{
	r->next_try = now + (now - r->since < 1000 * NS_PER_MS ? 2 : 20) * NS_PER_MS;
	wake_at(r, r->next_try);
}

static void hang_up(struct tapring *r, uint64_t now)
{
	close(r->next_sock);
	r->next_sock = -1;
	set_link(r, LINK_DIAL);
	later(r, now);
}

static void dial(struct tapring *r, uint64_t now)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strncpy(sa.sun_path, r->path, sizeof(sa.sun_path) - 1);
	later(r, now);
	r->next_sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
			      0);
	if (r->next_sock < 0)
		return;
	r->have = 0;
	set_link(r, LINK_GREETING);
	if (connect(r->next_sock, (struct sockaddr *)&sa, sizeof(sa)))
		hang_up(r, now);
}

static void take_greeting(struct tapring *r, uint64_t now)
{
	const struct tapring_greeting *g = &r->in.greeting;
	ssize_t n = recv(r->next_sock, (char *)&r->in.greeting + r->have,
			 sizeof(*g) - r->have, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		later(r, now);
		return;
	}
	if (n <= 0) {
		hang_up(r, now);
		return;
	}
	r->have += (size_t)n;
	if (r->have < sizeof(*g)) {
		later(r, now);
		return;
	}
	if (g->magic != TAPRING_MAGIC || g->version != TAPRING_VERSION) {
		ended(r, -EPIPE);
		return;
	}
	set_link(r, LINK_WELCOME);
	if (hello_send(r, r->next_sock))
		hang_up(r, now);
	else
		later(r, now);
}

/* Here they are.  Old sockets are out of the sets (lose()). */
static void up(struct tapring *r, const struct tapring_status *s, const int *bell)
{
	int err = 0;

	for (unsigned n = 0; n < r->info.queues; n++) {			/* L2 */
		struct tapring_queue *q = &r->queue[n];

		if (dup3(bell[n], q->fd, O_CLOEXEC) < 0 ||
		    watch(q->poll_fd, q->fd))
			err = -EPIPE;
		close(bell[n]);
	}
	if (dup3(r->next_sock, r->sock, O_CLOEXEC) < 0 ||
	    watch(r->events_fd, r->sock))
		err = -EPIPE;
	close(r->next_sock);
	r->next_sock = -1;
	r->have = 0;
	r->token = s->token;
	if (err) {
		ended(r, err);
		return;
	}
	new_size(r, s->sectors);
	wake_at(r, 0);
	__atomic_store_n(&r->life, r->life + 1, __ATOMIC_RELEASE);
	set_link(r, LINK_UP);
	/* Who submitted meanwhile has rung no bell, and the server may have gone to
	 * sleep already.  Pairs with the barrier in tapring_submit(): it has seen
	 * the link up, or the server sees its requests now. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	for (unsigned n = 0; n < r->info.queues; n++)
		(void)!send(r->queue[n].fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void take_welcome(struct tapring *r, uint64_t now)
{
	int bell[TAPRING_MAX_QUEUES];
	struct tapring_status s;
	int err = welcome_recv(r, r->next_sock, MSG_DONTWAIT, &s, bell);

	switch (err) {
	case 0:
		up(r, &s, bell);
		break;
	case -EAGAIN:
		later(r, now);
		break;
	case -ESTALE: case -EINVAL: case -EBADMSG: case -E2BIG: case -EPROTO:
		ended(r, -EPIPE);					/* L4 */
		break;
	default:	/* it has died too, or its disk is not open yet */
		hang_up(r, now);
	}
}

void link_step(struct tapring *r)
{
	uint64_t now;

	if (pthread_mutex_trylock(&r->lock))
		return;		/* somebody does it already */
	now = now_ns();
	if (r->link != LINK_UP && r->link != LINK_ENDED &&
	    now - r->since > r->limit_ns)
		ended(r, -EPIPE);					/* L4 */
	if (r->link == LINK_DIAL && now >= r->next_try)
		dial(r, now);
	if (r->link == LINK_GREETING)
		take_greeting(r, now);
	if (r->link == LINK_WELCOME)
		take_welcome(r, now);
	pthread_mutex_unlock(&r->lock);
}

int link_wait(struct tapring_queue *q, uint64_t end)
{
	struct tapring *r = q->r;
	/* The timer, and the doorbell that a successor rings first of all. */
	struct pollfd p[2] = { { .fd = q->poll_fd, .events = POLLIN } };
	enum link l;
	uint64_t now = now_ns(), left = 1000 * NS_PER_MS;
	struct timespec ts;

	if (now >= end)
		return 0;
	link_step(r);
	pthread_mutex_lock(&r->lock);
	l = r->link;
	p[1] = (struct pollfd){ .fd = r->next_sock, .events = POLLIN };
	pthread_mutex_unlock(&r->lock);
	if (l == LINK_UP || l == LINK_ENDED)
		return 1;
	if (end - now < left)
		left = end - now;
	ts = (struct timespec){ .tv_sec = (time_t)(left / 1000000000u),
				.tv_nsec = (long)(left % 1000000000u) };
	return ppoll(p, 2, &ts, NULL) < 0 && errno == EINTR ? -EINTR : 1;
}

/* What is said of the disk. */

int tapring_events_fd(const struct tapring *r)
{
	return r->events_fd;
}

int tapring_events(struct tapring *r)
{
	uint64_t n;
	bool changed;
	int err;

	pthread_mutex_lock(&r->lock);
	if (r->link == LINK_UP && listen_to(r))
		lose(r);
	changed = r->changed;
	r->changed = false;
	(void)!read(r->news, &n, sizeof(n));
	pthread_mutex_unlock(&r->lock);
	if (link_state(r) != LINK_UP)
		link_step(r);
	err = link_state(r) == LINK_ENDED ? r->error : 0;
	return changed ? 1 : err;
}
