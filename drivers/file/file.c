/* file.c - raw files and block devices, through libaio and O_DIRECT.
 *
 * Image name: aio:/path (also file:/path, phy:/dev/...).
 *
 * A request whose offset, length and memory suit the descriptor goes to the
 * kernel as it is; the way there and back is a handful of short functions.  All
 * others take the road of slow.c.  Direct reads do not wait for writes: whoever
 * reads what he is writing at the same moment gets old or new sectors, as from
 * any disk, and a read-modify-write puts back the bytes that it found around its
 * own.  From the page cache the kernel copies what another thread is copying
 * there, halves of sectors too: reads through it do wait (I4).
 *
 * Size: a length that is no multiple of 512 is rounded up; the bytes behind the
 * end read as zeroes, and writing them makes the file longer.  A length that is
 * no multiple of what O_DIRECT wants goes through the page cache instead.  That
 * last sector is read in two steps, up to the end and behind it, so reads of it
 * do wait: else one could see it half written.
 *
 * I1  A write, discard or zeroes request is in `ranges` from before its first
 *     byte goes to the kernel until after its last has come back.
 * I2  A write that touches a host block in part, and every fallocate, is there
 *     exclusively: no other write of those blocks is in the kernel meanwhile.
 * I3  Once an fdatasync has failed, none succeeds until the file is reopened; nor
 *     in a process that takes up what one has left that died.
 * I4  Without O_DIRECT, reads are in `ranges` too, and writes exclusively.
 */
#include "file/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "redo_area.h"

/* Reads, writes, flushes. */

static void io_failed(struct file_req *q, int err)
{
	static const char *const verb[TD_OP_NR] = {
		[TD_OP_READ] = "read", [TD_OP_WRITE] = "write",
		[TD_OP_FLUSH] = "flush", [TD_OP_DISCARD] = "discard",
		[TD_OP_ZEROES] = "zero", [TD_OP_EXTENTS] = "map",
	};
	const struct td_req *r = q->r;

	if (err != -EOPNOTSUPP && log_allowed(&q->f->limit))
		td_warn(q->f->node, "cannot %s %llu bytes at %llu: %s",
			verb[r->op], (unsigned long long)r->length,
			(unsigned long long)r->offset, strerror(-err));
}

/* The kernel reports a failed write-back once and then forgets it, with the
 * pages marked clean: a second fdatasync that succeeds would say that lost data
 * is safe.  So the failure is remembered (I3), and whoever wants to go on has
 * to reopen the file and find out what is there.  For the same reason one
 * fdatasync runs at a time: of two, one would be told of the failure and the
 * other, perhaps the first to come back, that all is well. */
static void sync_next(struct file *f);

void file_sync_failed(struct file *f)
{
	f->sync_failed = true;
	redo_sync_failed(f->node->env);
}

static void sync_done(struct io_op *op, int64_t res)
{
	struct file *f = container_of(op, struct file_req, op)->f;
	struct list *e;

	if (res < 0 && !f->sync_failed) {
		file_sync_failed(f);
		td_warn(f->node, "cannot flush: %s; every flush will fail until "
			"the image is closed and opened again", strerror((int)-res));
	}
	if (!res && f->sync_failed)	/* a durable write has been told of it */
		res = -EIO;
	while ((e = list_pop(&f->syncing)))
		td_complete(container_of(e, struct file_req, sync)->r, (int)res);
	sync_next(f);
}

static void sync_next(struct file *f)
{
	struct list *e;

	while ((e = list_pop(&f->to_sync))) {
		if (f->sync_failed)
			td_complete(container_of(e, struct file_req, sync)->r,
				    -EIO);
		else
			list_add(&f->syncing, e);
	}
	if (!list_empty(&f->syncing))
		io_datasync(f->node->env->io,
			    &list_first(&f->syncing, struct file_req, sync)->op,
			    f->fd, sync_done);
}

/* All that was answered before this is in what the next fdatasync writes. */
static void start_sync(struct file_req *q)
{
	list_add(&q->f->to_sync, &q->sync);
	if (list_empty(&q->f->syncing))
		sync_next(q->f);
}

void file_end(struct file_req *q, int err, bool durable)
{
	if (q->writes)
		redo_write_ended(q->f->node->env);
	q->writes = false;
	if (q->in_range) {
		q->in_range = false;
		range_leave(&q->f->ranges, &q->range);
	}
	if (err)
		io_failed(q, err);
	else if (!durable && (q->r->flags & TD_REQ_FUA)) {
		start_sync(q);
		return;
	}
	td_complete(q->r, err);
}

static void slow_end(struct file_req *q, int err)
{
	file_end(q, err, false);
}

