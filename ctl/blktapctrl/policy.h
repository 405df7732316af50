/* policy.h - which files a disk may open.  Pure: what is decided here by name is
 * enforced by broker.c on the descriptor that it opens.
 *
 * A tapdisk faces guests and images, so what it asks for may be what they want.
 * It gets
 *
 *  P1  the file that the operator named for the disk, in any way that the disk
 *      was allowed (a read-only disk: read-only);
 *  P2  the files that the operator named below it, one a line of the spec, to
 *      read only.  With such lines, even none behind an empty one, the image's
 *      own names count no more: there is no P3, and of P4 what is left are the
 *      operator's folders;
 *  P3  without them, what is in the folder of the image or below: an absolute
 *      name (relative ones have been joined to the folder of the image that
 *      names them) whose way from that folder on leads never out of it and over
 *      no symbolic link.  Regular files only: what lies in /dev beside a disk
 *      that is a device is not the disk's.  Never "/" as the folder;
 *  P4  what is in or below a folder that the operator gave to the daemon
 *      (--image-dir), to read only; on the same conditions, but a block device
 *      may be there.
 *
 * P3 and P4 are for types that can name files: raw ones, encrypted or not, and
 * those without a file get P1 alone.  For writing, P3 gives no file that any disk, this one among
 * them, has open; for reading, none that one has open for writing.  Names are
 * compared as texts, and opened from their folder on.
 *
 * So what a tapdisk in a guest's hands can gain is its own image, and to read
 * what lies beside it and in the folders of P4; to write, what lies beside it
 * and nobody uses.  Images whose owners do not trust each other therefore
 * belong in folders of their own, or get their files named (P2).
 */
#ifndef CTL_POLICY_H
#define CTL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tap_proto.h"

/* The file that the line names: behind the ':' of the first TYPE whose rest
 * begins with '/', so of "delay:ms=5|aio:/srv/a" it is "/srv/a", and a path may
 * contain anything but a newline, which ends the line.  NULL if the line names
 * none ("ram:1G"); else of *len bytes. */
const char *policy_path(const char *line, size_t *len);

struct policy {
	const char *spec;	/* all lines */
	uint32_t flags;		/* the disk's: TAP_OPEN_* */
	const char *const *dirs;	/* of P4; NULL-ended */
};

/* How a file may be opened. */
struct policy_grant {
	bool found;		/* by P3 or P4; else as it is named */
	bool device;		/* found: it may be a block device */
	bool dotted;		/* found: the name has "..": what the kernel makes
				 * of it must be the same file */
	char dir[TAP_TEXT_MAX + 1];	/* found: the folder, */
	char name[TAP_TEXT_MAX + 1];	/* and the way from there */
};

/* May the disk open path so?  0 and *g; or -EACCES, -EROFS, -EINVAL and *why, a
 * constant. */
int policy_check(const struct policy *p, const char *path, uint32_t ask_flags,
		 struct policy_grant *g, const char **why);

/* Does the image itself (the first line) have tables?  False: it is no more than
 * the disk's bytes, or has no file. */
bool policy_has_tables(const char *spec);

/* Is it a spec at all: TYPE:... without control characters, in one line or, as
 * above, several?  A newline at the end says that nothing is below.  0 or
 * -EINVAL. */
int policy_spec(const char *spec);

#endif
