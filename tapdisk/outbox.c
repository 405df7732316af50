/* outbox.c - see outbox.h. */
#include "outbox.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/kill_point.h"
#include "base/log.h"

#define OUT_MAX (256 * KiB)

static void disarm(struct outbox *b)
{
	if (b->armed)
		loop_fd_del(b->loop, &b->pipe);
	b->armed = false;
}

static void ready(struct loop_fd *f, uint32_t events)
{
	struct outbox *b = container_of(f, struct outbox, pipe);

	(void)events;
	if (msg_flush(b->pipe.fd, &b->queue) != 1)	/* sent, or nobody reads */
		disarm(b);
}

void outbox_init(struct outbox *b, struct loop *l, int fd)
{
	*b = (struct outbox){ .loop = l, .pipe = { .fd = fd, .fn = ready } };
	msg_queue_init(&b->queue, OUT_MAX);
}

void outbox_close(struct outbox *b)
{
	disarm(b);
	close(b->pipe.fd);
	msg_queue_free(&b->queue);
}

void outbox_forget(struct outbox *b)
{
	msg_queue_free(&b->queue);
}

int outbox_send(struct outbox *b, const struct msg_out *o)
{
	int err;

	if (kill_point_due("half-reply")) {
		if (write(b->pipe.fd, o, msg_size(o) / 2) >= 0)
			kill_point_die();
	}
	err = write_msg(b->pipe.fd, &b->queue, o);
	if (err && err != -EPIPE)
		log_warn("a message to blktapctrl was lost: %s", strerror(-err));
	if (!msg_queue_empty(&b->queue) && !b->armed)
		b->armed = !loop_fd_add(b->loop, &b->pipe, EPOLLOUT);
	return err;
}

void outbox_reply(struct outbox *b, uint16_t type, uint32_t id, const void *body,
		  size_t len)
{
	struct msg_out o;

	if (len)
		memcpy(o.body, body, len);
	msg_seal(&o, type + 1, 0, id, 0, (uint32_t)len);
	outbox_send(b, &o);
}

void outbox_fail(struct outbox *b, uint16_t type, uint32_t id, int err,
		 const char *why)
{
	struct msg_out o;
	size_t len;

	if (!why || !*why)
		why = strerror(-err);
	len = strnlen(why, TAP_TEXT_MAX);
	memcpy(o.body, why, len);
	msg_seal(&o, type + 1, 0, id, err, (uint32_t)len);
	outbox_send(b, &o);
}

void outbox_text(struct outbox *b, uint16_t type, uint32_t id, const char *text)
{
	size_t len = strlen(text);
	struct msg_out o;

	do {
		size_t n = min_u64(len, TAP_TEXT_MAX);

		memcpy(o.body, text, n);
		text += n;
		len -= n;
		msg_seal(&o, type + 1, len ? TAP_MORE : 0, id, 0, (uint32_t)n);
		if (outbox_send(b, &o))
			return;
	} while (len);
}
