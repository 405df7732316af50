/* gen_nbd.c - the generator's back end over NBD: one sendmsg a batch, as many
 * replies a recv as have come, simple replies only (every server has them).
 * Not a client to copy: it trusts the server. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "gen.h"

#define OPT_MAGIC	0x49484156454f5054ull	/* IHAVEOPT */
#define REP_MAGIC	0x0003e889045565a9ull
#define OPT_GO		7u
#define REP_ACK		1u
#define REP_INFO	3u
#define REQUEST_MAGIC	0x25609513u
#define REPLY_MAGIC	0x67446698u
#define CMD_READ	0u
#define CMD_WRITE	1u
#define CMD_DISC	2u
#define CMD_FLUSH	3u

#define REQUEST_LEN	28u
#define REPLY_LEN	16u
#define IN_SIZE		(512u << 10)

static struct gen_opts opt;
static int sock;
static char *data;
static unsigned char request[GEN_DEPTH_MAX][REQUEST_LEN];
static bool no_payload[GEN_DEPTH_MAX];	/* of the answer */
static struct iovec out[2 * GEN_DEPTH_MAX];
static unsigned nr_out;
static char in[IN_SIZE];
static size_t in_have;
/* The payload that is arriving. */
static char *body;
static size_t body_left;
static unsigned body_slot;

static int recv_all(void *buf, size_t len)
{
	for (size_t have = 0; have < len;) {
		ssize_t n = recv(sock, (char *)buf + have, len - have, 0);

		if (n <= 0)
			return n ? -errno : -EPIPE;
		have += (size_t)n;
	}
	return 0;
}

static int send_all(const void *buf, size_t len)
{
	return send(sock, buf, len, MSG_NOSIGNAL) == (ssize_t)len ? 0 : -EPIPE;
}

/* Fixed newstyle, GO with the default export. */
static int handshake(uint64_t *size)
{
	unsigned char b[64], go[16 + 6] = { 0 };
	char skip[4096];
	int err = recv_all(b, 18);

	if (!err)
		err = get_be64(b + 8) == OPT_MAGIC ? 0 : -EPROTO;
	put_be32(b, 3);			/* fixed newstyle, no zeroes */
	if (!err)
		err = send_all(b, 4);
	put_be64(go, OPT_MAGIC);
	put_be32(go + 8, OPT_GO);
	put_be32(go + 12, 6);		/* no name, no information asked for */
	if (!err)
		err = send_all(go, sizeof(go));
	while (!err) {
		uint32_t type, len;

		err = recv_all(b, 20);
		if (err)
			break;
		type = get_be32(b + 12);
		len = get_be32(b + 16);
		if (get_be64(b) != REP_MAGIC || len > sizeof(skip))
			return -EPROTO;
		err = recv_all(skip, len);
		if (err || type == REP_ACK)
			break;
		if (type != REP_INFO)
			return -EPROTO;
		if (!get_be16((unsigned char *)skip))
			*size = get_be64((unsigned char *)skip + 2);
	}
	return err;
}

static int nbd_open(const struct gen_opts *o, uint64_t *size)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	opt = *o;
	if (strlen(o->path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	strcpy(sa.sun_path, o->path);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&sa, sizeof(sa)))
		return -errno;
	data = gen_buffers(o);
	return data ? handshake(size) : -ENOMEM;
}

static void ask(unsigned slot, unsigned cmd, uint64_t offset, size_t len)
{
	unsigned char *r = request[slot];

	put_be32(r, REQUEST_MAGIC);
	put_be16(r + 4, 0);
	put_be16(r + 6, (uint16_t)cmd);
	put_be64(r + 8, slot);
	put_be64(r + 16, offset);
	put_be32(r + 24, (uint32_t)len);
	out[nr_out++] = (struct iovec){ r, REQUEST_LEN };
	no_payload[slot] = cmd != CMD_READ;
}

static int nbd_flush(unsigned slot)
{
	ask(slot, CMD_FLUSH, 0, 0);
	return 0;
}

