/* chan.c - see chan.h. */
#include "chan.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl.h"
#include "names.h"

#define HELLO_AGAIN_NS (500 * NS_PER_MS)
#define CHAN_QUEUE_MAX (64 * 1024)

/* Messages of one tapdisk in one pass of the loop: others shall have a turn. */
#define CHAN_PER_PASS 64
/* Messages that nobody asked for, in ten seconds; bytes that are no message, in
 * a life. */
#define UNASKED_MAX 1000
#define SKIPPED_MAX (64 * 1024)

static void on_read(struct loop_fd *f, uint32_t events);
static void on_write(struct loop_fd *f, uint32_t events);
static void on_fd(struct loop_fd *f, uint32_t events);
static void hello_again(struct loop_timer *t);
static void read_rest(struct loop_timer *t);

void chan_init(struct chan *c, const struct chan_ops *ops)
{
	memset(c, 0, sizeof(*c));
	c->ops = ops;
	c->rd = (struct loop_fd){ .fd = -1, .fn = on_read };
	c->wr = (struct loop_fd){ .fd = -1, .fn = on_write };
	c->fd = (struct loop_fd){ .fd = -1, .fn = on_fd };
	list_init(&c->calls);
	list_init(&c->fds);
	msg_queue_init(&c->out, CHAN_QUEUE_MAX);
	loop_timer_init(&c->again, hello_again);
	loop_timer_init(&c->rest, read_rest);
}

static void close_end(struct loop_fd *f)
{
	if (f->fd < 0)
		return;
	loop_fd_del(ctl.loop, f);
	close(f->fd);
	f->fd = -1;
}

/* A descriptor on its way. */
struct passing {
	struct list link;	/* chan.fds */
	struct tap_fd_msg fm;
	int fd;
};

static void passed(struct list *e)
{
	struct passing *p = container_of(e, struct passing, link);

	close(p->fd);
	free(p);
}

/* What waits for that connection goes with it. */
static void close_fd_end(struct chan *c)
{
	struct list *e;

	while ((e = list_pop(&c->fds)))
		passed(e);
	close_end(&c->fd);
}

static int open_end(struct loop_fd *f, enum run_name what, int n, int flags,
		    uint32_t events)
{
	int err, fd = names_open_pipe(what, n, flags);

	if (fd < 0)
		return fd;
	f->fd = fd;
	err = loop_fd_add(ctl.loop, f, events);
	if (err) {
		close(fd);
		f->fd = -1;
	}
	return err;
}

/* What a dead daemon's tapdisk had to say is not for us. */
static void drain(int fd)
{
	char buf[4096];

	for (int i = 0; i < 256 && read(fd, buf, sizeof(buf)) > 0; i++)
		;
}

int chan_open(struct chan *c, int number, int wr_flags)
{
	int err;

	ASSERT(!chan_is_open(c));
	c->number = number;
	/* No events but EPOLLERR: the last reader is gone. */
	err = open_end(&c->wr, RUN_PIPE_WRITE, number, wr_flags, 0);
	if (err)
		return err;
	err = open_end(&c->rd, RUN_PIPE_READ, number, O_RDONLY, EPOLLIN);
	if (err) {
		close_end(&c->wr);
		return err;
	}
	drain(c->rd.fd);
	return 0;
}

void chan_close(struct chan *c)
{
	struct list *e;

	loop_timer_clear(&c->again);
	loop_timer_clear(&c->rest);
	close_end(&c->rd);
	close_end(&c->wr);
	close_fd_end(c);
	msg_queue_free(&c->out);
	while ((e = list_pop(&c->calls))) {
		struct call *call = container_of(e, struct call, link);

		call->done(call, -EPIPE, NULL);			/* I2 */
	}
}

/* Nonsense: it is no longer listened to. */
static void mute(struct chan *c, const char *why)
{
	loop_timer_clear(&c->again);
	c->mute = true;
	/* A level that stays up would wake us for ever. */
	close_end(&c->rd);
	close_end(&c->wr);
	close_fd_end(c);
	c->ops->broken(c, why, true);
}

/* It has closed an end: it is dying.  What it has said before is still read. */
static void closed(struct chan *c, struct loop_fd *f)
{
	loop_timer_clear(&c->again);
	close_end(f);
	c->ops->broken(c, "its end of the control pipe is closed", false);
}

