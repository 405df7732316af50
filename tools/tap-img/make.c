/* make.c - making an image: for create, and for the destination of convert. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "io/lock.h"
#include "tap_img.h"

#define FILE_START 512	/* bytes: an empty file is nobody's disk */
#define FILES_MAX 1024u	/* of one image */
#define SPACE_PIECE (64ull << 20)

/* -o help, as qemu-img shows it. */
static void options_help(const struct td_format_tool *t)
{
	printf("Supported %s options:\n", t->name);
	for (const struct td_format_opt *o = t->opts; o->name; o++) {
		char left[64];

		snprintf(left, sizeof(left), "%s=<%s>", o->name, o->arg);
		printf("  %-22s - %s%s%s%s\n", left, o->help, o->def ? " (" : "",
		       o->def ? o->def : "", o->def ? ")" : "");
	}
}

static const struct td_format_opt *option_find(const struct td_format_tool *t,
					       const char *name)
{
	for (const struct td_format_opt *o = t->opts; o->name; o++)
		if (!strcmp(o->name, name))
			return o;
	return NULL;
}

int space_mode(const char *mode, bool raw)
{
	if (!strcmp(mode, "off") || !strcmp(mode, "falloc") || !strcmp(mode, "full") ||
	    (!raw && !strcmp(mode, "metadata")))
		return ST_OK;
	log_err("bad preallocation '%s'%s: want off, %sfalloc or full", mode,
		raw ? " of a raw image" : "", raw ? "" : "metadata, ");
	return ST_FAILED;
}

char *name_from_image(const char *image, const char *name)
{
	const char *slash = strrchr(image, '/');
	char *path;
	int dir = name[0] != '/' && slash ? (int)(slash - image) + 1 : 0;
	int n = asprintf(&path, "%.*s%s", dir, image, name);

	ASSERT(n >= 0);
	return path;
}

/* Making it would end the image that it is to be built on. */
static bool is_backing(const struct make *m, const char *path)
{
	struct stat new, old;

	return !stat(m->name, &new) && !stat(path, &old) &&
	       new.st_dev == old.st_dev && new.st_ino == old.st_ino;
}

/* Is the backing file there, another one, and how large is it? */
static int backing_check(struct make *m)
{
	char *path;
	struct img im;
	int err = 0;

	if (!option_find(m->tool, "backing_file")) {
		log_err("format %s has no backing files", m->tool->name);
		return ST_FAILED;
	}
	if (!m->backing_format) {
		log_err("a backing file needs its format: -F raw, -F qcow2, ...");
		return ST_FAILED;
	}
	if (!m->name)
		return ST_OK;		/* none is made */
	path = name_from_image(m->name, m->backing);
	if (is_backing(m, path)) {
		log_err("%s cannot be made on itself as its backing file", m->name);
		err = -EINVAL;
	} else if (!m->backing_unseen) {
		err = img_open(&im, path, m->backing_format, 0);
		if (!err && !m->has_size) {
			m->size = img_size(&im);
			m->has_size = true;
		}
		if (!err)
			err = img_close(&im);
	}
	free(path);
	return err ? ST_FAILED : ST_OK;
}

enum { TAKE_SIZE, TAKE_BACKING, TAKE_BACKING_FORMAT, TAKE_SPACE, TAKE_SECRET };

static const char *take(struct make *m, unsigned i, const char *name)
{
	free(m->taken[i]);
	m->taken[i] = values_take(&m->values, name);
	return m->taken[i];
}

