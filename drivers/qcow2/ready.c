/* ready.c - what a qcow2 image needs when it has been opened, before the first
 * write, and when it turns out to be damaged. */
#include <errno.h>

#include "qcow2/blocking.h"

int qcow2_opened(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	struct qcow2_reft t;
	uint64_t end;
	int err;

	if (sparse_rdonly(s))
		return 0;
	if (q->h.incompat & QCOW2_DIRTY) {
		err = qcow2_rebuild(s);
		if (err)
			return err;
	}
	err = qcow2_reft_load(s, &t, NULL);
	if (err)
		return err;
	err = qcow2_scan(s, &t, &end);
	qcow2_reft_free(&t);
	if (err)
		return err;
	q->end = end;
	/* A file may hold something behind what is counted; a device always does. */
	err = qcow2_find_end(s, sparse_grows(s, 0) ? qcow2_file_end(s) :
						     qcow2_cluster(&q->d));
	if (err)
		return err;
	q->search = 1;
	q->search_end = q->end >> q->d.cluster_bits;
	sparse_appends(s, 0, q->end);
	return 0;
}

int qcow2_first_write(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	uint64_t keep = q->h.autoclear & QCOW2_AUTOCLEAR_KNOWN;
	uint8_t field[8];
	int err;

	err = qcow2_untear(s);
	if (!err)
		err = qcow2_bitmaps_outdate(s, &keep);
	if (err)
		return err;
	if (q->h.autoclear != keep) {
		put_be64(field, keep);
		err = qcow2_header_put(s, QCOW2_AT_AUTOCLEAR, field, sizeof(field));
		if (err)
			return err;
		q->h.autoclear = keep;
	}
	if (q->d.external && sparse_grows(s, q->data) &&
	    sparse_bytes(s, q->data) < sparse_node(s)->size) {
		err = sparse_psize(s, q->data, sparse_node(s)->size);
		if (err)
			return err;
	}
	err = qcow2_reft_reserve(s, qcow2_reach(q, q->h.size));
	if (!err)
		sparse_appends(s, 0, q->end);
	return err;
}

int qcow2_mark_corrupt(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	uint8_t field[8];

	if (!q->d.v3)
		return 0;
	q->h.incompat |= QCOW2_CORRUPT;
	put_be64(field, q->h.incompat);
	return qcow2_header_put(s, QCOW2_AT_INCOMPAT, field, sizeof(field));
}
