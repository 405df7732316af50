/* client.c - one question to blktapctrl and its answers; or the same about many
 * disks, all at once.
 *
 * The socket does not block; the wait is bounded, so a daemon that hangs hangs
 * nobody.  What does not belong to our question is ignored, what is not a
 * message is an error.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/keys.h"
#include "base/log.h"
#include "base/rundir.h"
#include "tap-ctl.h"

/* The one request of ask(). */
#define ASK_ID 1u

struct link {
	int fd;
	uint64_t until_ns;
	struct msg_in in;
};

static int cannot_connect(const struct call *c, const char *path, int err)
{
	struct stat st;

	if (err == -ENOENT || err == -ECONNREFUSED) {
		/* One code for it, whatever a dead daemon left behind. */
		if (rundir_is_default())
			return call_fail(c, -ECONNREFUSED, "blktapctrl is not "
					 "running: start it with `blktapctrl'");
		return call_fail(c, -ECONNREFUSED, "blktapctrl is not running in "
				 "%s%s: start it with `blktapctrl --rundir %s'",
				 rundir(),
				 stat(rundir(), &st) ? " (no such directory)" : "",
				 rundir());
	}
	return call_fail(c, err, "cannot connect to %s: %s", path, strerror(-err));
}

static int link_open(const struct call *c, struct link *l)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int err;

	l->until_ns = clock_ns() + NS_PER_S * c->patience;
	run_path(RUN_CTL, 0, a.sun_path, sizeof(a.sun_path));
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return call_fail(c, -errno, "cannot make a socket: %s",
				 strerror(errno));
	while (connect(l->fd, (struct sockaddr *)&a, sizeof(a))) {
		/* A crowd stands before the door, and no event tells when it has
		 * become smaller. */
		if (errno == EAGAIN && clock_ns() < l->until_ns) {
			usleep(10000);
			continue;
		}
		err = cannot_connect(c, a.sun_path, -errno);
		close(l->fd);
		l->fd = -1;
		return err;
	}
	return 0;
}

/* Until the socket can do what `events` says, or the time is over. */
static int link_wait(const struct call *c, struct link *l, short events)
{
	struct pollfd p = { .fd = l->fd, .events = events };
	uint64_t now = clock_ns();
	int n;

	if (now >= l->until_ns)
		n = 0;
	else
		n = poll(&p, 1, (int)((l->until_ns - now) / NS_PER_MS) + 1);
	if (n < 0 && errno != EINTR)
		return call_fail(c, -errno, "poll: %s", strerror(errno));
	if (!n)
		return call_fail(c, -ETIMEDOUT, "blktapctrl did not answer within "
				 "%u s", c->patience);
	return 0;
}

