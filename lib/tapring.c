/* tapring.c - libtapring: the front end of a blkif ring over a memfd.  The
 * contract is include/tapring.h, the wire is include/tapring_proto.h.  Linked
 * alone into libtapring.so: nothing of the rest of the tree is used but
 * headers, and only tapring_* is exported.
 *
 * T1  A request is free, queued (written to the ring) or in flight; its slot
 *     number and a generation are its id on the ring, so that an answer to
 *     nothing is recognised.
 * T2  What the server writes is checked: positions, ids, operations.  A queue
 *     that was told nonsense is dead (-EPROTO) for good.
 * T3  Our positions live in private memory.
 * T4  Answers that are there are handed out before -EPIPE is.
 */
#include "tapring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "blkif.h"

#define DATA_DEFAULT (4u << 20)
#define TIMEOUT_DEFAULT_MS 10000u
#define PEEK_EVERY 4096u	/* reaps without an answer between two looks at
				 * whether the server still lives */

struct request {
	uint64_t cookie;
	uint32_t generation;
	uint8_t op;		/* as it will be answered */
	bool busy;
};

struct tapring_queue {
	struct tapring *r;
	struct blkif_sring *sring;
	uint8_t *slots;
	uint32_t mask, slot_size;
	uint32_t req_pvt, req_pub;	/* written; shown */
	uint32_t rsp_cons;
	bool is64;
	bool gone;			/* end of file on the doorbell */
	bool rang;			/* a doorbell was asked for: one may lie there */
	int dead;			/* 0 or -EPROTO */
	int fd;
	uint32_t ind_page;		/* of request 0; one each */
	char *bounce;
	unsigned empty;			/* reaps in a row */
	uint64_t poll_ns;
	unsigned nr_free;
	uint16_t *free;
	struct request *req;
	struct tapring_stats stats;
	struct blkif_segment seg[TAPRING_MAX_INDIRECT];
} __attribute__((aligned(64)));

