/* names.c - see names.h.  RUNDIR is ours alone (names_rundir), so a name that
 * was checked stays what it was. */
#include "names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sock.h"
#include "tap_proto.h"

static mode_t kind_of(enum run_name what)
{
	switch (what) {
	case RUN_PIPE_WRITE:
	case RUN_PIPE_READ:
		return S_IFIFO;
	case RUN_LOCK:
	case RUN_MARKER:
	case RUN_JOURNAL:
	case RUN_REDO:
	case RUN_MEMO:
	case RUN_MEMO_NEW:
		return S_IFREG;
	default:
		return S_IFSOCK;
	}
}

int names_rundir(const char **why)
{
	struct stat st;

	*why = "cannot be made";
	if (mkdir(rundir(), 0700) && errno != EEXIST)
		return -errno;
	*why = "cannot be looked at";
	if (lstat(rundir(), &st))
		return -errno;
	*why = "is not a directory";
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	*why = "belongs to somebody else";
	if (st.st_uid != geteuid())
		return -EPERM;
	*why = "can be written by others: make it mode 0700";
	if (st.st_mode & 022)
		return -EPERM;
	return 0;
}

static bool somebody_listens(void)
{
	char path[PATH_MAX];

	return sock_listens(run_path(RUN_CTL, 0, path, sizeof(path))) > 0;
}

/* Who has the lock and does not listen may be on its way in, or out; or it was killed
 * as it started a tapdisk and has left the lock to that child, until that executes its
 * program.  All that takes a moment, a long one on a busy machine. */
#define LOCK_PATIENCE_NS (10 * NS_PER_S)
#define LOCK_PAUSE_US 20000

int names_lock(void)
{
	uint64_t until = clock_ns() + LOCK_PATIENCE_NS;
	char path[PATH_MAX];

	run_path(RUN_LOCK, 0, path, sizeof(path));
	for (;;) {
		struct stat a, b;
		int err, fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW |
					 O_NONBLOCK, 0600);

		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			err = errno == EWOULDBLOCK ? -EEXIST : -errno;
			close(fd);
			if (err == -EEXIST && !somebody_listens() &&
			    clock_ns() < until) {
				usleep(LOCK_PAUSE_US);
				continue;
			}
			return err;
		}
		/* Its last holder may have removed it as it left. */
		if (!fstat(fd, &a) && !lstat(path, &b) && a.st_ino == b.st_ino &&
		    a.st_dev == b.st_dev)
			return fd;
		close(fd);
	}
}

void names_unlock(int fd)
{
	names_remove(RUN_LOCK, 0);
	close(fd);
}

int names_listen(enum run_name what, int n, int type)
{
	char path[PATH_MAX];

	names_remove(what, n);
	return sock_listen(run_path(what, n, path, sizeof(path)), type);
}

int names_connect(int n)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int err, one = 1, fd;

	run_path(RUN_FD, n, sa.sun_path, sizeof(sa.sun_path));
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	/* Before connecting: the first byte tells who is there. */
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) ||
	    connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		err = -errno;
		close(fd);
		return err;
	}
	return fd;
}

static int make_fifo(enum run_name what, int n)
{
	char path[PATH_MAX];

	names_remove(what, n);
	return mkfifo(run_path(what, n, path, sizeof(path)), 0600) ? -errno : 0;
}

int names_pipes(int n)
{
	int err = make_fifo(RUN_PIPE_READ, n);

	if (err)
		return err;
	err = make_fifo(RUN_PIPE_WRITE, n);
	if (err)
		names_remove(RUN_PIPE_READ, n);
	return err;
}

int names_open_pipe(enum run_name what, int n, int flags)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	run_path(what, n, path, sizeof(path));
	if (lstat(path, &st))
		return -errno;
	if (!S_ISFIFO(st.st_mode))
		return -EPERM;
	fd = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static const enum run_name channel[] = {
	/* The scan for adoption looks for the last: it comes last and goes
	 * first. */
	RUN_FD, RUN_PIPE_READ, RUN_PIPE_WRITE,
};

int names_link(int from, int to)
{
	char a[PATH_MAX], b[PATH_MAX];

	for (size_t i = 0; i < ARRAY_SIZE(channel); i++) {
		names_remove(channel[i], to);
		run_path(channel[i], from, a, sizeof(a));
		run_path(channel[i], to, b, sizeof(b));
		if (link(a, b)) {
			int err = -errno;

			while (i-- > 0)
				names_remove(channel[i], to);
			return err;
		}
	}
	return 0;
}

