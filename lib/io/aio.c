/* aio.c - see io.h: libaio, few io_submit(2) a pass, completions without a
 * system call.
 *
 * What a pass has queued goes to the kernel in pieces that grow: it holds back
 * all that one call brings until it has looked at the last of it, some 2 us an
 * operation, and an idle disk could have been at work on the first.  Where
 * io_submit does the work itself (tmpfs), one call is best.
 *
 * The kernel maps each context's completion ring into the process; its address
 * is the context itself.  The layout (struct aio_ring of fs/aio.c) is stable
 * and marked by a magic number; when it is not what we know, completions come
 * by io_getevents(2), and all else is the same.
 *
 * Sleeping: each completion signals an eventfd that is watched edge-triggered
 * and never read; that saves a read(2) a wake-up, and its counter would need
 * centuries to fill.  Nothing can be missed: an edge that came before
 * epoll_wait(2) makes it return at once.
 *
 * Neighbours are joined (join.h) as they are given to the kernel, and not before:
 * until then each can still be alone.
 *
 * Where io_submit has done all of a long row of operations itself, those to come
 * are not signalled: that is a tenth of what one costs on tmpfs.  If one of them
 * goes on after the call after all, a timer looks for its end, and the row
 * begins anew.
 *
 * I1  An operation is on exactly one of: `pending`, in the kernel (by itself or
 *     with the one it was joined to), or its owner's (from the moment that `done`
 *     is called).
 * I2  inflight <= depth; the ring has at least depth entries, so the kernel
 *     never drops a completion.
 * I3  Only the loop's thread moves the ring's head.
 * I4  The loop does not sleep with an unsignalled operation in the kernel,
 *     unless `look` is set.
 */
#include "io/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "io/join.h"
#include "loop/loop.h"

#define AIO_RING_MAGIC 0xa10a10a1u

#define PIECE_FIRST 1u		/* to a kernel that has nothing of ours */
#define PIECE_NEXT 3u
#define PIECE_GROWS 2u		/* times, from one to the next */

#define TRUST_AFTER 1024u	/* operations done within their io_submit */
#define LOOK_NS NS_PER_MS	/* for the end of one that was trusted wrongly, ... */
#define LOOK_MAX_NS (64 * NS_PER_MS)	/* ... ever less often */

struct aio_ring {
	unsigned id, nr;
	unsigned head, tail;
	unsigned magic, compat_features, incompat_features;
	unsigned header_length;
	struct io_event events[];
};

struct io_queue {
	struct loop *loop;
	io_context_t ctx;
	struct aio_ring *ring;	/* NULL: io_getevents */
	unsigned depth, inflight;
	unsigned npending;
	struct list pending;
	struct loop_fd wake;
	struct loop_hook submit, poll, sleep;
	struct loop_timer again;	/* the kernel is short of memory */
	bool apart;		/* nothing is joined */
	bool refused;		/* it was, and nothing has completed since */
	bool immediate;		/* the last call came back with its work done */
	unsigned row;		/* operations in a row for which it did; the
				 * count ends at TRUST_AFTER */
	unsigned unsignalled;	/* in the kernel, without the eventfd */
	struct loop_timer look;
	uint64_t look_ns;	/* the next time */
	struct io_stats stats;
};

static void pend(struct io_queue *q, struct io_op *op)
{
	q->npending++;
	list_add(&q->pending, &op->link);
}

/* In a pass an operation is submitted after all that was queued before it. */
static void queue(struct io_queue *q, struct io_op *op, size_t bytes,
		  io_done_fn *done)
{
	op->done = done;
	op->bytes = (uint32_t)bytes;
	op->cb.data = op;
	op->next = NULL;
	op->unsignalled = op->alone = false;
	if (q->inflight + q->npending >= q->depth)
		q->stats.waited++;
	pend(q, op);
}

static size_t bytes_of(const struct iovec *iov, unsigned iovcnt)
{
	size_t sum = 0;

	while (iovcnt--)
		sum += iov[iovcnt].iov_len;
	return sum;
}

void io_readv(struct io_queue *q, struct io_op *op, int fd,
	      const struct iovec *iov, unsigned iovcnt, uint64_t offset,
	      io_done_fn *done)
{
	if (iovcnt == 1)	/* spares the kernel the copy of an array */
		io_prep_pread(&op->cb, fd, iov->iov_base, iov->iov_len,
			      (long long)offset);
	else
		io_prep_preadv(&op->cb, fd, iov, (int)iovcnt, (long long)offset);
	queue(q, op, bytes_of(iov, iovcnt), done);
}

