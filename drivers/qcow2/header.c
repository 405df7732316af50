/* header.c - decodes and checks the header of a qcow2 file.
 *
 * Does no I/O and allocates nothing.  Each field is checked before it is used to
 * find another: a shift by cluster_bits comes after cluster_bits is in range, an
 * extension is looked at when it is known to lie in the first cluster.
 */
#include "qcow2/header.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"

static int refuse(struct qcow2_why *why, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static int refuse(struct qcow2_why *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why->text, sizeof(why->text), fmt, ap);
	va_end(ap);
	return err;
}

int qcow2_header_cluster(const uint8_t *first, size_t len, unsigned *bits,
			 struct qcow2_why *why)
{
	uint32_t version, cluster_bits;

	if (len < QCOW2_V2_LENGTH || get_be32(first) != QCOW2_MAGIC)
		return refuse(why, -EINVAL, "this is no qcow2 image");
	version = get_be32(first + 4);
	if (version == 1)
		return refuse(why, -EINVAL,
			      "this is an image of the older format qcow");
	if (version != 2 && version != 3)
		return refuse(why, -ENOTSUP, "version %u of qcow2 is not known",
			      version);
	cluster_bits = get_be32(first + 20);
	if (cluster_bits < QCOW2_CLUSTER_BITS_MIN ||
	    cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return refuse(why, -EINVAL, "cluster_bits is %u, not 9 to 21",
			      cluster_bits);
	*bits = cluster_bits;
	return 0;
}

uint64_t qcow2_l1_needed(uint64_t size, unsigned cluster_bits, bool ext_l2)
{
	unsigned bits = 2 * cluster_bits - (ext_l2 ? 4 : 3);

	return (size >> bits) + !!(size & ((1ull << bits) - 1));
}

bool qcow2_ext_next(const struct qcow2_header *h, const uint8_t *cluster,
		    uint32_t *at, struct qcow2_ext *x)
{
	uint32_t pos = *at ? *at : h->ext_start;

	if (pos > h->ext_end || h->ext_end - pos < 8)
		return false;
	x->type = get_be32(cluster + pos);
	x->length = get_be32(cluster + pos + 4);
	x->data = cluster + pos + 8;
	if (x->type == QCOW2_X_END || x->length > h->ext_end - pos - 8)
		return false;
	*at = pos + 8 + (uint32_t)align_up(x->length, 8);
	return true;
}

void qcow2_feature_name(const struct qcow2_header *h, const uint8_t *cluster,
			unsigned type, uint64_t bits,
			char name[QCOW2_FEATURE_NAME])
{
	unsigned bit = (unsigned)__builtin_ctzll(bits);
	struct qcow2_ext x;
	uint32_t at = 0;

	snprintf(name, QCOW2_FEATURE_NAME, "bit %u", bit);
	while (qcow2_ext_next(h, cluster, &at, &x)) {
		if (x.type != QCOW2_X_FEATURES)
			continue;
		for (uint32_t i = 0; i + 48 <= x.length; i += 48) {
			const uint8_t *r = x.data + i;

			if (r[0] != type || r[1] != bit || !r[2])
				continue;
			memcpy(name, r + 2, 46);
			name[46] = '\0';
			for (char *c = name; *c; c++)
				if (*c < ' ' || *c > '~')
					*c = '?';
			return;
		}
	}
}

/* --- decode, part by part --- */

static void decode_fields(const uint8_t *p, struct qcow2_header *h)
{
	h->version = get_be32(p + 4);
	h->size = get_be64(p + QCOW2_AT_SIZE);
	h->l1_entries = get_be32(p + QCOW2_AT_L1);
	h->l1_offset = get_be64(p + QCOW2_AT_L1 + 4);
	h->reft_offset = get_be64(p + QCOW2_AT_REFT);
	h->reft_clusters = get_be32(p + QCOW2_AT_REFT + 8);
	h->snapshots = get_be32(p + QCOW2_AT_SNAPSHOTS);
	h->snapshots_offset = get_be64(p + QCOW2_AT_SNAPSHOTS + 4);
	h->length = QCOW2_V2_LENGTH;
	h->ref_order = 4;
	if (h->version < 3)
		return;
	h->incompat = get_be64(p + QCOW2_AT_INCOMPAT);
	h->compat = get_be64(p + QCOW2_AT_COMPAT);
	h->autoclear = get_be64(p + QCOW2_AT_AUTOCLEAR);
	h->ref_order = get_be32(p + 96);
	h->length = get_be32(p + 100);
}

static int check_length(const uint8_t *p, struct qcow2_header *h,
			struct qcow2_why *why)
{
	uint32_t cs = 1u << h->cluster_bits;
	uint64_t name_at = get_be64(p + 8);
	uint32_t name_len = get_be32(p + 16);

