/* rebuild.c - the refcounts of an image that was left dirty, counted anew.
 *
 * An image with lazy refcounts that was not closed has tables that are right and
 * counts that are not.  All that the header, the disk and its snapshots refer to
 * is counted; blocks are written in place, and the dirty bit is cleared last: a
 * crash in between leaves an image that is dirty still.
 *
 * What it costs is bounded by the file's length.  What it cannot make sense of is
 * refused: a repair is the tools' work.
 *
 * (This driver never leaves an image dirty: it keeps counts in their order also
 * where an image permits it to be lazy, and does not set the bit.)
 */
#include <errno.h>
#include <stdlib.h>

#include "qcow2/blocking.h"

#define COUNTERS_MAX (256ull << 20)
#define L2_BYTES_MAX (64ull << 30)	/* read, of all snapshots together */

struct count {
	struct sparse *s;
	const struct qcow2_dims *d;
	uint32_t *c;			/* of each cluster of the file, and more */
	uint64_t n, end;		/* counters; first cluster not used */
	uint64_t l2_left;		/* bytes of L2 tables that may be read */
	uint8_t *l2;			/* a cluster */
	uint64_t l1_index;
	bool changed;
};

static int refuse(struct sparse *s, const char *why)
{
	td_err(sparse_node(s), "cannot open %s for writing: it was not closed cleanly, and %s (repair it with tap-img check -r all, or open it read-only)",
	       sparse_node(s)->arg, why);
	return -EIO;
}

static int count(struct count *k, uint64_t host, uint64_t len)
{
	unsigned bits = k->d->cluster_bits;

	if (!len)
		return 0;
	if (!range_ok(host, len, k->n << bits))
		return refuse(k->s, "a table refers to what is behind the end of the file");
	for (uint64_t i = host >> bits; i <= (host + len - 1) >> bits; i++) {
		if (k->c[i] == UINT32_MAX)
			return refuse(k->s, "a cluster is in use too often");
		k->c[i]++;
		k->end = max_u64(k->end, i + 1);
	}
	return 0;
}

/* --- count what is referred to --- */

static int count_entry(struct count *k, const uint8_t *p, uint64_t off)
{
	struct qcow2_entry e;
	const char *wrong = qcow2_l2_decode(k->d, p, off, &e);

	if (wrong)
		return refuse(k->s, wrong);
	if (!e.space || k->d->external)
		return 0;
	return count(k, e.host, e.packed ? e.packed : qcow2_cluster(k->d));
}

static int count_l2(struct sparse *s, uint64_t i, uint64_t entry, void *arg)
{
	struct count *k = arg;
	uint64_t host, cs = qcow2_cluster(k->d);
	const char *wrong;
	bool copied;
	int err;

	if (!entry)
		return 0;
	wrong = qcow2_l1_decode(k->d, entry, &host, &copied);
	if (wrong)
		return refuse(s, wrong);
	if (!host)
		return 0;
	err = count(k, host, cs);
	if (err)
		return err;
	if (k->l2_left < cs)
		return refuse(s, "its snapshots are too many to be counted here");
	k->l2_left -= cs;
	err = sparse_pread(s, 0, host, k->l2, cs);
	for (uint64_t j = 0; !err && j < 1ull << k->d->l2_bits; j++)
		err = count_entry(k, k->l2 + j * k->d->entry,
				  (i << qcow2_l1_shift(k->d)) +
				  (j << k->d->cluster_bits));
	return err;
}

static int count_l1(struct count *k, uint64_t offset, uint32_t entries)
{
	int err = count(k, offset, entries * 8ull);

	return err ? err : qcow2_entries_each(k->s, offset, entries, count_l2, k);
}

static int count_snapshot(struct sparse *s, const struct qcow2_snapshot *sn, void *arg)
{
	(void)s;
	return count_l1(arg, sn->l1_offset, sn->l1_entries);
}

static int count_bits(struct sparse *s, uint64_t i, uint64_t entry, void *arg)
{
	struct count *k = arg;
	uint64_t host;
	const char *wrong = qcow2_bitmap_entry(entry, qcow2_cluster(k->d), &host);

	(void)i;
	if (wrong)
		return refuse(s, wrong);
	return host ? count(k, host, qcow2_cluster(k->d)) : 0;
}

