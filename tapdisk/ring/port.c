/* port.c - rings of one client as a front of the disk.  Invariants in port.h.
 *
 * One pass of the loop: the submit hook drains every ring, the disk's I/O goes
 * out with everybody's, the push hook shows all answers and notifies at most
 * once a ring.  Only on the way to sleep are doorbells asked for.
 */
#include "ring/port.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/kill_point.h"
#include "base/log.h"
#include "node.h"

/* One for all clients: a new connection buys nobody new lines. */
static struct log_limit refusals;

/* Behind every td_req of the pool. */
struct ring_req {
	struct ring_port *port;
	struct ring *ring;
	uint64_t id;
	uint16_t ticket;
	uint8_t op;
	void *hold;			/* the owner's */
	struct td_req *next;		/* that has ended */
	int err;
	struct iovec *vecs;		/* taken from the port, or NULL */
	struct iovec iov[BLKIF_SEGS];
};

static struct ring_port *port_of(struct disk_front *f)
{
	return container_of(f, struct ring_port, front);
}

/* Vectors: free ones are chained through their first base. */

static struct iovec *vecs_get(struct ring_port *p)
{
	struct iovec *v = p->free_vecs;

	/* Vectors that were never used are not touched: few clients need all. */
	if (!v) {
		ASSERT(p->fresh_vecs < p->nr_vecs);	/* P2 */
		return p->vecs + (size_t)p->fresh_vecs++ * TAPRING_MAX_INDIRECT;
	}
	p->free_vecs = v->iov_base;
	return v;
}

static void vecs_put(struct ring_port *p, struct iovec *v)
{
	v->iov_base = p->free_vecs;
	p->free_vecs = v;
}

static int vecs_new(struct ring_port *p, unsigned n)
{
	p->nr_vecs = n;
	p->vecs = calloc(n, TAPRING_MAX_INDIRECT * sizeof(*p->vecs));
	return p->vecs ? 0 : -ENOMEM;
}

/* The request's segments as vectors: what is adjacent in memory is one. */
static unsigned build_iov(struct ring_port *p, const struct blkif_req *b,
			  struct ring_req *q)
{
	struct iovec *v = q->iov;
	unsigned n = 0;

	for (unsigned i = 0; i < b->nr_segs; i++) {
		char *base = (char *)p->page[i] + b->span[i].first * BLKIF_SECTOR;
		size_t len = (b->span[i].last - b->span[i].first + 1u) *
			     (size_t)BLKIF_SECTOR;

		if (n && (char *)v[n - 1].iov_base + v[n - 1].iov_len == base) {
			v[n - 1].iov_len += len;
			continue;
		}
		if (n == BLKIF_SEGS && !q->vecs) {
			v = q->vecs = vecs_get(p);
			memcpy(v, q->iov, sizeof(q->iov));
		}
		v[n++] = (struct iovec){ base, len };
	}
	return n;
}

static void answer(struct ring_port *p, struct td_req *r, int err)
{
	struct ring_req *q = r->owner;

	if (err)
		p->failed++;
	if (r->op <= TD_OP_WRITE) {
		p->io[r->op].done++;
		p->io[r->op].sectors += r->length / BLKIF_SECTOR;
		p->io[r->op].us += (loop_now(p->loop) - r->start_ns) / NS_PER_US;
	}
	KILL_POINT("ring-executed");
	ring_answer(q->ring, q->ticket, q->id, q->op, blkif_status(err)); /* P1 */
	if (q->vecs)
		vecs_put(p, q->vecs);
	td_pool_put(p->front.pool, r);
}

/* Release what has ended, and answer (P4). */
static void answer_ended(struct ring_port *p)
{
	while (p->ended) {
		struct td_req *r[RING_BATCH];
		void *hold[RING_BATCH];
		int err[RING_BATCH];
		unsigned n = 0;

		while (p->ended && n < RING_BATCH) {
			struct ring_req *q = p->ended->owner;

			r[n] = p->ended;
			hold[n] = q->hold;
			err[n++] = q->err;
			p->ended = q->next;
		}
		p->ops->release(p, hold, err, n);
		for (unsigned i = 0; i < n; i++)
			answer(p, r[i], err[i]);
	}
	p->last_ended = &p->ended;
}

