/* nbd_client.c - one client's life: its socket, its phases, its place as a
 * front of the disk.
 *
 * Input: one recvmsg(2) a readiness, into the rest of a write's payload (if one
 * is on its way) and the receive buffer behind it.  Output: replies collect on
 * c->out and leave with one sendmsg(2) a pass of the loop (nbd_server.c).
 *
 * A client that does not read, or sends half of something, stops only itself:
 * what it may hold of us is bounded (I3, NBD_OPS), and outside transmission it
 * has a time limit.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <jansson.h>

#include "base/bytes.h"
#include "base/letgo.h"
#include "base/log.h"
#include "export/nbd/nbd_priv.h"
#include "export/nbd/nbd_proto.h"

#define SEND_IOV 256
#define SOCKET_BUFFER (4 << 20)	/* asked for; the system's limit is what we get */

#define B(x) (1u << NBD_##x)
static const struct {
	const char *name;
	unsigned to;
} phases[NBD_PHASES] = {
	[NBD_FLAGS]	= { "flags", B(OPTIONS) | B(CLOSING) | B(DEAD) },
	[NBD_OPTIONS]	= { "options", B(TRANSMISSION) | B(CLOSING) | B(DEAD) },
	[NBD_TRANSMISSION] = { "transmission", B(LEAVING) | B(CLOSING) | B(DEAD) },
	[NBD_LEAVING]	= { "leaving", B(CLOSING) | B(DEAD) },
	[NBD_CLOSING]	= { "closing", B(DEAD) },
	[NBD_DEAD]	= { "dead", 0 },
};

static bool handshaking(const struct nbd_client *c)
{
	return c->phase == NBD_FLAGS || c->phase == NBD_OPTIONS;
}

static bool sent_all(const struct nbd_client *c)
{
	return c->neg.out_pos == c->neg.out_len && list_empty(&c->out);
}

/* May requests or options be taken from it now? */
static bool reading(const struct nbd_client *c)
{
	switch (c->phase) {
	case NBD_FLAGS:
	case NBD_OPTIONS:
	case NBD_TRANSMISSION:
		return !c->held && !c->choked;
	case NBD_LEAVING:
		return !c->choked;
	default:
		return false;
	}
}

void nbd_client_enter(struct nbd_client *c, enum nbd_phase next)
{
	ASSERT(phases[c->phase].to & (1u << next));
	log_dbg(LOG_NBD, "nbd client %u: %s -> %s", c->number,
		phases[c->phase].name, phases[next].name);
	c->phase = next;
	switch (next) {
	case NBD_TRANSMISSION:
		loop_timer_clear(&c->timer);
		break;
	case NBD_LEAVING:
		loop_timer_set(c->s->loop, &c->timer, NBD_LEAVE_NS);
		break;
	case NBD_CLOSING:
		loop_timer_set(c->s->loop, &c->timer, NBD_LINGER_NS);
		break;
	case NBD_DEAD:
		loop_timer_clear(&c->timer);
		list_del(&c->push);
		break;
	default:
		break;
	}
}

void nbd_client_drop(struct nbd_client *c, const char *why)
{
	static struct log_limit limit;

	if (c->phase == NBD_DEAD)
		return;
	if (why && log_allowed(&limit))
		log_warn("nbd client %u: cut off: %s", c->number, why);
	loop_poll_fds(c->s->loop, -1);
	loop_fd_del(c->s->loop, &c->fd);
	letgo_socket(c->fd.fd);
	nbd_client_enter(c, NBD_DEAD);
	nbd_requests_drop(c);
	nbd_buf_put(&c->s->bufs, c->rbuf, NBD_RBUF);
	c->rbuf = NULL;
}

void nbd_client_free(struct nbd_client *c)
{
	struct nbd_server *s = c->s;

	ASSERT(c->phase == NBD_DEAD && !c->inflight);	/* I2 */
	if (c->attached)
		disk_front_del(&c->front);
	loop_work_cancel(&c->reap);
	nbd_transmission_end(c);
	list_del(&c->link);
	free(c);
	nbd_server_left(s);
}

