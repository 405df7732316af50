/* open.c - see open.h. */
#include "io/open.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/lock.h"

int image_open(const char *path, unsigned flags, bool *direct, const char **why)
{
	/* O_NONBLOCK: a fifo or a device that waits for a medium must not hold
	 * us; it means nothing to regular files and disks. */
	int oflags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
		     (flags & IMAGE_RDONLY ? O_RDONLY : O_RDWR);
	struct stat st;
	int fd, err;

	*why = NULL;
	*direct = !(flags & IMAGE_NO_DIRECT);
	fd = open(path, oflags | (*direct ? O_DIRECT : 0));
	if (fd < 0 && errno == EINVAL && *direct) {
		*direct = false;
		fd = open(path, oflags);
	}
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		err = -errno;
		goto fail;
	}
	err = -EINVAL;
	if (S_ISDIR(st.st_mode)) {
		err = -EISDIR;
		*why = "it is a directory";
		goto fail;
	}
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		*why = "it is neither a regular file nor a block device";
		goto fail;
	}
	err = file_lock(fd, flags & IMAGE_RDONLY, why);
	if (err == -ENOTSUP) {		/* no locks there: nobody can hold any */
		*why = NULL;
		err = 0;
	}
	if (err)
		goto fail;
	return fd;
fail:
	close(fd);
	return err;
}
