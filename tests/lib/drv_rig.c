/* drv_rig.c - see drv_rig.h. */
#include "drv_rig.h"

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/io.h"
#include "loop/loop.h"
#include "loop/worker.h"

static char parse_why[256];
static const struct rig *last;

/* Files come as they do from the daemon: later, from the loop. */
struct ask {
	struct loop_work work;
	struct rig *g;
	char *path;
	unsigned flags;
	td_file_fn *fn;
	void *arg;
};

static int open_default(struct rig *g, const char *path, unsigned flags)
{
	int how = O_CLOEXEC | O_NONBLOCK |
		  (flags & TD_NODE_RDONLY ? O_RDONLY : O_RDWR);
	int fd = -1;

	(void)g;
	if (!(flags & TD_NODE_NO_DIRECT))
		fd = open(path, how | O_DIRECT);
	if (fd < 0)
		fd = open(path, how);
	return fd < 0 ? -errno : fd;
}

static void answer(struct loop_work *w)
{
	struct ask *a = container_of(w, struct ask, work);
	int fd = a->g->open_file(a->g, a->path, a->flags);
	struct td_file f = { .fd = fd < 0 ? -1 : fd, .err = fd < 0 ? fd : 0 };

	a->fn(a->arg, &f);
	free(a->path);
	free(a);
}

static void file_get(struct td_env *e, const char *path, unsigned flags,
		     td_file_fn *fn, void *arg)
{
	struct ask *a = calloc(1, sizeof(*a));

	if (!a)
		err(1, "calloc");
	a->g = (struct rig *)e;
	a->path = strdup(path);
	a->flags = flags;
	a->fn = fn;
	a->arg = arg;
	loop_work_init(&a->work, answer);
	loop_defer(e->loop, &a->work);
}

void rig_init(struct rig *g)
{
	int rc;

	memset(g, 0, sizeof(*g));
	g->env.loop = loop_new();
	if (!g->env.loop)
		err(1, "loop_new");
	rc = io_queue_new(g->env.loop, 64, &g->env.io);
	if (rc)
		errx(1, "io_queue_new: %s", strerror(-rc));
	g->env.workers = workers_new(g->env.loop, 4);
	if (!g->env.workers)
		err(1, "workers_new");
	g->env.name = "rig";
	g->env.file_get = file_get;
	g->open_file = open_default;
	g->pool = td_pool_new(RIG_DEPTH, 0);
	if (!g->pool)
		errx(1, "td_pool_new");
}

void rig_free(struct rig *g)
{
	td_pool_free(g->pool);
	workers_free(g->env.workers);
	io_queue_free(g->env.io);
	loop_free(g->env.loop);
	last = NULL;
}

const char *rig_why(void)
{
	return parse_why[0] || !last || !last->tree ? parse_why :
	       td_tree_why(last->tree);
}

void rig_abandon(struct rig *g)
{
	struct td_env env = g->env;

	rig_init(g);
	g->env.name = env.name;
	g->env.store = env.store;
	g->env.secrets = env.secrets;
	g->env.n_secrets = env.n_secrets;
	g->env.redo = env.redo;
}

struct waiting {
	struct loop *loop;
	bool done;
	int err;
};

static void waited(struct td_req *r, int rc)
{
	struct waiting *w = r->owner;

	w->done = true;
	w->err = rc;
	loop_stop(w->loop);
}

void rig_run(struct rig *g, const bool *flag)
{
	while (!*flag && !g->gone)
		loop_run(g->env.loop);
}

static int control(struct rig *g, void (*op)(struct td_tree *, struct td_req *),
		   unsigned flags, uint64_t length)
{
	struct waiting w = { .loop = g->env.loop };
	struct td_req r = { .done = waited, .owner = &w, .flags = flags,
			    .length = length };

	op(g->tree, &r);
	rig_run(g, &w.done);
	return g->gone ? -EINTR : w.err;
}

int rig_open(struct rig *g, const char *spec, unsigned flags)
{
	int rc;

	last = g;
	rc = td_tree_new(&g->env, spec, flags, &g->tree, parse_why,
			 sizeof(parse_why));
	if (rc)
		return rc;
	rc = control(g, td_tree_open, 0, 0);
	if (g->gone)
		return rc;
	if (rc) {
		snprintf(parse_why, sizeof(parse_why), "%s",
			 td_tree_why(g->tree));
		td_tree_free(g->tree);
		g->tree = NULL;
		return rc;
	}
	rc = td_pool_bind(g->pool, g->tree);
	if (rc)
		errx(1, "td_pool_bind");
	return 0;
}

int rig_close(struct rig *g)
{
	int rc = control(g, td_tree_close, 0, 0);

	if (g->gone)
		return rc;
	td_tree_free(g->tree);
	g->tree = NULL;
	return rc;
}

