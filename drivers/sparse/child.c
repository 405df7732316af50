/* child.c - transfers with the files of an image and with its parent: requests
 * from two bounded pools, vectors cut from the guest's, buffers from a budget.
 *
 * Who waits here waits for somebody who needs nothing more than what he has: a
 * transfer ends by itself, and whoever holds a buffer asks for no second one
 * (reads of packed clusters have memory of their own).  So waiting ends.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sparse/sparse_priv.h"

#define BUF_MAX (32u << 20)	/* bytes of buffers, if there is more than one */

const uint8_t sparse_zeroes[ZERO_BLOCK] __attribute__((aligned(4096)));

int child_new(struct sparse *s)
{
	list_init(&s->child_wait);
	list_init(&s->parent_wait);
	list_init(&s->buf_wait);
	s->children = td_pool_new(CHILD_MAX, sizeof(struct child));
	if (!s->children || td_pool_bind(s->children, s->node->tree))
		return -ENOMEM;
	if (!s->parent || s->parent_sparse)
		return 0;
	s->parents = td_pool_new(PARENT_MAX, sizeof(struct child));
	if (!s->parents || td_pool_bind(s->parents, s->parent_tree))
		return -ENOMEM;
	return 0;
}

void child_free(struct sparse *s)
{
	if (s->children)
		td_pool_free(s->children);
	if (s->parents)
		td_pool_free(s->parents);
	s->children = s->parents = NULL;
}

static struct child *get(struct sparse *s, struct td_pool *p, struct task *t,
			 struct list *wait)
{
	struct td_req *r = td_pool_get(p);
	struct child *c;

	if (!r) {
		task_wait(t, wait);
		return NULL;
	}
	*(p == s->children ? &s->children_out : &s->parents_out) += 1;
	r->flags = 0;
	r->iov = NULL;
	r->iovcnt = 0;
	r->extents = NULL;
	c = td_pool_extra(p, r);
	c->s = s;
	c->r = r;
	c->file = NULL;
	return c;
}

struct child *child_get(struct sparse *s, struct task *t)
{
	return get(s, s->children, t, &s->child_wait);
}

struct child *child_get_parent(struct sparse *s, struct task *t)
{
	return get(s, s->parents, t, &s->parent_wait);
}

void child_put(struct child *c)
{
	struct sparse *s = c->s;
	struct list *wait = c->file ? &s->child_wait : &s->parent_wait, *e;

	*(c->file ? &s->children_out : &s->parents_out) -= 1;
	td_pool_put(c->file ? s->children : s->parents, c->r);
	e = list_pop(wait);
	if (e)
		task_ready(s, container_of(e, struct task, link));
}

static void child_done(struct td_req *r, int err)
{
	struct child *c = r->owner;

	/* Now, not before: a sync that began meanwhile has not covered it. */
	if (r->op == TD_OP_WRITE || r->op == TD_OP_ZEROES || r->op == TD_OP_DISCARD)
		c->file->unsynced = true;
	c->done(c, err);
}

static void fill_in(struct child *c, enum td_op op, uint64_t off, uint64_t len,
		    child_done_fn *done, void *owner)
{
	struct td_req *r = c->r;

	c->done = done;
	c->owner = owner;
	r->op = op;
	r->offset = off;
	r->length = len;
	r->iov = r->iovcnt ? c->iov : NULL;
	r->done = child_done;
	r->owner = c;
}

void child_submit(struct child *c, struct sparse_file *f, enum td_op op,
		  uint64_t off, uint64_t len, child_done_fn *done, void *owner)
{
	c->file = f;
	fill_in(c, op, off, len, done, owner);
	if (op == TD_OP_RESIZE)
		td_grow(f->node, c->r);
	else
		td_submit(f->node, c->r);
}

void child_submit_parent(struct child *c, enum td_op op, uint64_t off, uint64_t len,
			 child_done_fn *done, void *owner)
{
	fill_in(c, op, off, len, done, owner);
	td_submit(c->s->parent, c->r);
}

/* Vectors. */

uint64_t iov_zeroes(uint64_t len, struct iovec *to, unsigned max, unsigned *n)
{
	uint64_t got = 0;

	for (*n = 0; got < len && *n < max; (*n)++) {
		uint64_t take = min_u64(len - got, ZERO_BLOCK);

		to[*n] = (struct iovec){ (void *)sparse_zeroes, take };
		got += take;
	}
	return got;
}

/* Buffers. */

uint8_t *buf_get(struct sparse *s, uint64_t len, struct task *t)
{
	void *p;

	len = align_up(len, 4096);
	if (s->buf_used && s->buf_used + len > BUF_MAX) {
		task_wait(t, &s->buf_wait);
		return NULL;
	}
	if (posix_memalign(&p, 4096, len)) {
		/* What is out comes back and wakes us; if nothing is out there
		 * is no memory at all. */
		ASSERT(s->buf_used);
		task_wait(t, &s->buf_wait);
		return NULL;
	}
	s->buf_used += len;
	return p;
}

void buf_put(struct sparse *s, uint8_t *buf, uint64_t len)
{
	if (!buf)
		return;
	free(buf);
	s->buf_used -= align_up(len, 4096);
	tasks_wake(s, &s->buf_wait);
}
