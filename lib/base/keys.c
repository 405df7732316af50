/* keys.c - see keys.h. */
#include "base/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* Room of one: its bytes, a newline, and one byte that is too many. */
#define SLOT (2 * KEY_LEN_MAX)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static const char too_long[] = "a key has at most 4096 bytes";
static const char empty[] = "it is empty";

/* The next key's room, or NULL. */
static unsigned char *slot(struct keys *k)
{
	unsigned char *p;

	if (!k->room) {
		p = mmap(NULL, KEYS_MAX * SLOT, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return NULL;
		k->room = p;
		/* A tapdisk in its sandbox has done that and may no more. */
		(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
		(void)madvise(p, KEYS_MAX * SLOT, MADV_DONTDUMP);
	}
	p = k->room + k->n * SLOT;
	(void)mlock(p, SLOT);
	return p;
}

/* Bytes of fd, at most SLOT, from its beginning or from where it stands; or
 * -errno. */
static ssize_t fill(unsigned char *p, int fd, bool from_start)
{
	size_t len = 0;

	while (len < SLOT) {
		ssize_t n = from_start ?
			    pread(fd, p + len, SLOT - len, (off_t)len) :
			    read(fd, p + len, SLOT - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static int add(struct keys *k, int fd, bool from_start, bool exact, const char **why)
{
	unsigned char *p;
	ssize_t len;

	*why = "no more than 16 keys are possible";
	if (k->n == KEYS_MAX)
		return -E2BIG;
	*why = NULL;
	p = slot(k);
	if (!p)
		return -ENOMEM;
	len = fill(p, fd, from_start);
	if (len > 0 && !exact && p[len - 1] == '\n')
		len--;
	if (len > 0 && len <= (ssize_t)KEY_LEN_MAX) {
		k->v[k->n++] = (struct td_secret){ p, (size_t)len };
		return 0;
	}
	explicit_bzero(p, SLOT);
	if (len < 0)
		return (int)len;
	*why = len ? too_long : empty;
	return len ? -E2BIG : -EINVAL;
}

int keys_add_fd(struct keys *k, int fd, const char **why)
{
	return add(k, fd, false, false, why);
}

int keys_add_memfd(struct keys *k, int fd, const char **why)
{
	return add(k, fd, true, true, why);
}

static int add_file(struct keys *k, const char *path, bool exact, const char **why)
{
	int err, fd;

	*why = NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return -errno;
	err = add(k, fd, false, exact, why);
	close(fd);
	return err;
}

int keys_add_file(struct keys *k, const char *path, const char **why)
{
	if (!strcmp(path, "-"))
		return add(k, STDIN_FILENO, false, false, why);
	return add_file(k, path, false, why);
}

int keys_add_exact(struct keys *k, const char *path, const char **why)
{
	return add_file(k, path, true, why);
}

int keys_to_memfd(const struct td_secret *s)
{
	int err, fd = memfd_create("key", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	ssize_t n;

	if (fd < 0)
		return -errno;
	ASSERT(s->len && s->len <= KEY_LEN_MAX);
	n = write(fd, s->bytes, s->len);
	if (n == (ssize_t)s->len && !fcntl(fd, F_ADD_SEALS, SEALS | F_SEAL_SEAL))
		return fd;
	err = n < 0 ? -errno : -EIO;
	close(fd);
	return err;
}

int keys_check_memfd(int fd, const char **why)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	*why = "a key comes in a sealed memfd";
	if (seals < 0 || (seals & SEALS) != SEALS)
		return -EPERM;
	*why = NULL;
	if (fstat(fd, &st))
		return -errno;
	*why = st.st_size ? too_long : empty;
	if (st.st_size < 1 || st.st_size > KEY_LEN_MAX)
		return st.st_size ? -E2BIG : -EINVAL;
	return 0;
}

void keys_drop(struct keys *k, unsigned n)
{
	while (k->n > n) {
		explicit_bzero(k->room + --k->n * SLOT, SLOT);
		k->v[k->n] = (struct td_secret){ 0 };
	}
}

void keys_wipe(struct keys *k)
{
	if (k->room) {
		keys_drop(k, 0);
		munmap(k->room, KEYS_MAX * SLOT);
	}
	*k = (struct keys){ 0 };
}
