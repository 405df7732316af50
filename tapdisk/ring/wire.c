/* wire.c - see wire.h.  Nothing here blocks, and no descriptor is lost. */
#include "ring/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int wire_status(int sock, enum tapring_event event, int status,
		       uint64_t sectors, const int *fds, unsigned nr)
{
	struct tapring_status s = {
		.magic = TAPRING_MAGIC,
		.version = TAPRING_VERSION,
		.event = (uint16_t)event,
		.status = status,
		.sectors = sectors,
	};
	struct iovec iov = { &s, sizeof(s) };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(TAPRING_MAX_QUEUES * sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nr) {
		memset(&ctl, 0, sizeof(ctl));
		m.msg_control = ctl.buf;
		m.msg_controllen = CMSG_SPACE(nr * sizeof(int));
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(nr * sizeof(int));
		memcpy(CMSG_DATA(&ctl.h), fds, nr * sizeof(int));
	}
	n = sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return n == (ssize_t)sizeof(s) ? 0 : -EIO;
}

static void take_fds(struct msghdr *m, int *memfd, bool *more)
{
	if (m->msg_flags & MSG_CTRUNC)
		*more = true;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fd;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(h) + i * sizeof(fd), sizeof(fd));
			if (*memfd < 0) {
				*memfd = fd;
				continue;
			}
			close(fd);
			*more = true;
		}
	}
}

ssize_t wire_recv(int sock, void *buf, size_t len, int *fd, bool *more)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(16 * sizeof(int))];
	} ctl;
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	ssize_t n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	take_fds(&m, fd, more);
	return n;
}
