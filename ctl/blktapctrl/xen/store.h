/* store.h - the connection to xenstored, in a thread of its own.
 *
 * libxenstore blocks, so the loop never calls it: it submits jobs, whose run() is
 * called in the thread and may touch only what the job owns, and whose done() is
 * called from the loop.  Watches that fire, and the connection's coming and
 * going, are told to the loop as well.
 *
 * I1  A job submitted ends exactly once; without a connection with -ENOTCONN.
 * I2  up() comes before any event of that connection, down() after the last; what
 *     was watched is no more then.  The thread connects again by itself.
 * I3  Events that nobody takes are bounded: too many become one, of path "".
 */
#ifndef CTL_XEN_STORE_H
#define CTL_XEN_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct store;			/* the thread's */

struct store_job {
	struct list link;
	int (*run)(struct store_job *j, struct store *s);
	void (*done)(struct store_job *j);
	int err;		/* run()'s, or -ENOTCONN */
};

struct store_ops {
	void (*up)(void);
	void (*down)(void);
	/* Valid during the call.  path "": anything may have changed. */
	void (*event)(const char *path, const char *token);
};

/* Might there be a xenstored on this host?  Looks at names alone. */
bool store_likely(void);
/* From the loop; the thread ends with the process.  0 or -errno. */
int store_start(const struct store_ops *ops);
bool store_is_up(void);
void store_submit(struct store_job *j);

/* For run().  A transaction: fn() may be called several times, since others may
 * come between; it answers 0 (commit) or -errno (nothing is changed).  -EAGAIN:
 * others always came between. */
int store_transaction(struct store *s, int (*fn)(struct store *s, void *arg),
		      void *arg);
/* NULL: it is not there.  Good until the next store_read().  A value with NULs in
 * it becomes "?". */
const char *store_read(struct store *s, const char *path);
int store_write(struct store *s, const char *path, const char *value);
int store_remove(struct store *s, const char *path);
int store_chmod(struct store *s, const char *path, unsigned owner, unsigned reader);
int store_watch(struct store *s, const char *path, const char *token);
void store_unwatch(struct store *s, const char *path, const char *token);
/* Calls fn for each name in path.  0 or -errno. */
int store_list(struct store *s, const char *path,
	       void (*fn)(void *arg, const char *name), void *arg);

#endif
