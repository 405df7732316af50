/* cache.c - tables, in slices of at most SPARSE_SLICE bytes: found by file and
 * offset, read when they are missing, changed through one function, evicted when
 * they are clean.
 *
 * I1  A slice holds bytes of one table alone: [off, off + len) of the file.
 * I2  A slice is dirty when its data is newer than what a round is writing; the
 *     round's own version is `old` if the slice has been changed since, else
 *     data.  A frozen slice's data is not touched: the first change gives it a new
 *     buffer.
 * I3  Only a slice that is ready, clean, thawed and held by nobody is evicted.
 *
 * Who finds a slice missing needs a ticket, and keeps it, with all that he touches,
 * until his slot has run to its end: so he needs each slice read but once.  There
 * are so few tickets that their holders and the dirty slices never fill the cache:
 * some slice can always be evicted for a holder, and he is never stuck.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sparse/redo.h"
#include "sparse/sparse_priv.h"

#define SLICES_MIN 512u
#define SLICES_MAX 16384u	/* 64 MiB */
#define TICKETS_MAX 32u
#define SPARE_MAX 64u

int cache_new(struct sparse *s)
{
	struct cache *c = &s->cache;
	uint64_t want = s->size / s->cluster / (SPARSE_SLICE / 64) + SLICES_MIN;
	unsigned buckets = 1024;

	c->max = (unsigned)min_u64(max_u64(want, SLICES_MIN), SLICES_MAX);
	c->dirty_max = c->max / 2;
	c->tickets = (c->max - c->dirty_max) / (SPARSE_HOLD + 1);
	if (c->tickets > TICKETS_MAX)
		c->tickets = TICKETS_MAX;
	while (buckets < c->max)
		buckets *= 2;
	c->mask = buckets - 1;
	list_init(&c->dirty);
	list_init(&c->ticket_wait);
	list_init(&c->room_wait);
	c->slots = calloc(c->max, sizeof(*c->slots));
	c->bucket = calloc(buckets, sizeof(*c->bucket));
	c->spare = calloc(SPARE_MAX, sizeof(*c->spare));
	return c->slots && c->bucket && c->spare ? 0 : -ENOMEM;
}

void cache_free(struct sparse *s)
{
	struct cache *c = &s->cache;

	for (unsigned i = 0; i < c->made; i++) {
		free(c->slots[i]->data);
		free(c->slots[i]->old);
		free(c->slots[i]);
	}
	while (c->n_spare)
		free(c->spare[--c->n_spare]);
	free(c->slots);
	free(c->bucket);
	free(c->spare);
	*c = (struct cache){ 0 };
}

static uint8_t *buffer(void)
{
	void *p;

	return posix_memalign(&p, 4096, SPARSE_SLICE) ? NULL : p;
}

static unsigned hash(const struct cache *c, unsigned file, uint64_t off)
{
	uint64_t h = (off ^ (uint64_t)file << 48) * 0x9e3779b97f4a7c15ull;

	return (unsigned)(h >> 32) & c->mask;
}

static struct sparse_slice *find(const struct cache *c, unsigned file, uint64_t off)
{
	struct sparse_slice *sl = c->bucket[hash(c, file, off)];

	while (sl && (sl->off != off || sl->file != file))
		sl = sl->next;
	return sl;
}

static void unhash(struct cache *c, struct sparse_slice *sl)
{
	struct sparse_slice **p = &c->bucket[hash(c, sl->file, sl->off)];

	while (*p != sl)
		p = &(*p)->next;
	*p = sl->next;
}

static bool evictable(const struct sparse_slice *sl)		/* I3 */
{
	return sl->state == SLICE_FREE ||
	       ((sl->state == SLICE_READY || sl->state == SLICE_ERROR) &&
		!sl->dirty && !sl->frozen && !sl->held);
}

static void forget(struct cache *c, struct sparse_slice *sl)
{
	if (sl->state == SLICE_FREE)
		return;
	if (!sl->stale)
		unhash(c, sl);
	sl->stale = false;
	sl->state = SLICE_FREE;
}

static struct sparse_slice *make_slice(struct sparse *s)
{
	struct cache *c = &s->cache;
	struct sparse_slice *sl = calloc(1, sizeof(*sl));

	if (!sl)
		return NULL;
	sl->data = buffer();
	if (!sl->data) {
		free(sl);
		return NULL;
	}
	sl->s = s;
	list_init(&sl->waiters);
	list_init(&sl->dirty_link);
	list_init(&sl->round_link);
	c->slots[c->made++] = sl;
	return sl;
}

/* A free slice for a holder of a ticket. */
static struct sparse_slice *take_slice(struct sparse *s)
{
	struct cache *c = &s->cache;
	struct sparse_slice *sl = NULL;