struct tapring {
	int sock;
	struct tapring_info info;	/* size: not this one */
	uint64_t sectors;		/* atomic */
	unsigned order;
	char *mem;
	size_t mem_len;
	char *bounce, *data;		/* bounce areas lie before data */
	size_t data_len;
	struct tapring_queue *queue;
	size_t have;			/* of a status that is arriving */
	struct tapring_status status;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Connecting. */

static int recv_all(int fd, void *buf, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = recv(fd, (char *)buf + have, len - have, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (!n)
			return -EPIPE;
		have += (size_t)n;
	}
	return 0;
}

static int dial(const char *path, unsigned timeout_ms)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = timeout_ms / 1000,
			      .tv_usec = timeout_ms % 1000 * 1000 };
	int fd, err;

	if (strlen(path) >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		err = errno == EAGAIN ? -ETIMEDOUT : -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* What is wanted, against what there is. */
static int negotiate(struct tapring *r, const struct tapring_opts *o,
		     const struct tapring_greeting *g)
{
	struct tapring_info *i = &r->info;

	if (g->magic != TAPRING_MAGIC || g->version != TAPRING_VERSION)
		return -EPROTO;
	i->minor = g->minor;
	i->features = g->features;
	i->sector_size = g->sector_size;
	i->phys_size = g->phys_size;
	i->discard_granularity = g->discard_granularity;
	i->max_queues = g->max_queues;
	i->max_order = g->max_order;
	i->abi = o->abi ? o->abi : TAPRING_ABI_NATIVE;
	i->queues = o->queues ? o->queues : 1;
	i->max_segments = g->max_indirect > BLKIF_SEGS ? g->max_indirect :
							 BLKIF_SEGS;
	if (i->max_segments > TAPRING_MAX_INDIRECT)
		i->max_segments = TAPRING_MAX_INDIRECT;
	if (o->max_segments && o->max_segments < i->max_segments)
		i->max_segments = o->max_segments;
	if (i->queues > g->max_queues || o->order > g->max_order)
		return -EOPNOTSUPP;
	r->order = o->order;
	i->depth = blkif_slots(i->abi, r->order);
	r->sectors = g->sectors;
	return 0;
}

/* The memory, in this order: rings, pages of segments, bounce areas, data. */
static int make_memory(struct tapring *r, uint64_t data, int *memfd)
{
	const struct tapring_info *i = &r->info;
	uint64_t ring = (uint64_t)i->queues << r->order;
	uint64_t ind = i->max_segments > BLKIF_SEGS ?
		       (uint64_t)i->queues * i->depth : 0;
	uint64_t bounce = (uint64_t)i->queues * i->max_segments;
	uint64_t pages = ring + ind + bounce + (data + TAPRING_PAGE - 1) /
			 TAPRING_PAGE;
	void *mem;
	int fd, err;

	if (pages > TAPRING_MAX_PAGES)
		return -E2BIG;
	fd = memfd_create("tapring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r->mem_len = (size_t)pages * TAPRING_PAGE;
	if (ftruncate(fd, (off_t)r->mem_len) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		goto fail;
	mem = mmap(NULL, r->mem_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		goto fail;
	r->mem = mem;
	r->bounce = r->mem + (ring + ind) * TAPRING_PAGE;
	r->data = r->bounce + bounce * TAPRING_PAGE;
	r->data_len = r->mem_len - (size_t)(r->data - r->mem);
	*memfd = fd;
	return 0;
fail:
	err = -errno;
	close(fd);
	return err;
}

static int queue_init(struct tapring *r, unsigned n, uint64_t poll_ns)
{
	struct tapring_queue *q = &r->queue[n];
	const struct tapring_info *i = &r->info;
	size_t ring_len = (size_t)TAPRING_PAGE << r->order;
	char *base = r->mem + n * ring_len;

	q->r = r;
	q->fd = -1;
	q->sring = (struct blkif_sring *)(void *)base;
	q->slots = (uint8_t *)base + sizeof(*q->sring);
	q->mask = i->depth - 1;
	q->slot_size = (uint32_t)blkif_slot_size(i->abi);
	q->is64 = blkif_is64(i->abi);
	q->ind_page = (i->queues << r->order) + n * i->depth;
	q->bounce = r->bounce + (size_t)n * i->max_segments * TAPRING_PAGE;
	q->poll_ns = poll_ns;
	q->free = calloc(i->depth, sizeof(*q->free));
	q->req = calloc(i->depth, sizeof(*q->req));
	if (!q->free || !q->req)
		return -ENOMEM;
	for (unsigned k = i->depth; k-- > 0;)
		q->free[q->nr_free++] = (uint16_t)k;
	/* As ring.h's SHARED_RING_INIT: both wish to hear of the first. */
	q->sring->req_event = 1;
	q->sring->rsp_event = 1;
	return 0;
}

static int make_queues(struct tapring *r, uint64_t poll_ns)
{
	size_t len = r->info.queues * sizeof(*r->queue);
	int err = 0;

	r->queue = aligned_alloc(_Alignof(struct tapring_queue), len);
	if (!r->queue)
		return -ENOMEM;
	memset(r->queue, 0, len);
	for (unsigned n = 0; n < r->info.queues; n++)
		r->queue[n].fd = -1;
	for (unsigned n = 0; !err && n < r->info.queues; n++)
		err = queue_init(r, n, poll_ns);
	return err;
}

union fd_control {
	struct cmsghdr h;
	char buf[CMSG_SPACE(TAPRING_MAX_QUEUES * sizeof(int))];
};

static int send_hello(struct tapring *r, int memfd)
{
	struct tapring_hello h = {
		.magic = TAPRING_MAGIC,
		.version = TAPRING_VERSION,
		.abi = (uint16_t)r->info.abi,
		.order = (uint16_t)r->order,
		.queues = (uint16_t)r->info.queues,
		.pages = (uint32_t)(r->mem_len / TAPRING_PAGE),
	};
	struct iovec iov = { &h, sizeof(h) };
	union fd_control ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = CMSG_SPACE(sizeof(int)) };
	ssize_t n;

	for (unsigned q = 0; q < r->info.queues; q++)
		for (unsigned i = 0; i < 1u << r->order; i++)
			h.ring_ref[q][i] = (q << r->order) + i;
	memset(&ctl, 0, sizeof(ctl));
	ctl.h.cmsg_level = SOL_SOCKET;
	ctl.h.cmsg_type = SCM_RIGHTS;
	ctl.h.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&ctl.h), &memfd, sizeof(memfd));
	do
		n = sendmsg(r->sock, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	/* A server that refuses us has hung up and left its reason to be read. */
	if (n < 0 && errno != EPIPE && errno != ECONNRESET)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return n < 0 || (size_t)n == sizeof(h) ? 0 : -EPROTO;
}

static int take_bells(struct tapring *r, struct msghdr *m)
{
	unsigned got = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (got < r->info.queues)
				r->queue[got++].fd = fd;
			else
				close(fd);
		}
	}
	return got == r->info.queues ? 0 : -EPROTO;
}

