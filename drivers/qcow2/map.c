/* map.c - where bytes of the disk are: L1 entry, L2 entries, extent.
 *
 * An extent lies within one slice of an L2 table, or where there is no table
 * within QCOW2_LINK_SLICES of them: link can then change it in one call.
 *
 * With a data file every cluster has its space, at its own place: it is written
 * in place whatever the entry says, and linked after that.
 */
#include "qcow2/qcow2_priv.h"

int qcow2_l1_get(struct sparse *s, uint64_t off, struct sparse_at *a,
		 uint64_t *l2, bool *copied)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t i = off >> qcow2_l1_shift(&q->d);
	const char *wrong;
	int err;

	ASSERT(i < q->h.l1_entries);
	err = sparse_get(s, QC_L1, 0, q->h.l1_offset, q->l1_bytes, i * 8, a);
	if (err)
		return err;
	wrong = qcow2_l1_decode(&q->d, be64_of(a), l2, copied);
	if (wrong)
		return sparse_corrupt(s, "%s (number %llu)", wrong,
				      (unsigned long long)i);
	return 0;
}

static enum sparse_kind kind_of(const struct qcow2_entry *e, unsigned sub)
{
	if (e->packed)
		return SPARSE_PACKED;
	if (e->data >> sub & 1)
		return SPARSE_DATA;
	return e->zero >> sub & 1 ? SPARSE_ZERO : SPARSE_HOLE;
}

/* How many subclusters from `sub` on are as this one is. */
static unsigned alike(const struct qcow2_dims *d, const struct qcow2_entry *e,
		      unsigned sub)
{
	uint32_t same, other;

	if (e->data >> sub & 1)
		same = e->data;
	else if (e->zero >> sub & 1)
		same = e->zero;
	else
		same = ~(e->data | e->zero);
	other = ~(same >> sub);
	return (unsigned)min_u64(other ? (unsigned)__builtin_ctz(other) : 32,
				 d->subs - sub);
}

/* Entry e, of the cluster at `off`, in the words of the engine.  host is that of
 * the cluster. */
static int extent_of(struct sparse *s, const struct qcow2_entry *e, unsigned sub,
		     uint64_t off, bool l2_own, struct sparse_extent *x)
{
	const struct qcow2 *q = sparse_priv(s);

	*x = (struct sparse_extent){
		.kind = kind_of(e, sub),
		.file = q->data,
		.space = e->space,
		.own = e->copied && l2_own,
		.host = e->host,
	};
	if (q->d.external) {
		x->space = x->own = true;
		x->host = off;
		return 0;
	}
	x->packed = e->packed;
	if (e->space && e->host >= sparse_bytes(s, 0)) {
		/* Reads as zeroes, and is nothing to write to. */
		if (e->packed)
			return sparse_corrupt(s, "compressed bytes at %llu are behind the end of the file",
					      (unsigned long long)e->host);
		x->own = false;
	}
	return 0;
}

static bool follows(const struct sparse_extent *x, uint64_t n,
		    const struct sparse_extent *next)
{
	return next->kind == x->kind && next->kind != SPARSE_PACKED &&
	       next->space == x->space && next->own == x->own &&
	       (!x->space || next->host == x->host + n);
}

static int hole(struct sparse *s, uint64_t off, uint64_t len,
		struct sparse_extent *x)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t covers = qcow2_slice_covers(&q->d);
	uint64_t table = (off | ((1ull << qcow2_l1_shift(&q->d)) - 1)) + 1;
	uint64_t end = align_down(off, covers) + QCOW2_LINK_SLICES * covers;

	*x = (struct sparse_extent){
		.kind = SPARSE_HOLE,
		.file = q->data,
		.length = min_u64(len, min_u64(table, end) - off),
	};
	if (q->d.external) {
		x->space = x->own = true;
		x->host = off;
	}
	return 0;
}

int qcow2_map(struct sparse *s, uint64_t off, uint64_t len,
	      struct sparse_extent *x)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	uint64_t cs = qcow2_cluster(d), in = off & (cs - 1), at = off - in;
	unsigned sub = (unsigned)(in >> d->unit_bits);
	struct sparse_extent next;
	struct qcow2_entry e;
	struct sparse_at a;
	uint64_t l2, n = 0;
	const char *wrong;
	bool own;
	int err;

	err = qcow2_l1_get(s, off, &a, &l2, &own);
	if (err)
		return err;
	if (!l2)
		return hole(s, off, len, x);
	err = sparse_get(s, QC_L2, 0, l2, cs, qcow2_l2_index(d, off) * d->entry, &a);
	if (err)
		return err;
	for (size_t i = 0; i < a.left && n < in + len; i += d->entry) {
		wrong = qcow2_l2_decode(d, a.p + i, at + n, &e);
		if (wrong && !n)
			return sparse_corrupt(s, "%s (offset %llu of the disk)", wrong,
					      (unsigned long long)at);
		if (wrong)
			break;
		err = extent_of(s, &e, sub, at + n, own, &next);
		if (err)
			return err;
		if (!n)
			*x = next;
		else if (!follows(x, n, &next))
			break;
		n += (uint64_t)(sub + alike(d, &e, sub)) << d->unit_bits;
		if (!is_aligned(n, cs) || e.packed)
			break;
		sub = 0;
	}
	x->length = min_u64(n - in, len);
	if (x->space && !x->packed)
		x->host += in;
	return 0;
}
