/* map.c - the tables of a qcow image.
 *
 * Level 1: places of level 2 tables.  Level 2: places of clusters, or (bit 63) of
 * compressed ones, at any byte and with their exact length.  0: nothing.
 *
 * There are no counts of references and no way to say "zeroes": space is taken at
 * the end of the file, and what is given back can only become a hole of the disk,
 * which on an image with a backing file would show what is below.  So such an image
 * takes no discards, and zeroes are written.  Clusters that are given back are
 * punched and used again in this session; after it their place is known to nobody.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "qcow/qcow_priv.h"

#define PACKED (1ull << 63)
#define ENTRY 8u

/* Entries of a level 2 table, as many as can be looked at in one go. */
struct entries {
	struct sparse_at at;	/* of the first; p NULL: there is no table */
	uint64_t n;		/* as many clusters of the disk, at least 1 */
};

bool qcow_l2_ok(const struct qcow *q, uint64_t host)
{
	uint64_t l1_end = q->h.l1 + (uint64_t)q->h.l1_entries * ENTRY;

	return is_aligned(host, ENTRY) && host >= QCOW_HEADER &&
	       host <= (uint64_t)INT64_MAX - q->l2_len &&
	       (host >= l1_end || host + q->l2_len <= q->h.l1);
}

uint64_t qcow_l1_get(const struct qcow *q, const uint8_t *entry)
{
	return q->h.l1_little ? get_le64(entry) : get_be64(entry);
}

static int l1_at(struct sparse *s, const struct qcow *q, uint64_t off,
		 struct sparse_at *a)
{
	uint64_t i = off >> (q->h.cluster_bits + q->h.l2_bits);

	ASSERT(i < q->h.l1_entries);
	return sparse_get(s, QCOW_L1, 0, q->h.l1, (uint64_t)q->h.l1_entries * ENTRY,
			  i * ENTRY, a);
}

static int l2_at(struct sparse *s, const struct qcow *q, uint64_t host, uint64_t off,
		 struct entries *e)
{
	uint64_t i = (off >> q->h.cluster_bits) & ((1u << q->h.l2_bits) - 1);
	int err;

	if (!qcow_l2_ok(q, host))
		return sparse_corrupt(s, "the level 2 table of offset %llu is at %llu",
				      (unsigned long long)off,
				      (unsigned long long)host);
	err = sparse_get(s, QCOW_L2, 0, host, q->l2_len, i * ENTRY, &e->at);
	e->n = e->at.left / ENTRY;
	return err;
}

/* The entries from off on. */
static int entries_at(struct sparse *s, const struct qcow *q, uint64_t off,
		      struct entries *e)
{
	uint64_t per_slice = min_u64(q->l2_len, SPARSE_SLICE) / ENTRY, host;
	struct sparse_at l1;
	int err = l1_at(s, q, off, &l1);

	if (err)
		return err;
	host = qcow_l1_get(q, l1.p);
	if (host)
		return l2_at(s, q, host, off, e);
	e->at = (struct sparse_at){ .p = NULL };
	e->n = per_slice - ((off >> q->h.cluster_bits) & (per_slice - 1));
	return 0;
}

static uint64_t entry(const struct entries *e, uint64_t i)
{
	return e->at.p ? get_be64(e->at.p + i * ENTRY) : 0;
}

/* Place and length of a compressed cluster: the length is right below bit 63, in as
 * many bits as a cluster has. */
static uint64_t packed_host(const struct qcow *q, uint64_t e)
{
	return e & ((1ull << (63 - q->h.cluster_bits)) - 1);
}

static uint32_t packed_len(const struct qcow *q, uint64_t e)
{
	return (uint32_t)(e >> (63 - q->h.cluster_bits)) & (q->cluster - 1);
}

static int map_packed(struct sparse *s, const struct qcow *q, uint64_t e,
		      struct sparse_extent *x)
{
	x->kind = SPARSE_PACKED;
	x->host = packed_host(q, e);
	x->packed = packed_len(q, e);
	if (!x->packed || !range_ok(x->host, x->packed, sparse_bytes(s, 0)))
		return sparse_corrupt(s, "a compressed cluster of %u bytes at %llu",
				      x->packed, (unsigned long long)x->host);
	return 0;
}

static int map_plain(struct sparse *s, const struct qcow *q, uint64_t e,
		     struct sparse_extent *x)
{
	uint64_t bytes = sparse_bytes(s, 0);

	x->kind = SPARSE_DATA;
	x->space = x->own = true;
	x->host = e;
	/* New clusters begin at the next multiple of their size: one that lies across
	 * the end would share its rest with them. */
	if (!is_aligned(e, 512) || e >= bytes ||
	    (!is_aligned(e, q->cluster) && bytes - e < q->cluster))
		return sparse_corrupt(s, "a cluster at %llu, %s", (unsigned long long)e,
				      is_aligned(e, 512) ?
				      "behind the end of the file" :
				      "which is no multiple of 512");
	return 0;
}

