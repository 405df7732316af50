/* journal.h - the record of a disk's rings that outlives its process: what was
 * taken off each ring and not answered, and where we were.  A mapped file that
 * somebody else made and keeps (TAP_FD_JOURNAL); the page cache survives a
 * SIGKILL, and nothing here is meant to survive more.
 *
 * The file has a table of sections; one that is in use belongs to one front end,
 * named by its kind and a key of 128 bits, and has for each of its rings a
 * position and an entry for every slot.
 *
 * A successor takes up a section and knows exactly what was unanswered, whenever
 * its predecessor was killed.  The argument, by the one store that decides each
 * step (a killed thread has done all stores before some instruction and none
 * after it, so that it is enough if the compiler keeps their order):
 *
 *  taken      The request is copied into a free entry, then `state` says TAKEN.
 *             Before that store it is still the front end's, on the ring, and
 *             the successor takes it from there; after it, it is ours.
 *  answered   Position and contents of the answer are noted in the entry, then
 *             `state` says ANSWERED, then the answer is written into the ring.
 *             Before the store the request is executed once more; after it the
 *             same answer is written to the same place once more.
 *  shown      `shown` is noted here first, then stored in the ring's page: the
 *             successor stores it there again, which changes nothing if that had
 *             been done.  By `shown` alone it is known which answers the front
 *             end may have seen: those below it.
 *  cleared    Entries of answers below `shown` count for nothing, cleared or not.
 *
 * So every request that was taken and whose answer was not shown is in the
 * journal, and no other; each lies once in the window [shown, cons) of the ring,
 * and cons = shown + their number.  None of our positions is read back from the
 * page, which the front end can write.
 *
 * What a successor executes again has an unknown effect already.  Reads, writes,
 * flushes and discards may be repeated: the memory is the disk's until the
 * answer, and a front end that has overlapping requests in flight has chosen no
 * order for them.  It executes them in the order in which they were taken, and
 * before any that were not.
 *
 * A request may be what has killed the process.  `attempts` is counted up before
 * a successor executes it; from the second on, one is executed at a time, and nothing
 * else that is recorded is begun beside it, of any front end, so that it is not suspected;
 * after JOURNAL_ATTEMPTS it is answered with an error.
 *
 * The file's contents are checked as if a stranger had written them (whoever owned
 * the predecessor did): a section that makes no sense is refused, none is fatal.
 */
#ifndef RING_JOURNAL_H
#define RING_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "blkif.h"

#define JOURNAL_SECTIONS 16u
#define JOURNAL_SLOTS_MAX 512u		/* of a ring: 1 << TAPRING_MAX_ORDER pages */
#define JOURNAL_ATTEMPTS 3u		/* successors that a request may cost */

struct journal;
struct journal_section;

enum journal_kind { JOURNAL_SHM = 1, JOURNAL_XEN = 2 };

struct journal_key {
	uint8_t b[16];
};

/* A front end's rings, all alike. */
struct journal_shape {
	uint16_t abi;		/* enum tapring_abi */
	uint16_t order, queues;
};

/* fd: TAP_JOURNAL_BYTES or more, ours from now on (also on failure).  A file of
 * another version is emptied.  0 or -errno. */
int journal_new(int fd, struct journal **j);
void journal_free(struct journal *j);	/* NULL is fine; its sections go too */
/* Forget what no front end uses: there is nobody to be succeeded. */
void journal_reset(struct journal *j);

/* This process ends in order (tap_journal_head.left).  NULL is fine. */
void journal_left(struct journal *j);

/* The section of a front end.
 *
 * resume false: an empty one, in place of what the key named before; if need be
 * that of the one that has been away for longest (guests of Xen last).  -ENOSPC: all are in use,
 * or the file system is full; -EBUSY: the key's is in use.
 * resume true: the one that a predecessor left.  -ESTALE: there is none; -EBUSY: it
 * is in use; -EINVAL: its rings had another shape; -EBADMSG: it makes no sense.
 *
 * *why: in words. */
int journal_get(struct journal *j, enum journal_kind kind,
		const struct journal_key *key, const struct journal_shape *shape,
		bool resume, struct journal_section **s, const char **why);
/* How many sections of that kind a predecessor has left that nobody has taken up. */
unsigned journal_waiting(const struct journal *j, enum journal_kind kind);
/* Give it back; keep: for a successor, or another try of its front end. */
void journal_put(struct journal_section *s, bool keep);

/* For ring.c alone. */

enum journal_state { JOURNAL_FREE, JOURNAL_TAKEN, JOURNAL_ANSWERED };

struct journal_entry {		/* in the file */
	uint64_t seq;		/* the order in which requests were taken */
	uint32_t rsp;		/* ANSWERED: the answer's position, */
	uint8_t state;
	uint8_t attempts;	/* of successors */
	uint8_t op;		/* and its contents */
	int8_t status;
	uint8_t slot[BLKIF_SLOT_MAX];
};
_Static_assert(sizeof(struct journal_entry) == 128, "two cache lines");

struct journal_pos {		/* in the file */
	uint32_t shown;		/* rsp_prod, noted before it is stored there */
	uint32_t pad[15];
};

/* One ring's, as its process knows it. */
struct journal_ring {
	struct journal_pos *pos;
	struct journal_entry *entry;
	struct journal_entry **alone;	/* of the journal: what is executed alone */
	uint32_t *given_up;		/* of the file */
	uint64_t seq;			/* of the next request */
	bool taken_up;
	unsigned nr_free;
	unsigned nr_answered;		/* to be written again: answered[] by position */
	unsigned nr_again, next_again;	/* to be executed again, in order */
	uint16_t free[JOURNAL_SLOTS_MAX];
	uint16_t answered[JOURNAL_SLOTS_MAX];	/* entry of the answer at pos & mask */
	uint16_t again[JOURNAL_SLOTS_MAX];
};

struct journal_ring *journal_ring(struct journal_section *s, unsigned queue);

/* The order of stores, for who is killed between them. */
static inline void journal_order(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static inline void journal_state(struct journal_entry *e, enum journal_state s)
{
	journal_order();
	__atomic_store_n(&e->state, (uint8_t)s, __ATOMIC_RELAXED);
	journal_order();
}

#endif
