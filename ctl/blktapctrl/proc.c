/* proc.c - see proc.h.
 *
 * A process is watched by its pidfd, ours or adopted: no signal, no race with
 * another process that gets its number.
 */
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rundir.h"
#include "ctl.h"
#include "vdisk.h"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static void on_end(struct loop_fd *f, uint32_t events)
{
	struct vdisk *vd = container_of(f, struct vdisk, pidfd);
	siginfo_t si = { 0 };
	char how[96];

	(void)events;
	if (!vd->child) {
		vdisk_died(vd, "has ended");
		return;
	}
	if (waitid((idtype_t)P_PIDFD, (id_t)f->fd, &si, WEXITED | WNOHANG) ||
	    !si.si_pid || (si.si_code == CLD_EXITED && !si.si_status)) {
		snprintf(how, sizeof(how), "has ended");
	} else if (si.si_code == CLD_EXITED) {
		snprintf(how, sizeof(how), "has ended with exit status %d",
			 si.si_status);
	} else {
		snprintf(how, sizeof(how), "was killed by signal %d (%s)",
			 si.si_status, strsignal(si.si_status));
	}
	vdisk_died(vd, how);
}

int proc_watch(struct vdisk *vd, pid_t pid)
{
	int err, fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -errno;
	vd->pidfd = (struct loop_fd){ .fd = fd, .fn = on_end };
	err = loop_fd_add(ctl.loop, &vd->pidfd, EPOLLIN);
	if (err) {
		close(fd);
		vd->pidfd.fd = -1;
		return err;
	}
	vd->pid = pid;
	return 0;
}

void proc_unwatch(struct vdisk *vd)
{
	if (vd->pidfd.fd < 0)
		return;
	loop_fd_del(ctl.loop, &vd->pidfd);
	close(vd->pidfd.fd);
	vd->pidfd.fd = -1;
}

void proc_kill(struct vdisk *vd)
{
	if (vd->pidfd.fd >= 0 &&
	    syscall(SYS_pidfd_send_signal, vd->pidfd.fd, SIGKILL, NULL, 0))
		log_err("%s: cannot kill its tapdisk %d: %s", vdisk_name(vd),
			vd->pid, strerror(errno));
}

/* In the child, which shares our memory until execv(): system calls only. */
static _Noreturn void child(char **argv, int listen_fd, int null, bool keep_err,
			    pid_t parent, volatile int *err)
{
	sigset_t none;

	/* Until it has opened its pipes (tapdisk/main.c) it dies with us: the next
	 * daemon may make others of these names, for another tapdisk. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
		goto fail;
	sigemptyset(&none);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* All of ours are over 2 and close-on-exec; 3 may be any of them.  dup2
	 * onto itself would leave that on. */
	if (dup2(null, 0) < 0 || dup2(null, 1) < 0 ||
	    (!keep_err && dup2(null, 2) < 0) ||
	    (listen_fd == 3 ? fcntl(3, F_SETFD, 0) : dup2(listen_fd, 3)) < 0)
		goto fail;
#ifdef SYS_close_range
	syscall(SYS_close_range, 4u, ~0u, 0);
#endif
	execv(argv[0], argv);
fail:
	*err = errno;
	_exit(127);
}

/* argv of one tapdisk: in static memory, the child reads it there. */
static char **arguments(int number)
{
	static char *argv[128];
	static char num[16];
	unsigned n = 0;

	snprintf(num, sizeof(num), "%d", number);
	argv[n++] = (char *)(uintptr_t)ctl.tapdisk;
	argv[n++] = (char *)(uintptr_t)"--rundir";
	argv[n++] = (char *)(uintptr_t)rundir();
	argv[n++] = (char *)(uintptr_t)"--control";
	argv[n++] = num;
	argv[n++] = (char *)(uintptr_t)"--fd";
	argv[n++] = (char *)(uintptr_t)"3";
	for (char **a = ctl.tapdisk_args; *a && n < 127; a++)
		argv[n++] = *a;
	argv[n] = NULL;
	return argv;
}

int proc_start(struct vdisk *vd, int listen_fd)
{
	char **argv = arguments(vd->number);
	bool keep_err = log_target() == LOG_TO_STDERR;
	volatile int err = 0;
	pid_t pid, self = getpid();
	int null;

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return -errno;
	/* We wait only until it has left our memory; copying ours for each of
	 * 200 disks would cost more than all the rest of a create. */
	pid = vfork();
	if (pid == 0)
		child(argv, listen_fd, null, keep_err, self, &err);
	if (pid < 0)
		err = errno;
	close(null);
	if (err) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		return -err;
	}
	vd->child = true;
	err = -proc_watch(vd, pid);
	if (err) {
		/* Not reaped, so the number is still its own. */
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		vd->child = false;
	}
	return -err;
}