int qcow_map(struct sparse *s, uint64_t off, uint64_t len, struct sparse_extent *x)
{
	const struct qcow *q = sparse_priv(s);
	uint64_t in = off & (q->cluster - 1), first, n = 1;
	struct entries e;
	int err = entries_at(s, q, off, &e);

	if (err)
		return err;
	e.n = min_u64(e.n, (in + len + q->cluster - 1) >> q->h.cluster_bits);
	*x = (struct sparse_extent){ .kind = SPARSE_HOLE };
	first = entry(&e, 0);
	if (first & PACKED) {
		err = map_packed(s, q, first, x);
	} else if (first) {
		while (n < e.n && entry(&e, n) == first + n * q->cluster)
			n++;
		err = map_plain(s, q, first, x);
		x->host += in;
	} else {
		while (n < e.n && !entry(&e, n))
			n++;
	}
	x->length = min_u64(len, n * q->cluster - in);
	return err;
}

/* What entry e refers to is no longer part of the disk. */
static void drop(struct sparse *s, const struct qcow *q, uint64_t e)
{
	if (e & PACKED)
		sparse_drop(s, 0, packed_host(q, e), packed_len(q, e));
	else if (e)
		sparse_drop(s, 0, e, q->cluster);
}

/* The level 2 table of off, made if there is none. */
static int make_l2(struct sparse *s, const struct qcow *q, uint64_t off)
{
	uint64_t key = off >> (q->h.cluster_bits + q->h.l2_bits), host;
	struct sparse_at l1;
	uint8_t bytes[ENTRY];
	int err = l1_at(s, q, off, &l1);

	if (err || qcow_l1_get(q, l1.p))
		return err;
	err = sparse_room(s, 1);
	if (!err)
		err = sparse_table(s, 0, key, q->l2_len, 0, &host);
	if (err)
		return err;
	if (q->h.l1_little)
		put_le64(bytes, host);
	else
		put_be64(bytes, host);
	sparse_put(s, &l1, bytes, ENTRY);
	sparse_table_done(s, 0, key);
	return 0;
}

static void put_entry(struct sparse *s, const struct qcow *q,
		      const struct entries *e, uint64_t i, uint64_t value)
{
	struct sparse_at at = e->at;
	uint64_t old = entry(e, i);
	uint8_t bytes[ENTRY];

	if (old == value)
		return;
	put_be64(bytes, value);
	at.p += i * ENTRY;
	at.off += i * ENTRY;
	at.left -= i * ENTRY;
	sparse_put(s, &at, bytes, ENTRY);
	drop(s, q, old);
}

/* The value of the first entry of l. */
static int link_value(const struct qcow *q, const struct sparse_link *l, uint64_t *v)
{
	unsigned bits = 63 - q->h.cluster_bits;

	if (!l->packed) {
		ASSERT(is_aligned(l->host, 512));
		*v = l->host;
		return l->host & PACKED ? -EFBIG : 0;
	}
	ASSERT(l->packed < q->cluster);
	*v = PACKED | (uint64_t)l->packed << bits | l->host;
	return l->host >> bits ? -EFBIG : 0;
}

int qcow_link(struct sparse *s, const struct sparse_link *l)
{
	const struct qcow *q = sparse_priv(s);
	uint64_t n = (l->length + q->cluster - 1) >> q->h.cluster_bits, value;
	struct entries e;
	int err = link_value(q, l, &value);

	if (!err)
		err = make_l2(s, q, l->offset);
	if (!err)
		err = entries_at(s, q, l->offset, &e);
	if (!err)
		err = sparse_room(s, 1);
	if (err)
		return err;
	ASSERT(n <= e.n);
	for (uint64_t i = 0; i < n; i++)
		put_entry(s, q, &e, i, value + i * q->cluster);
	return 0;
}

int qcow_unmap(struct sparse *s, uint64_t off, uint64_t len, enum sparse_unmap how,
	       uint64_t *done)
{
	const struct qcow *q = sparse_priv(s);
	struct entries e;
	uint64_t i = 0;
	int err;

	if (q->parent)
		return -EOPNOTSUPP;
	err = entries_at(s, q, off, &e);
	if (!err)
		err = sparse_room(s, 1);
	if (err)
		return err;
	e.n = min_u64(e.n, (len + q->cluster - 1) >> q->h.cluster_bits);
	/* Space can be kept only by writing zeroes into it. */
	for (; i < e.n; i++)
		if (how == SPARSE_ZEROES_KEEP && entry(&e, i))
			break;
		else if (e.at.p)
			put_entry(s, q, &e, i, 0);
	*done = min_u64(len, i * q->cluster);
	return i ? 0 : -EOPNOTSUPP;
}

int qcow_release(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		 uint64_t *done)
{
	const struct qcow *q = sparse_priv(s);

	/* Of a compressed cluster, others may be beside it. */
	if (is_aligned(host, q->cluster) && is_aligned(len, q->cluster))
		sparse_freed(s, file, host, len);
	*done = len;
	return 0;
}
