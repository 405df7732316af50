/* hostfront.h - a block front end in user space, which can do right and wrong.
 *
 *   host.c     the machine: xenstore, pages to grant, event channels
 *   ring.c     slots of the three layouts, written and read
 *   front.c    a device: its handshake, its end
 *   model.c    verified I/O: what must be on the disk, and nothing else
 *   bad_*.c    what a front end should not do
 *   main.c     the verbs
 *
 * Runs in a guest whose xen-blkfront leaves the device alone, on /dev/xen/xenbus,
 * gntalloc and evtchn.  The layouts are written down here once more, after Linux's
 * xen-blkback/common.h, so that two readings of them are compared.
 *
 * What does not go as it must ends the program with status 1 and a line (die).
 */
#ifndef HOSTFRONT_H
#define HOSTFRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE 4096u
#define SECTOR 512u
#define SEGS 11u
#define IND_PAGES 8u
#define QUEUES 8u
#define ORDER 4u

/* --- host.c --- */

void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));
/* What a message of die() begins with. */
void doing(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
uint64_t now_ms(void);
void sleep_ms(unsigned ms);
unsigned rnd(unsigned below);	/* of rnd_seed */
uint32_t rnd32(void);
extern unsigned rnd_seed;

/* Relative paths are the guest's own.  NULL: there is none; good until the next. */
const char *store_get(const char *path);
int store_put(const char *path, const char *value, size_t len);	/* 0 or -errno */
int store_rm(const char *path);

/* n pages in a row, granted to domain `to`. */
struct pages {
	unsigned n;
	uint64_t index;
	uint8_t *at;
	uint32_t *gref;
};
struct pages *pages_new(unsigned n, unsigned to, bool writable);
/* Given back to the kernel, which keeps what is still mapped. */
void pages_free(struct pages *p);

unsigned port_new(unsigned to);
void port_free(unsigned port);
int port_kick(unsigned port);
/* Has any port's event come? */
bool port_wait(unsigned ms);

/* --- ring.c --- */

enum abi { NATIVE, X86_32, X86_64, ABIS };
extern const char *const abi_name[ABIS];
enum op { READ, WRITE, BARRIER, FLUSH, DISCARD = 5, INDIRECT = 6 };
enum status { OKAY = 0, ERROR = -1, UNSUPPORTED = -2 };

struct seg {
	uint32_t gref;
	uint8_t first, last;
	uint16_t pad;
};
struct req {
	uint8_t op, nr;		/* of a discard nr is the flag */
	uint64_t id, sector;
	struct seg seg[SEGS];
	uint64_t nr_sectors;	/* discard */
	uint8_t inner;		/* indirect */
	uint16_t ind_nr;
	uint32_t ind[IND_PAGES];
};
struct answer {
	uint64_t id;
	uint8_t op;
	int status;
};

struct sring {
	uint32_t req_prod, req_event, rsp_prod, rsp_event;
	uint8_t pad[48];
};
struct queue {
	enum abi abi;
	struct pages *ring;
	struct sring *s;
	unsigned slots;
	uint32_t req, rsp;	/* ours: next to write, next to read */
	unsigned port;
};

void queue_new(struct queue *q, enum abi abi, unsigned order);
void queue_free(struct queue *q);
uint8_t *queue_slot(const struct queue *q, uint32_t pos);
size_t slot_size(enum abi abi);
void queue_put(struct queue *q, const struct req *r);
/* Shows what was put; tells the back end if it asks for it, or if `tell`. */
void queue_push(struct queue *q, bool tell);
/* False: no answer came in that time. */
bool queue_get(struct queue *q, struct answer *a, unsigned ms);

/* --- front.c --- */

struct setup {
	enum abi abi;
	unsigned order, queues;
	bool persistent;
};
struct front {
	unsigned devid;
	char dir[64], back[128];
	struct setup s;
	struct queue q[QUEUES];
	unsigned made;		/* queues that are */
	uint64_t sectors;
	unsigned max_indirect;
	bool discards, readonly;
};

void front_open(struct front *f, unsigned devid);
/* Keys of the front end and of the back end; an empty format removes. */
void front_set(struct front *f, const char *key, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void front_unset(struct front *f, const char *key);
/* For who looks at its numbers while it is there: "look" in its directory is "please"
 * until they have written "seen". */
void front_show(struct front *f);
const char *front_back(struct front *f, const char *key);
int front_back_state(struct front *f);
/* Until the back end is in one of these (1 << state): which. */
int front_await(struct front *f, unsigned states, unsigned ms);
#define WAITING (1u << 2)
#define CONNECTED (1u << 4)
#define CLOSING (1u << 5)
#define CLOSED (1u << 6)

/* The steps of a handshake: rings and ports; their keys; state 3. */
void front_make(struct front *f, const struct setup *s);
void front_tell(struct front *f);
void front_drop(struct front *f);
/* From anywhere to where the back end waits for a front end. */
void front_reset(struct front *f);
/* All of it; it must succeed.  And back again, the rings given up. */
void front_connect(struct front *f, const struct setup *s);
void front_leave(struct front *f);

/* One request that must be answered; its status. */
int ask(struct front *f, unsigned queue, struct req *r);

/* --- model.c --- */

#define MODEL_SECTORS 2048u	/* of the disk are the model's; then it is free */
#define MODEL_PAGES (MODEL_SECTORS * SECTOR / PAGE)
/* Write all of it anew. */
void model_write(struct front *f);
/* Random reads and writes, all rings full at a time, every byte compared; at least
 * n requests a queue. */
void model_run(struct front *f, unsigned n);
/* Read all and compare. */
void model_check(struct front *f);
/* Through n pages, each granted all the time: there, back again after a pause, at
 * random, and all at once.  The back end must take MODEL_PAGES segments a request. */
void model_crowd(struct front *f, unsigned n);
/* A few requests. */
void model_touch(struct front *f);
/* Connect so, do all of the above, leave. */
void model_control(struct front *f, const struct setup *s);

/* --- bad_*.c --- */

void bad_requests(struct front *f, enum abi abi, bool persistent);
void bad_readonly(struct front *f);
void bad_indices(struct front *f, enum abi abi);
void bad_loop(struct front *f, unsigned n);
void bad_events(struct front *f);
void bad_random(struct front *f, enum abi abi, unsigned seconds);
void bad_values(struct front *f, bool all);
void bad_states(struct front *f, unsigned n);
void bad_nodes(struct front *f);
void bad_exit(struct front *f);
void bad_removal(struct front *f);

#endif
