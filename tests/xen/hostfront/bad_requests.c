/* bad_requests.c - requests that no front end should send.  Each is answered as it
 * deserves, what it names of the model's sectors stays as it was, and the next good
 * request is served. */
#include "hostfront.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define MAX64 UINT64_MAX
#define SCRATCH 8192u		/* a sector that is not the model's */
/* A grant reference that grants nothing, ever: the first eight are the domain builder's,
 * who takes two.  (One of ours that has ended is taken at once by the kernel.) */
#define DEAD 5u

/* What a request may name. */
static struct {
	struct pages *good, *list, *rdonly, *others;
} g;

static void grants_begin(void)
{
	g.good = pages_new(SEGS, 0, true);
	g.list = pages_new(1, 0, true);
	g.rdonly = pages_new(1, 0, false);
	g.others = pages_new(1, 4711, true);
	memset(g.good->at, 0xee, SEGS * PAGE);
}

static void grants_end(void)
{
	pages_free(g.good);
	pages_free(g.list);
	pages_free(g.rdonly);
	pages_free(g.others);
}

static struct req rw(enum op op, uint64_t sector, unsigned nr)
{
	struct req r = { .op = op, .nr = (uint8_t)nr, .sector = sector };

	for (unsigned i = 0; i < SEGS; i++)
		r.seg[i] = (struct seg){ g.good->gref[i], 0, 7, 0 };
	return r;
}

static struct req discard(uint64_t sector, uint64_t nr, unsigned flag)
{
	return (struct req){ .op = DISCARD, .nr = (uint8_t)flag, .sector = sector,
			     .nr_sectors = nr };
}

/* Its list: as many good segments as it has room for. */
static struct req indirect(unsigned inner, uint64_t sector, unsigned nr)
{
	struct req r = { .op = INDIRECT, .inner = (uint8_t)inner, .sector = sector,
			 .ind_nr = (uint16_t)nr };
	struct seg *s = (struct seg *)g.list->at;

	for (unsigned i = 0; i < PAGE / sizeof(*s); i++)
		s[i] = (struct seg){ g.good->gref[i % SEGS], 0, 7, 0 };
	for (unsigned i = 0; i < IND_PAGES; i++)
		r.ind[i] = g.list->gref[0];
	return r;
}

static void want(struct front *f, int status, struct req r, const char *what)
{
	int got;

	doing("%s, %s (operation %u)", what, abi_name[f->s.abi], r.op);
	got = ask(f, 0, &r);
	if (got != status)
		die("status %d, not %d", got, status);
	doing("after %s", what);
	model_touch(f);
}

static struct req span(enum op op, unsigned first, unsigned last)
{
	struct req r = rw(op, 0, 3);

	r.seg[1].first = (uint8_t)first;
	r.seg[1].last = (uint8_t)last;
	return r;
}

/* One of its segments names gref. */
static struct req named(enum op op, uint64_t sector, unsigned nr, unsigned which,
			uint32_t gref)
{
	struct req r = rw(op, sector, nr);

	r.seg[which].gref = gref;
	return r;
}

static void shapes(struct front *f)
{
	static const enum op ops[] = { READ, WRITE, BARRIER, FLUSH };
	static const unsigned spans[][2] = {
		{ 0, 8 }, { 0, 255 }, { 5, 4 }, { 7, 0 }, { 8, 8 }, { 255, 255 },
		{ 128, 127 }, { 255, 0 },
	};
	static const uint8_t unknown[] = { 4, 7, 8, 127, 128, 254, 255 };

	for (unsigned i = 0; i < 4; i++) {
		want(f, ERROR, rw(ops[i], 0, 12), "12 segments");
		want(f, ERROR, rw(ops[i], 0, 32), "32 segments");
		want(f, ERROR, rw(ops[i], 0, 255), "255 segments");
	}
	want(f, ERROR, rw(READ, 0, 0), "no segment");
	want(f, ERROR, rw(WRITE, 0, 0), "no segment");
	want(f, OKAY, rw(FLUSH, MAX64, 0), "a flush of a sector");
	want(f, OKAY, rw(BARRIER, MAX64, 0), "a barrier of a sector");
	for (unsigned i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		want(f, ERROR, span(READ, spans[i][0], spans[i][1]), "a bad span");
		want(f, ERROR, span(WRITE, spans[i][0], spans[i][1]), "a bad span");
	}
	for (unsigned i = 0; i < sizeof(unknown); i++)
		want(f, UNSUPPORTED, rw(unknown[i], 0, 1), "no operation");
}

