/* formats.h - what tools know of an image format beyond what a disk needs: how to
 * tell a file of it, make one, describe, check and repair one.
 *
 * One table a format, in its folder; one list, in formats.c.  Everything here
 * blocks and works on the store of the image's file by td_blocking_*(), while
 * nothing else uses it: it is for programs that do one thing and end.
 *
 * Errors are -errno, after one td_err() on the store.
 */
#ifndef FORMATS_H
#define FORMATS_H

#include <stdbool.h>

#include "td_driver.h"

/* An option of -o NAME=VALUE. */
struct td_format_opt {
	const char *name;
	const char *arg;	/* what stands for the value in help */
	const char *help;
	const char *def;	/* what it is when not given; NULL: nothing */
};

struct td_format_value {
	const char *name, *value;
};

/* What is to be made. */
struct td_format_make {
	uint64_t size;		/* of the disk, a multiple of 512 */
	const char *path;	/* of the image, for formats of several files */
	const char *backing, *backing_format;	/* NULL: none */
	const struct td_format_value *values;	/* of the other options */
	unsigned n_values;
	/* Another file of the image (fresh: made anew, empty) or its backing file
	 * (read alone), named as seen from the image's folder: its store, which the
	 * caller closes when create has ended.  0, or -errno after a message.
	 * NULL: the caller has none to give. */
	int (*file)(const struct td_format_make *m, const char *name, bool fresh,
		    struct td_node **store);
	void *owner;		/* the caller's, for `file` */
};
/* The value that was given, or the default of the table, or NULL. */
const char *td_format_value(const struct td_format_opt *opts,
			    const struct td_format_make *m, const char *name);

/* A check, and what came of it.  Numbers are of the image as it is afterwards,
 * but for those that were repaired. */
struct td_check {
	bool fix_leaks, fix_errors;
	void (*say)(void *arg, const char *line);	/* one finding */
	void *arg;

	uint64_t failures;	/* what could not be checked */
	uint64_t corruptions, leaks;
	uint64_t corruptions_fixed, leaks_fixed;
	/* Clusters; total 0: the format does not tell. */
	uint64_t total, allocated, fragmented, packed;
	uint64_t end;		/* of what is in use of the file; 0: not told */
};
__attribute__((format(printf, 2, 3)))
void td_check_say(struct td_check *c, const char *fmt, ...);

enum td_snap_op { TD_SNAP_CREATE, TD_SNAP_APPLY, TD_SNAP_DELETE };

/* What becomes of the wish for compressed clusters. */
enum td_format_pack {
	TD_PACK_NEVER,		/* it is refused */
	TD_PACK_PLAIN,		/* it is heard, and they are written as they are, as by
				 * qemu-img */
	TD_PACK_CLUSTERS,
};

struct td_format_tool {
	const char *name;	/* what people and qemu call the format */
	const struct td_driver *driver;		/* NULL: the one of that name */
	const struct td_format_opt *opts;	/* NULL-ended; with create */
	/* Do these first bytes of a file say that it is one?  NULL: never. */
	bool (*probe)(const void *head, size_t len);
	/* Write an image into a store, which reads as zeroes unless it is a device. */
	int (*create)(struct td_node *store, const struct td_format_make *m);
	/* What was never written is not zeroes: who copies writes them too. */
	bool noise;
	enum td_format_pack pack;
	/* The format of backing files of which an image says none; "": any, which who
	 * only reads looks for in them; NULL: the driver wants it to be said. */
	const char *below;
	/* All below are optional.  measure: bytes of the file of such an image with
	 * so many bytes of data in it. */
	int (*measure)(const struct td_format_make *m, uint64_t data, uint64_t *bytes);
	/* info: members of qemu-img's ImageInfo, in `o`:
	 * at least "virtual-size"; "cluster-size", "format-specific", ... */
	int (*info)(struct td_node *store, struct json_t *o);
	int (*check)(struct td_node *store, struct td_check *c);
	/* Another backing file ("": none) is named, and nothing else changed. */
	int (*rebase)(struct td_node *store, const char *backing, const char *format);
	/* Snapshots inside the image; they are listed by info. */
	int (*snap)(struct td_node *store, enum td_snap_op op, const char *name);
};

#define TD_FORMAT_HEAD 2048u	/* what probe should be given */

extern const struct td_format_tool *const td_format_tools[];	/* NULL-ended */
/* By name, or by a name of its driver; NULL if there is none. */
const struct td_format_tool *td_format_find(const char *name);
/* By first bytes; NULL: none of those that can be told. */
const struct td_format_tool *td_format_probe(const void *head, size_t len);

#endif
