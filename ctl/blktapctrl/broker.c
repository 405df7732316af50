/* broker.c - see broker.h. */
#include "broker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/rundir.h"
#include "base/text.h"
#include "ctl.h"
#include "io/open.h"
#include "loop/worker.h"
#include "policy.h"
#include "vdisk.h"

/* Of one disk: open, or being opened.  A chain of 200 images and a thousand
 * extents have room. */
#define FILES_MAX 2048

struct kept {
	struct list link;	/* vdisk.files */
	int fd;
	bool rdonly;
	bool lent;		/* its tapdisk has it; else the one that had it died */
	dev_t dev;
	ino_t ino;
	char path[];		/* as it was asked for; "": unknown */
};

struct opening {
	struct worker_job job;
	struct list link;	/* vdisk.jobs */
	struct vdisk *vd;	/* NULL: for nobody */
	uint32_t id, flags;
	uint32_t round;		/* of the open call that it belongs to */
	int fd, err;
	bool direct;		/* O_DIRECT is on */
	bool look;		/* which file is it? one that we have, perhaps */
	const char *why;	/* a constant */
	struct stat st;		/* of fd */
	bool found, device, dotted;	/* as policy.h grants it */
	const char *dir, *name;		/* found; behind path */
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

/* With ".." in it, a name means to the kernel what it means as a text only where
 * no link is on the way to its folder. */
static int same_file(struct opening *o)
{
	struct stat st;

	if (!stat(o->path, &st) && st.st_dev == o->st.st_dev &&
	    st.st_ino == o->st.st_ino)
		return 0;
	o->why = "its name has \"..\" in it and may mean two files";
	return -EACCES;
}

/* In a worker. */
static void opening_run(struct worker_job *j)
{
	struct opening *o = container_of(j, struct opening, job);
	unsigned flags = (o->flags & TAP_OPEN_RDONLY ? IMAGE_RDONLY : 0) |
			 (o->flags & TAP_OPEN_NO_DIRECT ? IMAGE_NO_DIRECT : 0);

	if (o->look) {
		o->err = stat(o->path, &o->st) ? -errno : 0;
		return;
	}
	if (o->found)
		o->fd = image_open_below(o->dir, o->name,
					 flags | (o->device ? 0 : IMAGE_NO_DEVICE),
					 &o->direct, &o->why);
	else
		o->fd = image_open(o->path, flags, &o->direct, &o->why);
	if (o->fd < 0) {
		o->err = o->fd;
		o->fd = -1;
		return;
	}
	if (fstat(o->fd, &o->st))
		o->err = -errno;
	else if (o->dotted)
		o->err = same_file(o);
}

static bool still_wanted(const struct opening *o)
{
	return o->vd && chan_is_open(&o->vd->chan) && o->vd->calling &&
	       o->vd->call.id == o->round;
}

/* fd is vd's from now on, or closed. */
static void keep(struct vdisk *vd, int fd, bool rdonly, const struct stat *st,
		 const char *path)
{
	struct kept *k = malloc(sizeof(*k) + strlen(path) + 1);

	if (!k) {
		close(fd);
		return;
	}
	*k = (struct kept){ .fd = fd, .rdonly = rdonly, .lent = true,
			    .dev = st->st_dev, .ino = st->st_ino };
	strcpy(k->path, path);
	list_add(&vd->files, &k->link);
	vd->n_files++;
}

/* A file that an image named and that a disk has already.  The locks say the
 * same where the file system has them. */
static int check_others(struct opening *o)
{
	bool rdonly = o->flags & TAP_OPEN_RDONLY;

	list_for_each(v, &ctl.vdisks) {
		struct vdisk *vd = container_of(v, struct vdisk, link);

		list_for_each(e, &vd->files) {
			const struct kept *k = container_of(e, struct kept, link);

			if (k->dev != o->st.st_dev || k->ino != o->st.st_ino ||
			    (rdonly && k->rdonly))
				continue;
			o->why = vd == o->vd ? "this disk has it open already" :
					       "it is another disk's";
			return -EBUSY;
		}
	}
	return 0;
}

static int hand_over(struct opening *o)
{
	int err = o->found ? check_others(o) : 0;

	if (err)
		return err;
	err = chan_send_fd(&o->vd->chan, TAP_FD_FILE, o->id, o->fd);
	o->why = err ? "its descriptor could not be passed" : NULL;
	if (err)
		return err;
	/* Sent, this one is the duplicate. */
	keep(o->vd, o->fd, o->flags & TAP_OPEN_RDONLY, &o->st, o->path);
	o->fd = -1;
	return 0;
}

/* A successor asks for what the one before it had: the same description, whose
 * locks have never fallen.  By name, else by what the name means (st). */
static struct kept *left(struct vdisk *vd, uint32_t flags, const char *path,
			 const struct stat *st)
{
	bool rdonly = flags & TAP_OPEN_RDONLY;

	list_for_each(e, &vd->files) {
		struct kept *k = container_of(e, struct kept, link);

		if (k->lent || k->rdonly != rdonly)
			continue;
		if (st ? k->dev == st->st_dev && k->ino == st->st_ino :
			 !strcmp(k->path, path))
			return k;
	}
	return NULL;
}

static bool some_left(const struct vdisk *vd)
{
	list_for_each(e, &vd->files)
		if (!container_of(e, struct kept, link)->lent)
			return true;
	return false;
}

static void lend(struct vdisk *vd, struct kept *k, uint32_t id, const char *path)
{
	int err = chan_send_fd(&vd->chan, TAP_FD_FILE, id, k->fd);

	k->lent = !err;
	if (err)
		refuse_file(vd, id, path, err, "its descriptor could not be passed");
}

/* True: the name has been looked up, and that is all that is needed, or it is
 * opened now. */
static bool looked(struct opening *o)
{
	struct kept *k;

	if (!o->look || !still_wanted(o))
		return false;
	k = o->err ? NULL : left(o->vd, o->flags, o->path, &o->st);
	o->look = false;
	o->err = 0;
	if (!k) {
		worker_submit(ctl.workers, &o->job);
		return true;
	}
	lend(o->vd, k, o->id, o->path);
	list_del(&o->link);
	o->vd->n_jobs--;
	free(o);
	return true;
}

static void opening_done(struct worker_job *j)
{
	struct opening *o = container_of(j, struct opening, job);
	struct vdisk *vd = o->vd;

	if (looked(o))
		return;
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

/* --- duplicates of an adopted disk's files --- */

struct finding {
	struct worker_job job;
	struct vdisk *vd;	/* to be compared, not followed */
	pid_t pid;
	int minor;
	int pidfd;		/* ours */
	unsigned n;
	int *fd;		/* what was found: its files; */
	int listen[2];		/* and sockets of rings and NBD, or -1 */
};

/* Its journal, its redo log. */
static bool is_store(const struct stat *st, int minor)
{
	static const enum run_name stores[] = { RUN_JOURNAL, RUN_REDO };
	char path[PATH_MAX];
	struct stat own;

	for (size_t i = 0; i < ARRAY_SIZE(stores); i++)
		if (!lstat(run_path(stores[i], minor, path, sizeof(path)), &own) &&
		    own.st_dev == st->st_dev && own.st_ino == st->st_ino)
			return true;
	return false;
}

/* What a tapdisk has that is a file or a block device was passed to it as one of
 * its disk's, but for what it writes messages to (0 to 2), what it reads in /proc,
 * where dir is, the memory of its clients, and its own stores. */
static bool is_image(int dir, const char *name, int minor)
{
	static const char memfd[] = "/memfd:";
	char target[sizeof(memfd)];
	struct stat st, proc;
	ssize_t n;

	if (name[0] == '.' || atoi(name) < 3)
		return false;
	n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0 || (n >= (ssize_t)sizeof(memfd) - 1 &&
		      !memcmp(target, memfd, sizeof(memfd) - 1)))
		return false;
	return !fstatat(dir, name, &st, 0) && !fstat(dir, &proc) &&
	       st.st_dev != proc.st_dev &&
	       (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)) &&
	       !is_store(&st, minor);
}