static void places(struct front *f)
{
	const uint64_t at[] = {
		f->sectors, f->sectors - 7, f->sectors + 1, MAX64, MAX64 - 7,
		MAX64 - 8, 1ull << 63, 1ull << 55, (1ull << 55) - 1, 1ull << 54,
		1ull << 32, 0x8000000000000007ull,
	};

	for (unsigned i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		want(f, ERROR, rw(READ, at[i], 1), "a sector behind the end");
		want(f, ERROR, rw(WRITE, at[i], 11), "a sector behind the end");
		if (f->max_indirect)
			want(f, ERROR, indirect(WRITE, at[i], 64),
			     "a sector behind the end, indirect");
		want(f, ERROR, discard(at[i], 8, 0), "a discard behind the end");
		want(f, ERROR, discard(8, at[i], 0), "a discard over the end");
	}
	want(f, ERROR, discard(0, 0, 0), "a discard of nothing");
	want(f, UNSUPPORTED, discard(0, 8, 1), "a secure discard");
	want(f, UNSUPPORTED, discard(0, 8, 0x80), "a discard with a strange flag");
	want(f, OKAY, discard(SCRATCH + 3, 17, 0), "a discard at odd sectors");
}

static void grants(struct front *f)
{
	const uint32_t bad[] = {
		DEAD, g.others->gref[0], 0x00ffffff, 0x7fffffff, 0x80000000u,
		0xffffffffu, 100000,
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		want(f, ERROR, named(READ, 0, 1, 0, bad[i]), "a bad grant");
		want(f, ERROR, named(WRITE, 0, 1, 0, bad[i]), "a bad grant");
		want(f, ERROR, named(READ, 0, 11, 10, bad[i]), "the last grant bad");
		want(f, ERROR, named(WRITE, 0, 11, 10, bad[i]), "the last grant bad");
	}
	want(f, ERROR, named(READ, 0, 1, 0, g.rdonly->gref[0]),
	     "a read into what may be read only");
	want(f, OKAY, named(WRITE, SCRATCH, 1, 0, g.rdonly->gref[0]),
	     "a write of what may be read only");
	for (unsigned i = 1; i < SEGS; i++)
		g.good->gref[i] = g.good->gref[0];
	want(f, OKAY, rw(WRITE, SCRATCH, 11), "one page eleven times");
	want(f, OKAY, rw(READ, SCRATCH, 11), "into one page eleven times");
}

/* A page that is granted no more when its second request comes: refused, unless the back
 * end has kept it, which Linux then does too. */
static void taken_back(struct front *f)
{
	struct pages *p = pages_new(1, 0, true);
	struct req r = named(WRITE, SCRATCH, 1, 0, p->gref[0]);
	int got;

	want(f, OKAY, r, "a page that is taken back later");
	pages_free(p);
	doing("a page that was taken back");
	got = ask(f, 0, &r);
	if (got != ERROR && !(got == OKAY && f->s.persistent))
		die("status %d", got);
	model_touch(f);
}

