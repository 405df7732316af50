/* ring.h - one blkif ring, seen from the back: positions and slots, nothing of
 * what a request means, no system calls.
 *
 * R1  Our positions (cons, rsp_pvt, rsp_pub) live here, never in the ring's
 *     page: what a front end writes there cannot move them.
 * R2  A slot is copied once, before anybody looks at it.
 * R3  Requests are consumed by ring_consume() alone, answered by ring_answer()
 *     and shown by ring_push() alone: there the journal is kept, in the order of
 *     stores that journal.h says.
 * R4  cons - rsp_pvt requests are ours, rsp_pvt - rsp_pub answers are written
 *     and not yet shown; a front end that has more than a ring's worth open
 *     breaks its ring.  A broken ring gives no more requests.
 */
#ifndef RING_RING_H
#define RING_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "blkif.h"

struct journal_ring;
struct journal_section;

struct ring {
	struct blkif_sring *sring;	/* shared: hostile */
	uint8_t *slots;			/* shared: hostile */
	uint32_t mask;			/* slots - 1 */
	uint32_t slot_size;
	uint32_t cons;			/* next request to take */
	uint32_t seen;			/* requests up to here may be taken */
	uint32_t rsp_pvt;		/* next answer to write */
	uint32_t rsp_pub;		/* answers up to here are shown */
	uint32_t armed_at;		/* cons when req_event was last set */
	uint8_t abi;
	bool armed;
	bool broken;
	bool kick;			/* the next push notifies in any case */
	struct journal_ring *journal;	/* or NULL */
	uint64_t consumed, answered;
	uint8_t copy[BLKIF_SLOT_MAX] __attribute__((aligned(8)));
};

/* base: (TAPRING_PAGE << order) bytes, contiguous for us. */
void ring_init(struct ring *r, unsigned abi, unsigned order, void *base);
/* Keep the journal of ring `queue` of a section, whose shape is this ring's; right
 * after ring_init().  One that was taken up goes on where it was: the answers that
 * were not shown are written, and ring_consume() begins with what was in flight. */
void ring_journal(struct ring *r, struct journal_section *s, unsigned queue);

static inline unsigned ring_slots(const struct ring *r)
{
	return r->mask + 1;
}

/* Requests taken and not answered. */
static inline uint32_t ring_open(const struct ring *r)
{
	return r->cons - r->rsp_pvt;
}

/* Copy the next request.  1: *slot is it, until the next call, and *ticket names
 * it to ring_answer(); 0: there is none; -EPROTO: the producer is further than a
 * ring ahead of what we have shown: broken. */
int ring_consume(struct ring *r, const uint8_t **slot, unsigned *ticket);
/* Write the answer to a consumed request; shown by ring_push(). */
void ring_answer(struct ring *r, unsigned ticket, uint64_t id, uint8_t op,
		 int16_t status);

/* Is there something to push? */
static inline bool ring_unpushed(const struct ring *r)
{
	return r->rsp_pvt != r->rsp_pub || r->kick;
}
/* Show all answers.  True if the front end asks to be notified of them, or if a
 * predecessor may have died before it did. */
bool ring_push(struct ring *r);

/* Is there something to consume (or a broken ring to find out about)?  Looks at
 * the producer only. */
bool ring_waiting(const struct ring *r);
/* Ask for a notification of the next request.  True if that was written now, and
 * then a full barrier and another look must follow before sleeping. */
bool ring_arm(struct ring *r);

#endif
