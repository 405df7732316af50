/* xen_pages.c - see xen_pages.h. */
#include "ring/xen_pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "ring/xen_host.h"

#define GRANTS_PER_QUEUE 1056u	/* 32 slots of 32 segments and their list: what
				 * Linux's back end keeps, and front ends expect */
#define OURS_MAX 4096u		/* pages: 16 MiB a guest's device */
#define IDLE_NS 100000000ull	/* unused for so long, a grant may be let go */
#define BATCH 64u		/* evicted in one go */
#define SHRINK 256u		/* unmapped in one go at the end */

/* A mapped grant. */
struct grant {
	uint32_t gref;
	uint16_t next;		/* of its chain; index + 1, 0: the last */
	uint16_t users;
	uint64_t idle_since;
	void *page;
	struct list link;	/* idle, or free */
};

/* Where the data of one segment is: a grant, or a page of ours. */
struct piece {
	uint32_t gref;
	uint16_t at;
	uint8_t first, last;
};
#define PIECE_GRANT 0x8000u	/* of `at` */

struct hold {
	struct hold *next;	/* free */
	uint16_t nr;
	bool read;
	struct piece piece[];
};

struct xen_pages {
	unsigned domid, segs;
	struct xen_pages_counts counts;

	/* Ours, a bit for each that is free. */
	char *ours;
	unsigned nr_ours, nr_free;
	uint64_t free[OURS_MAX / 64];

	/* The guest's. */
	struct grant *grants;
	unsigned limit, hash_mask;
	uint16_t *hash;
	struct list idle, unused;

	char *holds;
	size_t hold_size;
	struct hold *free_holds;
	unsigned nr_holds, fresh_holds;

	xengnttab_grant_copy_segment_t copy[TAPRING_MAX_INDIRECT];
};

_Static_assert(GRANTS_PER_QUEUE * TAPRING_MAX_QUEUES < PIECE_GRANT, "at");
_Static_assert(OURS_MAX <= PIECE_GRANT, "at");

/* Mapped grants. */

static uint16_t *chain_of(struct xen_pages *p, uint32_t gref)
{
	return &p->hash[(gref * 2654435769u >> 16) & p->hash_mask];
}

static struct grant *grant_find(struct xen_pages *p, uint32_t gref)
{
	for (unsigned i = *chain_of(p, gref); i; i = p->grants[i - 1].next)
		if (p->grants[i - 1].gref == gref)
			return &p->grants[i - 1];
	return NULL;
}

static void grant_unmap(struct xen_pages *p, struct grant *g)
{
	unsigned me = (unsigned)(g - p->grants) + 1;
	uint16_t *at = chain_of(p, g->gref);

	ASSERT(!g->users);						/* G1 */
	while (*at != me)
		at = &p->grants[*at - 1].next;
	*at = g->next;
	xengnttab_unmap(xen_host.gnt, g->page, 1);
	list_del(&g->link);
	list_add(&p->unused, &g->link);
	p->counts.mapped--;
}

/* Those that have not been used for a while: a guest that goes round more pages
 * than the limit is not helped by mapping each of them anew. */
static void evict(struct xen_pages *p, uint64_t now)
{
	for (unsigned n = 0; n < BATCH && !list_empty(&p->idle); n++) {
		struct grant *g = list_first(&p->idle, struct grant, link);

		if (now - g->idle_since < IDLE_NS)
			return;
		grant_unmap(p, g);
		p->counts.evicted++;
	}
}

/* NULL: it has to be copied. */
static struct grant *grant_get(struct xen_pages *p, uint32_t gref, uint64_t now)
{
	struct grant *g = p->limit ? grant_find(p, gref) : NULL;
	uint16_t *chain;
	void *page;

	if (g || !p->limit)
		return g;
	if (list_empty(&p->unused))
		evict(p, now);
	if (list_empty(&p->unused))
		return NULL;
	page = xengnttab_map_grant_ref(xen_host.gnt, p->domid, gref,
				       PROT_READ | PROT_WRITE);
	if (!page) {
		p->counts.failed++;
		return NULL;
	}
	chain = chain_of(p, gref);
	g = container_of(list_pop(&p->unused), struct grant, link);
	*g = (struct grant){ .gref = gref, .next = *chain, .idle_since = now,
			     .page = page };
	*chain = (uint16_t)(g - p->grants + 1);
	list_add(&p->idle, &g->link);
	p->counts.mapped++;
	return g;
}

static void grant_use(struct grant *g)
{
	if (!g->users++)
		list_del(&g->link);
}

static void grant_put(struct xen_pages *p, struct grant *g, uint64_t now)
{
	if (--g->users)
		return;
	g->idle_since = now;
	list_add(&p->idle, &g->link);
}

