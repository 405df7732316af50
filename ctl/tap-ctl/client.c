/* client.c - one question to blktapctrl and its answers.
 *
 * The socket does not block; the wait is bounded, so a daemon that hangs hangs
 * nobody.  What does not belong to our question is ignored, what is not a
 * message is an error.
 */
#include <errno.h>
#include <poll.h>
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

/* The one request of a connection. */
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

static int send_ask(const struct call *c, struct link *l, const char *text,
		    uint64_t size)
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
	msg_seal(&o, c->verb->ask, 0, ASK_ID, 0, (uint32_t)(sizeof(v) + len));
	log_dbg(LOG_CTL, "asks type %u pid %d minor %d flags %#x time-out %u "
		"text '%s'", c->verb->ask, v.pid, v.minor, v.flags, v.timeout, text);
	return link_send(c, l, &o, msg_size(&o));
}

/* The daemon refused: its own words, which name disk, act and reason, or the
 * error's. */
static int refused(const struct call *c, const struct msg *m)
{
	char why[TAP_TEXT_MAX + 1];

	if (m->hdr->status < -4095)
		return call_fail(c, -EBADMSG, "blktapctrl's answer is broken");
	if (!m->hdr->len || msg_text(m, 0, why, sizeof(why)))
		return call_fail(c, m->hdr->status, "%s",
				 strerror(-m->hdr->status));
	return call_refused(c, m->hdr->status, why);
}

/* The next answer to our question of that type.  0, or -errno. */
static int next_answer(const struct call *c, struct link *l, uint16_t type,
		       struct msg *m)
{
	for (;;) {
		int n = read_msg(l->fd, &l->in, m);

		if (n > 0 && m->hdr->id == ASK_ID &&
		    m->hdr->type == type + 1) {
			log_dbg(LOG_CTL, "answer: status %d flags %u, %u bytes",
				m->hdr->status, m->hdr->flags, m->hdr->len);
			return 0;
		}
		if (n > 0)
			continue;
		if (n == -EPIPE || n == -ECONNRESET)
			return call_fail(c, -EPIPE, "blktapctrl ended the connection "
					 "without an answer; see its log");
		if (n < 0)
			return call_fail(c, n, "cannot read blktapctrl's answer: %s",
					 strerror(-n));
		n = link_wait(c, l, POLLIN);
		if (n)
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
	if (!err && m.hdr->status > 0)
		err = call_fail(c, -EBADMSG, "blktapctrl's answer is broken");
	else if (!err && m.hdr->status < 0)
		err = refused(c, &m);
	return err;
}

static int send_all(const struct call *c, struct link *l, const struct keys *keys,
		    const char *text, uint64_t size)
{
	int err = 0;

	for (unsigned i = 0; i < keys->n && !err; i++)
		err = send_key(c, l, &keys->v[i]);
	return err ? err : send_ask(c, l, text, size);
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
		if (err)
			break;
		if (m.hdr->status > 0)
			err = call_fail(c, -EBADMSG, "blktapctrl's answer is "
					"broken");
		else if (m.hdr->status < 0)
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
