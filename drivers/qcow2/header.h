/* header.h - the header of a qcow2 file: bytes to a checked struct and back.  Pure.
 *
 * What is decoded has passed every check that the header alone allows, and
 * against the file's length: later code need not ask again.  What is not known
 * here (header bytes behind ours, extensions, names of features) stays in the
 * first cluster's bytes, which the caller keeps, and goes from there into the
 * header that is encoded.
 *
 * All numbers in the file are big-endian.
 */
#ifndef QCOW2_HEADER_H
#define QCOW2_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_V2_LENGTH 72u
#define QCOW2_V3_LENGTH 112u	/* of a header that has all that is known here */
#define QCOW2_CLUSTER_BITS_MIN 9u
#define QCOW2_CLUSTER_BITS_MAX 21u
#define QCOW2_EXT_CLUSTER_BITS_MIN 14u	/* with extended L2 entries */
#define QCOW2_L1_MAX (4u << 20)		/* entries */
#define QCOW2_REFT_MAX (8u << 20)	/* bytes */
#define QCOW2_SNAPSHOTS_MAX 65536u
#define QCOW2_SNAPSHOT_TABLE_MAX (64u << 20)	/* bytes */
#define QCOW2_SNAPSHOT_EXTRA_MAX 1024u
#define QCOW2_BITMAPS_MAX 65535u
#define QCOW2_BITMAP_DIR_MAX (64u << 20)	/* bytes */
#define QCOW2_NAME_MAX 1023u		/* of other files */
#define QCOW2_FMT_MAX 15u		/* of the name of a backing format */

/* Where the fields are that are changed in place. */
enum qcow2_at {
	QCOW2_AT_SIZE		= 24,	/* u64 */
	QCOW2_AT_L1		= 36,	/* u32 entries, u64 offset */
	QCOW2_AT_REFT		= 48,	/* u64 offset, u32 clusters */
	QCOW2_AT_SNAPSHOTS	= 60,	/* u32 count, u64 offset */
	QCOW2_AT_INCOMPAT	= 72,	/* u64; v3 alone, like the next two */
	QCOW2_AT_COMPAT		= 80,	/* u64 */
	QCOW2_AT_AUTOCLEAR	= 88,	/* u64 */
};

enum qcow2_incompat {
	QCOW2_DIRTY		= 1u << 0,
	QCOW2_CORRUPT		= 1u << 1,
	QCOW2_DATA_FILE		= 1u << 2,
	QCOW2_COMPRESSION	= 1u << 3,
	QCOW2_EXT_L2		= 1u << 4,
	QCOW2_INCOMPAT_KNOWN	= (1u << 5) - 1,
};
enum qcow2_compat { QCOW2_LAZY = 1u << 0 };
enum qcow2_autoclear {
	QCOW2_BITMAPS		= 1u << 0,
	QCOW2_DATA_RAW		= 1u << 1,
	QCOW2_AUTOCLEAR_KNOWN	= (1u << 2) - 1,
};
enum qcow2_crypt { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };
enum qcow2_compression { QCOW2_DEFLATE, QCOW2_ZSTD };

enum qcow2_ext_type {
	QCOW2_X_END		= 0,
	QCOW2_X_BACKING_FMT	= 0xe2792acau,
	QCOW2_X_FEATURES	= 0x6803f857u,
	QCOW2_X_BITMAPS		= 0x23852875u,
	QCOW2_X_CRYPTO		= 0x0537be77u,
	QCOW2_X_DATA_FILE	= 0x44415441u,
};

struct qcow2_header {
	unsigned version;		/* 2 or 3 */
	unsigned cluster_bits;
	uint64_t size;			/* of the disk; any number of bytes */
	enum qcow2_crypt crypt;
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint64_t reft_offset;
	uint32_t reft_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint64_t incompat, compat, autoclear;	/* v2: 0 */
	unsigned ref_order;		/* v2: 4 */
	uint32_t length;		/* of the header */
	enum qcow2_compression compression;

	char backing[QCOW2_NAME_MAX + 1];	/* "": none */
	char backing_fmt[QCOW2_FMT_MAX + 1];	/* "": not said */
	char data_file[QCOW2_NAME_MAX + 1];	/* "": not said */
	uint64_t crypto_offset, crypto_length;	/* 0: none */
	uint32_t bitmaps;		/* 0: no such extension */
	uint64_t bitmap_dir_offset, bitmap_dir_size;

	uint32_t ext_start, ext_end;	/* of the extensions, in the first cluster */
};

/* Why something was refused: a sentence's end, for "cannot open: ...". */
struct qcow2_why {
	char text[256];
};

/* How long the first cluster is, by the first `len` bytes of the file.  0,
 * -EINVAL (no qcow2 image, or damaged), -ENOTSUP (a version not known). */
int qcow2_header_cluster(const uint8_t *first, size_t len, unsigned *bits,
			 struct qcow2_why *why);

enum qcow2_decode_flags {
	/* The refcount table need not be where the header says: it is to be
	 * made anew.  reft_clusters is 0 then. */
	QCOW2_FOR_REPAIR	= 1u << 0,
};

/* `cluster`: the first cluster, zeroes behind the end of the file.  0, -EINVAL
 * (damaged), -ENOTSUP (a feature that is not known here). */
int qcow2_header_decode(const uint8_t *cluster, uint64_t file_len,
			unsigned flags, struct qcow2_header *h,
			struct qcow2_why *why);

/* h as a first cluster, into `out` (a whole cluster).  old, old_h: the first
 * cluster as it is, from which is taken what is not known here; or NULL for a new
 * image.  -ENOSPC: it does not fit into a cluster. */
int qcow2_header_encode(const struct qcow2_header *h, const uint8_t *old,
			const struct qcow2_header *old_h, uint8_t *out);

struct qcow2_ext {
	uint32_t type, length;
	const uint8_t *data;
};
/* The extension behind *at (0: the first), of a header that was decoded. */
bool qcow2_ext_next(const struct qcow2_header *h, const uint8_t *cluster,
		    uint32_t *at, struct qcow2_ext *x);

/* The lowest bit of `bits` as the image itself calls it: by its table of names,
 * else "bit N".  type: 0 incompatible, 1 compatible, 2 autoclear. */
#define QCOW2_FEATURE_NAME 48u
void qcow2_feature_name(const struct qcow2_header *h, const uint8_t *cluster,
			unsigned type, uint64_t bits,
			char name[QCOW2_FEATURE_NAME]);

/* L1 entries that a disk of this size needs. */
uint64_t qcow2_l1_needed(uint64_t size, unsigned cluster_bits, bool ext_l2);

#endif
