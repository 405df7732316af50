/* rename.c - another name in a qcow2 image for its backing file. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "qcow2/create.h"
#include "qcow2/image.h"

static int put_name(struct td_node *store, struct qcow2_header *h, const char *backing,
		    const char *format)
{
	if (strlen(backing) > QCOW2_NAME_MAX ||
	    (format && strlen(format) > QCOW2_FMT_MAX)) {
		td_err(store, "the name of a backing file has %u bytes at most, and that "
		       "of its format %u", QCOW2_NAME_MAX, QCOW2_FMT_MAX);
		return -EINVAL;
	}
	if (*backing && h->autoclear & QCOW2_DATA_RAW) {
		td_err(store, "%s: a disk in a raw data file has no backing file",
		       store->arg);
		return -EINVAL;
	}
	memset(h->backing, 0, sizeof(h->backing));
	memset(h->backing_fmt, 0, sizeof(h->backing_fmt));
	memcpy(h->backing, backing, strlen(backing));
	if (format)
		memcpy(h->backing_fmt, format, strlen(format));
	return 0;
}

int qcow2_rename_backing(struct td_node *store, const char *backing,
			 const char *format)
{
	struct qcow2_header h;
	struct qcow2_image im;
	uint8_t *out;
	int err = qcow2_image_load(store, 0, &im);

	if (err)
		return err;
	h = im.h;
	err = put_name(store, &h, backing, format);
	out = malloc(qcow2_cluster(&im.d));
	if (!out && !err)
		err = -ENOMEM;
	if (!err && qcow2_header_encode(&h, im.first, &im.h, out)) {
		td_err(store, "%s: the name does not fit into the first cluster",
		       store->arg);
		err = -ENOSPC;
	} else if (!err) {
		err = qcow2_image_header(&im, 0, out, (unsigned)qcow2_cluster(&im.d));
		if (err)
			td_err(store, "cannot write the header of %s: %s", store->arg,
			       strerror(-err));
	}
	free(out);
	qcow2_image_free(&im);
	return err;
}
