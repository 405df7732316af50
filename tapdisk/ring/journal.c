/* journal.c - the file of journal.h: its table, its sections, and what they are
 * worth to a successor.  The steps of a request are ring.c's.
 *
 * J1  What is mapped is there: the table when the file is mapped, a section when
 *     it is taken.  A full file system costs a front end its journal, not the
 *     process.
 * J2  A section is in the table with its kind last and off it with its kind
 *     first: a table of any moment is right.
 * J3  Nothing in the file is used as an index or a size before it was checked, and
 *     what was checked is ours alone: nobody else writes while we live.
 */
#include "ring/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tap_proto.h"

#define TABLE_LEN 4096u
#define SECTION_LEN (4096u + TAPRING_MAX_QUEUES * JOURNAL_SLOTS_MAX * \
		     sizeof(struct journal_entry))

_Static_assert(TABLE_LEN + JOURNAL_SECTIONS * SECTION_LEN == TAP_JOURNAL_BYTES,
	       "tap_proto.h");
_Static_assert(JOURNAL_SLOTS_MAX == 32u << TAPRING_MAX_ORDER, "slots");

struct row {			/* of the table, in the file */
	uint32_t kind;		/* enum journal_kind; 0: nobody's */
	struct journal_shape shape;
	uint16_t pad;
	struct journal_key key;
	uint64_t stamp;		/* when it was taken: a count */
};

struct table {
	struct tap_journal_head head;
	struct row row[JOURNAL_SECTIONS];
};
_Static_assert(sizeof(struct table) <= TABLE_LEN, "the table is one page");
_Static_assert(TAPRING_MAX_QUEUES * sizeof(struct journal_pos) <= 4096, "positions");

struct journal_section {	/* in use */
	struct journal *journal;
	unsigned n;
	unsigned queues;
	struct journal_ring ring[];
};

struct journal {
	int fd;
	char *mem;
	struct table *table;
	struct journal_entry *alone;
	uint64_t stamp;
	struct journal_section *used[JOURNAL_SECTIONS];
};

static size_t section_at(unsigned n)
{
	return TABLE_LEN + (size_t)n * SECTION_LEN;
}

static unsigned section_of(const struct journal *j, const struct journal_entry *e)
{
	return (unsigned)(((size_t)((const char *)e - j->mem) - TABLE_LEN) / SECTION_LEN);
}

static void row_clear(struct row *w)
{
	__atomic_store_n(&w->kind, 0, __ATOMIC_RELAXED);		/* J2 */
	journal_order();
}

int journal_new(int fd, struct journal **out)
{
	struct journal *j = calloc(1, sizeof(*j));
	struct stat st;
	int err = -ENOMEM;

	if (!j)
		goto fail;
	j->fd = fd;
	err = -EINVAL;
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) ||
	    st.st_size < (off_t)TAP_JOURNAL_BYTES)
		goto fail;
	err = fallocate(fd, 0, 0, TABLE_LEN) ? -errno : 0;		/* J1 */
	if (err)
		goto fail;
	j->mem = mmap(NULL, TAP_JOURNAL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
		      fd, 0);
	if (j->mem == MAP_FAILED) {
		err = -errno;
		goto fail;
	}
	j->table = (struct table *)(void *)j->mem;
	if (j->table->head.magic != TAP_JOURNAL_MAGIC ||
	    j->table->head.version != TAP_JOURNAL_VERSION) {
		memset(j->table, 0, sizeof(*j->table));
		j->table->head.version = TAP_JOURNAL_VERSION;
		journal_order();
		j->table->head.magic = TAP_JOURNAL_MAGIC;
	}
	j->table->head.left = 0;
	for (unsigned n = 0; n < JOURNAL_SECTIONS; n++)
		if (j->table->row[n].stamp > j->stamp)
			j->stamp = j->table->row[n].stamp;
	*out = j;
	return 0;
fail:
	close(fd);
	free(j);
	return err;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	for (unsigned n = 0; n < JOURNAL_SECTIONS; n++)
		free(j->used[n]);
	munmap(j->mem, TAP_JOURNAL_BYTES);
	close(j->fd);
	free(j);
}

