/* node.h - trees of nodes: how the process above uses drivers.
 *
 * A spec "FILTER:OPTIONS|FILTER:OPTIONS|TYPE:PATH" makes a chain of nodes, the
 * first on top.  Only leading words that name a filter are split off at '|':
 * a path may contain anything but a newline.  A format brings one more node
 * below it, the store of its file.
 *
 * Further lines of a spec are the specs of the backing files, from the top down.
 * With them, names in images are not followed: the chain is what was given.
 *
 * What else a format needs (backing file, data file, extents) are trees of their
 * own, made below its node by td_tree_below().
 *
 * The tree's owner opens it, submits requests to its root, and closes it when
 * nothing is in flight; all three answer through the request's `done`.
 */
#ifndef NODE_H
#define NODE_H

#include "td_driver.h"

#define TD_TREE_DEPTH 64	/* nodes in a tree, at most */
#define TD_CHAIN_MAX 200	/* trees below one another: backing files */

struct td_tree;

/* Parse the spec and make the nodes.  0; -EINVAL, -ENOENT (no such type),
 * -E2BIG; `why` (of why_len bytes) then says what is wrong and what to do. */
int td_tree_new(struct td_env *e, const char *spec, unsigned flags,
		struct td_tree **t, char *why, size_t why_len);
/* The same, for a file that the image of node n names or needs. */
int td_tree_below(struct td_node *n, const char *spec, unsigned flags,
		  struct td_tree **t, char *why, size_t why_len);
/* One node alone: the store of a file by its path. */
int td_tree_store(struct td_node *n, const char *path, unsigned flags,
		  struct td_tree **t);
void td_tree_free(struct td_tree *t);		/* closed, or never opened */
/* The spec (all lines) of the backing file of t's image that the operator gave:
 * NULL: none was, the image decides; "": there must be none. */
const char *td_tree_chain(const struct td_tree *t);

/* Control requests: r needs op-specific fields, done and owner; its context is
 * the tree's.  One at a time; open and close with nothing else in flight. */
void td_tree_open(struct td_tree *t, struct td_req *r);	/* bottom up */
void td_tree_close(struct td_tree *t, struct td_req *r);	/* top down */
void td_tree_resize(struct td_tree *t, struct td_req *r);	/* r->length */
void td_tree_flush(struct td_tree *t, struct td_req *r);
struct td_node *td_tree_root(const struct td_tree *t);
/* Bytes that td_req.ctx must have, zeroed or not. */
size_t td_tree_ctx_size(const struct td_tree *t);
/* Requests that are below the root now. */
unsigned td_tree_inflight(const struct td_tree *t);
/* The reason of the last error, told by a driver with td_err(); "" if none. */
const char *td_tree_why(const struct td_tree *t);

/* Give r to n.  r is idle, filled and in range (asserted); what the driver has
 * not declared is emulated or answered with -EOPNOTSUPP, -EROFS. */
void td_submit(struct td_node *n, struct td_req *r);

/* Grow store n while it is at work: r->length is its new size, as for a resize.
 * For formats: their file. */
void td_grow(struct td_node *n, struct td_req *r);

/* A fixed set of requests with room for a tree's contexts and `extra` bytes of
 * the owner's own behind each.  Bind again after the tree has changed (all
 * requests idle). */
struct td_pool;
struct td_pool *td_pool_new(unsigned n, size_t extra);	/* NULL: no memory */
int td_pool_bind(struct td_pool *p, const struct td_tree *t);
void td_pool_free(struct td_pool *p);
struct td_req *td_pool_get(struct td_pool *p);		/* NULL: all in use */
void td_pool_put(struct td_pool *p, struct td_req *r);
void *td_pool_extra(struct td_pool *p, struct td_req *r);
unsigned td_pool_used(const struct td_pool *p);

#endif
