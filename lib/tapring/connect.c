/* connect.c - libtapring: from a socket's name to memory, rings and doorbells.
 * What becomes of the connection then is link.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tapring_priv.h"

#define DATA_DEFAULT (4u << 20)
#define TIMEOUT_DEFAULT_MS 10000u
#define RECONNECT_DEFAULT_MS 30000u

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
static int make_memory(struct tapring *r, uint64_t data)
{
	const struct tapring_info *i = &r->info;
	uint64_t ring = (uint64_t)i->queues << r->order;
	uint64_t ind = i->max_segments > BLKIF_SEGS ?
		       (uint64_t)i->queues * i->depth : 0;
	uint64_t bounce = (uint64_t)i->queues * i->max_segments;
	uint64_t pages = ring + ind + bounce + (data + TAPRING_PAGE - 1) /
			 TAPRING_PAGE;
	void *mem;
	int fd;

	if (pages > TAPRING_MAX_PAGES)
		return -E2BIG;
	r->memfd = fd = memfd_create("tapring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	r->mem_len = (size_t)pages * TAPRING_PAGE;
	if (ftruncate(fd, (off_t)r->mem_len) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		return -errno;
	mem = mmap(NULL, r->mem_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		return -errno;
	r->mem = mem;
	r->bounce = r->mem + (ring + ind) * TAPRING_PAGE;
	r->data = r->bounce + bounce * TAPRING_PAGE;
	r->data_len = r->mem_len - (size_t)(r->data - r->mem);
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
		r->queue[n].fd = r->queue[n].poll_fd = -1;
	for (unsigned n = 0; !err && n < r->info.queues; n++)
		err = queue_init(r, n, poll_ns);
	return err;
}

union fd_control {
	struct cmsghdr h;
	char buf[CMSG_SPACE(TAPRING_MAX_QUEUES * sizeof(int))];
};

int hello_send(const struct tapring *r, int sock)
{
	struct tapring_hello h = {
		.magic = TAPRING_MAGIC,
		.version = TAPRING_VERSION,
		.abi = (uint16_t)r->info.abi,
		.order = (uint16_t)r->order,
		.queues = (uint16_t)r->info.queues,
		.pages = (uint32_t)(r->mem_len / TAPRING_PAGE),
		.token = r->token,
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
	memcpy(CMSG_DATA(&ctl.h), &r->memfd, sizeof(r->memfd));
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	/* A server that refuses us has hung up and left its reason to be read. */
	if (n < 0 && errno != EPIPE && errno != ECONNRESET)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return n < 0 || (size_t)n == sizeof(h) ? 0 : -EPROTO;
}

static int take_bells(const struct tapring *r, struct msghdr *m, int *bell)
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
				bell[got++] = fd;
			else
				close(fd);
		}
	}
	return got == r->info.queues ? 0 : -EPROTO;
}

int welcome_recv(const struct tapring *r, int sock, int flags,
		 struct tapring_status *s, int *bell)
{
	struct iovec iov = { s, sizeof(*s) };
	union fd_control ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	ssize_t n;
	int err;

	for (unsigned q = 0; q < r->info.queues; q++)
		bell[q] = -1;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	err = take_bells(r, &m, bell);
	if (!n)
		err = -EPIPE;
	else if (n != (ssize_t)sizeof(*s) || s->magic != TAPRING_MAGIC ||
		 s->event != TAPRING_CONNECTED || s->status > 0)
		err = -EPROTO;
	else if (s->status)
		err = s->status;
	for (unsigned q = 0; err && q < r->info.queues; q++)
		if (bell[q] >= 0)
			close(bell[q]);
	return err;
}

static int first_welcome(struct tapring *r)
{
	int bell[TAPRING_MAX_QUEUES];
	struct tapring_status s;
	int err = welcome_recv(r, r->sock, MSG_WAITALL, &s, bell);

	if (err)
		return err == -EAGAIN ? -ETIMEDOUT : err;
	r->sectors = s.sectors;
	r->token = s.token;
	for (unsigned q = 0; q < r->info.queues; q++)
		r->queue[q].fd = bell[q];
	return 0;
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

static int attempt(const char *path, const struct tapring_opts *o,
		   unsigned timeout_ms, struct tapring **out)
{
	struct tapring_greeting g;
	struct tapring *r = calloc(1, sizeof(*r));
	int err;

	if (!r)
		return -ENOMEM;
	r->memfd = r->next_sock = r->events_fd = r->timer = r->news = -1;
	r->limit_ns = (o->reconnect_ms == TAPRING_NO_RECONNECT ? 0 :
		       o->reconnect_ms ? o->reconnect_ms :
		       RECONNECT_DEFAULT_MS) * UINT64_C(1000000);
	r->sock = err = dial(path, timeout_ms);
	if (err < 0)
		goto fail;
	err = recv_all(r->sock, &g, sizeof(g));
	if (!err)
		err = negotiate(r, o, &g);
	if (!err)
		err = make_memory(r, o->data ? o->data : DATA_DEFAULT);
	if (!err)
		err = make_queues(r, o->poll_ns);
	if (!err)
		err = hello_send(r, r->sock);
	if (!err)
		err = first_welcome(r);
	if (!err && !(r->path = strdup(path)))
		err = -ENOMEM;
	if (!err)
		err = link_init(r);
	if (err)
		goto fail;
	*out = r;
	return 0;
fail:
	tapring_close(r);
	return err;
}

/* It hung up without a word: it has died, and its successor may be there soon, behind
 * the same socket.  What says no says why; but that too many descriptors of its user
 * are on their way, the doorbells' turn will come. */
static bool passes(int err)
{
	return err == -EPIPE || err == -ECONNRESET || err == -ETOOMANYREFS;
}

int tapring_connect(const char *path, const struct tapring_opts *opts,
		    struct tapring **r)
{
	static const struct tapring_opts defaults;
	static const struct timespec pause = { .tv_nsec = 2000000 };
	const struct tapring_opts *o = opts ? opts : &defaults;
	unsigned left = o->timeout_ms ? o->timeout_ms : TIMEOUT_DEFAULT_MS;
	uint64_t end = now_ns() + left * UINT64_C(1000000), now;
	int err = opts_check(o);

	if (err)
		return err;
	while (passes(err = attempt(path, o, left, r)) &&
	       o->reconnect_ms != TAPRING_NO_RECONNECT) {
		nanosleep(&pause, NULL);
		now = now_ns();
		if (now >= end)
			break;
		left = (unsigned)((end - now) / 1000000) + 1;
	}
	return err;
}

void tapring_close(struct tapring *r)
{
	if (!r)
		return;
	for (unsigned n = 0; r->queue && n < r->info.queues; n++)
		queue_free(&r->queue[n]);
	free(r->queue);
	if (r->mem)
		munmap(r->mem, r->mem_len);
	link_free(r);
	if (r->memfd >= 0)
		close(r->memfd);
	if (r->sock >= 0)
		close(r->sock);
	free(r->path);
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
