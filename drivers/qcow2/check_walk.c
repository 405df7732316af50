/* check_walk.c - finds what refers to which cluster of the file: header, L1 and L2
 * tables of the disk and its snapshots, data, the tables of snapshots, refcounts,
 * bitmaps, and the header of LUKS.
 *
 * First all that is found without L2 tables: what is there is never written to as an
 * L2 table, whatever an L1 entry says. */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "qcow2/bitmap.h"
#include "qcow2/check.h"

#define RESERVED 0x3f000000000001feull	/* of an L2 entry that is not compressed */

typedef unsigned long long ull;

static void refer(struct qcow2_check *k, uint64_t off, uint64_t len, uint64_t times)
{
	unsigned bits = k->im.d.cluster_bits;
	uint64_t max = min_u64(qcow2_ref_max(k->im.d.ref_order), UINT32_MAX);
	uint64_t last;

	if (!len)
		return;
	if (len > INT64_MAX - off || off > INT64_MAX ||
	    (off + len > k->bytes && off + len - k->bytes >= 1ull << bits)) {
		QCOW2_BAD_TIMES(k, times, "%llu bytes at 0x%llx lie a cluster or more "
				"behind the end of the file", (ull)len, (ull)off);
		return;
	}
	last = (off + len - 1) >> bits;
	k->clusters = max_u64(k->clusters, last + 1);
	for (uint64_t i = off >> bits; i <= last; i++) {
		uint64_t n = min_u64(times, max - k->want[i]);

		k->want[i] += (uint32_t)n;
		if (n < times)
			QCOW2_BAD_TIMES(k, times - n, "cluster %llu has more references "
					"than a refcount can say", (ull)i);
	}
}

void qcow2_check_ref(struct qcow2_check *k, uint64_t off, uint64_t len)
{
	refer(k, off, len, 1);
}

/* The part of [off, off + len) that is in the file, or where tables are being put behind
 * its end (snap.c), as clusters; false: none is. */
static bool clusters_of(const struct qcow2_check *k, uint64_t off, uint64_t len,
			uint64_t *first, uint64_t *last)
{
	unsigned bits = k->im.d.cluster_bits;
	uint64_t end = k->clusters << bits;

	if (!len || off >= end)
		return false;
	*first = off >> bits;
	*last = (off + min_u64(len, end - off) - 1) >> bits;
	return true;
}

void qcow2_check_fix(struct qcow2_check *k, uint64_t off, uint64_t len)
{
	uint64_t i, last;

	if (clusters_of(k, off, len, &i, &last))
		for (; i <= last; i++)
			k->fixed[i / 8] |= (uint8_t)(1u << i % 8);
}

bool qcow2_check_fixed(const struct qcow2_check *k, uint64_t off, uint64_t len)
{
	uint64_t i, last;

	if (clusters_of(k, off, len, &i, &last))
		for (; i <= last; i++)
			if (k->fixed[i / 8] >> i % 8 & 1)
				return true;
	return false;
}

static void table(struct qcow2_check *k, uint64_t off, uint64_t len)
{
	if (k->want)
		qcow2_check_ref(k, off, len);
	qcow2_check_fix(k, off, len);
}

/* One whose entries are going to be looked at. */
static int table_of_entries(struct qcow2_check *k, uint64_t off, uint64_t entries)
{
	int err = qcow2_check_spend(k, entries * 8);

	if (!err)
		table(k, off, entries * 8);
	return err;
}

bool qcow2_check_is_l2(const struct qcow2_check *k, uint64_t host)
{
	uint64_t cs = qcow2_cluster(&k->im.d);

	return is_aligned(host, cs) && range_ok(host, cs, k->bytes) &&
	       !qcow2_check_fixed(k, host, cs);
}

/* An L2 table that is walked. */
struct l2_walk {
	uint64_t times, active;	/* struct qcow2_visit */
	bool fix;		/* its entries may be changed */
	uint64_t next;		/* where the next cluster of a contiguous file is */
};

static void count_packed(struct qcow2_check *k, const struct l2_walk *t,
			 struct qcow2_entry *e)
{
	struct td_check *c = k->c;