/* fd is a socket of the tapdisk's.  If it listens there it is f's, else closed. */
static void found_socket(struct finding *f, int fd)
{
	static const enum run_name names[] = { RUN_RING, RUN_NBD };
	struct sockaddr_un sa = { 0 };
	socklen_t len = sizeof(sa) - 1, one = sizeof(int);
	char path[PATH_MAX];
	int listens = 0;

	if (!getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &one) && listens &&
	    !getsockname(fd, (struct sockaddr *)&sa, &len) &&
	    sa.sun_family == AF_UNIX)
		for (size_t i = 0; i < ARRAY_SIZE(names); i++)
			if (f->listen[i] < 0 &&
			    !strcmp(sa.sun_path, run_path(names[i], f->minor, path,
							  sizeof(path)))) {
				f->listen[i] = fd;
				return;
			}
	close(fd);
}

static bool is_socket(int dir, const char *name)
{
	struct stat st;

	return name[0] != '.' && !fstatat(dir, name, &st, 0) &&
	       S_ISSOCK(st.st_mode);
}

/* In a worker: a stat(2) may wait for a server. */
static void finding_run(struct worker_job *j)
{
	struct finding *f = container_of(j, struct finding, job);
	char path[40];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)f->pid);
	d = opendir(path);
	while (d && f->n < FILES_MAX && (e = readdir(d))) {
		int fd, *more;

		if (is_socket(dirfd(d), e->d_name)) {
			fd = (int)syscall(SYS_pidfd_getfd, f->pidfd,
					  atoi(e->d_name), 0);
			if (fd >= 0)
				found_socket(f, fd);
			continue;
		}
		if (!is_image(dirfd(d), e->d_name, f->minor))
			continue;
		fd = (int)syscall(SYS_pidfd_getfd, f->pidfd, atoi(e->d_name), 0);
		if (fd < 0)
			continue;
		more = realloc(f->fd, (f->n + 1) * sizeof(*f->fd));
		if (!more) {
			close(fd);
			break;
		}
		f->fd = more;
		f->fd[f->n++] = fd;
	}
	if (d)
		closedir(d);
}

