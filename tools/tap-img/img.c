/* img.c - an open image: a tree of nodes, and requests to its root. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drivers.h"
#include "io/open.h"
#include "tap_img.h"

#define UNIT_MAX (2u << 20)
#define RAW_UNIT 4096u	/* of space in most file systems */

struct waiting {
	bool done;
	int err;
};

static void waited(struct td_req *r, int err)
{
	struct waiting *w = r->owner;

	w->done = true;
	w->err = err;
	env_wake();
}

static int wait_for(const struct waiting *w)
{
	while (!w->done)
		env_wait();
	return w->err;
}

static int control(struct img *im, void (*op)(struct td_tree *, struct td_req *),
		   unsigned flags, uint64_t length)
{
	struct waiting w = { 0 };
	struct td_req r = { .done = waited, .owner = &w, .flags = flags,
			    .length = length };

	op(im->tree, &r);
	return wait_for(&w);
}

int img_probe(const char *name, const struct td_format_tool **tool)
{
	unsigned how = IMAGE_RDONLY | IMAGE_NO_DIRECT |
		       (env_opts.share ? IMAGE_NO_LOCK : 0);
	char head[TD_FORMAT_HEAD];
	const char *why;
	ssize_t n;
	bool direct;
	int fd = image_open(name, how, &direct, &why);

	if (fd < 0) {
		log_err("cannot open %s: %s", name, why ? why : strerror(-fd));
		return fd;
	}
	n = pread(fd, head, sizeof(head), 0);
	if (n < 0) {
		n = -errno;
		log_err("cannot read %s: %s", name, strerror((int)-n));
	}
	close(fd);
	if (n < 0)
		return (int)n;
	*tool = td_format_probe(head, (size_t)n);
	return 0;
}

/* info_of() of what is going to be opened: then its faults are told. */
static json_t *info_quietly(const char *name, const char *format)
{
	enum log_level level = log_get_level();
	json_t *o;

	log_set_level(0);
	o = info_of(name, format);
	log_set_level(level);
	return o;
}

/* Of what format the backing file at `path` of an image of format t is; NULL: it is not
 * said.  *guessed: it was looked for in the file. */
static const struct td_format_tool *format_below(const struct td_format_tool *t,
						 const char *said, const char *image,
						 const char *path, bool *guessed)
{
	const struct td_format_tool *found;

	if (said || (t->below && *t->below))
		return td_format_find(said ? said : t->below);
	if (!t->below || access(path, R_OK) || img_probe(path, &found))
		return NULL;
	if (!found)
		found = td_format_find("raw");
	*guessed = true;
	log_warn("%s does not say of what format %s is: taken as %s", image, path,
		 found->name);
	return found;
}

/* Some images name a backing file and not of what format that is, which drivers do not
 * guess.  For who only reads: if there is one in the chain, all that lies below the first
 * image, a line each, as the images say or as they look.  Allocated, or NULL. */
static char *chain_below(const char *name, const struct td_format_tool *t)
{
	json_t *o = info_quietly(name, t->name), *next;
	char *chain = NULL, *more;
	bool guessed = false;

	for (unsigned n = 0; o && n <= TD_CHAIN_MAX; n++, o = next) {
		const char *path = json_string_value(json_object_get(
			o, "full-backing-filename"));
		const char *said = json_string_value(json_object_get(
			o, "backing-filename-format"));
		const char *image = json_string_value(json_object_get(o, "filename"));

		if (!path || strchr(path, '\n'))
			break;
		t = format_below(t, said, image, path, &guessed);
		if (!t)
			break;
		ASSERT(asprintf(&more, "%s%s%s:%s", chain ? chain : "", chain ? "\n" : "",
				t->driver ? t->driver->name : t->name, path) > 0);
		free(chain);
		chain = more;
		next = info_quietly(path, t->name);
		json_decref(o);
	}
	json_decref(o);
	if (!guessed) {
		free(chain);
		chain = NULL;
	}
	return chain;
}

/* FORMAT:NAME, and below it the chain if there is one.  A format may be filters
 * and the name of a driver, as in "delay:op=read,us=100|aio". */
static char *spec_of(const struct img *im, const char *driver, const char *chain)
{
	char *s;
	int n = asprintf(&s, "%s:%s%s%s", driver, im->name, chain ? "\n" : "",
			 chain ? chain : "");

	ASSERT(n >= 0);
	return s;
}

static int name_format(struct img *im, const char *format, unsigned flags)
{
	int err = 0;

	im->format = format;
	if (strchr(im->name, '\n')) {
		log_err("a name with a newline cannot be an image's");
		return -EINVAL;
	}
	if (!format && (flags & IMG_PROBE))
		err = img_probe(im->name, &im->tool);
	else if (format)
		im->tool = td_format_find(format);
	if (err)
		return err;
	if (!im->tool && !format) {
		im->tool = td_format_find("raw");
		im->guessed = true;
	}
	if (im->tool)
		im->format = im->tool->name;
	if (!im->tool && !strchr(format, '|') &&
	    !td_driver_find(format, strlen(format))) {
		log_err("unknown format '%s'; see '%s --help'", format, TAP_IMG);
		return -ENOENT;
	}
	return 0;
}