static void client_reap(struct loop_work *w)
{
	nbd_client_free(container_of(w, struct nbd_client, reap));
}

void nbd_client_settle(struct nbd_client *c)
{
	uint32_t want;

	if (c->phase == NBD_CLOSING && !c->inflight && sent_all(c))
		nbd_client_drop(c, NULL);
	if (c->phase == NBD_DEAD) {
		if (!c->inflight)
			loop_defer(c->s->loop, &c->reap);
		return;
	}
	if (c->rbuf && c->rpos == c->rend) {
		nbd_buf_put(&c->s->bufs, c->rbuf, NBD_RBUF);
		c->rbuf = NULL;
		c->rpos = c->rend = 0;
	}
	if (((!sent_all(c) && !c->blocked) || c->paced) && list_empty(&c->push))
		list_add(&c->s->dirty, &c->push);
	want = (reading(c) ? EPOLLIN : 0) | (c->blocked ? EPOLLOUT : 0);
	if (want != c->events) {
		loop_fd_mod(c->s->loop, &c->fd, want);
		c->events = want;
	}
}

/* ---- output ---- */

/* Take n sent bytes off the head of what waits. */
static void sent(struct nbd_client *c, size_t n)
{
	size_t k = min_u64(n, c->neg.out_len - c->neg.out_pos);

	c->neg.out_pos += k;
	n -= k;
	if (c->neg.out_pos == c->neg.out_len)
		c->neg.out_pos = c->neg.out_len = 0;
	while (n) {
		struct nbd_op *op = list_first(&c->out, struct nbd_op, link);

		for (unsigned i = 0; i < 2; i++) {
			k = min_u64(n, op->out[i].iov_len);
			if (!k)
				continue;
			op->out[i].iov_base = (char *)op->out[i].iov_base + k;
			op->out[i].iov_len -= k;
			n -= k;
		}
		if (op->out[0].iov_len || op->out[1].iov_len)
			break;
		list_del(&op->link);
		nbd_op_sent(op);
	}
}

static unsigned gather(struct nbd_client *c, struct iovec *iov, size_t *total)
{
	unsigned n = 0;

	*total = 0;
	if (c->neg.out_pos != c->neg.out_len) {
		iov[n].iov_base = c->neg.out + c->neg.out_pos;
		iov[n].iov_len = c->neg.out_len - c->neg.out_pos;
		*total += iov[n++].iov_len;
	}
	list_for_each(e, &c->out) {
		struct nbd_op *op = container_of(e, struct nbd_op, link);

		if (n > SEND_IOV - 2)
			break;
		for (unsigned i = 0; i < 2; i++) {
			if (!op->out[i].iov_len)
				continue;
			iov[n] = op->out[i];
			*total += iov[n++].iov_len;
		}
	}
	return n;
}

void nbd_client_send(struct nbd_client *c)
{
	struct iovec iov[SEND_IOV];

	while (c->phase != NBD_DEAD && !c->blocked && !sent_all(c)) {
		struct msghdr m = { .msg_iov = iov };
		size_t total;
		ssize_t n;

		m.msg_iovlen = gather(c, iov, &total);
		n = sendmsg(c->fd.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n >= 0) {
			sent(c, (size_t)n);
			c->blocked = (size_t)n < total;
		} else if (errno == EAGAIN) {
			c->blocked = true;
		} else if (errno != EINTR) {
			nbd_client_drop(c, NULL);	/* EPIPE: it has left */
		}
	}
}

/* ---- input ---- */

