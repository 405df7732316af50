/* image_rig.c - see image_rig.h. */
#include "image_rig.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "formats.h"

#define TOLD_MAX 5u

__attribute__((format(printf, 1, 0)))
static int run(const char *fmt, va_list ap, char *cmd, size_t len)
{
	int rc;

	if ((size_t)vsnprintf(cmd, len, fmt, ap) >= len)
		errx(1, "command too long");
	fflush(NULL);
	rc = system(cmd);
	return WIFEXITED(rc) ? WEXITSTATUS(rc) : 128;
}

void shell(const char *fmt, ...)
{
	char cmd[8192];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = run(fmt, ap, cmd, sizeof(cmd));
	va_end(ap);
	if (rc)
		errx(1, "status %d: %s", rc, cmd);
}

int shell_status(const char *fmt, ...)
{
	char cmd[8192];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = run(fmt, ap, cmd, sizeof(cmd));
	va_end(ap);
	return rc;
}

void shell_needs(const char *program)
{
	if (!shell_status("command -v %s >/dev/null 2>&1", program))
		return;
	printf("SKIP: no %s\n", program);
	exit(77);
}

struct ref ref_new(uint64_t size)
{
	struct ref r = { .bytes = calloc(1, size), .size = size };

	if (!r.bytes)
		err(1, "calloc");
	return r;
}

void ref_free(struct ref *r)
{
	free(r->bytes);
	r->bytes = NULL;
}

void ref_load(struct ref *r, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	if (fd < 0)
		err(1, "%s", path);
	memset(r->bytes, 0, r->size);
	for (uint64_t at = 0; n && at < r->size; at += (uint64_t)n) {
		n = pread(fd, r->bytes + at, r->size - at, (off_t)at);
		if (n < 0)
			err(1, "%s", path);
	}
	close(fd);
}

void ref_save(const struct ref *r, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, r->bytes, r->size) != (ssize_t)r->size)
		err(1, "%s", path);
	close(fd);
}

void ref_fill(struct ref *r, uint64_t seed)
{
	for (uint64_t at = 0; at < r->size;) {
		uint64_t n = min_u64(r->size - at, 512 * (1 + rig_random(&seed) % 300));

		switch (rig_random(&seed) % 4) {
		case 0:
			memset(r->bytes + at, 0, n);
			break;
		case 1:
			memset(r->bytes + at, (int)rig_random(&seed), n);
			break;
		case 2:
			for (uint64_t i = 0; i < n; i++)
				r->bytes[at + i] = (uint8_t)(i / 7);
			break;
		default:
			rig_fill(&seed, r->bytes + at, n);
		}
		at += n;
	}
}

/* Making. */

#define FILES_MAX 80u
#define VALUES_MAX 16u

struct maker {
	struct rig g;		/* one for each open file: of the image ... */
	struct rig *more;	/* ... and others */
	unsigned n_more;
	const char *path;
};

static int open_store(struct rig *g, const char *path, unsigned flags)
{
	char spec[PATH_MAX + 8];

	rig_init(g);
	snprintf(spec, sizeof(spec), "aio:%s", path);
	return rig_open(g, spec, flags | TD_NODE_NO_DIRECT);
}

static int make_empty(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 || ftruncate(fd, 512) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

static int another(const struct td_format_make *m, const char *name, bool fresh,
		   struct td_node **store)
{
	struct maker *k = m->owner;
	const char *slash = strrchr(k->path, '/');
	char path[PATH_MAX];
	int rc;

	snprintf(path, sizeof(path), "%.*s%s", (int)(slash + 1 - k->path), k->path, name);
	if (k->n_more == FILES_MAX)
		errx(1, "too many files");
	rc = fresh ? make_empty(path) : 0;
	if (rc)
		return rc;
	rc = open_store(&k->more[k->n_more], path, fresh ? 0 : TD_NODE_RDONLY);
	if (rc)
		errx(1, "%s: %s", path, rig_why());
	*store = td_tree_root(k->more[k->n_more++].tree);
	return 0;
}

static void shut(struct rig *g)
{
	if (rig_close(g))
		errx(1, "close");
	rig_free(g);
}

int image_make(const char *format, const char *path, uint64_t size,
	       const char *backing, const char *options)
{
	const struct td_format_tool *tool = td_format_find(format);
	struct td_format_value values[VALUES_MAX];
	struct maker k = { .path = path };
	struct td_format_make m = { .size = size, .path = path, .backing = backing,
				    .values = values, .file = another, .owner = &k };
	char *text = strdup(options), *save = NULL;
	int rc;

	k.more = calloc(FILES_MAX, sizeof(*k.more));
	if (!tool || !text || !k.more)
		errx(1, "cannot make %s", format);
	for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(w, '=');

		if (!eq || m.n_values == VALUES_MAX)
			errx(1, "bad option %s", w);
		*eq = '\0';
		values[m.n_values++] = (struct td_format_value){ w, eq + 1 };
	}
	rc = make_empty(path);
	if (rc || open_store(&k.g, path, 0))
		errx(1, "%s", path);
	rc = tool->create(td_tree_root(k.g.tree), &m);
	while (k.n_more)
		shut(&k.more[--k.n_more]);
	shut(&k.g);
	free(k.more);
	free(text);
	return rc;
}

