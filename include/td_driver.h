/* td_driver.h - what a driver is, and what it may call.
 *
 * A driver turns requests on a node into something: a store (a file, memory)
 * ends them, a filter passes them to its child, a format maps them.  One
 * driver is one constant table, named once in drivers/drivers.c and checked
 * once at start-up by td_driver_check(): required slots are never tested for
 * NULL later.
 *
 * The rules a driver lives by:
 *  - Each request given to open, close, resize or submit ends in exactly one
 *    td_complete() or td_pass(), at any time, also before the call returns.
 *  - submit sees only what it declared in `caps`; the core emulates or refuses
 *    the rest.  Ranges lie inside node->size, and read and write requests are
 *    aligned to nothing: a store that needs alignment does it itself.
 *  - It never blocks: file names go to td_file_get(), system calls that may
 *    sleep to a worker (lib/loop/worker.h).
 *  - It keeps no global state: what it needs is in node->priv (zeroed) and in
 *    td_ctx().
 *  - Messages go through td_err() and td_warn(), once, by whoever knows most.
 */
#ifndef TD_DRIVER_H
#define TD_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "td_req.h"

struct io_queue;
struct json_t;
struct loop;
struct workers;

#define TD_DRIVER_ABI 1u

enum td_cap {
	TD_CAP_WRITE	= 1u << 0,
	TD_CAP_FLUSH	= 1u << 1,
	TD_CAP_FUA	= 1u << 2, /* else: write, then flush */
	TD_CAP_DISCARD	= 1u << 3, /* else: refused, and not offered */
	TD_CAP_ZEROES	= 1u << 4, /* else: written out, except TD_REQ_FAST */
	TD_CAP_FAST_ZERO = 1u << 5, /* zeroes are never slow writes */
	TD_CAP_EXTENTS	= 1u << 6, /* else: everything is data */
	TD_CAP_RESIZE	= 1u << 7, /* else: -EOPNOTSUPP */
	TD_CAP_ALL	= (1u << 8) - 1,
};

enum td_kind {
	TD_STORE,		/* ends requests; the rest of the spec names it */
	TD_FILTER,		/* one child; the spec is OPTIONS|CHILD */
	TD_FORMAT,		/* maps the disk into a file: the rest of the spec
				 * names the file, which the core opens below it
				 * as a store.  Other files of the image and its
				 * backing file are trees of their own. */
};

enum td_node_flag {
	TD_NODE_RDONLY	= 1u << 0, /* down to the open flags */
	TD_NODE_NO_DIRECT = 1u << 1, /* through the page cache */
};

struct td_driver {
	uint32_t abi;		/* TD_DRIVER_ABI */
	enum td_kind kind;
	const char *name;	/* the TYPE of TYPE:/path */
	const char *help;	/* one line: how to name it and what it does */
	const char *const *aliases;	/* optional, NULL-ended other names */
	uint32_t caps;		/* TD_CAP_*; a filter's are masked by its child's */
	size_t node_ctx;	/* bytes of node->priv, zeroed */
	size_t req_ctx;		/* bytes of td_ctx() in every request, not zeroed */
	bool exact_end;		/* of a format: its file's length means something, so
				 * the store must not round it up to whole blocks */

	/* Required.  open: parse node->arg, set geometry, complete.  A filter is
	 * opened after its child and closed before it. */
	void (*open)(struct td_node *n, struct td_req *r);
	void (*submit)(struct td_node *n, struct td_req *r);
	void (*close)(struct td_node *n, struct td_req *r);

	/* Optional. */
	void (*resize)(struct td_node *n, struct td_req *r); /* TD_CAP_RESIZE */
	void (*stats)(struct td_node *n, struct json_t *into); /* adds members */
	/* Stores that formats may use: see td_blocking(). */
	int (*blocking)(struct td_node *n, enum td_op op, uint64_t off, void *buf,
			size_t len);
};

/* A node is one opened driver.  Drivers read the upper part; they set geometry
 * in open and resize through td_set_geometry(). */
struct td_node {
	const struct td_driver *driver;
	const char *arg;	/* store: all after "TYPE:"; filter: its options */
	unsigned flags;		/* TD_NODE_* */
	struct td_node *child;	/* filter: below it; format: its file; else NULL */
	struct td_env *env;	/* loop, queue, files: what drivers stand on */
	void *priv;		/* driver->node_ctx bytes */
	_Atomic uint64_t size;	/* bytes, a multiple of 512; a blocking slot in a
				 * worker may let it grow while others read */
	uint32_t phys;		/* physical block, bytes: a power of two >= 512 */
	uint32_t whole;		/* a write of such blocks, aligned, needs nothing of
				 * what was there: a power of two, bytes; a hint */
	uint32_t caps;		/* after td_set_caps() and the child's mask */

