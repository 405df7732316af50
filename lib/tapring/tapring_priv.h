/* tapring_priv.h - what the files of libtapring share.  The contract is
 * include/tapring.h, the wire is include/tapring_proto.h.  Nothing of the rest
 * of the tree is used but headers.
 *
 * T1  A request is free, queued (written to the ring) or in flight; its slot
 *     number and a generation are its id on the ring, so that an answer to
 *     nothing is recognised.
 * T2  What the server writes is checked: positions, ids, operations.  A queue
 *     that was told nonsense is dead (-EPROTO) for good.
 * T3  Our positions live in private memory.
 * T4  Answers that are there are handed out before -EPIPE is.
 * T5  The link to the server may be lost and found again (link.c): descriptors
 *     keep their numbers and memory its contents, so that a queue has nothing to
 *     do about it but not to believe in doorbells meanwhile.
 */
#ifndef TAPRING_PRIV_H
#define TAPRING_PRIV_H

#include <pthread.h>
#include <stdbool.h>

#include "blkif.h"
#include "tapring.h"

/* Only tapring_* of tapring.h is exported. */
#define HIDDEN __attribute__((visibility("hidden")))

struct request {
	uint64_t cookie;
	uint32_t generation;
	uint8_t op;		/* as it will be answered */
	bool busy;
};

struct tapring_queue {
	struct tapring *r;
	struct blkif_sring *sring;
	uint8_t *slots;
	uint32_t mask, slot_size;
	uint32_t req_pvt, req_pub;	/* written; shown */
	uint32_t rsp_cons;
	bool is64;
	bool rang;			/* a doorbell was asked for: one may lie there */
	int dead;			/* 0 or -EPROTO */
	int fd;				/* the doorbell */
	int poll_fd;			/* epoll: the doorbell, or the link's timer */
	uint32_t ind_page;		/* of request 0; one each */
	char *bounce;
	unsigned empty;			/* reaps in a row */
	uint64_t poll_ns;
	unsigned nr_free;
	uint16_t *free;
	struct request *req;
	struct tapring_stats stats;
	struct blkif_segment seg[TAPRING_MAX_INDIRECT];
} __attribute__((aligned(64)));

enum link {
	LINK_UP,
	LINK_DIAL,		/* lost; nobody answers yet */
	LINK_GREETING,		/* connected: it has still to greet us */
	LINK_WELCOME,		/* it has our hello */
	LINK_ENDED,		/* for good */
};

struct tapring {
	int sock;
	int memfd;
	char *path;
	struct tapring_info info;	/* size: not this one */
	uint64_t sectors;		/* atomic */
	unsigned order;
	char *mem;
	size_t mem_len;
	char *bounce, *data;		/* bounce areas lie before data */
	size_t data_len;
	struct tapring_queue *queue;
	struct tapring_token token;	/* zeroes: no server would know us again */
	uint64_t limit_ns;		/* to look for a server; 0: not at all */

	/* Of link.c.  link and life are read by all, the rest is under the lock. */
	enum link link;			/* atomic */
	uint32_t life;			/* atomic: how many servers we have had */
	pthread_mutex_t lock;
	int events_fd;			/* epoll: sock, timer, news */
	int timer;			/* the next try is due, or all has ended */
	int news;			/* eventfd: `changed` was set */
	bool changed;			/* the size, and nobody was told */
	int error;			/* why it has ended: -EPIPE or -EPROTO */
	uint64_t since, next_try;
	int next_sock;			/* of what is being connected, or -1 */
	size_t have;			/* of a status, or the greeting, arriving */
	union {
		struct tapring_status status;
		struct tapring_greeting greeting;
	} in;
};

static inline enum link link_state(const struct tapring *r)
{
	return __atomic_load_n(&r->link, __ATOMIC_ACQUIRE);
}

static inline uint32_t link_life(const struct tapring *r)
{
	return __atomic_load_n(&r->life, __ATOMIC_ACQUIRE);
}

/* link.c.  r->sock and the queues' fd are there.  0 or -errno. */
HIDDEN int link_init(struct tapring *r);
HIDDEN void link_free(struct tapring *r);
/* An end of file was seen at a descriptor of that life. */
HIDDEN void link_lost(struct tapring *r, uint32_t life);
/* Do what can be done now to find a server again; never waits. */
HIDDEN void link_step(struct tapring *r);
/* Wait for a server, at most until `end`: 1 look again, 0 that time has come,
 * -EINTR. */
HIDDEN int link_wait(struct tapring_queue *q, uint64_t end);

/* connect.c.  0 or -errno; the descriptors that came are bell[]. */
HIDDEN int hello_send(const struct tapring *r, int sock);
HIDDEN int welcome_recv(const struct tapring *r, int sock, int flags,
			struct tapring_status *s, int *bell);

/* request.c.  fd is set by whoever connects.  0 or -ENOMEM. */
HIDDEN int queue_init(struct tapring *r, unsigned n, uint64_t poll_ns);
HIDDEN void queue_free(struct tapring_queue *q);

HIDDEN uint64_t now_ns(void);

#endif
