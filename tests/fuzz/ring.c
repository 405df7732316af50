/* Fuzzes the ring: bytes become positions, slots and pages of segments in the
 * memory of a front end.  Whatever they are, what the decoder accepts keeps the
 * promises of decode.h, every consumed slot is answered, and nothing is touched
 * that does not belong to the ring.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "ring/decode.h"
#include "ring/ring.h"

#define SECTORS (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct blkif_req *q, const struct blkif_limits *l)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < q->nr_segs; i++) {
		ASSERT(q->span[i].first <= q->span[i].last);
		ASSERT(q->span[i].last < BLKIF_PAGE_SECTORS);
		sum += q->span[i].last - q->span[i].first + 1u;
	}
	switch (q->td_op) {
	case TD_OP_READ:
	case TD_OP_WRITE:
		ASSERT(q->nr_segs && q->nr_segs <= TAPRING_MAX_INDIRECT);
		ASSERT(q->sectors == sum);
		break;
	case TD_OP_DISCARD:
		ASSERT(!q->nr_segs && q->sectors);
		break;
	case TD_OP_FLUSH:
		ASSERT(!q->nr_segs && !q->sectors);
		return;
	default:
		ASSERT(!"an operation that no ring has");
	}
	ASSERT(range_ok(q->sector, q->sectors, l->sectors));
	ASSERT(is_aligned(q->sector, l->align) && is_aligned(q->sectors, l->align));
}

/* The slot as it was consumed; the page of segments is the input's tail. */
static int16_t serve(unsigned abi, const uint8_t *slot,
		     const struct blkif_limits *l, const uint8_t *data,
		     size_t size, struct blkif_req *q)
{
	static struct blkif_segment seg[TAPRING_MAX_INDIRECT];
	int err = blkif_decode(abi, slot, l, q);

	if (err > 0) {
		ASSERT(q->nr_segs && q->nr_segs <= l->max_indirect);
		ASSERT(blkif_ind_pages(q->nr_segs) <= BLKIF_IND_PAGES);
		memset(seg, 0, sizeof(seg));
		memcpy(seg, data, min_u64(size, q->nr_segs * sizeof(seg[0])));
		err = blkif_decode_segs(seg, l, q);
	}
	ASSERT(err <= 0);
	if (!err)
		check(q, l);
	return blkif_status(err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct blkif_limits l = { .sectors = SECTORS, .max_indirect = 256 };
	static struct blkif_req q;
	const uint8_t *slot;
	unsigned ticket = 0;
	struct blkif_sring *sr;
	struct ring r;
	unsigned abi, order;
	size_t len;
	uint32_t taken = 0;
	uint8_t *mem;

	if (size < 4)
		return 0;
	abi = 1 + data[0] % 3;
	order = data[0] / 3 % 3;
	l.align = data[1] & 1 ? 8 : 1;
	len = (size_t)TAPRING_PAGE << order;
	mem = calloc(1, len);	/* exactly: the sanitizer watches its ends */
	if (!mem)
		return 0;
	ring_init(&r, abi, order, mem);
	r.cons = r.seen = r.rsp_pvt = r.rsp_pub = (uint32_t)data[2] << 24;
	memcpy(mem, data + 4, min_u64(size - 4, len));
	sr = (struct blkif_sring *)(void *)mem;
	if (data[3] & 1)	/* or else nearly every ring is broken at once */
		sr->req_prod = r.cons + data[3] / 2 % 40;
	while (ring_consume(&r, &slot, &ticket) > 0 && taken < 4 * ring_slots(&r)) {
		int16_t status = serve(abi, slot, &l, data, size, &q);

		taken++;
		/* Answer at once, or let it lie, as the input says. */
		if (data[taken % size] & 1)
			continue;
		ring_answer(&r, ticket, q.id, q.op, status);
		if (data[taken % size] & 2)
			ring_push(&r);
		if (data[taken % size] & 4)
			ring_arm(&r);
		ASSERT(ring_open(&r) <= ring_slots(&r));
	}
	while (ring_open(&r))
		ring_answer(&r, 0, 0, 0, 0);
	ring_push(&r);
	ASSERT(r.consumed == taken && r.answered == taken);
	free(mem);
	return 0;
}
