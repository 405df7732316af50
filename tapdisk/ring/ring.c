/* ring.c - positions and slots of one ring.  Invariants in ring.h. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "ring/ring.h"

void ring_init(struct ring *r, unsigned abi, unsigned order, void *base)
{
	memset(r, 0, sizeof(*r));
	r->sring = base;
	r->slots = (uint8_t *)base + sizeof(struct blkif_sring);
	r->mask = blkif_slots(abi, order) - 1;
	r->slot_size = (uint32_t)blkif_slot_size(abi);
	r->abi = (uint8_t)abi;
}

static uint8_t *ring_slot(const struct ring *r, uint32_t pos)
{
	return r->slots + (size_t)(pos & r->mask) * r->slot_size;
}

/* Pairs with the front end's write barrier before it stores req_prod: slots
 * below it are visible once it is. */
static uint32_t ring_prod(const struct ring *r)
{
	return __atomic_load_n(&r->sring->req_prod, __ATOMIC_ACQUIRE);
}

int ring_consume(struct ring *r, uint8_t slot[BLKIF_SLOT_MAX])
{
	if (r->cons == r->seen) {
		uint32_t prod;

		if (r->broken)
			return 0;
		prod = ring_prod(r);
		/* An honest front end reuses a slot only after it has seen the
		 * answer; this also catches a producer that went back (R4). */
		if (prod - r->rsp_pub > ring_slots(r) ||
		    prod - r->rsp_pub < r->cons - r->rsp_pub) {
			r->broken = true;
			return -EPROTO;
		}
		if (prod == r->cons)
			return 0;
		r->seen = prod;
	}
	memcpy(slot, ring_slot(r, r->cons), r->slot_size);	/* R2 */
	/* The copy is what gets checked: nothing may look at the slot again. */
	__asm__ volatile("" ::: "memory");
	r->cons++;
	r->consumed++;
	return 1;
}

void ring_answer(struct ring *r, uint64_t id, uint8_t op, int16_t status)
{
	void *slot = ring_slot(r, r->rsp_pvt);

	ASSERT(ring_open(r));
	if (blkif_is64(r->abi)) {
		struct blkif_rsp64 *rsp = slot;

		rsp->id = id;
		rsp->op = op;
		rsp->status = status;
	} else {
		struct blkif_rsp32 *rsp = slot;

		rsp->id = id;
		rsp->op = op;
		rsp->status = status;
	}
	r->rsp_pvt++;
	r->answered++;
}

bool ring_push(struct ring *r)
{
	uint32_t old = r->rsp_pub, new = r->rsp_pvt, event;

	/* Pairs with the front end's read barrier after it loads rsp_prod. */
	__atomic_store_n(&r->sring->rsp_prod, new, __ATOMIC_RELEASE);
	r->rsp_pub = new;
	/* Pairs with the full barrier between a front end's store of rsp_event
	 * and its last look at rsp_prod: one of us sees the other's store. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(&r->sring->rsp_event, __ATOMIC_RELAXED);
	return new - event < new - old;
}

bool ring_waiting(const struct ring *r)
{
	return !r->broken && (r->cons != r->seen || ring_prod(r) != r->cons);
}

bool ring_arm(struct ring *r)
{
	if (r->broken || (r->armed && r->armed_at == r->cons))
		return false;
	/* The caller's full barrier pairs with the front end's between its store
	 * of req_prod and its load of req_event. */
	__atomic_store_n(&r->sring->req_event, r->cons + 1, __ATOMIC_RELAXED);
	r->armed = true;
	r->armed_at = r->cons;
	return true;
}
