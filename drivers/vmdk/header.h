/* header.h - the header of a sparse vmdk extent, and the markers of a stream.  Pure:
 * bytes in, a checked structure out.
 *
 * What is checked against the length of the file is checked by whoever knows it.
 */
#ifndef VMDK_HEADER_H
#define VMDK_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMDK_SECTOR 512u
#define VMDK_HEADER 512u	/* bytes of a header, and of a marker */
#define VMDK_GRAIN_MIN 4096u
#define VMDK_GRAIN_MARKER 12u	/* bytes of a grain's marker before its data */
#define VMDK_GTES_MAX 512u	/* entries of a grain table, at most */
#define VMDK_GTS_MAX (32u << 20)	/* entries of a grain directory, at most */

/* All places and lengths are bytes. */
struct vmdk_header {
	unsigned version;
	bool zeroed;		/* entry 1 of a grain table: a grain of zeroes */
	bool packed;		/* grains are compressed, with markers */
	bool gd_at_end;		/* the footer says where the grain directory is */
	bool unclean;		/* its last writer did not close it */
	uint64_t capacity;
	uint32_t grain;		/* a power of two, VMDK_GRAIN_MIN to SPARSE_CLUSTER_MAX */
	uint32_t gtes;		/* entries of a grain table, 1 to VMDK_GTES_MAX */
	uint32_t gts;		/* entries of a grain directory */
	uint64_t gd, rgd;	/* the directories; rgd 0: there is one alone */
	uint64_t desc, desc_len;	/* the descriptor; desc 0: there is none */
	uint64_t overhead;	/* header and tables end here */
};

bool vmdk_header_magic(const uint8_t *bytes, size_t len);

/* VMDK_HEADER bytes.  0; -EINVAL or -EOPNOTSUPP and what is wrong in *why.  A
 * capacity of 0 (grains and tables unset then) is for the caller to judge. */
int vmdk_header_parse(struct vmdk_header *h, const uint8_t *bytes, const char **why);

/* The VMDK_HEADER bytes of h, whose directories are in front. */
void vmdk_header_write(const struct vmdk_header *h, uint8_t *bytes);

enum vmdk_marker { VMDK_MARK_EOS, VMDK_MARK_GT, VMDK_MARK_GD, VMDK_MARK_FOOTER,
		   VMDK_MARK_NONE };
/* What marker these VMDK_HEADER bytes are; *sectors: how many follow it. */
enum vmdk_marker vmdk_marker(const uint8_t *bytes, uint64_t *sectors);

#endif
