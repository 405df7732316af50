/* grow.c - space for tables while no request runs: a larger refcount table, a
 * larger L1 table.  And how far the disk may be resized.
 *
 * G1  New clusters come from behind all that is in use, so their counts were 0.
 * G2  Counts, then what is counted, then the pointer to it, each on stable
 *     storage before the next; what is replaced loses its counts last.  A power
 *     cut leaves at worst clusters that are counted and unused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "qcow2/blocking.h"

int qcow2_header_put(struct sparse *s, enum qcow2_at at, const void *bytes,
		     size_t len)
{
	int err = sparse_pwrite(s, 0, at, bytes, len);

	return err ? err : sparse_psync(s, 0);
}

/* A header field that names a table is to name another.  If that fails it may have
 * been written all the same: what it was is put back; and if that fails too, nobody
 * knows which table the image has, and nothing may be changed until it is put back. */
static int header_switch(struct sparse *s, enum qcow2_at at, const void *new,
			 size_t len)
{
	struct qcow2 *q = sparse_priv(s);
	int err = qcow2_header_put(s, at, new, len);

	if (!err)
		return 0;
	q->torn = true;
	if (qcow2_untear(s))
		td_warn(sparse_node(s), "%s: its header cannot be written: nothing of it is changed until it can",
			sparse_node(s)->arg);
	return err;
}

int qcow2_untear(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	uint8_t l1[12], reft[12];
	int err;

	if (!q->torn)
		return 0;
	put_be32(l1, q->h.l1_entries);
	put_be64(l1 + 4, q->h.l1_offset);
	put_be64(reft, q->h.reft_offset);
	put_be32(reft + 8, q->h.reft_clusters);
	err = sparse_pwrite(s, 0, QCOW2_AT_L1, l1, sizeof(l1));
	if (!err)
		err = qcow2_header_put(s, QCOW2_AT_REFT, reft, sizeof(reft));
	q->torn = err;
	return err;
}

/* --- the refcount table --- */

int qcow2_reft_load(struct sparse *s, struct qcow2_reft *t, uint64_t *bad)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t end = qcow2_file_end(s);
	int err;

	*t = (struct qcow2_reft){ .n = q->reft_bytes / 8 };
	t->block = malloc(q->reft_bytes);
	if (!t->block)
		return -ENOMEM;
	err = sparse_pread(s, 0, q->h.reft_offset, t->block, q->reft_bytes);
	for (uint64_t i = 0; !err && i < t->n; i++) {
		uint64_t host;
		const char *wrong = qcow2_reft_decode(&q->d, get_be64(&t->block[i]),
						      &host);

		t->block[i] = host;
		if (!wrong && host && host >= end)
			wrong = "a refcount block is behind the end of the file";
		if (!wrong)
			continue;
		t->block[i] = 0;
		if (bad) {
			++*bad;
			continue;
		}
		td_err(sparse_node(s), "cannot open %s for writing: %s (repair it with tap-img check -r all, or open it read-only)",
		       sparse_node(s)->arg, wrong);
		err = -EIO;
	}
	if (err)
		qcow2_reft_free(t);
	return err;
}

void qcow2_reft_free(struct qcow2_reft *t)
{
	free(t->block);
	t->block = NULL;
}

int qcow2_reft_write(struct sparse *s, const struct qcow2_reft *t, uint64_t host)
{
	uint8_t *buf = malloc(t->n * 8);
	int err;

	if (!buf)
		return -ENOMEM;
	for (uint64_t i = 0; i < t->n; i++)
		put_be64(buf + 8 * i, t->block[i]);
	err = sparse_pwrite(s, 0, host, buf, t->n * 8);
	free(buf);
	return err;
}

/* Add delta, 1 or -1, to the counts of [from, to) that block i holds. */
static int block_change(struct sparse *s, uint8_t *buf, uint64_t host, bool fresh,
			uint64_t i, uint64_t from, uint64_t to, int delta)
{
	const struct qcow2 *q = sparse_priv(s);
	unsigned order = q->d.ref_order;
	uint64_t first = i << q->d.block_bits, cs = qcow2_cluster(&q->d);
	uint64_t last = first + (1ull << q->d.block_bits);
	int err = 0;

	if (fresh)
		memset(buf, 0, cs);
	else
		err = sparse_pread(s, 0, host, buf, cs);
	if (err)
		return err;
	for (uint64_t c = max_u64(from, first); c < min_u64(to, last); c++) {
		uint8_t *p = buf + qcow2_ref_at(order, c - first);
		uint64_t v = qcow2_ref_get(p, order, c - first);

		if (delta > 0 ? v < qcow2_ref_max(order) : v > 0)
			qcow2_ref_set(p, order, c - first,
				      v + (uint64_t)(int64_t)delta);
	}
	return sparse_pwrite(s, 0, host, buf, cs);
}