bool names_same(int a, int b)
{
	char path[PATH_MAX];
	struct stat x, y;

	return !lstat(run_path(RUN_PIPE_WRITE, a, path, sizeof(path)), &x) &&
	       !lstat(run_path(RUN_PIPE_WRITE, b, path, sizeof(path)), &y) &&
	       x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

void names_remove(enum run_name what, int n)
{
	char path[PATH_MAX];
	struct stat st;

	run_path(what, n, path, sizeof(path));
	if (lstat(path, &st) || (st.st_mode & S_IFMT) != kind_of(what))
		return;
	if (unlink(path) && errno != ENOENT)
		log_warn("cannot remove %s: %s", path, strerror(errno));
}

void names_remove_channel(int n)
{
	for (size_t i = ARRAY_SIZE(channel); i-- > 0;)
		names_remove(channel[i], n);
}

void names_remove_served(int n)
{
	names_remove(RUN_RING, n);
	names_remove(RUN_NBD, n);
	names_remove_channel(n);
}

void names_remove_disk(int n)
{
	names_remove_served(n);
	names_remove(RUN_JOURNAL, n);
	names_remove(RUN_REDO, n);
	names_remove(RUN_MEMO_NEW, n);
	names_remove(RUN_MEMO, n);
}

bool names_foreign(int n)
{
	static const enum run_name used[] = {
		RUN_PIPE_WRITE, RUN_PIPE_READ, RUN_FD, RUN_RING, RUN_NBD,
		RUN_JOURNAL, RUN_REDO, RUN_MEMO, RUN_MEMO_NEW,
	};
	char path[PATH_MAX];
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(used); i++)
		if (!lstat(run_path(used[i], n, path, sizeof(path)), &st) &&
		    (st.st_mode & S_IFMT) != kind_of(used[i]))
			return true;
	return false;
}

int names_store(enum run_name what, int n, uint64_t bytes)
{
	char path[PATH_MAX];
	int err, fd;

	names_remove(what, n);
	fd = open(run_path(what, n, path, sizeof(path)),
		  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes)) {
		err = -errno;
		close(fd);
		unlink(path);
		return err;
	}
	return fd;
}

int names_store_open(enum run_name what, int n)
{
	char path[PATH_MAX];
	struct stat st;
	int fd = open(run_path(what, n, path, sizeof(path)),
		      O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

int names_store_fill(enum run_name what, int n, uint64_t bytes)
{
	int err, fd = names_store_open(what, n);

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	err = -posix_fallocate(fd, 0, (off_t)bytes);
	close(fd);
	return err;
}

#define CREATING "creating\n"
#define MARKER_MAX 64

int names_marker_make(int n, bool creating)
{
	char path[PATH_MAX];
	int err = 0, fd;

	fd = open(run_path(RUN_MARKER, n, path, sizeof(path)),
		  O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (creating && write(fd, CREATING, strlen(CREATING)) < 0) {
		err = -errno;
		unlink(path);
	}
	close(fd);
	return err;
}

#define XEN "xen "

/* (Over what is there: in a full run directory that stays.) */
static void marker_write(int n, const char *text)
{
	char path[PATH_MAX];
	int fd = open(run_path(RUN_MARKER, n, path, sizeof(path)),
		      O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0 || write(fd, text, strlen(text)) < 0 ||
	    ftruncate(fd, (off_t)strlen(text)))
		log_warn("cannot write %s: %s", path, strerror(errno));
	if (fd >= 0)
		close(fd);
}

void names_marker_xen(int n, const char *node)
{
	char text[MARKER_MAX];

	snprintf(text, sizeof(text), XEN "%s\n", node);
	marker_write(n, text);
}

void names_marker_creating_xen(int n, const char *node)
{
	char text[MARKER_MAX];

	snprintf(text, sizeof(text), CREATING XEN "%s\n", node);
	marker_write(n, text);
}

/* "": there is none, or nothing in it. */
static void marker_read(int n, char text[MARKER_MAX])
{
	char path[PATH_MAX];
	int fd = open(run_path(RUN_MARKER, n, path, sizeof(path)),
		      O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t len = fd < 0 ? -1 : read(fd, text, MARKER_MAX - 1);

	text[len < 0 ? 0 : len] = '\0';
	if (fd >= 0)
		close(fd);
}

static bool starts_with(const char *text, const char *with)
{
	return !strncmp(text, with, strlen(with));
}

bool names_marker_creating(int n)
{
	char text[MARKER_MAX];

	marker_read(n, text);
	return starts_with(text, CREATING);
}

void names_marker_settle(int n)
{
	char text[MARKER_MAX];

	marker_read(n, text);
	marker_write(n, starts_with(text, CREATING) ? text + strlen(CREATING) : "");
}

bool names_marker_node(int n, char node[NAMES_NODE_MAX])
{
	char text[MARKER_MAX];
	size_t len;

	marker_read(n, text);
	if (!starts_with(text, XEN))
		return false;
	len = strcspn(text + strlen(XEN), "\n");
	if (len >= NAMES_NODE_MAX)
		return false;
	memcpy(node, text + strlen(XEN), len);
	node[len] = '\0';
	return true;
}

bool names_marker_is_of(int n, const char *node)
{
	char is[NAMES_NODE_MAX];

	return names_marker_node(n, is) && !strcmp(is, node);
}