/* Options that are not the format's own business. */
static int take_values(struct make *m)
{
	const char *size = take(m, TAKE_SIZE, "size");
	const char *backing = take(m, TAKE_BACKING, "backing_file");
	const char *format = take(m, TAKE_BACKING_FORMAT, "backing_fmt");
	bool layers = option_find(m->tool, "encrypt.format");
	const char *secret = NULL;

	if (layers || m->tool == td_format_find("luks"))
		secret = take(m, TAKE_SECRET, layers ? "encrypt.key-secret" :
			      "key-secret");
	if (size && m->has_size && !m->size_found) {
		log_err("the size is said twice");
		return ST_FAILED;
	}
	if (size && !m->has_size) {
		if (arg_size("size", size, &m->size))
			return ST_FAILED;
		m->has_size = true;
	}
	if (secret && layers && !values_has(&m->values, "encrypt.format")) {
		log_err("encrypt.key-secret without encrypt.format would encrypt nothing");
		return ST_FAILED;
	}
	if (secret && secret_first(secret))
		return ST_FAILED;
	m->backing = backing ? backing : m->backing;
	m->backing_format = format ? format : m->backing_format;
	if (m->backing && !*m->backing)
		m->backing = NULL;
	if (m->tool == td_format_find("raw"))
		m->space = take(m, TAKE_SPACE, "preallocation");
	for (unsigned i = 0; i < m->values.n; i++) {
		if (option_find(m->tool, m->values.v[i].name))
			continue;
		log_err("format %s has no option '%s'; -o help lists them",
			m->tool->name, m->values.v[i].name);
		return ST_FAILED;
	}
	return m->space ? space_mode(m->space, true) : ST_OK;
}

int make_check(struct make *m)
{
	int st;

	if (!m->format)
		m->format = "raw";
	m->tool = td_format_find(m->format);
	if (!m->tool || !m->tool->create) {
		log_err("cannot make images of format '%s'; see '%s --help'",
			m->format, TAP_IMG);
		return ST_FAILED;
	}
	if (m->values.help) {
		options_help(m->tool);
		return -1;
	}
	st = take_values(m);
	if (st == ST_OK && m->backing)
		st = backing_check(m);
	if (st == ST_OK && !m->has_size) {
		log_err("no size was given, and there is nothing to take it from");
		st = ST_FAILED;
	}
	m->size = align_up(m->size, 512);
	return st;
}

/* "Formatting ...": what is made of what was said and what was not. */
static void tell(const struct make *m)
{
	const struct td_format_make v = { .values = m->values.v,
					  .n_values = m->values.n };

	printf("Formatting '%s', fmt=%s", m->name, m->tool->name);
	for (const struct td_format_opt *o = m->tool->opts; o->name; o++) {
		const char *s = td_format_value(m->tool->opts, &v, o->name);

		if (!strcmp(o->name, "size"))
			printf(" size=%llu", (unsigned long long)m->size);
		else if (!strcmp(o->name, "backing_file"))
			s = m->backing;
		else if (!strcmp(o->name, "backing_fmt"))
			s = m->backing_format;
		else if (!strcmp(o->name, "preallocation") && m->space)
			s = m->space;
		if (s)
			printf(" %s=%s", o->name, s);
	}
	printf("\n");
	fflush(stdout);
}

/* A file of zeroes, or a block device; *made: it was not there before. */
static int make_file(const char *name, bool *made)
{
	struct stat st;
	const char *why = "";
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644), err;

	*made = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(name, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	err = fd < 0 ? -errno : 0;
	if (!err && fstat(fd, &st))
		err = -errno;
	if (!err && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		why = "it is neither a regular file nor a block device";
		err = -EINVAL;
	}
	/* Whoever uses it keeps it as it is: its lock comes before the axe. */
	if (!err)
		err = file_lock(fd, false, &why);
	if (err == -ENOTSUP)
		err = 0;
	if (!err && S_ISREG(st.st_mode) &&
	    (ftruncate(fd, 0) || ftruncate(fd, FILE_START)))
		err = -errno;
	if (err)
		log_err("cannot make %s: %s", name, *why ? why : strerror(-err));
	if (fd >= 0)
		close(fd);
	return err;
}

