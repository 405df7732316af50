/* wire.c - see wire.h.  Nothing here blocks, closing what came included, and no
 * descriptor is lost. */
#include "ring/wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/letgo.h"

static int send_status(int sock, struct tapring_status *s, const int *fds,
		       unsigned nr)
{
	struct iovec iov = { s, sizeof(*s) };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(TAPRING_MAX_QUEUES * sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	s->magic = TAPRING_MAGIC;
	s->version = TAPRING_VERSION;
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
	return n == (ssize_t)sizeof(*s) ? 0 : -EIO;
}

int wire_status(int sock, enum tapring_event event, int status, uint64_t sectors)
{
	struct tapring_status s = { .event = (uint16_t)event, .status = status,
				    .sectors = sectors };

	return send_status(sock, &s, NULL, 0);
}

int wire_connected(int sock, uint64_t sectors, const struct tapring_token *token,
		   const int *fds, unsigned nr)
{
	struct tapring_status s = { .event = TAPRING_CONNECTED, .sectors = sectors,
				    .token = *token };

	return send_status(sock, &s, fds, nr);
}

ssize_t wire_recv(int sock, void *buf, size_t len, int *fd, bool *more)
{
	struct iovec iov = { buf, len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[LETGO_FDS];
	unsigned n, kept = 0;
	ssize_t got = letgo_recv(sock, &m, fds, &n);

	if (got < 0)
		return got;
	if (n && *fd < 0)
		*fd = fds[kept++];
	*more |= n > kept || m.msg_flags & MSG_CTRUNC;
	letgo_fds(fds + kept, n - kept);
	return got;
}
