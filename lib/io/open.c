/* open.c - see open.h. */
#include "io/open.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/lock.h"

/* Look before opening: a fifo, a tape or a terminal reacts to being opened.  An
 * O_PATH descriptor, or -errno and *why. */
static int look(const char *path, const char **why)
{
	struct stat st;
	int fd = open(path, O_PATH | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st)) {
		err = -errno;
	} else if (S_ISDIR(st.st_mode)) {
		err = -EISDIR;
		*why = "it is a directory";
	} else if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		err = -EINVAL;
		*why = "it is neither a regular file nor a block device";
	} else {
		return fd;
	}
	close(fd);
	return err;
}

int image_open(const char *path, unsigned flags, bool *direct, const char **why)
{
	/* O_NONBLOCK: a drive that waits for its medium must not hold us. */
	int oflags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
		     (flags & IMAGE_RDONLY ? O_RDONLY : O_RDWR);
	char self[32];
	int seen, fd, err;

	*why = NULL;
	*direct = !(flags & IMAGE_NO_DIRECT);
	seen = look(path, why);
	if (seen < 0)
		return seen;
	/* Not by its name: that may be another file by now. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", seen);
	fd = open(self, oflags | (*direct ? O_DIRECT : 0));
	if (fd < 0 && errno == EINVAL && *direct) {
		*direct = false;
		fd = open(self, oflags);
	}
	err = -errno;
	close(seen);
	if (fd < 0)
		return err;
	err = flags & IMAGE_NO_LOCK ? 0 : file_lock(fd, flags & IMAGE_RDONLY, why);
	if (err == -ENOTSUP) {		/* no locks there: nobody can hold any */
		*why = NULL;
		err = 0;
	}
	if (err) {
		close(fd);
		return err;
	}
	return fd;
}
