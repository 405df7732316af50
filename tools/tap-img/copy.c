/* copy.c - copying images into one: several jobs, each of which reads a piece,
 * looks for zeroes in it and writes the rest, while the others do the same.
 *
 *   next piece (copy_run) -> job: read -> read_done -> its turn? -> write_more ->
 *   part_done ... -> job_end
 *
 * With `differ`, the destination is read as well, and what is the same is left out.
 * With `salvage`, a read that fails is made again in smaller pieces, down to sectors, and
 * those that fail still are zeroes.
 *
 * I1  Pieces begin where the one before ended; job->seq counts them.
 * I2  Ordered: a job issues its writes when all jobs before it have issued theirs
 *     (turn == seq), so an image that hands out space as it is written is laid
 *     out in the order of the disk.
 * I3  A job is free when nothing of it is under way: outstanding == 0 and all
 *     parts are issued, or there was an error.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "tap_img.h"

#define BUF (2u << 20)
#define ZERO_PIECE (1ull << 30)
#define GAP 65536u	/* a shorter hole between data is read with it */
#define ALIGN 4096u

enum job_state { JOB_FREE, JOB_READING, JOB_WAITING, JOB_WRITING };

struct job {
	struct work *w;
	enum job_state state;
	struct img *src;
	uint64_t off, len;	/* of the disk */
	uint64_t src_off;
	bool zero;		/* nothing to read */
	uint64_t pos;		/* parts before it are issued */
	uint64_t seq;
	unsigned outstanding;
	char *buf;
	char *old;		/* differ: what the destination has */
	/* salvage: read up to here; how much at a time; where what is lost begins. */
	uint64_t got, step, lost;
	int lost_err;
};

struct work {
	struct copy *c;
	struct scan there;	/* differ: of the destination as it was */
	struct job *job;
	uint64_t turn, seq;
	uint64_t since_ns, paid;	/* of the rate: when it began, bytes */
	int err;
};

bool is_zero(const void *buf, size_t len)
{
	const char *p = buf;

	return !len || (!p[0] && !memcmp(p, p + 1, len - 1));
}

static void fail(struct work *w, int err, const char *what, const char *name,
		 uint64_t off)
{
	if (!w->err && err == -EOPNOTSUPP && w->c->pack)
		log_err("%s: images of this format are not written compressed", name);
	else if (!w->err)
		log_err("cannot %s %s at byte %llu: %s", what, name,
			(unsigned long long)off, strerror(-err));
	if (!w->err)
		w->err = err;
}

/* Writing. */

enum part_kind { PART_DATA, PART_ZERO, PART_SAME };

struct part {
	uint64_t off, len;
	enum part_kind kind;
};

static enum part_kind kind_of(const struct job *j, uint64_t pos, uint64_t len)
{
	const struct copy *c = j->w->c;
	const char *p = j->buf + (pos - j->off);

	if (j->zero)
		return PART_ZERO;
	if (c->differ && !memcmp(p, j->old + (pos - j->off), len))
		return PART_SAME;
	if (!c->grain || !is_zero(p, len))
		return PART_DATA;
	return c->dst_zero ? PART_SAME : PART_ZERO;
}

/* The longest part of one kind from j->pos on, in steps that end at multiples of the
 * grain; one unit, if it is to be packed. */
static struct part next_part(const struct job *j)
{
	const struct copy *c = j->w->c;
	uint64_t end = j->off + j->len, pos = j->pos;
	uint64_t step = c->pack ? c->unit : c->grain ? c->grain : BUF;
	struct part p = { .off = pos };

	if (j->zero)
		return (struct part){ pos, end - pos, PART_ZERO };
	while (pos < end) {
		uint64_t n = min_u64(align_down(pos, step) + step, end) - pos;
		enum part_kind kind = kind_of(j, pos, n);

		if (p.len && (kind != p.kind || (c->pack && kind == PART_DATA)))
			break;
		p.kind = kind;
		p.len += n;
		pos += n;
	}
	return p;
}

static void part_done(struct td_req *r, int err);

/* A cluster where two sources meet comes in two parts, which are written plain. */
static bool is_whole_unit(const struct copy *c, const struct part *p)
{
	return is_aligned(p->off, c->unit) &&
	       (p->len == c->unit || p->off + p->len == img_size(c->dst));
}

/* False: no request is to be had now. */
static bool issue(struct job *j, const struct part *p)
{
	const struct copy *c = j->w->c;
	bool zero = p->kind == PART_ZERO;
	void *data = zero ? NULL : j->buf + (p->off - j->off);
	enum td_op op = zero ? TD_OP_ZEROES : TD_OP_WRITE;
	unsigned flags = zero ? (c->grain ? 0 : TD_REQ_NO_HOLE) :
			 c->pack && is_whole_unit(c, p) ? TD_REQ_PACK : 0;

	if (p->kind == PART_SAME)
		return true;
	j->outstanding++;
	if (img_start(c->dst, op, flags, p->off, p->len, data, part_done, j))
		return true;
	j->outstanding--;
	return false;
}