int rig_resize(struct rig *g, uint64_t bytes)
{
	return control(g, td_tree_resize, 0, bytes);
}

int rig_shrink(struct rig *g, uint64_t bytes)
{
	return control(g, td_tree_resize, TD_REQ_SHRINK, bytes);
}

struct td_req *rig_start(struct rig *g, enum td_op op, unsigned flags,
			 uint64_t off, uint64_t len, struct iovec *iov,
			 unsigned iovcnt, td_done_fn *done, void *owner)
{
	struct td_req *r = td_pool_get(g->pool);

	if (!r)
		errx(1, "more than %d requests", RIG_DEPTH);
	r->op = op;
	r->flags = flags;
	r->offset = off;
	r->length = len;
	r->iov = iov;
	r->iovcnt = iovcnt;
	r->done = done;
	r->owner = owner;
	td_submit(td_tree_root(g->tree), r);
	return r;
}

int rig_iov(struct rig *g, enum td_op op, unsigned flags, uint64_t off,
	    struct iovec *iov, unsigned iovcnt)
{
	struct waiting w = { .loop = g->env.loop };
	struct td_req *r;
	uint64_t len = 0;

	for (unsigned i = 0; i < iovcnt; i++)
		len += iov[i].iov_len;
	r = rig_start(g, op, flags, off, len, iov, iovcnt, waited, &w);
	rig_run(g, &w.done);
	td_pool_put(g->pool, r);
	return w.err;
}

int rig_io(struct rig *g, enum td_op op, unsigned flags, uint64_t off,
	   uint64_t len, void *buf)
{
	struct waiting w = { .loop = g->env.loop };
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct td_req *r = rig_start(g, op, flags, off, len, buf ? &iov : NULL,
				     buf ? 1 : 0, waited, &w);

	rig_run(g, &w.done);
	td_pool_put(g->pool, r);
	return w.err;
}

static void one_done(struct td_req *r, int err)
{
	struct rig_all *a = r->owner;

	if (!err)
		a->good++;
	else if (!a->failed++)
		a->err = err;
	else if (err != a->err)
		a->err = -EDOM;
	td_pool_put(a->g->pool, r);
	if (--a->due)
		return;
	a->done = true;
	loop_stop(a->g->env.loop);
}

void rig_all_add(struct rig_all *a, enum td_op op, unsigned flags, uint64_t off,
		 uint64_t len, struct iovec *iov, unsigned iovcnt)
{
	a->due++;
	rig_start(a->g, op, flags, off, len, iov, iovcnt, one_done, a);
}

void rig_all_wait(struct rig_all *a)
{
	if (a->due)
		rig_run(a->g, &a->done);
	a->done = false;
}

int rig_extents(struct rig *g, uint64_t off, uint64_t len, struct td_extents *x)
{
	struct waiting w = { .loop = g->env.loop };
	struct td_req *r = td_pool_get(g->pool);

	*r = (struct td_req){ .op = TD_OP_EXTENTS, .offset = off, .length = len,
			      .extents = x, .done = waited, .owner = &w,
			      .ctx = r->ctx };
	x->n = 0;
	td_submit(td_tree_root(g->tree), r);
	rig_run(g, &w.done);
	td_pool_put(g->pool, r);
	return w.err;
}

const char *rig_dir(const char *below)
{
	char *dir;

	if (asprintf(&dir, "%s/drv.XXXXXX", below) < 0 || !mkdtemp(dir))
		err(1, "mkdtemp below %s", below);
	return dir;
}

void rig_dir_remove(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	if (rmdir(dir))
		warn("%s", dir);
	free((char *)dir);
}

const char *rig_file(const char *dir, const char *name, uint64_t bytes)
{
	static char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)bytes))
		err(1, "%s", path);
	close(fd);
	return path;
}

uint64_t rig_seed(void)
{
	const char *s = getenv("SEED");
	uint64_t seed = s && *s ? strtoull(s, NULL, 0) : clock_ns();

	printf("SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

uint64_t rig_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

void rig_fill(uint64_t *state, void *buf, uint64_t len)
{
	uint64_t i = 0;

	for (; i + 8 <= len; i += 8) {
		uint64_t v = rig_random(state);

		memcpy((char *)buf + i, &v, 8);
	}
	for (; i < len; i++)
		((char *)buf)[i] = (char)rig_random(state);
}

struct rig_group group;

int rig_group_begin(void **state)
{
	const char *tmp = getenv("TMPDIR");

	(void)state;
	group.seed = rig_seed();
	group.dir = rig_dir(tmp ? tmp : "/tmp");
	return 0;
}

int rig_group_end(void **state)
{
	(void)state;
	rig_dir_remove(group.dir);
	return 0;
}
