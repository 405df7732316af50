/* mem_store.c - see mem_store.h.
 *
 * I1  What an operation does to the file happens at one moment, at its begin or
 *     at its end; of a read likewise.
 * I2  The mutex guards files, record, faults and clock; the list of what is
 *     pending is the loop's.
 * I3  After a failed flush of an open file no flush of it succeeds.
 */
#include "mem_store.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drv_rig.h"

struct mem_node {
	struct mem_store *m;
	unsigned file;
	unsigned life;		/* of the process that opened it: m->life, or it died */
	bool sync_failed;
};

struct mem_req {
	struct list link;
	struct td_node *n;
	struct td_req *r;
	size_t op;		/* of the record, or NO_OP */
	uint64_t begin;
	int err;
	bool early;		/* took effect at its begin */
	unsigned hold;		/* so many turns more at least */
};

#define NO_OP SIZE_MAX

static struct mem_store *serving;

static uint64_t chance(struct mem_store *m, uint64_t n)
{
	return rig_random(&m->random) % n;
}

/* The record. */

static uint64_t tick(struct mem_store *m)
{
	return m->clock++;
}

uint64_t mem_store_tick(struct mem_store *m)
{
	uint64_t t;

	pthread_mutex_lock(&m->mutex);
	t = tick(m);
	pthread_mutex_unlock(&m->mutex);
	return t;
}

static size_t record(struct mem_store *m, const struct mem_op *op)
{
	if (!m->record)
		return NO_OP;
	if (m->n_ops == m->room) {
		m->room = m->room ? 2 * m->room : 256;
		m->ops = reallocarray(m->ops, m->room, sizeof(m->ops[0]));
		if (!m->ops)
			err(1, "mem_store");
	}
	m->ops[m->n_ops] = *op;
	return m->n_ops++;
}

void mem_store_forget(struct mem_store *m)
{
	for (size_t i = 0; i < m->n_ops; i++)
		free(m->ops[i].data);
	m->n_ops = 0;
}

static void recorded(struct mem_store *m, size_t op, uint64_t landed)
{
	if (op == NO_OP)
		return;
	m->ops[op].effect = m->clock;
	m->ops[op].landed = landed;
}

static void ended(struct mem_store *m, size_t op, int rc)
{
	uint64_t t = tick(m);

	if (op == NO_OP)
		return;
	m->ops[op].end = t;
	m->ops[op].err = rc;
}

/* Faults. */

void mem_store_fail(struct mem_store *m, const struct mem_fault *f)
{
	pthread_mutex_lock(&m->mutex);
	m->fault = f ? *f : (struct mem_fault){ 0 };
	m->counted = m->hits = 0;
	pthread_mutex_unlock(&m->mutex);
}

static int fault(struct mem_store *m, enum td_op op)
{
	const struct mem_fault *f = &m->fault;

	if (!(f->ops & 1u << op))
		return 0;
	m->counted++;
	if (!f->nth || m->counted < f->nth ||
	    (f->count && m->counted >= f->nth + f->count))
		return 0;
	m->hits++;
	return f->err;
}

/* Death.  Under the mutex; false: it is, or has just become, too late.  (A worker of
 * the dead may still be busy.) */
static bool alive(const struct mem_node *node)
{
	struct mem_store *m = node->m;

	if (node->life != m->life)
		return false;
	if (!m->dead && m->die_in && !--m->die_in) {
		m->dead = true;
		m->died(m->died_arg);
	}
	return !m->dead;
}

/* What operations do.  Under the mutex. */

static int effect_write(struct mem_store *m, struct mem_file *f, uint64_t off,
			uint64_t len, const struct iovec *iov, unsigned iovcnt,
			int rc, uint64_t *landed)
{
	uint64_t left = rc ? min_u64(len, m->fault.keep * 512ull) : len;

	if (off + len > m->max_bytes) {
		rc = -ENOSPC;
		left = 0;
	}
	*landed = left;
	for (unsigned i = 0; i < iovcnt && left; i++) {
		uint64_t n = min_u64(left, iov[i].iov_len);

		mem_image_write(&f->image, off, iov[i].iov_base, n);
		off += n;
		left -= n;
	}
	return rc;
}

