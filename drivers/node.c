/* node.c - the tree of nodes: submission, completion, emulation.
 *
 * I1  A request completes once: td_complete() moves INFLIGHT to DONE (asserted),
 *     and only run_done() moves it on, from the loop.
 * I2  r->node is the node that has it; r->top is where it was submitted.  When
 *     they differ, the nodes between have passed it on, and each keeps the
 *     completion that it replaced in its frame.
 * I3  What a driver did not declare never reaches it: dispatch() is the only
 *     place that calls submit, and the only place that emulates.
 * I4  A filter's effective capabilities are never more than its child's.  A
 *     format's are its own.
 */
#include "node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drivers.h"
#include "loop/loop.h"

/* What the core keeps in a request for each node, just below td_ctx(). */
struct frame {
	td_done_fn *done;	/* what td_pass() replaced */
	td_done_fn *step;	/* emulation: what follows, or NULL */
	enum td_op op;		/* emulation: what the request really is */
	unsigned flags;
	uint64_t offset, length, pos;
	struct iovec *iov;
	unsigned iovcnt;
	struct iovec chunk;	/* of zeroes */
};

struct td_tree {
	struct td_env *env;
	unsigned nr;
	unsigned inflight;
	unsigned asked;		/* of them, given to the root: not a format's own */
	unsigned stage;		/* open, close: the node at work */
	int ctl_err;
	td_done_fn *ctl_done;	/* the control request's own */
	size_t ctx_size;
	void *ctl_ctx;
	struct td_req *done_head, **done_tail;
	struct loop_work work;
	unsigned guest;		/* the node whose disk the filters show: a format
				 * or a store; below it a format's file */
	struct td_tree *above;	/* whose image led to this one, or NULL */
	unsigned depth;		/* trees above */
	const char *chain;	/* see td_tree_chain() */
	char *spec;		/* cut into words; nodes point into it */
	char why[256];
	struct td_node nodes[];	/* from the top down */
};

/* Source of emulated zeroes; never written, so it costs one page. */
#define ZERO_CHUNK (256 * KiB)
static char zeroes[ZERO_CHUNK] __attribute__((aligned(4096)));

static struct frame *frame_of(const struct td_node *n, const struct td_req *r)
{
	return (struct frame *)((char *)td_ctx(n, r) - sizeof(struct frame));
}

/* Completion. */

void td_complete(struct td_req *r, int err)
{
	struct td_tree *t = r->node->tree;

	ASSERT(r->state == TD_REQ_INFLIGHT);	/* I1 */
	ASSERT(err <= 0);
	r->state = TD_REQ_DONE;
	r->err = err;
	r->next = NULL;
	*t->done_tail = r;
	t->done_tail = &r->next;
	loop_defer(t->env->loop, &t->work);
}

static void finish(struct td_req *r)
{
	struct td_node *n = r->node;
	struct frame *f = frame_of(n, r);
	td_done_fn *fn;

	if (f->step) {
		fn = f->step;
		f->step = NULL;
		r->state = TD_REQ_INFLIGHT;
		fn(r, r->err);
		return;
	}
	fn = r->done;
	if (n != r->top) {			/* I2: back to who passed it */
		r->node = n->up;
		r->done = frame_of(n->up, r)->done;
		r->state = TD_REQ_INFLIGHT;
	} else {
		r->state = TD_REQ_IDLE;
		n->tree->inflight--;
		n->tree->asked -= n == n->tree->nodes;
	}
	fn(r, r->err);
}

static void run_done(struct loop_work *w)
{
	struct td_tree *t = container_of(w, struct td_tree, work);
	struct td_req *r = t->done_head;

	/* Completions may free the tree (a close does): touch it no more. */
	t->done_head = NULL;
	t->done_tail = &t->done_head;
	while (r) {
		struct td_req *next = r->next;

		finish(r);
		r = next;
	}
}

/* Emulation.  Each is a list of steps on the request itself; its own fields are
 * kept in the frame and put back by emulated(). */