static void req_done(struct td_req *r, int err)
{
	struct ring_req *q = r->owner;
	struct ring_port *p = q->port;

	if (q->hold) {
		q->err = err;
		q->next = NULL;
		*p->last_ended = r;
		p->last_ended = &q->next;
	} else {
		answer(p, r, err);
	}
	if (p->stopping)
		loop_defer(p->loop, &p->end);
}

/* What was taken goes to the disk, in the order of its taking. */
static void submit_batch(struct ring_port *p)
{
	void *hold[RING_BATCH];
	int err[RING_BATCH] = { 0 }, of[RING_BATCH];
	unsigned n = 0;

	for (unsigned i = 0; i < p->nr_batch; i++) {
		const struct ring_req *q = p->batch[i]->owner;

		of[i] = -1;
		if (q->hold && p->batch[i]->op == TD_OP_WRITE) {
			of[i] = (int)n;
			hold[n++] = q->hold;
		}
	}
	if (n)
		p->ops->load(p, hold, err, n);
	for (unsigned i = 0; i < p->nr_batch; i++) {
		if (of[i] >= 0 && err[of[i]])
			req_done(p->batch[i], err[of[i]]);
		else
			disk_submit(&p->front, p->batch[i]);
	}
	p->nr_batch = 0;
}

/* The segments of an indirect request, copied once, then checked. */
static int fetch_segs(struct ring_port *p, struct blkif_req *b)
{
	int err = p->ops->fetch(p, b->ind_gref, p->seg,
				b->nr_segs * sizeof(p->seg[0]));

	if (err)
		return err;
	/* The copy is what gets checked: nothing may look at the page again. */
	__asm__ volatile("" ::: "memory");
	return blkif_decode_segs(p->seg, &p->limits, b);
}

static int decode(struct ring_port *p, const struct ring *ring,
		  const uint8_t *slot, struct blkif_req *b, void **hold)
{
	int err = blkif_decode(ring->abi, slot, &p->limits, b);

	if (err > 0)
		err = fetch_segs(p, b);
	if (!err && p->rdonly && b->td_op != TD_OP_READ && b->td_op != TD_OP_FLUSH)
		err = -EROFS;
	*hold = NULL;
	if (!err && b->nr_segs)
		err = p->ops->resolve(p, b, p->page, hold);
	return err;
}

static void refuse(struct ring_port *p, struct ring *ring, unsigned ticket,
		   const struct blkif_req *b, int err)
{
	p->bad++;
	if (err != -EOPNOTSUPP && log_allowed(&refusals))
		log_warn("ring %u: refused a request (operation %u, %u segments, "
			 "sector %llu): %s", (unsigned)(ring - p->ring), b->op,
			 b->nr_segs, (unsigned long long)b->sector, strerror(-err));
	ring_answer(ring, ticket, b->id, b->op, blkif_status(err));
}

static void take(struct ring_port *p, struct ring *ring, const uint8_t *slot,
		 unsigned ticket)
{
	struct blkif_req *b = &p->req;
	struct td_req *r;
	struct ring_req *q;
	void *hold;
	int err = decode(p, ring, slot, b, &hold);

	KILL_POINT("ring-taken");
	if (err) {
		refuse(p, ring, ticket, b, err);
		return;
	}
	r = td_pool_get(p->front.pool);
	ASSERT(r);	/* P2 */
	q = td_pool_extra(p->front.pool, r);
	q->port = p;
	q->ring = ring;
	q->id = b->id;
	q->ticket = (uint16_t)ticket;
	q->op = b->op;
	q->hold = hold;
	q->vecs = NULL;
	r->op = b->td_op;
	r->flags = b->td_flags;
	r->offset = b->sector * BLKIF_SECTOR;
	r->length = b->sectors * BLKIF_SECTOR;
	r->iovcnt = build_iov(p, b, q);
	r->iov = q->vecs ? q->vecs : q->iov;
	r->done = req_done;
	r->owner = q;
	r->start_ns = loop_now(p->loop);
	if (r->op <= TD_OP_WRITE)
		p->io[r->op].taken++;
	if (!hold && !p->nr_batch) {
		disk_submit(&p->front, r);
		return;
	}
	p->batch[p->nr_batch++] = r;
	if (p->nr_batch == RING_BATCH)
		submit_batch(p);
}