/* Opening. */

struct mem_image *image_in_memory(struct rig *g, struct mem_store *m)
{
	rig_init(g);
	g->env.store = &mem_store_driver;
	mem_store_init(m, rig_random(&group.seed));
	return &m->file[mem_store_file(m, "a")].image;
}

void image_memory_free(struct rig *g, struct mem_store *m)
{
	mem_store_free(m);
	rig_free(g);
}

void image_must_open(struct rig *g, const char *spec, unsigned flags)
{
	rig_init(g);
	if (rig_open(g, spec, flags))
		errx(1, "%s: %s", spec, rig_why());
}

void image_must_close(struct rig *g)
{
	int rc = rig_close(g);

	if (rc)
		errx(1, "close: %s", strerror(-rc));
	rig_free(g);
}

void image_refused(const char *spec, unsigned flags, const char *why)
{
	struct rig g;
	int rc;

	rig_init(&g);
	rc = rig_open(&g, spec, flags);
	if (rc >= 0)
		errx(1, "%s: was opened", spec);
	if (!strstr(rig_why(), why))
		errx(1, "%s: not '%s' but '%s'", spec, why, rig_why());
	rig_free(&g);
}

/* Requests. */

static unsigned compare(const struct ref *r, const uint8_t *got, uint64_t off,
			uint64_t len)
{
	static unsigned told;
	unsigned wrong = 0;

	for (uint64_t n, at = 0; at < len; at += n) {
		n = min_u64(512 - (off + at) % 512, len - at);
		if (!memcmp(got + at, r->bytes + off + at, n))
			continue;
		wrong++;
		if (told++ < TOLD_MAX)
			printf("sector %llu: got %02x.., want %02x..\n",
			       (unsigned long long)(off + at) / 512, got[at],
			       r->bytes[off + at]);
	}
	return wrong;
}

static uint8_t *buffer(uint64_t len)
{
	void *p;

	if (posix_memalign(&p, 4096, len))
		err(1, "posix_memalign");
	return p;
}

static unsigned read_and_compare(struct rig *g, const struct ref *r, uint64_t off,
				 uint64_t len, uint8_t *buf)
{
	int rc;

	memset(buf, 0xee, len);
	rc = rig_read(g, off, len, buf);
	if (rc)
		errx(1, "read of %llu+%llu: %s", (unsigned long long)off,
		     (unsigned long long)len, strerror(-rc));
	return compare(r, buf, off, len);
}

unsigned image_differs(struct rig *g, const struct ref *r)
{
	uint8_t *buf = buffer(MiB);
	unsigned wrong = 0;

	if (td_tree_root(g->tree)->size != r->size)
		errx(1, "the disk has %llu bytes, not %llu",
		     (unsigned long long)td_tree_root(g->tree)->size,
		     (unsigned long long)r->size);
	for (uint64_t off = 0; off < r->size; off += MiB)
		wrong += read_and_compare(g, r, off, min_u64(r->size - off, MiB), buf);
	free(buf);
	return wrong;
}

