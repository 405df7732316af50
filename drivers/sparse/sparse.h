/* sparse.h - the engine of formats that keep a disk in a file with holes: what a
 * format gives to it (struct sparse_format) and what it may ask of it.
 *
 * The engine does the work that all of them need: it finds out where a request's
 * bytes are, allocates on first write, copies from a parent, keeps tables in a
 * cache and writes them back in an order that a power cut at any moment cannot
 * turn into damage.  A format is a *mapping*: it knows what its tables look like.
 *
 * Words:
 *  cluster   what space is handed out in; a power of two (qcow: cluster, vmdk:
 *            grain)
 *  unit      what can be mapped by itself: a cluster, or with extended L2 entries
 *            a subcluster
 *  table     an array of entries in the file, read and changed through the cache
 *            by slices of at most SPARSE_SLICE bytes
 *  round     the write-back of all tables that were dirty at one moment
 *
 * Two kinds of code in a format:
 *
 *  Blocking slots (open, opened, first_write, close, resize) run in a worker while
 *  no request is under way.  They read and write with sparse_pread() and
 *  sparse_pwrite(), straight down the page, and may allocate memory.  The process
 *  may be killed between any two writes: what is written by then must do, as after
 *  a power cut.
 *
 *  Restartable slots (map, link, unmap, claim, release) run in the loop, many
 *  times a millisecond.  They look at tables by sparse_get(), which answers: here
 *  it is (0), not yet (SPARSE_WAIT), or -errno.  What is not 0 they pass on: the
 *  engine calls the slot again, from its beginning, when what it waits for has
 *  come.  So: get everything first, change after that; a call that has changed
 *  anything returns 0.  (Except that a new table may be put where there was none,
 *  or a copy where there was the original: it says the same, so the call may
 *  still wait after that.)  What a call has changed counts as a whole when it
 *  ends: who takes over from a process that was killed in it finds none of it, and
 *  all of it else (redo.c).  One call uses at most SPARSE_HOLD slices and allocates
 *  no memory.
 *
 * All of it belongs to the loop's thread, except blocking slots and transforms.
 * Offsets and lengths are bytes; errors are -errno.
 */
#ifndef SPARSE_H
#define SPARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "td_driver.h"

struct sparse;
struct sparse_slice;

#define SPARSE_SLICE 4096u	/* bytes of a slice, at most */
#define SPARSE_HOLD 12u		/* slices of one call, at most */
#define SPARSE_FILES 1024u	/* files of one image, at most */
#define SPARSE_CLUSTER_MAX (2u << 20)
#define SPARSE_WAIT 1		/* "not yet": > 0, no error */

/* Where some bytes of the disk are. */
enum sparse_kind {
	SPARSE_HOLE,		/* nothing is said: the parent's bytes, or zeroes */
	SPARSE_ZERO,		/* zeroes, whatever the parent has */
	SPARSE_DATA,		/* at host */
	SPARSE_PACKED,		/* compressed, at host: exactly one cluster of the
				 * disk, of which this extent is a part */
};

struct sparse_extent {
	enum sparse_kind kind;
	uint64_t length;	/* bytes that are so, from the offset asked for */
	unsigned file;		/* that host is in; HOLE, ZERO, PACKED: also where space
				 * for this offset is to come from */
	bool fixed;		/* cannot be written: -EROFS (zeroes of a ZERO are
				 * nothing to do, a discard is forgotten) */
	bool space;		/* DATA, or HOLE and ZERO: host is allocated for it */
	bool own;		/* space: nobody else refers to it, it may be written
				 * in place */
	uint64_t host;		/* of the offset asked for; PACKED: of the packed
				 * bytes' start */
	uint32_t packed;	/* PACKED: how many bytes they take, at most */
};

/* Space that is to become part of the disk. */
struct sparse_link {
	uint64_t offset;	/* of the disk: a unit's start */
	uint64_t length;	/* whole units, of one run of clusters */
	unsigned file;
	uint64_t host;		/* of `offset` */
	bool fresh;		/* host's cluster was claimed for this; else it was
				 * there (an extent with space and own) */
	uint32_t packed;	/* > 0: it is one cluster, compressed, with so many
				 * bytes at host (any byte) */
};