/* --- out --- */

static int send_msg(struct chan *c, const struct msg_out *o)
{
	int err;

	if (c->wr.fd < 0)
		return -EPIPE;
	err = write_msg(c->wr.fd, &c->out, o);
	if (!err && !msg_queue_empty(&c->out) && !c->wr_waits) {
		c->wr_waits = true;
		err = loop_fd_mod(ctl.loop, &c->wr, EPOLLOUT);
	}
	return err;
}

static void on_write(struct loop_fd *f, uint32_t events)
{
	struct chan *c = container_of(f, struct chan, wr);
	int err = events & EPOLLERR ? -EPIPE : msg_flush(f->fd, &c->out);

	if (err < 0) {
		closed(c, f);
	} else if (err == 0 && c->wr_waits) {
		c->wr_waits = false;
		loop_fd_mod(ctl.loop, f, 0);
	}
}

static struct msg_out out;	/* one thread: the loop's */

int chan_call(struct chan *c, struct call *call, uint16_t type, const void *body,
	      size_t len)
{
	int err;

	ASSERT(len <= sizeof(out.body));
	if (len)
		memcpy(out.body, body, len);
	ASSERT(list_empty(&call->link));			/* I2 */
	call->id = c->next_id = chan_next_id(c);
	call->type = type;
	msg_seal(&out, type, 0, call->id, 0, (uint32_t)len);
	err = send_msg(c, &out);
	if (!err)
		list_add(&c->calls, &call->link);
	return err;
}

void chan_forget(struct call *call)
{
	list_del(&call->link);
}

int chan_reply(struct chan *c, uint16_t type, uint32_t id, int status,
	       const char *why)
{
	size_t len = strnlen(why, TAP_TEXT_MAX);

	memcpy(out.body, why, len);
	msg_seal(&out, type, 0, id, status, (uint32_t)len);
	return send_msg(c, &out);
}

/* --- hello --- */

void chan_connect(struct chan *c)
{
	int err, fd;

	if (c->fd.fd >= 0 || !chan_is_open(c))
		return;
	fd = names_connect(c->number);
	if (fd < 0) {
		log_dbg(LOG_CTL, "channel %d: cannot connect: %s", c->number,
			strerror(-fd));
		return;
	}
	c->fd.fd = fd;
	err = loop_fd_add(ctl.loop, &c->fd, EPOLLIN);
	if (err) {
		close(fd);
		c->fd.fd = -1;
	}
}

static int send_later(struct chan *c, const struct tap_fd_msg *fm, int fd)
{
	struct passing *p = malloc(sizeof(*p));
	int err = p ? loop_fd_mod(ctl.loop, &c->fd, EPOLLIN | EPOLLOUT) : -ENOMEM;

	if (!err) {
		p->fm = *fm;
		p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		err = p->fd < 0 ? -errno : 0;
	}
	if (err)
		free(p);
	else
		list_add(&c->fds, &p->link);
	return err;
}

static void send_waiting(struct chan *c)
{
	while (!list_empty(&c->fds)) {
		struct passing *p = list_first(&c->fds, struct passing, link);
		int err = msg_send_fd(c->fd.fd, &p->fm, p->fd);

		if (err == -EAGAIN)
			return;
		list_del(&p->link);
		passed(&p->link);
		if (err)
			log_warn("channel %d: a descriptor is lost: %s", c->number,
				 strerror(-err));
	}
	loop_fd_mod(ctl.loop, &c->fd, EPOLLIN);
}

int chan_send_fd_msg(struct chan *c, const struct tap_fd_msg *fm, int fd)
{
	int err;

	chan_connect(c);
	if (c->fd.fd < 0)
		return -ENOTCONN;
	err = list_empty(&c->fds) ? msg_send_fd(c->fd.fd, fm, fd) : -EAGAIN;
	return err == -EAGAIN ? send_later(c, fm, fd) : err;
}

int chan_send_fd(struct chan *c, enum tap_fd_kind kind, uint32_t id, int fd)
{
	struct tap_fd_msg fm = { .magic = TAP_MAGIC, .kind = kind, .id = id };

	return chan_send_fd_msg(c, &fm, fd);
}