static int change_counts(struct sparse *s, const struct qcow2_reft *t,
			 uint64_t from, uint64_t to, uint64_t fresh_from, int delta)
{
	const struct qcow2 *q = sparse_priv(s);
	unsigned bits = q->d.block_bits;
	uint8_t *buf = malloc(qcow2_cluster(&q->d));
	int err = buf ? 0 : -ENOMEM;

	for (uint64_t i = from >> bits; !err && i <= (to - 1) >> bits; i++)
		if (t->block[i])
			err = block_change(s, buf, t->block[i],
					   t->block[i] >= fresh_from, i, from, to,
					   delta);
	free(buf);
	return err;
}

int qcow2_append(struct sparse *s, struct qcow2_reft *t, uint64_t n, uint64_t *host)
{
	struct qcow2 *q = sparse_priv(s);
	unsigned bits = q->d.block_bits, cbits = q->d.cluster_bits;
	uint64_t base = q->end >> cbits, blocks = 0, missing, end;
	int err = 0;

	for (;; blocks = missing) {
		end = base + n + blocks;
		if ((end - 1) >> bits >= t->n || end > QCOW2_HOST_MAX >> cbits ||
		    (!sparse_grows(s, 0) && end > sparse_bytes(s, 0) >> cbits))
			return -ENOSPC;
		missing = 0;
		for (uint64_t i = base >> bits; i <= (end - 1) >> bits; i++)
			missing += !t->block[i];
		if (missing == blocks)
			break;
	}
	missing = base + n;
	for (uint64_t i = base >> bits; i <= (end - 1) >> bits && !err; i++) {
		if (t->block[i])
			continue;
		t->block[i] = missing++ << cbits;
		t->changed = true;
		err = sparse_meta_add(s, 0, t->block[i], 1ull << cbits);
	}
	if (!err)
		err = change_counts(s, t, base, end, (base + n) << cbits, 1);
	if (err)
		return err;
	q->end = end << cbits;
	*host = base << cbits;
	return sparse_psync(s, 0);
}

int qcow2_uncount(struct sparse *s, const struct qcow2_reft *t, uint64_t host,
		  uint64_t n)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t from = host >> q->d.cluster_bits;

	if (!n || (from + n - 1) >> q->d.block_bits >= t->n)
		return 0;
	return change_counts(s, t, from, from + n, UINT64_MAX, -1);
}

/* The header names the larger table t, which is at host; the old one is free. */
static int reft_switch(struct sparse *s, struct qcow2_reft *t, uint64_t host,
		       uint32_t clusters)
{
	struct qcow2 *q = sparse_priv(s);
	uint64_t old = q->h.reft_offset, old_bytes = q->reft_bytes;
	uint32_t old_clusters = q->h.reft_clusters;
	uint8_t field[12];
	int err;

	err = qcow2_reft_write(s, t, host);
	if (!err)
		err = sparse_psync(s, 0);
	if (err)
		return err;
	put_be64(field, host);
	put_be32(field + 8, clusters);
	err = header_switch(s, QCOW2_AT_REFT, field, sizeof(field));
	if (err)
		return err;
	q->h.reft_offset = host;
	q->h.reft_clusters = clusters;
	q->reft_bytes = t->n * 8;
	err = sparse_meta_add(s, 0, host, q->reft_bytes);
	if (err)
		return err;
	sparse_meta_del(s, 0, old, old_bytes);
	return qcow2_uncount(s, t, old, old_clusters);
}