static void indirects(struct front *f)
{
	static const uint8_t inner[] = { 2, 3, 4, 5, 6, 7, 255 };
	struct seg *list = (struct seg *)g.list->at;
	unsigned max = f->max_indirect;
	struct req r;

	want(f, ERROR, indirect(WRITE, 0, 0), "indirect without segments");
	want(f, ERROR, indirect(WRITE, 0, max + 1), "too many indirect segments");
	want(f, ERROR, indirect(READ, 0, 4096), "too many indirect segments");
	want(f, ERROR, indirect(READ, 0, 65535), "too many indirect segments");
	for (unsigned i = 0; i < sizeof(inner); i++)
		want(f, ERROR, indirect(inner[i], 0, 8), "a bad inner operation");
	for (unsigned i = 0; i < 3; i++) {
		const uint32_t bad[] = { DEAD, g.others->gref[0], 0xffffffffu };

		r = indirect(WRITE, 0, 8);
		r.ind[0] = bad[i];
		want(f, ERROR, r, "a list that is not granted");
		r = indirect(WRITE, 0, max);
		list[max - 1].gref = bad[i];
		want(f, ERROR, r, "a bad grant at the list's end");
		r = indirect(READ, 0, 32);
		list[11].gref = bad[i];
		want(f, ERROR, r, "a bad grant in the list");
	}
	r = indirect(READ, 0, max);
	list[max - 1].last = 8;
	want(f, ERROR, r, "a bad span at the list's end");
	r = indirect(WRITE, 0, max);
	list[0].first = 200;
	want(f, ERROR, r, "a bad span in the list");
	r = indirect(WRITE, 0, 8);
	list[7].last = 255;
	want(f, ERROR, r, "a bad span in the list");
	/* The list is its own data: it is read before it is written over. */
	r = indirect(READ, SCRATCH, 1);
	list[0].gref = g.list->gref[0];
	want(f, OKAY, r, "a list that is read over");
}

/* Many at once, all of one id. */
static void same_id(struct front *f)
{
	struct queue *q = &f->q[0];
	struct req r = rw(READ, SCRATCH, 2);
	struct answer a;

	doing("one id for a ring of requests");
	r.id = 7;
	for (unsigned i = 0; i < q->slots; i++)
		queue_put(q, &r);
	queue_push(q, false);
	for (unsigned i = 0; i < q->slots; i++)
		if (!queue_get(q, &a, 30000) || a.id != 7 || a.status)
			die("answer %u: id %llx, status %d", i,
			    (unsigned long long)a.id, a.status);
	model_touch(f);
}

void bad_requests(struct front *f, enum abi abi, bool persistent)
{
	const struct setup s = { abi, 0, 1, persistent };

	front_connect(f, &s);
	model_write(f);
	grants_begin();
	shapes(f);
	places(f);
	if (f->max_indirect)
		indirects(f);
	same_id(f);
	grants(f);
	taken_back(f);
	doing("after all bad requests, %s", abi_name[abi]);
	model_check(f);
	front_leave(f);
	grants_end();
	model_control(f, &s);
}

void bad_readonly(struct front *f)
{
	const struct setup s = { NATIVE, 0, 1, true };
	struct req r;

	front_connect(f, &s);
	if (!f->readonly || f->discards)
		die("the disk is not offered as read-only");
	grants_begin();
	r = rw(READ, 0, 11);
	doing("a read-only disk");
	if (ask(f, 0, &r))
		die("a read has failed");
	for (unsigned i = 0; i < 4; i++) {
		struct req bad[] = { rw(WRITE, 0, 11), rw(BARRIER, 0, 1),
				     discard(0, 64, 0), indirect(WRITE, 0, 32) };

		if (ask(f, 0, &bad[i]) != ERROR)
			die("operation %u was not refused", bad[i].op);
	}
	front_leave(f);
	grants_end();
}

/* --- whatever comes --- */

static atomic_bool stop;

/* Slots and lists change while they are looked at. */
static void *flip(void *arg)
{
	const struct queue *q = arg;
	unsigned seed = 99;

	while (!stop) {
		unsigned i = (unsigned)rand_r(&seed);
		volatile uint8_t *slot = queue_slot(q, i >> 8 & (q->slots - 1));
		volatile uint8_t *list = g.list->at;

		slot[(i >> 16) % slot_size(q->abi)] ^= (uint8_t)(1u << (i & 7));
		list[i % PAGE] ^= (uint8_t)(1u << (i & 7));
	}
	return NULL;
}