static void options(struct nbd_client *c)
{
	struct nbd_export x;

	nbd_export_now(c->s, &x);
	while (c->phase == NBD_OPTIONS) {
		const uint8_t *p;
		size_t have = c->rend - c->rpos;
		uint32_t opt, len, k = (uint32_t)min_u64(have, c->skip);
		bool whole;

		c->rpos += k;
		c->skip -= k;
		if (k)
			continue;
		c->choked = sizeof(c->neg.out) - c->neg.out_len < NBD_OPT_REPLIES;
		if (c->skip || c->choked || have < NBD_OPT_LEN)
			return;
		p = c->rbuf + c->rpos;
		opt = get_be32(p + 8);
		len = get_be32(p + 12);
		if (get_be64(p) != NBD_MAGIC_OPT || len > NBD_OPT_DATA_CUT) {
			nbd_client_drop(c, "that is no option of the protocol");
			return;
		}
		whole = len <= NBD_OPT_DATA_MAX;
		if (whole && have < NBD_OPT_LEN + len)
			return;
		c->rpos += NBD_OPT_LEN + (whole ? len : 0);
		c->skip = whole ? 0 : len;
		switch (nbd_option(&c->neg, &x, opt, whole ? p + NBD_OPT_LEN : NULL,
				   len)) {
		case NBD_OPT_NEXT:
			break;
		case NBD_OPT_ENTER:
			if (nbd_transmission_start(c))
				nbd_client_drop(c, "out of memory");
			else
				nbd_client_enter(c, NBD_TRANSMISSION);
			break;
		case NBD_OPT_LEAVE:
			nbd_client_enter(c, NBD_CLOSING);
			break;
		case NBD_OPT_CUT:
			nbd_client_drop(c, "an option that cannot be answered");
			break;
		}
	}
}

void nbd_client_parse(struct nbd_client *c)
{
	if (c->held && c->phase != NBD_LEAVING)
		return;
	if (c->phase == NBD_FLAGS && c->rend - c->rpos >= NBD_CLIENT_FLAGS_LEN) {
		uint32_t flags = get_be32(c->rbuf + c->rpos);

		c->rpos += NBD_CLIENT_FLAGS_LEN;
		if (nbd_client_flags(&c->neg, flags) == NBD_OPT_CUT)
			nbd_client_drop(c, "unknown handshake flags");
		else
			nbd_client_enter(c, NBD_OPTIONS);
	}
	if (c->phase == NBD_OPTIONS)
		options(c);
	if (c->phase == NBD_TRANSMISSION || c->phase == NBD_LEAVING)
		nbd_requests(c);
}

static void client_recv(struct nbd_client *c)
{
	struct iovec iov[2];
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 1 };
	bool payload = nbd_payload_room(c, &iov[0]);
	size_t room, k;
	unsigned fds;
	ssize_t n;

	if (!c->rbuf)
		c->rbuf = nbd_buf_get(&c->s->bufs, NBD_RBUF);
	if (!c->rbuf) {
		nbd_client_drop(c, "out of memory");
		return;
	}
	if (c->rpos) {		/* less than one request, or one option, is left */
		memmove(c->rbuf, c->rbuf + c->rpos, c->rend - c->rpos);
		c->rend -= c->rpos;
		c->rpos = 0;
	}
	room = c->bulk ? min_u64(NBD_RBUF_BULK, NBD_RBUF - c->rend) :
		NBD_RBUF - c->rend;
	ASSERT(room);
	m.msg_iovlen = payload ? 2 : 1;
	iov[payload] = (struct iovec){ c->rbuf + c->rend, room };
	n = letgo_recv(c->fd.fd, &m, NULL, &fds);
	if (n < 0) {
		if (n != -EAGAIN && n != -EINTR)
			nbd_client_drop(c, NULL);
		return;
	}
	if (fds || m.msg_flags & MSG_CTRUNC) {
		nbd_client_drop(c, "it sent descriptors");
		return;
	}
	if (!n) {		/* no good-bye; whoever has asked gets answers */
		if (handshaking(c))
			nbd_client_drop(c, NULL);
		else
			nbd_client_enter(c, NBD_CLOSING);
		return;
	}
	k = payload ? min_u64((size_t)n, iov[0].iov_len) : 0;
	c->rend += (size_t)n - k;
	if (k)
		nbd_payload_got(c, k);
	nbd_client_parse(c);
}

