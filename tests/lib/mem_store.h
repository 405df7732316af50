/* mem_store.h - a store driver for tests: files in memory, in place of real files
 * (td_env.store).  It answers later, in an order of its own; it can fail; and it
 * keeps a record of all that changed its files, for power_cut.h.
 *
 * Time is a clock that counts events: each begin and each end of an operation has
 * a number of its own, and a test takes numbers for its own events too.
 *
 * One store serves at a time (a driver's open has to find it), and it belongs to
 * the thread of the loop, except that blocking calls come from workers.
 */
#ifndef TESTS_MEM_STORE_H
#define TESTS_MEM_STORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "loop/loop.h"
#include "mem_image.h"
#include "td_driver.h"

#define MEM_FILES 64u
#define MEM_NEVER UINT64_MAX

struct mem_op {			/* of the record */
	enum td_op op;		/* WRITE; ZEROES (a discard too); RESIZE; FLUSH */
	unsigned file;
	bool fua;
	uint64_t off, len;	/* RESIZE: len is the new size */
	uint64_t landed;	/* so many bytes from off on took effect */
	uint64_t begin, effect, end;	/* MEM_NEVER: not yet */
	int err;
	unsigned char *data;	/* WRITE */
};

/* Fail what comes as the nth of the operations in `ops` (bits of enum td_op), and
 * count - 1 more of them (0: all from then on). */
struct mem_fault {
	unsigned ops;
	unsigned nth;		/* from 1; 0: nothing fails */
	unsigned count;
	int err;
	unsigned keep;		/* WRITE: so many sectors of it land all the same */
};

struct mem_file {
	char *path;
	struct mem_image image;
};

struct mem_store {
	struct mem_file file[MEM_FILES];
	unsigned files;
	uint32_t phys;			/* of every file; 512 */
	uint64_t max_bytes;		/* longer files: no space */
	uint64_t random;
	bool at_once;			/* answers come in order, without delay */

	struct mem_op *ops;		/* the record */
	size_t n_ops, room;
	bool record;

	struct mem_fault fault;
	unsigned counted, hits;		/* operations that could, did fail */

	/* Death of the process: after so many events (0: never) nothing of it takes
	 * effect any more, and `died` is called, once, in whatever thread. */
	unsigned die_in;
	bool dead;
	unsigned life;
	void (*died)(void *arg);
	void *died_arg;

	unsigned depth;			/* most in flight together so far */

	/* Private. */
	uint64_t clock;
	pthread_mutex_t mutex;
	struct loop *loop;
	struct loop_work work;
	struct loop_timer timer;
	struct list pending;
	unsigned inflight;
};

extern const struct td_driver mem_store_driver;

/* The store that opens are served from, from now on. */
void mem_store_init(struct mem_store *m, uint64_t seed);
void mem_store_free(struct mem_store *m);	/* all nodes closed */

/* Index of the file of this name; made, empty, if there is none. */
unsigned mem_store_file(struct mem_store *m, const char *path);
uint64_t mem_store_tick(struct mem_store *m);
void mem_store_forget(struct mem_store *m);	/* the record; the clock goes on */
void mem_store_fail(struct mem_store *m, const struct mem_fault *f);
/* It died: of what was under way, any part lands all the same (1 in `odds` does not;
 * 0: all does), and the store serves the next opens. */
void mem_store_bury(struct mem_store *m, unsigned odds);

#endif
