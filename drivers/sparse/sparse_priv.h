/* sparse_priv.h - what the files of the sparse engine share.
 *
 *   engine.c   the driver's slots: submit, stats; tasks
 *   open.c close.c resize.c   lists of steps that wait for workers and other files
 *   ask.c      what blocking slots ask
 *   cache.c    slices of tables: get, change, evict
 *   round.c    write-back in order; guest flushes
 *   redo.c     what is dirty, where it outlives the process (redo.h)
 *   child.c    transfers with the image's files; buffers
 *   read.c     where bytes are, through all layers, and their way to the guest
 *   pack.c     compressed clusters: the worker's part, and those kept unpacked
 *   write.c    writes: in place, or by a fill
 *   fill.c     a run of clusters that is being allocated: copy, write, link
 *   unmap.c    discard, zeroes, block status
 *   space.c    runs of free clusters: found, claimed, handed out
 *   drop.c     clusters that are no longer referred to, until they are free
 *   table.c    places for new tables
 *   meta.c     where the tables are; blockset.c
 */
#ifndef SPARSE_PRIV_H
#define SPARSE_PRIV_H

#include "base/bytes.h"
#include "base/iov.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "node.h"
#include "sparse/blockset.h"
#include "sparse/sparse.h"

#define CHILD_MAX 128u		/* transfers with the image's files, in flight */
#define PARENT_MAX 64u		/* reads of a parent that is no sparse format */
#define DATA_IOV 128u		/* vectors of one transfer: of a guest's data, */
#define ZERO_IOV 32u		/* of a cluster of zeroes before and behind it */
#define CHILD_IOV (DATA_IOV + 2 * ZERO_IOV)
/* Up to so many bytes are encrypted in the loop: a hand-over to a worker and back
 * takes as long. */
#define CRYPT_INLINE (64u << 10)
#define FILL_MAX 64u		/* runs that are being allocated, at most */
#define FILL_BYTES (4u << 20)	/* of one run */
#define ZERO_BLOCK (64u << 10)	/* bytes of sparse_zeroes[] */

extern const uint8_t sparse_zeroes[ZERO_BLOCK];

/* A piece of work that may have to wait.  It is on one list at most: of what it
 * waits for, or of what is ready to run. */
struct task {
	struct list link;
	void (*run)(struct task *t);
	int told;			/* why what it waited for has failed: heard in
					 * the run that follows, or never */
	/* What it has touched in this attempt, if it has a ticket (cache.c). */
	struct sparse *ticket;
	unsigned n_held;
	unsigned touched;		/* in this attempt, of held[]: bits */
	struct sparse_slice *held[SPARSE_HOLD];
};

/* --- cache --- */

enum slice_state { SLICE_FREE, SLICE_LOADING, SLICE_READY, SLICE_ERROR };

struct sparse_slice {
	struct sparse_slice *next;	/* in its bucket */
	uint64_t off;			/* in the file */
	uint16_t file, class, len;
	uint8_t state;
	bool used;			/* since the clock's hand came by */
	bool dirty;			/* data is newer than file and round */
	bool frozen;			/* its round has not written it yet */
	bool stale;			/* of a table that is gone: not to be found */
	uint16_t put, put_end;		/* changed by the slot that runs: redo.c */
	unsigned held;
	int err;
	uint8_t *data;
	uint8_t *old;			/* frozen and changed since: as it was */
	struct list waiters;		/* tasks: it is loading */
	struct list dirty_link;		/* cache.dirty */
	struct list round_link;		/* round.frozen[stage] */
	struct sparse_slice *joined;	/* the next one of the same write */
	struct sparse *s;
};

struct cache {
	unsigned max, made;		/* slices: allowed, existing */
	unsigned hand;
	struct sparse_slice **slots;
	struct sparse_slice **bucket;
	unsigned mask;
	uint8_t **spare;		/* buffers without a slice */
	unsigned n_spare, n_old;	/* free ones; those that are some `old` */
	unsigned n_dirty;		/* dirty or frozen */
	unsigned dirty_max;
	unsigned tickets;
	struct list dirty;
	struct list ticket_wait;	/* tasks */
	struct list room_wait;
	uint64_t hits, misses, evicted;
};