static void give_back(struct journal *j, unsigned n)
{
	row_clear(&j->table->row[n]);
	/* Its memory may stay ours if that is refused: it is used again. */
	(void)!fallocate(j->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)section_at(n), SECTION_LEN);
}

void journal_reset(struct journal *j)
{
	for (unsigned n = 0; n < JOURNAL_SECTIONS; n++)
		if (!j->used[n] && j->table->row[n].kind)
			give_back(j, n);
}

void journal_left(struct journal *j)
{
	if (j)
		j->table->head.left = 1;
}

struct journal_ring *journal_ring(struct journal_section *s, unsigned queue)
{
	ASSERT(queue < s->queues);
	return &s->ring[queue];
}

/* A section as its process knows it; nothing of the file is read. */
static struct journal_section *section_new(struct journal *j, unsigned n,
					   const struct journal_shape *shape)
{
	struct journal_section *s = calloc(1, sizeof(*s) + shape->queues *
					   sizeof(s->ring[0]));
	unsigned slots = blkif_slots(shape->abi, shape->order);
	char *at = j->mem + section_at(n);

	ASSERT(slots <= JOURNAL_SLOTS_MAX);
	if (!s)
		return NULL;
	s->journal = j;
	s->n = n;
	s->queues = shape->queues;
	for (unsigned q = 0; q < s->queues; q++) {
		struct journal_ring *r = &s->ring[q];

		r->alone = &j->alone;
		r->given_up = &j->table->head.given_up;
		r->pos = (struct journal_pos *)(void *)at + q;
		r->entry = (struct journal_entry *)(void *)(at + 4096) +
			   (size_t)q * slots;
	}
	return s;
}

unsigned journal_waiting(const struct journal *j, enum journal_kind kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < JOURNAL_SECTIONS; i++)
		n += j->table->row[i].kind == (uint32_t)kind && !j->used[i];
	return n;
}

/* Taking one up. */

static const struct journal_entry *by_seq_of;	/* qsort(3) carries no argument */

static int by_seq(const void *a, const void *b)
{
	uint64_t x = by_seq_of[*(const uint16_t *)a].seq;
	uint64_t y = by_seq_of[*(const uint16_t *)b].seq;

	return x < y ? -1 : x > y;
}

/* Sort the entries of a ring by what is to be done with them.  False: nobody of
 * ours has left them like that. */
static bool ring_load(struct journal_ring *r, unsigned slots)
{
	bool seen[JOURNAL_SLOTS_MAX] = { false };
	uint32_t shown = r->pos->shown;

	for (unsigned i = slots; i-- > 0;) {
		struct journal_entry *e = &r->entry[i];
		int32_t ahead = (int32_t)(e->rsp - shown);

		switch (e->state) {
		case JOURNAL_FREE:
			break;
		case JOURNAL_TAKEN:
			r->again[r->nr_again++] = (uint16_t)i;
			if (e->seq >= r->seq)
				r->seq = e->seq + 1;
			continue;
		case JOURNAL_ANSWERED:
			if (ahead >= (int32_t)slots || ahead < -(int32_t)slots)
				return false;
			if (ahead < 0)
				break;		/* shown */
			if (seen[ahead])
				return false;
			seen[ahead] = true;
			r->answered[e->rsp & (slots - 1)] = (uint16_t)i;
			r->nr_answered++;
			continue;
		default:
			return false;
		}
		journal_state(e, JOURNAL_FREE);
		r->free[r->nr_free++] = (uint16_t)i;
	}
	for (unsigned k = 0; k < r->nr_answered; k++)
		if (!seen[k])
			return false;
	r->taken_up = true;
	by_seq_of = r->entry;
	qsort(r->again, r->nr_again, sizeof(r->again[0]), by_seq);
	return true;
}

static int no(int err, const char **why, const char *text)
{
	*why = text;
	return err;
}