static int count_bitmap(struct sparse *s, const struct qcow2_bitmap *b, uint64_t at,
			void *arg)
{
	int err = count(arg, b->table, b->entries * 8ull);

	(void)at;
	return err ? err : qcow2_entries_each(s, b->table, b->entries, count_bits, arg);
}

static int count_all(struct count *k)
{
	const struct qcow2 *q = sparse_priv(k->s);
	const struct qcow2_header *h = &q->h;
	uint64_t bytes;
	int err;

	err = count(k, 0, qcow2_cluster(k->d));
	if (!err)
		err = count_l1(k, h->l1_offset, h->l1_entries);
	if (!err)
		err = qcow2_snapshots_each(k->s, count_snapshot, k, &bytes);
	if (!err)
		err = count(k, h->snapshots_offset, bytes);
	if (!err)
		err = count(k, h->crypto_offset, h->crypto_length);
	if (!err && h->autoclear & QCOW2_BITMAPS) {
		err = count(k, h->bitmap_dir_offset, h->bitmap_dir_size);
		if (!err)
			err = qcow2_bitmaps_each(k->s, count_bitmap, k);
		if (err == -EINVAL)
			err = refuse(k->s, "its bitmaps are damaged");
	}
	if (!err)
		err = count(k, h->reft_offset, q->reft_bytes);
	if (err)
		return err;
	for (uint64_t i = 0; i < q->h.reft_clusters; i++)
		if (k->c[(h->reft_offset >> k->d->cluster_bits) + i] != 1)
			return refuse(k->s, "its refcount table is in use for something else");
	if (k->c[0] != 1)
		return refuse(k->s, "its header is in use for something else");
	return 0;
}

/* --- blocks --- */

/* Blocks stay where they are, unless something else is there. */
static void keep_blocks(struct count *k, struct qcow2_reft *t)
{
	for (uint64_t i = 0; i < t->n; i++) {
		uint64_t c = t->block[i] >> k->d->cluster_bits;

		if (!t->block[i])
			continue;
		if (c >= k->n || k->c[c]) {
			t->block[i] = 0;
			t->changed = true;
			continue;
		}
		k->c[c] = 1;
		k->end = max_u64(k->end, c + 1);
	}
}

/* A block for every cluster that is counted, behind them if there was none. */
static int add_blocks(struct count *k, struct qcow2_reft *t)
{
	for (uint64_t c = 0; c < k->end; c++) {
		uint64_t i = c >> k->d->block_bits;

		if (!k->c[c])
			continue;
		if (i >= t->n)
			return refuse(k->s, "its refcount table is too small");
		if (t->block[i])
			continue;
		if (k->end == k->n)
			return refuse(k->s, "there is no room for its refcounts");
		t->block[i] = k->end << k->d->cluster_bits;
		t->changed = true;
		k->c[k->end++] = 1;
	}
	return 0;
}

static int write_block(struct count *k, uint64_t host, uint64_t i)
{
	uint64_t first = i << k->d->block_bits, cs = qcow2_cluster(k->d);
	uint64_t last = min_u64(first + (1ull << k->d->block_bits), k->end);
	unsigned order = k->d->ref_order;

	memset(k->l2, 0, cs);
	for (uint64_t c = first; c < last; c++) {
		if (k->c[c] > qcow2_ref_max(order))
			return refuse(k->s, "a cluster is in use too often");
		qcow2_ref_set(k->l2 + qcow2_ref_at(order, c - first), order,
			      c - first, k->c[c]);
	}
	return sparse_pwrite(k->s, 0, host, k->l2, cs);
}

static int write_blocks(struct count *k, const struct qcow2_reft *t)
{
	const struct qcow2 *q = sparse_priv(k->s);
	int err = 0;

	for (uint64_t i = 0; !err && i < t->n; i++)
		if (t->block[i])
			err = write_block(k, t->block[i], i);
	if (!err)
		err = sparse_psync(k->s, 0);
	if (!err && t->changed) {
		err = qcow2_reft_write(k->s, t, q->h.reft_offset);
		if (!err)
			err = sparse_psync(k->s, 0);
	}
	return err;
}

