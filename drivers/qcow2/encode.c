/* encode.c - the first cluster of a qcow2 file, from a struct.
 *
 * For new images and for changes that move things in the first cluster (another
 * backing file, another version).  Fields that change while an image is in use
 * are written in place (enum qcow2_at) and do not come through here.
 */
#include "qcow2/header.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

/* The names of the features known here, as the format's specification has
 * them: what a program that does not know a feature shows to its user. */
static const struct {
	uint8_t type, bit;
	const char *name;
} features[] = {
	{ 0, 0, "dirty bit" },
	{ 0, 1, "corrupt bit" },
	{ 0, 2, "external data file" },
	{ 0, 3, "compression type" },
	{ 0, 4, "extended L2 entries" },
	{ 1, 0, "lazy refcounts" },
	{ 2, 0, "bitmaps" },
	{ 2, 1, "raw external data" },
};
#define FEATURE_BYTES 48u
#define KNOWN_LENGTH 105u	/* header bytes behind it are kept as they are */

/* A cluster that is being filled from its start. */
struct out {
	uint8_t *p;
	uint32_t at, size;
	bool full;
};

static uint8_t *out_take(struct out *o, uint32_t n)
{
	uint8_t *p = o->p + o->at;

	if (o->full || n > o->size - o->at) {
		o->full = true;
		return NULL;
	}
	o->at += n;
	return p;
}

static uint8_t *out_ext(struct out *o, uint32_t type, uint32_t len)
{
	uint8_t *p = out_take(o, 8 + (uint32_t)align_up(len, 8));

	if (!p)
		return NULL;
	put_be32(p, type);
	put_be32(p + 4, len);
	return p + 8;
}

static void out_ext_bytes(struct out *o, uint32_t type, const void *data,
			  uint32_t len)
{
	uint8_t *p = out_ext(o, type, len);

	if (p)
		memcpy(p, data, len);
}

static void out_features(struct out *o)
{
	uint8_t *p = out_ext(o, QCOW2_X_FEATURES,
			     ARRAY_SIZE(features) * FEATURE_BYTES);

	for (size_t i = 0; p && i < ARRAY_SIZE(features); i++) {
		p[0] = features[i].type;
		p[1] = features[i].bit;
		memcpy(p + 2, features[i].name, strlen(features[i].name));
		p += FEATURE_BYTES;
	}
}

static bool ext_is_ours(uint32_t type)
{
	return type == QCOW2_X_BACKING_FMT || type == QCOW2_X_DATA_FILE ||
	       type == QCOW2_X_CRYPTO || type == QCOW2_X_BITMAPS;
}

static void out_exts(struct out *o, const struct qcow2_header *h,
		     const uint8_t *old, const struct qcow2_header *old_h)
{
	bool names = h->version >= 3 && o->size > 4096 &&
		     (!old || old_h->version < 3);
	struct qcow2_ext x;
	uint8_t *p;

	if (h->backing_fmt[0])
		out_ext_bytes(o, QCOW2_X_BACKING_FMT, h->backing_fmt,
			      (uint32_t)strlen(h->backing_fmt));
	if (h->data_file[0])
		out_ext_bytes(o, QCOW2_X_DATA_FILE, h->data_file,
			      (uint32_t)strlen(h->data_file));
	if (h->crypto_length) {
		p = out_ext(o, QCOW2_X_CRYPTO, 16);
		if (p) {
			put_be64(p, h->crypto_offset);
			put_be64(p + 8, h->crypto_length);
		}
	}
	if (names)
		out_features(o);
	if (h->bitmaps) {
		p = out_ext(o, QCOW2_X_BITMAPS, 24);
		if (p) {
			put_be32(p, h->bitmaps);
			put_be64(p + 8, h->bitmap_dir_size);
			put_be64(p + 16, h->bitmap_dir_offset);
		}
	}
	for (uint32_t at = 0; old && qcow2_ext_next(old_h, old, &at, &x);)
		if (!ext_is_ours(x.type) &&
		    (x.type != QCOW2_X_FEATURES || (!names && h->version >= 3)))
			out_ext_bytes(o, x.type, x.data, x.length);
	out_ext(o, QCOW2_X_END, 0);
}

static void put_fields(uint8_t *p, const struct qcow2_header *h)
{
	put_be32(p, QCOW2_MAGIC);
	put_be32(p + 4, h->version);
	put_be32(p + 20, h->cluster_bits);
	put_be64(p + QCOW2_AT_SIZE, h->size);
	put_be32(p + 32, h->crypt);
	put_be32(p + QCOW2_AT_L1, h->l1_entries);
	put_be64(p + QCOW2_AT_L1 + 4, h->l1_offset);
	put_be64(p + QCOW2_AT_REFT, h->reft_offset);
	put_be32(p + QCOW2_AT_REFT + 8, h->reft_clusters);
	put_be32(p + QCOW2_AT_SNAPSHOTS, h->snapshots);
	put_be64(p + QCOW2_AT_SNAPSHOTS + 4, h->snapshots_offset);
	if (h->version < 3)
		return;
	put_be64(p + QCOW2_AT_INCOMPAT, h->incompat);
	put_be64(p + QCOW2_AT_COMPAT, h->compat);
	put_be64(p + QCOW2_AT_AUTOCLEAR, h->autoclear);
	put_be32(p + 96, h->ref_order);
	p[104] = (uint8_t)h->compression;
}

int qcow2_header_encode(const struct qcow2_header *h, const uint8_t *old,
			const struct qcow2_header *old_h, uint8_t *out)
{
	struct out o = { .p = out, .size = 1u << h->cluster_bits };
	uint32_t len = QCOW2_V2_LENGTH;
	uint32_t name_len = (uint32_t)strlen(h->backing);
	uint8_t *name;

	memset(out, 0, o.size);
	if (h->version >= 3) {
		len = QCOW2_V3_LENGTH;
		if (old && old_h->version >= 3 && old_h->length > len)
			len = old_h->length;
	}
	if (!out_take(&o, len))
		return -ENOSPC;
	put_fields(out, h);
	if (h->version >= 3) {
		put_be32(out + 100, len);
		if (old && old_h->length > KNOWN_LENGTH)
			memcpy(out + KNOWN_LENGTH, old + KNOWN_LENGTH,
			       old_h->length - KNOWN_LENGTH);
	}
	out_exts(&o, h, old, old_h);
	if (name_len) {
		put_be64(out + 8, o.at);
		put_be32(out + 16, name_len);
		name = out_take(&o, name_len);
		if (name)
			memcpy(name, h->backing, name_len);
	}
	return o.full ? -ENOSPC : 0;
}
