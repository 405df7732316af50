/* unmap.c - discard and zeroes, as entries of an L2 table.
 *
 * What an entry can say depends on the image: version 2 has no zero clusters, so
 * there zeroes are "nothing", as long as nothing is below; extended entries say
 * it of each subcluster; the data file of a raw image must hold the zeroes
 * itself.  What cannot be said is -EOPNOTSUPP.
 *
 * A discard behaves as zeroes do: what was discarded must not show the backing
 * file's bytes.  What is behind the end of a disk that shrinks is forgotten instead,
 * with the tables that have nothing else: should the disk grow again, the engine
 * sees to it that it reads as zeroes.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

struct unmap {
	const struct qcow2 *q;
	enum sparse_unmap how;
	bool below;		/* there is a backing file */
};

/* What becomes of an entry whose subclusters `subs` are to be zeroes.  0 or
 * -EOPNOTSUPP. */
static int unmap_entry(const struct unmap *u, uint32_t subs, struct qcow2_entry *e)
{
	const struct qcow2_dims *d = &u->q->d;
	uint32_t all = qcow2_all_subs(d);

	if (u->how == SPARSE_FORGET) {
		*e = (struct qcow2_entry){ 0 };
		return 0;
	}
	if (e->packed) {
		if (subs != all)
			return -EOPNOTSUPP;
	} else if (!u->below && !(e->data & subs) &&
		   (u->how == SPARSE_ZEROES_KEEP || !e->space || e->data)) {
		return 0;		/* reads as zeroes already */
	}
	if (!d->v3) {
		if (u->below || u->how == SPARSE_ZEROES_KEEP)
			return -EOPNOTSUPP;
		*e = (struct qcow2_entry){ 0 };
		return 0;
	}
	if (e->packed)
		*e = (struct qcow2_entry){ 0 };
	e->zero |= subs;
	e->data &= ~subs;
	if (u->how != SPARSE_ZEROES_KEEP && e->space && e->zero == all &&
	    !d->external) {
		e->space = e->copied = false;
		e->host = 0;
	}
	return 0;
}

/* Bits of the subclusters in [off, off + len) of the cluster at `at`; the disk's
 * end cuts none of them. */
static uint32_t subs_in(const struct qcow2_dims *d, uint64_t at, uint64_t off,
			uint64_t len)
{
	uint64_t from = max_u64(off, at);
	uint64_t to = min_u64(align_up(off + len, 1ull << d->unit_bits),
			      at + qcow2_cluster(d));
	unsigned first = (unsigned)((from - at) >> d->unit_bits);
	unsigned n = (unsigned)((to - from) >> d->unit_bits);

	return (n == 32 ? UINT32_MAX : (1u << n) - 1) << first;
}

/* What becomes of the entries of one slice that [off, off + len) touches: *n new
 * ones, up to the first that cannot say it. */
static int unmap_slice(struct sparse *s, const struct unmap *u,
		       const struct sparse_at *a, uint64_t off, uint64_t len,
		       uint8_t *new, unsigned *n, bool *changed)
{
	const struct qcow2_dims *d = &u->q->d;
	uint64_t cs = qcow2_cluster(d), at = align_down(off, cs);
	struct qcow2_entry e, was;
	const char *wrong;
	int err;

	*changed = false;
	for (*n = 0; (*n + 1) * d->entry <= a->left && at < off + len; ++*n, at += cs) {
		wrong = qcow2_l2_decode(d, a->p + *n * d->entry, at, &e);
		if (wrong)
			return sparse_corrupt(s, "%s (offset %llu of the disk)", wrong,
					      (unsigned long long)at);
		was = e;
		err = unmap_entry(u, subs_in(d, at, off, len), &e);
		if (!err && was.space && !e.space)
			err = qcow2_may_drop(s, &was, at);
		if (err && !*n)
			return err;
		if (err)
			break;
		qcow2_l2_encode(d, &e, new + *n * d->entry);
		if (memcmp(new + *n * d->entry, a->p + *n * d->entry, d->entry))
			*changed = true;
	}
	return 0;
}

