/* drv_rig.h - a real loop, I/O queue, workers and tree of nodes around a spec,
 * for unit tests of drivers: everything but the process.  Broken set-up ends
 * the program with a message. */
#ifndef TESTS_DRV_RIG_H
#define TESTS_DRV_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "node.h"
#include "td_driver.h"

#define RIG_DEPTH 64

struct rig {
	struct td_env env;	/* first: env->file_get finds the rig by it */
	struct td_tree *tree;
	struct td_pool *pool;
	int (*open_file)(struct rig *g, const char *path, unsigned flags);
	bool gone;		/* killed: nothing is waited for; see rig_abandon() */
};

/* loop, queue, workers. */
void rig_init(struct rig *g);
void rig_free(struct rig *g);
/* As a kill leaves it: never looked at again, and never freed. */
void rig_abandon(struct rig *g);

/* 0 or -errno; then td_tree_why() or the parser's reason is in rig_why(). */
int rig_open(struct rig *g, const char *spec, unsigned flags);
int rig_close(struct rig *g);
int rig_resize(struct rig *g, uint64_t bytes);
int rig_shrink(struct rig *g, uint64_t bytes);
const char *rig_why(void);

/* Run the loop until *flag, or until it is gone. */
void rig_run(struct rig *g, const bool *flag);

/* One request, waited for. */
int rig_io(struct rig *g, enum td_op op, unsigned flags, uint64_t off,
	   uint64_t len, void *buf);
int rig_iov(struct rig *g, enum td_op op, unsigned flags, uint64_t off,
	    struct iovec *iov, unsigned iovcnt);
int rig_extents(struct rig *g, uint64_t off, uint64_t len,
		struct td_extents *x);
#define rig_read(g, off, len, buf) rig_io(g, TD_OP_READ, 0, off, len, buf)
#define rig_write(g, off, len, buf) rig_io(g, TD_OP_WRITE, 0, off, len, buf)

/* A request of the pool, filled, not waited for: `done` runs from the loop and
 * must put it back. */
struct td_req *rig_start(struct rig *g, enum td_op op, unsigned flags,
			 uint64_t off, uint64_t len, struct iovec *iov,
			 unsigned iovcnt, td_done_fn *done, void *owner);

/* Several requests at once: { .g = rig }, add them, wait for all. */
struct rig_all {
	struct rig *g;
	unsigned due, good, failed;
	int err;		/* of all that failed; -EDOM: not of each the same */
	bool done;
};
void rig_all_add(struct rig_all *a, enum td_op op, unsigned flags, uint64_t off,
		 uint64_t len, struct iovec *iov, unsigned iovcnt);
void rig_all_wait(struct rig_all *a);

/* Scratch folders: rig_dir("/tmp") makes one and rig_dir_remove() takes it and
 * the files in it away. */
const char *rig_dir(const char *below);
void rig_dir_remove(const char *dir);
/* DIR/NAME of `bytes` bytes, sparse; in a static buffer. */
const char *rig_file(const char *dir, const char *name, uint64_t bytes);

/* Random numbers of a seed that is printed: SEED, or the clock. */
uint64_t rig_seed(void);
uint64_t rig_random(uint64_t *state);
void rig_fill(uint64_t *state, void *buf, uint64_t len);

/* Set-up and tear-down of a group of tests: a folder below TMPDIR, and a seed. */
extern struct rig_group {
	const char *dir;
	uint64_t seed;
} group;
int rig_group_begin(void **state);
int rig_group_end(void **state);

#endif
