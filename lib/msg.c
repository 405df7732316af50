/* msg.c - see msg.h.
 *
 * Programs that use it ignore SIGPIPE: a pipe has no MSG_NOSIGNAL.
 *
 * I1  Whatever is in msg_in.buf, a message that msg_next() returns begins at
 *     buf[0], so that its header and its body are aligned.
 * I2  have <= sizeof(buf), and there is room to read on whenever msg_next()
 *     answers 0: a message is at most half of buf.
 * I3  head of a msg_queue is always the beginning of a message; `part` bytes of
 *     it have been sent (stream sockets alone take parts).
 */
#include "msg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <zlib.h>

#include "base/log.h"

#define MAX_BODY (TAP_MSG_MAX - sizeof(struct tap_hdr))

/* Reads that one read_msg() may spend on what is no message. */
#define MAX_READS 16

static uint32_t checksum(const struct tap_hdr *hdr, const void *body)
{
	struct tap_hdr h = *hdr;
	uLong crc;

	h.crc = 0;
	crc = crc32(0, (const Bytef *)&h, sizeof(h));
	return (uint32_t)crc32(crc, body, h.len);
}

void msg_in_reset(struct msg_in *in)
{
	in->skipped += in->have - in->done;
	in->have = in->done = 0;
}

static void drop(struct msg_in *in, size_t n)
{
	memmove(in->buf, in->buf + n, in->have - n);
	in->have -= n;
}

/* Skip to what may be a header: at least one byte further. */
static void skip(struct msg_in *in)
{
	static const uint32_t magic = TAP_MAGIC;
	size_t at = 1;

	while (at < in->have) {
		size_t n = in->have - at;

		if (!memcmp(in->buf + at, &magic, n < 4 ? n : 4))
			break;
		at++;
	}
	in->skipped += at;
	drop(in, at);
}

/* What stands at buf[0]?  1 a message, 0 perhaps the beginning of one,
 * -EBADMSG neither. */
static int look(const struct msg_in *in)
{
	static const uint32_t magic = TAP_MAGIC;
	const struct tap_hdr *h = (const struct tap_hdr *)in->buf;

	if (memcmp(in->buf, &magic, in->have < 4 ? in->have : 4))
		return -EBADMSG;
	if (in->have < sizeof(*h))
		return 0;
	if (h->version != TAP_VERSION || h->len > MAX_BODY)
		return -EBADMSG;
	if (in->have < sizeof(*h) + h->len)
		return 0;
	return checksum(h, in->buf + sizeof(*h)) == h->crc ? 1 : -EBADMSG;
}

int msg_next(struct msg_in *in, struct msg *m)
{
	if (in->done) {
		drop(in, in->done);
		in->done = 0;
	}
	while (in->have) {
		int r = look(in);

		if (r == 0)
			return 0;
		if (r < 0) {
			skip(in);
			continue;
		}
		m->hdr = (const struct tap_hdr *)in->buf;
		m->body = in->buf + sizeof(*m->hdr);
		in->done = sizeof(*m->hdr) + m->hdr->len;
		return 1;
	}
	return 0;
}

/* A sender may put more than one descriptor: all must be seen, to be closed. */
#define MAX_FDS 4
union fd_cmsg {
	struct cmsghdr align;
	char buf[CMSG_SPACE(MAX_FDS * sizeof(int))];
};

/* Take the descriptors out of mh: the first is kept, the number returned. */
static int take_fds(struct msghdr *mh, int *fd)
{
	int count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int f;

			memcpy(&f, CMSG_DATA(c) + i * sizeof(f), sizeof(f));
			if (count++)
				close(f);
			else
				*fd = f;
		}
	}
	return count;
}

/* One more descriptor of a message on its way; -EBADMSG: too many. */
static int keep_fd(struct msghdr *mh, struct msg_fds *fds)
{
	int fd, count = take_fds(mh, &fd);

	if (!count && !(mh->msg_flags & MSG_CTRUNC))
		return 0;
	if (count == 1 && !(mh->msg_flags & MSG_CTRUNC) && fds->n < MSG_FDS_MAX) {
		fds->fd[fds->n++] = fd;
		return 0;
	}
	if (count)
		close(fd);
	return -EBADMSG;
}

