/* check_refs.c - the refcounts in the file: read, compared with the references that
 * were found, mended in place, or written anew.
 *
 * Made anew, they lie behind everything else, and the header is the last to change:
 * until then the old ones are as they were. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "qcow2/check.h"

typedef unsigned long long ull;

static uint64_t block_entries(const struct qcow2_check *k)
{
	return 1ull << k->im.d.block_bits;
}

/* Of the refcount block of cluster i: where it is, or 0. */
static uint64_t block_of(const struct qcow2_check *k, uint64_t i)
{
	uint64_t at = i >> k->im.d.block_bits, host;

	if (at >= k->reft_entries || qcow2_reft_decode(&k->im.d, k->reft[at], &host))
		return 0;
	return host;
}

/* One refcount block's part of have. */
static void load_block(struct qcow2_check *k, uint64_t index, uint8_t *block)
{
	uint64_t first = index << k->im.d.block_bits, host, v;
	uint64_t n = min_u64(block_entries(k), k->clusters + 1 - first);
	unsigned order = k->im.d.ref_order;

	/* Reserved bits are told of by the walk; the block is there. */
	host = k->reft[index] & QCOW2_REFT_MASK;
	if (!is_aligned(host, qcow2_cluster(&k->im.d)) ||
	    td_blocking_read(k->im.store, host, block, qcow2_cluster(&k->im.d))) {
		k->c->failures += n;
		td_check_say(k->c, "error: refcounts of clusters %llu to %llu cannot "
			     "be read", (ull)first, (ull)(first + n - 1));
		return;
	}
	for (uint64_t i = 0; i < n; i++) {
		v = qcow2_ref_get(block + qcow2_ref_at(order, i), order, i);
		k->have[first + i] = (uint32_t)min_u64(v, UINT32_MAX);
	}
}

int qcow2_check_load(struct qcow2_check *k)
{
	uint64_t n = (uint64_t)k->im.h.reft_clusters << (k->im.d.cluster_bits - 3);
	uint8_t *block;
	int err = qcow2_image_table(&k->im, k->im.h.reft_offset, n, &k->reft);

	if (err)
		return err;
	k->reft_entries = n;
	if (!n)
		k->rebuild = true;
	block = malloc(qcow2_cluster(&k->im.d));
	if (!block)
		return -ENOMEM;
	for (uint64_t i = 0; i < n && i << k->im.d.block_bits <= k->clusters; i++)
		if (k->reft[i])
			load_block(k, i, block);
	free(block);
	return 0;
}

int qcow2_check_mend(struct qcow2_check *k, uint64_t index, bool fresh)
{
	uint64_t first = index << k->im.d.block_bits, host = block_of(k, first);
	uint64_t n = min_u64(block_entries(k), max_u64(k->clusters, first) - first);
	unsigned order = k->im.d.ref_order;
	uint8_t *block = calloc(1, qcow2_cluster(&k->im.d));
	int err = block ? 0 : -ENOMEM;

	if (!err && !fresh)
		err = td_blocking_read(k->im.store, host, block,
				       qcow2_cluster(&k->im.d));
	for (uint64_t i = 0; i < n && !err; i++)
		qcow2_ref_set(block + qcow2_ref_at(order, i), order, i,
			      k->have[first + i]);
	if (!err)
		err = qcow2_image_write(&k->im, host, block,
					qcow2_cluster(&k->im.d));
	free(block);
	return err;
}

/* One cluster; true: have was changed. */
static bool compare(struct qcow2_check *k, uint64_t i)
{
	struct td_check *c = k->c;
	bool leak = k->have[i] > k->want[i];
	bool fix = k->have[i] && !k->rebuild && block_of(k, i) &&
		   (leak ? c->fix_leaks : c->fix_errors);

	td_check_say(c, "%s: cluster %llu: refcount %u, references %u",
		     fix ? "repaired" : leak ? "leak" : "error", (ull)i, k->have[i],
		     k->want[i]);
	if (!k->have[i])
		k->rebuild = true;
	if (fix) {
		*(leak ? &c->leaks_fixed : &c->corruptions_fixed) += 1;
		k->have[i] = k->want[i];
	} else {
		*(leak ? &c->leaks : &c->corruptions) += 1;
	}
	return fix;
}