static void job_end(struct job *j)
{
	progress_add(j->len);
	j->state = JOB_FREE;
	env_wake();
}

/* All that can be issued of j.  True: that was the rest of it. */
static bool write_more(struct job *j)
{
	uint64_t end = j->off + j->len;

	while (j->pos < end && !j->w->err) {
		struct part p = next_part(j);

		if (!issue(j, &p))
			return false;
		j->pos += p.len;
	}
	j->pos = end;
	if (!j->outstanding)
		job_end(j);
	return true;
}

/* Jobs whose turn it is, or that found no request, go on: the oldest first. */
static void go_on(struct work *w)
{
	for (;;) {
		struct job *j = NULL;

		for (unsigned i = 0; i < w->c->jobs; i++) {
			struct job *o = &w->job[i];
			bool due = o->state == JOB_WRITING ?
				   o->pos < o->off + o->len :
				   o->state == JOB_WAITING &&
				   (!w->c->ordered || o->seq == w->turn || w->err);

			if (due && (!j || o->seq < j->seq))
				j = o;
		}
		if (!j)
			return;
		j->state = JOB_WRITING;
		if (!write_more(j))
			return;
		w->turn += j->seq == w->turn;
	}
}

static void part_done(struct td_req *r, int err)
{
	struct img_part *p = r->owner;
	struct job *j = p->owner;
	struct work *w = j->w;

	if (err)
		fail(w, err, "write to", w->c->dst->name, p->at);
	j->outstanding--;
	td_pool_put(w->c->dst->pool, r);
	if (!j->outstanding && (j->pos == j->off + j->len || w->err))
		job_end(j);
	go_on(w);
}

/* Reading. */

static void read_ended(struct job *j)
{
	if (--j->outstanding)
		return;
	j->state = JOB_WAITING;
	go_on(j->w);
}

/* Salvaging. */

#define SECTOR 512u
#define NOT_LOST UINT64_MAX

/* What was lost up to j->got ends there. */
static void tell_lost(struct job *j)
{
	if (j->lost == NOT_LOST)
		return;
	if (!j->w->c->quiet)
		log_warn("%s: bytes %llu to %llu cannot be read (%s): zeroes are in their "
			 "place", j->src->name,
			 (unsigned long long)(j->src_off + j->lost),
			 (unsigned long long)(j->src_off + j->got - 1),
			 strerror(-j->lost_err));
	j->lost = NOT_LOST;
}

static void salvage_next(struct job *j);

/* Half as much where it fails, twice as much where it does not. */
static void salvaged(struct td_req *r, int err)
{
	struct img_part *p = r->owner;
	struct job *j = p->owner;
	uint64_t n = p->iov.iov_len;

	td_pool_put(j->src->pool, r);
	if (err && n > SECTOR) {
		j->step = align_up(n / 2, SECTOR);
		salvage_next(j);
		return;
	}
	if (err) {
		memset(j->buf + j->got, 0, n);
		j->lost = min_u64(j->lost, j->got);
		j->lost_err = err;
	} else {
		tell_lost(j);
		j->step = min_u64(2 * j->step, BUF);
	}
	j->got += n;
	salvage_next(j);
}

static void salvage_next(struct job *j)
{
	if (j->got == j->len) {
		tell_lost(j);
		read_ended(j);
		return;
	}
	if (!img_start(j->src, TD_OP_READ, 0, j->src_off + j->got,
		       min_u64(j->step, j->len - j->got), j->buf + j->got, salvaged, j))
		ASSERT(!"one read a job");
}

static void read_done(struct td_req *r, int err)
{
	struct img_part *p = r->owner;
	struct job *j = p->owner;

	td_pool_put(j->src->pool, r);
	if (err && j->w->c->salvage) {
		j->got = 0;
		j->step = BUF / 2;
		j->lost = NOT_LOST;
		salvage_next(j);
		return;
	}
	if (err)
		fail(j->w, err, "read", j->src->name, j->src_off);
	read_ended(j);
}

static void old_done(struct td_req *r, int err)
{
	struct img_part *p = r->owner;
	struct job *j = p->owner;

	td_pool_put(j->w->c->dst->pool, r);
	if (err)
		fail(j->w, err, "read", j->w->c->dst->name, j->off);
	read_ended(j);
}

static struct job *free_job(struct work *w)
{
	for (;;) {
		for (unsigned i = 0; i < w->c->jobs; i++)
			if (w->job[i].state == JOB_FREE)
				return &w->job[i];
		env_wait();
	}
}

/* So many bytes are due when those before them have taken their time. */
static void keep_rate(struct work *w, uint64_t len)
{
	uint64_t due, now = clock_ns();

	if (!w->c->rate)
		return;
	due = w->since_ns + (uint64_t)((double)w->paid / (double)w->c->rate * NS_PER_S);
	if (due > now)
		env_sleep(due - now);
	w->paid += len;
}

