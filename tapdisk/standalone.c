/* standalone.c - see standalone.h. */
#include "standalone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rundir.h"
#include "base/sock.h"
#include "disk/disk.h"
#include "front.h"
#include "io/get.h"
#include "ring/journal.h"
#include "tap_proto.h"

struct standalone {
	struct ring_server *ring;
	struct nbd_server *nbd;
	struct journal *journal;	/* or NULL */
	char ring_path[128], nbd_path[128];
};

static int listen_at(const char *path)
{
	int fd, there = sock_listens(path);

	if (there) {
		log_err("cannot serve at %s: %s", path,
			there > 0 ? "another process does" : strerror(-there));
		return there > 0 ? -EADDRINUSE : there;
	}
	unlink(path);
	fd = sock_listen(path, SOCK_STREAM);
	if (fd < 0)
		log_err("cannot serve at %s: %s", path, strerror(-fd));
	return fd;
}

static int open_journal(const char *path, bool recover, struct journal **j)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600), err;

	if (fd < 0) {
		err = -errno;
	} else if (ftruncate(fd, TAP_JOURNAL_BYTES)) {
		err = -errno;
		close(fd);
	} else {
		err = journal_new(fd, j);
	}
	if (err)
		log_err("no journal in %s: %s", path, strerror(-err));
	else if (!recover)
		journal_reset(*j);
	return err;
}

int standalone_new(struct loop *l, struct disk *d, unsigned minor,
		   const char *journal, bool recover, struct standalone **out)
{
	struct standalone *s = calloc(1, sizeof(*s));
	int fd, err = -ENOMEM;

	if (!s)
		return err;
	if (mkdir(rundir(), 0700) && errno != EEXIST) {
		err = -errno;
		log_err("cannot make %s: %s", rundir(), strerror(-err));
		goto fail;
	}
	err = journal ? open_journal(journal, recover, &s->journal) : 0;
	if (err)
		goto fail;
	run_path(RUN_RING, (int)minor, s->ring_path, sizeof(s->ring_path));
	run_path(RUN_NBD, (int)minor, s->nbd_path, sizeof(s->nbd_path));
	err = fd = listen_at(s->ring_path);
	if (fd < 0)
		goto fail;
	s->ring = ring_server_new(l, d, fd, minor);
	if (!s->ring) {
		err = -errno;
		close(fd);
		goto fail_ring_path;
	}
	ring_server_journal(s->ring, s->journal);
	err = fd = listen_at(s->nbd_path);
	if (fd < 0)
		goto fail_ring;
	s->nbd = nbd_server_new(l, d, fd, minor);
	if (!s->nbd) {
		err = -errno;
		close(fd);
		goto fail_nbd_path;
	}
	*out = s;
	return 0;
fail_nbd_path:
	unlink(s->nbd_path);
fail_ring:
	ring_server_free(s->ring);
fail_ring_path:
	unlink(s->ring_path);
fail:
	journal_free(s->journal);
	free(s);
	return err;
}

void standalone_free(struct standalone *s)
{
	ring_server_free(s->ring);
	nbd_server_free(s->nbd);
	unlink(s->ring_path);
	unlink(s->nbd_path);
	journal_free(s->journal);
	free(s);
}

void standalone_file_get(struct td_env *e, const char *path, unsigned flags,
			 td_file_fn *fn, void *arg)
{
	image_get(e, path, flags, 0, fn, arg);
}