/* --- rounds --- */

struct round {
	bool running, wanted;
	bool sync;			/* the step in hand: else writing */
	unsigned sync_next;		/* the file that it goes on with */
	unsigned stage;
	unsigned flying;		/* writes or syncs that are out */
	int err, last_err;
	uint64_t nr, done;		/* begun; completed without an error */
	uint64_t failed_at;		/* ns, of the last failure */
	struct list frozen[SPARSE_STAGES];
	struct list flushes, next_flushes;	/* struct op: task.link */
	struct list waiters;		/* tasks: its end */
	struct task task;		/* waits for a child */
	struct loop_timer timer;
	uint64_t rounds, syncs, written;
};

/* --- files and space --- */

struct run {
	uint64_t host, end;
	bool zero;			/* reads as zeroes */
};

struct free_run {
	struct list link;
	struct run run;
};

struct space {
	bool appends;
	uint64_t end;			/* nothing behind it was ever handed out */
	struct run now, next;		/* claimed, unused */
	struct list claimed;		/* struct free_run: given back, unused */
	struct list small;		/* ... too small for who asks at present */
	struct list free;		/* struct free_run: not claimed */
	struct blockset known;		/* clusters that are free or becoming so */
	struct list waiters;		/* tasks */
	int err;			/* of the last refilling */
	uint64_t handed;		/* bytes */

	/* Refilling: what is to be claimed. */
	struct task task;
	bool refilling, append, search_over;
	bool no_ahead;			/* the store allocates nothing ahead */
	uint64_t ahead;			/* up to here it may have */
	unsigned tries;
	struct run want;

	/* Packed bytes: the rest of a cluster, and one for what does not fit. */
	uint64_t pack_at, pack_end;
	struct run pack_next;
};

struct sparse_file {
	struct sparse *s;
	struct td_node *node;
	struct td_tree *tree;		/* NULL: file 0, the node's child */
	char *path;			/* of other files than 0 */
	bool rdonly;
	bool started;			/* space is set up */
	bool unsynced;			/* written since its last sync began */
	struct space space;
};

/* A table that is being made. */
struct making {
	struct list link;		/* sparse.making */
	struct sparse *s;
	unsigned file;
	bool at;			/* for sparse_table_at() */
	uint64_t key, host, len;
	uint64_t copy_of, pos;		/* 0: zeroes; how far the copy is */
	bool placed, ready;
	int err;
	struct task task;
	struct list waiters;
	uint8_t *buf;
	uint64_t buf_len;
};

/* Space that is no longer referred to. */
struct dropped {
	struct list link;
	unsigned file;
	uint64_t host, len;
	bool whole;			/* clusters, not packed bytes */
	uint64_t round;			/* the one that makes it so for good */
	uint64_t seq;			/* operations begun before this may use it */
};

/* --- operations --- */

/* Bytes [pos, end) on their way from the disk to a buffer. */
struct rd {
	struct task task;
	struct sparse *s;
	uint64_t base;			/* of iov */
	uint64_t pos, end;
	const struct iovec *iov;
	unsigned iovcnt;
	unsigned pending;
	int err;
	bool running;
	void (*done)(struct rd *q);
	struct td_req *guest;		/* of a struct op: may be passed on as it is */
	/* The extent at pos is being looked for in: */
	struct sparse *layer;
	uint64_t limit;
};

struct fill;

struct op {				/* td_ctx() of a guest's request */
	struct task task;
	struct sparse *s;
	struct td_req *r;
	void (*done)(struct op *o, int err);	/* NULL: a guest's */
	struct list running;
	uint64_t seq;
	bool started, writes;
	uint64_t pos, end;
	unsigned pending;
	int err;
	struct rd rd;
	/* zeroes and discard */
	uint64_t stop;			/* the end of all of it */
	uint64_t unsaid;		/* what is here the format has no word for */
	bool zero, pack;		/* writes zeroes; compressed */
	bool busy;			/* its task's function runs */
	void (*then)(struct op *o);	/* [pos, end) is written, or o->err */
	uint64_t offset;		/* the request's own, while it is passed on */
};