static void start(struct work *w, struct img *src, uint64_t src_off, uint64_t off,
		  uint64_t len, bool zero)
{
	struct job *j;

	if (!zero)
		keep_rate(w, len);
	j = free_job(w);

	*j = (struct job){
		.w = w, .buf = j->buf, .old = j->old, .state = JOB_READING,
		.src = src, .src_off = src_off, .off = off, .pos = off, .len = len,
		.zero = zero, .seq = w->seq++, .outstanding = w->c->differ ? 2 : 1,
	};
	if (zero) {
		j->outstanding = 0;
		j->state = JOB_WAITING;
		go_on(w);
		return;
	}
	while (!img_start(src, TD_OP_READ, 0, src_off, len, j->buf, read_done, j))
		env_wait();
	while (w->c->differ &&
	       !img_start(w->c->dst, TD_OP_READ, 0, off, len, j->old, old_done, j))
		env_wait();
}

/* Of tables that cannot be read, too, there may be something to salvage behind them. */
static int source_at(const struct copy *c, struct scan *s, uint64_t off, uint64_t max,
		     struct td_extent *e)
{
	int err = scan_at(s, off, max, e);

	if (!err || !c->salvage)
		return err;
	*e = (struct td_extent){ .length = min_u64(max, GAP - off % GAP) };
	return 0;
}

/* The next piece of a source from off on, which is byte `at` of the disk: zeroes,
 * or data with no hole in it that is worth leaving out, at most a buffer.  Pieces
 * end where units of the destination end. */
static int next_piece(const struct copy *c, struct scan *s, uint64_t off,
		      uint64_t end, uint64_t at, uint64_t *len, bool *zero)
{
	uint64_t max = min_u64(end - off, BUF - at % c->unit), n = 0;
	struct td_extent e;
	int err = source_at(c, s, off, min_u64(end - off, ZERO_PIECE), &e);

	if (err)
		return err;
	if (e.flags & TD_EXTENT_ZERO) {
		n = off + e.length == end ? e.length :
		    max_u64(align_down(at + e.length, c->unit), at) - at;
		*zero = n;
		*len = n;
		if (n)
			return 0;
	}
	for (*zero = false; n < max; n += e.length) {
		err = source_at(c, s, off + n, max - n, &e);
		if (err)
			return err;
		if ((e.flags & TD_EXTENT_ZERO) && n && e.length >= GAP)
			break;
	}
	*len = min_u64(align_up(at + n, c->unit) - at, max);
	return 0;
}

/* Zeroes need not be written where there are zeroes already: *skip.  *len is cut to
 * what is the one or the other. */
static int zeroes_there(struct work *w, uint64_t at, uint64_t *len, bool *skip)
{
	struct copy *c = w->c;
	struct td_extent e;
	uint64_t n;
	int err;

	*skip = c->dst_zero && c->grain;
	if (!c->differ)
		return 0;
	err = scan_at(&w->there, at, *len, &e);
	if (err || e.length == *len) {
		*skip = e.flags & TD_EXTENT_ZERO;
		return err;
	}
	n = align_down(at + e.length, c->unit);
	*skip = n > at && e.flags & TD_EXTENT_ZERO;
	*len = n > at ? n - at : min_u64(c->unit - at % c->unit, *len);
	return 0;
}

static int copy_source(struct work *w, struct img *src, uint64_t *at)
{
	struct copy *c = w->c;
	uint64_t off = 0, end = min_u64(img_size(src), c->size - *at), len;
	struct scan s;

	scan_begin(&s, src, 0);
	for (; off < end && !w->err; off += len) {
		bool zero, skip = false;
		int err = next_piece(c, &s, off, end, *at + off, &len, &zero);

		if (!err && zero)
			err = zeroes_there(w, *at + off, &len, &skip);
		if (err) {
			w->err = w->err ? w->err : err;
			break;
		}
		if (skip)
			progress_add(len);
		else
			start(w, src, off, *at + off, len, zero);
	}
	*at += end;
	return w->err;
}

static bool busy(const struct work *w)
{
	for (unsigned i = 0; i < w->c->jobs; i++)
		if (w->job[i].state != JOB_FREE)
			return true;
	return false;
}

int copy_run(struct copy *c)
{
	struct work w = { .c = c, .since_ns = clock_ns() };
	uint64_t at = 0;

	w.job = calloc(c->jobs, sizeof(*w.job));
	ASSERT(w.job);
	scan_begin(&w.there, c->dst, 0);
	for (unsigned i = 0; i < c->jobs && !w.err; i++) {
		w.err = -posix_memalign((void **)&w.job[i].buf, ALIGN, BUF);
		if (!w.err && c->differ)
			w.err = -posix_memalign((void **)&w.job[i].old, ALIGN, BUF);
	}
	if (w.err)
		log_err("no memory for %u buffers", c->jobs);
	for (unsigned i = 0; i < c->n_src && !w.err; i++)
		copy_source(&w, &c->src[i], &at);
	go_on(&w);
	while (busy(&w))
		env_wait();
	for (unsigned i = 0; i < c->jobs; i++) {
		free(w.job[i].buf);
		free(w.job[i].old);
	}
	free(w.job);
	return w.err;
}
