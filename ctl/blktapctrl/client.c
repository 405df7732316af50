/* client.c - see client.h.
 *
 * I1  A client is freed only by clean_up(), from the loop, so that whoever
 *     answers it may go on using it until then.
 * I2  Each ask of a client is on its list until its last answer; a client that
 *     goes leaves them behind with client = NULL.
 */
#include "client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "ctl.h"
#include "loop/accept.h"
#include "msg.h"
#include "names.h"
#include "verbs.h"

#define CLIENT_QUEUE_MAX (1024 * 1024)
#define LIST_LEVEL (32 * 1024)	/* no more of a list than this waits */
#define IDLE_NS (20 * NS_PER_S)
#define CLIENT_PER_PASS 16

struct client {
	struct list link;
	struct loop_fd sock;
	struct msg_in in;
	struct msg_fds fds;	/* came, and their messages have not been read */
	struct key_fds keys;	/* for the next request */
	struct msg_queue out;
	struct list asks;
	unsigned n_asks;
	uint32_t events;	/* what the loop waits for */
	bool broken;
	bool more;		/* `in` may hold a whole message */
	bool listing;
	struct list_pos pos;
	struct ask list_ask;
	struct loop_timer idle, again;
};

static struct {
	struct acceptor door;
	struct list all;
	unsigned n;
	struct loop_work clean;
} clients = { .door.listen.fd = -1, .all = LIST_INIT(clients.all) };

static struct msg_out out;	/* one thread: the loop's */

static void go_on(struct client *c);

/* --- the asks --- */

void ask_init(struct ask *a, struct client *c, uint32_t id, uint16_t type)
{
	a->client = c;
	a->id = id;
	a->type = type;
	list_add(&c->asks, &a->link);
	c->n_asks++;
}

void ask_drop(struct ask *a)
{
	if (!a->client)
		return;
	list_del(&a->link);
	a->client->n_asks--;
	go_on(a->client);
	a->client = NULL;
}

static void cut_off(struct client *c)
{
	c->broken = true;
	loop_defer(ctl.loop, &clients.clean);
}

void ask_reply(struct ask *a, uint8_t flags, int status, const void *body,
	       size_t len)
{
	struct client *c = a->client;
	int err;

	if (!c)
		return;
	if (!c->broken) {
		ASSERT(len <= sizeof(out.body));
		if (len)
			memcpy(out.body, body, len);
		msg_seal(&out, a->type + 1, flags, a->id, status, (uint32_t)len);
		err = write_msg(c->sock.fd, &c->out, &out);
		if (err) {
			if (err == -ENOBUFS)
				log_warn("a client does not read its answers: "
					 "cut off");
			cut_off(c);
		}
	}
	if (flags & TAP_MORE)
		go_on(c);
	else
		ask_drop(a);
}

void ask_fail(struct ask *a, int err, const char *fmt, ...)
{
	char text[TAP_TEXT_MAX + 1];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	ask_reply(a, 0, err, text, strnlen(text, TAP_TEXT_MAX));
}

/* --- list --- */

void client_list(struct client *c, uint32_t id, int only)
{
	if (c->listing) {	/* one at a time */
		struct ask a;

		ask_init(&a, c, id, TAP_CTL_LIST);
		ask_fail(&a, -EBUSY, "a list is under way");
		return;
	}
	c->listing = true;
	c->pos = (struct list_pos){ .only = only };
	ask_init(&c->list_ask, c, id, TAP_CTL_LIST);
	go_on(c);
}

static void list_more(struct client *c)
{
	static union {
		struct tap_disk d;
		char room[TAP_MSG_MAX - sizeof(struct tap_hdr)];
	} body;

	while (c->listing && !c->broken &&
	       c->out.tail - c->out.head < LIST_LEVEL) {
		size_t len = verbs_list_next(&c->pos, &body.d, sizeof(body));

		if (!len)
			c->listing = false;
		msg_seal(&out, 0, 0, 0, 0, 0);
		if (len)
			memcpy(out.body, &body, len);
		msg_seal(&out, TAP_CTL_LIST + 1, len ? TAP_MORE : 0,
			 c->list_ask.id, 0, (uint32_t)len);
		if (write_msg(c->sock.fd, &c->out, &out))
			cut_off(c);
	}
	if (!c->listing && c->list_ask.client) {
		list_del(&c->list_ask.link);
		c->list_ask.client = NULL;
		c->n_asks--;
	}
}

/* --- a client --- */

/* Wait for what makes sense now. */
static void go_on(struct client *c)
{
	uint32_t want = 0;

	if (c->broken)
		return;
	list_more(c);
	if (c->n_asks < TAP_CTL_ASKS)
		want |= EPOLLIN;
	if (!msg_queue_empty(&c->out))
		want |= EPOLLOUT;
	if (want != c->events && !c->broken) {
		c->events = want;
		if (loop_fd_mod(ctl.loop, &c->sock, want))
			cut_off(c);
	}
	/* What has been read already wakes nobody. */
	if (c->more && (want & EPOLLIN))
		loop_timer_set(ctl.loop, &c->again, 0);
	/* Idle is who owes us a request. */
	if (c->n_asks)
		loop_timer_clear(&c->idle);
	else
		loop_timer_set(ctl.loop, &c->idle, IDLE_NS);
}

