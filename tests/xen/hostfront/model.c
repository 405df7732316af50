/* model.c - verified I/O on the disk's first MODEL_SECTORS, whose contents are
 * known at all times.
 *
 * Requests that are under way at once have stretches of the disk of their own.
 * Of pages that are read into, the bytes beside the segments must stay.
 */
#include "hostfront.h"

#include <string.h>

#define AT_ONCE 32u			/* requests */
#define STRETCH (MODEL_SECTORS / AT_ONCE)	/* sectors of each */
#define EACH 16u			/* pages of each */
#define ANSWER_MS 30000u

static uint8_t disk[MODEL_SECTORS * SECTOR];
static struct pages *data;		/* AT_ONCE * EACH */
static struct pages *lists;		/* AT_ONCE: segments of indirect ones */
static struct pages *all;		/* MODEL_PAGES, and their list */

struct flight {
	bool write, busy;
	unsigned sector, nr;
	struct seg seg[EACH];
};
static struct flight flights[AT_ONCE];

static void begin(void)
{
	if (data)
		return;
	data = pages_new(AT_ONCE * EACH, 0, true);
	lists = pages_new(AT_ONCE, 0, true);
	all = pages_new(MODEL_PAGES + 1, 0, true);
}

static uint8_t *page(unsigned i, unsigned n)
{
	return data->at + (i * EACH + n) * PAGE;
}

static void scribble(uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = rnd32();

		memcpy(p + i, &v, 4);
	}
}

/* Whole pages of the model, by requests of n pages. */
static void sweep(struct front *f, bool write)
{
	unsigned most = f->max_indirect ? f->max_indirect : SEGS;
	struct seg *list = (struct seg *)(all->at + MODEL_PAGES * PAGE);

	for (unsigned at = 0, n; at < MODEL_PAGES; at += n) {
		struct req r = { .op = write ? WRITE : READ,
				 .sector = at * (PAGE / SECTOR) };

		n = MODEL_PAGES - at < most ? MODEL_PAGES - at : most;
		for (unsigned i = 0; i < n; i++) {
			struct seg s = { all->gref[at + i], 0, 7, 0 };

			if (f->max_indirect)
				list[i] = s;
			else
				r.seg[i] = s;
		}
		if (f->max_indirect) {
			r.inner = r.op;
			r.op = INDIRECT;
			r.ind_nr = (uint16_t)n;
			r.ind[0] = all->gref[MODEL_PAGES];
		}
		r.nr = (uint8_t)n;
		if (write)
			memcpy(all->at + at * PAGE, disk + at * PAGE, n * PAGE);
		else
			memset(all->at + at * PAGE, 0x5a, n * PAGE);
		if (ask(f, 0, &r))
			die("%s of page %u has failed", write ? "write" : "read", at);
		if (!write && memcmp(all->at + at * PAGE, disk + at * PAGE, n * PAGE))
			die("wrong data from page %u on", at);
	}
}

void model_write(struct front *f)
{
	begin();
	scribble(disk, sizeof(disk));
	sweep(f, true);
}

void model_check(struct front *f)
{
	begin();
	sweep(f, false);
}

static void launch(struct front *f, unsigned i)
{
	struct flight *g = &flights[i];
	bool indirect = f->max_indirect && rnd(4) == 0;
	unsigned nr = 1 + rnd(indirect ? EACH : SEGS < 5 ? SEGS : 5), sum = 0;
	struct req r = { .op = rnd(2) ? WRITE : READ, .nr = (uint8_t)nr, .id = i };

	g->write = r.op == WRITE;
	for (g->nr = 0; g->nr < nr; g->nr++) {
		unsigned first = rnd(8), last = first + rnd(8 - first);
		struct seg s = { data->gref[i * EACH + g->nr], (uint8_t)first,
				 (uint8_t)last, 0 };

		if (sum + last - first + 1 > STRETCH)
			break;
		sum += last - first + 1;
		g->seg[g->nr] = s;
		if (!indirect)
			r.seg[g->nr] = s;
		scribble(page(i, g->nr), PAGE);
	}
	g->sector = i * STRETCH + rnd(STRETCH - sum + 1);
	r.sector = g->sector;
	r.nr = (uint8_t)g->nr;
	if (!g->write)
		for (unsigned n = 0; n < g->nr; n++)
			memset(page(i, n), 0x5a, PAGE);
	if (indirect) {
		memcpy(lists->at + i * PAGE, g->seg, sizeof(g->seg));
		r.inner = r.op;
		r.op = INDIRECT;
		r.ind_nr = (uint16_t)g->nr;
		memset(r.ind, -1, sizeof(r.ind));
		r.ind[0] = lists->gref[i];
	}
	g->busy = true;
	queue_put(&f->q[i % f->s.queues], &r);
}