	if (c->made < c->max && (sl = make_slice(s)))
		return sl;
	for (unsigned i = 0; i < 2 * c->made; i++) {
		sl = c->slots[c->hand];
		c->hand = (c->hand + 1) % c->made;
		if (evictable(sl)) {
			if (!sl->used || sl->state != SLICE_READY) {
				c->evicted++;
				forget(c, sl);
				return sl;
			}
			sl->used = false;
		}
	}
	return NULL;	/* only without memory: see the top */
}

static void unhold(struct cache *c, struct sparse_slice *sl)
{
	ASSERT(sl->held);
	if (--sl->held)
		return;
	if (sl->state == SLICE_ERROR ||
	    (sl->stale && sl->state == SLICE_READY && !sl->dirty && !sl->frozen))
		forget(c, sl);
}

/* What an earlier attempt needed and this one does not makes room. */
static void hold(struct task *t, struct sparse_slice *sl)
{
	unsigned i;

	for (i = 0; i < t->n_held; i++) {
		if (t->held[i] == sl) {
			t->touched |= 1u << i;
			return;
		}
	}
	if (i == SPARSE_HOLD) {
		for (i = 0; i < SPARSE_HOLD && t->touched & 1u << i; i++)
			;
		ASSERT(i < SPARSE_HOLD);	/* one call uses no more */
		unhold(&t->ticket->cache, t->held[i]);
		t->n_held--;
	}
	t->held[i] = sl;
	t->touched |= 1u << i;
	t->n_held++;
	sl->held++;
}

void cache_release(struct task *t)
{
	struct sparse *s = t->ticket;
	struct list *e;

	if (!s)
		return;
	while (t->n_held)
		unhold(&s->cache, t->held[--t->n_held]);
	t->ticket = NULL;
	s->cache.tickets++;
	e = list_pop(&s->cache.ticket_wait);
	if (e)
		task_ready(s, container_of(e, struct task, link));
}

static void loaded(struct child *c, int err)
{
	struct sparse_slice *sl = c->owner;
	struct sparse *s = c->s;

	child_put(c);
	sl->state = err ? SLICE_ERROR : SLICE_READY;
	sl->err = err;
	tasks_wake(s, &sl->waiters);
	if ((err || sl->stale) && !sl->held)
		forget(&s->cache, sl);
}

/* The slice is missing.  SPARSE_WAIT or -errno. */
static int load(struct sparse *s, unsigned class, unsigned file, uint64_t off,
		size_t len)
{
	struct cache *c = &s->cache;
	struct sparse_file *f = &s->files[file];
	struct task *t = s->now;
	struct sparse_slice *sl;
	struct child *ch;
	uint64_t there;

	if (!t->ticket) {
		if (!c->tickets) {
			task_wait(t, &c->ticket_wait);
			return SPARSE_WAIT;
		}
		c->tickets--;
		t->ticket = s;
	}
	ASSERT(t->ticket == s);
	ch = child_get(s, t);
	if (!ch)
		return SPARSE_WAIT;
	ch->file = f;
	sl = take_slice(s);
	if (!sl) {
		child_put(ch);
		return -ENOMEM;
	}
	c->misses++;
	sl->file = (uint16_t)file;
	sl->class = (uint16_t)class;
	sl->off = off;
	sl->len = (uint16_t)len;
	sl->state = SLICE_LOADING;
	sl->used = true;
	sl->err = 0;
	sl->next = c->bucket[hash(c, file, off)];
	c->bucket[hash(c, file, off)] = sl;
	hold(t, sl);
	task_wait(t, &sl->waiters);

	there = off >= f->node->size ? 0 : min_u64(len, f->node->size - off);
	memset(sl->data + there, 0, SPARSE_SLICE - there);
	ch->iov[0] = (struct iovec){ sl->data, there };
	ch->r->iovcnt = there != 0;
	/* Behind the end are zeroes, but they too come later. */
	child_submit(ch, f, TD_OP_READ, there ? off : 0, there, loaded, sl);
	return SPARSE_WAIT;
}

/* The table lies in the file, but for what is missing of its last cluster. */
static int check_table(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	uint64_t end = align_up(s->files[file].node->size, s->cluster);

	if (range_ok(host, len, end))
		return 0;
	return sparse_corrupt(s, "a table of %llu bytes at %llu of %s is not in the "
			      "file", (unsigned long long)len,
			      (unsigned long long)host, s->files[file].node->arg);
}

