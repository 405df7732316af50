/* broker.c - see broker.h. */
#include "broker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "ctl.h"
#include "io/open.h"
#include "loop/worker.h"
#include "policy.h"
#include "vdisk.h"

#define FILES_MAX 16	/* of one disk: open, or being opened */

struct kept {
	struct list link;	/* vdisk.files */
	int fd;
};

struct opening {
	struct worker_job job;
	struct list link;	/* vdisk.jobs */
	struct vdisk *vd;	/* NULL: for nobody */
	uint32_t id, flags;
	uint32_t round;		/* of the open call that it belongs to */
	int fd, err;
	bool direct;		/* O_DIRECT is on */
	const char *why;	/* a constant */
	char path[];
};

/* A tapdisk has less room for words than a path may need, so its answer to the
 * open may end before the reason: it is kept here too. */
static void refuse_file(struct vdisk *vd, uint32_t id, const char *path, int err,
			const char *why)
{
	char name[TEXT_SHORT + 1];

	vd->refused = err;
	snprintf(vd->refusal, sizeof(vd->refusal), "cannot open %s: %s",
		 text_short(path, name), why);
	chan_reply(&vd->chan, TAP_FILE_RSP, id, err, why);
}

/* In a worker. */
static void opening_run(struct worker_job *j)
{
	struct opening *o = container_of(j, struct opening, job);
	unsigned flags = (o->flags & TAP_OPEN_RDONLY ? IMAGE_RDONLY : 0) |
			 (o->flags & TAP_OPEN_NO_DIRECT ? IMAGE_NO_DIRECT : 0);
	int fd = image_open(o->path, flags, &o->direct, &o->why);

	o->fd = fd < 0 ? -1 : fd;
	o->err = fd < 0 ? fd : 0;
}

static bool still_wanted(const struct opening *o)
{
	return o->vd && chan_is_open(&o->vd->chan) && o->vd->calling &&
	       o->vd->call.id == o->round;
}

/* fd is vd's from now on, or closed. */
static void keep(struct vdisk *vd, int fd)
{
	struct kept *k = malloc(sizeof(*k));

	if (!k) {
		close(fd);
		return;
	}
	k->fd = fd;
	list_add(&vd->files, &k->link);
	vd->n_files++;
}

static int hand_over(struct opening *o)
{
	int err = chan_send_fd(&o->vd->chan, TAP_FD_FILE, o->id, o->fd);

	o->why = err ? "its descriptor could not be passed" : NULL;
	if (err)
		return err;
	keep(o->vd, o->fd);	/* sent, this one is the duplicate */
	o->fd = -1;
	return 0;
}

static void opening_done(struct worker_job *j)
{
	struct opening *o = container_of(j, struct opening, job);
	struct vdisk *vd = o->vd;

	if (vd) {
		list_del(&o->link);
		vd->n_jobs--;
	}
	if (still_wanted(o)) {
		if (!o->err)
			o->err = hand_over(o);
		if (o->err)
			refuse_file(vd, o->id, o->path, o->err,
				    o->why ? o->why : strerror(-o->err));
		else if (!o->direct && !(o->flags & TAP_OPEN_NO_DIRECT))
			log_warn("%s: %s: no O_DIRECT here: I/O goes through the "
				 "page cache", vdisk_name(vd), o->path);
	}
	if (o->fd >= 0)
		close(o->fd);
	free(o);
}

/* --- the duplicate of an adopted disk's file --- */

struct finding {
	struct worker_job job;
	struct vdisk *vd;	/* to be compared, not followed */
	pid_t pid;
	int pidfd;		/* ours */
	int fd;			/* what was found, or -1 */
	char path[];
};

/* In a worker: a stat(2) may wait for a server. */
static void finding_run(struct worker_job *j)
{
	struct finding *f = container_of(j, struct finding, job);
	struct stat want, st;
	char dir[40];
	struct dirent *e;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", (int)f->pid);
	if (stat(f->path, &want))
		return;
	d = opendir(dir);
	while (d && f->fd < 0 && (e = readdir(d))) {
		if (e->d_name[0] == '.' ||
		    fstatat(dirfd(d), e->d_name, &st, 0) ||
		    st.st_dev != want.st_dev || st.st_ino != want.st_ino)
			continue;
		f->fd = (int)syscall(SYS_pidfd_getfd, f->pidfd, atoi(e->d_name), 0);
	}
	if (d)
		closedir(d);
}

