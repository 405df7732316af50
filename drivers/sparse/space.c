/* space.c - free clusters of a file: found, claimed in runs, handed out.
 *
 * Claiming in runs writes one refcount slice for many clusters, keeps neighbours on
 * the disk neighbours in the file, and takes the claim off the way of a request:
 * the next run is claimed while the present one is used up.  After a crash, what
 * was claimed and not used is lost to the image, no more.
 *
 * Runs come from what has become free in this session (punched: it reads as
 * zeroes), from the format's search through its tables, a step for each run so that
 * nobody waits for all of it, and from the end of the file, which grows ahead, with
 * space allocated.
 *
 * I1  `known` has each cluster of the free list and each one that drop.c is making
 *     free: what the search finds besides that, and no table, is free.
 */
#include <errno.h>
#include <stdlib.h>

#include "sparse/sparse_priv.h"

#define RUN_MIN (1u << 20)	/* bytes of a run from the file's end */
#define RUN_MAX (16u << 20)
#define GROW_MIN (16u << 20)	/* what a file grows by */
#define GROW_MAX (1u << 30)
#define AHEAD_MAX (64u << 20)	/* of space that is allocated, and not yet handed out */
#define AHEAD_UNIT 4096u
#define AHEAD_CLUSTER (64u << 10)	/* larger ones may stay holes for the most part */
#define TRIES 64u

static void refill_run(struct task *t);

static uint64_t key_of(const struct sparse *s, uint64_t host)
{
	return host / s->cluster + 1;
}

void space_init(struct sparse_file *f)
{
	struct space *sp = &f->space;

	*sp = (struct space){ 0 };
	list_init(&sp->claimed);
	list_init(&sp->small);
	list_init(&sp->free);
	list_init(&sp->waiters);
	task_init(&sp->task, refill_run);
}

void space_free(struct sparse_file *f)
{
	struct list *e;

	while ((e = list_pop(&f->space.free)))
		free(container_of(e, struct free_run, link));
	while ((e = list_pop(&f->space.claimed)))
		free(container_of(e, struct free_run, link));
	while ((e = list_pop(&f->space.small)))
		free(container_of(e, struct free_run, link));
	blockset_free(&f->space.known);
}

/* Stores tell where the data is in files, not on devices. */
bool sparse_grows(const struct sparse *s, unsigned file)
{
	return s->files[file].node->caps & TD_CAP_EXTENTS;
}

static uint64_t run_len(const struct run *r)
{
	return r->end - r->host;
}

/* Nothing is lost but space if there is no memory for it. */
static void put_run(struct list *l, const struct run *r)
{
	struct free_run *n;

	if (!list_empty(l)) {
		n = container_of(l->prev, struct free_run, link);
		if (n->run.end == r->host && n->run.zero == r->zero) {
			n->run.end = r->end;
			return;
		}
	}
	n = malloc(sizeof(*n));
	if (!n)
		return;
	n->run = *r;
	list_add(l, &n->link);
}

static bool pop_run(struct list *l, struct run *r)
{
	struct list *e = list_pop(l);
	struct free_run *n;

	if (!e)
		return false;
	n = container_of(e, struct free_run, link);
	*r = n->run;
	free(n);
	return true;
}

void space_freed(struct sparse *s, unsigned file, const struct run *r)
{
	put_run(&s->files[file].space.free, r);
}

/* Refilling. */

static void refill_end(struct sparse_file *f, int err)
{
	struct space *sp = &f->space;

	sp->refilling = false;
	table_forget(f->s, (unsigned)(f - f->s->files));
	sp->err = err;
	tasks_tell(f->s, &sp->waiters, err);
}

static void got_run(struct sparse_file *f)
{
	struct space *sp = &f->space;

	if (sp->now.host == sp->now.end)
		sp->now = sp->want;
	else
		sp->next = sp->want;
	refill_end(f, 0);
}

static void grown(struct child *c, int err)
{
	struct sparse_file *f = c->owner;

	child_put(c);
	/* A pointer into the new part must not be there before its length is: who
	 * opens the file then would append where something is. */
	f->unsynced = f->s->dep = true;
	if (err)
		refill_end(f, err);
	else
		refill_run(&f->space.task);
}

/* The run lies in the file: 0; it has to grow: SPARSE_WAIT. */
static int grow(struct sparse_file *f)
{
	struct space *sp = &f->space;
	struct sparse *s = f->s;
	uint64_t size = f->node->size, to;
	struct child *c;

	if (sp->want.end <= size)
		return 0;
	if (!sparse_grows(s, (unsigned)(f - s->files))) {
		sp->want.end = cluster_down(s, size);
		return sp->want.end > sp->want.host ? 0 : -ENOSPC;
	}
	if (sp->want.end > INT64_MAX - GROW_MAX)
		return -EFBIG;
	c = child_get(s, &sp->task);
	if (!c)
		return SPARSE_WAIT;
	to = sp->want.end + min_u64(max_u64(size / 8, GROW_MIN), GROW_MAX);
	/* The store wants whole blocks of its own. */
	child_submit(c, f, TD_OP_RESIZE, 0, align_up(to, 1u << 20), grown, f);
	return SPARSE_WAIT;
}