	refer(k, e->host, e->packed, t->times);
	c->allocated += t->active;
	c->packed += t->active;
	c->fragmented += t->active;
}

static void packed_entry(struct qcow2_check *k, const struct l2_walk *t, uint64_t v,
			 uint64_t map)
{
	struct qcow2_entry e = { 0 };

	if (v & QCOW2_COPIED)
		QCOW2_BAD_TIMES(k, t->times, "compressed cluster, entry 0x%llx: marked as "
				"not shared", (ull)v);
	if (k->im.d.external) {
		QCOW2_BAD_TIMES(k, t->times, "compressed cluster, entry 0x%llx, in an "
				"image with a data file", (ull)v);
		return;
	}
	if (map) {
		QCOW2_BAD_TIMES(k, t->times, "compressed cluster, entry 0x%llx, has "
				"subclusters", (ull)v);
		return;
	}
	(void)qcow2_packed_decode(&k->im.d, v & ~QCOW2_COPIED, &e);
	count_packed(k, t, &e);
}

/* Nothing is known to be there: zeroes instead. */
static bool entry_zero(struct qcow2_check *k, const struct l2_walk *t, uint8_t *p)
{
	if (!t->fix)
		return false;
	put_be64(p, k->im.d.ext ? 0 : QCOW2_ZERO);
	if (k->im.d.ext)
		put_be64(p + 8, (uint64_t)UINT32_MAX << 32);
	return true;
}

/* True: p was changed. */
static bool cluster_entry(struct qcow2_check *k, struct l2_walk *t, uint8_t *p,
			  uint64_t v, uint64_t map)
{
	const struct qcow2_dims *d = &k->im.d;
	uint64_t host = v & QCOW2_HOST_MASK;
	bool data = d->ext ? (uint32_t)map : !(v & QCOW2_ZERO);

	if (!host && !(d->external && v & QCOW2_COPIED)) {
		if (!(uint32_t)map)
			return false;
		QCOW2_BAD_TIMES(k, t->times, "a subcluster is data, and there is no "
				"cluster (entry 0x%llx)", (ull)v);
		return entry_zero(k, t, p);
	}
	if ((uint32_t)map & (uint32_t)(map >> 32))
		QCOW2_BAD_TIMES(k, t->times, "cluster at 0x%llx: a subcluster is both "
				"data and zeroes", (ull)host);
	k->c->allocated += t->active;
	if (t->next && host != t->next)
		k->c->fragmented += t->active;
	t->next = host + qcow2_cluster(d);
	if (!is_aligned(host, qcow2_cluster(d))) {
		QCOW2_BAD_TIMES(k, t->times, "%s at 0x%llx is not at a cluster's start",
				data ? "data" : "a preallocated cluster", (ull)host);
		if (!data && entry_zero(k, t, p))
			return true;
	}
	if (!d->external)
		refer(k, host, qcow2_cluster(d), t->times);
	return false;
}

/* True: p was changed.  off: of the cluster on the disk. */
static bool walk_entry(struct qcow2_check *k, struct l2_walk *t, uint8_t *p,
		       uint64_t off)
{
	const struct qcow2_dims *d = &k->im.d;
	uint64_t v = get_be64(p), map = d->ext ? get_be64(p + 8) : 0;
	uint64_t before = k->c->corruptions;
	struct qcow2_entry e;
	const char *why;
	bool changed;

	if (!v && !map)
		return false;
	if (v & QCOW2_PACKED) {
		packed_entry(k, t, v, map);
		return false;
	}
	if (v & RESERVED)
		QCOW2_BAD_TIMES(k, t->times, "L2 entry 0x%llx has reserved bits", (ull)v);
	changed = cluster_entry(k, t, p, v, map);
	why = qcow2_l2_decode(d, p, off, &e);
	if (why && before == k->c->corruptions)
		QCOW2_BAD_TIMES(k, t->times, "L2 entry 0x%llx: %s", (ull)v, why);
	if (changed) {		/* who finds it a second time finds it mended */
		k->c->corruptions = before + (k->c->corruptions - before) / t->times - 1;
		k->c->corruptions_fixed++;
	}
	return changed;
}

