/* conn.c - one ring client over include/tapring_proto.h: greeting, hello,
 * memory, doorbells, farewell.  Everything that a client sends is hostile.
 *
 * C1  A connection is in one state; conn_cut() alone ends it, and may be called
 *     at any time from the loop.
 * C2  A client that does not say hello in time, says more than hello, closes a
 *     doorbell, or sends a descriptor where none belongs is cut off.
 * C3  Descriptors that a client sends are closed as soon as they are mapped or
 *     refused; none is ever read or written.  Memory is closed here, all else
 *     and what lies unread in a socket by letgo.h: closing it may take for ever.
 * C4  Its memory stays mapped until no I/O is in flight (P3 of port.h).
 * C5  Doorbells never block us: the pairs are ours, nobody else holds our ends.
 *     A stream socket takes 277 one-byte messages; we ask for a doorbell at most
 *     BELL_ARMS times between two drainings, so an honest client's always gets
 *     in and one that floods hurts itself alone.
 * C6  A client that we end is told so first (TAPRING_CLOSED): one that is not has
 *     lost a process, and comes back with its token.  So its section of the
 *     journal lasts as long as we do, and is kept only for a client that came
 *     with a token and could not be taken.
 * C7  Who was a predecessor's client finds room, for a while: a section that waits
 *     for its owner counts as served.
 */
#include "ring/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/letgo.h"
#include "base/log.h"
#include "ring/hello.h"
#include "ring/journal.h"
#include "ring/port.h"
#include "ring/wire.h"
#include "td_driver.h"

#define BELL_ARMS 64u

enum conn_state { CONN_HELLO, CONN_RUNNING, CONN_DYING };

struct bell {
	struct loop_fd fd;
	struct ring_conn *conn;
	unsigned arms;
};

struct ring_conn {
	struct loop *loop;
	struct disk *disk;
	struct ring_conn_owner *owner;	/* NULL: has gone before us */
	struct list link;
	enum conn_state state;
	struct loop_fd sock;
	struct loop_timer deadline;

	struct tapring_hello hello;	/* as far as it has come */
	size_t have;
	int memfd;
	bool too_many;			/* descriptors */

	char *mem;
	size_t mem_len;
	struct journal_section *journal; /* or NULL: not to be taken up again */
	struct tapring_token token;	/* its key; zeroes without one */
	bool keep;			/* the section, for another try */
	void *alias[TAPRING_MAX_QUEUES]; /* scattered ring pages, in a row */
	struct bell bell[TAPRING_MAX_QUEUES];
	bool tell_size;			/* when its socket has room */
	struct ring_port port;
};

static struct log_limit refusals, cuts;

static struct ring_conn *conn_of(struct ring_port *p)
{
	return container_of(p, struct ring_conn, port);
}

static void conn_free(struct ring_conn *c)
{
	for (unsigned q = 0; q < TAPRING_MAX_QUEUES; q++)
		if (c->alias[q])
			munmap(c->alias[q], (size_t)TAPRING_PAGE << c->hello.order);
	if (c->mem)
		munmap(c->mem, c->mem_len);
	if (c->journal)
		journal_put(c->journal, c->keep);			/* C6 */
	if (c->owner) {
		list_del(&c->link);
		c->owner->others--;
	}
	free(c);
}

static void close_bells(struct ring_conn *c)
{
	for (unsigned q = 0; q < TAPRING_MAX_QUEUES; q++) {
		if (c->bell[q].fd.fd < 0)
			continue;
		loop_fd_del(c->loop, &c->bell[q].fd);
		letgo_socket(c->bell[q].fd.fd);
		c->bell[q].fd.fd = -1;
	}
}

/* End it; c may be gone on return. */
static void conn_cut(struct ring_conn *c)
{
	bool running = c->state == CONN_RUNNING;

	if (c->state == CONN_DYING)
		return;
	c->state = CONN_DYING;
	if (running && c->owner) {
		c->owner->served--;
		c->owner->others++;
	}
	loop_timer_clear(&c->deadline);
	loop_fd_del(c->loop, &c->sock);
	letgo_socket(c->sock.fd);
	close_bells(c);
	if (c->memfd >= 0)
		letgo_fds(&c->memfd, 1);
	if (running)
		ring_port_stop(&c->port);	/* port_stopped() frees c */
	else
		conn_free(c);
}

static void refuse(struct ring_conn *c, int err, const char *why)
{
	if (log_allowed(&refusals))
		log_warn("ring client refused: %s (%s)", why, strerror(-err));
	/* It may have gone already; it is told if it still listens. */
	(void)wire_status(c->sock.fd, TAPRING_CONNECTED, err, 0);
	conn_cut(c);
}