void io_writev(struct io_queue *q, struct io_op *op, int fd,
	       const struct iovec *iov, unsigned iovcnt, uint64_t offset,
	       int flags, io_done_fn *done)
{
	if (iovcnt == 1)
		io_prep_pwrite(&op->cb, fd, iov->iov_base, iov->iov_len,
			       (long long)offset);
	else
		io_prep_pwritev(&op->cb, fd, iov, (int)iovcnt,
				(long long)offset);
	op->cb.aio_rw_flags = flags;
	queue(q, op, bytes_of(iov, iovcnt), done);
}

void io_datasync(struct io_queue *q, struct io_op *op, int fd, io_done_fn *done)
{
	io_prep_fdsync(&op->cb, fd);
	queue(q, op, 0, done);
}

static bool ring_has_events(const struct io_queue *q)
{
	/* Pairs with the kernel's smp_wmb() between writing an event and the
	 * tail (aio_complete): below the tail, events are whole. */
	return __atomic_load_n(&q->ring->tail, __ATOMIC_ACQUIRE) !=
	       q->ring->head;
}

static void end(struct io_op *op, int64_t res)
{
	op->res = res;
	op->done(op, res);
}

/* What was joined: see join.h. */
static void part(struct io_queue *q, struct io_op *first, int64_t res)
{
	struct io_op *next;
	int64_t all = 0;

	for (struct io_op *op = first; op; op = op->next)
		all += op->bytes;
	for (struct io_op *op = first; op; op = next) {
		next = op->next;
		op->next = NULL;
		if (res == all) {
			end(op, op->bytes);
		} else {
			op->alone = true;
			pend(q, op);
		}
	}
}

static void finish(struct io_queue *q, const struct io_event *ev)
{
	struct io_op *op = ev->data;

	q->inflight--;
	q->unsignalled -= op->unsignalled;
	q->refused = false;
	loop_in_kernel(q->loop, -1);
	if (op->next)
		part(q, op, (int64_t)(long)ev->res);
	else
		end(op, (int64_t)(long)ev->res);
}

/* Callbacks run from here; what they queue waits for the next submit(). */
static unsigned reap_ring(struct io_queue *q)
{
	struct aio_ring *ring = q->ring;
	unsigned tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	unsigned head = ring->head, n = 0;

	while (head != tail) {
		struct io_event ev = ring->events[head];

		head = head + 1 == ring->nr ? 0 : head + 1;
		/* Pairs with the kernel's read of head before it uses a slot
		 * again: our copy of the event is made before that. */
		__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
		finish(q, &ev);
		n++;
	}
	return n;
}

static unsigned reap_syscall(struct io_queue *q)
{
	struct io_event ev[32];
	struct timespec zero = { 0, 0 };
	int n;

	if (!q->inflight)
		return 0;
	n = io_getevents(q->ctx, 0, 32, ev, &zero);
	for (int i = 0; i < n; i++)
		finish(q, &ev[i]);
	return n > 0 ? (unsigned)n : 0;
}

static unsigned reap(struct io_queue *q)
{
	return q->ring ? reap_ring(q) : reap_syscall(q);
}

static struct io_op *first_pending(struct io_queue *q)
{
	return container_of(q->pending.next, struct io_op, link);
}

static struct io_op *pop_pending(struct io_queue *q)
{
	struct list *e = list_pop(&q->pending);

	q->npending--;
	return container_of(e, struct io_op, link);
}

/* Was this the last to complete, and since the ring's end was at `tail`? */
static bool completed_since(const struct io_queue *q, unsigned tail,
			    const struct io_op *op)
{
	unsigned now = __atomic_load_n(&q->ring->tail, __ATOMIC_ACQUIRE);

	return now != tail &&
	       q->ring->events[(now ? now : q->ring->nr) - 1].data == op;
}

/* How many have, since then. */
static long completed(const struct io_queue *q, unsigned tail)
{
	unsigned now = __atomic_load_n(&q->ring->tail, __ATOMIC_ACQUIRE);

	return (now + q->ring->nr - tail) % q->ring->nr;
}

