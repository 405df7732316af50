/* disk_priv.h - what the files of tapdisk/disk share. */
#ifndef DISK_PRIV_H
#define DISK_PRIV_H

#include "disk/disk.h"
#include "disk/stats.h"
#include "loop/loop.h"
#include "node.h"

/* A request longer than this is done in pieces (split.c): a long one neither
 * holds up the others nor meets a limit of the store. */
#define DISK_PIECE (4u << 20)
#define DISK_PIECES 8u		/* in flight, of all long requests of a disk */
#define DISK_PIECE_IOV 64u	/* vectors of one piece */

struct split_pool;

struct disk {
	struct td_env *env;
	enum disk_state state;
	struct td_tree *tree;		/* NULL: closed or paused */
	char *spec;
	unsigned flags;			/* TD_NODE_* */
	uint64_t size;
	uint32_t phys, whole, caps;
	bool resume_failed;

	struct list fronts;
	unsigned inflight;		/* I2 */

	/* Barrier: the one that runs or drains, and who came after it (I3). */
	struct td_req *barrier;
	bool barrier_runs;
	enum td_op barrier_op;
	struct td_req *wait_head, **wait_tail;
	unsigned waiting;

	/* Requests refused in disk_submit(), to be answered from the loop. */
	struct td_req *refused_head, **refused_tail;
	struct loop_work refused;

	struct split_pool *split;

	/* The control operation in hand. */
	struct td_req ctl;
	disk_ctl_fn *ctl_fn;
	void *ctl_arg;
	enum disk_state goal;		/* of DRAINING: PAUSED or CLOSING */
	int flush_err;			/* of the last flush before closing */
	char *new_spec;			/* of a resume */
	unsigned new_flags;

	struct disk_stats stats;
};

/* disk.c: all is answered that was accepted before the disk began to drain. */
void disk_drained(struct disk *d);

/* queue.c */
int disk_queue_init(struct disk *d);		/* 0 or -ENOMEM */
void disk_queue_free(struct disk *d);
/* Order r, which is counted and in range. */
void disk_admit(struct disk *d, struct td_req *r);
/* r is through: count it, answer it. */
void disk_answer(struct td_req *r, int err);

/* split.c */
struct split_pool *split_pool_new(void);
int split_pool_bind(struct split_pool *p, const struct td_tree *t);
void split_pool_free(struct split_pool *p);
void split_start(struct disk *d, struct td_req *r);	/* ends in disk_answer() */

#endif
