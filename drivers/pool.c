/* pool.c - a fixed set of requests (see node.h).  One block of requests, one of
 * contexts; nothing is allocated between bind and free. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "node.h"

struct td_pool {
	unsigned nr, used;
	size_t stride;		/* request and its extra */
	char *reqs;
	char *ctx;
	struct td_req *free;
};

static struct td_req *req_at(const struct td_pool *p, unsigned i)
{
	return (struct td_req *)(p->reqs + i * p->stride);
}

struct td_pool *td_pool_new(unsigned n, size_t extra)
{
	struct td_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->nr = n;
	p->stride = align_up(sizeof(struct td_req), 16) + align_up(extra, 16);
	p->reqs = calloc(n, p->stride);
	if (!p->reqs) {
		free(p);
		return NULL;
	}
	for (unsigned i = n; i-- > 0;) {
		struct td_req *r = req_at(p, i);

		r->next = p->free;
		p->free = r;
	}
	return p;
}

int td_pool_bind(struct td_pool *p, const struct td_tree *t)
{
	size_t size = td_tree_ctx_size(t);
	char *ctx = calloc(p->nr, size);

	ASSERT(!p->used);
	if (!ctx)
		return -ENOMEM;
	free(p->ctx);
	p->ctx = ctx;
	for (unsigned i = 0; i < p->nr; i++)
		req_at(p, i)->ctx = ctx + i * size;
	return 0;
}

void td_pool_free(struct td_pool *p)
{
	ASSERT(!p->used);
	free(p->ctx);
	free(p->reqs);
	free(p);
}

struct td_req *td_pool_get(struct td_pool *p)
{
	struct td_req *r = p->free;

	if (r) {
		p->free = r->next;
		p->used++;
	}
	return r;
}

void td_pool_put(struct td_pool *p, struct td_req *r)
{
	ASSERT(r->state == TD_REQ_IDLE);
	r->next = p->free;
	p->free = r;
	p->used--;
}

void *td_pool_extra(struct td_pool *p, struct td_req *r)
{
	(void)p;
	return (char *)r + align_up(sizeof(struct td_req), 16);
}

unsigned td_pool_used(const struct td_pool *p)
{
	return p->used;
}