/* What was discarded is what it was, or zeroes; and stays so. */
static unsigned discarded(struct rig *g, struct ref *r, uint64_t off, uint64_t len,
			  uint8_t *buf)
{
	static const uint8_t zero[512];
	unsigned wrong = 0;

	if (rig_read(g, off, len, buf))
		errx(1, "read after a discard");
	for (uint64_t n, at = 0; at < len; at += n) {
		n = min_u64(512 - (off + at) % 512, len - at);
		wrong += memcmp(buf + at, r->bytes + off + at, n) &&
			 memcmp(buf + at, zero, n);
	}
	memcpy(r->bytes + off, buf, len);
	return wrong;
}

unsigned image_random(struct rig *g, struct ref *r, uint64_t seed,
		      unsigned requests, unsigned unit, unsigned max_len)
{
	uint8_t *buf = buffer(max_len);
	unsigned wrong = 0;

	while (requests--) {
		uint64_t len = (1 + rig_random(&seed) % (max_len / unit)) * unit;
		uint64_t off = rig_random(&seed) % (r->size / unit) * unit;
		unsigned what = rig_random(&seed) % 16;
		unsigned flags = rig_random(&seed) % 2 ? TD_REQ_NO_HOLE : 0;
		int rc = 0;

		if (rig_random(&seed) % 2)
			len = min_u64(len, 4096);
		len = min_u64(len, r->size - off);
		if (what < 7) {
			rig_fill(&seed, buf, len);
			if (what < 2)
				memset(buf, (int)what, len);
			memcpy(r->bytes + off, buf, len);
			rc = rig_write(g, off, len, buf);
		} else if (what < 9) {
			memset(r->bytes + off, 0, len);
			rc = rig_io(g, TD_OP_ZEROES, flags, off, len, NULL);
		} else if (what < 10) {
			rc = rig_io(g, TD_OP_DISCARD, 0, off, len, NULL);
			wrong += discarded(g, r, off, len, buf);
		} else if (what < 11) {
			rc = rig_io(g, TD_OP_FLUSH, 0, 0, 0, NULL);
		} else {
			wrong += read_and_compare(g, r, off, len, buf);
		}
		if (rc)
			errx(1, "request %u at %llu+%llu: %s", what,
			     (unsigned long long)off, (unsigned long long)len,
			     strerror(-rc));
	}
	free(buf);
	return wrong + image_differs(g, r);
}

unsigned image_work(const char *spec, struct ref *r, uint64_t seed)
{
	unsigned wrong;
	struct rig g;

	image_must_open(&g, spec, TD_NODE_RDONLY);
	wrong = image_differs(&g, r);
	image_must_close(&g);
	for (unsigned session = 0; session < 2; session++) {
		image_must_open(&g, spec, 0);
		wrong += image_random(&g, r, seed + session, 150, 512, 128 * KiB);
		image_must_close(&g);
	}
	image_must_open(&g, spec, TD_NODE_RDONLY);
	wrong += image_differs(&g, r);
	image_must_close(&g);
	return wrong;
}

/* Patterns by qemu-io, and in r. */
static void qemu_writes(const char *format, const char *path, struct ref *r,
			uint64_t *seed)
{
	char cmd[4096];
	size_t n = 0;

	for (unsigned i = 0; i < 12; i++) {
		uint64_t off = rig_random(seed) % (r->size / 512) * 512;
		uint64_t len = (1 + rig_random(seed) % 200) * 512;
		unsigned byte = rig_random(seed) % 3 ? rig_random(seed) % 256 : 0;
		char how[16] = "-z";

		if (byte)
			snprintf(how, sizeof(how), "-P %u", byte);
		len = min_u64(len, r->size - off);
		memset(r->bytes + off, (int)byte, len);
		n += (size_t)snprintf(cmd + n, sizeof(cmd) - n,
				      "-c 'write -q %s %llu %llu' ", how,
				      (unsigned long long)off,
				      (unsigned long long)len);
	}
	shell("qemu-io -f %s %s %s", format, cmd, path);
}

unsigned image_alternate(const char *spec, const char *format, const char *path,
			 struct ref *r, uint64_t seed, unsigned rounds)
{
	unsigned wrong = 0;
	struct rig g;

	while (rounds--) {
		image_must_open(&g, spec, 0);
		wrong += image_random(&g, r, rig_random(&seed), 40, 512, 128 * KiB);
		image_must_close(&g);
		qemu_writes(format, path, r, &seed);
	}
	image_must_open(&g, spec, TD_NODE_RDONLY);
	wrong += image_differs(&g, r);
	image_must_close(&g);
	return wrong;
}
