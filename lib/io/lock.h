/* lock.h - QEMU's lock bytes, so that qemu-img and we respect each other.
 *
 * QEMU (block/file-posix.c, "raw_apply_lock_bytes") takes open-file-description
 * read locks on single bytes: byte 100 + p for a permission p that it uses, byte
 * 200 + p for a permission that it does not share.  They belong to the open file
 * description: every duplicate of the descriptor holds them, and they go with
 * the last one.
 */
#ifndef IO_LOCK_H
#define IO_LOCK_H

#include <stdbool.h>

/* Lock fd as one that reads and, unless rdonly, writes and resizes alone.
 * 0, -EBUSY (another program uses the file in a way that conflicts; `why` says
 * which) or -errno.  A file system without such locks is -ENOTSUP. */
int file_lock(int fd, bool rdonly, const char **why);

#endif
