/* ring.c - positions and slots of one ring.  Invariants in ring.h. */
#include <errno.h>
#include <string.h>

#include "base/kill_point.h"
#include "base/log.h"
#include "ring/journal.h"
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

/* Where all slots have it. */
static uint64_t slot_id(const struct ring *r, const uint8_t *slot)
{
	uint64_t id;

	memcpy(&id, slot + (blkif_is64(r->abi) ? offsetof(struct blkif_rw64, id) :
			    offsetof(struct blkif_rw32, id)), sizeof(id));
	return id;
}

static void write_answer(struct ring *r, uint64_t id, uint8_t op, int16_t status)
{
	void *slot = ring_slot(r, r->rsp_pvt);

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
}

void ring_journal(struct ring *r, struct journal_section *s, unsigned queue)
{
	struct journal_ring *j = r->journal = journal_ring(s, queue);

	r->rsp_pub = r->rsp_pvt = j->pos->shown;
	for (unsigned i = 0; i < j->nr_answered; i++) {
		const struct journal_entry *e =
			&j->entry[j->answered[r->rsp_pvt & r->mask]];

		write_answer(r, slot_id(r, e->slot), e->op, e->status);
	}
	r->cons = r->seen = r->rsp_pvt + j->nr_again;
	r->kick = j->taken_up;
}

static bool again(const struct ring *r)
{
	return r->journal && r->journal->next_again < r->journal->nr_again;
}

/* Nothing is taken beside a suspect, on any ring: else that would be blamed as well. */
static bool held(const struct ring *r)
{
	return r->journal && *r->journal->alone;
}

/* What a predecessor had taken.  1 or 0, as ring_consume(). */
static int consume_again(struct ring *r, const uint8_t **slot, unsigned *ticket)
{
	struct journal_ring *j = r->journal;

	while (again(r)) {
		unsigned k = j->again[j->next_again++];
		struct journal_entry *e = &j->entry[k];

		r->consumed++;
		if (e->attempts >= JOURNAL_ATTEMPTS) {
			uint8_t op = e->slot[0] == BLKIF_OP_INDIRECT ? e->slot[1] :
								       e->slot[0];

			log_err("a request (operation %u) has ended %u processes: it "
				"is answered with an error", op, e->attempts);
			ring_answer(r, k, slot_id(r, e->slot), op, BLKIF_RSP_ERROR);
			++*j->given_up;
			continue;
		}
		if (e->attempts)
			*j->alone = e;
		e->attempts++;
		journal_order();
		KILL_POINT("ring-replay");
		*slot = e->slot;
		*ticket = k;
		return 1;
	}
	return 0;
}

int ring_consume(struct ring *r, const uint8_t **slot, unsigned *ticket)
{
	struct journal_ring *j = r->journal;
	uint8_t *to = r->copy;

	if (__builtin_expect(held(r), 0))
		return 0;
	if (__builtin_expect(again(r), 0) && consume_again(r, slot, ticket))
		return 1;
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
	if (j) {
		ASSERT(j->nr_free);	/* cons - rsp_pub are not (R4) */
		*ticket = j->free[--j->nr_free];
		to = j->entry[*ticket].slot;
	}
	memcpy(to, ring_slot(r, r->cons), r->slot_size);	/* R2 */
	/* The copy is what gets checked: nothing may look at the slot again. */
	__asm__ volatile("" ::: "memory");
	if (j) {
		struct journal_entry *e = &j->entry[*ticket];

		e->seq = j->seq++;
		e->attempts = 0;
		journal_state(e, JOURNAL_TAKEN);
	}
	*slot = to;
	r->cons++;
	r->consumed++;
	return 1;
}

void ring_answer(struct ring *r, unsigned ticket, uint64_t id, uint8_t op,
		 int16_t status)
{
	struct journal_ring *j = r->journal;

	ASSERT(ring_open(r));
	if (j) {
		struct journal_entry *e = &j->entry[ticket];

		e->rsp = r->rsp_pvt;
		e->op = op;
		e->status = (int8_t)status;
		journal_state(e, JOURNAL_ANSWERED);
		j->answered[r->rsp_pvt & r->mask] = (uint16_t)ticket;
		if (*j->alone == e)
			*j->alone = NULL;
	}
	write_answer(r, id, op, status);
	r->answered++;
	KILL_POINT("ring-answered");
}

/* Answers from `old` to `new` are shown: their entries are free. */
static void clear(struct ring *r, uint32_t old, uint32_t new)
{
	struct journal_ring *j = r->journal;

	for (uint32_t pos = old; pos != new; pos++) {
		uint16_t k = j->answered[pos & r->mask];

		journal_state(&j->entry[k], JOURNAL_FREE);
		j->free[j->nr_free++] = k;
	}
}

bool ring_push(struct ring *r)
{
	uint32_t old = r->rsp_pub, new = r->rsp_pvt, event;
	bool kick = r->kick;

	if (r->journal) {
		journal_order();
		__atomic_store_n(&r->journal->pos->shown, new, __ATOMIC_RELAXED);
		journal_order();
		KILL_POINT("ring-noted");
	}
	/* Pairs with the front end's read barrier after it loads rsp_prod. */
	__atomic_store_n(&r->sring->rsp_prod, new, __ATOMIC_RELEASE);
	r->rsp_pub = new;
	r->kick = false;
	KILL_POINT("ring-shown");
	/* Pairs with the full barrier between a front end's store of rsp_event
	 * and its last look at rsp_prod: one of us sees the other's store. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	event = __atomic_load_n(&r->sring->rsp_event, __ATOMIC_RELAXED);
	if (r->journal)
		clear(r, old, new);
	return kick || new - event < new - old;
}

bool ring_waiting(const struct ring *r)
{
	if (held(r))
		return false;
	if (again(r))
		return true;
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
