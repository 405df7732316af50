/* outbox.h - what a tapdisk says to blktapctrl: messages on their way into a pipe that
 * may be full, or have nobody at its other end.
 *
 * What does not fit waits, up to 256 KiB; more is lost, with a line in the log.  Of the
 * loop's thread.
 */
#ifndef OUTBOX_H
#define OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop/loop.h"
#include "msg.h"

struct outbox {
	struct loop *loop;
	struct loop_fd pipe;
	struct msg_queue queue;
	bool armed;		/* waiting for room in the pipe */
};

/* fd is the outbox's from now on. */
void outbox_init(struct outbox *b, struct loop *l, int fd);
void outbox_close(struct outbox *b);
/* What waits is for a daemon that is gone. */
void outbox_forget(struct outbox *b);

/* 0, or -errno: it is lost. */
int outbox_send(struct outbox *b, const struct msg_out *o);
/* Answers to the request of that type and id.  why: NULL or "": as strerror says. */
void outbox_reply(struct outbox *b, uint16_t type, uint32_t id, const void *body,
		  size_t len);
void outbox_fail(struct outbox *b, uint16_t type, uint32_t id, int err,
		 const char *why);
/* Text of any length, in as many messages as it takes. */
void outbox_text(struct outbox *b, uint16_t type, uint32_t id, const char *text);

#endif