static void read_done(struct io_op *op, int64_t res)
{
	struct file_req *q = container_of(op, struct file_req, op);
	struct td_req *r = q->r;

	if (res == (int64_t)r->length) {
		file_end(q, 0, true);
	} else if (res < 0) {
		file_end(q, (int)res, true);
	} else if (res && is_aligned((uint64_t)res, q->f->geo.align)) {
		file_slow(q, r->offset + (uint64_t)res, r->offset + r->length,
			  slow_end);
	} else {			/* the end of the file */
		iov_zero(r->iov, r->iovcnt, (uint64_t)res,
			    r->length - (uint64_t)res);
		file_end(q, 0, true);
	}
}

/* Without O_DIRECT io_submit(2) would wait for the page cache, and the loop with
 * it: a worker does the call. */
static void run_cached(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	const struct td_req *r = q->r;
	off_t at = (off_t)r->offset;
	ssize_t n;

	do
		n = r->op == TD_OP_READ ?
		    preadv(q->f->fd, r->iov, (int)r->iovcnt, at) :
		    pwritev2(q->f->fd, r->iov, (int)r->iovcnt, at, q->mode);
	while (n < 0 && errno == EINTR);
	q->op.res = n < 0 ? -errno : n;
}

static void cached_done(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);

	q->op.done(&q->op, q->op.res);
}

static void start_cached(struct file_req *q, io_done_fn *done)
{
	q->op.done = done;
	q->job.run = run_cached;
	q->job.done = cached_done;
	worker_submit(q->f->node->env->workers, &q->job);
}

static void write_done(struct io_op *op, int64_t res);

static void start_write(struct file_req *q)
{
	const struct td_req *r = q->r;

	q->mode = (r->flags & TD_REQ_FUA) && !q->f->no_dsync ? RWF_DSYNC : 0;
	if (q->f->geo.direct)
		io_writev(q->f->node->env->io, &q->op, q->f->fd, r->iov,
			  r->iovcnt, r->offset, q->mode, write_done);
	else
		start_cached(q, write_done);
}

static void write_done(struct io_op *op, int64_t res)
{
	struct file_req *q = container_of(op, struct file_req, op);
	const struct td_req *r = q->r;
	bool dsync = q->mode & RWF_DSYNC;

	if (res == (int64_t)r->length) {
		/* dsync on a descriptor whose sync has failed: see I3. */
		file_end(q, 0, dsync && !q->f->sync_failed);
	} else if (dsync && (res == -EOPNOTSUPP || res == -EINVAL)) {
		q->f->no_dsync = true;	/* kernels before 4.13 */
		start_write(q);
	} else if (res < 0) {
		/* This one may also report what earlier writes have lost. */
		if (dsync && res == -EIO)
			file_sync_failed(q->f);
		file_end(q, (int)res, true);
	} else if (res && is_aligned((uint64_t)res, q->f->geo.align)) {
		file_slow(q, r->offset + (uint64_t)res, r->offset + r->length,
			  slow_end);
	} else {
		file_end(q, -EIO, true);
	}
}

static void write_ready(struct range *range)
{
	start_write(container_of(range, struct file_req, range));
}

static void slow_write_ready(struct range *range)
{
	struct file_req *q = container_of(range, struct file_req, range);

	file_slow(q, q->r->offset, q->r->offset + q->r->length, slow_end);
}

static bool suits(const struct file *f, const struct td_req *r)
{
	uint64_t at = r->offset, mem = 0;

	for (unsigned i = 0; i < r->iovcnt; i++) {
		at |= r->iov[i].iov_len;
		mem |= (uintptr_t)r->iov[i].iov_base;
	}
	return is_aligned(at, f->geo.align) && is_aligned(mem, f->geo.mem_align) &&
	       r->iovcnt <= IOV_MAX;
}

/* I1, I2, I4 */
static void enter(struct file_req *q, void (*ready)(struct range *range))
{
	const struct td_req *r = q->r;
	uint32_t align = q->f->geo.align;
	uint64_t end = r->offset + r->length;

	q->range.start = align_down(r->offset, align);
	q->range.end = align_up(end, align);
	q->range.excl = q->range.start != r->offset || q->range.end != end ||
			end > q->f->odd_end ||
			(q->writes && !q->f->geo.direct);
	q->range.ready = ready;
	q->in_range = true;
	if (range_enter(&q->f->ranges, &q->range))
		ready(&q->range);
}

static void start_read(struct file_req *q)
{
	const struct td_req *r = q->r;

	if (!suits(q->f, r))
		file_slow(q, r->offset, r->offset + r->length, slow_end);
	else if (q->f->geo.direct)
		io_readv(q->f->node->env->io, &q->op, q->f->fd, r->iov,
			 r->iovcnt, r->offset, read_done);
	else
		start_cached(q, read_done);
}

static void read_ready(struct range *range)
{
	start_read(container_of(range, struct file_req, range));
}

