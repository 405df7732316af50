/* blkif.h - Xen's block ring as it lies in memory: operations, the three slot
 * layouts, the ring's header.  Ours, after xen/include/public/io/{blkif,ring}.h;
 * no Xen header is needed.  Only layout and arithmetic: who may trust what is
 * the business of tapdisk/ring (the back) and lib/tapring (the front).
 *
 * Sectors are of 512 bytes and segments lie in pages of 4096 bytes, whatever
 * the disk and the processor use.
 */
#ifndef BLKIF_H
#define BLKIF_H

#include <stddef.h>
#include <stdint.h>

#include "tapring_proto.h"

enum blkif_op {
	BLKIF_OP_READ		= 0,
	BLKIF_OP_WRITE		= 1,
	BLKIF_OP_BARRIER	= 2,
	BLKIF_OP_FLUSH		= 3,
	BLKIF_OP_DISCARD	= 5,
	BLKIF_OP_INDIRECT	= 6,
};

enum blkif_status {
	BLKIF_RSP_OKAY		= 0,
	BLKIF_RSP_ERROR		= -1,
	BLKIF_RSP_EOPNOTSUPP	= -2,
};

#define BLKIF_SECTOR		512u
#define BLKIF_PAGE		4096u
#define BLKIF_PAGE_SECTORS	8u
#define BLKIF_SEGS		11u	/* in a request's own slot */
#define BLKIF_IND_PAGES		8u	/* pages of segments of an indirect one */
#define BLKIF_SEGS_PER_PAGE	512u
#define BLKIF_DISCARD_SECURE	1u	/* of the discard's flag */

struct blkif_segment {
	uint32_t gref;
	uint8_t first, last;	/* sectors of the page, both included */
	uint16_t pad;
};
_Static_assert(sizeof(struct blkif_segment) == 8, "blkif.h");

/* native on 64-bit machines, x86_64-abi and arm-abi: 8-byte alignment. */
struct blkif_rw64 {
	uint8_t op, nr_segs;
	uint16_t handle;
	uint32_t pad;
	uint64_t id, sector;
	struct blkif_segment seg[BLKIF_SEGS];
};
struct blkif_discard64 {
	uint8_t op, flag;
	uint16_t handle;
	uint32_t pad;
	uint64_t id, sector, nr_sectors;
};
struct blkif_indirect64 {
	uint8_t op, inner;
	uint16_t nr_segs;
	uint32_t pad;
	uint64_t id, sector;
	uint16_t handle, pad2;
	uint32_t gref[BLKIF_IND_PAGES];
};
struct blkif_rsp64 {
	uint64_t id;
	uint8_t op, pad;
	int16_t status;
};
_Static_assert(sizeof(struct blkif_rw64) == 112, "blkif.h");
_Static_assert(offsetof(struct blkif_rw64, id) == 8, "blkif.h");
_Static_assert(offsetof(struct blkif_rw64, sector) == 16, "blkif.h");
_Static_assert(offsetof(struct blkif_rw64, seg) == 24, "blkif.h");
_Static_assert(sizeof(struct blkif_discard64) == 32, "blkif.h");
_Static_assert(offsetof(struct blkif_discard64, nr_sectors) == 24, "blkif.h");
_Static_assert(sizeof(struct blkif_indirect64) == 64, "blkif.h");
_Static_assert(offsetof(struct blkif_indirect64, handle) == 24, "blkif.h");
_Static_assert(offsetof(struct blkif_indirect64, gref) == 28, "blkif.h");
_Static_assert(sizeof(struct blkif_rsp64) == 16, "blkif.h");
_Static_assert(offsetof(struct blkif_rsp64, status) == 10, "blkif.h");

/* x86_32-abi: 4-byte alignment. */
#define BLKIF_PACKED32 __attribute__((packed, aligned(4)))
struct blkif_rw32 {
	uint8_t op, nr_segs;
	uint16_t handle;
	uint64_t id, sector;
	struct blkif_segment seg[BLKIF_SEGS];
} BLKIF_PACKED32;
struct blkif_discard32 {
	uint8_t op, flag;
	uint16_t handle;
	uint64_t id, sector, nr_sectors;
} BLKIF_PACKED32;
struct blkif_indirect32 {
	uint8_t op, inner;
	uint16_t nr_segs;
	uint64_t id, sector;
	uint16_t handle, pad2;
	uint32_t gref[BLKIF_IND_PAGES];
	uint64_t pad;
} BLKIF_PACKED32;
struct blkif_rsp32 {
	uint64_t id;
	uint8_t op, pad;
	int16_t status;
} BLKIF_PACKED32;
_Static_assert(sizeof(struct blkif_rw32) == 108, "blkif.h");
_Static_assert(offsetof(struct blkif_rw32, id) == 4, "blkif.h");
_Static_assert(offsetof(struct blkif_rw32, sector) == 12, "blkif.h");
_Static_assert(offsetof(struct blkif_rw32, seg) == 20, "blkif.h");
_Static_assert(sizeof(struct blkif_discard32) == 28, "blkif.h");
_Static_assert(offsetof(struct blkif_discard32, nr_sectors) == 20, "blkif.h");
_Static_assert(sizeof(struct blkif_indirect32) == 64, "blkif.h");
_Static_assert(offsetof(struct blkif_indirect32, handle) == 20, "blkif.h");
_Static_assert(offsetof(struct blkif_indirect32, gref) == 24, "blkif.h");
_Static_assert(sizeof(struct blkif_rsp32) == 12, "blkif.h");
_Static_assert(offsetof(struct blkif_rsp32, status) == 10, "blkif.h");

/* The first 64 bytes of the first ring page. */
struct blkif_sring {
	uint32_t req_prod, req_event;	/* the front's; the back's wish */
	uint32_t rsp_prod, rsp_event;	/* the back's; the front's wish */
	uint8_t pad[48];
};
_Static_assert(sizeof(struct blkif_sring) == 64, "ring.h");

/* 64-bit layout or 32-bit?  "Native" is this build's own. */
static inline int blkif_is64(unsigned abi)
{
#ifdef __i386__
	return abi == TAPRING_ABI_X86_64;
#else
	return abi != TAPRING_ABI_X86_32;
#endif
}

static inline size_t blkif_slot_size(unsigned abi)
{
	return blkif_is64(abi) ? sizeof(struct blkif_rw64) :
				 sizeof(struct blkif_rw32);
}
#define BLKIF_SLOT_MAX sizeof(struct blkif_rw64)

/* The largest power of two of slots that 1 << order pages hold. */
static inline unsigned blkif_slots(unsigned abi, unsigned order)
{
	size_t n = (((size_t)BLKIF_PAGE << order) - sizeof(struct blkif_sring)) /
		   blkif_slot_size(abi);
	unsigned slots = 1;

	while (slots * 2 <= n)
		slots *= 2;
	return slots;
}

#endif