static void emulate(struct td_req *r, struct frame *f)
{
	f->op = r->op;
	f->flags = r->flags;
	f->offset = r->offset;
	f->length = r->length;
	f->iov = r->iov;
	f->iovcnt = r->iovcnt;
	f->pos = 0;
}

static void emulated(struct td_req *r, int err)
{
	struct frame *f = frame_of(r->node, r);

	r->op = f->op;
	r->flags = f->flags;
	r->offset = f->offset;
	r->length = f->length;
	r->iov = f->iov;
	r->iovcnt = f->iovcnt;
	td_complete(r, err);
}

/* FUA: write, then flush. */
static void fua_flush(struct td_req *r, int err)
{
	struct td_node *n = r->node;

	if (err) {
		emulated(r, err);
		return;
	}
	frame_of(n, r)->step = emulated;
	r->op = TD_OP_FLUSH;
	r->offset = r->length = 0;
	n->driver->submit(n, r);
}

/* What is to be durable is done without FUA, then flushed. */
static void flush_after(struct td_req *r, struct frame *f)
{
	emulate(r, f);
	r->flags &= ~TD_REQ_FUA;
	f->step = fua_flush;
}

/* Zeroes: written in chunks, then flushed if they must be durable. */
static void zero_chunk(struct td_req *r, int err)
{
	struct td_node *n = r->node;
	struct frame *f = frame_of(n, r);
	uint64_t len = min_u64(f->length - f->pos, ZERO_CHUNK);

	if (!err && len) {
		f->chunk = (struct iovec){ .iov_base = zeroes, .iov_len = len };
		r->op = TD_OP_WRITE;
		r->flags = 0;
		r->offset = f->offset + f->pos;
		r->length = len;
		r->iov = &f->chunk;
		r->iovcnt = 1;
		f->pos += len;
		f->step = zero_chunk;
		n->driver->submit(n, r);
		return;
	}
	if (!err && (f->flags & TD_REQ_FUA))
		fua_flush(r, 0);
	else
		emulated(r, err);
}

/* I3: to the driver, or emulate, or refuse. */
static void dispatch(struct td_node *n, struct td_req *r)
{
	struct frame *f = frame_of(n, r);
	uint32_t caps = n->caps;

	f->step = NULL;
	switch (r->op) {
	case TD_OP_READ:
		break;
	case TD_OP_WRITE:
		if (!(caps & TD_CAP_WRITE)) {
			td_complete(r, -EROFS);
			return;
		}
		if ((r->flags & TD_REQ_FUA) && !(caps & TD_CAP_FUA))
			flush_after(r, f);
		break;
	case TD_OP_FLUSH:
		if (!(caps & TD_CAP_FLUSH)) {
			td_complete(r, caps & TD_CAP_WRITE ? -EOPNOTSUPP : 0);
			return;
		}
		break;
	case TD_OP_DISCARD:
		if (!(caps & TD_CAP_DISCARD)) {
			td_complete(r, caps & TD_CAP_WRITE ? -EOPNOTSUPP : -EROFS);
			return;
		}
		if (r->flags & TD_REQ_FUA)	/* no store has this in one */
			flush_after(r, f);
		break;
	case TD_OP_ZEROES:
		if (!(caps & TD_CAP_WRITE)) {
			td_complete(r, -EROFS);
			return;
		}
		if ((r->flags & TD_REQ_FAST) && !(caps & TD_CAP_FAST_ZERO)) {
			td_complete(r, -EOPNOTSUPP);
			return;
		}
		if (!(caps & TD_CAP_ZEROES)) {
			emulate(r, f);
			zero_chunk(r, 0);
			return;
		}
		if ((r->flags & TD_REQ_FUA) && !(caps & TD_CAP_FUA))
			flush_after(r, f);
		break;
	case TD_OP_EXTENTS:
		if (!(caps & TD_CAP_EXTENTS)) {
			td_extent_add(r->extents, r->length, 0);
			td_complete(r, 0);
			return;
		}
		break;
	default:
		ASSERT(!"a control operation is not submitted");
	}
	n->driver->submit(n, r);
}

