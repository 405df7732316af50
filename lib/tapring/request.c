/* request.c - libtapring: requests onto a ring, and the disk told of them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tapring_priv.h"

int queue_init(struct tapring *r, unsigned n, uint64_t poll_ns)
{
	struct tapring_queue *q = &r->queue[n];
	const struct tapring_info *i = &r->info;
	size_t ring_len = (size_t)TAPRING_PAGE << r->order;
	char *base = r->mem + n * ring_len;

	q->r = r;
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

void queue_free(struct tapring_queue *q)
{
	if (q->fd >= 0)
		close(q->fd);
	if (q->poll_fd >= 0)
		close(q->poll_fd);
	free(q->free);
	free(q->req);
}

static int usable(const struct tapring_queue *q)
{
	if (q->dead)
		return q->dead;
	if (link_state(q->r) == LINK_ENDED)
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
	uint32_t old = q->req_pub, new = q->req_pvt, event, life;

	if (q->dead)
		return q->dead;
	if (link_state(q->r) == LINK_ENDED)
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
	/* A server that is lost finds them when there is one again. */
	life = link_life(q->r);
	if (link_state(q->r) != LINK_UP) {
		link_step(q->r);
	} else {
		q->stats.bells_sent++;
		if (send(q->fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
		    errno != EAGAIN)
			link_lost(q->r, life);
	}
	return link_state(q->r) == LINK_ENDED ? -EPIPE : 0;
}