	/* The core's. */
	size_t ctx_off;		/* of this node's part in td_req.ctx */
	uint32_t own_caps;	/* as declared, before the child's mask */
	struct td_node *up;	/* the filter or format above, or NULL */
	uint64_t dev, ino;	/* of a store's file; 0: none */
	struct td_tree *tree;
	uint64_t changed_ns;	/* its ctime when it was opened, of this host's clock;
				 * 0: it cannot be told */
};

/* A passphrase or key, as its file had it (a newline at its end is no part of
 * it).  Whoever made it keeps it out of swap and core dumps and wipes it. */
struct td_secret {
	const unsigned char *bytes;
	size_t len;
};

/* What drivers stand on, given by the process (tapdisk or a tool).  Drivers
 * call loop and io functions with the two queues; the rest through td_*(). */
struct td_file {
	int fd;			/* owned by the receiver */
	int err;		/* 0, or -errno and fd is -1 */
	const char *why;	/* more than strerror when err, or NULL */
};
typedef void td_file_fn(void *arg, const struct td_file *f);

/* Memory that outlives this process, for whoever serves the disk after it: what
 * must not be lost with us.  redo_area.h says what is in it. */
struct td_redo {
	void *area;
	size_t bytes;		/* its head alone: no image with tables is opened */
	bool recover;		/* the open takes up what a process that died has left */
	bool unlocked;		/* and others could change its files since then */
};

struct td_env {
	struct loop *loop;
	struct io_queue *io;
	struct workers *workers;
	const char *name;	/* for messages: "vbd 12" */
	const struct td_driver *store;	/* of all files, raw or a format's; NULL: aio */
	const struct td_secret *secrets;	/* keys of encrypted images */
	unsigned n_secrets;
	/* The key of an image's data, which took a slow derivation from one of the
	 * secrets, or was one; as a secret it opens the image at once.  From any thread,
	 * while an open runs; copied before it returns.  NULL: nobody keeps it. */
	void (*key_found)(struct td_env *e, const struct td_secret *key);
	/* Of tools: what is opened for reading shows the disk as the snapshot inside the
	 * image with this id has it; not what lies below it.  NULL: as it is. */
	const char *snapshot;
	struct td_redo *redo;	/* NULL: what is in memory dies with us */
	/* Ask for a file by the name that the spec or an image gives.  The
	 * process may refuse, lock or broker it.  `fn` runs later, once, from
	 * the loop.  flags: TD_NODE_*. */
	void (*file_get)(struct td_env *e, const char *path, unsigned flags,
			 td_file_fn *fn, void *arg);
};

/* Complete r with 0 or -errno: it goes back to whoever gave it to us. */
void td_complete(struct td_req *r, int err);

/* Give r on to the child; `done` runs when the child has completed it, and must
 * end it by td_complete() (or pass it again).  A filter's whole plumbing. */
void td_pass(struct td_node *n, struct td_req *r, td_done_fn *done);

/* This node's part of r's context: req_ctx bytes, kept while r is ours.  What a
 * request before this one left in it is still there: fill in what is read. */
static inline void *td_ctx(const struct td_node *n, const struct td_req *r)
{
	return (char *)r->ctx + n->ctx_off;
}

/* size: bytes, rounded up by the driver to 512; phys: physical block size. */
void td_set_geometry(struct td_node *n, uint64_t size, uint32_t phys);
void td_set_caps(struct td_node *n, uint32_t caps);

/* No image above led to this one: it is what was asked for. */
bool td_is_top(const struct td_node *n);
/* A store says which file it is.  0, or -ELOOP after one td_err(): the file is
 * one of those that led here (a backing chain that comes back to itself). */
int td_set_identity(struct td_node *n, uint64_t dev, uint64_t ino);

/* Blocking I/O on a store, for a format's open, close and resize and for tools:
 * from a worker (or from where there is no loop), while nothing else of this
 * store is in flight.  Offsets and lengths need no alignment.
 *  read   behind the end of the store are zeroes
 *  write  inside the store: set the size first
 *  size   becomes the size of a regular file, in both directions
 * 0 or -errno. */
int td_blocking_read(struct td_node *n, uint64_t off, void *buf, size_t len);
int td_blocking_write(struct td_node *n, uint64_t off, const void *buf,
		      size_t len);
int td_blocking_zeroes(struct td_node *n, uint64_t off, uint64_t len);
int td_blocking_flush(struct td_node *n);
int td_blocking_size(struct td_node *n, uint64_t size);

/* One message about this node: who (the disk and driver), what, why. */
void td_err(const struct td_node *n, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void td_warn(const struct td_node *n, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Somebody below has told the reason: it is this node's too. */
void td_err_told(const struct td_node *n, const char *why);

/* 0, -EPROTO (other ABI) or -EINVAL (a required slot or name is missing). */
int td_driver_check(const struct td_driver *d);

#endif
