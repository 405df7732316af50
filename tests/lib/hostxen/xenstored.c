/* xenstored.c - loaded before Xen's libraries, lets the real xenstored run on a
 * host without a hypervisor: its event channels lead nowhere, and every domain
 * that it asks for is there.  Sockets, transactions, watches, permissions are its
 * own. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096

static int bell = -1;
static int handle;

void *xenevtchn_open(void *log, unsigned flags);
void *xenevtchn_open(void *log, unsigned flags)
{
	(void)log;
	(void)flags;
	bell = eventfd(0, EFD_NONBLOCK);
	return &handle;
}

int xenevtchn_fd(void *x);
int xenevtchn_fd(void *x)
{
	(void)x;
	return bell;
}

int xenevtchn_bind_virq(void *x, unsigned virq);
int xenevtchn_bind_virq(void *x, unsigned virq)
{
	(void)x;
	(void)virq;
	return 1;
}

int xenevtchn_bind_interdomain(void *x, uint32_t domid, uint32_t port);
int xenevtchn_bind_interdomain(void *x, uint32_t domid, uint32_t port)
{
	(void)x;
	(void)domid;
	return (int)port + 100;
}

int xenevtchn_notify(void *x, uint32_t port);
int xenevtchn_notify(void *x, uint32_t port)
{
	(void)x;
	(void)port;
	return 0;
}

int xenevtchn_unbind(void *x, uint32_t port);
int xenevtchn_unbind(void *x, uint32_t port)
{
	(void)x;
	(void)port;
	return 0;
}

void *xengnttab_open(void *log, unsigned flags);
void *xengnttab_open(void *log, unsigned flags)
{
	(void)log;
	(void)flags;
	return &handle;
}

int xengnttab_set_max_grants(void *x, uint32_t n);
int xengnttab_set_max_grants(void *x, uint32_t n)
{
	(void)x;
	(void)n;
	return 0;
}

void *xengnttab_map_grant_ref(void *x, uint32_t domid, uint32_t ref, int prot);
void *xengnttab_map_grant_ref(void *x, uint32_t domid, uint32_t ref, int prot)
{
	void *p;

	(void)x;
	(void)domid;
	(void)ref;
	p = mmap(NULL, PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

int xengnttab_unmap(void *x, void *start, uint32_t n);
int xengnttab_unmap(void *x, void *start, uint32_t n)
{
	(void)x;
	return munmap(start, (size_t)n * PAGE);
}

void *xc_interface_open(void *log, void *dombuild, unsigned flags);
void *xc_interface_open(void *log, void *dombuild, unsigned flags)
{
	(void)log;
	(void)dombuild;
	(void)flags;
	return &handle;
}

/* Each is there, and runs: the first word of the answer is its number. */
int xc_domain_getinfo(void *x, uint32_t first, unsigned max, void *info);
int xc_domain_getinfo(void *x, uint32_t first, unsigned max, void *info)
{
	(void)x;
	(void)max;
	memcpy(info, &first, sizeof(first));
	return 1;
}

/* The page and the port that it shares with domain 0. */
int open(const char *path, int flags, ...)
{
	int (*real)(const char *, int, ...) =
		(int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open");
	va_list ap;
	int fd, mode;

	if (!strcmp(path, "/proc/xen/xsd_port") ||
	    !strcmp(path, "/proc/xen/xsd_kva")) {
		fd = memfd_create("xsd", 0);
		if (strstr(path, "port"))
			dprintf(fd, "1\n");
		else if (ftruncate(fd, PAGE))
			return -1;
		lseek(fd, 0, SEEK_SET);
		return fd;
	}
	va_start(ap, flags);
	mode = va_arg(ap, int);
	va_end(ap);
	return real(path, flags, mode);
}
