/* bitmap.h - one entry of the directory of bitmaps, or of a bitmap's table.  Pure. */
#ifndef QCOW2_BITMAP_H
#define QCOW2_BITMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "qcow2/tables.h"

#define QCOW2_BITMAP_FLAGS_AT 12u	/* in the entry */

enum qcow2_bitmap_flags { QCOW2_BM_IN_USE = 1u << 0, QCOW2_BM_AUTO = 1u << 1 };

struct qcow2_bitmap {
	uint64_t table;
	uint32_t entries;	/* of the table */
	uint32_t flags;
	uint8_t bits;		/* a bit stands for 1 << bits bytes of the disk */
	uint16_t name_len;
	const uint8_t *name;	/* in the bytes that were decoded; no zero byte ends it */
	uint64_t length;	/* of the entry, its padding included */
};

#define QCOW2_BITMAP_BITS_MAX 31u	/* as QEMU has it */

/* The entry at p, of which `left` bytes are there.  False: it does not end there. */
static inline bool qcow2_bitmap_decode(const uint8_t *p, uint64_t left,
				       struct qcow2_bitmap *b)
{
	const uint32_t fixed = 24;
	uint32_t extra;

	if (left < fixed)
		return false;
	extra = get_be32(p + 20);
	*b = (struct qcow2_bitmap){
		.table = get_be64(p), .entries = get_be32(p + 8),
		.flags = get_be32(p + QCOW2_BITMAP_FLAGS_AT), .bits = p[17],
		.name_len = get_be16(p + 18),
	};
	b->length = align_up((uint64_t)fixed + extra + b->name_len, 8);
	if (b->length > left)
		return false;
	b->name = p + fixed + extra;
	return true;
}

/* *host: of the cluster with the bits, 0 if they are all the same. */
static inline const char *qcow2_bitmap_entry(uint64_t e, uint64_t cluster,
					     uint64_t *host)
{
	*host = e & QCOW2_HOST_MASK;
	if (e & ~(QCOW2_HOST_MASK | 1) || (*host && e & 1))
		return "reserved bits are set in a bitmap's table";
	if (!is_aligned(*host, cluster))
		return "a bitmap's data is not at a cluster's start";
	return NULL;
}

#endif