static int walk_l2(struct qcow2_check *k, const struct qcow2_visit *v)
{
	const struct qcow2_dims *d = &k->im.d;
	struct l2_walk t = { .times = v->times, .active = v->active };
	bool changed = false;
	int err = qcow2_check_spend(k, qcow2_cluster(d));

	if (err)
		return err;
	err = td_blocking_read(k->im.store, v->host, k->l2, qcow2_cluster(d));
	if (err) {
		QCOW2_FAILED_TIMES(k, v->times, "L2 table at 0x%llx cannot be read",
				   (ull)v->host);
		return 0;
	}
	t.fix = k->c->fix_errors && qcow2_check_is_l2(k, v->host);
	for (uint64_t i = 0; i < 1ull << d->l2_bits; i++)
		changed |= walk_entry(k, &t, k->l2 + i * d->entry,
				      v->off + (i << d->cluster_bits));
	if (!changed)
		return 0;
	return qcow2_image_write(&k->im, v->host, k->l2, qcow2_cluster(d));
}

static int walk_l1(struct qcow2_check *k, struct qcow2_visits *l2, uint64_t l1_at,
		   uint64_t entries, bool active)
{
	const struct qcow2_dims *d = &k->im.d;
	uint64_t *l1;
	int err;

	if (!entries)
		return 0;
	err = qcow2_image_table(&k->im, l1_at, entries, &l1);
	if (err == -ENOMEM)
		return err;
	if (err) {
		QCOW2_FAILED(k, "L1 table at 0x%llx cannot be read", (ull)l1_at);
		return 0;
	}
	for (uint64_t i = 0; i < entries && !err; i++) {
		uint64_t host = l1[i] & QCOW2_HOST_MASK;

		if (!l1[i])
			continue;
		if (l1[i] & ~(QCOW2_HOST_MASK | QCOW2_COPIED))
			QCOW2_BAD(k, "L1 entry 0x%llx has reserved bits", (ull)l1[i]);
		qcow2_check_ref(k, host, qcow2_cluster(d));
		if (!is_aligned(host, qcow2_cluster(d)))
			QCOW2_BAD(k, "L2 table at 0x%llx is not at a cluster's start",
				  (ull)host);
		if (host < k->bytes)
			err = qcow2_visits_add(k, l2, host, i << qcow2_l1_shift(d),
					       active);
	}
	free(l1);
	return err;
}

static int walk_trees(struct qcow2_check *k)
{
	const struct qcow2_header *h = &k->im.h;
	struct qcow2_visits l2 = { 0 };
	int err = walk_l1(k, &l2, h->l1_offset, h->l1_entries, true);

	for (unsigned i = 0; !err && k->im.snap && i < h->snapshots; i++)
		err = walk_l1(k, &l2, k->im.snap[i].l1_offset, k->im.snap[i].l1_entries,
			      false);
	qcow2_visits_sort(&l2);
	for (size_t i = 0; !err && i < l2.n; i++)
		err = walk_l2(k, &l2.v[i]);
	qcow2_visits_free(&l2);
	return err;
}

static int snapshot_tables(struct qcow2_check *k)
{
	struct qcow2_why why;
	int err = qcow2_image_snapshots(&k->im, &why);

	if (err == -ENOMEM)
		return err;
	if (err) {
		QCOW2_FAILED(k, "%s", why.text);
		return 0;
	}
	for (unsigned i = 0; !err && i < k->im.h.snapshots; i++)
		err = table_of_entries(k, k->im.snap[i].l1_offset,
				       k->im.snap[i].l1_entries);
	if (k->im.h.snapshots)
		table(k, k->im.h.snapshots_offset, k->im.snap_len);
	return err;
}

/* Bitmaps: directory, tables, data. */
#define BITMAP_ENTRIES_MAX 0x8000000u

