/* luks_rig.c - see luks_rig.h. */
#include "luks_rig.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

static int mem_read(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct luks_mem *m = arg;

	if (!range_ok(off, len, m->len))
		return -ERANGE;
	memcpy(buf, m->bytes + off, len);
	return 0;
}

static int mem_write(void *arg, uint64_t off, const void *buf, size_t len)
{
	struct luks_mem *m = arg;

	if (!range_ok(off, len, m->len))
		return -ERANGE;
	memcpy(m->bytes + off, buf, len);
	return 0;
}

struct luks_io luks_mem_io(struct luks_mem *m)
{
	return (struct luks_io){ .read = mem_read, .write = mem_write, .arg = m,
				 .bytes = m->len };
}

struct td_secret luks_secret(const char *text)
{
	return (struct td_secret){ (const unsigned char *)text, strlen(text) };
}

static int file_write(void *arg, uint64_t off, const void *buf, size_t len)
{
	ssize_t n = pwrite(*(int *)arg, buf, len, (off_t)off);

	return n == (ssize_t)len ? 0 : -EIO;
}

void luks_file(const char *path, const struct luks_format *f, const char *pass,
	       uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const struct luks_io io = { .write = file_write, .arg = &fd };
	const struct td_secret s = luks_secret(pass);
	char why[256];

	if (fd < 0)
		err(1, "%s", path);
	if (crypt_luks_format(&io, f, &s, why, sizeof(why)))
		errx(1, "%s: %s", path, why);
	if (ftruncate(fd, (off_t)(crypt_luks_header_bytes(f) + size)))
		err(1, "%s", path);
	close(fd);
}
