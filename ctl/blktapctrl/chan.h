/* chan.h - the channel to one tapdisk: two pipes and the descriptors' socket.
 *
 * Calls go out with an id and are answered, in any order, or end with the
 * channel.  What comes in is not trusted: it faced guests.  A tapdisk that
 * sends garbage, or floods, is no longer listened to (mute).
 *
 * I1  Nothing but HELLO_RSP of our epoch counts before `greeted`; greeted needs
 *     both that and the kernel's word for who is there (peer).
 * I2  Each call's done() runs with its last answer, or with -EPIPE, and the call
 *     is off the list by then: done() may make it again.
 */
#ifndef CTL_CHAN_H
#define CTL_CHAN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "loop/loop.h"
#include "msg.h"

struct call {
	struct list link;
	uint32_t id;
	uint16_t type;		/* of the request */
	bool parts;		/* its answer may come in several messages, all but
				 * the last with TAP_MORE; else the first is all */
	/* err: the answer's status, or -EPIPE and m is NULL. */
	void (*done)(struct call *c, int err, const struct msg *m);
};

struct chan;
struct chan_ops {
	/* The tapdisk has proved who it is; once, and again whenever a later
	 * HELLO is answered. */
	void (*hello)(struct chan *c, const struct tap_hello_rsp *h,
		      const char *spec);
	/* It asks for a file.  False: it should not have. */
	bool (*file)(struct chan *c, uint32_t id, const struct tap_file_ask *a,
		     const char *path);
	/* A key has come on its socket, fd is the receiver's.  False: as above. */
	bool (*key)(struct chan *c, uint32_t id, int fd);
	/* It has stopped the rings of a guest.  False: it had none of that guest. */
	bool (*xen_broken)(struct chan *c, const struct tap_xen_vbd *vbd,
			   const char *why);
	/* It has closed its ends, or talks nonsense and is mute now. */
	void (*broken)(struct chan *c, const char *why, bool nonsense);
};

struct chan {
	const struct chan_ops *ops;
	struct loop_fd rd, wr, fd;
	struct msg_in in;
	struct msg_queue out;
	struct list fds;	/* descriptors that wait until `fd` takes them */
	struct list calls;
	uint32_t next_id;
	int number;		/* of the names */
	bool wr_waits;		/* EPOLLOUT is asked for */
	bool greeted, answered, mute;
	pid_t peer;		/* 0: unknown yet */
	/* The last HELLO_RSP (a struct that ends in an array cannot stand in the
	 * middle of another). */
	_Alignas(struct tap_hello_rsp) uint8_t rsp[sizeof(struct tap_hello_rsp)];
	char spec[TAP_TEXT_MAX + 1];
	struct loop_timer again;	/* the next HELLO */
	struct loop_timer rest;	/* read on: what is in `in` wakes nobody */
	uint64_t refill_ns;	/* when the allowance began anew */
	unsigned spent;		/* messages of it that nobody asked for */
	uint64_t skipped;
};

/* All ends closed. */
void chan_init(struct chan *c, const struct chan_ops *ops);
/* Open the pipes of `number`.  wr_flags: O_RDWR for one that is yet to be
 * started, O_WRONLY for one that lives (-ENXIO: it does not). */
int chan_open(struct chan *c, int number, int wr_flags);
/* Connect and say hello every 500 ms until it is answered. */
void chan_hello(struct chan *c);
void chan_close(struct chan *c);	/* ends calls with -EPIPE */
static inline bool chan_is_open(const struct chan *c)
{
	return c->rd.fd >= 0;
}

/* Send a request; its answer goes to call->done.  0 or -errno. */
int chan_call(struct chan *c, struct call *call, uint16_t type, const void *body,
	      size_t len);
void chan_forget(struct call *call);	/* its answers are dropped */
int chan_reply(struct chan *c, uint16_t type, uint32_t id, int status,
	       const char *why);
/* What chan_call() gives its next call. */
static inline uint32_t chan_next_id(const struct chan *c)
{
	return c->next_id + 1;
}
/* The descriptors' socket, if it is not connected; a failure is told by its use. */
void chan_connect(struct chan *c);
/* Now, or when there is room; fd stays the caller's. */
int chan_send_fd(struct chan *c, enum tap_fd_kind kind, uint32_t id, int fd);
/* The same with all that the message says. */
int chan_send_fd_msg(struct chan *c, const struct tap_fd_msg *fm, int fd);

/* The payload of a failed reply as text, or strerror(): into buf. */
const char *msg_why(const struct msg *m, int err, char *buf, size_t len);

#endif