static void take(struct td_node *n, struct td_req *r)
{
	r->node = r->top = n;
	n->tree->inflight++;
	n->tree->asked += n == n->tree->nodes;
}

void td_submit(struct td_node *n, struct td_req *r)
{
	ASSERT(r->state == TD_REQ_IDLE && r->ctx);
	ASSERT(r->op == TD_OP_FLUSH || range_ok(r->offset, r->length, n->size));
	r->state = TD_REQ_INFLIGHT;
	take(n, r);
	dispatch(n, r);
}

void td_grow(struct td_node *n, struct td_req *r)
{
	ASSERT(r->state == TD_REQ_IDLE && r->ctx && n->driver->resize);
	r->op = TD_OP_RESIZE;
	r->state = TD_REQ_INFLIGHT;
	take(n, r);
	frame_of(n, r)->step = NULL;
	n->driver->resize(n, r);
}

void td_pass(struct td_node *n, struct td_req *r, td_done_fn *done)
{
	ASSERT(r->state == TD_REQ_INFLIGHT && r->node == n);
	frame_of(n, r)->done = r->done;
	r->done = done;
	r->node = n->child;
	dispatch(n->child, r);
}

/* What drivers say of themselves. */

bool td_is_top(const struct td_node *n)
{
	return !n->tree->above;
}

/* I4: recompute from n up. */
static void caps_update(struct td_node *n)
{
	for (; n; n = n->up) {
		n->caps = n->own_caps;
		if (n->driver->kind == TD_FILTER)
			n->caps &= n->child->caps;
		if (n->flags & TD_NODE_RDONLY)
			n->caps &= TD_CAP_EXTENTS | TD_CAP_FLUSH | TD_CAP_RESIZE;
	}
}

void td_set_caps(struct td_node *n, uint32_t caps)
{
	n->own_caps = caps;
	caps_update(n);
}

void td_set_geometry(struct td_node *n, uint64_t size, uint32_t phys)
{
	ASSERT(is_aligned(size, 512) && is_pow2(phys) && phys >= 512);
	n->size = size;
	if (n->phys != phys)	/* a worker changes the size alone */
		n->phys = phys;
}

int td_set_identity(struct td_node *n, uint64_t dev, uint64_t ino)
{
	n->dev = dev;
	n->ino = ino;
	for (const struct td_tree *t = n->tree->above; t; t = t->above) {
		const struct td_node *o = &t->nodes[t->nr - 1];

		if (o->dev == dev && o->ino == ino) {
			td_err(n, "%s: this chain of images comes back to the same "
			       "file", n->arg);
			return -ELOOP;
		}
	}
	return 0;
}

static int blocking(struct td_node *n, enum td_op op, uint64_t off, void *buf,
		    size_t len)
{
	return n->driver->blocking ? n->driver->blocking(n, op, off, buf, len) :
				     -EOPNOTSUPP;
}

int td_blocking_read(struct td_node *n, uint64_t off, void *buf, size_t len)
{
	return blocking(n, TD_OP_READ, off, buf, len);
}

int td_blocking_write(struct td_node *n, uint64_t off, const void *buf, size_t len)
{
	ASSERT(range_ok(off, len, n->size));
	return blocking(n, TD_OP_WRITE, off, (void *)buf, len);
}

int td_blocking_zeroes(struct td_node *n, uint64_t off, uint64_t len)
{
	int err = 0;

	for (uint64_t done = 0, part; !err && done < len; done += part) {
		part = min_u64(len - done, ZERO_CHUNK);
		err = td_blocking_write(n, off + done, zeroes, part);
	}
	return err;
}

int td_blocking_flush(struct td_node *n)
{
	return blocking(n, TD_OP_FLUSH, 0, NULL, 0);
}

int td_blocking_size(struct td_node *n, uint64_t size)
{
	return blocking(n, TD_OP_RESIZE, size, NULL, 0);
}

__attribute__((format(printf, 3, 0)))
static void node_say(const struct td_node *n, enum log_level level,
		     const char *fmt, va_list ap)
{
	char text[sizeof(n->tree->why)];

	vsnprintf(text, sizeof(text), fmt, ap);
	log_write(level, "%s: %s", n->driver->name, text);
	if (level == LOG_LVL_ERR)
		memcpy(n->tree->why, text, sizeof(text));
}

