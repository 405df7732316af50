/* image.c - see image.h. */
#include "qcow2/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define SNAP_STEP 65536u

int qcow2_image_load(struct td_node *store, unsigned flags, struct qcow2_image *im)
{
	uint8_t first[QCOW2_V2_LENGTH];
	struct qcow2_why why = { "" };
	unsigned bits;
	int err;

	*im = (struct qcow2_image){ .store = store };
	err = td_blocking_read(store, 0, first, sizeof(first));
	if (!err)
		err = qcow2_header_cluster(first, sizeof(first), &bits, &why);
	if (!err) {
		im->first = malloc((size_t)1 << bits);
		err = im->first ? td_blocking_read(store, 0, im->first,
						   (size_t)1 << bits) : -ENOMEM;
	}
	if (!err)
		err = qcow2_header_decode(im->first, store->size, flags, &im->h,
					  &why);
	if (!err) {
		im->d = qcow2_dims(&im->h);
		return 0;
	}
	td_err(store, "cannot read %s as qcow2: %s", store->arg,
	       why.text[0] ? why.text : strerror(-err));
	qcow2_image_free(im);
	return err;
}

void qcow2_image_free(struct qcow2_image *im)
{
	free(im->first);
	free(im->snap_bytes);
	free(im->snap);
	im->first = im->snap_bytes = NULL;
	im->snap = NULL;
}

/* More of the table of snapshots. */
static int snap_more(struct qcow2_image *im, uint64_t want)
{
	uint64_t len = align_up(want, SNAP_STEP);
	uint8_t *p;
	int err;

	if (want > QCOW2_SNAPSHOT_TABLE_MAX)
		return -EFBIG;
	p = realloc(im->snap_bytes, len);
	if (!p)
		return -ENOMEM;
	im->snap_bytes = p;
	err = td_blocking_read(im->store, im->h.snapshots_offset + im->snap_len,
			       p + im->snap_len, len - im->snap_len);
	im->snap_len = len;
	return err;
}

int qcow2_image_snapshots(struct qcow2_image *im, struct qcow2_why *why)
{
	uint64_t at = 0;
	unsigned n = 0;
	int err = 0;

	why->text[0] = '\0';
	if (!im->h.snapshots || im->snap)
		return 0;
	im->snap = calloc(im->h.snapshots, sizeof(*im->snap));
	if (!im->snap)
		return -ENOMEM;
	/* Twice: what is decoded points into memory that may move meanwhile. */
	for (int pass = 0; pass < 2 && !err; pass++) {
		for (n = 0, at = 0; n < im->h.snapshots && !err;) {
			struct qcow2_snapshot *s = &im->snap[n];

			err = qcow2_snapshot_decode(im->snap_bytes ?
						    im->snap_bytes + at : NULL,
						    im->snap_len - at, &im->h,
						    im->store->size, s, why);
			if (err == -EAGAIN)
				err = snap_more(im, at + (s->length ? s->length :
							  SNAP_STEP));
			else if (!err) {
				at += s->length;
				n++;
			}
		}
	}
	if (!err) {
		im->snap_len = at;
		return 0;
	}
	if (!why->text[0])
		snprintf(why->text, sizeof(why->text),
			 "the table of snapshots cannot be read: %s", strerror(-err));
	free(im->snap);
	im->snap = NULL;
	return err;
}

int qcow2_image_table(const struct qcow2_image *im, uint64_t off, uint64_t entries,
		      uint64_t **v)
{
	int err;

	*v = calloc(entries ? entries : 1, sizeof(**v));
	if (!*v)
		return -ENOMEM;
	err = td_blocking_read(im->store, off, *v, entries * 8);
	for (uint64_t i = 0; !err && i < entries; i++)
		(*v)[i] = get_be64(&(*v)[i]);
	if (err) {
		free(*v);
		*v = NULL;
	}
	return err;
}

int qcow2_image_write(const struct qcow2_image *im, uint64_t off, const void *buf,
		      uint64_t len)
{
	if (!range_ok(off, len, im->store->size))
		return -EIO;
	return td_blocking_write(im->store, off, buf, len);
}

int qcow2_image_header(struct qcow2_image *im, unsigned at, const void *bytes,
		       unsigned n)
{
	int err = td_blocking_flush(im->store);

	if (!err)
		err = qcow2_image_write(im, at, bytes, n);
	if (!err)
		err = td_blocking_flush(im->store);
	if (!err)
		memcpy(im->first + at, bytes, n);
	return err;
}