enum sparse_unmap {
	SPARSE_DISCARD,		/* contents do not matter; must not show what is
				 * older than the disk's last contents */
	SPARSE_ZEROES,		/* reads as zeroes; space is given back */
	SPARSE_ZEROES_KEEP,	/* reads as zeroes; space stays where it can */
	SPARSE_FORGET,		/* whole clusters behind the end that the disk is going
				 * to have: nothing is said of them any more, and
				 * tables of nothing else go too */
};

/* A class of tables.  `stage` is its place in a round: tables of a lower stage
 * are on stable storage before those of a higher one are written.  Data and
 * copied bytes come before everything from stage 1 on. */
struct sparse_class {
	const char *name;
	unsigned stage;		/* 0 .. SPARSE_STAGES - 1 */
};
#define SPARSE_STAGES 6u

/* Compression.  Both run in workers, of several clusters at a time. */
struct sparse_packer {
	/* Exactly out_len bytes from the first bytes of [in, in + in_len), of which
	 * the disk has the first `need` (a format may store no more).  0, or -EIO:
	 * that is not what is there. */
	int (*unpack)(const void *in, size_t in_len, void *out, size_t out_len,
		      size_t need);
	/* Bytes written to out (room for len), or 0: it would not get smaller.
	 * Optional: then TD_REQ_PACK writes are refused. */
	size_t (*pack)(const void *in, size_t len, void *out);
};

struct sparse_format {
	const struct sparse_class *classes;
	unsigned n_classes;

	/* --- blocking --- */

	/* Read and check the header; sparse_geometry(); name other files with
	 * sparse_want_file() and sparse_want_parent().  A refusal is one td_err().
	 * What was allocated is given back by `free`, also when this fails. */
	int (*open)(struct sparse *s);
	/* The files that open wanted are there: read and check them, say where
	 * free space begins (sparse_appends()) and which clusters are tables
	 * (sparse_meta_add()).  Unless read-only, repair what has to be repaired
	 * before anything is written.  Optional. */
	int (*opened)(struct sparse *s);
	/* Before the first change of the image in this session: what has to be
	 * durable before it (a dirty bit, a CID, an autoclear bit).  Optional. */
	int (*first_write)(struct sparse *s);
	/* All is written and flushed, claimed space that was not used has been
	 * released: leave the file as a clean image.  Only if first_write was
	 * called.  Optional. */
	int (*close)(struct sparse *s);
	/* To size > the disk's: make room in the tables; ends with
	 * sparse_geometry().  What cannot be: sparse_refuse().  Optional. */
	int (*resize)(struct sparse *s, uint64_t size);
	/* To a smaller size: may it be?  As resize.  unmap() with SPARSE_FORGET follows, then
	 * resized().  Optional: its disks never shrink. */
	int (*shrink)(struct sparse *s, uint64_t size);
	/* What a resize has newly shown reads as zeroes now, also where a longer
	 * backing file has something else, or what it hides has been forgotten, and
	 * that is on stable storage: put the new size into the image.  Optional. */
	int (*resized)(struct sparse *s);
	/* The image is damaged (sparse_corrupt()): say so in it.  Optional. */
	int (*mark_corrupt)(struct sparse *s);
	void (*free)(struct sparse *s);

	/* --- restartable --- */