static void hello_again(struct loop_timer *t)
{
	chan_hello(container_of(t, struct chan, again));
}

void chan_hello(struct chan *c)
{
	struct tap_hello h = { .epoch = ctl.epoch };
	/* To the brim: half a message that a dead daemon left in the pipe is
	 * completed by this one's zeroes, and thrown away with it; the next
	 * HELLO is then whole. */
	static const size_t full = sizeof(out.body);

	if (c->mute)
		return;
	chan_connect(c);
	/* One that waits already is enough. */
	if (msg_queue_empty(&c->out)) {
		memset(out.body, 0, full);
		memcpy(out.body, &h, sizeof(h));
		msg_seal(&out, TAP_HELLO, 0, 0, 0, (uint32_t)full);
		if (send_msg(c, &out)) {
			closed(c, &c->wr);
			return;
		}
	}
	loop_timer_set(ctl.loop, &c->again, HELLO_AGAIN_NS);
}

static void greet(struct chan *c)
{
	if (!c->answered || c->peer <= 0)
		return;
	c->greeted = true;					/* I1 */
	loop_timer_clear(&c->again);
	c->ops->hello(c, (const struct tap_hello_rsp *)c->rsp, c->spec);
}

static bool take_hello(struct chan *c, const struct msg *m)
{
	uint64_t epoch;

	if (!loop_timer_is_set(&c->again))	/* nobody has asked, or no more */
		return false;

	_Static_assert(offsetof(struct tap_hello_rsp, epoch) == 0, "first");
	if (m->hdr->len < sizeof(c->rsp) || m->hdr->status)
		return false;
	memcpy(c->rsp, m->body, sizeof(c->rsp));
	memcpy(&epoch, m->body, sizeof(epoch));
	if (epoch != ctl.epoch ||
	    msg_text(m, sizeof(c->rsp), c->spec, sizeof(c->spec)))
		return false;
	c->answered = true;
	greet(c);
	return true;
}

/* The kernel says who is there; a tapdisk cannot lie about that.  Of descriptors that
 * come one at most is not closed: a key. */
static void on_fd(struct loop_fd *f, uint32_t events)
{
	struct chan *c = container_of(f, struct chan, fd);
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(4 * sizeof(int))];
	} u;
	struct tap_fd_msg fm = { 0 };
	struct iovec iov = { &fm, sizeof(fm) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	bool asked;
	int key = -1;
	ssize_t n;

	if (events & EPOLLOUT)
		send_waiting(c);
	n = recvmsg(f->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* Replaced or closed: what has been told stays true, and a
		 * channel that still says hello connects again. */
		close_fd_end(c);
		return;
	}
	for (struct cmsghdr *m = CMSG_FIRSTHDR(&mh); m; m = CMSG_NXTHDR(&mh, m)) {
		if (m->cmsg_level != SOL_SOCKET)
			continue;
		if (m->cmsg_type == SCM_CREDENTIALS && !c->peer) {
			struct ucred cred;

			memcpy(&cred, CMSG_DATA(m), sizeof(cred));
			c->peer = cred.pid;
		} else if (m->cmsg_type == SCM_RIGHTS) {
			size_t len = m->cmsg_len - CMSG_LEN(0);

			for (size_t i = 0; i < len / sizeof(int); i++) {
				int fd;

				memcpy(&fd, CMSG_DATA(m) + i * sizeof(fd),
				       sizeof(fd));
				if (key >= 0)
					close(key);
				key = fd;
			}
		}
	}
	asked = !c->greeted;
	if (!c->greeted) {
		greet(c);
	} else if (key >= 0 && n == sizeof(fm) && fm.magic == TAP_MAGIC &&
		   fm.kind == TAP_FD_KEY &&
		   !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		asked = c->ops->key(c, fm.id, key);
		key = -1;
	}
	if (key >= 0)
		close(key);
	if (!asked && ++c->spent > UNASKED_MAX)
		mute(c, "it floods its socket");
}

/* --- in --- */

static struct call *find_call(struct chan *c, const struct tap_hdr *h)
{
	list_for_each(e, &c->calls) {
		struct call *call = container_of(e, struct call, link);

		if (call->id == h->id && call->type + 1 == h->type)
			return call;
	}
	return NULL;
}

