/* bitmaps.c - persistent bitmaps: which parts of the disk a backup has to copy.
 *
 * They are not kept up here.  So that none is believed after a write of ours, all
 * that are recording get their "in use" mark before the first one, as after a
 * crash: their owner then knows that they are of no use.  Those that are switched
 * off do not claim to know what is written now, and stay as they are.
 */
#include <errno.h>
#include <stdlib.h>

#include "qcow2/blocking.h"

#define TABLES_MAX (1ull << 30)	/* bytes, of all bitmaps together */

int qcow2_bitmaps_each(struct sparse *s, qcow2_bitmap_fn *fn, void *arg)
{
	const struct qcow2_header *h = &((struct qcow2 *)sparse_priv(s))->h;
	uint64_t size = h->bitmap_dir_size, at = 0, bytes = 0;
	struct qcow2_bitmap b = { 0 };
	uint8_t *dir;
	int err;

	if (!(h->autoclear & QCOW2_BITMAPS))
		return 0;
	dir = malloc(size);
	if (!dir)
		return -ENOMEM;
	err = sparse_pread(s, 0, h->bitmap_dir_offset, dir, size);
	for (uint32_t i = 0; !err && i < h->bitmaps; i++, at += b.length) {
		if (!qcow2_bitmap_decode(dir + at, size - at, &b) ||
		    !is_aligned(b.table, 1ull << h->cluster_bits) ||
		    !range_ok(b.table, b.entries * 8ull, qcow2_file_end(s)) ||
		    (bytes += b.entries * 8ull) > TABLES_MAX)
			err = -EINVAL;
		else
			err = fn(s, &b, h->bitmap_dir_offset + at, arg);
	}
	free(dir);
	return err;
}

static int outdate(struct sparse *s, const struct qcow2_bitmap *b, uint64_t at, void *arg)
{
	unsigned *n = arg;
	uint8_t flags[4];

	if (!(b->flags & QCOW2_BM_AUTO) || b->flags & QCOW2_BM_IN_USE)
		return 0;
	put_be32(flags, b->flags | QCOW2_BM_IN_USE);
	++*n;
	return sparse_pwrite(s, 0, at + QCOW2_BITMAP_FLAGS_AT, flags, sizeof(flags));
}

int qcow2_bitmaps_outdate(struct sparse *s, uint64_t *autoclear)
{
	const struct qcow2 *q = sparse_priv(s);
	const struct td_node *node = sparse_node(s);
	unsigned n = 0;
	int err = qcow2_bitmaps_each(s, outdate, &n);

	if (err == -EINVAL) {
		td_warn(node, "the bitmaps of %s are damaged: they are given up, backups have to be full ones",
			node->arg);
		*autoclear &= ~(uint64_t)QCOW2_BITMAPS;
		return 0;
	}
	if (err || !(q->h.autoclear & QCOW2_BITMAPS))
		return err;
	if (n)
		td_warn(node, "%s has %u bitmaps for backups, which are not kept up here: they are marked as inconsistent, the next backup has to be a full one",
			node->arg, n);
	return sparse_psync(s, 0);	/* also of an attempt before that failed */
}
