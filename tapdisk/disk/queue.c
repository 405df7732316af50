/* queue.c - requests of a disk: check, order, start, answer.
 *
 * Reads and writes are started as they come; the guest orders them by waiting.
 * A flush is started at once too: it makes durable all that was answered before
 * it.  Only a barrier holds others back (I3 of disk.h): it waits until all that
 * came before is answered, then flushes, does its write durably, and lets go.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "disk/disk_priv.h"

static void run_refused(struct loop_work *w);

int disk_queue_init(struct disk *d)
{
	d->wait_tail = &d->wait_head;
	d->refused_tail = &d->refused_head;
	loop_work_init(&d->refused, run_refused);
	d->split = split_pool_new();
	return d->split ? 0 : -ENOMEM;
}

void disk_queue_free(struct disk *d)
{
	ASSERT(!d->wait_head && !d->refused_head && !d->barrier);
	split_pool_free(d->split);
}

static void barrier_next(struct disk *d);

void disk_answer(struct td_req *r, int err)
{
	struct disk_front *f = r->front;
	struct disk *d = f->disk;

	stats_count(&d->stats, r->op, r->op == TD_OP_FLUSH ? 0 : r->length,
		    loop_now(d->env->loop) - r->start_ns, err);
	d->inflight--;
	f->inflight--;
	r->done = r->answer;
	r->done(r, err);		/* may free f */
	if (d->barrier && !d->barrier_runs)
		barrier_next(d);
	if (!d->inflight && d->state == DISK_DRAINING)
		disk_drained(d);
}

static void run_refused(struct loop_work *w)
{
	struct disk *d = container_of(w, struct disk, refused);
	struct td_req *r = d->refused_head;

	d->refused_head = NULL;
	d->refused_tail = &d->refused_head;
	while (r) {
		struct td_req *next = r->next;

		disk_answer(r, r->err);
		r = next;
	}
}

static void refuse(struct disk *d, struct td_req *r, int err)
{
	r->err = err;
	r->next = NULL;
	*d->refused_tail = r;
	d->refused_tail = &r->next;
	loop_defer(d->env->loop, &d->refused);
}

/* To the tree, whole or in pieces. */
static void start(struct disk *d, struct td_req *r)
{
	bool data = r->op == TD_OP_READ || r->op == TD_OP_WRITE;

	if (r->length > (data ? DISK_PIECE : GiB) && r->op != TD_OP_EXTENTS) {
		split_start(d, r);
		return;
	}
	r->done = disk_answer;
	td_submit(td_tree_root(d->tree), r);
}

/* Barriers.  Steps: drained -> flush -> write (if any) -> answer -> the rest. */

static void barrier_end(struct td_req *r, int err)
{
	struct disk *d = r->front->disk;
	struct td_req *next;

	r->op = d->barrier_op;
	d->barrier = NULL;
	d->barrier_runs = false;
	next = d->wait_head;
	d->wait_head = NULL;
	d->wait_tail = &d->wait_head;
	d->waiting = 0;
	while (next) {
		struct td_req *q = next;

		next = q->next;
		disk_admit(d, q);
	}
	disk_answer(r, err);
}

static void barrier_flushed(struct td_req *r, int err)
{
	struct disk *d = r->front->disk;

	if (err || d->barrier_op == TD_OP_FLUSH) {
		barrier_end(r, err);
		return;
	}
	r->op = d->barrier_op;
	r->flags |= TD_REQ_FUA;
	r->done = barrier_end;
	td_submit(td_tree_root(d->tree), r);
}

/* Start the barrier if all that was accepted before it is answered: what is in
 * flight is then the barrier and those who wait behind it. */
static void barrier_next(struct disk *d)
{
	struct td_req *r = d->barrier;

	if (d->inflight > 1 + d->waiting)
		return;
	d->barrier_runs = true;
	d->barrier_op = r->op;
	r->op = TD_OP_FLUSH;
	r->done = barrier_flushed;
	td_submit(td_tree_root(d->tree), r);
}

/* r is counted and in range: order it. */
void disk_admit(struct disk *d, struct td_req *r)
{
	if (d->barrier) {
		r->next = NULL;
		*d->wait_tail = r;
		d->wait_tail = &r->next;
		d->waiting++;
	} else if (r->flags & TD_REQ_BARRIER) {
		d->barrier = r;
		d->barrier_runs = false;
		barrier_next(d);
	} else {
		start(d, r);
	}
}

static int check(const struct disk *d, const struct td_req *r)
{
	if (r->op != TD_OP_FLUSH && !range_ok(r->offset, r->length, d->size))
		return -EINVAL;
	switch (r->op) {
	case TD_OP_READ:
	case TD_OP_FLUSH:
	case TD_OP_EXTENTS:
		return 0;
	default:
		return d->caps & TD_CAP_WRITE ? 0 : -EROFS;
	}
}

void disk_submit(struct disk_front *f, struct td_req *r)
{
	struct disk *d = f->disk;
	int err;

	ASSERT(d->state == DISK_RUNNING && r->state == TD_REQ_IDLE);
	if (!r->length && (r->flags & TD_REQ_BARRIER))
		r->op = TD_OP_FLUSH;	/* a barrier alone */
	r->front = f;
	r->answer = r->done;
	r->start_ns = loop_now(d->env->loop);
	f->inflight++;
	d->inflight++;
	err = check(d, r);
	if (err || (!r->length && r->op != TD_OP_FLUSH))
		refuse(d, r, err);
	else
		disk_admit(d, r);
}
