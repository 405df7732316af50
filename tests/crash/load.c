/* load.c - random requests, many in flight, on an open disk; reads are compared
 * with the model as they come.
 *
 * Offsets gather around a place that moves now and then: so clusters are met half
 * allocated, being allocated, just freed; and what overlaps is in flight together.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "crash.h"

#define SECTOR 512u
#define MAX_LEN (256 * KiB)

struct ticket {
	struct list link;
	struct load *l;
	uint32_t id;
	uint64_t begin;
	struct iovec iov;
	bool packed;
};

static uint64_t below(struct load *l, uint64_t n)
{
	return crash_random(l->c, n);
}

static uint64_t disk_bytes(struct load *l)
{
	return td_tree_root(l->c->g.tree)->size;
}

static void more(struct load *l);

static void done(struct td_req *r, int rc)
{
	struct ticket *t = r->owner;
	struct load *l = t->l;
	uint64_t now = mem_store_tick(l->m);
	bool refused = rc == -EOPNOTSUPP && (r->op == TD_OP_DISCARD || t->packed);

	if (l->m->dead)		/* nobody hears of it */
		return;
	list_del(&t->link);
	if (rc && !refused) {
		l->errors++;
		if (!l->may_fail)
			crash_wrong(l->c, "op %d of %llu+%llu failed: %s", r->op,
				    (unsigned long long)r->offset,
				    (unsigned long long)r->length,
				    strerror(-rc));
	}
	if (r->op == TD_OP_READ && !rc) {
		unsigned n = disk_model_read(l->model, r->offset,
					     t->iov.iov_base, r->length,
					     t->begin, now);

		if (n)
			crash_wrong(l->c, "%u wrong sectors read at %llu+%llu", n,
				    (unsigned long long)r->offset,
				    (unsigned long long)r->length);
	} else if (r->op != TD_OP_READ) {
		disk_model_end(l->model, t->id, rc, now);
	}
	td_pool_put(l->c->g.pool, r);
	free(t->iov.iov_base);
	free(t);
	l->inflight--;
	more(l);
}

static void place(struct load *l, struct td_req *r)
{
	uint64_t sectors = disk_bytes(l) / SECTOR, n = 1 + below(l, 8);
	uint64_t sizes[] = { 8, 128, 2 + below(l, 127), MAX_LEN / SECTOR };

	if (!below(l, 40))
		l->hot = below(l, sectors);
	if (!below(l, 4))
		n = 1 + below(l, sizes[below(l, ARRAY_SIZE(sizes))]);
	r->offset = (l->hot + below(l, below(l, 3) ? 512 : sectors)) % sectors;
	if (!below(l, 3))		/* whole clusters, of most sizes */
		r->offset = align_down(r->offset, below(l, 2) ? 8 : 128);
	n = min_u64(n, sectors - r->offset);
	r->offset *= SECTOR;
	r->length = n * SECTOR;
}

/* A request of the disk's own clusters, so that it can be stored packed. */
static void place_packed(struct load *l, struct td_req *r)
{
	uint64_t size = disk_bytes(l), unit = 64 * KiB;

	r->flags |= TD_REQ_PACK;
	r->offset = align_down(below(l, size), unit);
	r->length = min_u64(unit, size - r->offset);
}

static void next_fill(struct load *l, struct td_req *r)
{
	r->op = TD_OP_WRITE;
	r->offset = l->at;
	r->length = min_u64((1 + below(l, 64)) * SECTOR, disk_bytes(l) - l->at);
	l->at += r->length;
}

static void start(struct load *l)
{
	static const enum td_op ops[] = {
		TD_OP_READ, TD_OP_READ, TD_OP_READ, TD_OP_WRITE, TD_OP_WRITE,
		TD_OP_WRITE, TD_OP_WRITE, TD_OP_WRITE, TD_OP_WRITE, TD_OP_WRITE,
		TD_OP_ZEROES, TD_OP_DISCARD, TD_OP_DISCARD, TD_OP_FLUSH,
	};
	struct crash *c = l->c;
	struct ticket *t = calloc(1, sizeof(*t));
	struct td_req *r = td_pool_get(c->g.pool);

	*r = (struct td_req){ .op = ops[below(l, ARRAY_SIZE(ops))], .done = done,
			      .owner = t, .ctx = r->ctx };
	t->l = l;
	if (l->no_flush && r->op == TD_OP_FLUSH)
		r->op = TD_OP_WRITE;
	if (l->no_read)
		next_fill(l, r);
	else if (r->op != TD_OP_FLUSH)
		place(l, r);
	if (!l->no_read && c->pack && r->op == TD_OP_WRITE && !below(l, 6))
		place_packed(l, r);
	t->packed = r->flags & TD_REQ_PACK;
	if (r->op == TD_OP_DISCARD && below(l, 2))
		r->op = TD_OP_ZEROES;
	if ((r->op == TD_OP_WRITE || r->op == TD_OP_ZEROES) && !t->packed &&
	    !l->no_flush && !below(l, 24))
		r->flags |= TD_REQ_FUA;
	if (r->op == TD_OP_ZEROES && !below(l, 3))
		r->flags |= TD_REQ_NO_HOLE;
	t->begin = mem_store_tick(l->m);
	if (r->op != TD_OP_READ)
		t->id = disk_model_begin(l->model, r->op, r->flags, r->offset,
					 r->length, t->begin);
	if (r->op == TD_OP_READ || r->op == TD_OP_WRITE) {
		t->iov.iov_len = r->length;
		if (posix_memalign(&t->iov.iov_base, 4096, r->length))
			abort();
		memset(t->iov.iov_base, 0xee, r->length);
		r->iov = &t->iov;
		r->iovcnt = 1;
	}
	for (uint64_t i = 0; r->op == TD_OP_WRITE && i < r->length; i += SECTOR)
		disk_model_stamp(t->id, (r->offset + i) / SECTOR,
				 (char *)t->iov.iov_base + i);
	list_add(&l->tickets, &t->link);
	l->started++;
	l->inflight++;
	td_submit(td_tree_root(c->g.tree), r);
}

static bool over(struct load *l)
{
	return l->no_read ? l->at == disk_bytes(l) : l->started >= l->ops;
}

static void more(struct load *l)
{
	while (!over(l) && l->inflight < l->c->depth)
		start(l);
	if (!l->inflight) {
		l->idle = true;
		loop_stop(l->c->g.env.loop);
	}
}

void load_run(struct load *l)
{
	list_init(&l->tickets);
	l->idle = false;
	l->started = 0;
	more(l);
	rig_run(&l->c->g, &l->idle);
}

void load_abandon(struct load *l)
{
	uint64_t now = mem_store_tick(l->m);
	struct list *e;

	while ((e = list_pop(&l->tickets))) {
		struct ticket *t = container_of(e, struct ticket, link);

		if (t->id)
			disk_model_end(l->model, t->id, -EINTR, now);
	}
	l->inflight = 0;
}