void td_err(const struct td_node *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	node_say(n, LOG_LVL_ERR, fmt, ap);
	va_end(ap);
}

void td_err_told(const struct td_node *n, const char *why)
{
	snprintf(n->tree->why, sizeof(n->tree->why), "%s", why);
}

void td_warn(const struct td_node *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	node_say(n, LOG_LVL_WARN, fmt, ap);
	va_end(ap);
}

/* Trees. */

struct word {
	const struct td_driver *driver;
	const char *arg;
};

/* One word of the spec: NAME[:ARG], a filter's up to '|'.  0, or -errno and a
 * reason; *s is moved behind the word. */
static int parse_word(struct word *n, char **s, char *why, size_t why_len)
{
	size_t len = strcspn(*s, ":|");
	char *arg = *s + len, *end;

	n->driver = td_driver_find(*s, len);
	if (!n->driver) {
		snprintf(why, why_len, "no disk type '%.*s' (see tapdisk --features)",
			 (int)(len > 32 ? 32 : len), *s);
		return -ENOENT;
	}
	if (n->driver->kind != TD_FILTER) {
		if (*arg != ':' || !arg[1]) {
			snprintf(why, why_len, "'%s' needs a name: %s",
				 n->driver->name, n->driver->help);
			return -EINVAL;
		}
		n->arg = arg + 1;
		*s = NULL;
		return 0;
	}
	end = strchr(arg, '|');
	if (!end || !end[1]) {
		snprintf(why, why_len, "'%s' is a filter: it needs '|' and what is "
			 "below it, as in log:|aio:/path", n->driver->name);
		return -EINVAL;
	}
	n->arg = arg == end ? end : arg + 1;	/* "NAME|": no options */
	*end = '\0';
	*s = end + 1;
	return 0;
}

static unsigned count_words(const char *spec)
{
	unsigned n = 1;

	for (; *spec && *spec != '\n'; spec++)
		n += *spec == '|';
	return n;
}

/* The node below the last one, or the first. */
static int add_node(struct td_tree *t, const struct td_driver *d, const char *arg,
		    unsigned flags)
{
	struct td_node *n = &t->nodes[t->nr++];

	n->driver = d;
	n->arg = arg;
	n->tree = t;
	n->env = t->env;
	n->flags = flags;
	n->phys = n->whole = 512;
	t->ctx_size += align_up(sizeof(struct frame), 16);
	n->ctx_off = t->ctx_size;
	t->ctx_size += align_up(d->req_ctx, 16);
	if (n > t->nodes) {
		n[-1].child = n;
		n->up = n - 1;
	}
	if (d->node_ctx) {
		n->priv = calloc(1, d->node_ctx);
		if (!n->priv)
			return -ENOMEM;
	}
	return 0;
}

static const struct td_driver *file_store(const struct td_env *e)
{
	return e->store ? e->store : &td_file;
}

/* The nodes that t->spec names, first line only; the rest is the chain. */
static int add_nodes(struct td_tree *t, unsigned max, unsigned flags, char *why,
		     size_t why_len)
{
	char *s = t->spec, *line = strchr(s, '\n');
	int err = 0;

	if (line)
		*line = '\0';
	if (line || (t->above && t->above->chain))
		t->chain = line ? line + 1 : "";
	while (s && !err) {
		struct word w;

		if (t->nr == max) {
			snprintf(why, why_len, "more than %u nodes in one disk",
				 TD_TREE_DEPTH);
			return -E2BIG;
		}
		err = parse_word(&w, &s, why, why_len);
		if (!err && w.driver == &td_file)
			w.driver = file_store(t->env);
		if (!err)
			err = add_node(t, w.driver, w.arg, flags);
	}
	if (err)
		return err;
	t->guest = t->nr - 1;
	if (line && *t->chain && t->nodes[t->guest].driver->kind != TD_FORMAT) {
		snprintf(why, why_len, "'%s' has no backing file",
			 t->nodes[t->guest].driver->name);
		return -EINVAL;
	}
	if (t->nodes[t->guest].driver->kind == TD_FORMAT)
		err = add_node(t, file_store(t->env), t->nodes[t->guest].arg,
			       flags);
	return err;
}

