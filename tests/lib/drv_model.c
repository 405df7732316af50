/* drv_model.c - see drv_model.h.
 *
 * Each write fills its sectors with a stamp of its own: so a sector needs only
 * a number in the model, and a lost or torn update shows as a stamp that cannot
 * be there.  A sector's model is a set of possible stamps:
 *
 *   - a write that starts adds its stamp (it may land at any time);
 *   - when it completes, what was there before it started is no longer
 *     possible, unless it is the stamp of a write that was in flight together
 *     with it.
 *
 * So each sector keeps its candidates with the times of start and end.  A read
 * may return any stamp that was possible at some time between its start and
 * end.  The model's cell is a unit: a sector or a part of one.
 */
#include "drv_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drv_rig.h"
#include "loop/loop.h"

#define CANDIDATES 256		/* of a sector: while a slow request is in flight those
				 * that overtake it all stay possible */
#define STAMP_ZERO 0u
#define STAMP_ANY UINT32_MAX	/* discarded: undefined */

struct candidate {
	uint32_t stamp;
	uint64_t start, end;	/* end 0: in flight */
};

struct cell {
	unsigned n;
	struct candidate v[];
};

struct model {
	struct rig *g;
	const struct model_run *how;
	uint64_t random, now, size;
	char *cells;
	size_t stride;
	unsigned inflight, started, wrong;
	uint32_t next_stamp;
	bool idle;
};

struct ticket {
	struct model *m;
	struct td_req *r;
	uint32_t stamp;
	uint64_t start;
	char *mem, *buf;
	struct iovec iov[3];
};

static struct cell *cell_at(const struct model *m, uint64_t i)
{
	return (struct cell *)(m->cells + i * m->stride);
}

/* Candidates that another completed candidate has surely overwritten, as seen
 * by whoever looks from `since` on, are impossible. */
static bool possible(const struct cell *c, const struct candidate *k,
		     uint64_t since)
{
	if (!k->end)
		return true;
	for (unsigned i = 0; i < c->n; i++) {
		const struct candidate *o = &c->v[i];

		if (o != k && o->end && o->start > k->end && o->end < since)
			return false;
	}
	return true;
}

static struct ticket *tickets[RIG_DEPTH];

/* Nobody who is looking now has begun earlier. */
static uint64_t oldest_look(const struct model *m)
{
	uint64_t t = m->now;

	for (unsigned i = 0; i < RIG_DEPTH; i++)
		if (tickets[i] && tickets[i]->r->op == TD_OP_READ)
			t = min_u64(t, tickets[i]->start);
	return t;
}

static void prune(struct model *m, struct cell *c)
{
	uint64_t since = oldest_look(m);

	for (unsigned i = 0; i < c->n;)
		if (possible(c, &c->v[i], since))
			i++;
		else
			c->v[i] = c->v[--c->n];
}

static bool changes(const struct td_req *r)
{
	return r->op == TD_OP_WRITE || r->op == TD_OP_ZEROES ||
	       r->op == TD_OP_DISCARD;
}

static void add_candidates(struct ticket *t)
{
	struct model *m = t->m;
	uint64_t unit = m->how->unit;

	for (uint64_t i = t->r->offset / unit;
	     i < (t->r->offset + t->r->length) / unit; i++) {
		struct cell *c = cell_at(m, i);

		prune(m, c);
		ASSERT(c->n < CANDIDATES);
		c->v[c->n++] = (struct candidate){ .stamp = t->stamp,
						   .start = t->start };
	}
}

static void end_candidates(struct ticket *t)
{
	struct model *m = t->m;
	uint64_t unit = m->how->unit;

	for (uint64_t i = t->r->offset / unit;
	     i < (t->r->offset + t->r->length) / unit; i++) {
		struct cell *c = cell_at(m, i);

		for (unsigned k = 0; k < c->n; k++)
			if (c->v[k].start == t->start)
				c->v[k].end = m->now;
	}
}

