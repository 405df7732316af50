/* tables.h - entries of a qcow2 file's tables: bytes to values and back.  Pure.
 *
 * Knows nothing of where tables lie or how they are read.  Decoders of entries
 * answer NULL, or what is wrong with the entry: the format's own words for it,
 * the same in a running disk and in a check.
 *
 * An L2 entry is decoded to one struct, whatever its layout: a standard entry
 * is an extended one with a single subcluster.
 */
#ifndef QCOW2_TABLES_H
#define QCOW2_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "qcow2/header.h"

#define QCOW2_COPIED (1ull << 63)
#define QCOW2_PACKED (1ull << 62)
#define QCOW2_ZERO 1ull
#define QCOW2_HOST_MASK 0x00fffffffffffe00ull
#define QCOW2_HOST_MAX (1ull << 56)
#define QCOW2_REFT_MASK (~0x1ffull)

/* What decoding needs to know of an image. */
struct qcow2_dims {
	unsigned cluster_bits;
	unsigned unit_bits;	/* a subcluster, or a cluster */
	unsigned subs;		/* subclusters of a cluster: 32 or 1 */
	unsigned entry;		/* bytes of an L2 entry: 16 or 8 */
	unsigned l2_bits;	/* an L2 table has 1 << l2_bits entries */
	unsigned ref_order;	/* a refcount has 1 << ref_order bits */
	unsigned block_bits;	/* a refcount block has 1 << block_bits of them */
	unsigned packed_bits;	/* of the offset of compressed bytes */
	bool v3;
	bool ext;		/* extended L2 entries */
	bool external;		/* data is in a file of its own, 1:1 */
};

static inline struct qcow2_dims qcow2_dims(const struct qcow2_header *h)
{
	bool ext = h->incompat & QCOW2_EXT_L2;

	return (struct qcow2_dims){
		.cluster_bits = h->cluster_bits,
		.unit_bits = h->cluster_bits - (ext ? 5 : 0),
		.subs = ext ? 32 : 1,
		.entry = ext ? 16 : 8,
		.l2_bits = h->cluster_bits - (ext ? 4 : 3),
		.ref_order = h->ref_order,
		.block_bits = h->cluster_bits + 3 - h->ref_order,
		.packed_bits = 62 - (h->cluster_bits - 8),
		.v3 = h->version >= 3,
		.ext = ext,
		.external = h->incompat & QCOW2_DATA_FILE,
	};
}

static inline uint64_t qcow2_cluster(const struct qcow2_dims *d)
{
	return 1ull << d->cluster_bits;
}

/* Bytes of the disk that one L2 table maps. */
static inline unsigned qcow2_l1_shift(const struct qcow2_dims *d)
{
	return d->cluster_bits + d->l2_bits;
}

static inline uint64_t qcow2_l2_index(const struct qcow2_dims *d, uint64_t off)
{
	return (off >> d->cluster_bits) & ((1ull << d->l2_bits) - 1);
}

/* --- L1 --- */

/* *host: of the L2 table, 0 if there is none. */
static inline const char *qcow2_l1_decode(const struct qcow2_dims *d, uint64_t e,
					  uint64_t *host, bool *copied)
{
	*host = e & QCOW2_HOST_MASK;
	*copied = e & QCOW2_COPIED;
	if (e & ~(QCOW2_HOST_MASK | QCOW2_COPIED))
		return "reserved bits are set in an L1 entry";
	if (!is_aligned(*host, qcow2_cluster(d)))
		return "an L2 table is not at a cluster's start";
	return NULL;
}

/* --- L2 --- */

struct qcow2_entry {
	uint64_t host;		/* of the cluster, or of the compressed bytes */
	uint32_t packed;	/* > 0: compressed, in so many bytes at most */
	bool space;		/* host is there (it may be 0 in a data file) */
	bool copied;
	uint32_t data, zero;	/* a bit for each subcluster, bit 0 the first */
};

static inline uint32_t qcow2_all_subs(const struct qcow2_dims *d)
{
	return d->subs == 32 ? UINT32_MAX : (1u << d->subs) - 1;
}

static inline const char *qcow2_packed_decode(const struct qcow2_dims *d,
					      uint64_t v, struct qcow2_entry *e)
{
	uint64_t sectors = (v & ~(QCOW2_PACKED | QCOW2_COPIED)) >> d->packed_bits;

	e->host = v & ((1ull << d->packed_bits) - 1);
	e->packed = (uint32_t)((sectors + 1) * 512 - (e->host & 511));
	e->space = true;
	if (v & QCOW2_COPIED)
		return "a compressed cluster is marked as not shared";
	if (d->external)
		return "a compressed cluster in an image with a data file";
	if (e->host >= QCOW2_HOST_MAX)
		return "a compressed cluster lies too far behind";
	return NULL;
}