	if (h->version >= 3 && (h->length < 104 || h->length > cs ||
				!is_aligned(h->length, 8)))
		return refuse(why, -EINVAL, "a header of %u bytes", h->length);
	h->ext_start = h->length;
	h->ext_end = cs;
	if (!name_at)
		return 0;
	if (name_at < h->length || name_at > cs || name_len > cs - name_at ||
	    name_len > QCOW2_NAME_MAX)
		return refuse(why, -EINVAL,
			      "the backing file's name, %u bytes at %llu, is not in the first cluster",
			      name_len, (unsigned long long)name_at);
	h->ext_end = (uint32_t)name_at;
	memcpy(h->backing, p + name_at, name_len);
	if (strlen(h->backing) != name_len)
		return refuse(why, -EINVAL,
			      "the backing file's name has a zero byte");
	return 0;
}

static int ext_string(const struct qcow2_ext *x, char *to, uint32_t max,
		      const char *what, struct qcow2_why *why)
{
	if (x->length > max)
		return refuse(why, -EINVAL, "the %s is longer than %u bytes",
			      what, max);
	memset(to, 0, max + 1);
	memcpy(to, x->data, x->length);
	if (strlen(to) != x->length)
		return refuse(why, -EINVAL, "the %s has a zero byte", what);
	return 0;
}

static int decode_ext(const struct qcow2_ext *x, struct qcow2_header *h,
		      struct qcow2_why *why)
{
	switch (x->type) {
	case QCOW2_X_BACKING_FMT:
		return ext_string(x, h->backing_fmt, QCOW2_FMT_MAX,
				  "backing format's name", why);
	case QCOW2_X_DATA_FILE:
		return ext_string(x, h->data_file, QCOW2_NAME_MAX,
				  "data file's name", why);
	case QCOW2_X_CRYPTO:
		if (x->length != 16)
			break;
		h->crypto_offset = get_be64(x->data);
		h->crypto_length = get_be64(x->data + 8);
		return 0;
	case QCOW2_X_BITMAPS:
		if (x->length != 24)
			break;
		h->bitmaps = get_be32(x->data);
		h->bitmap_dir_size = get_be64(x->data + 8);
		h->bitmap_dir_offset = get_be64(x->data + 16);
		return 0;
	default:
		return 0;
	}
	return refuse(why, -EINVAL, "extension %08x is %u bytes long", x->type,
		      x->length);
}

/* The walk of qcow2_ext_next(), which ends silently where this one refuses. */
static int decode_exts(const uint8_t *p, struct qcow2_header *h,
		       struct qcow2_why *why)
{
	struct qcow2_ext x;
	uint32_t at = 0, end = h->ext_start;
	int err;

	while (qcow2_ext_next(h, p, &at, &x)) {
		err = decode_ext(&x, h, why);
		if (err)
			return err;
		end = at;
	}
	if (end <= h->ext_end && h->ext_end - end >= 8 &&
	    get_be32(p + end) != QCOW2_X_END)
		return refuse(why, -EINVAL,
			      "extension %08x, %u bytes long, does not end in the header's cluster",
			      get_be32(p + end), get_be32(p + end + 4));
	return 0;
}

static int check_features(const uint8_t *p, struct qcow2_header *h,
			  struct qcow2_why *why)
{
	uint64_t unknown = h->incompat & ~(uint64_t)QCOW2_INCOMPAT_KNOWN;
	char name[QCOW2_FEATURE_NAME];
	uint8_t compression = h->length > 104 ? p[104] : 0;