static int open_spec(struct img *im, const char *driver, unsigned flags,
		     const char *chain)
{
	unsigned how = (flags & IMG_WRITE ? 0 : TD_NODE_RDONLY) |
		       (flags & IMG_DIRECT ? 0 : TD_NODE_NO_DIRECT);
	char why[256] = "", *spec = spec_of(im, driver, chain);
	int err = td_tree_new(env_get(), spec, how, &im->tree, why, sizeof(why));

	free(spec);
	if (err) {
		log_err("cannot open %s: %s", im->name, *why ? why : strerror(-err));
		return err;
	}
	err = control(im, td_tree_open, 0, 0);
	if (err) {
		if (!*td_tree_why(im->tree))
			log_err("cannot open %s: %s", im->name, strerror(-err));
		td_tree_free(im->tree);
		im->tree = NULL;
		return err;
	}
	im->root = td_tree_root(im->tree);
	im->pool = td_pool_new(IMG_DEPTH, sizeof(struct img_part));
	ASSERT(im->pool && !td_pool_bind(im->pool, im->tree));
	return 0;
}

int img_open(struct img *im, const char *name, const char *format, unsigned flags)
{
	char *chain = NULL;
	int err;

	*im = (struct img){ .name = name };
	err = name_format(im, format, flags);
	if (err)
		return err;
	if (flags & IMG_PROBE && im->tool && im->tool->info)
		chain = chain_below(name, im->tool);
	/* LUKS finds out which key is its own; AES takes the first. */
	env_swap_key(secret_of(name));
	err = open_spec(im, im->tool && im->tool->driver ? im->tool->driver->name :
			im->format, flags, chain);
	env_swap_key(secret_of(name));
	free(chain);
	return err;
}

int img_open_file(struct img *im, const char *name, const char *format,
		  unsigned flags)
{
	int err;

	*im = (struct img){ .name = name };
	err = name_format(im, format, flags);
	return err ? err : open_spec(im, "aio", flags, NULL);
}

int img_close(struct img *im)
{
	int err = 0;

	if (im->tree) {
		err = control(im, td_tree_close, 0, 0);
		if (err && !*td_tree_why(im->tree))
			log_err("cannot close %s: %s", im->name, strerror(-err));
		td_tree_free(im->tree);
		td_pool_free(im->pool);
		im->tree = NULL;
	}
	return err;
}

uint64_t img_size(const struct img *im)
{
	return im->root->size;
}

bool img_is_raw(const struct img *im)
{
	return im->tool == td_format_find("raw");
}

bool img_is_device(const struct img *im)
{
	struct stat st;

	return !stat(im->name, &st) && S_ISBLK(st.st_mode);
}

uint32_t img_unit(struct img *im)
{
	struct td_node *store = im->root;
	uint64_t unit = 0;
	json_t *o;

	while (store->child)
		store = store->child;
	if (im->tool && im->tool->info) {
		o = json_object();
		if (!im->tool->info(store, o))
			unit = json_u64(o, "cluster-size");
		json_decref(o);
	}
	return is_pow2(unit) && unit <= UNIT_MAX ? (uint32_t)unit : RAW_UNIT;
}

int img_resize(struct img *im, uint64_t size, unsigned flags)
{
	int err;

	if (!(im->root->caps & TD_CAP_RESIZE)) {
		log_err("%s: its format cannot be resized", im->name);
		return -EOPNOTSUPP;
	}
	err = control(im, td_tree_resize, flags, size);
	if (err && !*td_tree_why(im->tree))
		log_err("cannot resize %s: %s", im->name, strerror(-err));
	return err;
}

struct td_req *img_start(struct img *im, enum td_op op, unsigned flags, uint64_t off,
			 uint64_t len, void *buf, td_done_fn *done, void *owner)
{
	struct td_req *r = td_pool_get(im->pool);
	struct img_part *p;

	if (!r)
		return NULL;
	p = td_pool_extra(im->pool, r);
	*p = (struct img_part){ { buf, len }, owner, off };
	r->op = op;
	r->flags = flags;
	r->offset = off;
	r->length = len;
	r->iov = buf ? &p->iov : NULL;
	r->iovcnt = buf ? 1 : 0;
	r->done = done;
	r->owner = p;
	td_submit(im->root, r);
	return r;
}

static struct td_req *get(struct img *im)
{
	struct td_req *r;

	while (!(r = td_pool_get(im->pool)))
		env_wait();
	return r;
}

int img_io(struct img *im, enum td_op op, unsigned flags, uint64_t off, uint64_t len,
	   void *buf)
{
	struct waiting w = { 0 };
	struct iovec iov = { buf, len };
	struct td_req *r = get(im);
	int err;

	r->op = op;
	r->flags = flags;
	r->offset = off;
	r->length = len;
	r->iov = buf ? &iov : NULL;
	r->iovcnt = buf ? 1 : 0;
	r->done = waited;
	r->owner = &w;
	td_submit(im->root, r);
	err = wait_for(&w);
	td_pool_put(im->pool, r);
	return err;
}

int img_extents(struct img *im, unsigned flags, uint64_t off, uint64_t len,
		struct td_extents *x)
{
	struct waiting w = { 0 };
	struct td_req *r = get(im);
	int err;

	x->n = 0;
	r->op = TD_OP_EXTENTS;
	r->flags = flags;
	r->offset = off;
	r->length = len;
	r->iov = NULL;
	r->iovcnt = 0;
	r->extents = x;
	r->done = waited;
	r->owner = &w;
	td_submit(im->root, r);
	err = wait_for(&w);
	td_pool_put(im->pool, r);
	if (err)
		log_err("cannot find out what is allocated in %s at %llu: %s",
			im->name, (unsigned long long)off, strerror(-err));
	return err;
}