/* off: of the cluster on the disk. */
static inline const char *qcow2_l2_decode(const struct qcow2_dims *d,
					  const uint8_t *p, uint64_t off,
					  struct qcow2_entry *e)
{
	uint64_t v = get_be64(p);
	uint64_t map = d->ext ? get_be64(p + 8) : 0;
	uint64_t flags = QCOW2_COPIED | (d->v3 && !d->ext ? QCOW2_ZERO : 0);

	*e = (struct qcow2_entry){ 0 };
	if (v & QCOW2_PACKED)
		return map ? "a compressed cluster has subclusters" :
			     qcow2_packed_decode(d, v, e);
	e->host = v & QCOW2_HOST_MASK;
	e->copied = v & QCOW2_COPIED;
	e->space = e->host || (d->external && e->copied && !off);
	if (v & ~(QCOW2_HOST_MASK | flags))
		return !d->v3 && v & QCOW2_ZERO ?
			       "a zero cluster in an image of version 2" :
			       "reserved bits are set in an L2 entry";
	if (!is_aligned(e->host, qcow2_cluster(d)))
		return "a data cluster is not at a cluster's start";
	if (d->external && e->space && e->host != off)
		return "a data cluster is not at its own place in the data file";
	if (d->ext) {
		e->data = (uint32_t)map;
		e->zero = (uint32_t)(map >> 32);
		if (e->data & e->zero)
			return "a subcluster is both data and zeroes";
		if (e->data && !e->space)
			return "a subcluster is data, and there is no cluster";
	} else {
		e->zero = v & QCOW2_ZERO;
		e->data = e->space && !e->zero;
	}
	return NULL;
}

/* Can len compressed bytes at host be said in an L2 entry? */
static inline bool qcow2_packed_fits(const struct qcow2_dims *d, uint64_t host,
				     uint32_t len)
{
	uint64_t sectors = ((host & 511) + len + 511) / 512;

	return len && sectors <= 1ull << (d->cluster_bits - 8) &&
	       host < QCOW2_HOST_MAX && host < 1ull << d->packed_bits;
}

static inline void qcow2_l2_encode(const struct qcow2_dims *d,
				   const struct qcow2_entry *e, uint8_t *p)
{
	uint64_t v = e->host;

	if (e->packed) {
		v |= QCOW2_PACKED | (((e->host & 511) + e->packed + 511) / 512 - 1)
					    << d->packed_bits;
	} else {
		if (e->copied)
			v |= QCOW2_COPIED;
		if (!d->ext && e->zero)
			v |= QCOW2_ZERO;
	}
	put_be64(p, v);
	if (d->ext)
		put_be64(p + 8, (uint64_t)e->zero << 32 | e->data);
}

/* --- refcounts --- */

/* *host: of the refcount block, 0 if there is none. */
static inline const char *qcow2_reft_decode(const struct qcow2_dims *d, uint64_t e,
					    uint64_t *host)
{
	*host = e & QCOW2_REFT_MASK;
	if (e != *host)
		return "reserved bits are set in the refcount table";
	if (!is_aligned(*host, qcow2_cluster(d)))
		return "a refcount block is not at a cluster's start";
	return NULL;
}

static inline uint64_t qcow2_ref_max(unsigned order)
{
	return order == 6 ? UINT64_MAX : (1ull << (1u << order)) - 1;
}

/* Where refcount i of a block begins, and how many bytes it takes part in. */
static inline size_t qcow2_ref_at(unsigned order, uint64_t i)
{
	return order >= 3 ? (size_t)(i << (order - 3)) : (size_t)(i >> (3 - order));
}

static inline size_t qcow2_ref_bytes(unsigned order)
{
	return order >= 3 ? (size_t)1 << (order - 3) : 1;
}

/* p: the byte qcow2_ref_at(order, i) of the block. */
static inline uint64_t qcow2_ref_get(const uint8_t *p, unsigned order, uint64_t i)
{
	unsigned shift;

	switch (order) {
	case 3:
		return *p;
	case 4:
		return get_be16(p);
	case 5:
		return get_be32(p);
	case 6:
		return get_be64(p);
	default:
		shift = (i & ((8u >> order) - 1)) << order;
		return (*p >> shift) & qcow2_ref_max(order);
	}
}

static inline void qcow2_ref_set(uint8_t *p, unsigned order, uint64_t i, uint64_t v)
{
	unsigned shift, mask;

	switch (order) {
	case 3:
		*p = (uint8_t)v;
		break;
	case 4:
		put_be16(p, (uint16_t)v);
		break;
	case 5:
		put_be32(p, (uint32_t)v);
		break;
	case 6:
		put_be64(p, v);
		break;
	default:
		shift = (i & ((8u >> order) - 1)) << order;
		mask = (unsigned)qcow2_ref_max(order) << shift;
		*p = (uint8_t)((*p & ~mask) | (unsigned)(v << shift & mask));
	}
}

#endif
