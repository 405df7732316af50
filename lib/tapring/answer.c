/* answer.c - libtapring: answers off a ring, and waiting for them. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>

#include "tapring_priv.h"

#define PEEK_EVERY 4096u	/* reaps without an answer between two looks at
				 * whether the server still lives */
#define YIELD_AFTER_NS 20000u	/* of a spin, and then so often */
#define YIELD_NS 5000u

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* Answers that can be reaped, or -EPROTO. */
static int ready(struct tapring_queue *q)
{
	/* Pairs with the server's releasing store: answers up to it are there. */
	uint32_t n = __atomic_load_n(&q->sring->rsp_prod, __ATOMIC_ACQUIRE) -
		     q->rsp_cons;

	if (n > q->req_pub - q->rsp_cons)				/* T2 */
		q->dead = -EPROTO;
	return q->dead ? q->dead : (int)n;
}

/* The same when there is no server any more: never 0. */
static int ready_at_end(struct tapring_queue *q)
{
	int n = ready(q);

	return n ? n : -EPIPE;						/* T4 */
}

/* Empty the doorbell.  False, and errno, if nothing came that way. */
static bool drain(struct tapring_queue *q, int flags)
{
	uint32_t life = link_life(q->r);
	char buf[512];
	ssize_t n = recv(q->fd, buf, sizeof(buf), flags);

	q->rang = false;
	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		link_lost(q->r, life);
		errno = EPIPE;
	}
	return n > 0;
}

static int take_answer(struct tapring_queue *q, struct tapring_answer *a)
{
	const void *slot = q->slots + (size_t)(q->rsp_cons & q->mask) *
			   q->slot_size;
	struct request *req;
	uint64_t id;
	uint32_t k;
	uint8_t op;
	int16_t status;

	if (q->is64) {
		struct blkif_rsp64 rsp = *(const struct blkif_rsp64 *)slot;

		id = rsp.id;
		op = rsp.op;
		status = rsp.status;
	} else {
		struct blkif_rsp32 rsp = *(const struct blkif_rsp32 *)slot;

		id = rsp.id;
		op = rsp.op;
		status = rsp.status;
	}
	/* What was copied is what gets checked: no second look at the slot. */
	__asm__ volatile("" ::: "memory");
	k = (uint32_t)id;
	req = &q->req[k & q->mask];
	if (k > q->mask || !req->busy || id >> 32 != req->generation ||
	    op != req->op)						/* T2 */
		return q->dead = -EPROTO;
	req->busy = false;
	q->free[q->nr_free++] = (uint16_t)k;
	q->rsp_cons++;
	q->stats.answers++;
	a->cookie = req->cookie;
	a->result = status == BLKIF_RSP_OKAY ? 0 :
		    status == BLKIF_RSP_EOPNOTSUPP ? -EOPNOTSUPP : -EIO;
	a->reserved = 0;
	return 0;
}

int tapring_reap(struct tapring_queue *q, struct tapring_answer *a,
		 unsigned max)
{
	int n = ready(q), err;

	if (n < 0)
		return n;
	if (!n) {
		if (link_state(q->r) != LINK_UP)
			link_step(q->r);
		else if (++q->empty % PEEK_EVERY == 0)
			drain(q, MSG_DONTWAIT);
		n = link_state(q->r) == LINK_ENDED ? ready_at_end(q) : 0;
		if (n <= 0)
			return n;
	}
	q->empty = 0;
	if ((unsigned)n > max)
		n = (int)max;
	for (int i = 0; i < n; i++) {
		err = take_answer(q, &a[i]);
		if (err)
			return i ? i : err;
	}
	return n;
}

/* Ask for a doorbell at the min-th answer from now; how many there are. */
static int arm(struct tapring_queue *q, unsigned min)
{
	__atomic_store_n(&q->sring->rsp_event, q->rsp_cons + min,
			 __ATOMIC_RELAXED);
	q->rang = true;
	/* Pairs with the server's full barrier between its store of rsp_prod and
	 * its load of rsp_event. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ready(q);
}

/* Until min answers, -EPROTO, or the time is over: 0 or more below min.  A spin
 * that lasts yields the processor: the disk's process may wait for this one. */
static int spin(struct tapring_queue *q, unsigned min, uint64_t ns)
{
	uint64_t now = now_ns(), end = now + ns;
	uint64_t yield_at = now + YIELD_AFTER_NS;
	int n;

	do {
		for (int i = 0; i < 8; i++) {
			n = ready(q);
			if (n < 0 || (unsigned)n >= min)
				return n;
			relax();
		}
		now = now_ns();
		if (now > yield_at) {
			sched_yield();
			yield_at = now + YIELD_NS;
		}
	} while (now < end);
	return n;
}

/* Until the doorbell rings, something else is to be seen, or `end` has come.  1,
 * 0 (end) or -errno. */
static int sleep_until(struct tapring_queue *q, uint64_t end)
{
	struct pollfd p = { .fd = q->fd, .events = POLLIN };
	uint64_t now;

	q->stats.sleeps++;
	if (end == UINT64_MAX)
		return drain(q, 0) || errno != EINTR ? 1 : -EINTR;
	now = now_ns();
	if (now < end) {
		uint64_t left = end - now;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000000u),
				       .tv_nsec = (long)(left % 1000000000u) };
		int n = ppoll(&p, 1, &ts, NULL);

		if (n < 0)
			return -errno;
		if (n) {
			drain(q, MSG_DONTWAIT);
			return 1;
		}
	}
	return 0;
}

int tapring_wait(struct tapring_queue *q, unsigned min, int timeout_ms)
{
	unsigned open = q->req_pub - q->rsp_cons;
	uint64_t end = UINT64_MAX, poll_ns = q->poll_ns;
	int n = ready(q), s;

	if (min > open)
		min = open;
	if (n < 0 || (unsigned)n >= min)
		return n;
	if (timeout_ms >= 0) {
		uint64_t ns = (uint64_t)timeout_ms * 1000000u;

		end = now_ns() + ns;
		if (poll_ns > ns)
			poll_ns = ns;
	}
	if (poll_ns) {
		n = spin(q, min, poll_ns);
		if (n < 0 || (unsigned)n >= min) {
			q->stats.polls_won++;
			return n;
		}
	}
	for (;;) {
		n = arm(q, min);
		if (n < 0 || (unsigned)n >= min)
			return n;
		switch (link_state(q->r)) {
		case LINK_UP:
			s = sleep_until(q, end);
			break;
		case LINK_ENDED:
			return ready_at_end(q);
		default:
			s = link_wait(q, end);
		}
		n = ready(q);
		if (n < 0 || (unsigned)n >= min || !s)
			return n;
		if (s < 0)
			return s;
	}
}

void tapring_set_poll(struct tapring_queue *q, uint64_t poll_ns)
{
	q->poll_ns = poll_ns;
}

unsigned tapring_inflight(const struct tapring_queue *q)
{
	return q->req_pvt - q->rsp_cons;
}

int tapring_fd(const struct tapring_queue *q)
{
	return q->poll_fd;
}

int tapring_arm(struct tapring_queue *q)
{
	int n;

	if (link_state(q->r) != LINK_UP)
		link_step(q->r);
	else if (q->rang)
		drain(q, MSG_DONTWAIT);
	n = arm(q, 1);
	if (!n && link_state(q->r) == LINK_ENDED)
		n = ready_at_end(q);
	return n > 0 ? 1 : n;
}

void tapring_get_stats(const struct tapring_queue *q, struct tapring_stats *s)
{
	*s = q->stats;
}