static bool take_file_ask(struct chan *c, const struct msg *m)
{
	struct tap_file_ask a;
	char path[TAP_TEXT_MAX + 1];

	if (m->hdr->len < sizeof(a) ||
	    msg_text(m, sizeof(a), path, sizeof(path))) {
		chan_reply(c, TAP_FILE_RSP, m->hdr->id, -EBADMSG, "bad message");
		return false;
	}
	memcpy(&a, m->body, sizeof(a));
	return c->ops->file(c, m->hdr->id, &a, path);
}

/* Once for each time that it was connected, which is not the tapdisk's doing. */
static bool take_broken(struct chan *c, const struct msg *m)
{
	struct tap_xen_broken b;
	char why[TAP_TEXT_MAX + 1];

	if (m->hdr->len < sizeof(b) ||
	    msg_text(m, sizeof(b), why, sizeof(why)))
		return false;
	memcpy(&b, m->body, sizeof(b));
	return c->ops->xen_broken(c, &b.vbd, why);
}

static bool is_reply(uint16_t type)
{
	switch (type) {
	case TAP_IMG:
	case TAP_NEWDEV_RSP:
	case TAP_CLOSE_RSP:
	case TAP_PID_RSP:
		return true;
	default:
		return type >= TAP_HELLO && (type & 1);
	}
}

/* False: it should not have come. */
static bool take(struct chan *c, const struct msg *m)
{
	struct call *call;

	if (m->hdr->type == TAP_HELLO_RSP)
		return take_hello(c, m);
	if (!c->greeted)
		return false;
	if (m->hdr->type == TAP_FILE)
		return take_file_ask(c, m);
	if (m->hdr->type == TAP_XEN_BROKEN)
		return take_broken(c, m);
	call = find_call(c, m->hdr);
	if (call) {
		/* PARAMS + 1 is IMG, NEWDEV + 1 its reply, and so on. */
		int err = m->hdr->status > 0 ? -EPROTO : m->hdr->status;

		if (err || !call->parts || !(m->hdr->flags & TAP_MORE))
			list_del(&call->link);
		call->done(call, err, m);
		return true;
	}
	/* Replies to what has been forgotten, or to a dead daemon, are dropped. */
	if (!is_reply(m->hdr->type))
		chan_reply(c, m->hdr->type + 1, m->hdr->id, -EOPNOTSUPP,
			   "unknown message");
	return false;
}

/* Ten seconds' allowance of what nobody asked for. */
static bool over_allowance(struct chan *c)
{
	uint64_t now = loop_now(ctl.loop);

	if (now - c->refill_ns > 10 * NS_PER_S) {
		c->refill_ns = now;
		c->spent = 0;
	}
	return ++c->spent > UNASKED_MAX;
}

static void on_read(struct loop_fd *f, uint32_t events)
{
	struct chan *c = container_of(f, struct chan, rd);
	struct msg m;

	(void)events;
	for (int i = 0; i < CHAN_PER_PASS && f->fd >= 0; i++) {
		int r = read_msg(f->fd, &c->in, &m);

		if (!c->greeted)	/* a dead daemon's conversation */
			c->skipped = c->in.skipped;
		if (c->in.skipped - c->skipped > SKIPPED_MAX) {
			mute(c, "it sends garbage");
			return;
		}
		if (r == 0)
			return;
		if (r < 0) {
			closed(c, f);
			return;
		}
		if (!take(c, &m) && over_allowance(c)) {
			mute(c, "it floods its control pipe");
			return;
		}
	}
	if (f->fd >= 0)
		loop_timer_set(ctl.loop, &c->rest, 0);
}

static void read_rest(struct loop_timer *t)
{
	struct chan *c = container_of(t, struct chan, rest);

	if (c->rd.fd >= 0)
		on_read(&c->rd, 0);
}

const char *msg_why(const struct msg *m, int err, char *buf, size_t len)
{
	size_t n = m ? m->hdr->len : 0;

	if (n >= len)
		n = len - 1;
	for (size_t i = 0; i < n; i++) {
		char ch = ((const char *)m->body)[i];

		buf[i] = (unsigned char)ch < ' ' || ch == 0x7f ? '?' : ch;
	}
	buf[n] = '\0';
	return n ? buf : strerror(-err);
}
