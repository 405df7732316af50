/* rebuild.c - the refcounts of an image that was left dirty, counted anew.
 *
 * An image with lazy refcounts that was not closed has tables that are right and
 * counts that are not.  All that the header, the disk and its snapshots refer to
 * is counted, as a check does; blocks are written in place, and the dirty bit is
 * cleared last: a crash in between leaves an image that is dirty still.
 *
 * What it costs is bounded by the file's length.  What the check finds wrong is
 * refused: a repair is the tools' work.
 *
 * (This driver never leaves an image dirty: it keeps counts in their order also
 * where an image permits it to be lazy, and does not set the bit.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qcow2/blocking.h"
#include "qcow2/check.h"

#define CLUSTERS_MAX (256ull << 20)
#define READ_MAX (64ull << 30)	/* bytes of tables, of all snapshots together */

struct rebuild {
	struct sparse *s;
	struct qcow2_check k;
	struct td_check c;
	struct qcow2_reft t;
	uint64_t room;			/* clusters of the file, and more behind it */
	char wrong[256];		/* the first thing that is */
};

static int refuse(struct rebuild *r, const char *why)
{
	td_err(sparse_node(r->s), "cannot open %s for writing: it was not closed cleanly, and %s (repair it with tap-img check -r all, or open it read-only)",
	       sparse_node(r->s)->arg, why);
	return -EIO;
}

/* (What a line says was "repaired" is no reason to refuse.) */
static void found(void *arg, const char *line)
{
	static const char error[] = "error: ";
	struct rebuild *r = arg;

	if (!r->wrong[0] && !strncmp(line, error, strlen(error)))
		snprintf(r->wrong, sizeof(r->wrong), "%s", line + strlen(error));
}

static uint64_t file_clusters(const struct rebuild *r)
{
	return qcow2_file_end(r->s) >> r->k.im.d.cluster_bits;
}

/* Room behind the end for blocks that are missing. */
static int set_up(struct rebuild *r)
{
	struct qcow2_check *k = &r->k;
	const struct qcow2 *q = sparse_priv(r->s);

	r->c = (struct td_check){ .say = found, .arg = r };
	k->c = &r->c;
	k->im = (struct qcow2_image){ .store = sparse_node(r->s)->child, .h = q->h,
				      .d = q->d };
	k->bytes = sparse_bytes(r->s, 0);
	k->clusters = file_clusters(r);
	k->read_max = min_u64(READ_MAX, 8 * qcow2_file_end(r->s) + GiB);
	r->room = k->clusters + 1;
	if (sparse_grows(r->s, 0))
		r->room += (k->clusters >> q->d.block_bits) + 64;
	if (r->room > CLUSTERS_MAX)
		return refuse(r, "its file is too long to be counted here");
	k->want = calloc(r->room, sizeof(*k->want));
	k->fixed = calloc(1, k->clusters / 8 + 1);
	k->l2 = malloc(qcow2_cluster(&q->d));
	return k->want && k->fixed && k->l2 ? 0 : -ENOMEM;
}

/* Many that name the same L1 table are read as often: no more of them than scan.c takes.
 * (What is wrong with their table is told when it is counted.) */
static int limit_snapshots(struct rebuild *r)
{
	struct qcow2_image *im = &r->k.im;
	uint64_t l1_bytes = 0;
	struct qcow2_why why;
	int err = qcow2_image_snapshots(im, &why);

	for (uint32_t i = 0; !err && i < im->h.snapshots; i++)
		l1_bytes += im->snap[i].l1_entries * 8ull;
	if (l1_bytes > QCOW2_SNAPSHOT_L1_MAX)
		return refuse(r, "its snapshots have more than 1 GiB of L1 tables");
	return err == -ENOMEM ? err : 0;
}

static int count(struct rebuild *r)
{
	struct qcow2_check *k = &r->k;
	const struct qcow2_header *h = &k->im.h;
	unsigned bits = k->im.d.cluster_bits;
	int err = limit_snapshots(r);

	if (err)
		return err;
	err = qcow2_check_walk(k, 0);
	qcow2_check_ref(k, h->reft_offset, (uint64_t)h->reft_clusters << bits);
	if (err == -EFBIG)
		return refuse(r, "its tables are too many to be counted here");
	if (!err && (r->c.corruptions || r->c.failures))
		return refuse(r, r->wrong);
	if (err)
		return err;
	for (uint64_t i = 0; i < h->reft_clusters; i++)
		if (k->want[(h->reft_offset >> bits) + i] != 1)
			return refuse(r, "its refcount table is in use for something else");
	if (k->want[0] != 1)
		return refuse(r, "its header is in use for something else");
	return 0;
}

