/* redo_file.c - see redo_file.h.
 *
 * What is mapped and has no room in its file system would end us when it is touched
 * (SIGBUS).  So the room is looked at before each open: whoever passed the file has
 * given room to all of it if the image has tables, else it takes that of the head.
 *
 * A disk that was given such a file is not served without it: what it answers would
 * not be there for its successor. */
#include "redo_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "redo_area.h"
#include "tap_proto.h"

#define BYTES_MAX (1u << 30)

void redo_file_init(struct redo_file *f, struct td_env *e)
{
	*f = (struct redo_file){ .env = e, .fd = -1 };
}

static int map(struct redo_file *f, int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)REDO_AREA_MIN ||
	    st.st_size > (off_t)BYTES_MAX)
		return -EINVAL;
	f->bytes = align_down((uint64_t)st.st_size, 4096);
	p = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	f->redo.area = p;
	return 0;
}

void redo_file_take(struct redo_file *f, int fd)
{
	int err;

	if (f->fd >= 0) {
		close(fd);	/* fronts and drivers use the first */
		return;
	}
	f->fd = fd;
	err = map(f, fd);
	if (err)
		log_err("cannot use the redo log: %s", strerror(-err));
}

int redo_file_prepare(struct redo_file *f, bool recover, bool unlocked,
		      const char **why)
{
	struct stat st;
	int err;

	if (f->fd < 0)
		return 0;
	*why = "its redo log cannot be used";
	if (!f->redo.area)
		return -EIO;
	err = -posix_fallocate(f->fd, 0, REDO_AREA_HEAD);
	if (!err && fstat(f->fd, &st))
		err = -errno;
	if (err)
		return err;
	f->redo.bytes = (uint64_t)st.st_blocks * 512 >= f->bytes ? f->bytes :
								   REDO_AREA_HEAD;
	f->redo.recover = recover;
	f->redo.unlocked = unlocked;
	f->env->redo = &f->redo;
	return redo_area_prepare(&f->redo);
}

int redo_file_open(struct redo_file *f, const char *path, bool recover)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), err;
	const char *why;

	if (fd < 0) {
		err = -errno;
	} else if (ftruncate(fd, TAP_REDO_BYTES)) {
		err = -errno;
		close(fd);
	} else {
		err = -posix_fallocate(fd, 0, TAP_REDO_BYTES);
		redo_file_take(f, fd);
		if (!err)
			err = redo_file_prepare(f, recover, recover, &why);
	}
	if (err)
		log_err("no redo log in %s: %s", path, strerror(-err));
	return err;
}

void redo_file_free(struct redo_file *f)
{
	if (f->redo.area)
		munmap(f->redo.area, f->bytes);
	if (f->fd >= 0)
		close(f->fd);
	f->env->redo = NULL;
}