struct fill {
	struct task task;
	struct list link;		/* sparse.fills, or fill_free */
	struct list waiters;
	struct sparse *s;
	struct op *op;
	uint64_t c0, c1;		/* clusters of the disk that it occupies */
	uint64_t f0, f1;		/* what it gives a place, or rewrites */
	uint64_t pos, end;		/* the request's bytes in it */
	unsigned file;
	uint64_t host;			/* of f0 */
	struct run run;			/* fresh: the clusters */
	bool fresh;			/* claimed for this */
	bool zero;			/* host reads as zeroes */
	bool old_zero;			/* and so does what was there before */
	bool linked;			/* it has its place already */
	uint32_t packed;		/* bytes at host; 0: as they are */
	unsigned reads;			/* of head and tail, under way */
	int err;
	bool (*step)(struct fill *f);	/* false: it waits */
	uint8_t *buf;			/* head and tail; with a cipher [f0, f1) */
	uint64_t buf_len;
	struct iovec head_iov, tail_iov;
	struct rd head, tail;
	struct worker_job job;
};

enum first { FIRST_NO, FIRST_RUNS, FIRST_DONE };

struct pack_cache;

struct meta {
	struct blockset blocks;
	struct range *ranges;
	size_t n_ranges, max_ranges;
};

struct sparse {
	struct td_node *node;
	const struct sparse_format *format;
	void *priv;
	uint64_t size;
	uint32_t cluster, unit;
	bool rdonly;
	bool closing;			/* what is released now was never written */
	bool quitting;			/* nor is anything released */
	bool corrupt, marking;
	struct task mark_task;
	enum first first;
	int first_err;
	struct list first_wait;

	struct sparse_file *files;
	unsigned n_files;
	char *parent_spec;
	struct td_tree *parent_tree;
	struct td_node *parent;		/* NULL: none */
	struct sparse *parent_sparse;	/* the same, when it is of this kind */

	const struct sparse_packer *packer;
	struct crypt *crypt;
	bool crypt_by_host;

	struct task *now;		/* whose slot is being called */
	struct list ready;		/* tasks */
	struct loop_work work;

	struct td_pool *children, *parents;
	struct list child_wait, parent_wait;
	unsigned children_out, parents_out;
	uint64_t buf_used;
	struct list buf_wait;

	struct cache cache;
	struct redo *redo;		/* or NULL */
	struct round round;
	bool dep;			/* something unsynced has to be on stable
					 * storage before tables of later stages */
	struct meta meta;
	struct list making;

	struct list running;		/* struct op, in the order of their start */
	uint64_t seq;
	unsigned n_running;
	struct list drain_wait;		/* tasks: an operation ends */
	bool held;			/* a resize: nothing starts */
	struct list hold_wait;		/* struct op: task.link */

	struct list fills;
	struct fill *fill_pool;
	struct list fill_free;		/* struct fill: link */
	struct list fill_wait;

	struct list drops;		/* struct dropped, in their order */
	struct task drop_task;
	struct list punches;		/* struct dropped: free, to be punched */
	struct task punch_task;
	unsigned punching;		/* on punches, or under way */

	struct pack_cache *packs;
	struct log_limit limit;

	/* open.c, close.c, resize.c */
	struct td_req *ctl;
	struct td_req sub;		/* control of another tree */
	struct worker_job job, mark_job;
	struct task ctl_task;
	unsigned ctl_step, ctl_file;
	struct run left;
	int ctl_err, mark_err;
	bool ctl_told;			/* the reason, by the format */
	uint64_t old_size, new_size;
	struct td_req own_req;
	struct op own_op;

	uint64_t copied;		/* bytes from parents and old clusters */
	uint64_t allocated;		/* bytes handed out */
	uint64_t given_back;
};