/* What a unit at index i holds when stamped: any two differ. */
static void stamp_unit(const struct model *m, char *p, uint64_t i, uint32_t stamp)
{
	unsigned unit = m->how->unit;

	if (stamp == STAMP_ZERO) {
		memset(p, 0, unit);
		return;
	}
	for (unsigned k = 0; k + 4 <= unit; k += 4) {
		uint32_t v = stamp ^ (uint32_t)((i * 0x9e3779b1u) << 1) ^ (k << 20);

		memcpy(p + k, &v, 4);
	}
}

static void check(struct ticket *t)
{
	struct model *m = t->m;
	unsigned unit = m->how->unit;
	char want[512];

	for (uint64_t off = 0; off < t->r->length; off += unit) {
		uint64_t i = (t->r->offset + off) / unit;
		struct cell *c = cell_at(m, i);
		bool ok = false;

		for (unsigned k = 0; k < c->n && !ok; k++) {
			if (!possible(c, &c->v[k], t->start))
				continue;
			stamp_unit(m, want, i, c->v[k].stamp);
			ok = c->v[k].stamp == STAMP_ANY ||
			     !memcmp(t->buf + off, want, unit);
		}
		if (!ok && m->wrong++ < 5)
			printf("wrong: read %llu+%llu, unit %llu starts with "
			       "%02x %02x %02x %02x, %u candidates\n",
			       (unsigned long long)t->r->offset,
			       (unsigned long long)t->r->length,
			       (unsigned long long)i, t->buf[off] & 255,
			       t->buf[off + 1] & 255, t->buf[off + 2] & 255,
			       t->buf[off + 3] & 255, c->n);
	}
}

static void more(struct model *m);

static void model_done(struct td_req *r, int rc)
{
	struct ticket *t = r->owner;
	struct model *m = t->m;

	m->now++;
	if (rc && !(rc == -EOPNOTSUPP && r->op == TD_OP_DISCARD)) {
		printf("wrong: op %d %llu+%llu: %s\n", r->op,
		       (unsigned long long)r->offset,
		       (unsigned long long)r->length, strerror(-rc));
		m->wrong++;
	}
	if (r->op == TD_OP_READ && !rc)
		check(t);
	if (changes(r))
		end_candidates(t);
	for (unsigned i = 0; i < RIG_DEPTH; i++)
		if (tickets[i] == t)
			tickets[i] = NULL;
	td_pool_put(m->g->pool, r);
	free(t->mem);
	free(t);
	m->inflight--;
	more(m);
}

static uint64_t below(struct model *m, uint64_t n)
{
	return rig_random(&m->random) % n;
}

/* Memory at odd addresses now and then, and in up to three pieces. */
static unsigned slice(struct ticket *t, uint64_t len)
{
	struct model *m = t->m;
	static const unsigned shifts[] = { 0, 0, 0, 512, 8, 1 };
	unsigned shift = shifts[below(m, ARRAY_SIZE(shifts))];
	unsigned n = 0, pieces = 1 + (unsigned)below(m, 3);
	uint64_t off = 0;

	if (posix_memalign((void **)&t->mem, 4096, len + 4096))
		abort();
	memset(t->mem, 0xee, len + 4096);
	t->buf = t->mem + shift;
	while (off < len) {
		uint64_t left = (len - off) / m->how->unit;
		uint64_t take = n + 1 == pieces ? left : 1 + below(m, left);

		t->iov[n].iov_base = t->buf + off;
		t->iov[n].iov_len = take * m->how->unit;
		off += t->iov[n++].iov_len;
	}
	return n;
}

