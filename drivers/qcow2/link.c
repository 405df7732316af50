/* link.c - new space becomes part of the disk: entries of one L2 table.
 *
 * L1  A table is changed in place only if its L1 entry is marked as not shared;
 *     else a copy takes its place, and the old one loses one reference.  Data
 *     that it points to keeps its counts: taking a snapshot has raised them.
 * L2  All entries are decoded before the first is changed.
 * L3  What an entry referred to and does no longer goes to sparse_drop(), after
 *     the change.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

int qcow2_l2_own(struct sparse *s, uint64_t off, uint64_t *l2)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t old, key = off >> qcow2_l1_shift(&q->d);
	uint64_t cs = qcow2_cluster(&q->d);
	struct sparse_at a;
	uint8_t entry[8];
	bool own;
	int err;

	err = qcow2_l1_get(s, off, &a, &old, &own);
	if (err)
		return err;
	if (old && own) {
		*l2 = old;
		return 0;
	}
	err = sparse_room(s, 1);
	if (!err)
		err = sparse_table(s, 0, key, cs, old, l2);
	if (err)
		return err;
	put_be64(entry, *l2 | QCOW2_COPIED);
	sparse_put(s, &a, entry, sizeof(entry));
	sparse_table_done(s, 0, key);
	if (!old)
		return 0;
	sparse_drop_table(s, 0, old, cs);
	/* A snapshot's, perhaps: a table until it is free. */
	sparse_meta_add(s, 0, old, cs);
	return 0;
}

static uint64_t space_of(const struct qcow2_dims *d, const struct qcow2_entry *e)
{
	if (!e->space || d->external)
		return 0;
	return e->packed ? e->packed : qcow2_cluster(d);
}

int qcow2_may_drop(struct sparse *s, const struct qcow2_entry *old, uint64_t off)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t len = space_of(&q->d, old);

	if (!len || !sparse_meta_has(s, 0, old->host, len))
		return 0;
	return sparse_corrupt(s, "data at %llu of the disk is where a table is, at %llu",
			      (unsigned long long)off, (unsigned long long)old->host);
}

void qcow2_drop(struct sparse *s, const struct qcow2_entry *old)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t len = space_of(&q->d, old);

	if (len)
		sparse_drop(s, 0, old->host, len);
}

/* Bits of the subclusters of the cluster at `at` that l covers. */
static uint32_t subs_of(const struct qcow2_dims *d, const struct sparse_link *l,
			uint64_t at)
{
	uint64_t cs = qcow2_cluster(d);
	uint64_t from = max_u64(l->offset, at), to = min_u64(l->offset + l->length,
							    at + cs);
	unsigned first = (unsigned)((from - at) >> d->unit_bits);
	unsigned n = (unsigned)((to - from) >> d->unit_bits);

	return (n == 32 ? UINT32_MAX : (1u << n) - 1) << first;
}

/* What the entry of the cluster at `at`, now e, becomes.  True: its old space is
 * no longer referred to. */
static bool relink(const struct qcow2_dims *d, const struct sparse_link *l,
		   uint64_t at, struct qcow2_entry *e)
{
	uint64_t host = l->host + at - l->offset;	/* may wrap, and back */
	bool replaced = e->space && (e->packed || e->host != host);
	uint32_t subs;

	if (l->packed) {
		*e = (struct qcow2_entry){ .host = l->host, .packed = l->packed,
					   .space = true };
		return replaced;
	}
	subs = subs_of(d, l, at);
	/* Else bytes of the old cluster would be lost. */
	ASSERT(!replaced || (!(e->data & ~subs) &&
			     (!e->packed || subs == qcow2_all_subs(d))));
	e->host = host;
	e->packed = 0;
	e->space = e->copied = true;
	e->data |= subs;
	e->zero &= ~subs;
	return replaced;
}

/* The slices of the L2 table that l is in; entries are checked. */
struct slices {
	unsigned n;
	struct sparse_at a[QCOW2_LINK_SLICES + 1];
	uint64_t at[QCOW2_LINK_SLICES + 1];	/* cluster of the first entry */
	unsigned entries[QCOW2_LINK_SLICES + 1];
};

static int get_slices(struct sparse *s, const struct sparse_link *l, uint64_t l2,
		      struct slices *v)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	uint64_t cs = qcow2_cluster(d);
	uint64_t at = align_down(l->offset, cs), end = l->offset + l->length;
	struct qcow2_entry e;
	const char *wrong;
	int err;

	for (v->n = 0; at < end; v->n++) {
		struct sparse_at *a = &v->a[v->n];
		uint64_t left = (end - at + cs - 1) >> d->cluster_bits;

		ASSERT(v->n < ARRAY_SIZE(v->a));
		err = sparse_get(s, QC_L2, 0, l2, cs,
				 qcow2_l2_index(d, at) * d->entry, a);
		if (err)
			return err;
		v->at[v->n] = at;
		v->entries[v->n] = (unsigned)min_u64(a->left / d->entry, left);
		for (unsigned i = 0; i < v->entries[v->n]; i++, at += cs) {
			struct qcow2_entry was;

			wrong = qcow2_l2_decode(d, a->p + i * d->entry, at, &e);
			if (wrong)
				return sparse_corrupt(s, "%s (offset %llu of the disk)",
						      wrong, (unsigned long long)at);
			was = e;
			err = relink(d, l, at, &e) ? qcow2_may_drop(s, &was, at) : 0;
			if (err)
				return err;
		}
	}
	return 0;
}

static void put_slice(struct sparse *s, const struct sparse_link *l,
		      const struct sparse_at *a, uint64_t at, unsigned entries)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	uint64_t cs = qcow2_cluster(d);
	uint8_t old[SPARSE_SLICE], new[SPARSE_SLICE];
	struct qcow2_entry e;

	memcpy(old, a->p, entries * d->entry);
	for (unsigned i = 0; i < entries; i++) {
		qcow2_l2_decode(d, old + i * d->entry, at + i * cs, &e);
		relink(d, l, at + i * cs, &e);
		qcow2_l2_encode(d, &e, new + i * d->entry);
	}
	sparse_put(s, a, new, entries * d->entry);
	for (unsigned i = 0; i < entries; i++) {
		struct qcow2_entry was;

		qcow2_l2_decode(d, old + i * d->entry, at + i * cs, &e);
		was = e;
		if (relink(d, l, at + i * cs, &e))
			qcow2_drop(s, &was);
	}
}

int qcow2_link(struct sparse *s, const struct sparse_link *l)
{
	const struct qcow2 *q = sparse_priv(s);
	struct slices v;
	uint64_t l2;
	int err;

	if (q->torn)
		return -EIO;
	if (l->packed && !qcow2_packed_fits(&q->d, l->host, l->packed))
		return -EFBIG;
	if (!l->packed && l->host + l->length > QCOW2_HOST_MAX)
		return -EFBIG;
	err = qcow2_l2_own(s, l->offset, &l2);
	if (!err)
		err = get_slices(s, l, l2, &v);
	if (!err)
		err = sparse_room(s, v.n);
	if (err)
		return err;
	for (unsigned i = 0; i < v.n; i++)
		put_slice(s, l, &v.a[i], v.at[i], v.entries[i]);
	return 0;
}
