/* header.c - see header.h. */
#include "vmdk/header.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "sparse/sparse.h"

/* Offsets of fields. */
enum {
	AT_MAGIC = 0, AT_VERSION = 4, AT_FLAGS = 8, AT_CAPACITY = 12, AT_GRAIN = 20,
	AT_DESC = 28, AT_DESC_LEN = 36, AT_GTES = 44, AT_RGD = 48, AT_GD = 56,
	AT_OVERHEAD = 64, AT_UNCLEAN = 72, AT_NEWLINES = 73, AT_ALGORITHM = 77,
};

enum {
	F_NEWLINES = 1, F_RGD = 2, F_ZEROED = 4, F_PACKED = 0x10000,
	F_MARKERS = 0x20000,
};

#define GD_AT_END UINT64_MAX
#define DEFLATE 1

/* What a transfer as text would change. */
static const uint8_t newlines[] = { 0x0a, 0x20, 0x0d, 0x0a };

bool vmdk_header_magic(const uint8_t *bytes, size_t len)
{
	return len >= 4 && !memcmp(bytes + AT_MAGIC, "KDMV", 4);
}

static int bad(const char **why, const char *what)
{
	*why = what;
	return -EINVAL;
}

/* The disk's shape: capacity, grains, how many tables. */
static int shape(struct vmdk_header *h, const uint8_t *b, const char **why)
{
	uint64_t capacity = get_le64(b + AT_CAPACITY), grain = get_le64(b + AT_GRAIN);
	uint64_t grains;

	h->gtes = get_le32(b + AT_GTES);
	if (!is_pow2(grain) || grain < VMDK_GRAIN_MIN / VMDK_SECTOR ||
	    grain > SPARSE_CLUSTER_MAX / VMDK_SECTOR)
		return bad(why, "the grain size is no power of two from 4 KiB to 2 MiB");
	if (!h->gtes || h->gtes > VMDK_GTES_MAX)
		return bad(why, "grain tables have 1 to 512 entries");
	grains = capacity / grain + !!(capacity % grain);
	if (grains > (uint64_t)VMDK_GTS_MAX * h->gtes)
		return bad(why, "the capacity is too large for its grain tables");
	h->grain = (uint32_t)grain * VMDK_SECTOR;
	h->gts = (uint32_t)((grains + h->gtes - 1) / h->gtes);
	h->capacity = capacity * VMDK_SECTOR;
	return 0;
}

/* Sectors at `at` of the header -> bytes; false: more than a file can have. */
static bool place(const uint8_t *b, unsigned at, uint64_t *bytes)
{
	uint64_t sectors = get_le64(b + at);

	*bytes = sectors * VMDK_SECTOR;
	return sectors <= INT64_MAX / VMDK_SECTOR;
}

int vmdk_header_parse(struct vmdk_header *h, const uint8_t *b, const char **why)
{
	uint32_t flags = get_le32(b + AT_FLAGS);
	uint16_t algorithm = get_le16(b + AT_ALGORITHM);

	*h = (struct vmdk_header){ .version = get_le32(b + AT_VERSION) };
	if (!vmdk_header_magic(b, VMDK_HEADER))
		return bad(why, "no header of a sparse extent");
	if (h->version < 1 || h->version > 3) {
		*why = "its version is not 1 to 3";
		return -EOPNOTSUPP;
	}
	if ((flags & F_NEWLINES) && memcmp(b + AT_NEWLINES, newlines, 4))
		return bad(why, "line ends in it were changed by a transfer as text");
	h->zeroed = flags & F_ZEROED;
	h->packed = flags & F_PACKED;
	h->unclean = b[AT_UNCLEAN];
	if (algorithm > DEFLATE || (h->packed && algorithm != DEFLATE)) {
		*why = "its grains are compressed in an unknown way";
		return -EOPNOTSUPP;
	}
	if (!place(b, AT_DESC, &h->desc) || !place(b, AT_DESC_LEN, &h->desc_len) ||
	    !place(b, AT_OVERHEAD, &h->overhead))
		return bad(why, "places in it are behind the end of any file");
	if (!get_le64(b + AT_CAPACITY))
		return 0;
	h->gd_at_end = get_le64(b + AT_GD) == GD_AT_END;
	if ((!h->gd_at_end && !place(b, AT_GD, &h->gd)) ||
	    ((flags & F_RGD) && !h->gd_at_end && !place(b, AT_RGD, &h->rgd)))
		return bad(why, "places in it are behind the end of any file");
	if (!h->gd_at_end && !h->gd && !h->rgd)
		return bad(why, "it has no grain directory");
	return shape(h, b, why);
}

void vmdk_header_write(const struct vmdk_header *h, uint8_t *b)
{
	ASSERT(!h->gd_at_end && !h->unclean);
	memset(b, 0, VMDK_HEADER);
	memcpy(b + AT_MAGIC, "KDMV", 4);
	put_le32(b + AT_VERSION, h->version);
	put_le32(b + AT_FLAGS, F_NEWLINES | (h->rgd ? F_RGD : 0) |
		 (h->zeroed ? F_ZEROED : 0) | (h->packed ? F_PACKED | F_MARKERS : 0));
	put_le64(b + AT_CAPACITY, h->capacity / VMDK_SECTOR);
	put_le64(b + AT_GRAIN, h->grain / VMDK_SECTOR);
	put_le64(b + AT_DESC, h->desc / VMDK_SECTOR);
	put_le64(b + AT_DESC_LEN, h->desc_len / VMDK_SECTOR);
	put_le32(b + AT_GTES, h->gtes);
	put_le64(b + AT_RGD, h->rgd / VMDK_SECTOR);
	put_le64(b + AT_GD, h->gd / VMDK_SECTOR);
	put_le64(b + AT_OVERHEAD, h->overhead / VMDK_SECTOR);
	memcpy(b + AT_NEWLINES, newlines, sizeof(newlines));
	put_le16(b + AT_ALGORITHM, h->packed ? DEFLATE : 0);
}

enum vmdk_marker vmdk_marker(const uint8_t *b, uint64_t *sectors)
{
	uint32_t type = get_le32(b + 12);

	*sectors = get_le64(b);
	if (get_le32(b + 8) || type >= VMDK_MARK_NONE)
		return VMDK_MARK_NONE;
	return (enum vmdk_marker)type;
}