static void finding_done(struct worker_job *j)
{
	struct finding *f = container_of(j, struct finding, job);
	struct vdisk *vd = vdisk_by_pid(f->pid);
	bool it = vd && vd == f->vd && vd->pid == f->pid && vd->state != VD_DEAD;
	bool ours = it && vd->state == VD_RUNNING && !vd->n_files;

	for (size_t i = 0; i < ARRAY_SIZE(f->listen); i++) {
		if (it && vd->listen[i] < 0)
			vd->listen[i] = f->listen[i];
		else if (f->listen[i] >= 0)
			close(f->listen[i]);
	}

	for (unsigned i = 0; i < f->n; i++) {
		int flags = fcntl(f->fd[i], F_GETFL);
		struct stat st;

		if (ours && flags >= 0 && !fstat(f->fd[i], &st))
			keep(vd, f->fd[i], (flags & O_ACCMODE) == O_RDONLY, &st, "");
		else
			close(f->fd[i]);
	}
	log_dbg(LOG_CTL, "tapdisk %d: %u duplicates of its files", f->pid, f->n);
	free(f->fd);
	close(f->pidfd);
	free(f);
}

void broker_adopt(struct vdisk *vd)
{
	struct finding *f = calloc(1, sizeof(*f));

	if (!f)
		return;
	f->job = (struct worker_job){ .run = finding_run, .done = finding_done };
	f->vd = vd;
	f->pid = vd->pid;
	f->minor = vd->minor;
	f->listen[0] = f->listen[1] = -1;
	f->pidfd = fcntl(vd->pidfd.fd, F_DUPFD_CLOEXEC, 3);
	if (f->pidfd < 0)
		free(f);
	else
		worker_submit(ctl.workers, &f->job);
}

/* --- what a tapdisk asks --- */

/* Allowed now? */
static int check(const struct vdisk *vd, uint32_t flags, const char *path,
		 struct policy_grant *g, const char **why)
{
	const struct policy p = { .spec = vd->new_spec, .flags = vd->new_flags,
				  .dirs = ctl.image_dirs };

	*why = "no open is under way";
	if (!vd->calling ||
	    (vd->call.type != TAP_PARAMS && vd->call.type != TAP_RESUME))
		return -EACCES;
	*why = "too many files";
	if (vd->n_files + vd->n_jobs >= FILES_MAX)
		return -EMFILE;
	return policy_check(&p, path, flags, g, why);
}

static struct opening *opening_new(const char *path, const struct policy_grant *g)
{
	size_t len = strlen(path) + 1, dir = 0, name = 0;
	struct opening *o;

	if (g->found) {
		dir = strlen(g->dir) + 1;
		name = strlen(g->name) + 1;
	}
	o = calloc(1, sizeof(*o) + len + dir + name);
	if (!o)
		return NULL;
	memcpy(o->path, path, len);
	memcpy(o->path + len, g->dir, dir);
	memcpy(o->path + len + dir, g->name, name);
	o->dir = o->path + len;
	o->name = o->dir + dir;
	o->found = g->found;
	o->device = g->device;
	o->dotted = g->dotted;
	o->job = (struct worker_job){ .run = opening_run, .done = opening_done };
	o->fd = -1;
	return o;
}

bool broker_ask(struct vdisk *vd, uint32_t id, uint32_t flags, const char *path)
{
	static struct policy_grant g;	/* one at a time: the loop's */
	struct opening *o;
	struct kept *k;
	const char *why;
	int err = check(vd, flags, path, &g, &why);

	if (err) {
		if (log_allowed(&vd->limit))
			log_warn("%s: refused %s%s to its tapdisk: %s",
				 vdisk_name(vd), path,
				 flags & TAP_OPEN_RDONLY ? " (read-only)" : "", why);
		refuse_file(vd, id, path, err, why);
		return false;
	}
	k = left(vd, flags, path, NULL);
	if (k) {
		lend(vd, k, id, path);
		return true;
	}
	o = opening_new(path, &g);
	if (!o) {
		refuse_file(vd, id, path, -ENOMEM, strerror(ENOMEM));
		return false;
	}
	o->vd = vd;
	o->id = id;
	o->flags = flags | (vd->new_flags & TAP_OPEN_NO_DIRECT);
	o->round = vd->call.id;
	o->look = some_left(vd);
	list_add(&vd->jobs, &o->link);
	vd->n_jobs++;
	worker_submit(ctl.workers, &o->job);
	return true;
}

void broker_return(struct vdisk *vd)
{
	list_for_each(e, &vd->files)
		container_of(e, struct kept, link)->lent = false;
}

bool broker_keeps(const struct vdisk *vd)
{
	list_for_each(e, &vd->files) {
		const struct kept *k = container_of(e, struct kept, link);

		if (!k->lent && !k->rdonly)
			return true;
	}
	return false;
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