/* Old entries whose space is in none of the new ones. */
static void drop_old(struct sparse *s, const struct qcow2_dims *d, uint64_t at,
		     const uint8_t *old, const uint8_t *new, unsigned n)
{
	struct qcow2_entry was, is;

	for (unsigned i = 0; i < n; i++) {
		qcow2_l2_decode(d, old + i * d->entry, at, &was);
		qcow2_l2_decode(d, new + i * d->entry, at, &is);
		if (was.space && !is.space)
			qcow2_drop(s, &was);
		at += qcow2_cluster(d);
	}
}

/* No table, and nothing has to be said of what it would map. */
static bool nothing_there(const struct unmap *u, uint64_t off, uint64_t len,
			  uint64_t *done)
{
	uint64_t end = (off | ((1ull << qcow2_l1_shift(&u->q->d)) - 1)) + 1;

	*done = min_u64(len, end - off);
	return !u->below || u->how == SPARSE_FORGET;
}

/* All that the table of off maps is behind the disk's new end, and with [off, end)
 * the last of it is forgotten. */
static bool table_over(struct sparse *s, const struct unmap *u, uint64_t off,
		       uint64_t end)
{
	uint64_t covers = 1ull << qcow2_l1_shift(&u->q->d);
	uint64_t from = align_down(off, covers);

	return u->how == SPARSE_FORGET && from >= u->q->new_size &&
	       end == min_u64(from + covers, sparse_node(s)->size);
}

int qcow2_unmap(struct sparse *s, uint64_t off, uint64_t len,
		enum sparse_unmap how, uint64_t *done)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	const struct unmap u = { q, how, sparse_parent(s) };
	uint64_t cs = qcow2_cluster(d), at = align_down(off, cs), l2;
	uint8_t old[SPARSE_SLICE], new[SPARSE_SLICE];
	static const uint8_t none[8];
	struct sparse_at a, l1;
	bool own, changed, over;
	unsigned n;
	int err;

	if (q->torn)
		return -EIO;
	if (q->h.autoclear & QCOW2_DATA_RAW)
		return -EOPNOTSUPP;
	err = qcow2_l1_get(s, off, &a, &l2, &own);
	if (err)
		return err;
	if (!l2 && nothing_there(&u, off, len, done))
		return 0;
	if (!l2 && !d->v3)
		return -EOPNOTSUPP;
	if (l2 && !own) {		/* is there anything to do? */
		err = sparse_get(s, QC_L2, 0, l2, cs,
				 qcow2_l2_index(d, off) * d->entry, &a);
		if (!err)
			err = unmap_slice(s, &u, &a, off, len, new, &n, &changed);
		if (err)
			return err;
		*done = min_u64(len, at + n * cs - off);
		if (!changed)
			return 0;
	}
	err = qcow2_l2_own(s, off, &l2);
	if (!err)
		err = sparse_get(s, QC_L2, 0, l2, cs,
				 qcow2_l2_index(d, off) * d->entry, &a);
	if (!err)
		err = unmap_slice(s, &u, &a, off, len, new, &n, &changed);
	if (err)
		return err;
	*done = min_u64(len, at + n * cs - off);
	over = table_over(s, &u, off, off + *done);
	if (!changed && !over)
		return 0;
	err = over ? qcow2_l1_get(s, off, &l1, &l2, &own) : 0;
	if (!err)
		err = sparse_room(s, 1 + over);
	if (err)
		return err;
	memcpy(old, a.p, n * d->entry);
	if (changed)
		sparse_put(s, &a, new, n * d->entry);
	drop_old(s, d, at, old, new, n);
	if (over) {
		sparse_put(s, &l1, none, sizeof(none));
		sparse_drop_table(s, 0, l2, cs);
	}
	return 0;
}
