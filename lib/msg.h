/* msg.h - read_msg() and write_msg(): the framing of include/tap_proto.h.
 *
 * Nothing here blocks, allocates on the way, or trusts the other end.
 */
#ifndef MSG_H
#define MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tap_proto.h"

/* Bytes that have come in and were not a whole message yet.  A reader that
 * finds no valid header, a length over the limit or a wrong checksum skips to
 * the next magic: half a message, cut off by a death, costs nothing but
 * itself. */
struct msg_in {
	size_t have;
	size_t done;		/* bytes of the message last returned */
	uint64_t skipped;	/* bytes that belonged to no message */
	_Alignas(8) uint8_t buf[2 * TAP_MSG_MAX];
};

struct msg {
	const struct tap_hdr *hdr;	/* in the reader's buffer: valid until the */
	const void *body;		/* next read_msg(); hdr->len bytes, aligned */
};

void msg_in_reset(struct msg_in *in);	/* end of file: framing starts anew */

/* The next message of what fd has.  1: *m is one; 0: nothing more now (EAGAIN,
 * or so much garbage that others shall have their turn: wait for fd by level,
 * not by edge); -EPIPE: end of file; or -errno.  Callers ignore SIGPIPE. */
int read_msg(int fd, struct msg_in *in, struct msg *m);

/* The same of a socket on which descriptors come as well: they are put behind
 * those that fds has, at most one with each message.  More, or more than there is
 * room for: -EBADMSG. */
#define MSG_FDS_MAX 16
struct msg_fds {
	int fd[MSG_FDS_MAX];
	unsigned n;
};
int read_msg_fds(int sock, struct msg_in *in, struct msg *m, struct msg_fds *fds);
int msg_fds_take(struct msg_fds *fds);	/* the first; -1: none */
void msg_fds_close(struct msg_fds *fds);

/* The same from memory, for tests and fuzzing: appends nothing. */
int msg_next(struct msg_in *in, struct msg *m);

/* One whole message, built in place.  len <= TAP_MSG_MAX - header: asserted. */
struct msg_out {
	_Alignas(8) struct tap_hdr hdr;
	uint8_t body[TAP_MSG_MAX - sizeof(struct tap_hdr)];
};
void msg_seal(struct msg_out *o, uint16_t type, uint8_t flags, uint32_t id,
	      int32_t status, uint32_t len);
static inline size_t msg_size(const struct msg_out *o)
{
	return sizeof(o->hdr) + o->hdr.len;
}

/* Messages that wait until fd takes them.  At most `max` bytes wait; over that
 * write_msg() answers -ENOBUFS and queues nothing. */
struct msg_queue {
	uint8_t *buf;
	size_t head, tail, room, max;
	size_t part;		/* of the first message: sent already */
};
void msg_queue_init(struct msg_queue *q, size_t max);
void msg_queue_free(struct msg_queue *q);
static inline bool msg_queue_empty(const struct msg_queue *q)
{
	return q->head == q->tail;
}

/* Send now what fd takes, whole messages at a time on pipes, and queue the
 * rest.  0 (sent or queued), -ENOBUFS, -EPIPE or -errno. */
int write_msg(int fd, struct msg_queue *q, const struct msg_out *o);
/* Send what waits.  0 all is sent, 1 some still waits, or -errno. */
int msg_flush(int fd, struct msg_queue *q);

/* Text of a payload, made a string: at most TAP_TEXT_MAX bytes from `off` on,
 * without NULs inside.  -EBADMSG if it is not such a text. */
int msg_text(const struct msg *m, size_t off, char *buf, size_t len);

/* A whole message and a descriptor at once: 0, -EAGAIN or -errno. */
int write_msg_fd(int sock, const struct msg_out *o, int fd);

/* Descriptors: one struct tap_fd_msg with one descriptor. */
int msg_send_fd(int sock, const struct tap_fd_msg *fm, int fd);
/* *fd is the receiver's.  1, 0 (EAGAIN), -EPIPE (end), -EBADMSG, -errno. */
int msg_recv_fd(int sock, struct tap_fd_msg *fm, int *fd);

#endif