static void allocated(struct child *c, int err)
{
	struct sparse_file *f = c->owner;

	if (err == -EOPNOTSUPP)
		f->space.no_ahead = true;
	child_put(c);
	refill_run(&f->space.task);	/* without it holes do as well */
}

/* The store allocates space in large pieces, ahead of who writes there: write by write
 * it would cost a file system much more.  What is left over goes at the close. */
static int allocate(struct sparse_file *f)
{
	struct space *sp = &f->space;
	uint64_t from = align_up(max_u64(sp->ahead, sp->want.host), AHEAD_UNIT), to;
	struct child *c;

	if (!sp->append || !sp->want.zero || sp->want.end <= sp->ahead ||
	    sp->no_ahead || f->s->cluster > AHEAD_CLUSTER)
		return 0;
	to = sp->want.end + min_u64(sp->handed / 8, AHEAD_MAX);
	to = align_down(min_u64(to, f->node->size), AHEAD_UNIT);
	if (from >= to)
		return 0;
	c = child_get(f->s, &sp->task);
	if (!c)
		return SPARSE_WAIT;
	sp->ahead = to;
	c->r->flags = TD_REQ_NO_HOLE | TD_REQ_FAST;
	child_submit(c, f, TD_OP_ZEROES, from, to - from, allocated, f);
	return SPARSE_WAIT;
}

static void at_end(struct sparse_file *f)
{
	struct space *sp = &f->space;
	struct sparse *s = f->s;
	uint64_t len = min_u64(max_u64(sp->handed / 8, RUN_MIN), RUN_MAX);

	sp->append = true;
	sp->want = (struct run){ .host = sp->end,
				 .end = sp->end + cluster_up(s, len),
				 .zero = sparse_grows(s, (unsigned)(f - s->files)) };
}

/* Of a run that the search has found, what is neither known nor a table. */
static void take_found(struct sparse_file *f, uint64_t host, uint64_t len)
{
	struct sparse *s = f->s;
	struct space *sp = &f->space;

	for (uint64_t at = host; at < host + len; at += s->cluster) {
		struct run r = { at, at + s->cluster, false };

		if (blockset_has(&sp->known, key_of(s, at)) ||
		    meta_hit(s, 0, at, s->cluster) || at >= sp->end ||
		    blockset_add(&sp->known, key_of(s, at)))
			continue;
		put_run(&sp->free, &r);
	}
}

/* 0 and a run to be claimed, SPARSE_WAIT, -errno. */
static int choose(struct sparse_file *f)
{
	struct space *sp = &f->space;
	struct sparse *s = f->s;
	uint64_t host, len = 0;
	bool more = true;
	int err;

	if (list_empty(&sp->free) && f == s->files && s->format->search &&
	    !sp->search_over && !s->punching) {
		slot_begin(s, &sp->task);
		err = slot_end(s, s->format->search(s, &host, &len, &more));
		if (err == SPARSE_WAIT)
			return err;
		sp->search_over = err || !more;
		if (!err && len)
			take_found(f, host, len);
	}
	sp->append = false;
	if (pop_run(&sp->free, &sp->want)) {
		uint64_t most = sp->want.host + RUN_MAX;

		if (sp->want.end > most) {
			struct run rest = { most, sp->want.end, sp->want.zero };

			put_run(&sp->free, &rest);
			sp->want.end = most;
		}
		for (uint64_t at = sp->want.host; at < sp->want.end; at += s->cluster)
			blockset_del(&sp->known, key_of(s, at));
		return 0;
	}
	if (!sp->appends)
		return -ENOSPC;
	at_end(f);
	return 0;
}

/* The claim stopped short of it. */
static void still_free(struct sparse_file *f, uint64_t from, uint64_t to, bool zero)
{
	struct run r = { from, to, zero };

	if (from == to)
		return;
	for (uint64_t at = from; at < to; at += f->s->cluster)
		if (blockset_add(&f->space.known, key_of(f->s, at)))
			return;
	put_run(&f->space.free, &r);
}

static int claim(struct sparse_file *f)
{
	struct space *sp = &f->space;
	struct sparse *s = f->s;
	uint64_t host = sp->want.host, len = run_len(&sp->want);
	int err;

	if (s->format->claim) {
		slot_begin(s, &sp->task);
		err = slot_end(s, s->format->claim(s, (unsigned)(f - s->files),
						   &host, &len));
		if (err)
			return err;
		ASSERT(host >= sp->want.host && host + len <= sp->want.end);
	}
	if (sp->append)
		sp->end = len ? host + len : sp->want.end;
	else if (len)
		still_free(f, host + len, sp->want.end, sp->want.zero);
	sp->want.host = host;
	sp->want.end = host + len;
	return 0;
}