	/* The extent at off, no longer than len; may be shorter than it could be,
	 * at table borders.  len > 0, inside the disk. */
	int (*map)(struct sparse *s, uint64_t off, uint64_t len,
		   struct sparse_extent *x);
	/* Make the tables say l, of which all data is in its place already.  Gives
	 * what is replaced (a compressed cluster, space shared with a snapshot) to
	 * sparse_drop().  Makes missing tables by sparse_table().  l never reaches
	 * over the end of an extent that one call of map gave for it. */
	int (*link)(struct sparse *s, const struct sparse_link *l);
	/* Whole units [off, off + len), the last may be cut by the disk's end.
	 * Does as much as one call can, and says how much in *done (>= 1 unit).
	 * -EOPNOTSUPP, with nothing changed: this image cannot say it of the first
	 * unit.  The engine then has the file zero the space that is its own, or
	 * writes zeroes; of a discard it tells the file, if that is one without
	 * sparse_appends() (a raw data file), else forgets it.  SPARSE_FORGET can
	 * always be said.  Optional: never. */
	int (*unmap)(struct sparse *s, uint64_t off, uint64_t len,
		     enum sparse_unmap how, uint64_t *done);
	/* Space [*host, *host + *len) of a file, whole clusters and free by all
	 * that is known, is about to be used: say so in the tables (refcounts).
	 * May make it less: a part of it, when some are in use or it took clusters
	 * of it for tables of its own (sparse_table_at()) or can say only so much;
	 * *len == 0: none of it is to be had, and the engine tries elsewhere (at
	 * the end of the file: behind it).  Optional: formats that do not count. */
	int (*claim)(struct sparse *s, unsigned file, uint64_t *host, uint64_t *len);
	/* One more reference to each cluster that [host, host + len), packed bytes,
	 * touches; all are in use already.  -ENOSPC: one of them can have no more
	 * (the engine begins in a fresh cluster, whose claim counts for the first
	 * that is packed there).  Optional: sharing needs no counting. */
	int (*share)(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
	/* References to [host, host + len) that sparse_drop() was told of are gone
	 * for good, on stable storage; or it was claimed or shared and not used:
	 * count down.  Does as much as one call can, from the start, and says how
	 * much in *done (> 0; packed bytes at once).  Calls sparse_freed() for each
	 * run that nobody refers to any more.  Optional: dropped space is lost. */
	int (*release)(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		       uint64_t *done);
	/* One step of a search through the tables for free clusters below the end
	 * of file 0: *len > 0: here is a run; *len == 0: not in this step.  *more
	 * == false: the search is over.  The engine leaves out what it knows of
	 * already, and tables.  Optional. */
	int (*search)(struct sparse *s, uint64_t *host, uint64_t *len, bool *more);
};

/* The whole driver: a format's td_driver has these slots, and its open slot calls
 * sparse_open() with its sparse_format. */
#define SPARSE_CAPS (TD_CAP_WRITE | TD_CAP_FLUSH | TD_CAP_DISCARD | TD_CAP_ZEROES | \
		     TD_CAP_EXTENTS | TD_CAP_RESIZE)
#define SPARSE_NODE_CTX 4096u	/* of td_driver.node_ctx and .req_ctx */
#define SPARSE_REQ_CTX 512u
void sparse_open(struct td_node *n, struct td_req *r, const struct sparse_format *f,
		 size_t priv_size);
void sparse_submit(struct td_node *n, struct td_req *r);
void sparse_close(struct td_node *n, struct td_req *r);
void sparse_resize(struct td_node *n, struct td_req *r);
void sparse_stats(struct td_node *n, struct json_t *into);

/* --- what a format may ask: anywhere --- */

void *sparse_priv(const struct sparse *s);	/* priv_size bytes, zeroed */
struct td_node *sparse_node(const struct sparse *s);	/* for td_err(), ->size */
bool sparse_rdonly(const struct sparse *s);
uint64_t sparse_bytes(const struct sparse *s, unsigned file);	/* its length now */
/* A regular file: it grows, with zeroes, behind its present length.  A device does
 * not, and what is behind the end that sparse_appends() said is anything. */
bool sparse_grows(const struct sparse *s, unsigned file);

/* --- in blocking slots --- */

/* size: of the disk, a multiple of 512; cluster and unit: powers of two, 512 <=
 * unit <= cluster <= SPARSE_CLUSTER_MAX.  In open or opened, before any
 * sparse_meta_add(); the size alone also in resize. */
void sparse_geometry(struct sparse *s, uint64_t size, uint32_t cluster,
		     uint32_t unit);
void sparse_packing(struct sparse *s, const struct sparse_packer *p);
/* Data is encrypted (compressed clusters are not).  `by_host`: sectors are
 * numbered by their place in the file, else by their place on the disk.  The
 * engine frees c. */
struct crypt;
void sparse_cipher(struct sparse *s, struct crypt *c, bool by_host);
/* Where the engine may append to a file: from `end` on (rounded up to clusters).
 * Without it no cluster of that file is ever handed out.  Also in first_write and
 * resize, which may have put tables there; tables may lie anywhere below it, also
 * where the file is shorter. */
