/* drv_loop.c - see drv_loop.h.  The device is detached as soon as we have it
 * open: the kernel does that when the last user has gone. */
#include "drv_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static char device[64];
static int held = -1;

bool command(const char *fmt, ...)
{
	char line[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (!system(line))
		return true;
	printf("SKIP: cannot run: %s\n", line);
	return false;
}

const char *loop_attach(const char *file, unsigned sector, bool direct)
{
	char line[1024];
	FILE *p;

	if (geteuid()) {
		puts("SKIP: a loop device needs root");
		return NULL;
	}
	snprintf(line, sizeof(line),
		 "losetup --show -f -b %u --direct-io=%s '%s' 2>&1", sector,
		 direct ? "on" : "off", file);
	p = popen(line, "re");
	if (!p || !fgets(device, sizeof(device), p))
		device[0] = '\0';
	if (p)
		pclose(p);
	device[strcspn(device, "\n")] = '\0';
	if (device[0] == '/')
		held = open(device, O_RDONLY | O_CLOEXEC);
	if (held < 0) {
		printf("SKIP: no loop device of %u-byte sectors: %s\n", sector,
		       device);
		return NULL;
	}
	if (!command("losetup -d %s", device))
		return NULL;
	return device;
}

void loop_detach(void)
{
	close(held);
	held = -1;
}

bool private_mount(const char *what, const char *where, const char *type,
		   const char *options)
{
	if (!unshare(CLONE_NEWNS) &&
	    !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) &&
	    !mount(what, where, type, 0, options))
		return true;
	printf("SKIP: cannot mount %s: %s\n", type, strerror(errno));
	return false;
}
