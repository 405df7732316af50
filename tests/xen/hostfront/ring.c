/* ring.c - slots of the three layouts.  See hostfront.h. */
#include "hostfront.h"

#include <string.h>

const char *const abi_name[ABIS] = { "native", "x86_32-abi", "x86_64-abi" };

/* Where things are, after Linux's xen-blkback/common.h. */
static const struct layout {
	size_t size, id, sector, seg, nr_sectors, ind;
} layouts[] = {
	{ 108, 4, 12, 20, 20, 24 },		/* x86_32 */
	{ 112, 8, 16, 24, 24, 28 },		/* x86_64 and native on it */
};

static const struct layout *layout(enum abi abi)
{
	return &layouts[abi != X86_32];
}

size_t slot_size(enum abi abi)
{
	return layout(abi)->size;
}

void queue_new(struct queue *q, enum abi abi, unsigned order)
{
	size_t n = ((PAGE << order) - sizeof(struct sring)) / slot_size(abi);

	memset(q, 0, sizeof(*q));
	q->abi = abi;
	q->ring = pages_new(1u << order, 0, true);
	q->s = (struct sring *)q->ring->at;
	q->s->req_event = q->s->rsp_event = 1;
	for (q->slots = 1; q->slots * 2 <= n; )
		q->slots *= 2;
	q->port = port_new(0);
}

void queue_free(struct queue *q)
{
	pages_free(q->ring);
	if (q->port)
		port_free(q->port);
}

uint8_t *queue_slot(const struct queue *q, uint32_t pos)
{
	return q->ring->at + sizeof(struct sring) +
	       (pos & (q->slots - 1)) * slot_size(q->abi);
}

void queue_put(struct queue *q, const struct req *r)
{
	const struct layout *l = layout(q->abi);
	uint8_t *to = queue_slot(q, q->req++);

	memset(to, 0, l->size);
	to[0] = r->op;
	to[1] = r->nr;
	memcpy(to + l->id, &r->id, 8);
	memcpy(to + l->sector, &r->sector, 8);
	switch (r->op) {
	case INDIRECT:
		to[1] = r->inner;
		memcpy(to + 2, &r->ind_nr, 2);
		memcpy(to + l->ind, r->ind, sizeof(r->ind));
		break;
	case DISCARD:
		memcpy(to + l->nr_sectors, &r->nr_sectors, 8);
		break;
	default:
		memcpy(to + l->seg, r->seg, sizeof(r->seg));
		break;
	}
}

void queue_push(struct queue *q, bool tell)
{
	uint32_t old = q->s->req_prod;

	__atomic_store_n(&q->s->req_prod, q->req, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (tell || q->req - __atomic_load_n(&q->s->req_event, __ATOMIC_RELAXED) <
		    q->req - old)
		port_kick(q->port);
}

bool queue_get(struct queue *q, struct answer *a, unsigned ms)
{
	const uint8_t *from = queue_slot(q, q->rsp);
	uint64_t end = now_ms() + ms, now;
	int16_t status;

	while (__atomic_load_n(&q->s->rsp_prod, __ATOMIC_ACQUIRE) == q->rsp) {
		__atomic_store_n(&q->s->rsp_event, q->rsp + 1, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&q->s->rsp_prod, __ATOMIC_ACQUIRE) != q->rsp)
			break;
		now = now_ms();
		if (now >= end)
			return false;
		port_wait((unsigned)(end - now));
	}
	memcpy(&a->id, from, 8);
	a->op = from[8];
	memcpy(&status, from + 10, 2);
	a->status = status;
	q->rsp++;
	return true;
}