/* A tree without nodes yet; NULL: no memory. */
static struct td_tree *tree_alloc(struct td_env *e, struct td_tree *above,
				  const char *spec, unsigned max)
{
	struct td_tree *t = calloc(1, sizeof(*t) + max * sizeof(t->nodes[0]));

	if (!t)
		return NULL;
	t->env = e;
	t->above = above;
	t->depth = above ? above->depth + 1 : 0;
	t->done_tail = &t->done_head;
	loop_work_init(&t->work, run_done);
	t->spec = strdup(spec);
	if (t->spec)
		return t;
	free(t);
	return NULL;
}

/* Its nodes are there, or err. */
static int tree_made(struct td_tree *t, int err, struct td_tree **out)
{
	if (!err) {
		t->ctl_ctx = calloc(1, t->ctx_size);
		if (!t->ctl_ctx)
			err = -ENOMEM;
	}
	if (err)
		td_tree_free(t);
	else
		*out = t;
	return err;
}

static int tree_new(struct td_env *e, struct td_tree *above, const char *spec,
		    unsigned flags, struct td_tree **out, char *why, size_t why_len)
{
	unsigned max = count_words(spec);
	struct td_tree *t;
	int err;

	why[0] = '\0';
	if (max > TD_TREE_DEPTH)
		max = TD_TREE_DEPTH;
	t = tree_alloc(e, above, spec, max + 1);	/* and a format's file */
	if (!t)
		return -ENOMEM;
	err = add_nodes(t, max, flags, why, why_len);
	if (!err && t->depth > TD_CHAIN_MAX) {
		snprintf(why, why_len, "more than %u images in one chain",
			 TD_CHAIN_MAX);
		err = -ELOOP;
	}
	return tree_made(t, err, out);
}

int td_tree_store(struct td_node *n, const char *path, unsigned flags,
		  struct td_tree **out)
{
	struct td_tree *t = tree_alloc(n->env, n->tree, path, 1);

	if (!t)
		return -ENOMEM;
	return tree_made(t, add_node(t, file_store(t->env), t->spec, flags), out);
}

int td_tree_new(struct td_env *e, const char *spec, unsigned flags,
		struct td_tree **t, char *why, size_t why_len)
{
	return tree_new(e, NULL, spec, flags, t, why, why_len);
}

int td_tree_below(struct td_node *n, const char *spec, unsigned flags,
		  struct td_tree **t, char *why, size_t why_len)
{
	return tree_new(n->env, n->tree, spec, flags, t, why, why_len);
}

const char *td_tree_chain(const struct td_tree *t)
{
	return t->chain;
}

void td_tree_free(struct td_tree *t)
{
	ASSERT(!t->inflight && !t->done_head);
	for (unsigned i = 0; i < t->nr; i++)
		free(t->nodes[i].priv);
	loop_work_cancel(&t->work);
	free(t->ctl_ctx);
	free(t->spec);
	free(t);
}

struct td_node *td_tree_root(const struct td_tree *t)
{
	return (struct td_node *)&t->nodes[0];
}

size_t td_tree_ctx_size(const struct td_tree *t)
{
	return t->ctx_size;
}

unsigned td_tree_inflight(const struct td_tree *t)
{
	return t->asked;
}

const char *td_tree_why(const struct td_tree *t)
{
	return t->why;
}

/* Control requests visit the nodes one after another; each visit is a request
 * of its own to finish(), and the owner's `done` is kept aside. */

static void ctl_begin(struct td_tree *t, struct td_req *r)
{
	ASSERT(r->state == TD_REQ_IDLE);
	r->ctx = t->ctl_ctx;
	t->ctl_done = r->done;
	t->ctl_err = 0;
}

