/* sock.c - see sock.h. */
#include "base/sock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 128

/* A socket, and its address; -errno. */
static int sock_new(const char *path, int type, struct sockaddr_un *sa)
{
	int fd;

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (snprintf(sa->sun_path, sizeof(sa->sun_path), "%s", path) >=
	    (int)sizeof(sa->sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return fd < 0 ? -errno : fd;
}

int sock_listen(const char *path, int type)
{
	struct sockaddr_un sa;
	int err, fd = sock_new(path, type, &sa);

	if (fd < 0)
		return fd;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		err = -errno;
		goto fail;
	}
	if (!chmod(path, 0600) && !listen(fd, BACKLOG))
		return fd;
	err = -errno;
	unlink(path);
fail:
	close(fd);
	return err;
}

int sock_listens(const char *path)
{
	struct sockaddr_un sa;
	int fd = sock_new(path, SOCK_STREAM, &sa), there;

	if (fd < 0)
		return fd;
	/* EAGAIN: so many wait that there is no room for one more. */
	if (!connect(fd, (struct sockaddr *)&sa, sizeof(sa)) || errno == EAGAIN)
		there = 1;
	else
		there = errno == ECONNREFUSED || errno == ENOENT ? 0 : -errno;
	close(fd);
	return there;
}