/* --- marks: "not shared" is what the counts say --- */

static bool alone(const struct count *k, uint64_t host)
{
	return k->c[host >> k->d->cluster_bits] == 1;
}

static bool mark(uint8_t *p, bool copied)
{
	uint64_t v = get_be64(p);
	uint64_t to = copied ? v | QCOW2_COPIED : v & ~QCOW2_COPIED;

	put_be64(p, to);
	return v != to;
}

static int mark_l2(struct count *k, uint64_t host, uint64_t off)
{
	uint64_t cs = qcow2_cluster(k->d);
	bool changed = false;
	int err = sparse_pread(k->s, 0, host, k->l2, cs);

	for (uint64_t j = 0; !err && j < 1ull << k->d->l2_bits; j++, off += cs) {
		uint8_t *p = k->l2 + j * k->d->entry;
		struct qcow2_entry e;

		if (!qcow2_l2_decode(k->d, p, off, &e) && e.space && !e.packed)
			changed |= mark(p, alone(k, e.host));
	}
	return err || !changed ? err : sparse_pwrite(k->s, 0, host, k->l2, cs);
}

static int mark_l1(struct sparse *s, uint64_t i, uint64_t entry, void *arg)
{
	const struct qcow2 *q = sparse_priv(s);
	struct count *k = arg;
	uint64_t host;
	uint8_t p[8];
	bool copied;
	int err = 0;

	qcow2_l1_decode(k->d, entry, &host, &copied);
	if (!host)
		return 0;
	put_be64(p, entry);
	if (mark(p, alone(k, host)))
		err = sparse_pwrite(s, 0, q->h.l1_offset + i * 8, p, sizeof(p));
	if (!err && !k->d->external)
		err = mark_l2(k, host, i << qcow2_l1_shift(k->d));
	return err;
}

/* --- all of it --- */

static int rebuild(struct count *k)
{
	struct qcow2 *q = sparse_priv(k->s);
	struct qcow2_reft t;
	uint64_t bad = 0;
	uint8_t field[8];
	int err;

	err = count_all(k);
	if (!err)
		err = qcow2_reft_load(k->s, &t, &bad);
	if (err)
		return err;
	t.changed = bad > 0;
	keep_blocks(k, &t);
	err = add_blocks(k, &t);
	if (!err)
		err = write_blocks(k, &t);
	qcow2_reft_free(&t);
	if (!err)
		err = qcow2_entries_each(k->s, q->h.l1_offset, q->h.l1_entries, mark_l1, k);
	if (!err)
		err = sparse_psync(k->s, 0);
	if (err)
		return err;
	q->h.incompat &= ~(uint64_t)QCOW2_DIRTY;
	put_be64(field, q->h.incompat);
	return qcow2_header_put(k->s, QCOW2_AT_INCOMPAT, field, sizeof(field));
}

int qcow2_rebuild(struct sparse *s)
{
	const struct qcow2 *q = sparse_priv(s);
	struct count k = { .s = s, .d = &q->d };
	uint64_t end = qcow2_file_end(s);
	int err;

	/* Room behind the end for blocks that are missing. */
	k.n = end >> q->d.cluster_bits;
	if (sparse_grows(s, 0))
		k.n += (k.n >> q->d.block_bits) + 64;
	if (k.n > COUNTERS_MAX)
		return refuse(s, "its file is too long to be counted here");
	k.l2_left = min_u64(L2_BYTES_MAX, 8 * end + GiB);
	k.c = calloc(k.n, sizeof(*k.c));
	k.l2 = malloc(qcow2_cluster(&q->d));
	err = k.c && k.l2 ? rebuild(&k) : -ENOMEM;
	free(k.c);
	free(k.l2);
	if (!err)
		td_warn(sparse_node(s), "%s was not closed cleanly: its refcounts were counted anew",
			sparse_node(s)->arg);
	return err;
}
