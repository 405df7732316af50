/* check.c - see check.h.
 *
 * Order: references are counted (entries that hold nothing and cannot be right are
 * zeroed on the way), refcounts compared and mended in place, or all made anew when
 * a cluster in use has none or their structure is damaged; then COPIED flags, which
 * need refcounts that are right; last, when nothing is wrong any more, the marks
 * that say that the image is dirty or damaged.
 */
#include "qcow2/check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define CLUSTERS_MAX INT32_MAX	/* 16 GiB of memory */

/* Repairs write whole clusters: the last one too must be there. */
static int whole_clusters(struct qcow2_check *k)
{
	uint64_t size = align_up(k->im.store->size, qcow2_cluster(&k->im.d));

	if (size == k->im.store->size || !(k->c->fix_leaks || k->c->fix_errors) ||
	    !(k->im.store->caps & TD_CAP_EXTENTS))	/* a device */
		return 0;
	return td_blocking_size(k->im.store, size);
}

static int begin(struct qcow2_check *k)
{
	const struct qcow2_dims *d = &k->im.d;
	int err = whole_clusters(k);

	if (err)
		return err;
	k->bytes = k->im.store->size;
	k->clusters = (k->bytes + qcow2_cluster(d) - 1) >> d->cluster_bits;
	if (k->clusters > CLUSTERS_MAX)
		return -EFBIG;
	k->c->total = (k->im.h.size + qcow2_cluster(d) - 1) >> d->cluster_bits;
	k->want = calloc(k->clusters + 1, sizeof(*k->want));
	k->have = calloc(k->clusters + 1, sizeof(*k->have));
	k->fixed = calloc(1, k->clusters / 8 + 1);
	k->l2 = malloc(qcow2_cluster(d));
	return k->want && k->have && k->fixed && k->l2 ? 0 : -ENOMEM;
}

/* Twice what the tables of a good image can take, in each walk. */
static int walk(struct qcow2_check *k, unsigned how)
{
	int err;

	k->read_max = 2 * k->bytes + qcow2_cluster(&k->im.d);
	err = qcow2_check_walk(k, how);
	if (err == -EFBIG)
		td_err(k->im.store, "cannot check %s: its header and its L1 tables name more "
		       "tables than its file can hold", k->im.store->arg);
	k->told = err == -EFBIG;
	k->read_max = UINT64_MAX;	/* what comes reads no other tables */
	return err;
}

static void end(struct qcow2_check *k)
{
	free(k->want);
	free(k->have);
	free(k->fixed);
	free(k->reft);
	free(k->l2);
	qcow2_image_free(&k->im);
}

static void nothing_said(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

/* The references again, without the old refcount structure; then a new one.  What
 * this walk finds wrong again is not of the refcounts, and stays. */
static int make_anew(struct qcow2_check *k)
{
	struct td_check *c = k->c, was = *c, rest = { .say = nothing_said };
	int err;

	td_check_say(c, "refcounts are made anew");
	memset(k->want, 0, k->clusters * sizeof(*k->want));
	k->c = &rest;
	err = walk(k, 0);
	k->c = c;
	if (!err)
		err = qcow2_check_rebuild(k);
	if (err)
		return err;
	c->corruptions = min_u64(rest.corruptions, was.corruptions);
	c->corruptions_fixed += was.corruptions - c->corruptions;
	c->leaks_fixed += was.leaks;
	c->leaks = 0;
	c->failures = rest.failures;
	memcpy(k->have, k->want, k->clusters * sizeof(*k->have));
	return 0;
}

/* As images of version 3 should. */
static void check_sizes(struct qcow2_check *k)
{
	for (unsigned i = 0; k->im.d.v3 && k->im.snap && i < k->im.h.snapshots; i++)
		if (k->im.snap[i].extra_len < 16)
			QCOW2_BAD(k, "snapshot %u does not say how large its disk is",
				  i + 1);
}

/* All is well: the image need not be told as dirty or damaged any longer. */
static int mark_clean(struct qcow2_check *k)
{
	const struct td_check *c = k->c;
	uint64_t bits = k->im.h.incompat & ~(uint64_t)(QCOW2_DIRTY | QCOW2_CORRUPT);
	uint64_t be = htobe64(bits);

	if (!(c->fix_leaks || c->fix_errors) || c->failures || c->corruptions)
		return 0;
	if (bits == k->im.h.incompat)
		return td_blocking_flush(k->im.store);
	return qcow2_image_header(&k->im, QCOW2_AT_INCOMPAT, &be, sizeof(be));
}

int qcow2_check(struct td_node *store, struct td_check *c)
{
	struct qcow2_check k = { .c = c };
	int err = qcow2_image_load(store, QCOW2_FOR_REPAIR, &k.im);

	if (err)
		return err;
	err = begin(&k);
	if (!err)
		err = qcow2_check_load(&k);
	if (!err)
		err = walk(&k, QCOW2_WALK_REFS);
	if (!err)
		err = qcow2_check_compare(&k);
	if (!err && k.rebuild && c->fix_errors)
		err = make_anew(&k);
	check_sizes(&k);
	if (!err)
		err = qcow2_check_copied(&k);
	if (!err)
		err = mark_clean(&k);
	if (err && !k.told)
		td_err(store, "cannot check %s: %s", store->arg, strerror(-err));
	end(&k);
	return err;
}