void ring_port_break(struct ring_port *p, const char *why)
{
	if (p->broken || p->stopping)
		return;
	p->broken = why;
	loop_defer(p->loop, &p->end);
}

/* Hooks. */

static bool port_submit(struct loop_hook *h)
{
	struct ring_port *p = container_of(h, struct ring_port, submit);
	const uint8_t *slot;
	unsigned ticket = 0;
	bool any = false;

	if (!p->running)
		return false;
	for (unsigned i = 0; i < p->nr_rings; i++) {
		int n = 0;

		while (!p->full && (n = ring_consume(&p->ring[i], &slot,
						     &ticket)) > 0) {
			take(p, &p->ring[i], slot, ticket);
			any = true;
		}
		if (n < 0) {
			ring_port_break(p, "its request producer ran over the ring");
			any = true;
		}
	}
	if (p->nr_batch)
		submit_batch(p);
	return any;
}

static bool port_push(struct loop_hook *h)
{
	struct ring_port *p = container_of(h, struct ring_port, push);
	bool any = p->ended;

	answer_ended(p);
	for (unsigned i = 0; i < p->nr_rings; i++) {
		if (!ring_unpushed(&p->ring[i]))
			continue;
		any = true;
		if (ring_push(&p->ring[i])) {
			KILL_POINT("ring-pushed");
			p->notified++;
			p->ops->notify(p, i);
			KILL_POINT("ring-notified");
		}
	}
	return any;
}

static bool port_poll(struct loop_hook *h)
{
	struct ring_port *p = container_of(h, struct ring_port, poll);

	/* Without room, the next answer wakes us. */
	if (!p->running || p->full)
		return false;
	for (unsigned i = 0; i < p->nr_rings; i++)
		if (ring_waiting(&p->ring[i]))
			return true;
	return false;
}

static bool port_sleep(struct loop_hook *h)
{
	struct ring_port *p = container_of(h, struct ring_port, sleep);
	bool armed = false;

	/* A disk that takes nothing asks for nothing. */
	if (!p->running)
		return false;
	for (unsigned i = 0; i < p->nr_rings; i++) {
		if (!ring_arm(&p->ring[i]))
			continue;
		armed = true;
		p->ops->arming(p, i);
	}
	/* Pairs with the front end's full barrier between its store of req_prod
	 * and its load of req_event: it sees our wish or we see its request. */
	if (armed)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return p->broken || port_poll(&p->poll);
}

/* The disk's side. */

static void port_limits(struct ring_port *p)
{
	p->limits.sectors = disk_size(p->front.disk) / BLKIF_SECTOR;
	p->limits.align = disk_sector(p->front.disk) / BLKIF_SECTOR;
}

static void port_quiesce(struct disk_front *f)
{
	port_of(f)->running = false;
}

static void port_resume(struct disk_front *f)
{
	struct ring_port *p = port_of(f);

	if (p->stopping)
		return;
	answer_ended(p);	/* requests must be idle */
	if (disk_front_bind(f)) {
		ring_port_break(p, "out of memory");
		return;
	}
	port_limits(p);
	p->running = true;
}

static void port_resized(struct disk_front *f)
{
	struct ring_port *p = port_of(f);

	port_limits(p);
	if (!p->stopping)
		p->ops->resized(p, p->limits.sectors);
}

static void port_disconnect(struct disk_front *f)
{
	struct ring_port *p = port_of(f);

	if (!p->stopping)
		p->ops->hang_up(p, "the disk is closing");
}

