/* open.c - see open.h. */
#include "io/open.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "io/lock.h"

/* Look before opening: a fifo, a tape or a terminal reacts to being opened.
 * seen: an O_PATH descriptor.  0, or -errno and *why. */
static int look(int seen, unsigned flags, const char **why)
{
	struct stat st;

	if (fstat(seen, &st))
		return -errno;
	if (S_ISDIR(st.st_mode)) {
		*why = "it is a directory";
		return -EISDIR;
	}
	if (S_ISREG(st.st_mode))
		return 0;
	if (!S_ISBLK(st.st_mode)) {
		*why = "it is neither a regular file nor a block device";
		return -EINVAL;
	}
	if (flags & IMAGE_NO_DEVICE) {
		*why = "it is a block device: it must be given by name";
		return -EACCES;
	}
	return 0;
}

/* Open what `seen` has found, and lock it. */
static int open_seen(int seen, unsigned flags, bool *direct, const char **why)
{
	/* O_NONBLOCK: a drive that waits for its medium must not hold us. */
	int oflags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY |
		     (flags & IMAGE_RDONLY ? O_RDONLY : O_RDWR);
	char self[32];
	int fd, err;

	*direct = !(flags & IMAGE_NO_DIRECT);
	err = look(seen, flags, why);
	if (err)
		return err;
	/* Not by its name: that may be another file by now. */
	snprintf(self, sizeof(self), "/proc/self/fd/%d", seen);
	fd = open(self, oflags | (*direct ? O_DIRECT : 0));
	if (fd < 0 && errno == EINVAL && *direct) {
		*direct = false;
		fd = open(self, oflags);
	}
	if (fd < 0)
		return -errno;
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

int image_open(const char *path, unsigned flags, bool *direct, const char **why)
{
	int fd, seen = open(path, O_PATH | O_CLOEXEC);

	*why = NULL;
	if (seen < 0)
		return -errno;
	fd = open_seen(seen, flags, direct, why);
	close(seen);
	return fd;
}

/* An O_PATH descriptor, or -errno. */
static int find_below(const char *dir, const char *name, const char **why)
{
	struct open_how how = {
		.flags = O_PATH | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_SYMLINKS,
	};
	int fd, err, top = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (top < 0)
		return -errno;
	fd = (int)syscall(SYS_openat2, top, name, &how, sizeof(how));
	err = fd < 0 ? -errno : fd;
	close(top);
	if (err == -ELOOP)
		*why = "a symbolic link leads to it: its own name must be given";
	else if (err == -EXDEV)
		*why = "its name leads out of its folder";
	else if (err == -ENOSYS)
		*why = "this kernel cannot keep a name in its folder (openat2)";
	return err;
}

int image_open_below(const char *dir, const char *name, unsigned flags,
		     bool *direct, const char **why)
{
	int fd, seen;

	*why = NULL;
	seen = find_below(dir, name, why);
	if (seen < 0)
		return seen;
	fd = open_seen(seen, flags, direct, why);
	close(seen);
	return fd;
}