static void file_submit(struct td_node *n, struct td_req *r)
{
	struct file_req *q = td_ctx(n, r);
	struct file *f = n->priv;

	q->f = f;
	q->r = r;
	q->in_range = q->writes = false;
	if (r->op == TD_OP_FLUSH) {
		if (n->flags & TD_NODE_RDONLY)
			td_complete(r, 0);
		else
			start_sync(q);
		return;
	}
	if (!r->length) {
		td_complete(r, 0);
		return;
	}
	if (r->op == TD_OP_WRITE || r->op == TD_OP_DISCARD || r->op == TD_OP_ZEROES) {
		q->writes = true;
		redo_write_begins(n->env);
	}
	switch (r->op) {
	case TD_OP_READ:
		if (!f->geo.direct || r->offset + r->length > f->odd_end)
			enter(q, read_ready);
		else
			start_read(q);
		break;
	case TD_OP_WRITE:
		enter(q, suits(f, r) ? write_ready : slow_write_ready);
		break;
	case TD_OP_DISCARD:
		file_discard(q);
		break;
	case TD_OP_ZEROES:
		file_zeroes(q);
		break;
	case TD_OP_EXTENTS:
		file_extents(q);
		break;
	default:
		ASSERT(!"control operations have slots of their own");
	}
}

void file_sized(struct file *f, uint64_t bytes)
{
	f->geo.bytes = bytes;
	f->geo.size = align_up(bytes, 512);
	f->odd_end = f->geo.size == bytes ? UINT64_MAX : bytes;
	td_set_geometry(f->node, f->geo.size, f->geo.phys);
}

/* Open: ask for the file -> got_file -> examine it (worker) -> examined. */

static void run_examine(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	struct file *f = q->f;
	const struct td_node *n = f->node, *up = n->up;
	unsigned how = 0;

	if (n->flags & TD_NODE_RDONLY)
		how |= FILE_RDONLY;
	if (up && up->driver->kind == TD_FORMAT && !up->driver->exact_end)
		how |= FILE_GROWS;
	if (n->env->redo && n->env->redo->recover)
		how |= FILE_EVIDENCE;
	q->err = file_geometry(f->fd, how, &f->geo, &q->why);
}

static void examined(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	struct file *f = q->f;
	struct td_node *n = f->node;
	uint32_t caps = n->driver->caps;

	if (q->err)
		td_err(n, "cannot open %s: %s (%s)", n->arg, q->why,
		       strerror(-q->err));
	else
		q->err = td_set_identity(n, f->geo.dev, f->geo.ino);
	if (q->err) {
		close(f->fd);
		bounce_free(&f->bounce);
		td_complete(q->r, q->err);
		return;
	}
	if (f->geo.lost_direct)
		td_warn(n, "%s: direct I/O is not possible%s; using the page cache",
			n->arg, f->geo.bytes % 4096 ?
			" (its size is not a multiple of the host's block)" : "");
	n->changed_ns = f->geo.changed_ns;
	file_sized(f, f->geo.bytes);
	f->no_punch = f->geo.no_punch;
	if (f->no_punch)
		caps &= ~(uint32_t)(TD_CAP_DISCARD | TD_CAP_FAST_ZERO);
	if (f->geo.block_device)
		caps &= ~(uint32_t)TD_CAP_EXTENTS;
	td_set_caps(n, caps);
	log_dbg(LOG_IO, "%s: %llu bytes, block %u, align %u, memory %u%s", n->arg,
		(unsigned long long)f->geo.bytes, f->geo.phys, f->geo.align,
		f->geo.mem_align, f->geo.direct ? ", direct" : "");
	td_complete(q->r, 0);
}

static void got_file(void *arg, const struct td_file *file)
{
	struct file_req *q = arg;
	struct td_node *n = q->f->node;

	if (file->err) {
		td_err(n, "cannot open %s: %s", n->arg,
		       file->why && *file->why ? file->why :
		       strerror(-file->err));
		bounce_free(&q->f->bounce);
		td_complete(q->r, file->err);
		return;
	}
	q->f->fd = file->fd;
	q->job.run = run_examine;
	q->job.done = examined;
	worker_submit(n->env->workers, &q->job);
}

static struct file_req *control(struct td_node *n, struct td_req *r)
{
	struct file_req *q = td_ctx(n, r);

	q->f = n->priv;
	q->r = r;
	return q;
}

static void file_open(struct td_node *n, struct td_req *r)
{
	struct file_req *q = control(n, r);
	struct file *f = q->f;

	*f = (struct file){ .node = n, .fd = -1 };
	f->odd_end = UINT64_MAX;
	f->sync_failed = !(n->flags & TD_NODE_RDONLY) && redo_sync_had_failed(n->env);
	ranges_init(&f->ranges);
	list_init(&f->syncing);
	list_init(&f->to_sync);
	bounce_init(&f->bounce, n->env->loop);
	n->env->file_get(n->env, n->arg, n->flags, got_file, q);
}

