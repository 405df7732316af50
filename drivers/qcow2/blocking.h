/* blocking.h - what the blocking parts of the qcow2 driver share: the refcount
 * table in memory, space at the end of the file, walks over tables. */
#ifndef QCOW2_BLOCKING_H
#define QCOW2_BLOCKING_H

#include "qcow2/bitmap.h"
#include "qcow2/qcow2_priv.h"

/* --- grow.c --- */

struct qcow2_reft {
	uint64_t *block;	/* offsets of refcount blocks; 0: none */
	uint64_t n;
	bool changed;		/* and not in the file */
};

/* Entries that are no block's place in the file are 0 (*bad counts them; NULL:
 * they are an error).  0, -EIO after td_err(), -ENOMEM. */
int qcow2_reft_load(struct sparse *s, struct qcow2_reft *t, uint64_t *bad);
void qcow2_reft_free(struct qcow2_reft *t);
int qcow2_reft_write(struct sparse *s, const struct qcow2_reft *t, uint64_t host);

/* q->end: at floor, or behind it where something is counted. */
int qcow2_find_end(struct sparse *s, uint64_t floor);
/* A file this long has room for the whole disk and its tables, some of it twice. */
static inline uint64_t qcow2_reach(const struct qcow2 *q, uint64_t size)
{
	return q->end + (q->d.external ? 0 : size) + size / 8 + 16 * MiB;
}

/* n clusters behind all that is in use (q->end), counted: *host.  Refcount blocks
 * that this takes are put behind them, into the file and into t.  -ENOSPC: the
 * table or the device ends before. */
int qcow2_append(struct sparse *s, struct qcow2_reft *t, uint64_t n, uint64_t *host);
/* Those clusters lose one reference; counts of 0 stay. */
int qcow2_uncount(struct sparse *s, const struct qcow2_reft *t, uint64_t host,
		  uint64_t n);
/* The refcount table covers a file of so many bytes, as far as it can. */
int qcow2_reft_reserve(struct sparse *s, uint64_t bytes);
/* Change bytes of the header, and wait until they are on stable storage. */
int qcow2_header_put(struct sparse *s, enum qcow2_at at, const void *bytes,
		     size_t len);
/* If it is not known which tables the header in the file names: write what they
 * are.  0: it is known now. */
int qcow2_untear(struct sparse *s);

/* --- scan.c --- */

/* The file's length in whole clusters, in bytes. */
uint64_t qcow2_file_end(const struct sparse *s);

/* Bytes of L1 tables, of all snapshots together, of what is opened for writing. */
#define QCOW2_SNAPSHOT_L1_MAX GiB
/* fn for every entry of the table of snapshots.  Errors: after td_err(). */
typedef int qcow2_snapshot_fn(struct sparse *s, const struct qcow2_snapshot *sn,
			      void *arg);
int qcow2_snapshots_each(struct sparse *s, qcow2_snapshot_fn *fn, void *arg,
			 uint64_t *table_bytes);
/* fn for every entry of an L1 table, or of a bitmap's, by its index. */
typedef int qcow2_entry_fn(struct sparse *s, uint64_t i, uint64_t entry, void *arg);
int qcow2_entries_each(struct sparse *s, uint64_t offset, uint32_t entries,
		       qcow2_entry_fn *fn, void *arg);
/* Which clusters hold tables: tells the engine.  *end: behind the last of them.
 * Two kinds of tables in one cluster are an error. */
int qcow2_scan(struct sparse *s, const struct qcow2_reft *t, uint64_t *end);

/* --- bitmaps.c --- */

typedef int qcow2_bitmap_fn(struct sparse *s, const struct qcow2_bitmap *b,
			    uint64_t at, void *arg);
/* fn for every bitmap, whose entry is at `at` of the file.  -EINVAL: the directory
 * is damaged, or the tables are too large to be looked at; no message. */
int qcow2_bitmaps_each(struct sparse *s, qcow2_bitmap_fn *fn, void *arg);
/* The disk is going to be written to: no bitmap must claim to know of it.  If they
 * cannot be told so, their bit goes from *autoclear. */
int qcow2_bitmaps_outdate(struct sparse *s, uint64_t *autoclear);

/* --- rebuild.c --- */

int qcow2_rebuild(struct sparse *s);

#endif