int sparse_get(struct sparse *s, unsigned class, unsigned file, uint64_t host,
	       uint64_t len, uint64_t at, struct sparse_at *a)
{
	uint64_t first = align_down(at, SPARSE_SLICE);
	uint64_t off = host + first;
	struct sparse_slice *sl = find(&s->cache, file, off);
	size_t n;

	ASSERT(s->now && at < len);
	n = min_u64(SPARSE_SLICE, len - first);
	if (!sl) {
		int err = check_table(s, file, host, len);

		return err ? err : load(s, class, file, off, n);
	}
	if (sl->class != class || sl->len != n)
		return sparse_corrupt(s, "tables of two kinds (%s, %s) are both at "
				      "%llu of %s", s->format->classes[class].name,
				      s->format->classes[sl->class].name,
				      (unsigned long long)off,
				      s->files[file].node->arg);
	if (s->now->ticket == s)
		hold(s->now, sl);
	if (sl->state == SLICE_LOADING) {
		task_wait(s->now, &sl->waiters);
		return SPARSE_WAIT;
	}
	if (sl->state == SLICE_ERROR)
		return sl->err;
	s->cache.hits++;
	sl->used = true;
	a->off = at - first;
	a->p = sl->data + a->off;
	a->left = n - a->off;
	a->slice = sl;
	return 0;
}

/* Changing. */

int sparse_room(struct sparse *s, unsigned slices)
{
	struct cache *c = &s->cache;

	ASSERT(slices <= SPARSE_HOLD);
	if (s->corrupt)
		return -EIO;
	while (c->n_spare < slices) {
		uint8_t *p = buffer();

		if (!p)
			return -ENOMEM;
		c->spare[c->n_spare++] = p;
	}
	if (c->n_dirty + c->n_old + slices <= c->dirty_max && redo_room(s))
		return 0;
	/* A round that failed a moment ago would fail again. */
	if (s->round.last_err && !s->round.running &&
	    loop_now(s->node->env->loop) - s->round.failed_at < 100000000)
		return s->round.last_err;
	round_start(s);
	task_wait(s->now, &c->room_wait);
	return SPARSE_WAIT;
}

void sparse_put(struct sparse *s, const struct sparse_at *a, const void *bytes,
		size_t n)
{
	struct sparse_slice *sl = a->slice;
	struct cache *c = &s->cache;

	ASSERT(n <= a->left && sl->state == SLICE_READY && !s->rdonly);
	if (sl->frozen && !sl->old) {				/* I2 */
		uint8_t *fresh;

		ASSERT(c->n_spare);
		fresh = c->spare[--c->n_spare];
		memcpy(fresh, sl->data, SPARSE_SLICE);
		sl->old = sl->data;
		sl->data = fresh;
		c->n_old++;
	}
	memcpy(sl->data + a->off, bytes, n);
	redo_put(s, sl, (unsigned)a->off, n);
	if (!sl->dirty) {
		sl->dirty = true;
		list_add(&c->dirty, &sl->dirty_link);
		if (!sl->frozen)
			c->n_dirty++;
		round_dirtied(s);
	}
}

/* The round is through with it, or gives it back unwritten. */
void cache_thaw(struct sparse_slice *sl, bool written)
{
	struct sparse *s = sl->s;
	struct cache *c = &s->cache;

	ASSERT(sl->frozen);
	sl->frozen = false;
	list_del(&sl->round_link);
	if (sl->old) {
		if (c->n_spare < SPARE_MAX)
			c->spare[c->n_spare++] = sl->old;
		else
			free(sl->old);
		sl->old = NULL;
		c->n_old--;
	}
	if (!written && !sl->dirty) {
		sl->dirty = true;
		list_add(&c->dirty, &sl->dirty_link);
	}
	if (!sl->dirty) {
		c->n_dirty--;
		if (sl->stale && !sl->held)
			forget(c, sl);
	}
}

bool cache_dirty_in(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	for (uint64_t off = host; off < host + len; off += SPARSE_SLICE) {
		const struct sparse_slice *sl = find(&s->cache, file, off);

		if (sl && (sl->dirty || sl->frozen))
			return true;
	}
	return false;
}

/* Forgetting. */

/* Not to be found again; gone as soon as nobody looks at it. */
static void retire(struct cache *c, struct sparse_slice *sl)
{
	if (evictable(sl)) {
		forget(c, sl);
	} else if (!sl->stale) {
		unhash(c, sl);
		sl->stale = true;
	}
}

/* Nothing is dirty. */
void cache_forget(struct sparse *s)
{
	struct cache *c = &s->cache;

	for (unsigned i = 0; i < c->made; i++) {
		ASSERT(!c->slots[i]->dirty && !c->slots[i]->frozen);
		retire(c, c->slots[i]);
	}
}

/* What was a table there is none any more: its changes matter to nobody, but a
 * round that has begun writes what it has frozen. */
void cache_forget_range(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	struct cache *c = &s->cache;

	for (uint64_t off = host; off < host + len; off += SPARSE_SLICE) {
		struct sparse_slice *sl = find(c, file, off);

		if (!sl)
			continue;
		redo_forget(s, sl);
		if (sl->dirty) {
			sl->dirty = false;
			list_del(&sl->dirty_link);
			if (!sl->frozen)
				c->n_dirty--;
		}
		retire(c, sl);
	}
}
