/* host.c - what the machine gives: xenstore, pages to grant, event channels.
 * The ioctls are Linux's (xen/gntalloc.h, xen/evtchn.h); headers of these names
 * come from two packages that differ. */
#include "hostfront.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static char act[200] = "begin";
unsigned rnd_seed = 1;

void die(const char *fmt, ...)
{
	va_list ap;

	printf("hostfront: %s: ", act);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	exit(1);
}

void doing(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(act, sizeof(act), fmt, ap);
	va_end(ap);
}

uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
	usleep(ms * 1000);
}

unsigned rnd(unsigned below)
{
	return (unsigned)rand_r(&rnd_seed) % below;
}

uint32_t rnd32(void)
{
	return (uint32_t)rand_r(&rnd_seed) * 2654435761u;
}

static int device(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

/* --- xenstore --- */

enum { XS_READ = 2, XS_WRITE = 11, XS_RM = 13, XS_ERROR = 16 };

/* The reply's body is in `body`, closed by a 0.  Its length, or -errno. */
static int store_do(uint32_t type, const char *path, const char *value, size_t len,
		    char *body)
{
	static int fd = -1;
	struct { uint32_t type, id, tx, len; } h = { .type = type };
	size_t n = strlen(path) + 1, got;

	if (fd < 0)
		fd = device("/dev/xen/xenbus");
	if (n + len > PAGE)
		return -E2BIG;
	h.len = (uint32_t)(n + len);
	memcpy(body, path, n);
	if (len)
		memcpy(body + n, value, len);
	if (write(fd, &h, sizeof(h)) != sizeof(h) || write(fd, body, n + len) < 0)
		return -errno;
	for (got = 0; got < sizeof(h); ) {
		ssize_t r = read(fd, (char *)&h + got, sizeof(h) - got);

		if (r <= 0)
			die("xenstore: %s", strerror(errno));
		got += (size_t)r;
	}
	for (got = 0; got < h.len; ) {
		ssize_t r = read(fd, body + got, h.len - got);

		if (r <= 0)
			die("xenstore: %s", strerror(errno));
		got += (size_t)r;
	}
	body[h.len] = '\0';
	if (h.type != XS_ERROR)
		return (int)h.len;
	return !strcmp(body, "ENOENT") ? -ENOENT : !strcmp(body, "EACCES") ? -EACCES :
	       !strcmp(body, "EINVAL") ? -EINVAL : -EIO;
}

const char *store_get(const char *path)
{
	static char body[PAGE + 1];

	return store_do(XS_READ, path, "", 0, body) < 0 ? NULL : body;
}

int store_put(const char *path, const char *value, size_t len)
{
	static char body[PAGE + 1];
	int n = store_do(XS_WRITE, path, value, len, body);

	return n < 0 ? n : 0;
}

int store_rm(const char *path)
{
	static char body[PAGE + 1];
	int n = store_do(XS_RM, path, "", 0, body);

	return n < 0 ? n : 0;
}

/* --- pages --- */

struct gntalloc_alloc {
	uint16_t domid, flags;
	uint32_t count;
	uint64_t index;
	uint32_t gref[];
};
struct gntalloc_free {
	uint64_t index;
	uint32_t count;
};
#define GNTALLOC_ALLOC _IOC(_IOC_NONE, 'G', 5, 24)
#define GNTALLOC_FREE _IOC(_IOC_NONE, 'G', 6, sizeof(struct gntalloc_free))

static int gntalloc(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = device("/dev/xen/gntalloc");
	return fd;
}

struct pages *pages_new(unsigned n, unsigned to, bool writable)
{
	struct pages *p = calloc(1, sizeof(*p));
	struct gntalloc_alloc *a = calloc(1, sizeof(*a) + (n + 2) * sizeof(a->gref[0]));

	if (!p || !a)
		die("no memory");
	a->domid = (uint16_t)to;
	a->flags = writable;
	a->count = n;
	if (ioctl(gntalloc(), GNTALLOC_ALLOC, a))
		die("cannot grant %u pages: %s", n, strerror(errno));
	p->n = n;
	p->index = a->index;
	p->gref = calloc(n, sizeof(*p->gref));
	if (!p->gref)
		die("no memory");
	memcpy(p->gref, a->gref, n * sizeof(*p->gref));
	p->at = mmap(NULL, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		     gntalloc(), (off_t)a->index);
	if (p->at == MAP_FAILED)
		die("cannot map pages: %s", strerror(errno));
	memset(p->at, 0, (size_t)n * PAGE);
	free(a);
	return p;
}

void pages_free(struct pages *p)
{
	struct gntalloc_free f = { p->index, p->n };

	munmap(p->at, (size_t)p->n * PAGE);
	if (ioctl(gntalloc(), GNTALLOC_FREE, &f))
		die("cannot give pages back: %s", strerror(errno));
	free(p->gref);
	free(p);
}

/* --- event channels --- */

#define EVTCHN_NEW _IOC(_IOC_NONE, 'E', 2, 4)
#define EVTCHN_FREE _IOC(_IOC_NONE, 'E', 3, 4)
#define EVTCHN_KICK _IOC(_IOC_NONE, 'E', 4, 4)

static int evtchn(void)
{
	static int fd = -1;

	if (fd < 0)
		fd = device("/dev/xen/evtchn");
	return fd;
}

unsigned port_new(unsigned to)
{
	int port = ioctl(evtchn(), EVTCHN_NEW, &to);

	if (port < 0)
		die("no event channel: %s", strerror(errno));
	return (unsigned)port;
}

void port_free(unsigned port)
{
	if (ioctl(evtchn(), EVTCHN_FREE, &port))
		die("cannot close port %u: %s", port, strerror(errno));
}

int port_kick(unsigned port)
{
	return ioctl(evtchn(), EVTCHN_KICK, &port) ? -errno : 0;
}

bool port_wait(unsigned ms)
{
	struct pollfd p = { .fd = evtchn(), .events = POLLIN };
	uint32_t ports[64];
	ssize_t n;

	if (poll(&p, 1, (int)ms) <= 0)
		return false;
	n = read(p.fd, ports, sizeof(ports));
	/* Written back, they may come again. */
	return n > 0 && write(p.fd, ports, (size_t)n) == n;
}
