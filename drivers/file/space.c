/* space.c - discard, zeroes and block status of the raw store.
 *
 * fallocate(2) may take long: a worker calls it.  It holds its range alone, as
 * a read-modify-write does, so it is ordered against every overlapping write.
 * What is zeroed by a punch reads as zeroes, on files and (the kernel refuses
 * instead of pretending) on block devices.
 *
 * A kernel or file system that refuses is asked once, then no more: discard is
 * withdrawn, zeroes are written out, fast zeroes refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "file/file_priv.h"

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO_RANGE (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

static bool unsupported(int err)
{
	return err == -EOPNOTSUPP || err == -ENOSYS || err == -ENODEV;
}

static void run_fallocate(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	int rc;

	do
		rc = fallocate(q->f->fd, q->mode, (off_t)q->start,
			       (off_t)(q->stop - q->start));
	while (rc && errno == EINTR);
	q->err = rc ? -errno : 0;
}

static void start_fallocate(struct file_req *q, int mode,
			    void (*done)(struct worker_job *j))
{
	q->mode = mode;
	q->job.run = run_fallocate;
	q->job.done = done;
	worker_submit(q->f->node->env->workers, &q->job);
}

static void caps_lost(struct file *f, uint32_t caps)
{
	td_set_caps(f->node, f->node->caps & ~caps);
}

/* Discard: whole blocks only, the rest of the hint is ignored. */

static void discard_done(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	struct file *f = q->f;

	if (unsupported(q->err)) {
		f->no_punch = true;
		caps_lost(f, TD_CAP_DISCARD | TD_CAP_FAST_ZERO);
		q->err = -EOPNOTSUPP;
	}
	file_end(q, q->err, false);
}

static void discard_ready(struct range *range)
{
	start_fallocate(container_of(range, struct file_req, range), PUNCH,
			discard_done);
}

static void take_range(struct file_req *q, uint64_t start, uint64_t end,
		       void (*ready)(struct range *r))
{
	q->range.start = start;
	q->range.end = end;
	q->range.excl = true;
	q->range.ready = ready;
	q->in_range = true;
	if (range_enter(&q->f->ranges, &q->range))
		ready(&q->range);
}

void file_discard(struct file_req *q)
{
	uint32_t align = q->f->geo.trim_align;

	q->start = align_up(q->r->offset, align);
	q->stop = align_down(q->r->offset + q->r->length, align);
	if (q->start >= q->stop)
		file_end(q, 0, true);
	else
		take_range(q, q->start, q->stop, discard_ready);
}

/* Zeroes: head (read-modify-write), whole blocks (fallocate, or written),
 * tail (read-modify-write).  A step follows the other as each is done. */

static void zero_tail(struct file_req *q, int err);

static void zero_end(struct file_req *q, int err)
{
	file_end(q, err, false);
}

static int zero_mode(const struct file_req *q)
{
	const struct file *f = q->f;
	bool no_hole = q->r->flags & TD_REQ_NO_HOLE;

	if (!no_hole && !f->no_punch)
		return PUNCH;
	/* On a block device the kernel may do this by writing. */
	if (!f->no_zero_range &&
	    !(f->geo.block_device && (q->r->flags & TD_REQ_FAST)))
		return ZERO_RANGE;
	return 0;
}

static void zero_middle(struct file_req *q, int err);

static void zero_middle_done(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);

	if (!unsupported(q->err)) {
		zero_tail(q, q->err);
		return;
	}
	if (q->mode == PUNCH)
		q->f->no_punch = true;
	else
		q->f->no_zero_range = true;
	if (q->f->no_punch)
		caps_lost(q->f, TD_CAP_DISCARD | TD_CAP_FAST_ZERO);
	zero_middle(q, 0);
}

static void zero_middle(struct file_req *q, int err)
{
	int mode = zero_mode(q);

	if (err)
		zero_end(q, err);
	else if (mode)
		start_fallocate(q, mode, zero_middle_done);
	else if (q->r->flags & TD_REQ_FAST)
		zero_end(q, -EOPNOTSUPP);
	else
		file_slow(q, q->start, q->stop, zero_tail);
}

static void zero_tail(struct file_req *q, int err)
{
	uint64_t end = q->r->offset + q->r->length;

	if (err || q->stop == end)
		zero_end(q, err);
	else
		file_slow(q, q->stop, end, zero_end);
}

static void zero_ready(struct range *range)
{
	struct file_req *q = container_of(range, struct file_req, range);
	const struct td_req *r = q->r;

	if (q->start >= q->stop)
		file_slow(q, r->offset, r->offset + r->length, zero_end);
	else if (r->offset < q->start)
		file_slow(q, r->offset, q->start, zero_middle);
	else
		zero_middle(q, 0);
}

void file_zeroes(struct file_req *q)
{
	const struct td_req *r = q->r;
	uint64_t end = r->offset + r->length;
	uint32_t align = q->f->geo.align;

	q->start = r->offset;
	q->stop = end;
	/* Files take any range, but zero a part of a page in the page cache: a
	 * direct write to the rest of that page then collides with it, which the
	 * kernel counts as lost data: the next fdatasync fails. */
	if (q->f->geo.block_device || q->f->geo.direct) {
		q->start = align_up(r->offset, q->f->geo.trim_align);
		q->stop = align_down(end, q->f->geo.trim_align);
	}
	if ((r->flags & TD_REQ_FAST) && !zero_mode(q))
		file_end(q, -EOPNOTSUPP, true);
	else
		take_range(q, align_down(r->offset, align),
			   align_up(end, align), zero_ready);
}

/* Block status. */

/* The next boundary at or after pos, at most end, in units of 512. */
static uint64_t seek_from(int fd, uint64_t pos, uint64_t end, int whence)
{
	off_t at = lseek(fd, (off_t)pos, whence);

	/* ENXIO: nothing but a hole from here on.  Whoever cannot tell has data
	 * everywhere: a backup would leave out what is called a hole. */
	if (at < 0)
		return whence == SEEK_DATA && errno != ENXIO ? pos : end;
	if (whence == SEEK_HOLE)
		return min_u64(end, align_up((uint64_t)at, 512));
	return min_u64(end, max_u64(pos, align_down((uint64_t)at, 512)));
}

static void run_extents(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	struct td_extents *x = q->r->extents;
	uint64_t pos = q->r->offset, end = pos + q->r->length, next;

	while (pos < end) {
		struct td_extent e = { 0 };

		next = seek_from(q->f->fd, pos, end, SEEK_DATA);
		if (next > pos)
			e.flags = TD_EXTENT_HOLE | TD_EXTENT_ZERO;
		else
			next = seek_from(q->f->fd, pos, end, SEEK_HOLE);
		if (next == pos)	/* changed between the two calls */
			next = min_u64(end, pos + 512);
		if (q->r->flags & TD_REQ_WHERE) {
			e.flags |= TD_EXTENT_AT;
			e.host = pos;
		}
		e.length = next - pos;
		if (!td_extent_add_at(x, &e))
			break;
		pos = next;
	}
}

static void extents_done(struct worker_job *j)
{
	file_end(container_of(j, struct file_req, job), 0, true);
}

void file_extents(struct file_req *q)
{
	q->job.run = run_extents;
	q->job.done = extents_done;
	worker_submit(q->f->node->env->workers, &q->job);
}
