/* check_visits.c - which L2 tables are to be looked at, and how often L1 tables name
 * each: it is read once, and what is found in it counts as often.  So the work is bounded
 * by the file's length, whatever the L1 tables say; and many snapshots that share tables
 * cost no more than one.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "qcow2/check.h"

int qcow2_check_spend(struct qcow2_check *k, uint64_t bytes)
{
	if (bytes > k->read_max)
		return -EFBIG;
	k->read_max -= bytes;
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct qcow2_visit *x = a, *y = b;

	if (x->host != y->host)
		return x->host > y->host ? 1 : -1;
	return (x->off > y->off) - (x->off < y->off);
}

void qcow2_visits_sort(struct qcow2_visits *l)
{
	size_t n = 0;

	if (!l->n)
		return;
	qsort(l->v, l->n, sizeof(*l->v), by_place);
	for (size_t i = 1; i < l->n; i++) {
		if (by_place(&l->v[i], &l->v[n])) {
			l->v[++n] = l->v[i];
			continue;
		}
		l->v[n].active += l->v[i].active;
		l->v[n].times += l->v[i].times;
	}
	l->n = n + 1;
}

/* Room for one more.  No more tables than may be read. */
static int room(const struct qcow2_check *k, struct qcow2_visits *l)
{
	struct qcow2_visit *v;
	size_t max;

	if (l->n < l->max)
		return 0;
	qcow2_visits_sort(l);
	if (l->n > k->read_max >> k->im.d.cluster_bits)
		return -EFBIG;
	if (l->n < l->max / 2)
		return 0;
	max = l->max ? 2 * l->max : 1024;
	v = realloc(l->v, max * sizeof(*v));
	if (!v)
		return -ENOMEM;
	l->v = v;
	l->max = max;
	return 0;
}

int qcow2_visits_add(struct qcow2_check *k, struct qcow2_visits *l, uint64_t host,
		     uint64_t off, bool active)
{
	int err = room(k, l);

	/* Only in an image with a data file is an entry right or wrong by its place. */
	if (!err)
		l->v[l->n++] = (struct qcow2_visit){
			.host = host, .off = k->im.d.external ? off : 0,
			.active = active, .times = 1 };
	return err;
}

void qcow2_visits_free(struct qcow2_visits *l)
{
	free(l->v);
}