static ssize_t get(int fd, void *buf, size_t len, struct msg_fds *fds)
{
	union fd_cmsg u;
	struct iovec iov = { buf, len };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	ssize_t n;
	int err;

	do
		n = fds ? recvmsg(fd, &mh, MSG_CMSG_CLOEXEC) : read(fd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	err = fds ? keep_fd(&mh, fds) : 0;
	return err ? err : n;
}

int read_msg_fds(int fd, struct msg_in *in, struct msg *m, struct msg_fds *fds)
{
	for (int i = 0;; i++) {
		ssize_t n;

		if (msg_next(in, m))
			return 1;
		if (i == MAX_READS)
			return 0;
		ASSERT(in->have < sizeof(in->buf));		/* I2 */
		n = get(fd, in->buf + in->have, sizeof(in->buf) - in->have, fds);
		if (n < 0)
			return n == -EAGAIN ? 0 : (int)n;
		if (n == 0)
			return -EPIPE;
		in->have += (size_t)n;
	}
}

int read_msg(int fd, struct msg_in *in, struct msg *m)
{
	return read_msg_fds(fd, in, m, NULL);
}

int msg_fds_take(struct msg_fds *fds)
{
	int fd = fds->n ? fds->fd[0] : -1;

	if (fds->n)
		memmove(fds->fd, fds->fd + 1, --fds->n * sizeof(fds->fd[0]));
	return fd;
}

void msg_fds_close(struct msg_fds *fds)
{
	while (fds->n)
		close(fds->fd[--fds->n]);
}

void msg_seal(struct msg_out *o, uint16_t type, uint8_t flags, uint32_t id,
	      int32_t status, uint32_t len)
{
	ASSERT(len <= MAX_BODY);
	o->hdr = (struct tap_hdr){
		.magic = TAP_MAGIC, .version = TAP_VERSION, .flags = flags,
		.type = type, .id = id, .status = status, .len = len,
	};
	o->hdr.crc = checksum(&o->hdr, o->body);
}

void msg_queue_init(struct msg_queue *q, size_t max)
{
	*q = (struct msg_queue){ .max = max };
}

void msg_queue_free(struct msg_queue *q)
{
	free(q->buf);
	msg_queue_init(q, q->max);
}

/* Room for n bytes more at tail. */
static int queue_grow(struct msg_queue *q, size_t n)
{
	size_t used = q->tail - q->head, room = q->room ? q->room : TAP_MSG_MAX;
	uint8_t *buf;

	if (used + n > q->max)
		return -ENOBUFS;
	if (q->head) {
		memmove(q->buf, q->buf + q->head, used);
		q->head = 0;
		q->tail = used;
	}
	while (room < used + n)
		room *= 2;
	if (room == q->room)
		return 0;
	buf = realloc(q->buf, room);
	if (!buf)
		return -ENOMEM;
	q->buf = buf;
	q->room = room;
	return 0;
}

static ssize_t put(int fd, const void *buf, size_t len)
{
	ssize_t n;

	do
		n = write(fd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

int write_msg(int fd, struct msg_queue *q, const struct msg_out *o)
{
	size_t size = msg_size(o);
	ssize_t sent;
	int err;

	if (!msg_queue_empty(q)) {
		err = msg_flush(fd, q);
		if (err < 0)
			return err;
	}
	/* Room first: once a part is sent, the rest must find a place. */
	err = queue_grow(q, size);
	if (err)
		return err;
	sent = msg_queue_empty(q) ? put(fd, o, size) : 0;
	if (sent < 0)
		return (int)sent;
	if ((size_t)sent == size)
		return 0;
	if (msg_queue_empty(q))
		q->part = (size_t)sent;
	memcpy(q->buf + q->tail, o, size);
	q->tail += size;
	return 0;
}

int msg_flush(int fd, struct msg_queue *q)
{
	while (!msg_queue_empty(q)) {
		struct tap_hdr h;
		size_t size;
		ssize_t n;

		memcpy(&h, q->buf + q->head, sizeof(h));	/* I3 */
		size = sizeof(h) + h.len;
		n = put(fd, q->buf + q->head + q->part, size - q->part);
		if (n < 0)
			return (int)n;
		q->part += (size_t)n;
		if (q->part < size)
			return 1;
		q->head += size;
		q->part = 0;
	}
	q->head = q->tail = 0;
	return 0;
}

int msg_text(const struct msg *m, size_t off, char *buf, size_t len)
{
	const char *text = (const char *)m->body + off;
	size_t n = m->hdr->len - off;

	if (off > m->hdr->len || n > TAP_TEXT_MAX || n >= len || memchr(text, 0, n))
		return -EBADMSG;
	memcpy(buf, text, n);
	buf[n] = '\0';
	return 0;
}

/* 0, or -errno. */
static int send_fd(int sock, const void *buf, size_t len, int fd)
{
	union fd_cmsg u = { 0 };
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = CMSG_SPACE(sizeof(fd)),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	do
		n = sendmsg(sock, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)len ? 0 : -EIO;
}

int msg_send_fd(int sock, const struct tap_fd_msg *fm, int fd)
{
	return send_fd(sock, fm, sizeof(*fm), fd);
}

int write_msg_fd(int sock, const struct msg_out *o, int fd)
{
	return send_fd(sock, o, msg_size(o), fd);
}

int msg_recv_fd(int sock, struct tap_fd_msg *fm, int *fd)
{
	union fd_cmsg u;
	struct iovec iov = { fm, sizeof(*fm) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = u.buf, .msg_controllen = sizeof(u.buf),
	};
	ssize_t n;
	int count;

	*fd = -1;
	do
		n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	count = take_fds(&mh, fd);
	if (n == 0 && !count)
		return -EPIPE;
	if (n == (ssize_t)sizeof(*fm) && fm->magic == TAP_MAGIC && count == 1 &&
	    !(mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return 1;
	if (count)
		close(*fd);
	*fd = -1;
	return -EBADMSG;
}
