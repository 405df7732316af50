/* descriptor.h - the text that describes a vmdk disk: which pieces it has, and which
 * disk it is a child of.  Pure: bytes in, a checked structure out.
 *
 * Liberal in what it reads: keys and words in any case, blanks around '=', LF or
 * CRLF, values with or without quotes, keys that it does not know.  Nothing is ever
 * written from the structure: what changes in an image is the value of CID alone,
 * digit by digit where it stands (vmdk_descriptor_cid()).
 */
#ifndef VMDK_DESCRIPTOR_H
#define VMDK_DESCRIPTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMDK_DESCRIPTOR_MAX (1u << 20)	/* bytes */
#define VMDK_EXTENTS_MAX 1024u
#define VMDK_NO_PARENT 0xffffffffu	/* as a parent's CID */

enum vmdk_access { VMDK_RW, VMDK_RDONLY, VMDK_NOACCESS };

enum vmdk_type {
	VMDK_FLAT,		/* FLAT, VMFS: the disk's bytes */
	VMDK_SPARSE,		/* a file with a sparse header */
	VMDK_ZERO,		/* no file */
};

/* One line: so many sectors of the disk, behind those of the line before. */
struct vmdk_line {
	enum vmdk_access access;
	enum vmdk_type type;
	uint64_t sectors;	/* > 0 */
	uint64_t offset;	/* FLAT: of its bytes in the file, in sectors */
	const char *name;	/* NULL: ZERO */
};

struct vmdk_descriptor {
	char *text;		/* cut into words, to which the rest points */
	const char *type;	/* createType; NULL: none was said */
	const char *parent;	/* parentFileNameHint, or NULL */
	bool has_cid;
	uint32_t cid, parent_cid;
	size_t cid_at;		/* has_cid: where its digits are in the text ... */
	unsigned cid_digits;	/* ... and how many, 1 to 8 */
	struct vmdk_line *lines;
	unsigned n_lines;
	uint64_t sectors;	/* of all lines; * 512 fits 63 bits */
};

/* Does it begin as one? */
bool vmdk_descriptor_magic(const char *bytes, size_t len);

/* len bytes, of which a NUL ends the text.  0; -EINVAL, -EOPNOTSUPP or -ENOMEM, and
 * `why` says what is wrong; then there is nothing to free. */
int vmdk_descriptor_parse(struct vmdk_descriptor *d, const char *bytes, size_t len,
			  char *why, size_t why_len);
void vmdk_descriptor_free(struct vmdk_descriptor *d);

/* The digits of a CID made of `random`, in the place of the old one's and different
 * from it: d->cid_digits characters, no NUL.  d->cid becomes it. */
void vmdk_descriptor_cid(struct vmdk_descriptor *d, uint32_t random, char digits[8]);

#endif