static void on_idle(struct loop_timer *t)
{
	cut_off(container_of(t, struct client, idle));
}

struct key_fds *client_keys(struct client *c)
{
	return &c->keys;
}

/* TAP_CTL_KEY: its descriptor is the first of those that have come. */
static void take_key(struct client *c, uint32_t id)
{
	const char *why = "no descriptor came with it";
	int fd = msg_fds_take(&c->fds), err = -EBADMSG;
	struct ask a;

	if (fd >= 0)
		err = key_fds_add(&c->keys, fd, &why);
	ask_init(&a, c, id, TAP_CTL_KEY);
	if (err)
		ask_fail(&a, err, "cannot take key %u: %s", c->keys.n + 1, why);
	else
		ask_reply(&a, 0, 0, NULL, 0);
}

static void take_msg(struct client *c, const struct msg *m)
{
	if (m->hdr->type == TAP_CTL_KEY) {
		take_key(c, m->hdr->id);
		return;
	}
	verbs_do(c, m);
	key_fds_close(&c->keys);
}

static void read_some(struct client *c)
{
	struct msg m;

	c->more = true;
	for (int i = 0; i < CLIENT_PER_PASS && c->n_asks < TAP_CTL_ASKS; i++) {
		int r = read_msg_fds(c->sock.fd, &c->in, &m, &c->fds);

		if (c->in.skipped) {
			log_warn("a client sends what is no message: cut off");
			r = -EBADMSG;
		}
		if (r < 0)
			cut_off(c);
		if (r <= 0)
			c->more = false;
		if (r <= 0 || c->broken)
			return;
		take_msg(c, &m);
	}
}

static void read_again(struct loop_timer *t)
{
	struct client *c = container_of(t, struct client, again);

	if (!c->broken)
		read_some(c);
	go_on(c);
}

static void on_sock(struct loop_fd *f, uint32_t events)
{
	struct client *c = container_of(f, struct client, sock);

	if (c->broken)
		return;
	if ((events & EPOLLOUT) && msg_flush(f->fd, &c->out) < 0)
		cut_off(c);
	/* What it had asked before it left still counts. */
	if (c->broken)
		return;
	if ((events & EPOLLIN) && c->n_asks < TAP_CTL_ASKS)
		read_some(c);
	else if (events & (EPOLLERR | EPOLLHUP))
		cut_off(c);
	go_on(c);
}

static void client_free(struct client *c)
{
	struct list *e;

	loop_fd_del(ctl.loop, &c->sock);
	close(c->sock.fd);
	loop_timer_clear(&c->idle);
	loop_timer_clear(&c->again);
	msg_queue_free(&c->out);
	msg_fds_close(&c->fds);
	key_fds_close(&c->keys);
	while ((e = list_pop(&c->asks)))			/* I2 */
		container_of(e, struct ask, link)->client = NULL;
	list_del(&c->link);
	clients.n--;
	free(c);
}

static void clean_up(struct loop_work *w)
{
	(void)w;
	list_for_each_safe(e, &clients.all) {
		struct client *c = container_of(e, struct client, link);

		if (c->broken)
			client_free(c);
	}
	acceptor_pause(&clients.door, clients.n >= CLIENTS_MAX);
}

static bool may_ask(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) &&
	       (cred.uid == 0 || cred.uid == geteuid());
}

/* fd is the client's from now on, or closed. */
static struct client *client_new(int fd)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c) {
		close(fd);
		return NULL;
	}
	c->sock = (struct loop_fd){ .fd = fd, .fn = on_sock };
	c->events = EPOLLIN;
	list_init(&c->asks);
	msg_queue_init(&c->out, CLIENT_QUEUE_MAX);
	loop_timer_init(&c->idle, on_idle);
	loop_timer_init(&c->again, read_again);
	if (loop_fd_add(ctl.loop, &c->sock, EPOLLIN)) {
		close(fd);
		free(c);
		return NULL;
	}
	list_add(&clients.all, &c->link);
	clients.n++;
	go_on(c);
	return c;
}

static void let_in(struct acceptor *a, int fd)
{
	if (may_ask(fd))
		client_new(fd);
	else
		close(fd);
	if (clients.n >= CLIENTS_MAX)
		acceptor_pause(a, true);
}

int clients_start(void)
{
	int err, fd;

	loop_work_init(&clients.clean, clean_up);	/* clients_stop() needs it */
	fd = names_listen(RUN_CTL, 0, SOCK_STREAM);
	if (fd < 0)
		return fd;
	clients.door.whom = "a client";
	clients.door.fn = let_in;
	err = acceptor_start(&clients.door, ctl.loop, fd);
	if (err)
		close(fd);
	return err;
}

void clients_shut(void)
{
	if (clients.door.listen.fd < 0)
		return;
	names_remove(RUN_CTL, 0);
	acceptor_stop(&clients.door);
}

void clients_stop(void)
{
	ASSERT(clients.door.listen.fd < 0);
	while (!list_empty(&clients.all))
		client_free(list_first(&clients.all, struct client, link));
	loop_work_cancel(&clients.clean);
}