int qcow2_reft_reserve(struct sparse *s, uint64_t bytes)
{
	const struct qcow2 *q = sparse_priv(s);
	uint64_t cs = qcow2_cluster(&q->d), clusters, host, *block;
	uint64_t need = (bytes >> (q->d.block_bits + q->d.cluster_bits)) + 1;
	struct qcow2_reft t;
	int err;

	need = min_u64(need, QCOW2_REFT_MAX / 8);
	if (need * 8 <= q->reft_bytes)
		return 0;
	clusters = (need * 8 + cs - 1) / cs;
	err = qcow2_reft_load(s, &t, NULL);
	if (err)
		return err;
	block = realloc(t.block, clusters * cs);
	if (!block) {
		qcow2_reft_free(&t);
		return -ENOMEM;
	}
	memset(block + t.n, 0, clusters * cs - t.n * 8);
	t.block = block;
	t.n = clusters * cs / 8;
	err = qcow2_append(s, &t, clusters, &host);
	if (err == -ENOSPC)
		err = 0;	/* a full device: there is no use for it */
	else if (!err)
		err = reft_switch(s, &t, host, (uint32_t)clusters);
	qcow2_reft_free(&t);
	return err;
}

/* The highest cluster of block i that is counted, + 1; 0: none is. */
static int block_end(struct sparse *s, const struct qcow2_reft *t, uint64_t i,
		     uint8_t *buf, uint64_t *end)
{
	const struct qcow2 *q = sparse_priv(s);
	unsigned order = q->d.ref_order;
	uint64_t n = 1ull << q->d.block_bits;
	int err = sparse_pread(s, 0, t->block[i], buf, qcow2_cluster(&q->d));

	while (!err && n && !qcow2_ref_get(buf + qcow2_ref_at(order, n - 1), order,
					   n - 1))
		n--;
	*end = n ? (i << q->d.block_bits) + n : 0;
	return err;
}

/* So many refcount blocks behind the file's end may be without a count. */
#define EMPTY_MAX 1024u

static int find_end(struct sparse *s, const struct qcow2_reft *t, uint64_t floor,
		    uint8_t *buf)
{
	struct qcow2 *q = sparse_priv(s);
	uint64_t end = 0, i = t->n;
	unsigned empty = 0;
	int err = 0;

	while (!err && !end && i-- > floor >> (q->d.cluster_bits + q->d.block_bits)) {
		if (!t->block[i])
			continue;
		if (++empty > EMPTY_MAX) {
			td_err(sparse_node(s), "cannot open %s for writing: its refcount table is full of empty blocks (repair it with tap-img check -r all)",
			       sparse_node(s)->arg);
			return -EIO;
		}
		err = block_end(s, t, i, buf, &end);
	}
	q->end = max_u64(max_u64(q->end, floor), end << q->d.cluster_bits);
	return err;
}

int qcow2_find_end(struct sparse *s, uint64_t floor)
{
	const struct qcow2 *q = sparse_priv(s);
	struct qcow2_reft t;
	uint8_t *buf;
	int err = qcow2_reft_load(s, &t, NULL);

	if (err)
		return err;
	buf = malloc(qcow2_cluster(&q->d));
	err = buf ? find_end(s, &t, floor, buf) : -ENOMEM;
	free(buf);
	qcow2_reft_free(&t);
	return err;
}

/* --- resize --- */

static int check_resize(struct sparse *s, uint64_t size)
{
	const struct qcow2 *q = sparse_priv(s);

	if (size > INT64_MAX ||
	    qcow2_l1_needed(size, q->d.cluster_bits, q->d.ext) > QCOW2_L1_MAX)
		return sparse_refuse(s, -EFBIG, "so large a disk needs larger clusters");
	if (!q->d.v3 && q->h.snapshots)
		return sparse_refuse(s, -EOPNOTSUPP,
				     "it is of version 2 and has snapshots");
	if (q->h.autoclear & QCOW2_BITMAPS)
		return sparse_refuse(s, -EOPNOTSUPP, "it has bitmaps (qemu-img bitmap "
				     "--remove takes them away)");
	if (q->h.autoclear & QCOW2_DATA_RAW)
		return sparse_refuse(s, -EOPNOTSUPP, "its data file is a raw image");
	return 0;
}