/* Pages of ours. */

/* The lowest that is free, from *hint on: what follows it is the next one's, so
 * that a request is in a row if it can be, and few are ever touched. */
static unsigned page_get(struct xen_pages *p, unsigned *hint)
{
	unsigned w = *hint / 64;
	uint64_t bits = p->free[w] & (~0ull << *hint % 64);
	unsigned at;

	for (; !bits; bits = p->free[w])
		w = (w + 1) % (p->nr_ours / 64);
	at = w * 64 + (unsigned)__builtin_ctzll(bits);
	p->free[w] &= ~(1ull << at % 64);
	p->nr_free--;
	*hint = (at + 1) % p->nr_ours;
	return at;
}

static void page_put(struct xen_pages *p, unsigned at)
{
	p->free[at / 64] |= 1ull << at % 64;
	p->nr_free++;
}

static void *page_at(const struct xen_pages *p, unsigned at)
{
	return p->ours + (size_t)at * BLKIF_PAGE;
}

/* Copying. */

static void copy_add(struct xen_pages *p, unsigned n, bool to_guest,
		     uint32_t gref, unsigned offset, void *ours, size_t len)
{
	xengnttab_grant_copy_segment_t *c = &p->copy[n];

	memset(c, 0, sizeof(*c));
	if (to_guest) {
		c->source.virt = ours;
		c->dest.foreign.ref = gref;
		c->dest.foreign.offset = (uint16_t)offset;
		c->dest.foreign.domid = (uint16_t)p->domid;
		c->flags = GNTCOPY_dest_gref;
	} else {
		c->dest.virt = ours;
		c->source.foreign.ref = gref;
		c->source.foreign.offset = (uint16_t)offset;
		c->source.foreign.domid = (uint16_t)p->domid;
		c->flags = GNTCOPY_source_gref;
	}
	c->len = (uint16_t)len;
}

/* All n; the status of each is in its place. */
static void copy_do(struct xen_pages *p, unsigned n)
{
	bool failed = xengnttab_grant_copy(xen_host.gnt, n, p->copy);

	p->counts.copied += n;
	for (unsigned i = 0; i < n; i++) {
		if (failed)
			p->copy[i].status = GNTST_general_error;
		p->counts.failed += p->copy[i].status != GNTST_okay;
	}
}

/* What of a hold is in pages of ours. */
static unsigned copy_add_held(struct xen_pages *p, unsigned n, const struct hold *h)
{
	for (unsigned i = 0; i < h->nr; i++) {
		const struct piece *e = &h->piece[i];
		unsigned offset = e->first * BLKIF_SECTOR;

		if (!(e->at & PIECE_GRANT))
			copy_add(p, n++, h->read, e->gref, offset,
				 (char *)page_at(p, e->at) + offset,
				 (e->last - e->first + 1u) * BLKIF_SECTOR);
	}
	return n;
}

/* Did the copies from *n on that are h's go well? */
static int copy_verdict(const struct xen_pages *p, unsigned *n, const struct hold *h)
{
	int err = 0;

	for (unsigned i = 0; i < h->nr; i++)
		if (!(h->piece[i].at & PIECE_GRANT) &&
		    p->copy[(*n)++].status != GNTST_okay)
			err = -EFAULT;
	return err;
}

/* Many holds in one call: those without an error, of one direction. */
static void copy_held(struct xen_pages *p, void **hold, int *err, unsigned nr,
		      bool to_guest)
{
	const struct hold *h;

	for (unsigned i = 0; i < nr; ) {
		unsigned first = i, n = 0, at = 0;

		for (; i < nr; i++) {
			h = hold[i];
			if (err[i] || h->read != to_guest)
				continue;
			if (n + h->nr > ARRAY_SIZE(p->copy))
				break;
			n = copy_add_held(p, n, h);
		}
		if (n)
			copy_do(p, n);
		for (; first < i; first++) {
			h = hold[first];
			if (!err[first] && h->read == to_guest)
				err[first] = copy_verdict(p, &at, h);
		}
	}
}

/* Requests. */

static struct hold *hold_new(struct xen_pages *p)
{
	struct hold *h = p->free_holds;

	if (!h) {
		ASSERT(p->fresh_holds < p->nr_holds);
		return (void *)(p->holds + p->fresh_holds++ * p->hold_size);
	}
	p->free_holds = h->next;
	return h;
}

static void hold_end(struct xen_pages *p, struct hold *h, uint64_t now)
{
	for (unsigned i = 0; i < h->nr; i++) {
		unsigned at = h->piece[i].at;

		if (at & PIECE_GRANT)
			grant_put(p, &p->grants[at & ~PIECE_GRANT], now);
		else
			page_put(p, at);
	}
	h->next = p->free_holds;
	p->free_holds = h;
}