/* None of a list's own page, nor of numbers near those of the console and xenstore: what
 * is read into them, or through them, would be this guest's own end, or a ring that says
 * what nobody has sent. */
#define NO_GREF 0x00ffffffu	/* no table is so large */

static uint32_t any_gref(void)
{
	switch (rnd(8)) {
	case 0:
		return NO_GREF;
	case 1:
		return g.others->gref[0];
	case 2:
		return g.rdonly->gref[0];
	case 3:
		return rnd32();
	default:
		return g.good->gref[rnd(SEGS)];
	}
}

static struct req any(const struct front *f)
{
	struct req r = { .op = (uint8_t)(rnd(16) ? rnd(8) : rnd(256)),
			 .nr = (uint8_t)(rnd(8) ? rnd(13) : rnd(256)),
			 .inner = (uint8_t)rnd(3), .id = (uint64_t)rnd(1u << 30) << 20,
			 .ind_nr = (uint16_t)(rnd(4) ? rnd(40) : rnd(65536)) };
	struct seg *list = (struct seg *)g.list->at;

	r.sector = rnd(8) ? rnd((unsigned)f->sectors + 64) :
			    MAX64 >> rnd(64);
	r.nr_sectors = rnd(8) ? rnd(256) : MAX64 >> rnd(64);
	for (unsigned i = 0; i < SEGS; i++) {
		struct seg s = { any_gref(), (uint8_t)rnd(9), 7, 0 };

		r.seg[i] = s;
		list[rnd(PAGE / sizeof(s))] = s;
	}
	for (unsigned i = 0; i < IND_PAGES; i++)
		r.ind[i] = rnd(4) ? g.list->gref[0] : any_gref();
	return r;
}

/* What is asked and has no answer yet. */
#define ASKED_MAX 1024u		/* slots of 16 pages, and more */
static uint64_t asked[ASKED_MAX];
static unsigned nr_asked;

static void answered(const struct answer *a)
{
	unsigned i = 0;

	while (i < nr_asked && asked[i] != a->id)
		i++;
	if (i == nr_asked)
		die("an answer to what was not asked: id %llx, operation %u, status %d",
		    (unsigned long long)a->id, a->op, a->status);
	asked[i] = asked[--nr_asked];
}

static void random_round(struct front *f, bool check)
{
	struct queue *q = &f->q[0];
	unsigned many = 1 + rnd(q->slots);
	struct answer a;

	for (unsigned i = 0; i < many; i++) {
		struct req r = any(f);

		asked[nr_asked++] = r.id;
		queue_put(q, &r);
	}
	queue_push(q, rnd(2));
	for (unsigned i = 0; i < many; i++) {
		if (!queue_get(q, &a, 30000))
			die("%u of %u answers", i, many);
		if (check)
			answered(&a);
	}
	nr_asked = 0;
}

/* Half of the time nothing changes under the back end's eyes, and then each request
 * is answered under its id.  A slow machine does a few rounds in each half, too. */
#define ROUNDS_MIN 8u
void bad_random(struct front *f, enum abi abi, unsigned seconds)
{
	const struct setup s = { abi, rnd(3), 1, rnd(2) };
	pthread_t t;

	front_connect(f, &s);
	grants_begin();
	memset(g.list->at, 0xff, PAGE);
	for (unsigned half = 0; half < 2; half++) {
		uint64_t end = now_ms() + seconds * 500;

		doing("random requests%s, %s", half ? " that change" : "",
		      abi_name[abi]);
		if (half && pthread_create(&t, NULL, flip, &f->q[0]))
			die("no thread");
		for (unsigned n = 0; n < ROUNDS_MIN || now_ms() < end; n++)
			random_round(f, !half);
	}
	stop = true;
	pthread_join(t, NULL);
	stop = false;
	front_leave(f);
	grants_end();
}