/* An L1 table for `need` entries, with what the present one has. */
static int l1_grow(struct sparse *s, uint32_t need)
{
	struct qcow2 *q = sparse_priv(s);
	uint64_t cs = qcow2_cluster(&q->d), host = 0;
	uint64_t clusters = (need * 8ull + cs - 1) / cs;
	struct qcow2_reft t;
	uint8_t *buf, field[12];
	int err;

	err = qcow2_reft_load(s, &t, NULL);
	if (err)
		return err;
	buf = calloc(clusters, cs);
	err = buf ? qcow2_append(s, &t, clusters, &host) : -ENOMEM;
	if (!err && t.changed) {
		err = qcow2_reft_write(s, &t, q->h.reft_offset);
		if (!err)
			err = sparse_psync(s, 0);
	}
	if (!err && q->l1_bytes)
		err = sparse_pread(s, 0, q->h.l1_offset, buf, q->l1_bytes);
	if (!err)
		err = sparse_pwrite(s, 0, host, buf, clusters * cs);
	if (!err)
		err = sparse_psync(s, 0);
	if (err)
		goto out;
	put_be32(field, need);
	put_be64(field + 4, host);
	err = header_switch(s, QCOW2_AT_L1, field, sizeof(field));
	if (err)
		goto out;
	if (q->l1_bytes) {
		sparse_meta_del(s, 0, q->h.l1_offset, align_up(q->l1_bytes, cs));
		err = qcow2_uncount(s, &t, q->h.l1_offset,
				    align_up(q->l1_bytes, cs) / cs);
	}
	q->h.l1_offset = host;
	q->h.l1_entries = need;
	q->l1_bytes = need * 8ull;
	if (!err)
		err = sparse_meta_add(s, 0, host, clusters * cs);
out:
	free(buf);
	qcow2_reft_free(&t);
	return err;
}

int qcow2_resize(struct sparse *s, uint64_t size)
{
	struct qcow2 *q = sparse_priv(s);
	uint64_t need = qcow2_l1_needed(size, q->d.cluster_bits, q->d.ext);
	int err;

	err = qcow2_untear(s);
	if (!err)
		err = check_resize(s, size);
	if (err)
		return err;
	/* Not among what the engine knows to be free: it would hand it out, or cut it
	 * off. */
	err = qcow2_find_end(s, max_u64(q->end, sparse_end(s, 0)));
	if (!err)
		err = qcow2_reft_reserve(s, qcow2_reach(q, size));
	if (!err && need > q->h.l1_entries)
		err = l1_grow(s, (uint32_t)need);
	if (!err && q->d.external && sparse_bytes(s, q->data) < size)
		err = sparse_psize(s, q->data, size);
	/* Tables may have moved there, also if it failed after that. */
	sparse_appends(s, 0, q->end);
	if (err)
		return err;
	sparse_geometry(s, size, 1u << q->d.cluster_bits, 1u << q->d.unit_bits);
	q->new_size = size;
	return 0;
}

/* A snapshot that does not say how large its disk is (the extra data of old versions
 * of QEMU), or says 0, has the disk's size, whatever that becomes. */
static int says_size(struct sparse *s, const struct qcow2_snapshot *sn, void *arg)
{
	const char *mend = sn->extra_len < 16 ? ", or mend it: qemu-img check -r all" : "";
	char why[192];

	(void)arg;
	if (sn->disk_size)
		return 0;
	snprintf(why, sizeof(why), "its snapshot '%.*s' has no size of its own, and would be "
		 "cut as well (delete it%s)", (int)min_u64(sn->name_len, 40),
		 (const char *)sn->name, mend);
	return sparse_refuse(s, -EOPNOTSUPP, why);
}

int qcow2_shrink(struct sparse *s, uint64_t size)
{
	struct qcow2 *q = sparse_priv(s);
	uint64_t bytes;
	int err = qcow2_untear(s);

	if (!err)
		err = check_resize(s, size);
	if (!err)
		err = qcow2_snapshots_each(s, says_size, NULL, &bytes);
	if (!err)
		q->new_size = size;
	return err;
}

int qcow2_resized(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	bool less = q->new_size < q->h.size;
	uint8_t field[8];
	int err;

	put_be64(field, q->new_size);
	err = qcow2_header_put(s, QCOW2_AT_SIZE, field, sizeof(field));
	if (!err)
		q->h.size = q->new_size;
	if (!err && less && q->d.external && sparse_grows(s, q->data) &&
	    sparse_psize(s, q->data, q->new_size))
		td_warn(sparse_node(s), "the data file of %s stays as long as it is",
			sparse_node(s)->arg);
	return err;
}
