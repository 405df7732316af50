/* refcount.c - who refers to which cluster of the file.
 *
 * R1  A count is changed only if it neither falls below 0 nor rises above what
 *     its bits can say; else nothing is changed.
 * R2  A new refcount block is the first cluster of the run whose counts it is
 *     to hold, so it counts itself and needs no other.
 * R3  Cluster 0 is the header: it is never handed out.
 *
 * The refcount table is not made larger here (grow.c): what it does not cover
 * is not to be had.
 */
#include <errno.h>

#include "qcow2/qcow2_priv.h"

/* Some refcounts of one slice of a block, from cluster `first` on. */
struct counts {
	struct sparse_at a;		/* where first's begins */
	uint64_t first;
	unsigned n;			/* in this slice, from first on */
	unsigned skip;			/* of a's first byte, before first's */
	uint8_t bytes[SPARSE_SLICE];	/* a copy, to be changed */
};

static uint64_t count_get(const struct qcow2_dims *d, const struct counts *c,
			  unsigned i)
{
	i += c->skip;
	return qcow2_ref_get(c->bytes + qcow2_ref_at(d->ref_order, i), d->ref_order,
			     i);
}

static void count_set(const struct qcow2_dims *d, struct counts *c, unsigned i,
		      uint64_t v)
{
	i += c->skip;
	qcow2_ref_set(c->bytes + qcow2_ref_at(d->ref_order, i), d->ref_order, i, v);
}

/* The first n counts have been changed. */
static void counts_put(struct sparse *s, const struct qcow2_dims *d,
		       const struct counts *c, unsigned n)
{
	uint64_t end = c->skip + n - 1;

	sparse_put(s, &c->a, c->bytes,
		   qcow2_ref_at(d->ref_order, end) + qcow2_ref_bytes(d->ref_order));
}

/* The entry of the refcount table for a cluster.  *block: 0 if there is none.
 * -ENOSPC: the table does not reach so far. */
static int reft_get(struct sparse *s, uint64_t cluster, struct sparse_at *a,
		    uint64_t *block)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t at = (cluster >> q->d.block_bits) * 8;
	const char *wrong;
	int err;

	if (at >= q->reft_bytes)
		return -ENOSPC;
	err = sparse_get(s, QC_REFT, 0, q->h.reft_offset, q->reft_bytes, at, a);
	if (err)
		return err;
	wrong = qcow2_reft_decode(&q->d, be64_of(a), block);
	if (wrong)
		return sparse_corrupt(s, "%s (number %llu)", wrong,
				      (unsigned long long)at / 8);
	return 0;
}

/* Up to n counts from `cluster` on, of a block. */
static int counts_get(struct sparse *s, uint64_t block, uint64_t cluster, uint64_t n,
		      struct counts *c)
{
	const struct qcow2 *q = sparse_priv(s);
	unsigned order = q->d.ref_order;
	uint64_t i = cluster & ((1ull << q->d.block_bits) - 1);
	uint64_t there;
	int err;

	err = sparse_get(s, QC_BLOCK, 0, block, qcow2_cluster(&q->d),
			 qcow2_ref_at(order, i), &c->a);
	if (err)
		return err;
	c->first = cluster;
	c->skip = order < 3 ? (unsigned)i & ((8u >> order) - 1) : 0;
	there = order < 3 ? ((uint64_t)c->a.left << (3 - order)) - c->skip :
			    c->a.left >> (order - 3);
	c->n = (unsigned)min_u64(n, there);
	memcpy(c->bytes, c->a.p, qcow2_ref_at(order, c->skip + c->n - 1) +
				 qcow2_ref_bytes(order));
	return 0;
}

/* Free clusters from the first one on that is: how many of c's are to be
 * skipped, how many taken. */
static void free_run(const struct qcow2_dims *d, const struct counts *c,
		     unsigned *from, unsigned *n)
{
	unsigned i = 0, end;

	while (i < c->n && count_get(d, c, i))
		i++;
	for (end = i; end < c->n && !count_get(d, c, end);)
		end++;
	*from = i;
	*n = end - i;
}