/* engine.c */
void engine_init(struct sparse *s);
void engine_resume(struct sparse *s);		/* requests that were held start */
struct sparse *sparse_of(const struct td_node *n);	/* NULL: of another kind */
void task_init(struct task *t, void (*run)(struct task *t));
void task_wait(struct task *t, struct list *on);
void task_ready(struct sparse *s, struct task *t);	/* runs soon */
void tasks_wake(struct sparse *s, struct list *from);	/* all of them */
void tasks_tell(struct sparse *s, struct list *from, int err);	/* and why */
void op_end(struct op *o, int err);
/* An operation of the engine's own: r says what; done instead of an answer. */
void op_own(struct op *o, struct sparse *s, struct td_req *r,
	    void (*done)(struct op *o, int err));
/* A slot is called for task t between the two; the second gives back what the
 * first attempt held unless it waits. */
void slot_begin(struct sparse *s, struct task *t);
int slot_end(struct sparse *s, int res);
/* 0: the image may be changed now; SPARSE_WAIT (t waits); -errno. */
int first_write(struct sparse *s, struct task *t);
int first_write_now(struct sparse *s);		/* the same, in a worker */

/* open.c, close.c */
void life_run_job(struct sparse *s, void (*run)(struct worker_job *j),
		  void (*done)(struct worker_job *j));
/* Close the files from ctl_file down, give back all, answer with ctl_err. */
void life_close_trees(struct sparse *s);
/* Nothing that changes the image is under way: 0 or SPARSE_WAIT. */
int life_settle(struct sparse *s, struct task *t);
/* All is written, and all that was dropped is free: 0, SPARSE_WAIT or -errno. */
int life_clean(struct sparse *s, struct task *t);

/* cache.c */
int cache_new(struct sparse *s);
void cache_free(struct sparse *s);
void cache_forget(struct sparse *s);		/* all; nothing is dirty */
void cache_forget_range(struct sparse *s, unsigned file, uint64_t host,
			uint64_t len);
bool cache_dirty_in(struct sparse *s, unsigned file, uint64_t host, uint64_t len);
void cache_release(struct task *t);		/* its ticket and what it held */
void cache_thaw(struct sparse_slice *sl, bool written);

/* round.c */
void round_init(struct sparse *s);
void round_free(struct sparse *s);
void round_start(struct sparse *s);		/* soon, if not yet wanted */
void round_flush(struct op *o);			/* ends in op_end() */
/* Everything that was changed until now is on stable storage: 0, or SPARSE_WAIT
 * (t waits for a round's end), or -errno. */
int round_clean(struct sparse *s, struct task *t);
void round_dirtied(struct sparse *s);

/* child.c */
/* A transfer.  `done` owns the child and gives it back with child_put(). */
struct child;
typedef void child_done_fn(struct child *c, int err);
struct child {
	struct sparse *s;
	struct td_req *r;
	struct sparse_file *file;	/* NULL: the parent */
	child_done_fn *done;
	void *owner;
	/* The owner's: */
	struct sparse *layer;
	uint64_t sector;		/* for the cipher */
	uint64_t iov_off, skip, len;	/* buf + skip <-> the rd's iov + iov_off */
	uint8_t *buf;
	uint64_t buf_len;
	struct worker_job job;
	int err;
	struct iovec iov[CHILD_IOV];
};
int child_new(struct sparse *s);
void child_free(struct sparse *s);
/* A transfer with a file of the image (or with its parent), or NULL: t waits. */
struct child *child_get(struct sparse *s, struct task *t);
struct child *child_get_parent(struct sparse *s, struct task *t);
void child_put(struct child *c);
/* Flags, and vectors in c->iov, are set by the caller. */
void child_submit(struct child *c, struct sparse_file *f, enum td_op op,
		  uint64_t off, uint64_t len, child_done_fn *done, void *owner);
void child_submit_parent(struct child *c, enum td_op op, uint64_t off, uint64_t len,
			 child_done_fn *done, void *owner);
/* Vectors of zeroes. */
uint64_t iov_zeroes(uint64_t len, struct iovec *to, unsigned max, unsigned *n);
/* A buffer for one operation, which asks for one alone; NULL: t waits. */
uint8_t *buf_get(struct sparse *s, uint64_t len, struct task *t);
void buf_put(struct sparse *s, uint8_t *buf, uint64_t len);

