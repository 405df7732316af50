/* image.h - a qcow2 file as tools see it: header and snapshots, read by blocking
 * I/O.  Knows nothing of the engine. */
#ifndef QCOW2_IMAGE_H
#define QCOW2_IMAGE_H

#include "qcow2/header.h"
#include "qcow2/snapshot.h"
#include "qcow2/tables.h"
#include "td_driver.h"

struct qcow2_image {
	struct td_node *store;
	struct qcow2_header h;
	struct qcow2_dims d;
	uint8_t *first;			/* the first cluster */

	uint8_t *snap_bytes;		/* the table of snapshots, as it is */
	uint64_t snap_len;
	struct qcow2_snapshot *snap;	/* h.snapshots of them, once loaded */
};

/* flags: QCOW2_FOR_REPAIR.  0, or -errno after td_err(). */
int qcow2_image_load(struct td_node *store, unsigned flags, struct qcow2_image *im);
void qcow2_image_free(struct qcow2_image *im);
/* Fills snap_bytes and snap.  *why says what is wrong with -EINVAL. */
int qcow2_image_snapshots(struct qcow2_image *im, struct qcow2_why *why);
/* An L1 or refcount table as numbers; allocated. */
int qcow2_image_table(const struct qcow2_image *im, uint64_t off, uint64_t entries,
		      uint64_t **v);
/* -EIO: not in the file. */
int qcow2_image_write(const struct qcow2_image *im, uint64_t off, const void *buf,
		      uint64_t len);
/* Change n bytes of the header, which reach the disk before it returns. */
int qcow2_image_header(struct qcow2_image *im, unsigned at, const void *bytes,
		       unsigned n);

#endif
