/* ring.h - one blkif ring, seen from the back: positions and slots, nothing of
 * what a request means, no system calls.
 *
 * R1  Our positions (cons, rsp_pvt, rsp_pub) live here, never in the ring's
 *     page: what a front end writes there cannot move them.
 * R2  A slot is copied once, before anybody looks at it.
 * R3  Requests are consumed by ring_consume() alone and answered by
 *     ring_answer() alone: whoever wants to keep a record stands there.
 * R4  cons - rsp_pvt requests are ours, rsp_pvt - rsp_pub answers are written
 *     and not yet shown; a front end that has more than a ring's worth open
 *     breaks its ring.  A broken ring gives no more requests.
 */
#ifndef RING_RING_H
#define RING_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "blkif.h"

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
	uint64_t consumed, answered;
};

/* base: (TAPRING_PAGE << order) bytes, contiguous for us. */
void ring_init(struct ring *r, unsigned abi, unsigned order, void *base);

static inline unsigned ring_slots(const struct ring *r)
{
	return r->mask + 1;
}

/* Requests taken and not answered. */
static inline uint32_t ring_open(const struct ring *r)
{
	return r->cons - r->rsp_pvt;
}

/* Copy the next request.  1: `slot` is it; 0: there is none; -EPROTO: the
 * producer is further than a ring ahead of what we have shown: broken. */
int ring_consume(struct ring *r, uint8_t slot[BLKIF_SLOT_MAX]);
/* Write the answer to a consumed request; shown by ring_push(). */
void ring_answer(struct ring *r, uint64_t id, uint8_t op, int16_t status);

static inline bool ring_unpushed(const struct ring *r)
{
	return r->rsp_pvt != r->rsp_pub;
}
/* Show all answers.  True if the front end asks to be notified of them. */
bool ring_push(struct ring *r);

/* Is there something to consume (or a broken ring to find out about)?  Looks at
 * the producer only. */
bool ring_waiting(const struct ring *r);
/* Ask for a notification of the next request.  True if that was written now, and
 * then a full barrier and another look must follow before sleeping. */
bool ring_arm(struct ring *r);

#endif