/* A flush is the work of another thread, wherever the file is. */
static bool within_submit(const struct io_op *op)
{
	return op->cb.aio_lio_opcode != IO_CMD_FDSYNC;
}

/* The next `n` of those that wait, as one. */
static struct io_op *take(struct io_queue *q, unsigned n)
{
	struct io_op *first = pop_pending(q), *last = first;

	while (--n) {
		last->next = pop_pending(q);
		last = last->next;
		q->stats.joined++;
	}
	return first;
}

/* One io_submit(2) of at most `max` operations, each with those that can be joined to
 * it: how many the kernel took, or -errno. */
static long hand_over(struct io_queue *q, unsigned max)
{
	unsigned tail = q->ring ? q->ring->tail : 0;
	struct io_op *last = NULL;
	struct io_batch b;
	long took;

	io_batch_begin(&b);
	list_for_each(e, &q->pending) {
		struct io_op *op = container_of(e, struct io_op, link);

		op->unsignalled = q->row == TRUST_AFTER && within_submit(op);
		if (!op->unsignalled)
			io_set_eventfd(&op->cb, q->wake.fd);
		if (b.nr && !q->apart && io_batch_join(&b, op))
			continue;
		if (b.nr == max)
			break;
		io_batch_add(&b, op);
	}
	took = io_submit(q->ctx, (long)b.nr, b.cb);
	q->stats.submits++;
	if (took < 0 && took != -EAGAIN && b.ops[0] > 1) {
		first_pending(q)->alone = true;
		return -EINTR;	/* then it shows which of them is refused */
	}
	if (took <= 0)
		return took;
	q->inflight += (unsigned)took;
	loop_in_kernel(q->loop, (int)took);
	for (long i = 0; i < took; i++) {
		last = take(q, b.ops[i]);
		q->stats.ops += b.ops[i];
		q->unsignalled += last->unsignalled;
	}
	q->immediate = q->ring && completed_since(q, tail, last);
	if (q->immediate && completed(q, tail) >= took)
		q->row = took < TRUST_AFTER - q->row ? q->row + (unsigned)took :
						       TRUST_AFTER;
	else if (within_submit(last))
		q->row = 0;
	return took;
}

/* Give the kernel what is queued, as far as there is room.  A call ends early
 * where an operation is refused: the kernel takes those before it, and names
 * the reason only when that one is the first. */
static bool submit(struct io_queue *q)
{
	unsigned piece = q->inflight ? PIECE_NEXT : PIECE_FIRST;
	bool worked = false;

	while (q->npending && q->inflight < q->depth) {
		unsigned room = q->depth - q->inflight;
		long took = hand_over(q, q->immediate || piece > room ? room :
				      piece);

		if (took > 0) {
			worked = true;
			piece = piece < PIECE_NEXT ? PIECE_NEXT :
						     piece * PIECE_GROWS;
		} else if (took == -EAGAIN || took == 0) {
			/* Completions will bring us back, or the timer. */
			q->refused = true;
			if (!q->inflight)
				loop_timer_set(q->loop, &q->again, NS_PER_MS);
			break;
		} else if (took != -EINTR) {
			struct io_op *op = pop_pending(q);

			worked = true;
			op->res = took;
			op->done(op, took);
		}
	}
	return worked;
}

/* Is there something that the next submit() would give to the kernel?  Whoever
 * queues after this pass' submission (an answer that lets the next request in)
 * must not find the loop asleep. */
static bool can_submit(const struct io_queue *q)
{
	return q->npending && q->inflight < q->depth && !q->refused;
}

static bool submit_hook(struct loop_hook *h)
{
	struct io_queue *q = container_of(h, struct io_queue, submit);
	bool worked = submit(q);

	/* tmpfs and the page cache complete inside io_submit. */
	worked |= reap(q) > 0;
	if (!q->unsignalled) {
		q->look_ns = LOOK_NS;
	} else if (!loop_timer_is_set(&q->look)) {		/* I4 */
		q->row = 0;
		loop_timer_set(q->loop, &q->look, q->look_ns);
		q->look_ns = min_u64(2 * q->look_ns, LOOK_MAX_NS);
	}
	return worked;
}

static bool poll_hook(struct loop_hook *h)
{
	struct io_queue *q = container_of(h, struct io_queue, poll);

	return can_submit(q) ||
	       (q->ring ? ring_has_events(q) : reap_syscall(q) > 0);
}

