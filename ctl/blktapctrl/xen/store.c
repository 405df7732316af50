/* store.c - see store.h.
 *
 * The thread sleeps until a job or a watch wakes it.  libxenstore does not tell
 * by its descriptor that the connection has ended, so it also asks for something
 * once a second while nothing happens.
 */
#include "xen/store.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>

#include "base/log.h"
#include "ctl.h"
#include "loop/loop.h"

#define XS_SOCKET "/var/run/xenstored/socket"
#define PING_MS 1000
#define EVENTS_MAX 4096
#define TRANSACTIONS 12		/* tries of one */

struct store {			/* the thread's alone */
	struct xs_handle *h;
	xs_transaction_t t;
	bool broken;
	char *value;
};

enum event_kind { EV_UP, EV_DOWN, EV_WATCH };
struct event {
	struct list link;
	enum event_kind kind;
	char *path, *token;	/* one allocation, behind this struct */
};

static struct {
	const struct store_ops *ops;
	pthread_mutex_t lock;
	struct list jobs, done, events;		/* under the lock */
	unsigned n_events;
	int wake;		/* eventfd: jobs for the thread */
	struct loop_fd bell;	/* eventfd: something for the loop */
	bool up;		/* the loop's */
} st = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.jobs = LIST_INIT(st.jobs), .done = LIST_INIT(st.done),
	.events = LIST_INIT(st.events), .wake = -1, .bell = { .fd = -1 },
};

static void ring_bell(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		ASSERT(errno == EAGAIN || errno == EINTR);
}

static void hush(int fd)
{
	uint64_t n;

	if (read(fd, &n, sizeof(n)) < 0)
		ASSERT(errno == EAGAIN || errno == EINTR);
}

/* --- in the thread: what jobs may do --- */

/* errno of a failed call; what tells of the connection ends it. */
static int failed(struct store *s)
{
	int err = errno ? errno : EIO;

	switch (err) {
	case ENOENT: case EACCES: case EEXIST: case EAGAIN: case EINVAL:
	case ENOSPC: case E2BIG: case EBUSY:
		break;
	default:
		s->broken = true;
	}
	return -err;
}

const char *store_read(struct store *s, const char *path)
{
	unsigned len;

	free(s->value);
	s->value = s->broken ? NULL : xs_read(s->h, s->t, path, &len);
	if (!s->value) {
		if (!s->broken)
			failed(s);
		return NULL;
	}
	return strlen(s->value) == len ? s->value : "?";
}

static int result(struct store *s, bool ok)
{
	return ok ? 0 : failed(s);
}

int store_write(struct store *s, const char *path, const char *value)
{
	if (s->broken)
		return -ENOTCONN;
	return result(s, xs_write(s->h, s->t, path, value,
				  (unsigned)strlen(value)));
}

int store_remove(struct store *s, const char *path)
{
	int err = s->broken ? -ENOTCONN : result(s, xs_rm(s->h, s->t, path));

	return err == -ENOENT ? 0 : err;
}

int store_chmod(struct store *s, const char *path, unsigned owner, unsigned reader)
{
	struct xs_permissions p[2] = {
		{ .id = owner, .perms = XS_PERM_NONE },
		{ .id = reader, .perms = XS_PERM_READ },
	};

	if (s->broken)
		return -ENOTCONN;
	return result(s, xs_set_permissions(s->h, s->t, path, p, 2));
}

int store_watch(struct store *s, const char *path, const char *token)
{
	int err = s->broken ? -ENOTCONN : result(s, xs_watch(s->h, path, token));

	return err == -EEXIST ? 0 : err;
}

void store_unwatch(struct store *s, const char *path, const char *token)
{
	if (!s->broken && !xs_unwatch(s->h, path, token))
		failed(s);
}

int store_list(struct store *s, const char *path,
	       void (*fn)(void *arg, const char *name), void *arg)
{
	unsigned n;
	char **names = s->broken ? NULL : xs_directory(s->h, s->t, path, &n);

	if (!names)
		return s->broken ? -ENOTCONN : failed(s);
	for (unsigned i = 0; i < n; i++)
		fn(arg, names[i]);
	free(names);
	return 0;
}

int store_transaction(struct store *s, int (*fn)(struct store *s, void *arg),
		      void *arg)
{
	for (int i = 0; i < TRANSACTIONS && !s->broken; i++) {
		int err;

		s->t = xs_transaction_start(s->h);
		if (s->t == XBT_NULL)
			return failed(s);
		err = fn(s, arg);
		if (s->broken) {
			s->t = XBT_NULL;
			break;
		}
		if (!xs_transaction_end(s->h, s->t, err != 0) && !err) {
			s->t = XBT_NULL;
			err = failed(s);
			if (err == -EAGAIN)
				continue;
			return err;
		}
		s->t = XBT_NULL;
		return err;
	}
	return s->broken ? -ENOTCONN : -EAGAIN;
}

/* --- in the thread --- */

