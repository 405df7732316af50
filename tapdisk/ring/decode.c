/* decode.c - blkif slots into checked requests.  See decode.h.
 *
 * D1  Nothing is read but the slot and the segments given: both are private
 *     copies, so what was checked cannot change.
 * D2  A request that is accepted has 1..max segments, each with first <= last
 *     < 8, and a range inside the disk (READ, WRITE), or no segments and a range
 *     inside the disk (DISCARD), or neither (FLUSH).
 * D3  id and op are set whatever the verdict: every slot gets an answer.
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "ring/decode.h"

_Static_assert(TAPRING_MAX_INDIRECT <= BLKIF_IND_PAGES * BLKIF_SEGS_PER_PAGE,
	       "more segments than a request can name");

static int check_range(const struct blkif_limits *l, const struct blkif_req *q)
{
	if (!q->sectors || !range_ok(q->sector, q->sectors, l->sectors))
		return -EINVAL;
	if (!is_aligned(q->sector | q->sectors, l->align))
		return -EINVAL;
	return 0;
}

int blkif_decode_segs(const struct blkif_segment *seg,
		      const struct blkif_limits *l, struct blkif_req *q)
{
	uint64_t sectors = 0;

	for (unsigned i = 0; i < q->nr_segs; i++) {
		unsigned first = seg[i].first, last = seg[i].last;

		if (first > last || last >= BLKIF_PAGE_SECTORS ||
		    !is_aligned(first | (last + 1), l->align))
			return -EINVAL;
		q->gref[i] = seg[i].gref;
		q->span[i].first = (uint8_t)first;
		q->span[i].last = (uint8_t)last;
		sectors += last - first + 1;
	}
	q->sectors = sectors;
	return check_range(l, q);
}

/* READ, WRITE, BARRIER, FLUSH: the same slot, differing in what may be absent.
 * A flush that carries data is an old front end's write that flushes first; a
 * barrier is all that and more. */
static int decode_rw(const struct blkif_segment *seg, unsigned nr_segs,
		     const struct blkif_limits *l, struct blkif_req *q)
{
	switch (q->op) {
	case BLKIF_OP_READ:
		q->td_op = TD_OP_READ;
		break;
	case BLKIF_OP_WRITE:
		q->td_op = TD_OP_WRITE;
		break;
	case BLKIF_OP_BARRIER:
		q->td_op = nr_segs ? TD_OP_WRITE : TD_OP_FLUSH;
		q->td_flags = TD_REQ_BARRIER;
		break;
	case BLKIF_OP_FLUSH:
		q->td_op = nr_segs ? TD_OP_WRITE : TD_OP_FLUSH;
		q->td_flags = nr_segs ? TD_REQ_BARRIER : 0;
		break;
	}
	q->nr_segs = nr_segs;
	if (q->td_op == TD_OP_FLUSH) {
		q->sector = 0;
		return 0;
	}
	if (!nr_segs || nr_segs > BLKIF_SEGS)
		return -EINVAL;
	return blkif_decode_segs(seg, l, q);
}

/* Secure erasing is not offered, and no other flag exists. */
static int decode_discard(uint8_t flag, uint64_t sectors,
			  const struct blkif_limits *l, struct blkif_req *q)
{
	q->td_op = TD_OP_DISCARD;
	q->sectors = sectors;
	if (flag)
		return -EOPNOTSUPP;
	return check_range(l, q);
}

static int decode_indirect(unsigned nr_segs, const uint32_t *gref,
			   const struct blkif_limits *l, struct blkif_req *q)
{
	if (!l->max_indirect)
		return -EOPNOTSUPP;
	if (q->op != BLKIF_OP_READ && q->op != BLKIF_OP_WRITE)
		return -EINVAL;
	if (!nr_segs || nr_segs > l->max_indirect ||
	    nr_segs > TAPRING_MAX_INDIRECT)
		return -EINVAL;
	q->td_op = q->op == BLKIF_OP_READ ? TD_OP_READ : TD_OP_WRITE;
	q->nr_segs = nr_segs;
	memcpy(q->ind_gref, gref, blkif_ind_pages(nr_segs) * sizeof(*gref));
	return 1;
}

/* One body for both layouts: the fields have the same names. */
#define DECODE(BITS)                                                         \
static int decode##BITS(const void *slot, const struct blkif_limits *l,      \
			struct blkif_req *q)                                 \
{                                                                            \
	const struct blkif_rw##BITS *rw = slot;                              \
	const struct blkif_discard##BITS *di = slot;                         \
	const struct blkif_indirect##BITS *in = slot;                        \
	uint32_t gref[BLKIF_IND_PAGES];                                      \
	struct blkif_segment seg[BLKIF_SEGS];                                \
	unsigned n;                                                          \
                                                                             \
	q->id = rw->id;                                                      \
	q->op = rw->op;                                                      \
	q->sector = rw->sector;                                              \
	q->sectors = 0;                                                      \
	q->nr_segs = 0;                                                      \
	q->td_flags = 0;                                                     \
	switch (rw->op) {                                                    \
	case BLKIF_OP_READ:                                                  \
	case BLKIF_OP_WRITE:                                                 \
	case BLKIF_OP_BARRIER:                                               \
	case BLKIF_OP_FLUSH:                                                 \
		n = rw->nr_segs;                                             \
		memcpy(seg, rw->seg,                                         \
		       (n < BLKIF_SEGS ? n : BLKIF_SEGS) * sizeof(*seg));    \
		return decode_rw(seg, n, l, q);                              \
	case BLKIF_OP_DISCARD:                                               \
		return decode_discard(di->flag, di->nr_sectors, l, q);       \
	case BLKIF_OP_INDIRECT:                                              \
		q->op = in->inner;                                           \
		memcpy(gref, in->gref, sizeof(gref));                        \
		return decode_indirect(in->nr_segs, gref, l, q);             \
	default:                                                             \
		return -EOPNOTSUPP;                                          \
	}                                                                    \
}
DECODE(64)
DECODE(32)

int blkif_decode(unsigned abi, const void *slot, const struct blkif_limits *l,
		 struct blkif_req *q)
{
	return blkif_is64(abi) ? decode64(slot, l, q) : decode32(slot, l, q);
}