static void port_stats(struct disk_front *f, json_t *into)
{
	struct ring_port *p = port_of(f);
	uint64_t consumed = 0, answered = 0;

	for (unsigned i = 0; i < p->nr_rings; i++) {
		consumed += p->ring[i].consumed;
		answered += p->ring[i].answered;
	}
	json_object_set_new(into, "queues", json_integer(p->nr_rings));
	json_object_set_new(into, "slots", json_integer(ring_slots(&p->ring[0])));
	json_object_set_new(into, "requests", json_integer((json_int_t)consumed));
	json_object_set_new(into, "answers", json_integer((json_int_t)answered));
	json_object_set_new(into, "notified",
			    json_integer((json_int_t)p->notified));
	json_object_set_new(into, "refused", json_integer((json_int_t)p->bad));
	json_object_set_new(into, "failed", json_integer((json_int_t)p->failed));
	if (p->ops->stats)
		p->ops->stats(p, into);
}

static const struct disk_front_ops port_front_ops = {
	.quiesce	= port_quiesce,
	.resume		= port_resume,
	.resized	= port_resized,
	.disconnect	= port_disconnect,
	.stats		= port_stats,
};

bool ring_port_disk_ready(const struct disk *d)
{
	enum disk_state s = disk_state(d);

	/* Opening with a size: it is only being unpaused. */
	return s == DISK_RUNNING || s == DISK_DRAINING || s == DISK_PAUSED ||
	       (s == DISK_OPENING && disk_size(d));
}

/* Leave the disk as soon as nothing of ours is in it. */
static bool port_leave(struct ring_port *p)
{
	answer_ended(p);
	if (td_pool_used(p->front.pool) || p->front.inflight)
		return false;
	if (!list_empty(&p->front.link))
		disk_front_del(&p->front);
	return true;
}

static void port_end(struct loop_work *w)
{
	struct ring_port *p = container_of(w, struct ring_port, end);

	if (!p->stopping) {
		p->ops->hang_up(p, p->broken);
		return;
	}
	if (!port_leave(p))
		return;
	td_pool_free(p->front.pool);
	free(p->vecs);
	p->ops->stopped(p);
}

int ring_port_start(struct ring_port *p, const struct ring_port_ops *ops,
		    struct loop *l, struct disk *d, unsigned nr_rings,
		    unsigned max_indirect)
{
	unsigned n = 0;
	int err;

	ASSERT(nr_rings && nr_rings <= TAPRING_MAX_QUEUES);
	if (!ring_port_disk_ready(d))
		return -ENODEV;
	p->ops = ops;
	p->loop = l;
	p->nr_rings = nr_rings;
	p->last_ended = &p->ended;
	p->limits.max_indirect = max_indirect;
	for (unsigned i = 0; i < nr_rings; i++)
		n += ring_slots(&p->ring[i]);
	err = max_indirect > BLKIF_SEGS ? vecs_new(p, n) : 0;
	if (err)
		return err;
	p->front_ops = port_front_ops;
	p->front_ops.name = ops->name;
	p->front.ops = &p->front_ops;
	p->front.pool = td_pool_new(n, sizeof(struct ring_req));	/* P2 */
	if (!p->front.pool)
		goto fail_vecs;
	disk_front_add(d, &p->front);
	if (disk_running(d)) {
		if (disk_front_bind(&p->front))
			goto fail_front;
		p->running = true;
	}
	port_limits(p);
	loop_work_init(&p->end, port_end);
	loop_hook_add(l, LOOP_SUBMIT, &p->submit, port_submit);
	loop_hook_add(l, LOOP_PUSH, &p->push, port_push);
	loop_hook_add(l, LOOP_POLL, &p->poll, port_poll);
	loop_hook_add(l, LOOP_SLEEP, &p->sleep, port_sleep);
	return 0;
fail_front:
	disk_front_del(&p->front);
	td_pool_free(p->front.pool);
fail_vecs:
	free(p->vecs);
	return -ENOMEM;
}

void ring_port_stop(struct ring_port *p)
{
	ASSERT(!p->stopping);
	p->stopping = true;
	p->running = false;
	loop_hook_del(&p->submit);
	loop_hook_del(&p->push);
	loop_hook_del(&p->poll);
	loop_hook_del(&p->sleep);
	/* Now if possible: a disk that closes must have no fronts left. */
	if (port_leave(p))
		loop_defer(p->loop, &p->end);
}