static void tell(enum event_kind kind, const char *path, const char *token)
{
	size_t n = strlen(path) + 1, m = strlen(token) + 1;
	struct event *e = malloc(sizeof(*e) + n + m);

	ASSERT(e);	/* an event that is lost is a device that hangs */
	e->kind = kind;
	e->path = memcpy(e + 1, path, n);
	e->token = memcpy(e->path + n, token, m);
	pthread_mutex_lock(&st.lock);
	if (kind == EV_WATCH && st.n_events >= EVENTS_MAX) {	/* I3 */
		if (st.n_events++ == EVENTS_MAX)
			e->path[0] = '\0';
		else {
			free(e);
			e = NULL;
		}
	} else {
		st.n_events++;
	}
	if (e)
		list_add(&st.events, &e->link);
	pthread_mutex_unlock(&st.lock);
	ring_bell(st.bell.fd);
}

static struct store_job *next_job(void)
{
	struct list *e;

	pthread_mutex_lock(&st.lock);
	e = list_pop(&st.jobs);
	pthread_mutex_unlock(&st.lock);
	return e ? container_of(e, struct store_job, link) : NULL;
}

static void run_jobs(struct store *s)
{
	struct store_job *j;

	while ((j = next_job())) {
		j->err = s->h && !s->broken ? j->run(j, s) : -ENOTCONN;
		pthread_mutex_lock(&st.lock);
		list_add(&st.done, &j->link);
		pthread_mutex_unlock(&st.lock);
		ring_bell(st.bell.fd);
	}
}

static void take_watches(struct store *s)
{
	char **w;

	while (!s->broken && (w = xs_check_watch(s->h))) {
		tell(EV_WATCH, w[XS_WATCH_PATH], w[XS_WATCH_TOKEN]);
		free(w);
	}
}

static void serve(struct store *s)
{
	struct pollfd p[2] = {
		{ .fd = xs_fileno(s->h), .events = POLLIN },
		{ .fd = st.wake, .events = POLLIN },
	};

	while (!s->broken) {
		int n = poll(p, 2, PING_MS);

		if (n < 0 && errno != EINTR)
			break;
		if (n == 0)
			store_read(s, "/tool");
		if (p[1].revents)
			hush(st.wake);
		take_watches(s);
		run_jobs(s);
	}
}

/* There was a xenstored on this host, which has died.  libxenstore would take the
 * kernel's device then, which waits for its answer for ever. */
static bool is_dead(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX, .sun_path = XS_SOCKET };
	const char *dir = getenv("XENSTORED_RUNDIR");
	bool dead;
	int fd;

	if (getenv("XENSTORED_PATH"))	/* it takes nothing else */
		return false;
	if (dir)
		snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/socket", dir);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	dead = connect(fd, (struct sockaddr *)&sun, sizeof(sun)) &&
	       errno == ECONNREFUSED;
	close(fd);
	return dead;
}

static void *store_thread(void *arg)
{
	struct store s = { .t = XBT_NULL };

	(void)arg;
	for (;;) {
		s.h = is_dead() ? NULL : xs_open(0);
		if (s.h) {
			tell(EV_UP, "", "");
			serve(&s);
			tell(EV_DOWN, "", "");
			xs_close(s.h);
			s = (struct store){ .t = XBT_NULL, .value = s.value };
		}
		run_jobs(&s);
		poll(&(struct pollfd){ .fd = st.wake, .events = POLLIN }, 1,
		     PING_MS);
		hush(st.wake);
	}
	return NULL;
}

/* --- in the loop --- */

static void take_event(struct event *e)
{
	switch (e->kind) {
	case EV_UP:
		st.up = true;
		st.ops->up();
		break;
	case EV_DOWN:
		st.up = false;
		st.ops->down();
		break;
	case EV_WATCH:
		st.ops->event(e->path, e->token);
		break;
	}
	free(e);
}

static void on_bell(struct loop_fd *f, uint32_t events)
{
	struct list jobs = LIST_INIT(jobs), evs = LIST_INIT(evs), *e;

	(void)events;
	hush(f->fd);
	pthread_mutex_lock(&st.lock);
	while ((e = list_pop(&st.events)))
		list_add(&evs, e);
	st.n_events = 0;
	while ((e = list_pop(&st.done)))
		list_add(&jobs, e);
	pthread_mutex_unlock(&st.lock);
	while ((e = list_pop(&jobs))) {
		struct store_job *j = container_of(e, struct store_job, link);

		j->done(j);
	}
	while ((e = list_pop(&evs)))
		take_event(container_of(e, struct event, link));
}

bool store_is_up(void)
{
	return st.up;
}

void store_submit(struct store_job *j)
{
	pthread_mutex_lock(&st.lock);
	list_add(&st.jobs, &j->link);
	pthread_mutex_unlock(&st.lock);
	ring_bell(st.wake);
}

bool store_likely(void)
{
	const char *sock = getenv("XENSTORED_PATH");

	return (sock && *sock) || getenv("XENSTORED_RUNDIR") ||
	       !access("/sys/hypervisor/properties", F_OK) ||	/* Xen's alone */
	       !access("/proc/xen/capabilities", F_OK) ||
	       !access("/dev/xen", F_OK) ||
	       !access(XS_SOCKET, F_OK);
}

int store_start(const struct store_ops *ops)
{
	sigset_t all, old;
	pthread_t t;
	int err;

	st.ops = ops;
	st.wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	st.bell.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	st.bell.fn = on_bell;
	if (st.wake < 0 || st.bell.fd < 0)
		return -errno;
	err = loop_fd_add(ctl.loop, &st.bell, EPOLLIN);
	if (err)
		return err;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = -pthread_create(&t, NULL, store_thread, NULL);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!err)
		pthread_detach(t);
	return err;
}