static void ctl_end(struct td_tree *t, struct td_req *r, int err)
{
	r->done = t->ctl_done;
	r->ctx = NULL;
	r->done(r, err);	/* we run from the loop: see finish() */
}

static void ctl_visit(struct td_tree *t, struct td_req *r, unsigned i,
		      void (*slot)(struct td_node *, struct td_req *),
		      td_done_fn *done)
{
	struct td_node *n = &t->nodes[i];

	t->stage = i;
	r->state = TD_REQ_INFLIGHT;
	take(n, r);
	r->done = done;
	frame_of(n, r)->step = NULL;
	slot(n, r);
}

static void close_step(struct td_req *r, int err)
{
	struct td_tree *t = r->node->tree;

	if (err && !t->ctl_err)
		t->ctl_err = err;
	if (t->stage + 1 < t->nr)
		ctl_visit(t, r, t->stage + 1, t->nodes[t->stage + 1].driver->close,
			  close_step);
	else
		ctl_end(t, r, t->ctl_err);
}

static void open_step(struct td_req *r, int err)
{
	struct td_tree *t = r->node->tree;
	struct td_node *n;

	if (err) {
		t->ctl_err = err;
		if (t->stage + 1 < t->nr)	/* close what was opened below */
			ctl_visit(t, r, t->stage + 1,
				  t->nodes[t->stage + 1].driver->close, close_step);
		else
			ctl_end(t, r, err);
		return;
	}
	ASSERT(is_aligned(r->node->size, 512));
	if (!t->stage) {
		ctl_end(t, r, 0);
		return;
	}
	n = &t->nodes[t->stage - 1];
	n->size = n->child->size;
	n->phys = n->child->phys;
	n->whole = n->child->whole;
	td_set_caps(n, n->driver->caps);
	ctl_visit(t, r, t->stage - 1, n->driver->open, open_step);
}

void td_tree_open(struct td_tree *t, struct td_req *r)
{
	struct td_node *n = &t->nodes[t->nr - 1];

	ctl_begin(t, r);
	r->op = TD_OP_OPEN;
	td_set_caps(n, n->driver->caps);
	ctl_visit(t, r, t->nr - 1, n->driver->open, open_step);
}

void td_tree_close(struct td_tree *t, struct td_req *r)
{
	ASSERT(!t->asked);
	ctl_begin(t, r);
	r->op = TD_OP_CLOSE;
	ctl_visit(t, r, 0, t->nodes[0].driver->close, close_step);
}

/* Resize goes from the bottom up, as open does; a filter without a slot of its
 * own follows its child. */
static void resize_step(struct td_req *r, int err)
{
	struct td_tree *t = r->node->tree;
	unsigned i;

	for (i = t->stage; !err && i > 0; i--) {
		struct td_node *n = &t->nodes[i - 1];

		n->size = n->child->size;
		n->phys = n->child->phys;
		if (n->driver->resize) {
			ctl_visit(t, r, i - 1, n->driver->resize, resize_step);
			return;
		}
	}
	ctl_end(t, r, err);
}

void td_tree_resize(struct td_tree *t, struct td_req *r)
{
	ASSERT(t->nodes[0].caps & TD_CAP_RESIZE);
	ctl_begin(t, r);
	r->op = TD_OP_RESIZE;
	ctl_visit(t, r, t->guest, t->nodes[t->guest].driver->resize, resize_step);
}

static void flush_step(struct td_req *r, int err)
{
	ctl_end(r->node->tree, r, err);
}

void td_tree_flush(struct td_tree *t, struct td_req *r)
{
	ctl_begin(t, r);
	r->op = TD_OP_FLUSH;
	r->flags = 0;
	r->done = flush_step;
	td_submit(&t->nodes[0], r);
}

int td_driver_check(const struct td_driver *d)
{
	if (d->abi != TD_DRIVER_ABI)
		return -EPROTO;
	if (!d->name || !d->help || !d->open || !d->submit || !d->close ||
	    ((d->caps & TD_CAP_RESIZE) && d->kind != TD_FILTER && !d->resize))
		return -EINVAL;
	return 0;
}