int qcow2_claim(struct sparse *s, unsigned file, uint64_t *host, uint64_t *len)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	unsigned bits = d->cluster_bits, from, n;
	uint64_t cluster = *host >> bits, block;
	struct sparse_at reft;
	struct counts c;
	uint8_t entry[8];
	bool fresh;
	int err;

	ASSERT(file == 0 && cluster > 0 && *len >= qcow2_cluster(d));
	if (q->torn)
		return -EIO;
	err = reft_get(s, cluster, &reft, &block);
	if (err == -ENOSPC || *host >= QCOW2_HOST_MAX) {
		*len = 0;
		return 0;
	}
	if (err)
		return err;
	fresh = !block;
	if (fresh) {
		block = *host;
		err = sparse_table_at(s, 0, block, qcow2_cluster(d));
		if (err)
			return err;
	}
	err = counts_get(s, block, cluster, *len >> bits, &c);
	if (!err)
		err = sparse_room(s, 2);
	if (err)
		return err;
	free_run(d, &c, &from, &n);
	for (unsigned i = from; i < from + n; i++)
		count_set(d, &c, i, 1);
	if (n)
		counts_put(s, d, &c, from + n);
	if (fresh) {
		put_be64(entry, block);
		sparse_put(s, &reft, entry, sizeof(entry));
		from++;
		n--;
	}
	*host += (uint64_t)from << bits;
	*len = (uint64_t)n << bits;
	return 0;
}

/* Change the counts of all clusters that [host, host + len) touches, in as many
 * slices as it takes: for packed bytes, few. */
#define TOUCHES_MAX 4u
int qcow2_share(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	uint64_t c0 = host >> d->cluster_bits;
	uint64_t c1 = (host + len - 1) >> d->cluster_bits, block;
	struct counts c;
	struct sparse_at reft;
	int err;

	ASSERT(file == 0 && len && c1 - c0 < TOUCHES_MAX);
	/* The first time through is to see that all can be done. */
	for (int put = 0; put < 2; put++) {
		for (uint64_t i = c0; i <= c1; i++) {
			err = reft_get(s, i, &reft, &block);
			if (!err && block)
				err = counts_get(s, block, i, 1, &c);
			if (err)
				return err;
			if (!block || !count_get(d, &c, 0))
				return sparse_corrupt(s, "cluster %llu is in use and has no refcount",
						      (unsigned long long)i);
			if (count_get(d, &c, 0) == qcow2_ref_max(d->ref_order))
				return -ENOSPC;
			if (!put)
				continue;
			count_set(d, &c, 0, count_get(d, &c, 0) + 1);
			counts_put(s, d, &c, 1);
		}
		err = put ? 0 : sparse_room(s, TOUCHES_MAX);
		if (err)
			return err;
	}
	return 0;
}

int qcow2_release(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		  uint64_t *done)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	unsigned bits = d->cluster_bits, n = 0;
	uint64_t c0 = host >> bits, c1 = (host + len - 1) >> bits, block;
	struct sparse_at reft;
	struct counts c;
	int err;

	ASSERT(file == 0 && len);
	if (q->torn)
		return -EIO;
	err = reft_get(s, c0, &reft, &block);
	if (!err && block)
		err = counts_get(s, block, c0, c1 - c0 + 1, &c);
	if (err && err != -ENOSPC)
		return err;
	if (!err && block)
		while (n < c.n && count_get(d, &c, n))
			n++;
	if (!n)
		return sparse_corrupt(s, "cluster %llu was in use and has no refcount",
				      (unsigned long long)c0);
	err = sparse_room(s, 1);
	if (err)
		return err;
	for (unsigned i = 0; i < n; i++)
		count_set(d, &c, i, count_get(d, &c, i) - 1);
	counts_put(s, d, &c, n);
	for (unsigned i = 0, end; i < n; i = end + 1) {
		for (end = i; end < n && !count_get(d, &c, end);)
			end++;
		if (end > i)
			sparse_freed(s, 0, (c0 + i) << bits,
				     (uint64_t)(end - i) << bits);
	}
	*done = min_u64(len, ((c0 + n) << bits) - host);
	return 0;
}

#define SEARCH_MAX 32768u	/* clusters of one step */
int qcow2_search(struct sparse *s, uint64_t *host, uint64_t *len, bool *more)
{
	struct qcow2 *q = sparse_priv(s);
	const struct qcow2_dims *d = &q->d;
	uint64_t block, left = q->search_end - q->search;
	unsigned from, n;
	struct sparse_at reft;
	struct counts c;
	int err;

	*len = 0;
	*more = false;
	if (!left)
		return 0;
	err = reft_get(s, q->search, &reft, &block);
	if (err == -ENOSPC) {
		q->search = q->search_end;
		return 0;
	}
	if (err)
		return err;
	*host = q->search << d->cluster_bits;
	if (!block) {			/* so all that it would count is free */
		n = 1u << d->block_bits;
		n = (unsigned)min_u64(left, n - (q->search & (n - 1)));
		n = (unsigned)min_u64(n, SEARCH_MAX);
		*len = (uint64_t)n << d->cluster_bits;
		q->search += n;
	} else {
		err = counts_get(s, block, q->search, left, &c);
		if (err)
			return err;
		free_run(d, &c, &from, &n);
		*host += (uint64_t)from << d->cluster_bits;
		*len = (uint64_t)n << d->cluster_bits;
		q->search += from + n;
	}
	*more = q->search < q->search_end;
	return 0;
}
