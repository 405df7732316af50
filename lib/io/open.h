/* open.h - open an image: the one place that calls open(2) on a name from a
 * user or an image. */
#ifndef IO_OPEN_H
#define IO_OPEN_H

#include <stdbool.h>

enum image_flag {
	IMAGE_RDONLY	= 1u << 0,
	IMAGE_NO_DIRECT	= 1u << 1,
	IMAGE_NO_LOCK	= 1u << 2,	/* and respect nobody's: to look at a live one */
	IMAGE_NO_DEVICE	= 1u << 3, /* regular files only */
};

/* Open a regular file or block device, O_DIRECT unless told not to (or the file
 * system does not know it), and lock it as file_lock() does.  May block: not for
 * the loop.  The descriptor, or -errno and *why (a constant, or NULL when
 * strerror says it all).  *direct: whether O_DIRECT is on. */
int image_open(const char *path, unsigned flags, bool *direct, const char **why);

/* The same for `name` below the folder `dir`, which may be reached in any way;
 * from there on the way never leads out of it and over no symbolic link. */
int image_open_below(const char *dir, const char *name, unsigned flags,
		     bool *direct, const char **why);

#endif
