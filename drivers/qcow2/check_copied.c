/* check_copied.c - the COPIED flags of the disk's own tables: set where a refcount
 * is 1, and nowhere else.  A flag too many lets the disk write over what a snapshot
 * has. */
#include <stdlib.h>

#include "base/bytes.h"
#include "qcow2/check.h"

typedef unsigned long long ull;

/* Of the cluster at host; ~0: not known. */
static uint32_t refcount(const struct qcow2_check *k, uint64_t host)
{
	uint64_t i = host >> k->im.d.cluster_bits;

	return i < k->clusters ? k->have[i] : 0;
}

/* Leaks alone are to be mended: flags too, if all refcounts are right. */
static bool may_fix(const struct qcow2_check *k)
{
	const struct td_check *c = k->c;

	return c->fix_errors ||
	       (c->fix_leaks && !c->failures && !c->corruptions && !c->leaks);
}

/* *e: an entry with `refs`, found so often.  True: it was changed. */
static bool look(struct qcow2_check *k, const char *what, uint64_t *e, uint32_t refs,
		 uint64_t times, bool fix)
{
	if ((refs == 1) == !!(*e & QCOW2_COPIED))
		return false;
	td_check_say(k->c, "%s: %s entry 0x%llx: refcount %u",
		     fix ? "repaired" : "error", what, (ull)*e, refs);
	if (!fix) {
		k->c->corruptions += times;
		return false;
	}
	*e ^= QCOW2_COPIED;
	k->c->corruptions_fixed++;
	return true;
}

static int look_l2(struct qcow2_check *k, const struct qcow2_visit *t, bool fix)
{
	const struct qcow2_dims *d = &k->im.d;
	bool changed = false;
	int err = td_blocking_read(k->im.store, t->host, k->l2, qcow2_cluster(d));

	fix = fix && qcow2_check_is_l2(k, t->host);
	if (err) {
		QCOW2_FAILED_TIMES(k, t->times, "L2 table at 0x%llx cannot be read",
				   (ull)t->host);
		return 0;
	}
	for (uint64_t i = 0; i < 1ull << d->l2_bits; i++) {
		uint8_t *p = k->l2 + i * d->entry;
		uint64_t v = get_be64(p), at = v & QCOW2_HOST_MASK;

		if (v & QCOW2_PACKED || (!at && !(d->external && v & QCOW2_COPIED)))
			continue;
		if (look(k, "L2", &v, d->external ? 1 : refcount(k, at), t->times,
			 fix)) {
			put_be64(p, v);
			changed = true;
		}
	}
	if (!changed)
		return 0;
	return qcow2_image_write(&k->im, t->host, k->l2, qcow2_cluster(d));
}

int qcow2_check_copied(struct qcow2_check *k)
{
	const struct qcow2_header *h = &k->im.h;
	struct qcow2_visits l2 = { 0 };
	bool fix = may_fix(k);
	uint64_t *l1;
	int err = qcow2_image_table(&k->im, h->l1_offset, h->l1_entries, &l1);

	if (err)
		return err;
	for (uint32_t i = 0; i < h->l1_entries && !err; i++) {
		uint64_t host = l1[i] & QCOW2_HOST_MASK;

		if (!host)
			continue;
		if (look(k, "L1", &l1[i], refcount(k, host), 1, fix)) {
			uint64_t be = htobe64(l1[i]);

			err = qcow2_image_write(&k->im, h->l1_offset + i * 8ull,
						&be, sizeof(be));
		}
		if (!err && host < k->bytes)
			err = qcow2_visits_add(k, &l2, host, 0, true);
	}
	qcow2_visits_sort(&l2);
	for (size_t i = 0; i < l2.n && !err; i++)
		err = look_l2(k, &l2.v[i], fix);
	qcow2_visits_free(&l2);
	free(l1);
	return err;
}