static void dismiss(struct ring_conn *c)
{
	if (c->state == CONN_RUNNING)
		(void)wire_status(c->sock.fd, TAPRING_CLOSED, 0, 0);	/* C6 */
	conn_cut(c);
}

/* What the port asks of us. */

static void *conn_page(struct ring_port *p, uint32_t gref)
{
	const struct ring_conn *c = conn_of(p);

	return gref < c->hello.pages ? c->mem + (size_t)gref * TAPRING_PAGE : NULL;
}

static int conn_resolve(struct ring_port *p, const struct blkif_req *b,
			void **page, void **hold)
{
	(void)hold;
	for (unsigned i = 0; i < b->nr_segs; i++) {
		page[i] = conn_page(p, b->gref[i]);
		if (!page[i])
			return -EFAULT;
	}
	return 0;
}

/* Nothing is held: its memory is there as long as it is (C4). */
static void conn_held(struct ring_port *p, void **hold, int *err, unsigned n)
{
	(void)p;
	(void)hold;
	(void)err;
	(void)n;
}

static int conn_fetch(struct ring_port *p, const uint32_t *gref, void *to,
		      size_t len)
{
	for (size_t at = 0; at < len; at += TAPRING_PAGE) {
		const void *page = conn_page(p, *gref++);

		if (!page)
			return -EFAULT;
		memcpy((char *)to + at, page, min_u64(len - at, TAPRING_PAGE));
	}
	return 0;
}