static int recv_welcome(struct tapring *r)
{
	struct tapring_status s;
	struct iovec iov = { &s, sizeof(s) };
	union fd_control ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	ssize_t n;
	int err;

	do
		n = recvmsg(r->sock, &m, MSG_CMSG_CLOEXEC | MSG_WAITALL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	err = take_bells(r, &m);
	if (!n)
		return -EPIPE;
	if (n != (ssize_t)sizeof(s) || s.magic != TAPRING_MAGIC ||
	    s.event != TAPRING_CONNECTED || s.status > 0)
		return -EPROTO;
	if (s.status)
		return s.status;
	r->sectors = s.sectors;
	return err;
}

static int opts_check(const struct tapring_opts *o)
{
	uint32_t any = 0;

	for (unsigned i = 0; i < sizeof(o->reserved) / sizeof(*o->reserved); i++)
		any |= o->reserved[i];
	if (any || o->abi > TAPRING_ABI_X86_64 || o->queues > TAPRING_MAX_QUEUES ||
	    o->order > TAPRING_MAX_ORDER ||
	    (o->max_segments && o->max_segments < BLKIF_SEGS))
		return -EINVAL;
	if (o->data > (uint64_t)TAPRING_MAX_PAGES * TAPRING_PAGE)
		return -E2BIG;
	return 0;
}

int tapring_connect(const char *path, const struct tapring_opts *opts,
		    struct tapring **out)
{
	static const struct tapring_opts defaults;
	const struct tapring_opts *o = opts ? opts : &defaults;
	struct tapring_greeting g;
	struct tapring *r;
	int memfd = -1, err = opts_check(o);

	if (err)
		return err;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->sock = err = dial(path, o->timeout_ms ? o->timeout_ms :
						   TIMEOUT_DEFAULT_MS);
	if (err < 0)
		goto fail;
	err = recv_all(r->sock, &g, sizeof(g));
	if (!err)
		err = negotiate(r, o, &g);
	if (!err)
		err = make_memory(r, o->data ? o->data : DATA_DEFAULT, &memfd);
	if (!err)
		err = make_queues(r, o->poll_ns);
	if (!err)
		err = send_hello(r, memfd);
	if (memfd >= 0)
		close(memfd);
	if (!err)
		err = recv_welcome(r);
	if (err)
		goto fail;
	*out = r;
	return 0;
fail:
	tapring_close(r);
	return err;
}

void tapring_close(struct tapring *r)
{
	if (!r)
		return;
	for (unsigned n = 0; r->queue && n < r->info.queues; n++) {
		if (r->queue[n].fd >= 0)
			close(r->queue[n].fd);
		free(r->queue[n].free);
		free(r->queue[n].req);
	}
	free(r->queue);
	if (r->mem)
		munmap(r->mem, r->mem_len);
	if (r->sock >= 0)
		close(r->sock);
	free(r);
}

/* What it is. */

uint64_t tapring_size(const struct tapring *r)
{
	return __atomic_load_n(&r->sectors, __ATOMIC_RELAXED) * BLKIF_SECTOR;
}

void tapring_get_info(const struct tapring *r, struct tapring_info *info)
{
	*info = r->info;
	info->size = tapring_size(r);
}

struct tapring_queue *tapring_get_queue(struct tapring *r, unsigned n)
{
	return n < r->info.queues ? &r->queue[n] : NULL;
}

void *tapring_data(const struct tapring *r, size_t *len)
{
	if (len)
		*len = r->data_len;
	return r->data;
}

int tapring_events_fd(const struct tapring *r)
{
	return r->sock;
}

int tapring_events(struct tapring *r)
{
	int changed = 0;

	for (;;) {
		ssize_t n = recv(r->sock, (char *)&r->status + r->have,
				 sizeof(r->status) - r->have, MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return changed;
		if (n <= 0)
			return -EPIPE;
		r->have += (size_t)n;
		if (r->have < sizeof(r->status))
			continue;
		r->have = 0;
		if (r->status.magic != TAPRING_MAGIC)
			return -EPROTO;
		if (r->status.event != TAPRING_RESIZED)
			continue;
		__atomic_store_n(&r->sectors, r->status.sectors,
				 __ATOMIC_RELAXED);
		changed = 1;
	}
}

/* Requests. */

static int usable(const struct tapring_queue *q)
{
	if (q->dead)
		return q->dead;
	if (q->gone)
		return -EPIPE;
	return q->nr_free ? 0 : -EAGAIN;
}

/* Buffers into q->seg[], a segment a page.  The number, or -errno. */
static int build_segs(struct tapring_queue *q, const struct iovec *iov,
		      unsigned iovcnt, unsigned max)
{
	const struct tapring *r = q->r;
	unsigned n = 0;

	for (unsigned i = 0; i < iovcnt; i++) {
		const char *base = iov[i].iov_base;
		size_t len = iov[i].iov_len, at;

		/* The areas that requests may name are the last of the memory. */
		if (base < r->bounce || base > r->mem + r->mem_len ||
		    len > (size_t)(r->mem + r->mem_len - base))
			return -EINVAL;
		at = (size_t)(base - r->mem);
		if ((at | len) % BLKIF_SECTOR)
			return -EINVAL;
		while (len) {
			size_t off = at % TAPRING_PAGE;
			size_t part = TAPRING_PAGE - off < len ?
				      TAPRING_PAGE - off : len;

			if (n == max)
				return -E2BIG;
			q->seg[n++] = (struct blkif_segment){
				.gref = (uint32_t)(at / TAPRING_PAGE),
				.first = (uint8_t)(off / BLKIF_SECTOR),
				.last = (uint8_t)((off + part) / BLKIF_SECTOR - 1),
			};
			at += part;
			len -= part;
		}
	}
	return (int)n;
}

/* A free request, and its slot on the ring. */
static void *take_slot(struct tapring_queue *q, uint8_t op, uint64_t cookie,
		       uint64_t *id)
{
	unsigned k = q->free[--q->nr_free];
	struct request *req = &q->req[k];

	req->cookie = cookie;
	req->op = op;
	req->busy = true;
	req->generation++;
	*id = (uint64_t)req->generation << 32 | k;
	q->stats.requests++;
	return q->slots + (size_t)(q->req_pvt++ & q->mask) * q->slot_size;
}

/* The same fields in both layouts. */
#define FILL_RW(s, op_, n, id_, sector_, seg_)                               \
	do {                                                                 \
		(s)->op = (op_);                                             \
		(s)->nr_segs = (uint8_t)(n);                                 \
		(s)->handle = 0;                                             \
		(s)->id = (id_);                                             \
		(s)->sector = (sector_);                                     \
		memcpy((s)->seg, (seg_), (n) * sizeof(*(seg_)));             \
	} while (0)
#define FILL_IND(s, op_, n, id_, sector_, gref_)                             \
	do {                                                                 \
		(s)->op = BLKIF_OP_INDIRECT;                                 \
		(s)->inner = (op_);                                          \
		(s)->nr_segs = (uint16_t)(n);                                \
		(s)->id = (id_);                                             \
		(s)->sector = (sector_);                                     \
		(s)->handle = 0;                                             \
		(s)->gref[0] = (gref_);                                      \
	} while (0)
#define FILL_DISCARD(s, id_, sector_, nr_)                                   \
	do {                                                                 \
		(s)->op = BLKIF_OP_DISCARD;                                  \
		(s)->flag = 0;                                               \
		(s)->handle = 0;                                             \
		(s)->id = (id_);                                             \
		(s)->sector = (sector_);                                     \
		(s)->nr_sectors = (nr_);                                     \
	} while (0)

static void put_indirect(struct tapring_queue *q, void *slot, uint8_t op,
			 uint64_t id, uint64_t sector, unsigned n)
{
	uint32_t gref = q->ind_page + (uint32_t)id;

	memcpy(q->r->mem + (size_t)gref * TAPRING_PAGE, q->seg,
	       n * sizeof(q->seg[0]));
	if (q->is64)
		FILL_IND((struct blkif_indirect64 *)slot, op, n, id, sector, gref);
	else
		FILL_IND((struct blkif_indirect32 *)slot, op, n, id, sector, gref);
}

static int put_rw(struct tapring_queue *q, uint8_t op, const struct iovec *iov,
		  unsigned iovcnt, uint64_t offset, uint64_t cookie)
{
	bool simple = op != BLKIF_OP_READ && op != BLKIF_OP_WRITE;
	uint64_t id, sector = offset / BLKIF_SECTOR;
	int n, err = usable(q);
	void *slot;

	if (err)
		return err;
	if (offset % BLKIF_SECTOR)
		return -EINVAL;
	n = build_segs(q, iov, iovcnt, simple ? BLKIF_SEGS :
						q->r->info.max_segments);
	if (n < 0)
		return n;
	if (!n && !simple)
		return -EINVAL;
	slot = take_slot(q, op, cookie, &id);
	if (n > (int)BLKIF_SEGS)
		put_indirect(q, slot, op, id, sector, (unsigned)n);
	else if (q->is64)
		FILL_RW((struct blkif_rw64 *)slot, op, (unsigned)n, id, sector,
			q->seg);
	else
		FILL_RW((struct blkif_rw32 *)slot, op, (unsigned)n, id, sector,
			q->seg);
	return 0;
}

int tapring_readv(struct tapring_queue *q, const struct iovec *iov,
		  unsigned iovcnt, uint64_t offset, uint64_t cookie)
{
	return put_rw(q, BLKIF_OP_READ, iov, iovcnt, offset, cookie);
}

int tapring_writev(struct tapring_queue *q, const struct iovec *iov,
		   unsigned iovcnt, uint64_t offset, uint64_t cookie)
{
	return put_rw(q, BLKIF_OP_WRITE, iov, iovcnt, offset, cookie);
}

int tapring_read(struct tapring_queue *q, void *buf, size_t len,
		 uint64_t offset, uint64_t cookie)
{
	struct iovec v = { buf, len };

	return put_rw(q, BLKIF_OP_READ, &v, 1, offset, cookie);
}

int tapring_write(struct tapring_queue *q, const void *buf, size_t len,
		  uint64_t offset, uint64_t cookie)
{
	struct iovec v = { (void *)(uintptr_t)buf, len };

	return put_rw(q, BLKIF_OP_WRITE, &v, 1, offset, cookie);
}

int tapring_flush(struct tapring_queue *q, uint64_t cookie)
{
	return put_rw(q, BLKIF_OP_FLUSH, NULL, 0, 0, cookie);
}

int tapring_barrier(struct tapring_queue *q, const void *buf, size_t len,
		    uint64_t offset, uint64_t cookie)
{
	struct iovec v = { (void *)(uintptr_t)buf, len };

	return put_rw(q, BLKIF_OP_BARRIER, &v, len ? 1 : 0, offset, cookie);
}

int tapring_discard(struct tapring_queue *q, uint64_t len, uint64_t offset,
		    uint64_t cookie)
{
	uint64_t id, sector = offset / BLKIF_SECTOR, nr = len / BLKIF_SECTOR;
	int err = usable(q);
	void *slot;

	if (err)
		return err;
	if (!len || (offset | len) % BLKIF_SECTOR)
		return -EINVAL;
	slot = take_slot(q, BLKIF_OP_DISCARD, cookie, &id);
	if (q->is64)
		FILL_DISCARD((struct blkif_discard64 *)slot, id, sector, nr);
	else
		FILL_DISCARD((struct blkif_discard32 *)slot, id, sector, nr);
	return 0;
}

int tapring_submit(struct tapring_queue *q)
{
	uint32_t old = q->req_pub, new = q->req_pvt, event;

	if (q->dead)
		return q->dead;
	if (q->gone)
		return -EPIPE;
	if (new == old)
		return 0;
	/* Pairs with the server's acquiring load of req_prod: slots first. */
	__atomic_store_n(&q->sring->req_prod, new, __ATOMIC_RELEASE);
	q->req_pub = new;
	/* Pairs with the server's full barrier between its store of req_event
	 * and its last look at req_prod. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(&q->sring->req_event, __ATOMIC_RELAXED);
	if (new - event >= new - old)
		return 0;
	q->stats.bells_sent++;
	if (send(q->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    errno != EAGAIN) {
		q->gone = true;
		return -EPIPE;
	}
	return 0;
}

/* Answers. */

/* Answers that can be reaped, or -EPROTO. */
static int ready(struct tapring_queue *q)
{
	/* Pairs with the server's releasing store: answers up to it are there. */
	uint32_t n = __atomic_load_n(&q->sring->rsp_prod, __ATOMIC_ACQUIRE) -
		     q->rsp_cons;

	if (n > q->req_pub - q->rsp_cons)				/* T2 */
		q->dead = -EPROTO;
	return q->dead ? q->dead : (int)n;
}

/* Empty the doorbell.  False when nobody is behind it any more. */
static bool drain(struct tapring_queue *q, int flags)
{
	char buf[512];
	ssize_t n = recv(q->fd, buf, sizeof(buf), flags);

	q->rang = false;
	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
		q->gone = true;
	return !q->gone;
}

static int take_answer(struct tapring_queue *q, struct tapring_answer *a)
{
	const void *slot = q->slots + (size_t)(q->rsp_cons & q->mask) *
			   q->slot_size;
	struct request *req;
	uint64_t id;
	uint32_t k;
	uint8_t op;
	int16_t status;

	if (q->is64) {
		struct blkif_rsp64 rsp = *(const struct blkif_rsp64 *)slot;

		id = rsp.id;
		op = rsp.op;
		status = rsp.status;
	} else {
		struct blkif_rsp32 rsp = *(const struct blkif_rsp32 *)slot;

		id = rsp.id;
		op = rsp.op;
		status = rsp.status;
	}
	k = (uint32_t)id;
	req = &q->req[k & q->mask];
	if (k > q->mask || !req->busy || id >> 32 != req->generation ||
	    op != req->op)						/* T2 */
		return q->dead = -EPROTO;
	req->busy = false;
	q->free[q->nr_free++] = (uint16_t)k;
	q->rsp_cons++;
	q->stats.answers++;
	a->cookie = req->cookie;
	a->result = status == BLKIF_RSP_OKAY ? 0 :
		    status == BLKIF_RSP_EOPNOTSUPP ? -EOPNOTSUPP : -EIO;
	a->reserved = 0;
	return 0;
}

int tapring_reap(struct tapring_queue *q, struct tapring_answer *a,
		 unsigned max)
{
	int n = ready(q), err;

	if (n < 0)
		return n;
	if (!n) {
		if (!q->gone && ++q->empty % PEEK_EVERY == 0)
			drain(q, MSG_DONTWAIT);
		return q->gone ? -EPIPE : 0;				/* T4 */
	}
	q->empty = 0;
	if ((unsigned)n > max)
		n = (int)max;
	for (int i = 0; i < n; i++) {
		err = take_answer(q, &a[i]);
		if (err)
			return i ? i : err;
	}
	return n;
}

/* Ask for a doorbell at the min-th answer from now; how many there are. */
static int arm(struct tapring_queue *q, unsigned min)
{
	__atomic_store_n(&q->sring->rsp_event, q->rsp_cons + min,
			 __ATOMIC_RELAXED);
	q->rang = true;
	/* Pairs with the server's full barrier between its store of rsp_prod and
	 * its load of rsp_event. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ready(q);
}

/* Until min answers, -EPROTO, or the time is over: 0 or more below min. */
static int spin(struct tapring_queue *q, unsigned min, uint64_t ns)
{
	uint64_t end = now_ns() + ns;
	int n;

	do {
		for (int i = 0; i < 8; i++) {
			n = ready(q);
			if (n < 0 || (unsigned)n >= min)
				return n;
			relax();
		}
	} while (now_ns() < end);
	return n;
}

/* Until the doorbell rings or `end` has come.  1, 0 (end) or -errno. */
static int sleep_until(struct tapring_queue *q, uint64_t end)
{
	struct pollfd p = { .fd = q->fd, .events = POLLIN };
	uint64_t now;

	q->stats.sleeps++;
	if (end == UINT64_MAX) {
		errno = 0;
		if (!drain(q, 0))
			return -EPIPE;
		return errno == EINTR ? -EINTR : 1;
	}
	now = now_ns();
	if (now < end) {
		uint64_t left = end - now;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000000u),
				       .tv_nsec = (long)(left % 1000000000u) };
		int n = ppoll(&p, 1, &ts, NULL);

		if (n < 0)
			return -errno;
		if (n)
			return drain(q, MSG_DONTWAIT) ? 1 : -EPIPE;
	}
	return 0;
}

int tapring_wait(struct tapring_queue *q, unsigned min, int timeout_ms)
{
	unsigned open = q->req_pub - q->rsp_cons;
	uint64_t end = UINT64_MAX, poll_ns = q->poll_ns;
	int n = ready(q), s;

	if (min > open)
		min = open;
	if (n < 0 || (unsigned)n >= min)
		return n;
	if (timeout_ms >= 0) {
		uint64_t ns = (uint64_t)timeout_ms * 1000000u;

		end = now_ns() + ns;
		if (poll_ns > ns)
			poll_ns = ns;
	}
	if (poll_ns) {
		n = spin(q, min, poll_ns);
		if (n < 0 || (unsigned)n >= min) {
			q->stats.polls_won++;
			return n;
		}
	}
	for (;;) {
		n = arm(q, min);
		if (n < 0 || (unsigned)n >= min)
			return n;
		s = q->gone ? -EPIPE : sleep_until(q, end);
		n = ready(q);
		if (n < 0 || (unsigned)n >= min || !s)
			return n;
		if (s < 0)
			return s == -EPIPE && n ? n : s;		/* T4 */
	}
}

void tapring_set_poll(struct tapring_queue *q, uint64_t poll_ns)
{
	q->poll_ns = poll_ns;
}

unsigned tapring_inflight(const struct tapring_queue *q)
{
	return q->req_pvt - q->rsp_cons;
}

int tapring_fd(const struct tapring_queue *q)
{
	return q->fd;
}

int tapring_arm(struct tapring_queue *q)
{
	int n;

	if (q->rang && !q->gone)
		drain(q, MSG_DONTWAIT);
	n = arm(q, 1);
	if (n < 0)
		return n;
	if (n)
		return 1;
	return q->gone ? -EPIPE : 0;
}

void tapring_get_stats(const struct tapring_queue *q, struct tapring_stats *s)
{
	*s = q->stats;
}

/* Synchronous helpers. */

/* The one request that was just queued: show it, wait for it. */
static int finish(struct tapring_queue *q)
{
	struct tapring_answer a;
	int n = tapring_submit(q);

	if (n)
		return n;
	do
		n = tapring_wait(q, 1, -1);
	while (n == -EINTR);
	if (n < 0)
		return n;
	n = tapring_reap(q, &a, 1);
	if (n < 0)
		return n;
	return n == 1 ? a.result : -EPIPE;
}

static int copy_through(struct tapring_queue *q, char *in, const char *out,
			size_t len, uint64_t offset)
{
	size_t max = (size_t)q->r->info.max_segments * TAPRING_PAGE;
	int err = 0;

	if ((len | offset) % BLKIF_SECTOR)
		return -EINVAL;
	if (tapring_inflight(q))
		return -EBUSY;
	for (size_t done = 0, n; !err && done < len; done += n) {
		n = len - done < max ? len - done : max;
		if (out) {
			memcpy(q->bounce, out + done, n);
			err = tapring_write(q, q->bounce, n, offset + done, 0);
		} else {
			err = tapring_read(q, q->bounce, n, offset + done, 0);
		}
		if (!err)
			err = finish(q);
		if (!err && in)
			memcpy(in + done, q->bounce, n);
	}
	return err;
}

int tapring_pread(struct tapring_queue *q, void *buf, size_t len,
		  uint64_t offset)
{
	return copy_through(q, buf, NULL, len, offset);
}

int tapring_pwrite(struct tapring_queue *q, const void *buf, size_t len,
		   uint64_t offset)
{
	return copy_through(q, NULL, buf, len, offset);
}

int tapring_pflush(struct tapring_queue *q)
{
	int err = tapring_inflight(q) ? -EBUSY : tapring_flush(q, 0);

	return err ? err : finish(q);
}

int tapring_pdiscard(struct tapring_queue *q, uint64_t len, uint64_t offset)
{
	int err = tapring_inflight(q) ? -EBUSY :
		  tapring_discard(q, len, offset, 0);

	return err ? err : finish(q);
}