/* --- blocks --- */

/* Blocks stay where they are, unless something else is there. */
static void keep_blocks(struct rebuild *r)
{
	struct qcow2_check *k = &r->k;

	for (uint64_t i = 0; i < r->t.n; i++) {
		uint64_t c = r->t.block[i] >> k->im.d.cluster_bits;

		if (!r->t.block[i])
			continue;
		if (c >= r->room || k->want[c]) {
			r->t.block[i] = 0;
			r->t.changed = true;
		} else {
			k->want[c] = 1;
		}
	}
}

/* A block for every cluster that is counted, behind them if there was none. */
static int add_blocks(struct rebuild *r)
{
	struct qcow2_check *k = &r->k;
	uint64_t end = r->room, max = sparse_grows(r->s, 0) ? r->room :
				      k->bytes >> k->im.d.cluster_bits;

	while (!k->want[end - 1])	/* the header is there */
		end--;
	for (uint64_t c = 0; c < end; c++) {
		uint64_t i = c >> k->im.d.block_bits;

		if (!k->want[c])
			continue;
		if (i >= r->t.n)
			return refuse(r, "its refcount table is too small");
		if (r->t.block[i])
			continue;
		if (end >= max)
			return refuse(r, "there is no room for its refcounts");
		r->t.block[i] = end << k->im.d.cluster_bits;
		r->t.changed = true;
		k->want[end++] = 1;
	}
	k->clusters = end;
	return 0;
}

/* Whole clusters, from here on; the counts are those that were found. */
static int make_room(struct rebuild *r)
{
	struct qcow2_check *k = &r->k;
	uint64_t end = max_u64(k->clusters, file_clusters(r)) << k->im.d.cluster_bits;
	int err = end > k->bytes && sparse_grows(r->s, 0) ?
		  sparse_psize(r->s, 0, end) : 0;	/* a device ends where it ends */

	k->bytes = sparse_bytes(r->s, 0);
	k->have = k->want;
	k->reft = r->t.block;
	k->reft_entries = r->t.n;
	return err;
}

static int write_blocks(struct rebuild *r)
{
	int err = 0;

	for (uint64_t i = 0; !err && i < r->t.n; i++)
		if (r->t.block[i])
			err = qcow2_check_mend(&r->k, i, true);
	if (!err)
		err = sparse_psync(r->s, 0);
	if (!err && r->t.changed) {
		err = qcow2_reft_write(r->s, &r->t, r->k.im.h.reft_offset);
		if (!err)
			err = sparse_psync(r->s, 0);
	}
	return err;
}

/* "Not shared" is what the counts say. */
static int write_marks(struct rebuild *r)
{
	int err;

	r->c.fix_errors = true;
	err = qcow2_check_copied(&r->k);
	if (!err && r->c.failures)
		err = refuse(r, r->wrong);
	return err ? err : sparse_psync(r->s, 0);
}

/* --- all of it --- */

static int rebuild(struct rebuild *r)
{
	struct qcow2 *q = sparse_priv(r->s);
	uint64_t bad = 0;
	uint8_t field[8];
	int err = set_up(r);

	if (!err)
		err = count(r);
	if (!err)
		err = qcow2_reft_load(r->s, &r->t, &bad);
	if (err)
		return err;
	r->t.changed = bad > 0;
	keep_blocks(r);
	err = add_blocks(r);
	if (!err)
		err = make_room(r);
	if (!err)
		err = write_blocks(r);
	if (!err)
		err = write_marks(r);
	if (err)
		return err;
	q->h.incompat &= ~(uint64_t)QCOW2_DIRTY;
	put_be64(field, q->h.incompat);
	return qcow2_header_put(r->s, QCOW2_AT_INCOMPAT, field, sizeof(field));
}

int qcow2_rebuild(struct sparse *s)
{
	struct rebuild *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;

	if (r) {
		r->s = s;
		err = rebuild(r);
		qcow2_reft_free(&r->t);
		qcow2_image_free(&r->k.im);
		free(r->k.want);
		free(r->k.fixed);
		free(r->k.l2);
		free(r);
	}
	if (!err)
		td_warn(sparse_node(s), "%s was not closed cleanly: its refcounts were counted anew",
			sparse_node(s)->arg);
	return err;
}