	if (unknown) {
		qcow2_feature_name(h, p, 0, unknown, name);
		return refuse(why, -ENOTSUP,
			      "it uses a feature that is not known here: %s", name);
	}
	if (h->ref_order > 6)
		return refuse(why, -EINVAL, "refcount_order is %u, not 0 to 6",
			      h->ref_order);
	if (!(h->incompat & QCOW2_COMPRESSION) != !compression)
		return refuse(why, -EINVAL,
			      "compression type %u does not agree with the feature bit",
			      compression);
	if (compression > QCOW2_ZSTD)
		return refuse(why, -ENOTSUP, "compression type %u is not known",
			      compression);
	h->compression = compression;
	if (h->incompat & QCOW2_EXT_L2 &&
	    h->cluster_bits < QCOW2_EXT_CLUSTER_BITS_MIN)
		return refuse(why, -EINVAL,
			      "extended L2 entries with clusters of less than 16 KiB");
	if (!(h->incompat & QCOW2_DATA_FILE))
		h->data_file[0] = '\0';
	if (h->autoclear & QCOW2_DATA_RAW) {
		if (!(h->incompat & QCOW2_DATA_FILE))
			return refuse(why, -EINVAL,
				      "raw external data without a data file");
		if (h->backing[0])
			return refuse(why, -EINVAL,
				      "raw external data with a backing file");
	}
	if (h->incompat & QCOW2_DATA_FILE && h->snapshots)
		return refuse(why, -EINVAL, "snapshots with a data file");
	if (h->autoclear & QCOW2_BITMAPS && !h->bitmaps)
		return refuse(why, -EINVAL,
			      "the feature bit of bitmaps is set, but there are none");
	return 0;
}

/* [off, off + len) is a table: aligned, in the file (which may end within the
 * last cluster). */
static int check_table(const struct qcow2_header *h, uint64_t file_len,
		       const char *what, uint64_t off, uint64_t len,
		       struct qcow2_why *why)
{
	uint64_t cs = 1ull << h->cluster_bits;
	uint64_t end = file_len > INT64_MAX - cs ? INT64_MAX :
						   align_up(file_len, cs);

	if (off && is_aligned(off, cs) && range_ok(off, len, end))
		return 0;
	return refuse(why, -EINVAL,
		      "the %s, %llu bytes at %llu, is not in the file, or not at a cluster's start",
		      what, (unsigned long long)len, (unsigned long long)off);
}

static int check_crypt(const uint8_t *p, uint64_t file_len,
		       struct qcow2_header *h, struct qcow2_why *why)
{
	uint32_t method = get_be32(p + 32);

	if (method > QCOW2_CRYPT_LUKS)
		return refuse(why, -ENOTSUP, "encryption method %u is not known",
			      method);
	h->crypt = method;
	if ((method == QCOW2_CRYPT_LUKS) != (h->crypto_length || h->crypto_offset))
		return refuse(why, -EINVAL,
			      "encryption method %u %s a header of LUKS", method,
			      h->crypto_length ? "with" : "without");
	if (method != QCOW2_CRYPT_LUKS)
		return 0;
	return check_table(h, file_len, "header of LUKS", h->crypto_offset,
			   h->crypto_length, why);
}

static int check_reft(uint64_t file_len, unsigned flags, struct qcow2_header *h,
		      struct qcow2_why *why)
{
	uint64_t bytes = (uint64_t)h->reft_clusters << h->cluster_bits;
	int err;

	if (!bytes || bytes > QCOW2_REFT_MAX)
		err = refuse(why, -EINVAL, "a refcount table of %u clusters",
			     h->reft_clusters);
	else
		err = check_table(h, file_len, "refcount table", h->reft_offset,
				  bytes, why);
	if (err && flags & QCOW2_FOR_REPAIR) {
		h->reft_clusters = 0;
		h->reft_offset = 0;
		err = 0;
	}
	return err;
}

static int check_l1(uint64_t file_len, struct qcow2_header *h,
		    struct qcow2_why *why)
{
	uint64_t need;

