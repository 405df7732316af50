/* files.h - descriptors that blktapctrl passes: the other half of td_env. */
#ifndef FILES_H
#define FILES_H

#include <sys/types.h>

#include "tap_proto.h"
#include "td_driver.h"

struct files;
struct loop;

struct files_ops {
	/* Send TAP_FILE{flags, path} with this id.  0 or -errno. */
	int (*ask)(void *arg, unsigned id, const char *path, unsigned flags);
	/* A listening socket has come: TAP_FD_RING or TAP_FD_NBD. */
	void (*socket)(void *arg, unsigned kind, int fd);
	/* A file to keep records in has come: TAP_FD_JOURNAL, TAP_FD_REDO. */
	void (*record)(void *arg, unsigned kind, int fd);
	/* A key has come (TAP_FD_KEY); fd -1: none will come any more. */
	void (*key)(void *arg, uint32_t id, int fd);
	/* Where a guest's counters go (TAP_FD_XENSTAT). */
	void (*xenstat)(void *arg, uint32_t domid, uint32_t devid, int fd);
};

/* listen_fd: RUNDIR/tapfdN.sock, ours from now on.  Its peers must be root or
 * `uid`.  NULL and errno. */
struct files *files_new(struct loop *l, int listen_fd, uid_t uid,
			const struct files_ops *ops, void *arg);
void files_free(struct files *f);

/* td_env.file_get's work; fn runs later, once. */
void files_get(struct files *f, const char *path, unsigned flags,
	       td_file_fn *fn, void *arg);
/* What was sent before a message that has come on a pipe is here now too. */
void files_drain(struct files *f);
/* The other way: a duplicate of fd, to blktapctrl.  0 or -errno. */
int files_give(struct files *f, enum tap_fd_kind kind, uint32_t id, int fd);
/* TAP_FILE_RSP: the ask was refused. */
void files_refused(struct files *f, unsigned id, int err, const char *why);
/* blktapctrl is gone: nobody will answer. */
void files_lost(struct files *f);

#endif