/* choose -> grow -> allocate -> claim, each as often as it has to wait. */
static void refill_run(struct task *t)
{
	struct sparse_file *f = container_of(t, struct sparse_file, space.task);
	struct space *sp = &f->space;
	int err = 0;

	for (;;) {
		if (sp->want.host == sp->want.end)
			err = choose(f);
		/* Also what was found: an image may count behind its end. */
		if (!err)
			err = grow(f);
		if (!err)
			err = allocate(f);
		if (!err)
			err = claim(f);
		if (err == SPARSE_WAIT)
			return;
		if (!err && run_len(&sp->want)) {
			got_run(f);
			sp->want.host = sp->want.end = 0;
			return;
		}
		table_forget(f->s, (unsigned)(f - f->s->files));
		sp->want.host = sp->want.end = 0;
		if (err || ++sp->tries > TRIES) {
			refill_end(f, err ? err : -ENOSPC);
			return;
		}
	}
}

static void refill(struct sparse_file *f)
{
	struct space *sp = &f->space;

	if (sp->refilling)
		return;
	sp->refilling = true;
	sp->tries = 0;
	task_ready(f->s, &sp->task);
}

/* Handing out. */

int space_take(struct sparse *s, unsigned file, uint64_t want, struct task *t,
	       struct run *got)
{
	struct sparse_file *f = &s->files[file];
	struct space *sp = &f->space;
	int told = t->told;

	t->told = 0;
	if (f->rdonly)
		return -EROFS;
	if (sp->now.host == sp->now.end && !pop_run(&sp->claimed, &sp->now)) {
		sp->now = sp->next;
		sp->next.host = sp->next.end;
	}
	if (sp->now.host == sp->now.end) {
		if (told)
			return told;
		refill(f);
		task_wait(t, &sp->waiters);
		return SPARSE_WAIT;
	}
	*got = sp->now;
	got->end = got->host + min_u64(cluster_up(s, want), run_len(&sp->now));
	sp->now.host = got->end;
	sp->handed += run_len(got);
	s->allocated += run_len(got);
	if (sp->next.host == sp->next.end && run_len(&sp->now) < RUN_MIN / 2 &&
	    !sp->err)
		refill(f);
	return 0;
}

int space_take_whole(struct sparse *s, unsigned file, uint64_t want, struct task *t,
		     struct run *got)
{
	struct space *sp = &s->files[file].space;
	struct run small;
	int err;

	want = cluster_up(s, want);
	while (!(err = space_take(s, file, want, t, got)) && run_len(got) < want)
		put_run(&sp->small, got);
	while (err != SPARSE_WAIT && pop_run(&sp->small, &small))
		put_run(&sp->claimed, &small);
	return err;
}

void space_give(struct sparse *s, unsigned file, const struct run *r)
{
	put_run(&s->files[file].space.claimed, r);
}

int space_take_packed(struct sparse *s, unsigned file, uint32_t want, struct task *t,
		      uint64_t *host)
{
	struct space *sp = &s->files[file].space;
	uint64_t left = sp->pack_end - sp->pack_at;
	int err = 0;

	if (left < want && sp->pack_next.host == sp->pack_next.end) {
		err = space_take(s, file, s->cluster, t, &sp->pack_next);
		if (err)
			return err;
	}
	if (left && (left >= want || sp->pack_next.host == sp->pack_end)) {
		if (s->format->share) {
			slot_begin(s, t);
			err = slot_end(s, s->format->share(s, file, sp->pack_at,
							   min_u64(left, want)));
		}
		if (err == -ENOSPC) {	/* one cluster can have no more */
			sp->pack_at = sp->pack_end;
			return space_take_packed(s, file, want, t, host);
		}
		if (err)
			return err;
		*host = sp->pack_at;
	} else {
		*host = sp->pack_next.host;
	}
	sp->pack_at = *host + want;
	if (sp->pack_at > sp->pack_end || *host == sp->pack_next.host) {
		sp->pack_end = sp->pack_next.end;
		sp->pack_next.host = sp->pack_next.end;
	}
	return 0;
}

/* The end. */

bool space_leftover(struct sparse_file *f, struct run *r)
{
	struct space *sp = &f->space;
	struct run *v[] = { &sp->now, &sp->next, &sp->pack_next };

	for (size_t i = 0; i < ARRAY_SIZE(v); i++) {
		if (v[i]->host == v[i]->end)
			continue;
		*r = *v[i];
		v[i]->host = v[i]->end;
		return true;
	}
	return pop_run(&sp->claimed, r) || pop_run(&sp->small, r);
}

uint64_t space_trim(struct sparse *s, struct sparse_file *f)
{
	struct space *sp = &f->space;

	while (sp->end >= s->cluster &&
	       blockset_del(&sp->known, key_of(s, sp->end - s->cluster)))
		sp->end -= s->cluster;
	return sp->end;
}