static int take_up(struct journal *j, unsigned n,
		   const struct journal_shape *shape, struct journal_section **out,
		   const char **why)
{
	struct row *w = &j->table->row[n];
	unsigned slots = blkif_slots(shape->abi, shape->order);
	size_t len = 4096 + (size_t)shape->queues * slots *
		     sizeof(struct journal_entry);
	struct journal_section *s;

	if (w->shape.abi != shape->abi || w->shape.order != shape->order ||
	    w->shape.queues != shape->queues)
		return no(-EINVAL, why, "its rings were of another shape");
	/* It is there if our own left it; if not, a hole is read as zeroes. */
	if (fallocate(j->fd, 0, (off_t)section_at(n), (off_t)len))
		return no(-errno, why, "no room for its journal");
	s = section_new(j, n, shape);
	if (!s)
		return no(-ENOMEM, why, "out of memory");
	for (unsigned q = 0; q < s->queues; q++) {
		if (!ring_load(&s->ring[q], slots)) {
			free(s);
			return no(-EBADMSG, why, "its journal makes no sense");
		}
	}
	w->stamp = ++j->stamp;
	*out = s;
	return 0;
}

/* A is a better one to forget than b: older; but a guest of Xen, which cannot stay
 * away by itself, last of all. */
static bool forget_rather(const struct row *a, const struct row *b)
{
	if ((a->kind == JOURNAL_XEN) != (b->kind == JOURNAL_XEN))
		return b->kind == JOURNAL_XEN;
	return a->stamp < b->stamp;
}

/* A new one: a row that is free, else one that nobody uses; -1. */
static int find_room(const struct journal *j)
{
	int best = -1;

	for (unsigned n = 0; n < JOURNAL_SECTIONS; n++) {
		const struct row *w = &j->table->row[n];

		if (j->used[n])
			continue;
		if (!w->kind)
			return (int)n;
		if (best < 0 || forget_rather(w, &j->table->row[best]))
			best = (int)n;
	}
	return best;
}

static int begin(struct journal *j, unsigned n, enum journal_kind kind,
		 const struct journal_key *key, const struct journal_shape *shape,
		 struct journal_section **out, const char **why)
{
	struct row *w = &j->table->row[n];
	unsigned slots = blkif_slots(shape->abi, shape->order);
	size_t len = 4096 + (size_t)shape->queues * slots *
		     sizeof(struct journal_entry);
	struct journal_section *s;

	give_back(j, n);
	if (fallocate(j->fd, 0, (off_t)section_at(n), (off_t)len))	/* J1 */
		return no(-errno, why, "no room for its journal");
	s = section_new(j, n, shape);
	if (!s)
		return no(-ENOMEM, why, "out of memory");
	memset(j->mem + section_at(n), 0, len);
	for (unsigned q = 0; q < s->queues; q++)
		for (unsigned i = slots; i-- > 0;)
			s->ring[q].free[s->ring[q].nr_free++] = (uint16_t)i;
	w->shape = *shape;
	w->key = *key;
	w->stamp = ++j->stamp;
	journal_order();
	__atomic_store_n(&w->kind, kind, __ATOMIC_RELAXED);		/* J2 */
	*out = s;
	return 0;
}

int journal_get(struct journal *j, enum journal_kind kind,
		const struct journal_key *key, const struct journal_shape *shape,
		bool resume, struct journal_section **s, const char **why)
{
	int n = -1, err;

	for (unsigned i = 0; n < 0 && i < JOURNAL_SECTIONS; i++)
		if (j->table->row[i].kind == (uint32_t)kind &&
		    !memcmp(&j->table->row[i].key, key, sizeof(*key)))
			n = (int)i;
	if (n >= 0 && j->used[n])
		return no(-EBUSY, why, "its rings are connected");
	if (n < 0 && resume)
		return no(-ESTALE, why, "nothing is known of its rings");
	if (n < 0)
		n = find_room(j);
	if (n < 0)
		return no(-ENOSPC, why, "all journals are in use");
	err = resume ? take_up(j, (unsigned)n, shape, s, why) :
		       begin(j, (unsigned)n, kind, key, shape, s, why);
	if (!err)
		j->used[n] = *s;
	return err;
}

void journal_put(struct journal_section *s, bool keep)
{
	struct journal *j = s->journal;

	j->used[s->n] = NULL;
	/* Its front end may have been cut off with a suspect in hand. */
	if (j->alone && section_of(j, j->alone) == s->n)
		j->alone = NULL;
	if (!keep)
		give_back(j, s->n);
	free(s);
}
