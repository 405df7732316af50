/* header.c - see header.h. */
#include "qcow/header.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"

/* Offsets of fields; the last two are of Xen's extension. */
enum {
	AT_MAGIC = 0, AT_VERSION = 4, AT_NAME = 8, AT_NAME_LEN = 16, AT_SIZE = 24,
	AT_CLUSTER_BITS = 32, AT_L2_BITS = 33, AT_CRYPT = 36, AT_L1 = 40,
	AT_XEN_MAGIC = 48, AT_XEN_FLAGS = 60,
};

#define MAGIC 0x514649fbu	/* "QFI" 0xfb */
#define XEN_MAGIC 0x58454efbu	/* "XEN" 0xfb */
#define XEN_L1_BIG_ENDIAN 2u
#define XEN_L1_ALIGN 4096u

static int bad(const char **why, const char *what)
{
	*why = what;
	return -EINVAL;
}

uint64_t qcow_l1_entries(const struct qcow_header *h)
{
	unsigned shift = h->cluster_bits + h->l2_bits;

	return (h->size >> shift) + !!(h->size & ((1ull << shift) - 1));
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

static int backing(struct qcow_header *h, const uint8_t *b, const char **why)
{
	h->name = get_be64(b + AT_NAME);
	if (!h->name)
		return 0;
	h->name_len = get_be32(b + AT_NAME_LEN);
	if (!h->name_len || h->name_len > QCOW_NAME_MAX)
		return bad(why, "the backing file's name has no 1 to 1023 bytes");
	if (h->name < QCOW_HEADER || h->name > (uint64_t)INT64_MAX - h->name_len)
		return bad(why, "the backing file's name is not behind the header");
	if (overlap(h->name, h->name_len, h->l1, h->l1_entries * 8ull))
		return bad(why, "the backing file's name lies in the level 1 table");
	return 0;
}

static int xen(struct qcow_header *h, const uint8_t *b, const char **why)
{
	if (get_be32(b + AT_XEN_MAGIC) != XEN_MAGIC || h->l1 % XEN_L1_ALIGN ||
	    (h->name && h->name < QCOW_HEADER_XEN))
		return 0;
	h->l1_little = !(get_be32(b + AT_XEN_FLAGS) & XEN_L1_BIG_ENDIAN);
	if (h->l1 < QCOW_HEADER_XEN)
		return bad(why, "the level 1 table is not behind the header");
	return 0;
}

int qcow_header_parse(struct qcow_header *h, const uint8_t *b, const char **why)
{
	uint32_t crypt = get_be32(b + AT_CRYPT);
	uint64_t entries;
	int err;

	*h = (struct qcow_header){ .cluster_bits = b[AT_CLUSTER_BITS],
				   .l2_bits = b[AT_L2_BITS], .aes = crypt == 1 };
	if (get_be32(b + AT_MAGIC) != MAGIC)
		return bad(why, "no qcow image");
	if (get_be32(b + AT_VERSION) != 1) {
		*why = "its version is not 1: type qcow2 is for versions 2 and 3";
		return -EOPNOTSUPP;
	}
	if (h->cluster_bits < 9 || h->cluster_bits > 16)
		return bad(why, "clusters have 512 bytes to 64 KiB");
	if (h->l2_bits < 6 || h->l2_bits > 13)
		return bad(why, "level 2 tables have 64 to 8192 entries");
	if (crypt > 1) {
		*why = "its encryption is not known";
		return -EOPNOTSUPP;
	}
	h->size = align_down(get_be64(b + AT_SIZE), 512);
	if (!h->size || h->size > INT64_MAX)
		return bad(why, "a disk has at least a sector, and less than 8 EiB");
	entries = qcow_l1_entries(h);
	h->l1 = get_be64(b + AT_L1);
	if (entries > QCOW_L1_MAX)
		return bad(why, "the disk is too large for its clusters");
	h->l1_entries = (uint32_t)entries;
	if (h->l1 < QCOW_HEADER || h->l1 > (uint64_t)INT64_MAX - entries * 8)
		return bad(why, "the level 1 table is not behind the header");
	if (!is_aligned(h->l1, 8))
		return bad(why, "the level 1 table is not at a multiple of 8");
	err = backing(h, b, why);
	return err ? err : xen(h, b, why);
}

void qcow_header_write(const struct qcow_header *h, uint8_t *b)
{
	ASSERT(!h->l1_little);
	memset(b, 0, QCOW_HEADER);
	put_be32(b + AT_MAGIC, MAGIC);
	put_be32(b + AT_VERSION, 1);
	put_be64(b + AT_NAME, h->name);
	put_be32(b + AT_NAME_LEN, h->name_len);
	put_be64(b + AT_SIZE, h->size);
	b[AT_CLUSTER_BITS] = (uint8_t)h->cluster_bits;
	b[AT_L2_BITS] = (uint8_t)h->l2_bits;
	put_be32(b + AT_CRYPT, h->aes);
	put_be64(b + AT_L1, h->l1);
}