int qcow2_check_compare(struct qcow2_check *k)
{
	uint64_t last = 0;
	int err = 0;

	for (uint64_t i = 0; i < k->clusters && !k->rebuild; i++)
		k->rebuild = k->want[i] && !k->have[i];
	for (uint64_t from = 0; from < k->clusters && !err; from += block_entries(k)) {
		uint64_t end = min_u64(from + block_entries(k), k->clusters);
		bool changed = false;

		for (uint64_t i = from; i < end; i++) {
			if (k->want[i] || k->have[i])
				last = i;
			if (k->want[i] != k->have[i])
				changed |= compare(k, i);
		}
		if (changed)
			err = qcow2_check_mend(k, from >> k->im.d.block_bits, false);
	}
	k->c->end = (last + 1) << k->im.d.cluster_bits;
	return err;
}

/* A new refcount structure. */

struct layout {
	uint64_t start;			/* cluster where the new part begins */
	uint64_t blocks, table;		/* clusters; the table comes first */
	uint64_t reft_entries;
};

static bool block_needed(const struct qcow2_check *k, const struct layout *l,
			 uint64_t index)
{
	uint64_t first = index << k->im.d.block_bits;
	uint64_t end = first + block_entries(k);

	if (end > l->start && first < l->start + l->table + l->blocks)
		return true;
	for (uint64_t i = first; i < min_u64(end, k->clusters); i++)
		if (k->want[i])
			return true;
	return false;
}

/* The part describes itself too, so its size is found by trying.  The table has room
 * for a file twice as long. */
static int plan(const struct qcow2_check *k, struct layout *l)
{
	unsigned bits = k->im.d.cluster_bits;
	uint64_t blocks = 0, table = 0;

	l->start = k->clusters;
	do {
		uint64_t end;

		l->blocks = blocks;
		l->table = table;
		end = l->start + table + blocks;
		l->reft_entries = (end + block_entries(k) - 1) >> k->im.d.block_bits;
		if (2 * l->reft_entries <= QCOW2_REFT_MAX / 8)
			l->reft_entries *= 2;
		table = align_up(l->reft_entries * 8, 1ull << bits) >> bits;
		blocks = 0;
		for (uint64_t i = 0; i < l->reft_entries; i++)
			blocks += block_needed(k, l, i);
	} while (blocks != l->blocks || table != l->table);
	return table << bits <= QCOW2_REFT_MAX ? 0 : -EFBIG;
}

static uint32_t count_of(const struct qcow2_check *k, const struct layout *l,
			 uint64_t i)
{
	if (i < k->clusters)
		return k->want[i];
	return i < l->start + l->table + l->blocks;
}

static int write_blocks(struct qcow2_check *k, const struct layout *l,
			uint8_t *table)
{
	unsigned order = k->im.d.ref_order, bits = k->im.d.cluster_bits;
	uint64_t at = l->start + l->table;
	uint8_t *block = malloc((size_t)1 << bits);
	int err = block ? 0 : -ENOMEM;

	for (uint64_t b = 0; b < l->reft_entries && !err; b++) {
		uint64_t first = b << k->im.d.block_bits;

		if (!block_needed(k, l, b))
			continue;
		memset(block, 0, (size_t)1 << bits);
		for (uint64_t i = 0; i < block_entries(k); i++)
			qcow2_ref_set(block + qcow2_ref_at(order, i), order, i,
				      count_of(k, l, first + i));
		err = qcow2_image_write(&k->im, at << bits, block,
					(size_t)1 << bits);
		put_be64(table + b * 8, at << bits);
		at++;
	}
	free(block);
	return err;
}

int qcow2_check_rebuild(struct qcow2_check *k)
{
	unsigned bits = k->im.d.cluster_bits;
	struct layout l;
	uint8_t *table, field[12];
	int err = plan(k, &l);

	if (err)
		return err;
	table = calloc(l.table, (size_t)1 << bits);
	if (!table)
		return -ENOMEM;
	err = td_blocking_size(k->im.store, (l.start + l.table + l.blocks) << bits);
	if (!err)
		err = write_blocks(k, &l, table);
	if (!err)
		err = qcow2_image_write(&k->im, l.start << bits, table,
					l.table << bits);
	free(table);
	if (err)
		return err;
	put_be64(field, l.start << bits);
	put_be32(field + 8, (uint32_t)l.table);
	return qcow2_image_header(&k->im, QCOW2_AT_REFT, field, sizeof(field));
}
