/* tapring.h - libtapring: a plain process as the guest of a tapdisk's ring.
 *
 *	struct tapring_opts o = { .data = 1 << 20 };
 *	struct tapring *r;
 *	int err = tapring_connect("/var/run/tap/ring0.sock", &o, &r);
 *	struct tapring_queue *q = tapring_get_queue(r, 0);
 *	char *mem = tapring_data(r, NULL);
 *
 *	err = tapring_read(q, mem, 4096, 0, cookie);	(queued)
 *	err = tapring_submit(q);			(seen by the disk)
 *	n = tapring_wait(q, 1, -1);
 *	n = tapring_reap(q, answers, 16);
 *
 * Everything that can fail returns 0 or more, or -errno.  Offsets and lengths
 * are bytes and multiples of 512.  -EPIPE: the disk has gone away, and nobody
 * knows what became of the requests that were not reaped; -EPROTO: it answered
 * nonsense.  Both are final for the queue.
 *
 * A process that serves the disk may die and be replaced.  The functions below
 * then find the successor, which goes on with what is in flight: a pause, and
 * nothing else, is to be seen.  `path` must lead there.
 *
 * Threads: one thread a queue.  tapring_size() may be called from any thread;
 * tapring_events() by one at a time.  Only one thread connects and closes.
 */
#ifndef TAPRING_H
#define TAPRING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tapring_proto.h"	/* enum tapring_abi, enum tapring_feature */

