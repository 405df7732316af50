/* fio-tapring.c - an external engine for fio: a tapdisk's ring as fio's disk.
 *
 *	fio --name=t --ioengine=external:.../fio-tapring.so \
 *	    --sock=/var/run/tap/ring0.sock --rw=randread --bs=4k --iodepth=16
 *
 * Each job connects to the ring of its own, and its buffers are the ring's data
 * area: nothing is copied.  Requests are at most 1 MiB (the ring's limit).
 *
 * This file includes fio's headers (GPL-2.0): the object made of it is under
 * the GPL, version 2.  The text here is BSD-2-Clause like the rest of the tree,
 * which the GPL allows.
 */
#include "fio.h"
#include "optgroup.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "tapring.h"

struct options {
	void *pad;		/* fio wants it: offset 0 means "none" */
	char *sock, *rundir;
	unsigned int minor, abi, order, queues, poll_us, indirect;
};

struct client {
	struct tapring *ring;
	struct tapring_queue *queue[TAPRING_MAX_QUEUES];
	unsigned int queues;
	struct io_u **done;
	struct tapring_answer *answer;
	unsigned int max;
};

#define OPTION(name_, lname_, type_, def_, help_)                            \
	{ .name = #name_, .lname = lname_, .type = type_, .def = def_,       \
	  .off1 = offsetof(struct options, name_), .help = help_,            \
	  .category = FIO_OPT_C_ENGINE, .group = FIO_OPT_G_INVALID }

static struct fio_option options[] = {
	OPTION(sock, "Ring socket", FIO_OPT_STR_STORE, NULL,
	       "the disk's ring socket; instead of rundir and minor"),
	OPTION(rundir, "Run directory", FIO_OPT_STR_STORE, "/var/run/tap",
	       "where the disks' sockets are"),
	OPTION(minor, "Minor", FIO_OPT_INT, "0", "the disk's number"),
	{ .name = "abi", .lname = "Slot layout", .type = FIO_OPT_STR,
	  .off1 = offsetof(struct options, abi), .def = "native",
	  .help = "layout of the ring's slots",
	  .posval = {
		{ .ival = "native", .oval = TAPRING_ABI_NATIVE },
		{ .ival = "x86_32", .oval = TAPRING_ABI_X86_32 },
		{ .ival = "x86_64", .oval = TAPRING_ABI_X86_64 },
	  },
	  .category = FIO_OPT_C_ENGINE, .group = FIO_OPT_G_INVALID },
	OPTION(order, "Ring order", FIO_OPT_INT, "0",
	       "log2 of a ring's pages; 0: as many as iodepth needs"),
	OPTION(queues, "Queues", FIO_OPT_INT, "1", "rings, used in turn"),
	OPTION(poll_us, "Polling", FIO_OPT_INT, "0",
	       "spin for answers at most so long before sleeping"),
	OPTION(indirect, "Segments", FIO_OPT_INT, "0",
	       "pages a request may touch; 11: no indirect requests; 0: all"),
	{ .name = NULL },
};

