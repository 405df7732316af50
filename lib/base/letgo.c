/* letgo.c - see letgo.h.
 *
 * L1  The caller never waits for a stranger: what is not plain memory is closed
 *     by a thread that nobody waits for, one for each call.  They end with the
 *     process, which they do not keep.
 * L2  LETGO_BUSY threads are the sign to let nobody in; those who are in already
 *     and send descriptors are to be cut off, so their number is bounded too.
 */
#include "base/letgo.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STACK (64u * 1024)

struct batch {
	unsigned n;
	int fd[];
};

static unsigned threads;

static void *close_batch(void *arg)
{
	struct batch *b = arg;

	for (unsigned i = 0; i < b->n; i++)
		close(b->fd[i]);
	free(b);
	__atomic_fetch_sub(&threads, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* Signals are for the loop's thread. */
static int start_thread(struct batch *b)
{
	sigset_t all, old;
	pthread_attr_t attr;
	pthread_t t;
	int err = pthread_attr_init(&attr);

	if (err)
		return -err;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	__atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED);
	err = pthread_create(&t, &attr, close_batch, b);
	if (err)
		__atomic_fetch_sub(&threads, 1, __ATOMIC_RELAXED);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -err;
}

static void close_elsewhere(const int *fd, unsigned n)
{
	struct batch *b = malloc(sizeof(*b) + n * sizeof(*fd));

	if (b) {
		b->n = n;
		memcpy(b->fd, fd, n * sizeof(*fd));
		if (!start_thread(b))
			return;
	}
	/* Neither memory nor threads: waiting is possible, losing them is sure. */
	free(b);
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
}

void letgo_fds(const int *fd, unsigned n)
{
	int rest[LETGO_FDS];
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		/* Only memory (tmpfs, huge pages) knows seals. */
		if (k == LETGO_FDS || fcntl(fd[i], F_GET_SEALS) >= 0)
			close(fd[i]);
		else
			rest[k++] = fd[i];
	}
	if (k)
		close_elsewhere(rest, k);
}

static unsigned take(struct msghdr *m, int *fd)
{
	unsigned n = 0;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		unsigned k = (unsigned)((h->cmsg_len - CMSG_LEN(0)) / sizeof(int));

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		if (k > LETGO_FDS - n)
			k = LETGO_FDS - n;
		memcpy(fd + n, CMSG_DATA(h), k * sizeof(*fd));
		n += k;
	}
	return n;
}

ssize_t letgo_recv(int sock, struct msghdr *m, int *fd, unsigned *n)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(LETGO_FDS * sizeof(int))];
	} ctl;
	int own[LETGO_FDS];
	ssize_t got;

	*n = 0;
	m->msg_control = ctl.buf;
	m->msg_controllen = sizeof(ctl.buf);
	got = recvmsg(sock, m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0)
		return -errno;
	if (m->msg_controllen) {
		*n = take(m, fd ? fd : own);
		if (!fd)
			letgo_fds(own, *n);
	}
	m->msg_control = NULL;
	m->msg_controllen = 0;
	return got;
}

/* Of what a client has left unread, so much is read to see whether there are
 * descriptors in it; mere bytes need no thread. */
#define DRAIN_READS 16
#define DRAIN_BYTES (64u * 1024)

void letgo_socket(int sock)
{
	static char sink[DRAIN_BYTES];	/* the loop's thread alone comes here */
	unsigned n;

	shutdown(sock, SHUT_RDWR);	/* nothing more can come */
	for (unsigned i = 0; i < DRAIN_READS; i++) {
		struct iovec iov = { sink, sizeof(sink) };
		struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (letgo_recv(sock, &m, NULL, &n) <= 0) {
			close(sock);
			return;
		}
	}
	close_elsewhere(&sock, 1);
}

bool letgo_busy(void)
{
	return __atomic_load_n(&threads, __ATOMIC_RELAXED) >= LETGO_BUSY;
}