#ifdef __cplusplus
extern "C" {
#endif

struct tapring;
struct tapring_queue;

/* Zero means the default, everywhere. */
struct tapring_opts {
	uint32_t abi;		/* enum tapring_abi; TAPRING_ABI_NATIVE */
	uint32_t queues;	/* 1 */
	uint32_t order;		/* log2 of a ring's pages; 0: one page, 32 slots */
	uint32_t max_segments;	/* pages a request may touch; what the disk offers
				 * (at least 11; 11 = no indirect requests) */
	uint64_t data;		/* bytes of memory for data; 4 MiB */
	uint64_t poll_ns;	/* how long tapring_wait() spins; 0 = not at all */
	uint32_t timeout_ms;	/* of connecting, also to the successor of a process
				 * that dies meanwhile; 10000 */
	uint32_t reconnect_ms;	/* how long to look for a successor of a disk's
				 * process that has died; 30000 */
	uint32_t reserved[8];	/* 0 */
};
#define TAPRING_NO_RECONNECT UINT32_MAX		/* reconnect_ms: not at all */

/* path: the socket.  opts may be NULL.  -EPROTO: no ring server there;
 * -EOPNOTSUPP: it does not offer what opts ask for; else what connect(2) says
 * or the disk answers. */
int tapring_connect(const char *path, const struct tapring_opts *opts,
		    struct tapring **r);
void tapring_close(struct tapring *r);		/* NULL: nothing happens */

struct tapring_info {
	uint64_t size;		/* bytes, now */
	uint32_t minor;
	uint32_t features;	/* enum tapring_feature */
	uint32_t sector_size;	/* logical, bytes */
	uint32_t phys_size;	/* physical block, bytes */
	uint32_t discard_granularity;	/* bytes */
	uint32_t queues;
	uint32_t depth;		/* requests a queue takes */
	uint32_t max_segments;	/* pages a request may touch */
	uint32_t abi;
	uint32_t max_queues;	/* what the disk offers */
	uint32_t max_order;
	uint32_t reserved[5];
};
void tapring_get_info(const struct tapring *r, struct tapring_info *info);
uint64_t tapring_size(const struct tapring *r);	/* bytes, as last told */
struct tapring_queue *tapring_get_queue(struct tapring *r, unsigned n);

/* Memory that requests may use without a copy: page-aligned, shared by all
 * queues, `*len` bytes (len may be NULL). */
void *tapring_data(const struct tapring *r, size_t *len);

/* Queue one request.  Buffers lie in tapring_data(), begin and end at multiples
 * of 512 bytes, and are the disk's until the request is reaped.  The range is
 * not checked here: the disk does.  -EAGAIN: as many are in flight as the ring
 * takes; -E2BIG: more than max_segments pages; -EINVAL: not as above. */
int tapring_read(struct tapring_queue *q, void *buf, size_t len,
		 uint64_t offset, uint64_t cookie);
int tapring_write(struct tapring_queue *q, const void *buf, size_t len,
		  uint64_t offset, uint64_t cookie);
int tapring_readv(struct tapring_queue *q, const struct iovec *iov,
		  unsigned iovcnt, uint64_t offset, uint64_t cookie);
int tapring_writev(struct tapring_queue *q, const struct iovec *iov,
		   unsigned iovcnt, uint64_t offset, uint64_t cookie);
/* All that was answered before is on stable storage. */
int tapring_flush(struct tapring_queue *q, uint64_t cookie);
/* A write that waits for all before it, is durable, and holds up all after it;
 * len 0 (buf NULL): no data.  At most 11 pages. */
int tapring_barrier(struct tapring_queue *q, const void *buf, size_t len,
		    uint64_t offset, uint64_t cookie);
int tapring_discard(struct tapring_queue *q, uint64_t len, uint64_t offset,
		    uint64_t cookie);

/* Show the disk what was queued; one doorbell, and only if it asks for one.
 * 0, -EPIPE, -EPROTO. */
int tapring_submit(struct tapring_queue *q);

struct tapring_answer {
	uint64_t cookie;
	int32_t result;		/* 0, -EIO, -EOPNOTSUPP */
	uint32_t reserved;
};
/* Take up to max answers.  0: there are none now. */
int tapring_reap(struct tapring_queue *q, struct tapring_answer *a,
		 unsigned max);
/* Wait until `min` answers (at most as many as are in flight) can be reaped:
 * spin first, then sleep.  timeout_ms < 0: for ever.  Returns how many there
 * are now: fewer than min after the time, and 0 if nothing is in flight.
 * -EINTR: a signal came. */
int tapring_wait(struct tapring_queue *q, unsigned min, int timeout_ms);
void tapring_set_poll(struct tapring_queue *q, uint64_t poll_ns);
unsigned tapring_inflight(const struct tapring_queue *q); /* queued, not reaped */

/* For event loops: when tapring_arm() says 0, the next answer makes
 * tapring_fd() readable (poll for POLLIN; do not read it); 1: reap first. */
int tapring_fd(const struct tapring_queue *q);
int tapring_arm(struct tapring_queue *q);

/* What the disk tells about itself: 1 its size has changed, 0 nothing new,
 * -EPIPE it has gone.  tapring_events_fd() is readable when there is something. */
int tapring_events(struct tapring *r);
int tapring_events_fd(const struct tapring *r);

/* Simple and synchronous, with any memory and any length (copied, and split as
 * the ring needs).  Nothing else may be in flight on the queue: -EBUSY.  The
 * first error ends them. */
int tapring_pread(struct tapring_queue *q, void *buf, size_t len,
		  uint64_t offset);
int tapring_pwrite(struct tapring_queue *q, const void *buf, size_t len,
		   uint64_t offset);
int tapring_pflush(struct tapring_queue *q);
int tapring_pdiscard(struct tapring_queue *q, uint64_t len, uint64_t offset);

/* Counts of one queue, since it was made. */
struct tapring_stats {
	uint64_t requests, answers;
	uint64_t bells_sent;	/* doorbells: a system call each */
	uint64_t sleeps;	/* tapring_wait() really slept */
	uint64_t polls_won;	/* ... or spinning made that unnecessary */
	uint64_t reserved[3];
};
void tapring_get_stats(const struct tapring_queue *q, struct tapring_stats *s);

#ifdef __cplusplus
}
#endif

#endif