	if (h->size > INT64_MAX)
		return refuse(why, -EINVAL, "a disk of %llu bytes",
			      (unsigned long long)h->size);
	need = qcow2_l1_needed(h->size, h->cluster_bits,
			       h->incompat & QCOW2_EXT_L2);
	if (h->l1_entries > QCOW2_L1_MAX || h->l1_entries < need)
		return refuse(why, -EINVAL,
			      "an L1 table of %u entries for a disk of %llu bytes",
			      h->l1_entries, (unsigned long long)h->size);
	if (!h->l1_entries)
		return 0;
	return check_table(h, file_len, "L1 table", h->l1_offset,
			   h->l1_entries * 8ull, why);
}

static int check_rest(uint64_t file_len, const struct qcow2_header *h,
		      struct qcow2_why *why)
{
	int err = 0;

	if (h->snapshots > QCOW2_SNAPSHOTS_MAX)
		return refuse(why, -EINVAL, "%u snapshots", h->snapshots);
	if (h->snapshots)	/* each takes 40 bytes at least */
		err = check_table(h, file_len, "table of snapshots",
				  h->snapshots_offset, h->snapshots * 40ull, why);
	if (err || !(h->autoclear & QCOW2_BITMAPS))
		return err;
	if (h->bitmaps > QCOW2_BITMAPS_MAX || !h->bitmap_dir_size ||
	    h->bitmap_dir_size > QCOW2_BITMAP_DIR_MAX)
		return refuse(why, -EINVAL,
			      "a directory of %u bitmaps in %llu bytes", h->bitmaps,
			      (unsigned long long)h->bitmap_dir_size);
	return check_table(h, file_len, "directory of bitmaps",
			   h->bitmap_dir_offset, h->bitmap_dir_size, why);
}

static int check_overlap(const struct qcow2_header *h, struct qcow2_why *why)
{
	uint64_t cs = 1ull << h->cluster_bits;
	bool dir = h->autoclear & QCOW2_BITMAPS;
	const struct {
		const char *what;
		uint64_t off, len;
	} t[] = {
		{ "header", 0, cs },
		{ "L1 table", h->l1_offset, h->l1_entries * 8ull },
		{ "refcount table", h->reft_offset,
		  (uint64_t)h->reft_clusters << h->cluster_bits },
		{ "table of snapshots", h->snapshots_offset,
		  h->snapshots * 40ull },
		{ "header of LUKS", h->crypto_offset, h->crypto_length },
		{ "directory of bitmaps", h->bitmap_dir_offset,
		  dir ? h->bitmap_dir_size : 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		for (size_t j = i + 1; j < ARRAY_SIZE(t); j++)
			if (t[i].len && t[j].len &&
			    t[i].off < align_up(t[j].off + t[j].len, cs) &&
			    t[j].off < align_up(t[i].off + t[i].len, cs))
				return refuse(why, -EINVAL,
					      "its %s and %s lie over each other",
					      t[i].what, t[j].what);
	return 0;
}

int qcow2_header_decode(const uint8_t *p, uint64_t file_len, unsigned flags,
			struct qcow2_header *h, struct qcow2_why *why)
{
	int err;

	memset(h, 0, sizeof(*h));
	err = qcow2_header_cluster(p, QCOW2_V2_LENGTH, &h->cluster_bits, why);
	if (err)
		return err;
	decode_fields(p, h);
	err = check_length(p, h, why);
	if (!err)
		err = decode_exts(p, h, why);
	if (!err)
		err = check_features(p, h, why);
	if (!err)
		err = check_crypt(p, file_len, h, why);
	if (!err)
		err = check_reft(file_len, flags, h, why);
	if (!err)
		err = check_l1(file_len, h, why);
	if (!err)
		err = check_rest(file_len, h, why);
	if (!err)
		err = check_overlap(h, why);
	return err;
}
