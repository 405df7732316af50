/* daemon.c - see daemon.h. */
#include "daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

static int ready_fd = -1;

static int wait_for(pid_t pid, int fd)
{
	char byte = 0;
	int status;
	ssize_t n;

	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	/* A byte: ready.  None: it has ended, or is about to. */
	if (byte == 'R')
		return 0;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int daemon_fork(void)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC)) {
		fprintf(stderr, "blktapctrl: cannot make a pipe: %s\n",
			strerror(errno));
		return 1;
	}
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "blktapctrl: cannot fork: %s\n", strerror(errno));
		return 1;
	}
	if (pid > 0) {
		close(p[1]);
		return wait_for(pid, p[0]);
	}
	close(p[0]);
	setsid();
	ready_fd = p[1];
	return -1;
}

void daemon_ready(void)
{
	int null;

	if (ready_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, 0);
		dup2(null, 1);
		if (log_target() != LOG_TO_STDERR)
			dup2(null, 2);
		close(null);
	}
	if (chdir("/"))
		log_warn("cannot change to /: %s", strerror(errno));
	if (write(ready_fd, "R", 1) != 1)
		log_warn("whoever started us is gone");
	close(ready_fd);
	ready_fd = -1;
}