static void gather(unsigned char *to, const struct iovec *iov, unsigned iovcnt)
{
	for (unsigned i = 0; i < iovcnt; i++) {
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
}

static int effect(struct mem_store *m, struct td_node *n, const struct td_req *r,
		  size_t op, int rc)
{
	struct mem_node *node = n->priv;
	struct mem_file *f = &m->file[node->file];
	uint64_t off = r->offset, landed = 0;

	switch (r->op) {
	case TD_OP_READ:
		for (unsigned i = 0; i < r->iovcnt && !rc; i++) {
			mem_image_read(&f->image, off, r->iov[i].iov_base,
				       r->iov[i].iov_len);
			off += r->iov[i].iov_len;
		}
		break;
	case TD_OP_WRITE:
		rc = effect_write(m, f, off, r->length, r->iov, r->iovcnt, rc,
				  &landed);
		break;
	case TD_OP_ZEROES:
	case TD_OP_DISCARD:
		/* What a discard leaves is anybody's guess. */
		if (!rc && (r->op == TD_OP_ZEROES || chance(m, 4))) {
			landed = r->length;
			mem_image_zero(&f->image, off, landed);
			if (off + landed > f->image.size)
				mem_image_resize(&f->image, off + landed);
		}
		break;
	case TD_OP_RESIZE:
		if (!rc && r->length > m->max_bytes)
			rc = -ENOSPC;
		if (!rc) {
			landed = r->length;
			mem_image_resize(&f->image, landed);
		}
		break;
	default:
		if (rc)
			node->sync_failed = true;
		if (node->sync_failed)
			rc = -EIO;	/* I3 */
	}
	recorded(m, op, landed);
	return rc;
}

static size_t begin(struct mem_store *m, const struct mem_node *node,
		    const struct td_req *r)
{
	struct mem_op op = {
		.op = r->op == TD_OP_DISCARD ? TD_OP_ZEROES : r->op,
		.file = node->file, .off = r->offset, .len = r->length,
		.begin = tick(m), .effect = MEM_NEVER, .end = MEM_NEVER,
		.fua = r->flags & TD_REQ_FUA,
	};
	size_t i = NO_OP;

	if (r->op != TD_OP_READ && r->op != TD_OP_EXTENTS)
		i = record(m, &op);
	if (i != NO_OP && r->op == TD_OP_WRITE) {
		m->ops[i].data = malloc(r->length + 1);
		if (!m->ops[i].data)
			err(1, "mem_store");
		gather(m->ops[i].data, r->iov, r->iovcnt);
	}
	return i;
}

/* Requests: begun in submit, ended by a turn of the loop. */

static void extents(struct mem_store *m, struct td_node *n, struct td_req *r)
{
	struct mem_node *node = n->priv;
	struct mem_image *image = &m->file[node->file].image;
	uint64_t at = r->offset, stop = at + r->length, end;

	while (at < stop) {
		bool data = mem_image_data(image, at, &end);

		end = min_u64(end, stop);
		if (!td_extent_add(r->extents, end - at,
				   data ? 0 : TD_EXTENT_HOLE | TD_EXTENT_ZERO))
			break;
		at = end;
	}
}

static void end_request(struct mem_store *m, struct mem_req *q)
{
	struct td_node *n = q->n;
	struct td_req *r = q->r;

	pthread_mutex_lock(&m->mutex);
	if (!alive(n->priv)) {
		pthread_mutex_unlock(&m->mutex);
		return;
	}
	list_del(&q->link);
	m->inflight--;
	if (r->op == TD_OP_EXTENTS)
		extents(m, n, r);
	else if (!q->early)
		q->err = effect(m, n, r, q->op, q->err);
	ended(m, q->op, q->err);
	pthread_mutex_unlock(&m->mutex);
	if (r->op == TD_OP_RESIZE && !q->err)
		td_set_geometry(n, r->length, m->phys);
	td_complete(r, q->err);
}

static void again(struct mem_store *m)
{
	if (list_empty(&m->pending))
		return;
	/* Now and then the loop gets to its descriptors and other timers. */
	if (m->at_once || chance(m, 8))
		loop_defer(m->loop, &m->work);
	else if (!loop_timer_is_set(&m->timer))
		loop_timer_set(m->loop, &m->timer, chance(m, 30000));
}

static void turn(struct mem_store *m)
{
	unsigned odds = 1 + (unsigned)chance(m, 5);

	list_for_each_safe(e, &m->pending) {
		struct mem_req *q = container_of(e, struct mem_req, link);

		if (!m->at_once && q->hold)
			q->hold--;
		else if (m->at_once || !chance(m, odds))
			end_request(m, q);
	}
	if (!m->dead)
		again(m);
}

static void turn_work(struct loop_work *w)
{
	turn(container_of(w, struct mem_store, work));
}

static void turn_timer(struct loop_timer *t)
{
	turn(container_of(t, struct mem_store, timer));
}

static void start(struct td_node *n, struct td_req *r)
{
	struct mem_node *node = n->priv;
	struct mem_store *m = node->m;
	struct mem_req *q = td_ctx(n, r);

	*q = (struct mem_req){ .n = n, .r = r, .op = NO_OP };
	pthread_mutex_lock(&m->mutex);
	if (!alive(node)) {
		pthread_mutex_unlock(&m->mutex);
		return;
	}
	if (r->op == TD_OP_RESIZE && !r->length)
		r->length = align_up(m->file[node->file].image.size, 512);
	q->op = begin(m, node, r);
	q->err = fault(m, r->op);
	/* A read that ends later than it looks, a write that lands before it is
	 * answered.  A flush covers what was there at its begin. */
	q->early = r->op != TD_OP_EXTENTS && !chance(m, 2);
	if (q->early)
		q->err = effect(m, n, r, q->op, q->err);
	/* Now and then one that many others overtake. */
	if (r->op != TD_OP_FLUSH && !chance(m, 24))
		q->hold = (unsigned)chance(m, 200);
	pthread_mutex_unlock(&m->mutex);
	list_add(&m->pending, &q->link);
	m->inflight++;
	if (m->inflight > m->depth)
		m->depth = m->inflight;
	if (!loop_timer_is_set(&m->timer))
		loop_defer(m->loop, &m->work);
}

static int mem_blocking(struct td_node *n, enum td_op op, uint64_t off, void *buf,
			size_t len)
{
	struct mem_node *node = n->priv;
	struct mem_store *m = node->m;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct td_req r = { .op = op, .offset = off, .length = len, .iov = &iov,
			    .iovcnt = 1 };
	size_t i;
	int rc;

	if (op == TD_OP_RESIZE) {
		r.length = align_up(off, 512);
		r.offset = 0;
	}
	pthread_mutex_lock(&m->mutex);
	if (!alive(node)) {
		pthread_mutex_unlock(&m->mutex);
		return -EIO;
	}
	i = begin(m, node, &r);
	rc = fault(m, op);
	rc = effect(m, n, &r, i, rc);
	ended(m, i, rc);
	pthread_mutex_unlock(&m->mutex);
	if (op == TD_OP_RESIZE && !rc)
		td_set_geometry(n, r.length, m->phys);
	return rc;
}

void mem_store_bury(struct mem_store *m, unsigned odds)
{
	struct list *e;

	pthread_mutex_lock(&m->mutex);
	while ((e = list_pop(&m->pending))) {
		struct mem_req *q = container_of(e, struct mem_req, link);
		bool lands = !odds || chance(m, odds);

		if (q->op == NO_OP)
			continue;
		if (!q->early && !lands) {	/* a cut finds nothing of it either */
			m->ops[q->op].op = TD_OP_FLUSH;
			q->err = -EIO;
		} else if (!q->early) {
			q->err = effect(m, q->n, q->r, q->op, q->err);
		}
		ended(m, q->op, q->err);
	}
	m->inflight = 0;
	m->die_in = 0;
	m->dead = false;
	m->life++;
	pthread_mutex_unlock(&m->mutex);
	loop_work_init(&m->work, turn_work);
	loop_timer_init(&m->timer, turn_timer);
}

/* Files. */

static unsigned find(const struct mem_store *m, const char *path)
{
	unsigned i = 0;

	while (i < m->files && strcmp(m->file[i].path, path))
		i++;
	return i;
}

static void mem_open(struct td_node *n, struct td_req *r)
{
	struct mem_node *node = n->priv;
	struct mem_store *m = serving;
	unsigned i = find(m, n->arg);
	int rc;

	if (i == m->files) {
		td_err(n, "cannot open %s: %s", n->arg, strerror(ENOENT));
		td_complete(r, -ENOENT);
		return;
	}
	m->loop = n->env->loop;
	*node = (struct mem_node){ .m = m, .file = i, .life = m->life };
	rc = td_set_identity(n, 1, i + 1);
	if (!rc)
		td_set_geometry(n, align_up(m->file[i].image.size, 512), m->phys);
	td_complete(r, rc);
}

static void mem_close(struct td_node *n, struct td_req *r)
{
	td_complete(r, 0);
	(void)n;
}

unsigned mem_store_file(struct mem_store *m, const char *path)
{
	unsigned i = find(m, path);

	if (i < m->files)
		return i;
	if (i == MEM_FILES)
		errx(1, "mem_store: more than %u files", MEM_FILES);
	m->file[i].path = strdup(path);
	if (!m->file[i].path)
		err(1, "mem_store");
	m->files++;
	return i;
}

void mem_store_init(struct mem_store *m, uint64_t seed)
{
	*m = (struct mem_store){ .random = seed, .phys = 512, .clock = 1,
				 .max_bytes = 1 * GiB };
	pthread_mutex_init(&m->mutex, NULL);
	loop_work_init(&m->work, turn_work);
	loop_timer_init(&m->timer, turn_timer);
	list_init(&m->pending);
	serving = m;
}

void mem_store_free(struct mem_store *m)
{
	ASSERT(list_empty(&m->pending));
	mem_store_forget(m);
	free(m->ops);
	for (unsigned i = 0; i < m->files; i++) {
		mem_image_free(&m->file[i].image);
		free(m->file[i].path);
	}
	loop_work_cancel(&m->work);
	loop_timer_clear(&m->timer);
	pthread_mutex_destroy(&m->mutex);
	if (serving == m)
		serving = NULL;
}

const struct td_driver mem_store_driver = {
	.abi		= TD_DRIVER_ABI,
	.kind		= TD_STORE,
	.name		= "mem",
	.help		= "mem:NAME  a file of a test's, in memory",
	.caps		= TD_CAP_ALL,
	.node_ctx	= sizeof(struct mem_node),
	.req_ctx	= sizeof(struct mem_req),
	.open		= mem_open,
	.submit		= start,
	.close		= mem_close,
	.resize		= start,
	.blocking	= mem_blocking,
};