int make_space(struct img *im, const char *mode, uint64_t from, uint64_t to)
{
	unsigned how = img_is_raw(im) ? TD_REQ_NO_HOLE | TD_REQ_FAST : TD_REQ_PLACE;
	void *zeroes = NULL;
	int err = 0;

	if (!mode || !strcmp(mode, "off"))
		return 0;
	if (!strcmp(mode, "full") && posix_memalign(&zeroes, 4096, SPACE_PIECE))
		return -ENOMEM;
	if (zeroes)
		memset(zeroes, 0, SPACE_PIECE);
	if (!strcmp(mode, "falloc"))
		how |= TD_REQ_NO_HOLE;
	while (!err && from < to) {
		uint64_t n = min_u64(to - from, SPACE_PIECE);

		err = zeroes ? img_io(im, TD_OP_WRITE, 0, from, n, zeroes) :
		      img_io(im, TD_OP_ZEROES, how, from, n, NULL);
		if (err)
			log_err("cannot reserve space in %s: %s", im->name,
				strerror(-err));
		from += n;
	}
	free(zeroes);
	return err;
}

/* Files that an image has beside the one that names it. */
struct beside {
	const char *image;
	struct img im[FILES_MAX];
	char *path[FILES_MAX];
	bool made[FILES_MAX];
	unsigned n;
};

static int beside_open(const struct td_format_make *what, const char *name, bool fresh,
		       struct td_node **store)
{
	struct beside *b = what->owner;
	int err = 0;

	if (b->n == FILES_MAX) {
		log_err("%s: more than %u files", b->image, FILES_MAX);
		return -EMFILE;
	}
	b->path[b->n] = name_from_image(b->image, name);
	if (fresh)
		err = make_file(b->path[b->n], &b->made[b->n]);
	if (!err)
		err = img_open_file(&b->im[b->n], b->path[b->n], "raw",
				    fresh ? IMG_WRITE : 0);
	if (!err)
		*store = b->im[b->n].root;
	b->n++;
	return err;
}

/* 0 if all could be closed; what was made goes with an image that failed. */
static int beside_close(struct beside *b, int err)
{
	for (unsigned i = 0; i < b->n; i++) {
		int end = img_close(&b->im[i]);

		err = err ? err : end;
	}
	for (unsigned i = 0; i < b->n; i++) {
		if (err && b->made[i])
			unlink(b->path[i]);
		free(b->path[i]);
	}
	return err;
}

/* Space for all of an image that is to have it from the start, before it is there. */
static int space_first(const struct make *m, const struct td_format_make *what,
		       struct img *im)
{
	const char *mode = td_format_value(m->tool->opts, what, "preallocation");
	uint64_t bytes;
	int err;

	if (!m->tool->measure || !mode || (strcmp(mode, "falloc") && strcmp(mode, "full")))
		return 0;
	err = m->tool->measure(what, what->size, &bytes);
	if (!err)
		err = td_blocking_size(im->root, bytes);
	return err ? err : make_space(im, mode, 0, bytes);
}

int make_image(struct make *m)
{
	struct beside *b = calloc(1, sizeof(*b));
	const struct td_format_make what = {
		.size = m->size, .path = m->name, .backing = m->backing,
		.backing_format = m->backing_format, .values = m->values.v,
		.n_values = m->values.n, .file = beside_open, .owner = b,
	};
	struct img im;
	bool made;
	int err, end;

	ASSERT(b);
	b->image = m->name;
	if (!m->quiet)
		tell(m);
	err = make_file(m->name, &made);
	if (!err)
		err = img_open(&im, m->name, "raw", IMG_WRITE);
	else
		goto out;
	if (!err) {
		err = space_first(m, &what, &im);
		if (!err)
			err = m->tool->create(im.root, &what);
		if (err && !*td_tree_why(im.tree))
			log_err("cannot make %s: %s", m->name, strerror(-err));
		err = beside_close(b, err);
		if (!err)
			err = make_space(&im, m->space, 0, m->size);
		end = img_close(&im);
		err = err ? err : end;
	}
	if (err && made)
		unlink(m->name);
out:
	free(b);
	return err;
}

void make_free(struct make *m)
{
	values_free(&m->values);
	for (unsigned i = 0; i < ARRAY_SIZE(m->taken); i++)
		free(m->taken[i]);
}