/* Close may wait for a server (NFS): a worker does it. */

static void run_close(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);

	q->err = close(q->f->fd) && errno != EINTR ? -errno : 0;
}

static void closed(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);

	td_complete(q->r, q->err);
}

static void file_close(struct td_node *n, struct td_req *r)
{
	struct file_req *q = control(n, r);

	ASSERT(list_empty(&q->f->ranges.all));
	bounce_free(&q->f->bounce);
	q->job.run = run_close;
	q->job.done = closed;
	worker_submit(n->env->workers, &q->job);
}

/* Resize: grow the file, or find out what it has grown to. */

static void run_resize(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	const struct file_geometry *g = &q->f->geo;
	uint64_t have, want = q->r->length;
	uint32_t align = g->align > 512 ? g->align : 512;

	q->err = file_bytes(q->f->fd, g->block_device, &have);
	q->why = "cannot examine it";
	if (q->err)
		return;
	q->why = NULL;
	if (!want) {
		/* An odd end could not be written directly: left out. */
		want = g->align > 512 ? align_down(have, align) :
		       align_up(have, align);
	} else if (!is_aligned(want, align)) {
		q->why = "the size must be a multiple of the host's block";
		q->err = -EINVAL;
		return;
	}
	if (want < q->f->node->size) {
		q->why = "disks never shrink";
		q->err = -ERANGE;
		return;
	}
	if (want > FILE_BYTES_MAX) {
		q->why = "it would be too large to be opened again";
		q->err = -EFBIG;
		return;
	}
	q->stop = want;
	q->start = have;		/* the file's end, when we are done */
	if (want <= align_up(have, align))
		return;
	if (g->block_device) {
		q->why = "the device is not that large";
		q->err = -ERANGE;
	} else if (file_truncate(q->f->fd, have, want)) {
		q->err = -errno;
	} else {
		q->start = want;
	}
}

static void resized(struct worker_job *j)
{
	struct file_req *q = container_of(j, struct file_req, job);
	struct td_node *n = q->f->node;

	redo_write_ended(n->env);
	if (q->in_range) {
		q->in_range = false;
		range_leave(&q->f->ranges, &q->range);
	}
	if (q->err) {
		td_err(n, "cannot resize %s: %s", n->arg,
		       q->why ? q->why : strerror(-q->err));
	} else {
		td_set_geometry(n, q->stop, n->phys);
		q->f->odd_end = is_aligned(q->start, 512) ? UINT64_MAX : q->start;
	}
	td_complete(q->r, q->err);
}

static void resize_ready(struct range *range)
{
	struct file_req *q = container_of(range, struct file_req, range);

	worker_submit(q->f->node->env->workers, &q->job);
}

/* Alone on the page that the file ends in: see file_truncate(). */
static void file_resize(struct td_node *n, struct td_req *r)
{
	struct file_req *q = control(n, r);

	redo_write_begins(n->env);
	q->job.run = run_resize;
	q->job.done = resized;
	q->range.start = align_down(n->size, FILE_PAGE);
	q->range.end = align_up(n->size, FILE_PAGE);
	q->range.excl = true;
	q->range.ready = resize_ready;
	q->in_range = q->range.start != q->range.end;
	if (!q->in_range || range_enter(&q->f->ranges, &q->range))
		resize_ready(&q->range);
}

static void file_stats(struct td_node *n, struct json_t *into)
{
	const struct file *f = n->priv;

	json_object_set_new(into, "direct", json_boolean(f->geo.direct));
	json_object_set_new(into, "align", json_integer(f->geo.align));
	json_object_set_new(into, "bounced", json_integer((json_int_t)f->bounced));
	json_object_set_new(into, "rmw", json_integer((json_int_t)f->rmw));
	json_object_set_new(into, "buffers", json_integer(f->bounce.made));
	json_object_set_new(into, "waiting", json_integer(f->ranges.waiting));
	json_object_set_new(into, "sync_failed", json_boolean(f->sync_failed));
}

static const char *const aliases[] = { "file", "phy", NULL };

const struct td_driver td_file = {
	.abi		= TD_DRIVER_ABI,
	.kind		= TD_STORE,
	.name		= "aio",
	.aliases	= aliases,
	.help		= "aio:/path  a raw file or block device",
	.caps		= TD_CAP_ALL,
	.node_ctx	= sizeof(struct file),
	.req_ctx	= sizeof(struct file_req),
	.open		= file_open,
	.submit		= file_submit,
	.close		= file_close,
	.resize		= file_resize,
	.blocking	= file_blocking,
	.stats		= file_stats,
};