/* read.c */
void read_start(struct op *o);
void rd_start(struct rd *q);			/* s, base, pos, end, iov, done */
/* Where the bytes at *pos are, in which layer: NULL is the parent's own storage
 * (x->host).  0, SPARSE_WAIT (q->task waits), -errno. */
int rd_resolve(struct rd *q, struct sparse_extent *x, struct sparse **layer);
void rd_part_done(struct rd *q, int err);

/* pack.c */
int pack_new(struct sparse *s);
void pack_free(struct sparse *s);
void pack_forget(struct sparse *s, unsigned file, uint64_t host);
/* x->length bytes at q->pos of a packed cluster of layer l: moves q on and returns
 * 0, or SPARSE_WAIT: q->task waits, and asks again. */
int pack_read(struct rd *q, struct sparse *l, const struct sparse_extent *x);

/* write.c */
void write_start(struct op *o);
/* Write [o->pos, o->end), then call o->then. */
void write_part(struct op *o, void (*then)(struct op *o));
void op_part_done(struct op *o, int err);	/* one of o->pending has ended */
/* The extent at off, x, is zeroes, as far as it and the parent's size tell. */
bool reads_zero(const struct sparse *s, const struct sparse_extent *x, uint64_t off);
/* Guest data may be written there; else the image is damaged: -EIO. */
int check_host(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
	       uint64_t off);

/* unmap.c */
void unmap_start(struct op *o);
void extents_start(struct op *o);

/* fill.c */
int fill_new(struct sparse *s);
void fill_free(struct sparse *s);
/* The first that occupies some of [c0, c1), or NULL. */
struct fill *fill_find(struct sparse *s, uint64_t c0, uint64_t c1);
/* One that is idle, or NULL: t waits. */
struct fill *fill_get(struct sparse *s, struct task *t);
/* op, c0 .. end, file, and host or run are set.  Ends in op_part_done(). */
void fill_start(struct fill *f);
/* Of one cluster [pos, end): compress it, or else write it as it is. */
void fill_start_packed(struct fill *f);

/* space.c */
void space_init(struct sparse_file *f);
void space_free(struct sparse_file *f);
/* `want` bytes or fewer (one cluster at least) for task t. */
int space_take(struct sparse *s, unsigned file, uint64_t want, struct task *t,
	       struct run *got);
int space_take_whole(struct sparse *s, unsigned file, uint64_t want, struct task *t,
		     struct run *got);		/* all of it, in one piece */
/* Claimed, and not used after all. */
void space_give(struct sparse *s, unsigned file, const struct run *r);
/* A place for packed bytes. */
int space_take_packed(struct sparse *s, unsigned file, uint32_t want,
		      struct task *t, uint64_t *host);
/* These clusters are free; `zero`: and read as zeroes. */
void space_freed(struct sparse *s, unsigned file, const struct run *r);
/* Claimed runs that are left over at the end, one at a time; false: no more. */
bool space_leftover(struct sparse_file *f, struct run *r);
/* Where the file may end: free runs before its end left out. */
uint64_t space_trim(struct sparse *s, struct sparse_file *f);

/* drop.c */
void drop_init(struct sparse *s);
void drop_free(struct sparse *s);
void drop_check(struct sparse *s);		/* an operation or a round has ended */
bool drop_pending(const struct sparse *s);	/* some waits for a round */
bool drop_idle(const struct sparse *s);		/* nothing is dropped or punched */

/* table.c */
void table_forget(struct sparse *s, unsigned file);	/* of sparse_table_at() */
void table_free(struct sparse *s);

/* meta.c */
void meta_free(struct sparse *s);
bool meta_hit(const struct sparse *s, unsigned file, uint64_t host, uint64_t len);

static inline uint64_t cluster_down(const struct sparse *s, uint64_t v)
{
	return align_down(v, s->cluster);
}

static inline uint64_t cluster_up(const struct sparse *s, uint64_t v)
{
	return align_up(v, s->cluster);
}

#endif
