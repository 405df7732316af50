/* vmdk_priv.h - what the files of the vmdk format share.
 *
 *   descriptor.c  the text, pure           header.c  a sparse extent's header, pure
 *   load.c        both from a file, and the footer of a stream
 *   vmdk.c        opening: which files there are, the parent, the CID
 *   tables.c      the directories of a sparse extent: checked, repaired
 *   map.c         the tables at work
 *   create.c info.c   for tools
 */
#ifndef VMDK_PRIV_H
#define VMDK_PRIV_H

#include "sparse/sparse.h"
#include "vmdk/descriptor.h"
#include "vmdk/header.h"

enum vmdk_class { VMDK_GT, VMDK_GD };

#define VMDK_ENTRY 4u
#define VMDK_SETS 2u

/* A file's beginning. */
struct vmdk_head {
	bool sparse;			/* it has a header: */
	struct vmdk_header h;
	bool described;			/* it has a descriptor: */
	struct vmdk_descriptor d;
	uint64_t text_at;		/* of which the text is here */
};

/* A piece of the disk: bytes [start, end). */
struct vmdk_extent {
	uint64_t start, end;
	enum vmdk_access access;
	enum vmdk_type type;
	unsigned file;
	const char *name;		/* of the file, for messages */
	uint64_t host;			/* FLAT: of `start` */
	/* SPARSE: */
	struct vmdk_header h;
	unsigned sets;			/* of tables that are in use, 1 or 2 */
	uint64_t gd[VMDK_SETS];		/* their directories */
	uint64_t damaged;		/* a directory to be repaired; 0: none */
};

struct vmdk {
	struct vmdk_head head;
	struct vmdk_extent *extents;
	unsigned n_extents;
	uint32_t grain;			/* of all sparse extents, bytes */
	bool packed;			/* some of them are streams */
	bool parent;			/* holes show another disk */
};

extern const struct td_driver td_vmdk;

/* A file to read from: one of an image, or (s NULL) a store. */
struct vmdk_source {
	const struct td_node *n;	/* whom errors are about */
	const char *name;		/* of the file */
	uint64_t bytes;
	struct sparse *s;
	unsigned file;
	struct td_node *store;
};

/* Header, footer and descriptor, or (of an extent's file) header and footer.  0, or
 * -errno after one td_err(). */
int vmdk_head_load(const struct vmdk_source *f, struct vmdk_head *head);
int vmdk_header_load(const struct vmdk_source *f, struct vmdk_header *h);
void vmdk_head_free(struct vmdk_head *head);	/* also after an error */

/* Check e's directories, choose the sets, tell the engine about the tables. */
int vmdk_tables_check(struct sparse *s, struct vmdk_extent *e);
/* Before the first write: a directory that was damaged becomes a copy of the good
 * one; both then lead to the same tables. */
int vmdk_tables_repair(struct sparse *s, struct vmdk_extent *e);
/* Bytes of a grain table, and from one to its copy when they are made together. */
uint32_t vmdk_gt_len(const struct vmdk_extent *e);
uint32_t vmdk_gt_stride(const struct vmdk_extent *e);

int vmdk_map(struct sparse *s, uint64_t off, uint64_t len, struct sparse_extent *x);
int vmdk_link(struct sparse *s, const struct sparse_link *l);
int vmdk_unmap(struct sparse *s, uint64_t off, uint64_t len, enum sparse_unmap how,
	       uint64_t *done);
int vmdk_release(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		 uint64_t *done);

struct json_t;
/* Members of struct td_format_tool's info. */
int vmdk_info(struct td_node *store, struct json_t *o);

#endif
