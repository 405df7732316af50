/* header.h - the header of a qcow (version 1) image.  Pure: bytes in, a checked
 * structure out, and back.
 *
 * Known beside QEMU's form: the extension that Xen's tapdisk wrote behind it.  Its
 * first images have a level 1 table of little-endian entries.
 */
#ifndef QCOW_HEADER_H
#define QCOW_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QCOW_HEADER 48u		/* bytes of the header */
#define QCOW_HEADER_XEN 64u	/* with Xen's extension */
#define QCOW_L1_MAX (INT32_MAX / 8)	/* entries */
#define QCOW_NAME_MAX 1023u

struct qcow_header {
	uint64_t size;		/* bytes, a multiple of 512, > 0 */
	unsigned cluster_bits;	/* 9 to 16 */
	unsigned l2_bits;	/* 6 to 13: entries of a level 2 table */
	bool aes;
	bool l1_little;		/* entries of level 1 are little-endian */
	uint64_t l1;		/* place of the level 1 table: any multiple of 8 ... */
	uint32_t l1_entries;	/* ... and how many it has */
	uint64_t name;		/* place of the backing file's name; 0: none */
	uint32_t name_len;	/* 1 to QCOW_NAME_MAX; no NUL */
};

/* QCOW_HEADER_XEN bytes (zeroes behind the end of the file).  0; -EINVAL or
 * -EOPNOTSUPP and what is wrong in *why. */
int qcow_header_parse(struct qcow_header *h, const uint8_t *bytes, const char **why);

/* The QCOW_HEADER bytes of h, as QEMU writes them; without Xen's extension. */
void qcow_header_write(const struct qcow_header *h, uint8_t *bytes);

/* Entries that a level 1 table needs; may be more than QCOW_L1_MAX. */
uint64_t qcow_l1_entries(const struct qcow_header *h);

#endif