void sparse_appends(struct sparse *s, unsigned file, uint64_t end);
/* Behind it the engine has handed out nothing, and knows of no free space. */
uint64_t sparse_end(const struct sparse *s, unsigned file);

/* A file of the image beside the one that was opened (which is file 0), by the
 * name in the image: a plain path, relative to the folder of the image.  In open
 * alone.  *file is its index.  -EMFILE, -ENOMEM, -EINVAL after td_err(). */
int sparse_want_file(struct sparse *s, const char *name, bool rdonly,
		     unsigned *file);
/* The backing file that the image names, and its type as the image says ("raw",
 * "qcow2"; NULL: it does not).  A chain that the operator gave goes before; a
 * type that is not known is refused.  In open alone. */
int sparse_want_parent(struct sparse *s, const char *type, const char *name);
/* The backing file's root node, in opened; NULL: none. */
struct td_node *sparse_parent(const struct sparse *s);

int sparse_pread(struct sparse *s, unsigned file, uint64_t off, void *buf,
		 size_t len);			/* behind the end: zeroes */
int sparse_pwrite(struct sparse *s, unsigned file, uint64_t off, const void *buf,
		  size_t len);			/* makes the file longer */
int sparse_psync(struct sparse *s, unsigned file);
int sparse_psize(struct sparse *s, unsigned file, uint64_t size);	/* exact */
/* In resize and shrink: tells why not, in place of the error's own words.  Returns err. */
int sparse_refuse(struct sparse *s, int err, const char *why);

/* [host, host + len) of a file holds tables: guest data is never written there,
 * whatever the tables say.  Also in restartable slots. */
int sparse_meta_add(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
void sparse_meta_del(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
bool sparse_meta_has(const struct sparse *s, unsigned file, uint64_t host,
		     uint64_t len);	/* some of it */

/* --- in restartable slots --- */

/* A place in a table. */
struct sparse_at {
	const uint8_t *p;	/* the bytes there, as they were at sparse_get() ... */
	size_t left;		/* ... as many as this slice has from there on */
	struct sparse_slice *slice;
	size_t off;		/* in the slice */
};

/* Byte `at` of the table that is `len` bytes long at `host` of a file.  The table
 * is checked to lie in the file (behind its end are zeroes only within the last
 * cluster: else -EIO and the image is damaged), and to be of this class if any
 * of it is in the cache.  0, SPARSE_WAIT or -errno. */
int sparse_get(struct sparse *s, unsigned class, unsigned file, uint64_t host,
	       uint64_t len, uint64_t at, struct sparse_at *a);
/* So many slices may be changed now?  Ask before the first sparse_put(). */
int sparse_room(struct sparse *s, unsigned slices);
/* Change n <= a->left bytes: the one function through which tables change. */
void sparse_put(struct sparse *s, const struct sparse_at *a, const void *bytes,
		size_t n);

/* In claim: these clusters, of the run that claim was called with, become a table,
 * all zeroes, and metadata.  0, SPARSE_WAIT (then ask again, for the same), -errno. */
int sparse_table_at(struct sparse *s, unsigned file, uint64_t host, uint64_t len);

/* A place for a new table of `len` bytes (rounded up to clusters), all zeroes or
 * (copy_of != 0) with the bytes of the table there, on its way to stable storage.
 * It is metadata at once.  `key` tells tables that are being made at the same time
 * apart: the index that will point to it.  0: *host is there; link it, and call sparse_table_done()
 * with the same key, in this same call of the slot.  SPARSE_WAIT, -errno. */
int sparse_table(struct sparse *s, unsigned file, uint64_t key, uint64_t len,
		 uint64_t copy_of, uint64_t *host);
void sparse_table_done(struct sparse *s, unsigned file, uint64_t key);

/* The tables no longer refer to [host, host + len): when that is on stable storage
 * and nobody reads or writes there any more, `release` hears of it. */
void sparse_drop(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
/* The same of a table.  (What holds tables is never taken for data: sparse_drop() of
 * it does nothing.) */
void sparse_drop_table(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
/* In release: these clusters are free, and no tables if they were. */
void sparse_freed(struct sparse *s, unsigned file, uint64_t host, uint64_t len);

/* The tables say what cannot be: tell it, mark the image, refuse all writes from
 * now on.  Returns -EIO. */
int sparse_corrupt(struct sparse *s, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