static int nbd_queue(unsigned slot, uint64_t offset)
{
	ask(slot, opt.write ? CMD_WRITE : CMD_READ, offset, opt.bs);
	if (opt.write)
		out[nr_out++] = (struct iovec){ data + slot * opt.bs, opt.bs };
	return 0;
}

static int nbd_submit(void)
{
	struct iovec *v = out;

	while (nr_out) {
		struct msghdr m = { .msg_iov = v, .msg_iovlen = nr_out };
		ssize_t n = sendmsg(sock, &m, MSG_NOSIGNAL);

		if (n < 0)
			return -errno;
		while (nr_out && (size_t)n >= v->iov_len) {
			n -= (ssize_t)v->iov_len;
			v++;
			nr_out--;
		}
		if (nr_out) {
			v->iov_base = (char *)v->iov_base + n;
			v->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* Replies that lie whole in `in`; payloads are copied to their slots' buffers,
 * as a client that wants its data must. */
static int parse(unsigned *slots, unsigned max)
{
	unsigned char *p = (unsigned char *)in;
	size_t left = in_have;
	unsigned n = 0;

	while (n < max) {
		if (body_left) {
			size_t part = body_left < left ? body_left : left;

			memcpy(body, p, part);
			body += part;
			p += part;
			left -= part;
			body_left -= part;
			if (body_left)
				break;
			slots[n++] = body_slot;
			continue;
		}
		if (left < REPLY_LEN)
			break;
		body_slot = (unsigned)get_be64(p + 8);
		if (get_be32(p) != REPLY_MAGIC || body_slot >= opt.depth)
			return -EPROTO;
		if (get_be32(p + 4))
			return -EIO;
		p += REPLY_LEN;
		left -= REPLY_LEN;
		body = data + body_slot * opt.bs;
		body_left = no_payload[body_slot] ? 0 : opt.bs;
		if (!body_left)
			slots[n++] = body_slot;
	}
	memmove(in, p, left);
	in_have = left;
	return (int)n;
}

/* More bytes: spin for them first.  A long payload goes straight where it
 * belongs; what follows it comes into `in` with the same call. */
static int receive(void)
{
	struct iovec v[2] = { { body, body_left },
			      { in + in_have, IN_SIZE - in_have } };
	struct msghdr m = { .msg_iov = body_left ? v : v + 1,
			    .msg_iovlen = body_left ? 2 : 1 };
	uint64_t start = opt.poll_ns ? clock_ns() : 0, yielded = start;
	bool spin = opt.poll_ns;
	ssize_t n;

	do {
		n = recvmsg(sock, &m, spin ? MSG_DONTWAIT : 0);
		if (n < 0 && errno == EAGAIN &&
		    gen_spin(start, &yielded) >= start + opt.poll_ns)
			spin = false;
	} while (n < 0 && (errno == EAGAIN || errno == EINTR));
	if (n <= 0)
		return n ? -errno : -EPIPE;
	if (body_left) {
		size_t part = (size_t)n < body_left ? (size_t)n : body_left;

		body += part;
		body_left -= part;
		n -= (ssize_t)part;
	}
	in_have += (size_t)n;
	return 0;
}

static int nbd_wait(unsigned *slots, unsigned max)
{
	unsigned n = 0;

	for (;;) {
		bool had_body = body_left;
		int got, err;

		err = receive();
		if (err)
			return err;
		if (had_body && !body_left)
			slots[n++] = body_slot;
		got = parse(slots + n, max - n);
		if (got < 0)
			return got;
		n += (unsigned)got;
		if (n)
			return (int)n;
	}
}

static void nbd_close(void)
{
	unsigned char r[REQUEST_LEN] = { 0 };

	put_be32(r, REQUEST_MAGIC);
	put_be16(r + 6, CMD_DISC);
	(void)send_all(r, sizeof(r));
	close(sock);
}

const struct gen_backend gen_nbd = {
	.name = "nbd", .open = nbd_open, .queue = nbd_queue,
	.flush = nbd_flush, .submit = nbd_submit, .wait = nbd_wait, .close = nbd_close,
};
