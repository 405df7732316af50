/* qcow2_priv.h - what the files of the qcow2 driver share.
 *
 *   header.c encode.c tables.h snapshot.h   bytes <-> values; pure
 *   map.c link.c unmap.c   the disk's tables, restartable
 *   refcount.c             the file's: claim, share, release, search; restartable
 *   open.c                 header, other files, keys; free
 *   ready.c                what an image needs before and after its use
 *   scan.c                 which clusters hold tables
 *   grow.c                 blocking allocation; a larger refcount table, resize
 *   rebuild.c              refcounts of an image that was left dirty
 *   bitmaps.c              the directory of persistent bitmaps
 *
 * Header fields are changed in blocking slots alone, so there is no class for
 * the header: the refcount table is made large enough for the whole disk before
 * the first write of a session, and does not grow while requests run.
 */
#ifndef QCOW2_PRIV_H
#define QCOW2_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/log.h"
#include "qcow2/header.h"
#include "qcow2/snapshot.h"
#include "qcow2/tables.h"
#include "sparse/sparse.h"

enum qcow2_class { QC_BLOCK, QC_REFT, QC_L2, QC_L1, QC_CLASSES };

struct qcow2 {
	struct qcow2_header h;		/* as it is in the file now */
	struct qcow2_dims d;
	uint64_t l1_bytes, reft_bytes;
	unsigned data;			/* index of the file with the data */
	uint64_t end;			/* of what is in use of the file, at open */
	uint64_t search, search_end;	/* clusters: the next, the last + 1 */
	uint64_t new_size;		/* of a resize that is under way */
	bool torn;			/* it is not known which tables the header in
					 * the file names: nothing may be changed */
};

static inline uint64_t be64_of(const struct sparse_at *a)
{
	return get_be64(a->p);
}

/* map.c, link.c, unmap.c, refcount.c: slots of struct sparse_format. */
int qcow2_map(struct sparse *s, uint64_t off, uint64_t len,
	      struct sparse_extent *x);
int qcow2_link(struct sparse *s, const struct sparse_link *l);
int qcow2_unmap(struct sparse *s, uint64_t off, uint64_t len,
		enum sparse_unmap how, uint64_t *done);
int qcow2_claim(struct sparse *s, unsigned file, uint64_t *host, uint64_t *len);
int qcow2_share(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
int qcow2_release(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		  uint64_t *done);
int qcow2_search(struct sparse *s, uint64_t *host, uint64_t *len, bool *more);

/* A link or an extent without an L2 table reaches over so many slices of one
 * table, at most: what one call of link can hold. */
#define QCOW2_LINK_SLICES 8u

/* Bytes of the disk that a slice of an L2 table maps. */
static inline uint64_t qcow2_slice_covers(const struct qcow2_dims *d)
{
	uint64_t bytes = min_u64(qcow2_cluster(d), SPARSE_SLICE);

	return bytes / d->entry << d->cluster_bits;
}

/* The entry of the L1 table for off: *l2 is 0 if there is no table.  0,
 * SPARSE_WAIT, -errno. */
int qcow2_l1_get(struct sparse *s, uint64_t off, struct sparse_at *a,
		 uint64_t *l2, bool *copied);
/* The L2 table of off is there, and ours alone: *l2.  0, SPARSE_WAIT, -errno.
 * May have changed the L1 table, and the call may still wait after that. */
int qcow2_l2_own(struct sparse *s, uint64_t off, uint64_t *l2);
/* The space of an entry, of the cluster at `off`, may be dropped: 0.  -EIO: a table
 * is there. */
int qcow2_may_drop(struct sparse *s, const struct qcow2_entry *old, uint64_t off);
/* The entry was `old` and is no longer: drop its space. */
void qcow2_drop(struct sparse *s, const struct qcow2_entry *old);

/* open.c, ready.c, grow.c: slots. */
int qcow2_open(struct sparse *s);
int qcow2_opened(struct sparse *s);
int qcow2_first_write(struct sparse *s);
int qcow2_resize(struct sparse *s, uint64_t size);
int qcow2_shrink(struct sparse *s, uint64_t size);
int qcow2_resized(struct sparse *s);
int qcow2_mark_corrupt(struct sparse *s);

#endif