static void client_event(struct loop_fd *f, uint32_t events)
{
	struct nbd_client *c = container_of(f, struct nbd_client, fd);

	if (events & EPOLLOUT) {
		c->blocked = false;
		nbd_client_send(c);
		if (c->choked)
			nbd_client_parse(c);
	}
	if (c->paced)
		;		/* it has had its share of this pass */
	else if (reading(c) && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		client_recv(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		nbd_client_drop(c, NULL);	/* it hears no answer any more */
	nbd_client_settle(c);
}

static void client_timeout(struct loop_timer *t)
{
	struct nbd_client *c = container_of(t, struct nbd_client, timer);

	nbd_client_drop(c, handshaking(c) ? "the handshake took too long" :
			c->phase == NBD_CLOSING && !c->inflight ?
			"it does not read answers" : NULL);
	nbd_client_settle(c);
}

/* ---- front of the disk ---- */

static void front_quiesce(struct disk_front *f)
{
	struct nbd_client *c = container_of(f, struct nbd_client, front);

	c->held = true;
	if (handshaking(c))
		loop_timer_clear(&c->timer);	/* it is we who delay it */
	nbd_client_settle(c);
}

static void front_resume(struct disk_front *f)
{
	struct nbd_client *c = container_of(f, struct nbd_client, front);

	c->held = false;
	if (handshaking(c))
		loop_timer_set(c->s->loop, &c->timer, NBD_HANDSHAKE_NS);
	if (c->front.pool && disk_front_bind(&c->front))
		nbd_client_drop(c, "out of memory");
	nbd_client_parse(c);
	nbd_client_settle(c);
}

static void front_resized(struct disk_front *f)
{
	(void)f;	/* each request is checked against the size that is */
}

static void front_disconnect(struct disk_front *f)
{
	struct nbd_client *c = container_of(f, struct nbd_client, front);

	ASSERT(!c->inflight);
	disk_front_del(f);
	c->attached = false;
	if (handshaking(c)) {
		nbd_client_drop(c, NULL);
	} else if (c->phase == NBD_TRANSMISSION) {
		nbd_client_enter(c, NBD_LEAVING);
		nbd_client_parse(c);
	}
	nbd_client_settle(c);
}

static void front_stats(struct disk_front *f, struct json_t *into)
{
	struct nbd_client *c = container_of(f, struct nbd_client, front);

	json_object_set_new(into, "phase", json_string(phases[c->phase].name));
	json_object_set_new(into, "requests", json_integer((json_int_t)c->requests));
	json_object_set_new(into, "inflight", json_integer(c->inflight));
	json_object_set_new(into, "unanswered", json_integer(c->busy));
	json_object_set_new(into, "buffered", json_integer((json_int_t)c->charged));
}

static const struct disk_front_ops front_ops = {
	.name		= "nbd",
	.quiesce	= front_quiesce,
	.resume		= front_resume,
	.resized	= front_resized,
	.disconnect	= front_disconnect,
	.stats		= front_stats,
};

int nbd_client_new(struct nbd_server *s, int fd)
{
	struct nbd_client *c = calloc(1, sizeof(*c));
	int size = SOCKET_BUFFER, err = -ENOMEM;

	if (!c)
		goto fail_fd;
	/* Replies of a megabyte go out in fewer, larger pieces.  Best effort. */
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	c->s = s;
	c->number = ++s->numbers;
	c->phase = NBD_FLAGS;
	c->front.ops = &front_ops;
	c->fd = (struct loop_fd){ .fd = fd, .fn = client_event };
	c->held = !disk_running(s->disk);
	list_init(&c->push);
	list_init(&c->out);
	loop_timer_init(&c->timer, client_timeout);
	loop_work_init(&c->reap, client_reap);
	c->events = c->held ? 0 : EPOLLIN;
	err = loop_fd_add(s->loop, &c->fd, c->events);
	if (err)
		goto fail_client;
	loop_poll_fds(s->loop, 1);
	if (!c->held)
		loop_timer_set(s->loop, &c->timer, NBD_HANDSHAKE_NS);
	list_add(&s->clients, &c->link);
	s->nclients++;
	disk_front_add(s->disk, &c->front);
	c->attached = true;
	nbd_greet(&c->neg);
	nbd_client_settle(c);
	return 0;

fail_client:
	free(c);
fail_fd:
	close(fd);
	return err;
}
