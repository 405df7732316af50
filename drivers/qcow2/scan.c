/* scan.c - finds the clusters that hold tables, of the disk and of its snapshots.
 *
 * Guest data is never written there, whatever an L2 entry says; and two kinds of
 * table in one cluster are a damage that no entry shows when it is met.  Bitmaps are
 * tables here with all that they consist of: nothing of the disk is in them.
 *
 * What it costs is bounded: L1 tables are read, L2 tables are not; snapshots may
 * have QCOW2_SNAPSHOT_L1_MAX bytes of L1 tables together.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "qcow2/blocking.h"

#define CHUNK (64u << 10)
#define PLACES_MAX (16u << 20)

static int refuse(struct sparse *s, int err, const char *why)
{
	td_err(sparse_node(s), "cannot open %s for writing: %s (repair it with tap-img check -r all, or open it read-only)",
	       sparse_node(s)->arg, why);
	return err;
}

uint64_t qcow2_file_end(const struct sparse *s)
{
	const struct qcow2 *q = sparse_priv(s);

	return align_up(sparse_bytes(s, 0), qcow2_cluster(&q->d));
}

/* --- walks --- */

int qcow2_entries_each(struct sparse *s, uint64_t offset, uint32_t entries,
		       qcow2_entry_fn *fn, void *arg)
{
	uint64_t left, bytes = entries * 8ull;
	uint8_t *buf = malloc(CHUNK);
	int err = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; !err && at < bytes; at += left) {
		left = min_u64(CHUNK, bytes - at);
		err = sparse_pread(s, 0, offset + at, buf, left);
		for (uint64_t i = 0; !err && i < left; i += 8)
			err = fn(s, (at + i) / 8, get_be64(buf + i), arg);
	}
	free(buf);
	return err;
}

/* The largest entry there can be. */
#define ENTRY_MAX align_up(QCOW2_SNAPSHOT_FIXED + QCOW2_SNAPSHOT_EXTRA_MAX +    \
			   2 * UINT16_MAX, 8)

int qcow2_snapshots_each(struct sparse *s, qcow2_snapshot_fn *fn, void *arg,
			 uint64_t *table_bytes)
{
	const struct qcow2_header *h = &((struct qcow2 *)sparse_priv(s))->h;
	uint64_t at = 0, l1_bytes = 0;
	struct qcow2_snapshot sn;
	struct qcow2_why why;
	uint8_t *buf;
	int err = 0;

	*table_bytes = 0;
	if (!h->snapshots)
		return 0;
	buf = malloc(ENTRY_MAX);
	if (!buf)
		return -ENOMEM;
	for (uint32_t i = 0; !err && i < h->snapshots; i++, at += sn.length) {
		err = sparse_pread(s, 0, h->snapshots_offset + at, buf, ENTRY_MAX);
		if (err)
			break;
		err = qcow2_snapshot_decode(buf, ENTRY_MAX, h, sparse_bytes(s, 0),
					    &sn, &why);
		if (!err && at + sn.length > QCOW2_SNAPSHOT_TABLE_MAX)
			err = refuse(s, -EINVAL,
				     "the table of snapshots is larger than 64 MiB");
		else if (err)
			refuse(s, err, why.text);
		l1_bytes += sn.l1_entries * 8ull;
		if (!err && l1_bytes > QCOW2_SNAPSHOT_L1_MAX)
			err = refuse(s, -EFBIG,
				     "its snapshots have more than 1 GiB of L1 tables");
		if (!err)
			err = fn(s, &sn, arg);
	}
	free(buf);
	*table_bytes = at;
	return err;
}

/* --- places --- */

enum kind { HEADER, L1, L2, REFT, BLOCK, SNAPSHOTS, LUKS, BITMAPS };
static const char *const kind_name[] = {
	[HEADER] = "header", [L1] = "L1 table", [L2] = "L2 table",
	[REFT] = "refcount table", [BLOCK] = "refcount block",
	[SNAPSHOTS] = "table of snapshots", [LUKS] = "header of LUKS",
	[BITMAPS] = "bitmaps",
};

/* Clusters that hold tables: the number, and behind it the kind in KIND_BITS. */
#define KIND_BITS 3
struct places {
	uint64_t *v;
	size_t n, max;
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void places_sort(struct places *p)
{
	size_t n = 0;

	if (!p->n)
		return;
	qsort(p->v, p->n, sizeof(*p->v), by_value);
	for (size_t i = 1; i < p->n; i++)
		if (p->v[i] != p->v[n])
			p->v[++n] = p->v[i];
	p->n = n + 1;
}

/* Room for one more.  Tables that several snapshots share are there once. */
static int places_room(struct sparse *s, struct places *p)
{
	uint64_t *v;
	size_t max;

	if (p->n < p->max)
		return 0;
	places_sort(p);
	if (p->n <= p->max / 2 && p->max)
		return 0;
	max = p->max ? 2 * p->max : 1024;
	if (max > PLACES_MAX)
		return refuse(s, -EFBIG, "it has too many tables");
	v = realloc(p->v, max * sizeof(*v));
	if (!v)
		return -ENOMEM;
	p->v = v;
	p->max = max;
	return 0;
}

static int places_add(struct sparse *s, struct places *p, enum kind k,
		      uint64_t host, uint64_t len)
{
	const struct qcow2 *q = sparse_priv(s);
	unsigned bits = q->d.cluster_bits;
	int err;

	if (!len)
		return 0;
	for (uint64_t c = host >> bits; c <= (host + len - 1) >> bits; c++) {
		err = places_room(s, p);
		if (err)
			return err;
		p->v[p->n++] = c << KIND_BITS | k;
	}
	return 0;
}

/* An entry that is wrong is told when it is met; here it names no table. */
static int add_l2(struct sparse *s, uint64_t i, uint64_t entry, void *arg)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t host;
	bool copied;

