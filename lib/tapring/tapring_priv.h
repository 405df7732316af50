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
 */
#ifndef TAPRING_PRIV_H
#define TAPRING_PRIV_H

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
	bool gone;			/* end of file on the doorbell */
	bool rang;			/* a doorbell was asked for: one may lie there */
	int dead;			/* 0 or -EPROTO */
	int fd;
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

struct tapring {
	int sock;
	struct tapring_info info;	/* size: not this one */
	uint64_t sectors;		/* atomic */
	unsigned order;
	char *mem;
	size_t mem_len;
	char *bounce, *data;		/* bounce areas lie before data */
	size_t data_len;
	struct tapring_queue *queue;
	size_t have;			/* of a status that is arriving */
	struct tapring_status status;
};

/* request.c.  fd is set by whoever connects.  0 or -ENOMEM. */
HIDDEN int queue_init(struct tapring *r, unsigned n, uint64_t poll_ns);
HIDDEN void queue_free(struct tapring_queue *q);

#endif