static void conn_notify(struct ring_port *p, unsigned queue)
{
	/* Full: a doorbell is there.  Gone: its hang-up is on the way to us. */
	(void)!send(conn_of(p)->bell[queue].fd.fd, "", 1,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void conn_arming(struct ring_port *p, unsigned queue)
{
	struct bell *b = &conn_of(p)->bell[queue];
	char buf[512];
	struct iovec iov = { buf, sizeof(buf) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	unsigned fds;

	if (++b->arms % BELL_ARMS)					/* C5 */
		return;
	(void)letgo_recv(b->fd.fd, &m, NULL, &fds);
	if (fds || m.msg_flags & MSG_CTRUNC)				/* C2 */
		ring_port_break(p, "it sent descriptors with a doorbell");
}

static void send_size(struct ring_conn *c)
{
	int err = wire_status(c->sock.fd, TAPRING_RESIZED, 0,
			      disk_size(c->disk) / 512);
	bool full = err == -EAGAIN;

	if (full != c->tell_size &&
	    loop_fd_mod(c->loop, &c->sock, EPOLLIN | (full ? EPOLLOUT : 0)))
		return;
	c->tell_size = full;
}

static void conn_resized(struct ring_port *p, uint64_t sectors)
{
	struct ring_conn *c = conn_of(p);

	(void)sectors;		/* read again when it is sent */
	if (!c->tell_size)
		send_size(c);
}

static void conn_hang_up(struct ring_port *p, const char *why)
{
	if (p->broken && log_allowed(&cuts))
		log_warn("ring client cut off: %s", why);
	else
		log_dbg(LOG_RING, "ring client cut off: %s", why);
	dismiss(conn_of(p));
}

static void conn_stopped(struct ring_port *p)
{
	log_dbg(LOG_RING, "ring client gone");
	conn_free(conn_of(p));
}

static const struct ring_port_ops conn_port_ops = {
	.name		= "ring",
	.resolve	= conn_resolve,
	.load		= conn_held,
	.release	= conn_held,
	.fetch		= conn_fetch,
	.notify		= conn_notify,
	.arming		= conn_arming,
	.resized	= conn_resized,
	.hang_up	= conn_hang_up,
	.stopped	= conn_stopped,
};

static void bell_ready(struct loop_fd *f, uint32_t events)
{
	struct bell *b = container_of(f, struct bell, fd);

	/* A doorbell's message is that the loop is awake. */
	if (events & (EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		dismiss(b->conn);
}

/* Set-up, in the order of its steps.  What is made is kept in c and taken down
 * by conn_cut(). */

static int map_memory(struct ring_conn *c, const char **why)
{
	void *mem;

	c->mem_len = (size_t)c->hello.pages * TAPRING_PAGE;
	mem = mmap(NULL, c->mem_len, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_NORESERVE, c->memfd, 0);
	if (mem == MAP_FAILED) {
		*why = "cannot map its memory";
		return -errno;
	}
	c->mem = mem;
	return 0;
}

/* A ring is contiguous for us, wherever its pages lie. */
static int map_ring(struct ring_conn *c, unsigned q, const char **why)
{
	const struct tapring_hello *h = &c->hello;
	size_t len = (size_t)TAPRING_PAGE << h->order;
	char *base = c->mem + (size_t)h->ring_ref[q][0] * TAPRING_PAGE;

	if (!hello_ring_in_row(h, q)) {
		*why = "cannot map its ring";
		base = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
		if (base == MAP_FAILED)
			return -errno;
		c->alias[q] = base;
		for (unsigned i = 0; i < 1u << h->order; i++)
			if (mmap(base + (size_t)i * TAPRING_PAGE, TAPRING_PAGE,
				 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 c->memfd, (off_t)h->ring_ref[q][i] *
				 TAPRING_PAGE) == MAP_FAILED)
				return -errno;
	}
	ring_init(&c->port.ring[q], h->abi, h->order, base);
	if (c->journal)
		ring_journal(&c->port.ring[q], c->journal, q);
	return 0;
}

/* The pair's other end is *peer, the caller's. */
static int make_bell(struct ring_conn *c, unsigned q, int *peer)
{
	struct bell *b = &c->bell[q];
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	b->fd.fd = pair[0];
	b->fd.fn = bell_ready;
	b->conn = c;
	/* Edges: each doorbell wakes us, none has to be read (C5). */
	err = loop_fd_add(c->loop, &b->fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
	if (err) {
		close(pair[0]);
		close(pair[1]);
		b->fd.fd = -1;
		return err;
	}
	*peer = pair[1];
	return 0;
}

/* Bells and port; the client's ends of the bells go out with the status. */
static int connect_rings(struct ring_conn *c, const char **why)
{
	int peer[TAPRING_MAX_QUEUES], err = 0;
	unsigned n = 0;

	*why = "cannot make its doorbells";
	for (; n < c->hello.queues; n++) {
		err = make_bell(c, n, &peer[n]);
		if (err)
			goto out;
	}
	*why = "the disk is not open";
	err = ring_port_start(&c->port, &conn_port_ops, c->loop, c->disk, n,
			      TAPRING_MAX_INDIRECT);
	if (err)
		goto out;
	c->state = CONN_RUNNING;
	c->owner->others--;
	c->owner->served++;
	*why = "cannot tell it";
	err = wire_connected(c->sock.fd, disk_size(c->disk) / 512, &c->token, peer,
			     n);
out:
	while (n)
		close(peer[--n]);
	return err;
}

/* Is there room for another that is served?  Clients that have hung up without
 * our having heard of it yet make some: who closes and connects again is not
 * told "busy". */
static bool room_for_one(struct ring_conn_owner *o, struct loop *l, bool resume)
{
	unsigned max = RING_CONNS_MAX;
	char byte;

	if (!resume && o->journal && loop_now(l) < o->reserved_until)
		max -= (unsigned)min_u64(max, journal_waiting(o->journal,
							  JOURNAL_SHM));	/* C7 */
	if (o->served >= max) {
		list_for_each_safe(e, &o->conns) {
			struct ring_conn *c = container_of(e, struct ring_conn,
							   link);

			if (c->state == CONN_RUNNING &&
			    !recv(c->sock.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT))
				conn_cut(c);
		}
	}
	return o->served < max;
}

/* The section that its token names, or a new one and a token for it.  A client
 * without one is served all the same, as long as this process lives. */
static int get_journal(struct ring_conn *c, bool resume, const char **why)
{
	static struct log_limit without;
	const struct tapring_hello *h = &c->hello;
	struct journal_shape shape = { h->abi, h->order, h->queues };
	struct journal *j = c->owner->journal;
	struct journal_key key;
	int err;

	*why = "nothing is known of its rings";
	if (!j)
		return resume ? -ESTALE : 0;
	memcpy(&key, &h->token, sizeof(key));
	if (!resume && getrandom(&key, sizeof(key), GRND_NONBLOCK) !=
	    (ssize_t)sizeof(key))
		return 0;
	err = journal_get(j, JOURNAL_SHM, &key, &shape, resume, &c->journal, why);
	if (err && resume)
		return err;
	c->keep = resume;
	if (!err)
		memcpy(&c->token, &key, sizeof(key));
	else if (log_allowed(&without))
		log_warn("ring client without a journal: %s (%s)", *why,
			 strerror(-err));
	return 0;
}

static int conn_start(struct ring_conn *c, const char **why)
{
	static const struct tapring_token none;
	bool resume = memcmp(&c->hello.token, &none, sizeof(none));
	int err;

	*why = "one descriptor, its memory, must come with the hello";
	if (c->too_many || c->memfd < 0)
		return -EINVAL;
	err = hello_check(&c->hello, why);
	if (!err && !room_for_one(c->owner, c->loop, resume)) {
		*why = "too many clients";
		err = -EBUSY;
	}
	if (!err)
		err = hello_check_memory(c->memfd, (size_t)c->hello.pages *
					 TAPRING_PAGE, why);
	if (!err)
		err = map_memory(c, why);
	if (!err)
		err = get_journal(c, resume, why);
	for (unsigned q = 0; !err && q < c->hello.queues; q++)
		err = map_ring(c, q, why);
	if (!err)
		err = connect_rings(c, why);
	if (err)
		return err;
	c->keep = false;
	close(c->memfd);						/* C3 */
	c->memfd = -1;
	return 0;
}

static void hello_ready(struct ring_conn *c)
{
	ssize_t n = wire_recv(c->sock.fd, (char *)&c->hello + c->have,
			      sizeof(c->hello) - c->have, &c->memfd,
			      &c->too_many);
	const char *why = "";
	int err;

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		conn_cut(c);
		return;
	}
	c->have += (size_t)n;
	if (c->have < sizeof(c->hello) && !c->too_many)
		return;
	loop_timer_clear(&c->deadline);
	err = conn_start(c, &why);
	if (err) {
		refuse(c, err, why);
		return;
	}
	log_dbg(LOG_RING, "ring client%s: layout %u, %u queues of %u slots, %u pages",
		c->port.ring[0].kick ? " taken up" : "", c->hello.abi,
		c->hello.queues, ring_slots(&c->port.ring[0]), c->hello.pages);
}

static void sock_ready(struct loop_fd *f, uint32_t events)
{
	struct ring_conn *c = container_of(f, struct ring_conn, sock);

	if (c->state == CONN_HELLO) {
		hello_ready(c);
		return;
	}
	/* There is nothing left for it to say: data or the end, it goes (C2). */
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		dismiss(c);
	else if (events & EPOLLOUT)
		send_size(c);
}

static void too_late(struct loop_timer *t)
{
	struct ring_conn *c = container_of(t, struct ring_conn, deadline);

	refuse(c, -ETIMEDOUT, "it did not say hello in time");
}

static bool greet(const struct disk *d, unsigned minor, int fd)
{
	uint32_t caps = disk_caps(d);
	struct tapring_greeting g = {
		.magic = TAPRING_MAGIC,
		.version = TAPRING_VERSION,
		.max_order = TAPRING_MAX_ORDER,
		.max_queues = TAPRING_MAX_QUEUES,
		.max_indirect = TAPRING_MAX_INDIRECT,
		.features = (caps & TD_CAP_FLUSH ?
			     TAPRING_F_FLUSH | TAPRING_F_BARRIER : 0) |
			    (caps & TD_CAP_DISCARD ? TAPRING_F_DISCARD : 0) |
			    (disk_rdonly(d) ? TAPRING_F_RDONLY : 0),
		.minor = minor,
		.sector_size = disk_sector(d),
		.phys_size = disk_phys(d),
		.discard_granularity = disk_phys(d),
		.sectors = disk_size(d) / 512,
	};

	return send(fd, &g, sizeof(g), MSG_DONTWAIT | MSG_NOSIGNAL) ==
	       (ssize_t)sizeof(g);
}

void ring_conn_new(struct loop *l, struct disk *d, struct ring_conn_owner *o,
		   unsigned minor, int fd)
{
	struct ring_conn *c;
	int err = 0;

	if (!greet(d, minor, fd)) {
		close(fd);
		return;
	}
	if (!ring_port_disk_ready(d))
		err = -ENODEV;
	else if (o->others >= RING_OTHERS_MAX || letgo_busy())
		err = -EBUSY;
	c = err ? NULL : calloc(1, sizeof(*c));
	if (!c) {
		(void)wire_status(fd, TAPRING_CONNECTED, err ? err : -ENOMEM, 0);
		close(fd);
		return;
	}
	c->loop = l;
	c->disk = d;
	c->owner = o;
	c->memfd = -1;
	for (unsigned q = 0; q < TAPRING_MAX_QUEUES; q++)
		c->bell[q].fd.fd = -1;
	loop_timer_init(&c->deadline, too_late);
	c->sock.fd = fd;
	c->sock.fn = sock_ready;
	if (loop_fd_add(l, &c->sock, EPOLLIN)) {
		close(fd);
		free(c);
		return;
	}
	list_add(&o->conns, &c->link);
	o->others++;
	loop_timer_set(l, &c->deadline, RING_HELLO_NS);
}

void ring_conns_cut(struct ring_conn_owner *o)
{
	struct list *e;

	while ((e = list_pop(&o->conns))) {
		struct ring_conn *c = container_of(e, struct ring_conn, link);

		c->owner = NULL;
		dismiss(c);
	}
	o->served = o->others = 0;
}