void *xen_pages_hold(struct xen_pages *p, const struct blkif_req *b, uint64_t now,
		     void **page)
{
	struct hold *h = hold_new(p);
	unsigned hint = 0;

	ASSERT(b->nr_segs <= p->segs);
	h->nr = (uint16_t)b->nr_segs;
	h->read = b->td_op == TD_OP_READ;
	for (unsigned i = 0; i < b->nr_segs; i++) {
		struct grant *g = grant_get(p, b->gref[i], now);
		struct piece *e = &h->piece[i];

		if (g) {
			grant_use(g);
			e->at = (uint16_t)((g - p->grants) | PIECE_GRANT);
			page[i] = g->page;
		} else {
			e->at = (uint16_t)page_get(p, &hint);
			page[i] = page_at(p, e->at);
		}
		e->gref = b->gref[i];
		e->first = b->span[i].first;
		e->last = b->span[i].last;
	}
	return h;
}

void xen_pages_load(struct xen_pages *p, void **hold, int *err, unsigned n)
{
	copy_held(p, hold, err, n, false);
}

void xen_pages_release(struct xen_pages *p, void **hold, int *err, unsigned n,
		       uint64_t now)
{
	copy_held(p, hold, err, n, true);
	for (unsigned i = 0; i < n; i++)
		hold_end(p, hold[i], now);
}

int xen_pages_fetch(struct xen_pages *p, const uint32_t *gref, void *to,
		    size_t len, uint64_t now)
{
	unsigned n = 0;

	for (size_t at = 0; at < len; at += BLKIF_PAGE, gref++) {
		size_t part = min_u64(len - at, BLKIF_PAGE);
		struct grant *g = grant_get(p, *gref, now);

		if (!g) {
			copy_add(p, n++, false, *gref, 0, (char *)to + at, part);
			continue;
		}
		grant_use(g);
		memcpy((char *)to + at, g->page, part);
		grant_put(p, g, now);
	}
	if (n)
		copy_do(p, n);
	while (n)
		if (p->copy[--n].status != GNTST_okay)
			return -EFAULT;
	return 0;
}

bool xen_pages_full(const struct xen_pages *p)
{
	return p->nr_free < p->segs;
}

const struct xen_pages_counts *xen_pages_counts(const struct xen_pages *p)
{
	return &p->counts;
}

/* The beginning and the end. */

static int grants_new(struct xen_pages *p, unsigned limit)
{
	unsigned hash = 64;

	while (hash < limit)
		hash *= 2;
	p->grants = calloc(limit, sizeof(*p->grants));
	p->hash = calloc(hash, sizeof(*p->hash));
	if (!p->grants || !p->hash)
		return -ENOMEM;
	for (unsigned i = 0; i < limit; i++)
		list_add(&p->unused, &p->grants[i].link);
	p->limit = limit;
	p->hash_mask = hash - 1;
	return 0;
}

static int ours_new(struct xen_pages *p, unsigned want)
{
	void *mem;

	if (want > OURS_MAX)
		want = OURS_MAX;
	p->nr_ours = p->nr_free = (want + 63) / 64 * 64;
	mem = mmap(NULL, (size_t)p->nr_ours * BLKIF_PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED)
		return -ENOMEM;
	p->ours = mem;
	for (unsigned i = 0; i < p->nr_ours / 64; i++)
		p->free[i] = ~0ull;
	return 0;
}

struct xen_pages *xen_pages_new(unsigned domid, bool persistent, unsigned queues,
				unsigned slots, unsigned segs)
{
	struct xen_pages *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->domid = domid;
	p->segs = segs;
	list_init(&p->idle);
	list_init(&p->unused);
	p->nr_holds = slots;
	p->hold_size = (sizeof(struct hold) + segs * sizeof(struct piece) + 7) & ~7ul;
	p->holds = calloc(slots, p->hold_size);
	if (!p->holds || ours_new(p, slots * segs) ||
	    (persistent && grants_new(p, queues * GRANTS_PER_QUEUE))) {
		xen_pages_free(p);
		return NULL;
	}
	return p;
}

bool xen_pages_shrink(struct xen_pages *p)
{
	for (unsigned n = 0; n < SHRINK && !list_empty(&p->idle); n++)
		grant_unmap(p, list_first(&p->idle, struct grant, link));
	return p->counts.mapped;
}

void xen_pages_free(struct xen_pages *p)
{
	while (xen_pages_shrink(p))
		;
	if (p->ours)
		munmap(p->ours, (size_t)p->nr_ours * BLKIF_PAGE);
	free(p->grants);
	free(p->hash);
	free(p->holds);
	free(p);
}
