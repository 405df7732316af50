/* stat.c - the files that xentop reads: /dev/shm/td3-PID/vbd-DOMAIN-DEVICE, which
 * the tapdisk of that pid fills in; kthread-pid in the node names it.  Numbers are
 * all that is lost if one cannot be had. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vdisk.h"
#include "xen/dev.h"
#include "xen/xen.h"

#define DIR_MAX 40

static void dir_of(pid_t pid, char *buf)
{
	snprintf(buf, DIR_MAX, "/dev/shm/td3-%d", (int)pid);
}

/* Ours alone: whoever else made it is not to say where we write. */
static int open_dir(const char *dir)
{
	struct stat st;
	int fd;

	if (mkdir(dir, 0755) && errno != EEXIST)
		return -errno;
	fd = open(dir, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

static void name_of(const struct xen_dev *d, char *buf, size_t len)
{
	snprintf(buf, len, "vbd-%u-%u", d->domid, d->devid);
}

static int make_file(const struct xen_dev *d, int dir)
{
	char name[40];
	int fd;

	name_of(d, name, sizeof(name));
	unlinkat(dir, name, 0);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0644) || ftruncate(fd, TAP_XENSTAT_BYTES)) {
		int err = -errno;

		unlinkat(dir, name, 0);
		close(fd);
		return err;
	}
	return fd;
}

void stat_begin(struct xen_dev *d, struct vdisk *vd)
{
	struct tap_fd_msg fm = {
		.magic = TAP_MAGIC, .kind = TAP_FD_XENSTAT,
		.id = d->devid, .domid = d->domid,
	};
	char path[DIR_MAX];
	int dir, fd;

	if (d->stat && d->stat_pid == vd->pid)
		return;
	stat_end(d);
	dir_of(vd->pid, path);
	dir = open_dir(path);
	fd = dir < 0 ? dir : make_file(d, dir);
	if (dir >= 0)
		close(dir);
	if (fd < 0) {
		log_warn("%s: xentop will not show it: %s: %s", dev_name(d), path,
			 strerror(-fd));
		return;
	}
	d->stat = true;
	d->stat_pid = vd->pid;
	chan_send_fd_msg(&vd->chan, &fm, fd);
	close(fd);
}

void stat_end(struct xen_dev *d)
{
	char path[DIR_MAX + 40], name[40];

	if (!d->stat)
		return;
	d->stat = false;
	dir_of(d->stat_pid, path);
	name_of(d, name, sizeof(name));
	strcat(path, "/");
	strcat(path, name);
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);		/* unless it has others */
}

static bool is_stale(const char *name)
{
	char *end;
	long pid;

	if (strncmp(name, "td3-", 4))
		return false;
	pid = strtol(name + 4, &end, 10);
	return pid > 0 && !*end && kill((pid_t)pid, 0) && errno == ESRCH;
}

static void sweep_dir(const char *path)
{
	int dir = open_dir(path);
	DIR *d = dir < 0 ? NULL : fdopendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (!strncmp(e->d_name, "vbd-", 4))
			unlinkat(dir, e->d_name, 0);
	if (d)
		closedir(d);
	else if (dir >= 0)
		close(dir);
	rmdir(path);
}

/* Its devices may have gone while there was no daemon. */
void xen_tapdisk_ended(int pid)
{
	char path[DIR_MAX];
	struct stat st;

	dir_of(pid, path);
	if (pid > 0 && !lstat(path, &st))
		sweep_dir(path);
}

void stat_sweep(void)
{
	DIR *d = opendir("/dev/shm");
	struct dirent *e;
	char path[DIR_MAX];

	while (d && (e = readdir(d)))
		if (is_stale(e->d_name) && strlen(e->d_name) < 20) {
			snprintf(path, sizeof(path), "/dev/shm/%.20s", e->d_name);
			sweep_dir(path);
		}
	if (d)
		closedir(d);
}
