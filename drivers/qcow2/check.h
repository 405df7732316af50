/* check.h - checking a qcow2 file, and repairing it; the driver counts references
 * by it too (rebuild.c).
 *
 *   check.c         the order of things; what makes an image clean again
 *   check_walk.c    what refers to which cluster
 *   check_visits.c  L2 tables, each of which is looked at once
 *   check_refs.c    the refcounts in the file: compared, mended, or made anew
 *   check_copied.c  the COPIED flags of the active tables
 *
 * Counts what qemu-img counts.  Memory: eight bytes and a bit for each cluster of the
 * file, and 128 to 256 bytes for each L2 table, whatever the image says of itself.
 */
#ifndef QCOW2_CHECK_H
#define QCOW2_CHECK_H

#include "formats.h"
#include "qcow2/image.h"

struct qcow2_check {
	struct td_check *c;
	struct qcow2_image im;
	uint64_t bytes;			/* of the file */
	uint64_t clusters;		/* of the file, the last may be cut; one more
					 * when a cluster that is not at a cluster's
					 * start reaches behind its end */
	uint32_t *want, *have;		/* of each cluster, and of one more: references
					 * found; refcount, at most UINT32_MAX */
	uint8_t *fixed;			/* a bit of each: some of a table is there that
					 * is no L2 table */
	uint64_t *reft;			/* the refcount table */
	uint64_t reft_entries;
	bool rebuild;			/* refcounts have to be made anew */
	bool told;			/* why it could not be checked */
	uint8_t *l2;			/* room for a cluster */
	uint64_t read_max;		/* bytes of tables that may still be read; those
					 * of a good image take no more than the file */
};

/* The whole thing.  0: it ran, and c tells; else -errno after td_err(). */
int qcow2_check(struct td_node *store, struct td_check *c);

/* One corruption; or so many alike, in one line. */
#define QCOW2_BAD(k, ...) QCOW2_BAD_TIMES(k, 1u, __VA_ARGS__)
#define QCOW2_BAD_TIMES(k, n, ...) do { \
	(k)->c->corruptions += (n); \
	td_check_say((k)->c, "error: " __VA_ARGS__); \
} while (0)
#define QCOW2_FAILED(k, ...) QCOW2_FAILED_TIMES(k, 1u, __VA_ARGS__)
#define QCOW2_FAILED_TIMES(k, n, ...) do { \
	(k)->c->failures += (n); \
	td_check_say((k)->c, "error: " __VA_ARGS__); \
} while (0)

/* --- check_visits.c --- */

struct qcow2_visit {
	uint64_t host, off;	/* of the table; of the disk, where that matters */
	uint64_t times, active;	/* it is named; of them, by the disk's own L1 table */
};
struct qcow2_visits {
	struct qcow2_visit *v;
	size_t n, max;
};

/* So many bytes of a table are going to be read.  -EFBIG: that is too much. */
int qcow2_check_spend(struct qcow2_check *k, uint64_t bytes);
/* An L1 entry names the L2 table at host.  0, -ENOMEM, -EFBIG. */
int qcow2_visits_add(struct qcow2_check *k, struct qcow2_visits *l, uint64_t host,
		     uint64_t off, bool active);
void qcow2_visits_sort(struct qcow2_visits *l);	/* each is there once, from now on */
void qcow2_visits_free(struct qcow2_visits *l);

/* --- the others --- */

enum qcow2_walk {
	QCOW2_WALK_REFS	= 1u << 0,	/* count what the refcount structure takes;
					 * not when it is to be replaced */
};
int qcow2_check_walk(struct qcow2_check *k, unsigned how);
void qcow2_check_ref(struct qcow2_check *k, uint64_t off, uint64_t len);
/* All that is found without L2 tables goes into `fixed`: header, L1 tables, refcounts,
 * the table of snapshots, bitmaps, the header of LUKS.  Counts it too, but for the
 * refcounts, if there is a `want`. */
int qcow2_check_tables(struct qcow2_check *k);
void qcow2_check_fix(struct qcow2_check *k, uint64_t off, uint64_t len);
bool qcow2_check_fixed(const struct qcow2_check *k, uint64_t off, uint64_t len);
/* May the cluster at host be written to as an L2 table: is it in the file, and no
 * other table? */
bool qcow2_check_is_l2(const struct qcow2_check *k, uint64_t host);

int qcow2_check_load(struct qcow2_check *k);	/* reft and have */
/* Write what have says into a refcount block; fresh: there was none at its place. */
int qcow2_check_mend(struct qcow2_check *k, uint64_t index, bool fresh);
int qcow2_check_compare(struct qcow2_check *k);
int qcow2_check_rebuild(struct qcow2_check *k);
int qcow2_check_copied(struct qcow2_check *k);

#endif