static int bitmap_tables(struct qcow2_check *k, uint64_t at, uint32_t entries)
{
	uint64_t room = k->clusters << k->im.d.cluster_bits;
	uint64_t len = entries * 8ull, *v;
	int err;

	if (entries > BITMAP_ENTRIES_MAX || !range_ok(at, len, k->bytes) ||
	    !is_aligned(at, qcow2_cluster(&k->im.d))) {
		/* It is not read, but marked: as far as clusters_of() goes. */
		err = qcow2_check_spend(k, at < room ? min_u64(len, room - at) : 0);
		if (err)
			return err;
		table(k, at, len);
		QCOW2_BAD(k, "a bitmap's table, %u entries at 0x%llx", entries,
			  (ull)at);
		return 0;
	}
	err = table_of_entries(k, at, entries);
	if (err)
		return err;
	err = qcow2_image_table(&k->im, at, entries, &v);
	if (err)
		return err;
	for (uint32_t i = 0; i < entries; i++) {
		uint64_t host;

		if (qcow2_bitmap_entry(v[i], qcow2_cluster(&k->im.d), &host))
			QCOW2_BAD(k, "a bitmap's table has the entry 0x%llx",
				  (ull)v[i]);
		else if (host)
			table(k, host, qcow2_cluster(&k->im.d));
	}
	free(v);
	return 0;
}

static int bitmaps(struct qcow2_check *k)
{
	const struct qcow2_header *h = &k->im.h;
	uint64_t at = 0;
	uint8_t *dir;
	int err;

	if (!(h->autoclear & QCOW2_BITMAPS))
		return 0;
	table(k, h->bitmap_dir_offset, h->bitmap_dir_size);
	dir = malloc(h->bitmap_dir_size);
	if (!dir)
		return -ENOMEM;
	err = td_blocking_read(k->im.store, h->bitmap_dir_offset, dir,
			       h->bitmap_dir_size);
	for (uint32_t i = 0; i < h->bitmaps && !err; i++) {
		struct qcow2_bitmap b;

		if (!qcow2_bitmap_decode(dir + at, h->bitmap_dir_size - at, &b)) {
			QCOW2_BAD(k, "the directory of bitmaps ends in bitmap %u",
				  i + 1);
			break;
		}
		at += b.length;
		err = bitmap_tables(k, b.table, b.entries);
	}
	free(dir);
	return err;
}

/* The refcount table and its blocks. */
static int walk_refs(struct qcow2_check *k)
{
	unsigned bits = k->im.d.cluster_bits;

	qcow2_check_ref(k, k->im.h.reft_offset,
			(uint64_t)k->im.h.reft_clusters << bits);
	for (uint64_t i = 0; i < k->reft_entries; i++) {
		uint64_t host;
		const char *why = qcow2_reft_decode(&k->im.d, k->reft[i], &host);

		if (why) {
			QCOW2_BAD(k, "refcount block %llu: %s", (ull)i, why);
			k->rebuild = true;
		} else if (host >> bits >= k->clusters) {
			QCOW2_BAD(k, "refcount block %llu, at 0x%llx, lies behind the "
				  "end of the file", (ull)i, (ull)host);
			k->rebuild = true;
		} else if (host) {
			qcow2_check_ref(k, host, 1ull << bits);
			if (k->want[host >> bits] == 1)
				continue;
			QCOW2_BAD(k, "refcount block %llu has %u references", (ull)i,
				  k->want[host >> bits]);
			k->rebuild = true;
		}
	}
	return 0;
}

int qcow2_check_tables(struct qcow2_check *k)
{
	const struct qcow2_header *h = &k->im.h;
	int err;

	table(k, 0, 1ull << k->im.d.cluster_bits);
	err = table_of_entries(k, h->l1_offset, h->l1_entries);
	if (!err)
		err = snapshot_tables(k);
	table(k, h->crypto_offset, h->crypto_length);
	if (!err)
		err = bitmaps(k);
	qcow2_check_fix(k, h->reft_offset,
			(uint64_t)h->reft_clusters << k->im.d.cluster_bits);
	for (uint64_t i = 0; i < k->reft_entries; i++) {
		uint64_t host;

		if (!qcow2_reft_decode(&k->im.d, k->reft[i], &host) && host)
			qcow2_check_fix(k, host, 1ull << k->im.d.cluster_bits);
	}
	return err;
}

int qcow2_check_walk(struct qcow2_check *k, unsigned how)
{
	int err = qcow2_check_tables(k);

	if (!err)
		err = walk_trees(k);
	if (!err && (how & QCOW2_WALK_REFS))
		err = walk_refs(k);
	return err;
}