static void land(struct front *f, unsigned queue)
{
	static uint8_t canary[PAGE];
	struct answer a;
	struct flight *g;
	uint8_t *d;

	memset(canary, 0x5a, sizeof(canary));
	if (!queue_get(&f->q[queue], &a, ANSWER_MS))
		die("no answer");
	if (a.id >= AT_ONCE || !flights[a.id].busy || a.id % f->s.queues != queue)
		die("an answer to %llx, which was not asked", (unsigned long long)a.id);
	g = &flights[a.id];
	g->busy = false;
	if (a.op != (g->write ? WRITE : READ) || a.status)
		die("operation %u: status %d", a.op, a.status);
	d = disk + g->sector * SECTOR;
	for (unsigned n = 0; n < g->nr; n++) {
		uint8_t *p = page((unsigned)a.id, n);
		size_t from = g->seg[n].first * SECTOR;
		size_t end = (g->seg[n].last + 1u) * SECTOR;

		if (g->write)
			memcpy(d, p + from, end - from);
		else if (memcmp(d, p + from, end - from))
			die("wrong data at sector %u", g->sector);
		else if (memcmp(p, canary, from) || memcmp(p + end, canary, PAGE - end))
			die("bytes beside a segment have changed");
		d += end - from;
	}
}

static void round_of(struct front *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		launch(f, i);
	for (unsigned q = 0; q < f->s.queues; q++)
		queue_push(&f->q[q], false);
	for (unsigned i = 0; i < n; i++)
		land(f, i % f->s.queues);
}

void model_run(struct front *f, unsigned n)
{
	begin();
	for (unsigned done = 0; done < n * f->s.queues; done += AT_ONCE)
		round_of(f, AT_ONCE);
}

/* A page of the disk through a page of ours, there or back. */
static void one_page(struct front *f, struct pages *p, unsigned i)
{
	unsigned sector = i % MODEL_PAGES * (PAGE / SECTOR);
	uint8_t *at = p->at + i * PAGE, *d = disk + sector * SECTOR;
	struct req r = { .op = rnd(2) ? WRITE : READ, .nr = 1, .sector = sector,
			 .seg = { { p->gref[i], 0, 7, 0 } } };

	if (r.op == WRITE) {
		scribble(d, PAGE);
		memcpy(at, d, PAGE);
	} else {
		memset(at, 0x5a, PAGE);
	}
	if (ask(f, 0, &r))
		die("operation %u of page %u has failed", r.op, i);
	if (memcmp(at, d, PAGE))
		die("wrong data in page %u", i);
}

/* All of the disk, into MODEL_PAGES pages of p: as often as they go into p, at once. */
static void burst(struct front *f, struct pages *p)
{
	unsigned n = p->n / MODEL_PAGES;
	struct answer a;

	memset(p->at, 0x5a, (size_t)p->n * PAGE);
	for (unsigned k = 0; k < n; k++) {
		struct seg *list = (struct seg *)(lists->at + k * PAGE);
		struct req r = { .op = INDIRECT, .inner = READ, .id = k,
				 .ind_nr = MODEL_PAGES, .ind = { lists->gref[k] } };

		for (unsigned i = 0; i < MODEL_PAGES; i++)
			list[i] = (struct seg){ p->gref[k * MODEL_PAGES + i], 0, 7, 0 };
		queue_put(&f->q[0], &r);
	}
	queue_push(&f->q[0], false);
	for (unsigned k = 0; k < n; k++) {
		if (!queue_get(&f->q[0], &a, ANSWER_MS))
			die("no answer");
		if (a.id >= n || a.op != READ || a.status)
			die("answer %llx: operation %u, status %d",
			    (unsigned long long)a.id, a.op, a.status);
	}
	for (unsigned k = 0; k < n; k++)
		if (memcmp(p->at + k * sizeof(disk), disk, sizeof(disk)))
			die("wrong data in pages %u on", k * MODEL_PAGES);
}

void model_crowd(struct front *f, unsigned n)
{
	struct pages *p = pages_new(n, 0, true);

	for (unsigned i = 0; i < n; i++)
		one_page(f, p, i);
	sleep_ms(300);
	for (unsigned i = n; i--; )
		one_page(f, p, i);
	for (unsigned i = 0; i < n / 4; i++)
		one_page(f, p, rnd(n));
	burst(f, p);
	pages_free(p);
}

void model_touch(struct front *f)
{
	round_of(f, 4);
}

void model_control(struct front *f, const struct setup *s)
{
	front_connect(f, s);
	model_write(f);
	model_run(f, f->q[0].slots + AT_ONCE);	/* all of a ring and its beginning */
	model_check(f);
	front_leave(f);
}