static void start(struct model *m)
{
	static const enum td_op ops[] = {
		TD_OP_READ, TD_OP_READ, TD_OP_READ, TD_OP_READ, TD_OP_WRITE,
		TD_OP_WRITE, TD_OP_WRITE, TD_OP_WRITE, TD_OP_WRITE, TD_OP_ZEROES,
		TD_OP_DISCARD, TD_OP_FLUSH,
	};
	const struct model_run *how = m->how;
	struct ticket *t = calloc(1, sizeof(*t));
	struct td_req *r = td_pool_get(m->g->pool);
	uint64_t unit = how->unit, span = m->size / unit, off, len;

	t->m = m;
	t->r = r;
	*r = (struct td_req){ .op = ops[below(m, ARRAY_SIZE(ops))],
			      .done = model_done, .owner = t, .ctx = r->ctx };
	m->now++;
	t->start = m->now;
	t->stamp = STAMP_ZERO;
	if (r->op == TD_OP_WRITE)
		t->stamp = m->next_stamp++;
	if (r->op == TD_OP_DISCARD)
		t->stamp = STAMP_ANY;
	if ((r->op == TD_OP_WRITE || r->op == TD_OP_ZEROES) && !below(m, 8))
		r->flags |= TD_REQ_FUA;
	if (r->op == TD_OP_ZEROES && !below(m, 3))
		r->flags |= TD_REQ_NO_HOLE;
	if (r->op != TD_OP_FLUSH) {
		len = 1 + below(m, below(m, 4) ? 16 : how->max_len / unit);
		len = min_u64(len, how->max_len / unit);
		off = below(m, span);
		len = min_u64(len, span - off);
		r->offset = off * unit;
		r->length = len * unit;
	}
	if (r->op == TD_OP_READ || r->op == TD_OP_WRITE) {
		r->iovcnt = slice(t, r->length);
		r->iov = t->iov;
	}
	if (r->op == TD_OP_WRITE)
		for (uint64_t i = 0; i < r->length / unit; i++)
			stamp_unit(m, t->buf + i * unit, r->offset / unit + i,
				   t->stamp);
	for (unsigned i = 0; i < RIG_DEPTH; i++)
		if (!tickets[i]) {
			tickets[i] = t;
			break;
		}
	if (changes(r))
		add_candidates(t);
	m->inflight++;
	m->started++;
	td_submit(td_tree_root(m->g->tree), r);
}

static void more(struct model *m)
{
	while (m->started < m->how->requests && m->inflight < m->how->depth)
		start(m);
	if (!m->inflight) {
		m->idle = true;
		loop_stop(m->g->env.loop);
	}
}

/* Everything once more, at rest. */
static void read_back(struct model *m)
{
	uint64_t chunk = align_down(64 * KiB, m->how->unit);

	for (uint64_t off = 0; off < m->size; off += chunk) {
		uint64_t len = min_u64(chunk, m->size - off);
		struct td_req r = { .offset = off, .length = len };
		struct ticket t = { .m = m, .r = &r, .start = ++m->now + 1 };

		if (posix_memalign((void **)&t.buf, 4096, len))
			abort();
		memset(t.buf, 0xee, len);
		if (rig_read(m->g, off, len, t.buf))
			m->wrong++;
		check(&t);
		free(t.buf);
	}
}

unsigned model_run(struct rig *g, const struct model_run *how)
{
	struct model m = { .g = g, .how = how, .random = how->seed,
			   .next_stamp = 1 };
	uint64_t cells;

	/* A unit lies in one sector, so no order of writes can tear it. */
	ASSERT(is_pow2(how->unit) && how->unit <= 512 && how->depth <= RIG_DEPTH);
	m.size = td_tree_root(g->tree)->size;
	if (how->span)
		m.size = min_u64(m.size, how->span);
	m.size = align_down(m.size, how->unit);
	cells = m.size / how->unit;
	m.stride = align_up(sizeof(struct cell) +
			    CANDIDATES * sizeof(struct candidate), 8);
	m.cells = calloc(cells, m.stride);
	m.now = 1;
	for (uint64_t i = 0; i < cells; i++) {	/* the file was empty */
		struct cell *c = cell_at(&m, i);

		c->n = 1;
		c->v[0] = (struct candidate){ .stamp = STAMP_ZERO, .start = 1,
					      .end = 1 };
	}
	m.now = 2;
	more(&m);
	rig_run(g, &m.idle);
	read_back(&m);
	free(m.cells);
	if (m.wrong)
		printf("%u wrong; seed %llu\n", m.wrong,
		       (unsigned long long)how->seed);
	return m.wrong;
}
