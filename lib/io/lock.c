/* lock.c - see lock.h.
 *
 * First take, then look whether somebody else holds an opposite byte: two that
 * come at the same moment both see each other, so at worst both give way.
 * Which bytes qemu's programs hold on a raw image (7.2): qemu-io 100 and, when
 * writing, 101; qemu-nbd also 203; a guest's disk also 201.  Our two roles are
 * those of a guest's disk, read-only or not, plus resize for the writer, since
 * a live resize is one of our verbs.
 */
#include "io/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>


#define USES_BASE 100
#define UNSHARED_BASE 200

enum perm {
	PERM_CONSISTENT_READ,
	PERM_WRITE,
	PERM_WRITE_UNCHANGED,
	PERM_RESIZE,
	PERMS
};
#define BIT(p) (1u << (p))

static const char *const in_use[PERMS] = {
	"another program reads it", "another program writes to it",
	"another program rewrites it", "another program may resize it",
};
static const char *const not_shared[PERMS] = {
	"another program does not let others read it",
	"another program does not let others write to it",
	"another program does not let others rewrite it",
	"another program does not let others resize it",
};

static int lock_byte(int fd, short type, off_t byte)
{
	struct flock l = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = byte,
		.l_len = 1,
	};
	int rc;

	do
		rc = fcntl(fd, F_OFD_SETLK, &l);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

/* 0; -EBUSY: another open file description holds the byte; or -errno. */
static int byte_is_free(int fd, off_t byte)
{
	struct flock l = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte,
		.l_len = 1,
	};

	if (fcntl(fd, F_OFD_GETLK, &l) < 0)
		return -errno;
	return l.l_type == F_UNLCK ? 0 : -EBUSY;
}

static int take(int fd, unsigned uses, unsigned unshared)
{
	int err = 0;

	for (unsigned p = 0; p < PERMS && !err; p++) {
		if (uses & BIT(p))
			err = lock_byte(fd, F_RDLCK, USES_BASE + p);
		if (!err && (unshared & BIT(p)))
			err = lock_byte(fd, F_RDLCK, UNSHARED_BASE + p);
	}
	return err;
}

static int check(int fd, unsigned uses, unsigned unshared, const char **why)
{
	for (unsigned p = 0; p < PERMS; p++) {
		int err = 0;

		if (unshared & BIT(p)) {
			*why = in_use[p];
			err = byte_is_free(fd, USES_BASE + p);
		}
		if (!err && (uses & BIT(p))) {
			*why = not_shared[p];
			err = byte_is_free(fd, UNSHARED_BASE + p);
		}
		if (err)
			return err;
	}
	return 0;
}

static void release(int fd)
{
	for (unsigned p = 0; p < PERMS; p++) {
		(void)lock_byte(fd, F_UNLCK, USES_BASE + p);
		(void)lock_byte(fd, F_UNLCK, UNSHARED_BASE + p);
	}
}

int file_lock(int fd, bool rdonly, const char **why)
{
	unsigned unshared = BIT(PERM_WRITE) | BIT(PERM_RESIZE);
	unsigned uses = BIT(PERM_CONSISTENT_READ);
	int err;

	if (!rdonly)
		uses |= BIT(PERM_WRITE) | BIT(PERM_RESIZE);
	*why = "";
	err = take(fd, uses, unshared);
	if (!err)
		err = check(fd, uses, unshared, why);
	if (!err) {
		*why = "";
		return 0;
	}
	release(fd);
	if (err == -EBUSY)
		return err;
	/* A shared lock that is refused: somebody holds the byte exclusively. */
	if (err == -EAGAIN || err == -EACCES) {
		*why = "another program has locked it";
		return -EBUSY;
	}
	*why = "cannot lock it";
	if (err == -EINVAL || err == -ENOLCK || err == -ENOSYS ||
	    err == -EOPNOTSUPP) {
		*why = "its file system has no open-file-description locks";
		return -ENOTSUP;
	}
	return err;
}