	(void)i;
	if (!entry || qcow2_l1_decode(&q->d, entry, &host, &copied) || !host ||
	    host >= qcow2_file_end(s))
		return 0;
	return places_add(s, arg, L2, host, qcow2_cluster(&q->d));
}

static int add_l1(struct sparse *s, struct places *p, uint64_t host,
		  uint32_t entries)
{
	int err = places_add(s, p, L1, host, entries * 8ull);

	return err ? err : qcow2_entries_each(s, host, entries, add_l2, p);
}

static int add_snapshot(struct sparse *s, const struct qcow2_snapshot *sn, void *arg)
{
	return add_l1(s, arg, sn->l1_offset, sn->l1_entries);
}

/* As with L2 tables, an entry that is wrong names nothing. */
static int add_bits(struct sparse *s, uint64_t i, uint64_t entry, void *arg)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t host;

	(void)i;
	if (qcow2_bitmap_entry(entry, qcow2_cluster(&q->d), &host) || !host ||
	    host >= qcow2_file_end(s))
		return 0;
	return places_add(s, arg, BITMAPS, host, qcow2_cluster(&q->d));
}

static int add_bitmap(struct sparse *s, const struct qcow2_bitmap *b, uint64_t at,
		      void *arg)
{
	int err = places_add(s, arg, BITMAPS, b->table, b->entries * 8ull);

	(void)at;
	return err ? err : qcow2_entries_each(s, b->table, b->entries, add_bits, arg);
}

static int add_all(struct sparse *s, const struct qcow2_reft *t, struct places *p)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t cs = qcow2_cluster(&q->d), bytes;
	int err;

	err = places_add(s, p, HEADER, 0, cs);
	if (!err)
		err = add_l1(s, p, q->h.l1_offset, q->h.l1_entries);
	if (!err)
		err = places_add(s, p, REFT, q->h.reft_offset, q->reft_bytes);
	for (uint64_t i = 0; !err && i < t->n; i++)
		if (t->block[i])
			err = places_add(s, p, BLOCK, t->block[i], cs);
	if (!err)
		err = qcow2_snapshots_each(s, add_snapshot, p, &bytes);
	if (!err)
		err = places_add(s, p, SNAPSHOTS, q->h.snapshots_offset, bytes);
	if (!err)
		err = places_add(s, p, LUKS, q->h.crypto_offset, q->h.crypto_length);
	if (err || !(q->h.autoclear & QCOW2_BITMAPS))
		return err;
	err = places_add(s, p, BITMAPS, q->h.bitmap_dir_offset, q->h.bitmap_dir_size);
	if (!err)
		err = qcow2_bitmaps_each(s, add_bitmap, p);
	return err == -EINVAL ? 0 : err;	/* told when they are outdated */
}

static int tell_engine(struct sparse *s, const struct places *p)
{
	const struct qcow2 *q = sparse_priv(s);
	unsigned bits = q->d.cluster_bits;
	uint64_t kinds = (1u << KIND_BITS) - 1;
	char why[160];
	int err = 0;

	for (size_t i = 0, n; !err && i < p->n; i += n) {
		uint64_t c = p->v[i] >> KIND_BITS;

		for (n = 1; i + n < p->n; n++) {
			uint64_t next = p->v[i + n] >> KIND_BITS;

			if (next == c + n - 1) {
				snprintf(why, sizeof(why),
					 "its %s and %s are in the same place, %llu",
					 kind_name[p->v[i + n - 1] & kinds],
					 kind_name[p->v[i + n] & kinds],
					 (unsigned long long)next << bits);
				return refuse(s, -EIO, why);
			}
			if (next != c + n)
				break;
		}
		err = sparse_meta_add(s, 0, c << bits, (uint64_t)n << bits);
	}
	return err;
}

int qcow2_scan(struct sparse *s, const struct qcow2_reft *t, uint64_t *end)
{
	const struct qcow2 *q = sparse_priv(s);
	struct places p = { 0 };
	int err = add_all(s, t, &p);

	places_sort(&p);
	if (!err)
		err = tell_engine(s, &p);
	*end = p.n ? ((p.v[p.n - 1] >> KIND_BITS) + 1) << q->d.cluster_bits : 0;
	free(p.v);
	return err;
}