static bool sleep_hook(struct loop_hook *h)
{
	struct io_queue *q = container_of(h, struct io_queue, sleep);

	return can_submit(q) || (q->ring && ring_has_events(q));
}

/* The next pass reaps. */
static void woken(struct loop_fd *f, uint32_t events)
{
	(void)f;
	(void)events;
}

static void try_again(struct loop_timer *t)
{
	container_of(t, struct io_queue, again)->refused = false;
}

/* The next pass reaps, and looks again if there is reason to. */
static void look(struct loop_timer *t)
{
	(void)t;
}

static int setup(struct io_queue *q, unsigned depth)
{
	int err;

	for (;; depth /= 2) {
		err = io_setup((int)depth, &q->ctx);
		if (!err)
			break;
		if ((err != -EAGAIN && err != -ENOMEM) ||
		    depth / 2 < IO_DEPTH_MIN)
			return err;
	}
	q->depth = depth;
	q->ring = (struct aio_ring *)q->ctx;
	if (q->ring->magic != AIO_RING_MAGIC || q->ring->incompat_features ||
	    q->ring->header_length != sizeof(struct aio_ring) ||
	    q->ring->nr <= depth) {
		log_dbg(LOG_IO, "unknown completion ring: using io_getevents");
		q->ring = NULL;
	}
	/* It mistakes the ring's size, and learns what the kernel has written
	 * to memory from the system call and the iocb that was submitted. */
	if (RUNNING_ON_VALGRIND) {
		q->ring = NULL;
		q->apart = true;
	}
	return 0;
}

unsigned io_depth_share(uint64_t used, uint64_t max)
{
	uint64_t left = max > used ? max - used : 0;
	uint64_t share = left / IO_SHARE;

	return share > IO_DEPTH_MAX ? IO_DEPTH_MAX :
	       share < IO_DEPTH_MIN ? IO_DEPTH_MIN : (unsigned)share;
}

static uint64_t proc_number(const char *path, uint64_t otherwise)
{
	char text[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	uint64_t v;

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return otherwise;
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return uint_parse(text, UINT64_MAX, &v) ? otherwise : v;
}

unsigned io_depth_fair(void)
{
	return io_depth_share(proc_number("/proc/sys/fs/aio-nr", 0),
			      proc_number("/proc/sys/fs/aio-max-nr", UINT64_MAX));
}

int io_queue_new(struct loop *l, unsigned depth, struct io_queue **out)
{
	struct io_queue *q = calloc(1, sizeof(*q));
	int err;

	if (!q)
		return -ENOMEM;
	if (depth > IO_DEPTH_MAX)
		depth = IO_DEPTH_MAX;
	if (depth < IO_DEPTH_MIN)
		depth = IO_DEPTH_MIN;
	q->loop = l;
	list_init(&q->pending);
	loop_timer_init(&q->again, try_again);
	loop_timer_init(&q->look, look);
	err = setup(q, depth);
	if (err)
		goto fail_setup;
	q->wake.fn = woken;
	q->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->wake.fd < 0) {
		err = -errno;
		goto fail_eventfd;
	}
	err = loop_fd_add(l, &q->wake, EPOLLIN | EPOLLET);
	if (err)
		goto fail_add;
	loop_hook_add(l, LOOP_SUBMIT, &q->submit, submit_hook);
	loop_hook_add(l, LOOP_POLL, &q->poll, poll_hook);
	loop_hook_add(l, LOOP_SLEEP, &q->sleep, sleep_hook);
	*out = q;
	return 0;

fail_add:
	close(q->wake.fd);
fail_eventfd:
	io_destroy(q->ctx);
fail_setup:
	free(q);
	return err;
}

void io_queue_free(struct io_queue *q)
{
	ASSERT(!q->inflight && !q->npending);
	loop_timer_clear(&q->again);
	loop_timer_clear(&q->look);
	loop_hook_del(&q->submit);
	loop_hook_del(&q->poll);
	loop_hook_del(&q->sleep);
	loop_fd_del(q->loop, &q->wake);
	close(q->wake.fd);
	io_destroy(q->ctx);
	free(q);
}

unsigned io_queue_depth(const struct io_queue *q)
{
	return q->depth;
}

const struct io_stats *io_stats(const struct io_queue *q)
{
	return &q->stats;
}
