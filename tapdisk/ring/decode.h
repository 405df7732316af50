/* decode.h - from a slot's bytes to a checked request.  Pure functions over
 * private copies: what they accept needs no further check but two, whether a
 * grant reference is good (the back end's) and whether the disk may be written
 * (the disk's).
 */
#ifndef RING_DECODE_H
#define RING_DECODE_H

#include <errno.h>
#include <stdint.h>

#include "blkif.h"
#include "td_req.h"

struct blkif_limits {
	uint64_t sectors;	/* of 512 bytes: the disk's size */
	uint32_t align;		/* of 512 bytes: in a logical sector; 2^n, <= 8 */
	uint32_t max_indirect;	/* segments; 0: no indirect requests */
};

struct blkif_req {
	/* Always set, also when the request is refused: the answer's. */
	uint64_t id;
	uint8_t op;		/* BLKIF_OP_*; of an indirect one the inner */

	unsigned nr_segs;
	enum td_op td_op;	/* READ, WRITE, FLUSH, DISCARD */
	unsigned td_flags;	/* TD_REQ_BARRIER */
	uint64_t sector;	/* of 512 bytes */
	uint64_t sectors;	/* length; the sum of the segments */
	uint32_t ind_gref[BLKIF_IND_PAGES];
	uint32_t gref[TAPRING_MAX_INDIRECT];
	struct {
		uint8_t first, last;
	} span[TAPRING_MAX_INDIRECT];
};

/* 0: *q is complete; 1: an indirect request: copy nr_segs segments from the
 * pages ind_gref[] and call blkif_decode_segs(); -EINVAL: bad; -EOPNOTSUPP: an
 * operation that is not known or not offered. */
int blkif_decode(unsigned abi, const void *slot, const struct blkif_limits *l,
		 struct blkif_req *q);
/* 0 or -EINVAL. */
int blkif_decode_segs(const struct blkif_segment *seg,
		      const struct blkif_limits *l, struct blkif_req *q);

/* Pages that hold nr_segs segments. */
static inline unsigned blkif_ind_pages(unsigned nr_segs)
{
	return (nr_segs + BLKIF_SEGS_PER_PAGE - 1) / BLKIF_SEGS_PER_PAGE;
}

/* The one translation of errors: 0 or -errno to what a guest is told. */
static inline int16_t blkif_status(int err)
{
	if (!err)
		return BLKIF_RSP_OKAY;
	return err == -EOPNOTSUPP ? BLKIF_RSP_EOPNOTSUPP : BLKIF_RSP_ERROR;
}

#endif