static int ring_path(const struct options *o, char *buf, size_t len)
{
	int n = o->sock ? snprintf(buf, len, "%s", o->sock) :
		snprintf(buf, len, "%s/ring%u.sock", o->rundir, o->minor);

	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

static int dial(struct thread_data *td, size_t data, struct tapring **r)
{
	const struct options *o = td->eo;
	struct tapring_opts ro = {
		.abi = o->abi, .queues = o->queues, .order = o->order,
		.max_segments = o->indirect, .data = data,
		.poll_ns = (uint64_t)o->poll_us * 1000,
	};
	struct tapring_info info;
	char path[108];
	int err = ring_path(o, path, sizeof(path));

	/* Slots for iodepth requests; the smallest ring that has them. */
	while (!err) {
		err = tapring_connect(path, &ro, r);
		if (err)
			break;
		tapring_get_info(*r, &info);
		if (o->order || ro.order == info.max_order ||
		    info.depth * info.queues >= td->o.iodepth)
			break;
		tapring_close(*r);
		ro.order++;
	}
	if (err)
		log_err("fio: tapring: cannot connect to %s: %s\n", path,
			strerror(-err));
	return err;
}

/* In fio's parent process: the size, and nothing kept. */
static int ring_setup(struct thread_data *td)
{
	struct tapring *r;

	if (!td->files_index) {
		add_file(td, "tapring", 0, 0);
		td->o.nr_files = td->o.nr_files ? : 1;
		td->o.open_files++;
	}
	if (dial(td, 4096, &r))
		return 1;
	td->files[0]->real_file_size = tapring_size(r);
	tapring_close(r);
	return 0;
}

static int ring_init(struct thread_data *td)
{
	struct client *c = calloc(1, sizeof(*c));

	if (!c)
		return 1;
	c->max = td->o.iodepth;
	c->done = calloc(c->max, sizeof(struct io_u *));
	c->answer = calloc(c->max, sizeof(*c->answer));
	td->io_ops_data = c;
	return !c->done || !c->answer;
}

static void ring_cleanup(struct thread_data *td)
{
	struct client *c = td->io_ops_data;

	if (!c)
		return;
	tapring_close(c->ring);
	free(c->done);
	free(c->answer);
	free(c);
	td->io_ops_data = NULL;
}

static int connect_ring(struct thread_data *td, size_t len)
{
	struct client *c = td->io_ops_data;
	struct tapring_info info;

	tapring_close(c->ring);
	c->ring = NULL;
	if (dial(td, len, &c->ring))
		return 1;
	tapring_get_info(c->ring, &info);
	c->queues = info.queues;
	for (unsigned int i = 0; i < c->queues; i++)
		c->queue[i] = tapring_get_queue(c->ring, i);
	return 0;
}

/* fio asks for its buffers once it knows how much it needs: the connection is
 * made here, with a data area of that size ... */
static int ring_iomem_alloc(struct thread_data *td, size_t len)
{
	struct client *c = td->io_ops_data;

	if (connect_ring(td, len))
		return 1;
	td->orig_buffer = tapring_data(c->ring, NULL);
	return 0;
}

/* ... or here, when it needs none: a job that only trims. */
static int ring_post_init(struct thread_data *td)
{
	struct client *c = td->io_ops_data;

	return c->ring ? 0 : connect_ring(td, 4096);
}

/* The memory goes with the connection. */
static void ring_iomem_free(struct thread_data *td)
{
	td->orig_buffer = NULL;
}

static enum fio_q_status ring_queue(struct thread_data *td, struct io_u *u)
{
	struct client *c = td->io_ops_data;
	struct tapring_queue *q = c->queue[u->index % c->queues];
	uint64_t cookie = (uintptr_t)u;
	int err;

	fio_ro_check(td, u);
	switch (u->ddir) {
	case DDIR_READ:
		err = tapring_read(q, u->xfer_buf, u->xfer_buflen, u->offset,
				   cookie);
		break;
	case DDIR_WRITE:
		err = tapring_write(q, u->xfer_buf, u->xfer_buflen, u->offset,
				    cookie);
		break;
	case DDIR_TRIM:
		err = tapring_discard(q, u->xfer_buflen, u->offset, cookie);
		break;
	case DDIR_SYNC:
	case DDIR_DATASYNC:
		err = tapring_flush(q, cookie);
		break;
	default:
		err = -EINVAL;
	}
	if (err == -EAGAIN)
		return FIO_Q_BUSY;
	if (!err)
		return FIO_Q_QUEUED;
	u->error = -err;
	td_verror(td, u->error, "xfer");
	return FIO_Q_COMPLETED;
}

static int ring_commit(struct thread_data *td)
{
	struct client *c = td->io_ops_data;
	int err = 0;

	for (unsigned int i = 0; !err && i < c->queues; i++)
		err = tapring_submit(c->queue[i]);
	if (err)
		td_verror(td, -err, "submit");
	return err;
}

/* Sleep until one of several queues has something. */
static int wait_any(struct client *c, int timeout_ms)
{
	struct pollfd p[TAPRING_MAX_QUEUES];

	for (unsigned int i = 0; i < c->queues; i++) {
		int n = tapring_arm(c->queue[i]);

		if (n)
			return n < 0 ? n : 0;
		p[i] = (struct pollfd){ .fd = tapring_fd(c->queue[i]),
					.events = POLLIN };
	}
	return poll(p, c->queues, timeout_ms) < 0 && errno != EINTR ? -errno : 0;
}

static int reap_all(struct client *c, unsigned int have, unsigned int max)
{
	for (unsigned int i = 0; i < c->queues && have < max; i++) {
		int n = tapring_reap(c->queue[i], c->answer + have, max - have);

		if (n < 0)
			return n;
		have += (unsigned int)n;
	}
	return (int)have;
}

static int ring_getevents(struct thread_data *td, unsigned int min,
			  unsigned int max, const struct timespec *t)
{
	struct client *c = td->io_ops_data;
	int timeout = t ? (int)(t->tv_sec * 1000 + t->tv_nsec / 1000000) : -1;
	int n, err = 0;

	if (max > c->max)
		max = c->max;
	n = reap_all(c, 0, max);
	while (n >= 0 && (unsigned int)n < min) {
		err = c->queues == 1 ?
		      tapring_wait(c->queue[0], min - (unsigned int)n, timeout) :
		      wait_any(c, timeout);
		if (err < 0 && err != -EINTR)
			break;
		n = reap_all(c, (unsigned int)n, max);
		if (t)
			break;
	}
	if (n < 0 || (err < 0 && err != -EINTR)) {
		td_verror(td, n < 0 ? -n : -err, "getevents");
		return -1;
	}
	for (int i = 0; i < n; i++) {
		c->done[i] = (struct io_u *)(uintptr_t)c->answer[i].cookie;
		c->done[i]->error = -c->answer[i].result;
	}
	return n;
}

static struct io_u *ring_event(struct thread_data *td, int event)
{
	struct client *c = td->io_ops_data;

	return c->done[event];
}

static int ring_no_file(struct thread_data *td, struct fio_file *f)
{
	(void)td;
	(void)f;
	return 0;
}

extern struct ioengine_ops ioengine;
struct ioengine_ops ioengine = {
	.name			= "tapring",
	.version		= FIO_IOOPS_VERSION,
	.flags			= FIO_DISKLESSIO | FIO_NOEXTEND | FIO_MEMALIGN |
				  FIO_NODISKUTIL,
	.setup			= ring_setup,
	.init			= ring_init,
	.post_init		= ring_post_init,
	.cleanup		= ring_cleanup,
	.iomem_alloc		= ring_iomem_alloc,
	.iomem_free		= ring_iomem_free,
	.queue			= ring_queue,
	.commit			= ring_commit,
	.getevents		= ring_getevents,
	.event			= ring_event,
	.open_file		= ring_no_file,
	.close_file		= ring_no_file,
	.invalidate		= ring_no_file,
	.options		= options,
	.option_struct_size	= sizeof(struct options),
};