static int link_send(const struct call *c, struct link *l, const void *data,
		     size_t len)
{
	const char *p = data;
	int err;

	while (len) {
		ssize_t n = send(l->fd, p, len, MSG_NOSIGNAL);

		if (n > 0) {
			p += n;
			len -= (size_t)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return call_fail(c, -errno, "cannot send to blktapctrl: "
					 "%s", strerror(errno));
		err = link_wait(c, l, POLLOUT);
		if (err)
			return err;
	}
	return 0;
}

static int send_ask(const struct call *c, struct link *l, uint32_t id,
		    const char *text, uint64_t size)
{
	struct tap_verb v = {
		.pid = c->pid,
		.minor = c->minor,
		.timeout = c->timeout,
		.size = size,
	};
	size_t len = strlen(text);
	struct msg_out o;

	if (len > TAP_TEXT_MAX)
		return call_fail(c, -ENAMETOOLONG, "%zu bytes of text are too many, "
				 "at most %u", len, TAP_TEXT_MAX);
	if (c->value['R'])
		v.flags |= TAP_OPEN_RDONLY;
	if (c->value['D'])
		v.flags |= TAP_OPEN_NO_DIRECT;
	if ((c->verb->ask == TAP_CTL_CLOSE || c->verb->ask == TAP_CTL_DESTROY) &&
	    c->value['f'])
		v.flags |= TAP_VERB_FORCE;
	if (c->node)
		v.flags |= TAP_VERB_XENBUS;
	memcpy(o.body, &v, sizeof(v));
	memcpy(o.body + sizeof(v), text, len);
	msg_seal(&o, c->verb->ask, 0, id, 0, (uint32_t)(sizeof(v) + len));
	log_dbg(LOG_CTL, "asks type %u pid %d minor %d flags %#x time-out %u "
		"text '%s'", c->verb->ask, v.pid, v.minor, v.flags, v.timeout, text);
	return link_send(c, l, &o, msg_size(&o));
}

/* Did the daemon refuse?  0 no; or why, told in its own words, which name disk, act
 * and reason, or the error's. */
static int refused(const struct call *c, const struct msg *m)
{
	char why[TAP_TEXT_MAX + 1];

	if (!m->hdr->status)
		return 0;
	if (m->hdr->status > 0 || m->hdr->status < -4095)
		return call_fail(c, -EBADMSG, "blktapctrl's answer is broken");
	if (!m->hdr->len || msg_text(m, 0, why, sizeof(why)))
		return call_fail(c, m->hdr->status, "%s",
				 strerror(-m->hdr->status));
	return call_refused(c, m->hdr->status, why);
}

/* An answer of that type that is there: 1; 0: none yet; or -errno. */
static int take_answer(const struct call *c, struct link *l, uint16_t type,
		       struct msg *m)
{
	int n;

	while ((n = read_msg(l->fd, &l->in, m)) > 0) {
		if (m->hdr->type != type + 1)
			continue;
		log_dbg(LOG_CTL, "answer %u: status %d flags %u, %u bytes",
			m->hdr->id, m->hdr->status, m->hdr->flags, m->hdr->len);
		return 1;
	}
	if (n == -EPIPE || n == -ECONNRESET)
		return call_fail(c, -EPIPE, "blktapctrl ended the connection "
				 "without an answer; see its log");
	if (n < 0)
		return call_fail(c, n, "cannot read blktapctrl's answer: %s",
				 strerror(-n));
	return 0;
}

/* The next answer to our question of that type.  0, or -errno. */
static int next_answer(const struct call *c, struct link *l, uint16_t type,
		       struct msg *m)
{
	for (;;) {
		int n = take_answer(c, l, type, m);

		if (n > 0 && m->hdr->id == ASK_ID)
			return 0;
		if (!n)
			n = link_wait(c, l, POLLIN);
		if (n < 0)
			return n;
	}
}

/* One key goes ahead of what needs it, as a sealed memfd. */
static int send_key(const struct call *c, struct link *l,
		    const struct td_secret *key)
{
	int err, fd = keys_to_memfd(key);
	struct msg_out o;
	struct msg m;

	if (fd < 0)
		return call_fail(c, fd, "cannot pass a key: %s", strerror(-fd));
	msg_seal(&o, TAP_CTL_KEY, 0, ASK_ID, 0, 0);
	while ((err = write_msg_fd(l->fd, &o, fd)) == -EAGAIN)
		if ((err = link_wait(c, l, POLLOUT)))
			break;
	close(fd);
	if (err)
		return err == -ETIMEDOUT ? err :
		       call_fail(c, err, "cannot pass a key: %s", strerror(-err));
	err = next_answer(c, l, TAP_CTL_KEY, &m);
	return err ? err : refused(c, &m);
}

static int send_all(const struct call *c, struct link *l, const struct keys *keys,
		    const char *text, uint64_t size)
{
	int err = 0;

	for (unsigned i = 0; i < keys->n && !err; i++)
		err = send_key(c, l, &keys->v[i]);
	return err ? err : send_ask(c, l, ASK_ID, text, size);
}

int ask(const struct call *c, const char *text, uint64_t size, reply_fn *fn,
	void *arg)
{
	struct link l = { .fd = -1 };
	struct keys keys = { 0 };
	struct msg m;
	bool more;
	int err;

	err = keys_get(c, &keys);
	if (err)
		return err;
	err = link_open(c, &l);
	if (!err)
		err = send_all(c, &l, &keys, text, size);
	keys_wipe(&keys);
	while (!err) {
		err = next_answer(c, &l, c->verb->ask, &m);
		if (!err)
			err = refused(c, &m);
		if (err)
			break;
		more = m.hdr->flags & TAP_MORE;
		if (fn) {
			err = fn(arg, &m);
			if (err)
				call_fail(c, err, "blktapctrl's answer is broken");
		}
		if (!more)
			break;
	}
	/* The daemon ends after this answer; so do we, when it has. */
	if (!err && c->verb->ask == TAP_CTL_SHUTDOWN)
		while (read_msg(l.fd, &l.in, &m) >= 0 && !err)
			err = link_wait(c, &l, POLLIN);
	if (l.fd >= 0)
		close(l.fd);
	return err;
}

/* --- one question about each of many disks --- */

/* Connections, at most; more than they may ask at once wait for those before. */
#define SHARES_MAX 16u

/* The disks that one connection asks about: those from `first` on.
 * I1  A disk's `over` is set once, when it has had its last answer.
 * I2  sent - ended of them are under way, at most TAP_CTL_ASKS. */
struct share {
	struct link l;		/* fd -1: over */
	unsigned first, n, sent, ended;
};

struct many {
	struct call c;		/* quiet: errors are the asker's to tell */
	const int32_t *minor;
	bool *over;
	each_fn *fn;
	void *arg;
};

static void disk_answer(struct many *a, struct share *s, unsigned i, int err,
			const struct msg *m)
{
	a->fn(a->arg, i, err, err ? NULL : m);
	if (!err && (m->hdr->flags & TAP_MORE))
		return;
	a->over[i] = true;
	s->ended++;
}

/* All have their answers; or the rest shall not get any. */
static void share_end(struct many *a, struct share *s, int err)
{
	for (unsigned i = s->first; i < s->first + s->n; i++)
		if (!a->over[i])
			disk_answer(a, s, i, err, NULL);
	if (s->l.fd >= 0)
		close(s->l.fd);
	s->l.fd = -1;
}

static void share_go_on(struct many *a, struct share *s)
{
	int err = 0;

	while (!err && s->sent < s->n && s->sent - s->ended < TAP_CTL_ASKS) {
		unsigned i = s->first + s->sent++;

		a->c.minor = a->minor[i];
		err = send_ask(&a->c, &s->l, i + 1, "", 0);
	}
	if (err || s->ended == s->n)
		share_end(a, s, err);
}

static void share_take(struct many *a, struct share *s)
{
	struct msg m;
	int n;

	while ((n = take_answer(&a->c, &s->l, a->c.verb->ask, &m)) > 0) {
		unsigned i = m.hdr->id - 1;

		if (i < s->first || i >= s->first + s->sent || a->over[i])
			continue;
		s->l.until_ns = clock_ns() + NS_PER_S * a->c.patience;
		disk_answer(a, s, i, refused(&a->c, &m), &m);
	}
	if (n < 0)
		share_end(a, s, n);
	else
		share_go_on(a, s);
}

/* Wait for answers of those that are not over; false: there are none. */
static bool shares_wait(struct many *a, struct share *s, unsigned n)
{
	struct pollfd p[SHARES_MAX];
	uint64_t now = clock_ns(), until = UINT64_MAX;

	for (unsigned i = 0; i < n; i++) {
		if (s[i].l.fd >= 0 && s[i].l.until_ns <= now)
			share_end(a, &s[i], -ETIMEDOUT);
		p[i] = (struct pollfd){ .fd = s[i].l.fd, .events = POLLIN };
		if (s[i].l.fd >= 0 && s[i].l.until_ns < until)
			until = s[i].l.until_ns;
	}
	if (until == UINT64_MAX)
		return false;
	if (poll(p, n, (int)((until - now) / NS_PER_MS) + 1) > 0)
		for (unsigned i = 0; i < n; i++)
			if (p[i].revents)
				share_take(a, &s[i]);
	return true;
}

int ask_each(const struct call *c, const int32_t *minor, unsigned n, each_fn *fn,
	     void *arg)
{
	unsigned n_shares = n < SHARES_MAX * TAP_CTL_ASKS ?
			    (n + TAP_CTL_ASKS - 1) / TAP_CTL_ASKS : SHARES_MAX;
	struct many a = { .c = *c, .minor = minor, .fn = fn, .arg = arg };
	struct share *s = calloc(n_shares + 1, sizeof(*s));

	a.over = calloc(n + 1, sizeof(*a.over));
	if (!s || !a.over) {
		free(s);
		free(a.over);
		return call_fail(c, -ENOMEM, "%s", strerror(ENOMEM));
	}
	a.c.quiet = true;
	for (unsigned i = 0; i < n_shares; i++) {
		int err;

		s[i].first = (unsigned)((uint64_t)n * i / n_shares);
		s[i].n = (unsigned)((uint64_t)n * (i + 1) / n_shares) - s[i].first;
		err = link_open(&a.c, &s[i].l);
		if (err)
			share_end(&a, &s[i], err);
		else
			share_go_on(&a, &s[i]);
	}
	while (shares_wait(&a, s, n_shares))
		;
	free(s);
	free(a.over);
	return 0;
}