static void finding_done(struct worker_job *j)
{
	struct finding *f = container_of(j, struct finding, job);
	struct vdisk *vd = vdisk_by_pid(f->pid);

	if (vd && vd == f->vd && vd->state == VD_RUNNING && !vd->n_files &&
	    f->fd >= 0)
		keep(vd, f->fd);
	else if (f->fd >= 0)
		close(f->fd);
	else
		log_dbg(LOG_CTL, "tapdisk %d: no duplicate of %s", f->pid, f->path);
	close(f->pidfd);
	free(f);
}

void broker_adopt(struct vdisk *vd)
{
	const char *path = policy_path(vd->spec);
	struct finding *f;
	size_t len;

	if (!path)
		return;
	len = strlen(path) + 1;
	f = calloc(1, sizeof(*f) + len);
	if (!f)
		return;
	f->job = (struct worker_job){ .run = finding_run, .done = finding_done };
	f->vd = vd;
	f->pid = vd->pid;
	f->fd = -1;
	f->pidfd = fcntl(vd->pidfd.fd, F_DUPFD_CLOEXEC, 3);
	memcpy(f->path, path, len);
	if (f->pidfd < 0)
		free(f);
	else
		worker_submit(ctl.workers, &f->job);
}

/* --- what a tapdisk asks --- */

/* Allowed now? */
static int check(const struct vdisk *vd, uint32_t flags, const char *path,
		 const char **why)
{
	int err;

	*why = "no open is under way";
	if (!vd->calling ||
	    (vd->call.type != TAP_PARAMS && vd->call.type != TAP_RESUME))
		return -EACCES;
	*why = "too many files";
	if (vd->n_files + vd->n_jobs >= FILES_MAX)
		return -EMFILE;
	*why = "want an absolute path";
	if (path[0] != '/')
		return -EINVAL;
	err = policy_check(vd->new_spec, vd->new_flags, path, flags);
	*why = err == -EROFS ? "the disk is read-only"
			     : "not a file of this disk";
	return err;
}

void broker_ask(struct vdisk *vd, uint32_t id, uint32_t flags, const char *path)
{
	size_t len = strlen(path) + 1;
	struct opening *o;
	const char *why;
	int err;

	err = check(vd, flags, path, &why);
	if (err) {
		if (log_allowed(&vd->limit))
			log_warn("%s: refused %s%s to its tapdisk: %s",
				 vdisk_name(vd), path,
				 flags & TAP_OPEN_RDONLY ? " (read-only)" : "", why);
		refuse_file(vd, id, path, err, why);
		return;
	}
	o = calloc(1, sizeof(*o) + len);
	if (!o) {
		refuse_file(vd, id, path, -ENOMEM, strerror(ENOMEM));
		return;
	}
	o->job = (struct worker_job){ .run = opening_run, .done = opening_done };
	o->vd = vd;
	o->id = id;
	o->flags = flags | (vd->new_flags & TAP_OPEN_NO_DIRECT);
	o->round = vd->call.id;
	o->fd = -1;
	memcpy(o->path, path, len);
	list_add(&vd->jobs, &o->link);
	vd->n_jobs++;
	worker_submit(ctl.workers, &o->job);
}

void broker_close(struct vdisk *vd)
{
	struct list *e;

	while ((e = list_pop(&vd->files))) {
		struct kept *k = container_of(e, struct kept, link);

		close(k->fd);
		free(k);
	}
	vd->n_files = 0;
}

void broker_abandon(struct vdisk *vd)
{
	struct list *e;

	while ((e = list_pop(&vd->jobs)))
		container_of(e, struct opening, link)->vd = NULL;
	vd->n_jobs = 0;
}
