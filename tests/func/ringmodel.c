/* ringmodel.c - random requests through a ring, against a model in memory.
 *
 *	ringmodel SOCKET SEED OPS DEPTH ABI QUEUES ORDER [DUMP|-]
 *
 * Reads, writes, barriers, flushes, discards and requests that leave the disk
 * are in flight together, and overlap: on a small disk most of them do.  Every
 * sector that is read must be one that could have been there at that time.  At
 * the end all is read once more and written to DUMP, for the script to compare
 * with the file.
 *
 * The model: a sector has candidates, one for each write that may be what it
 * holds.  Time is a counter that moves with every issue and every answer.
 * M1  A candidate is superseded when a write that was issued after the
 *     candidate's answer has been answered itself.
 * M2  A read may see a candidate unless it was superseded before the read was
 *     issued.
 * M3  With "-" for DUMP nobody knows what the disk holds at first, and nothing is
 *     compared at the end; else it holds zeroes.
 * M4  A discard adds zeroes as a candidate and supersedes nothing: it is a hint.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tapring.h"

#define SECTOR 512u
#define WORDS (SECTOR / sizeof(uint64_t))
#define MAX_DEPTH 256u
#define SLOT_PAGES 40u		/* of a request's buffer */
#define MAX_CAND 512u
#define NEVER UINT64_MAX
#define ANY UINT64_MAX		/* the tag of what nobody knows: M3 */

enum op { OP_READ, OP_WRITE, OP_BARRIER, OP_FLUSH, OP_DISCARD };
static const char *const op_names[] = {
	"read", "write", "barrier", "flush", "discard",
};

struct cand {
	uint64_t tag;		/* of the write; 0: zeroes */
	uint64_t answered;	/* when; NEVER while in flight */
	uint64_t superseded;	/* when; NEVER while it may be there */
	uint64_t id;		/* of the request */
};

struct sector {
	struct cand *c;
	unsigned n, room;
};

struct slot {
	bool busy, outside;
	enum op op;
	uint64_t id, issued, first;	/* sectors */
	unsigned count;
	char *mem, *buf;
};

static struct sector *disk;
static struct slot slots[MAX_DEPTH];
static uint64_t nsect, now, rng, seed, nops;
static unsigned depth, queues;
static struct tapring *ring;
static struct tapring_info info;

_Noreturn static void die(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "ringmodel: seed %llu: ", (unsigned long long)seed);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

static uint64_t rnd(uint64_t n)		/* xorshift64*; 0 .. n - 1 */
{
	rng ^= rng >> 12;
	rng ^= rng << 25;
	rng ^= rng >> 27;
	return ((rng * 2685821657736338717ull) >> 11) % n;
}

static uint64_t word_of(uint64_t tag, uint64_t sect)
{
	return tag ? tag << 24 | sect : 0;
}

static uint64_t oldest_read(void)
{
	uint64_t t = now;

	for (unsigned i = 0; i < depth; i++)
		if (slots[i].busy && slots[i].op == OP_READ && slots[i].issued < t)
			t = slots[i].issued;
	return t;
}

static void cand_add(struct sector *s, uint64_t tag, uint64_t id)
{
	if (s->n == s->room) {
		uint64_t t = oldest_read();
		unsigned keep = 0;

		for (unsigned i = 0; i < s->n; i++)	/* nobody may see these */
			if (s->c[i].superseded >= t)
				s->c[keep++] = s->c[i];
		s->n = keep;
	}
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 4;
		if (s->room > MAX_CAND)
			die("the model has too many candidates");
		s->c = realloc(s->c, s->room * sizeof(*s->c));
		if (!s->c)
			die("no memory");
	}
	s->c[s->n++] = (struct cand){
		.tag = tag, .id = id, .answered = NEVER, .superseded = NEVER,
	};
}

static void model_issue(const struct slot *t)
{
	for (unsigned i = 0; i < t->count; i++)
		cand_add(&disk[t->first + i], t->op == OP_DISCARD ? 0 : t->id,
			 t->id);
}

static void model_answer(const struct slot *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		struct sector *s = &disk[t->first + i];

		for (unsigned j = 0; j < s->n; j++) {
			struct cand *c = &s->c[j];

			if (c->id == t->id)
				c->answered = now;
			else if (t->op != OP_DISCARD && c->superseded == NEVER &&
				 c->answered < t->issued)	/* M1 */
				c->superseded = now;
		}
	}
}

static void check_read(const struct slot *t)
{
	for (unsigned i = 0; i < t->count; i++) {
		uint64_t w[WORDS], sect = t->first + i;
		const struct sector *s = &disk[sect];
		bool ok = false;

		memcpy(w, t->buf + (size_t)i * SECTOR, SECTOR);
		for (unsigned k = 1; k < WORDS; k++)
			if (w[k] != w[0] && s->c[0].tag != ANY)
				die("request %llu: sector %llu is torn at word %u: %#llx, %#llx",
				    (unsigned long long)t->id,
				    (unsigned long long)sect, k,
				    (unsigned long long)w[0],
				    (unsigned long long)w[k]);
		for (unsigned j = 0; j < s->n && !ok; j++)	/* M2 */
			ok = (s->c[j].tag == ANY ||
			      w[0] == word_of(s->c[j].tag, sect)) &&
			     s->c[j].superseded >= t->issued;
		if (!ok)
			die("request %llu: sector %llu reads %#llx, of write %llu and sector %llu; %u candidates, the last of write %llu",
			    (unsigned long long)t->id, (unsigned long long)sect,
			    (unsigned long long)w[0],
			    (unsigned long long)(w[0] >> 24),
			    (unsigned long long)(w[0] & 0xffffff), s->n,
			    (unsigned long long)s->c[s->n - 1].tag);
	}
}

static enum op pick_op(void)
{
	uint64_t p = rnd(100);

	if (p < 45)
		return OP_READ;
	if (p < 88)
		return OP_WRITE;
	if (p < 91)
		return info.features & TAPRING_F_BARRIER ? OP_BARRIER : OP_WRITE;
	if (p < 95)
		return OP_FLUSH;
	return info.features & TAPRING_F_DISCARD ? OP_DISCARD : OP_READ;
}

/* Fill a slot and queue it on q; false if the ring is full. */
static bool issue(struct slot *t, struct tapring_queue *q)
{
	unsigned max, lead, n = (unsigned)(t - slots);
	int err;

	t->op = pick_op();
	t->id = ++nops;
	t->issued = ++now;
	t->outside = t->op != OP_FLUSH && rnd(100) == 0;
	lead = (unsigned)rnd(8);	/* sectors before it in its first page */
	max = t->op == OP_BARRIER ? 11 : info.max_segments;
	if (max > SLOT_PAGES)
		max = SLOT_PAGES;
	max = max * 8 - lead;
	t->count = 1 + (unsigned)rnd(rnd(4) ? 16 : max);
	if (t->count > max)
		t->count = max;
	t->first = rnd(nsect - t->count);
	if (t->outside)
		t->first += nsect - t->count + 1;
	if (t->op == OP_FLUSH)
		t->count = 0;
	t->buf = t->mem + lead * SECTOR;
	if (t->op == OP_WRITE || t->op == OP_BARRIER)
		for (unsigned i = 0; i < t->count; i++)
			for (unsigned k = 0; k < WORDS; k++) {
				uint64_t w = word_of(t->id, t->first + i);

				memcpy(t->buf + i * SECTOR + k * 8, &w, 8);
			}
	else if (t->op == OP_READ)
		memset(t->buf, 0xee, (size_t)t->count * SECTOR);

	switch (t->op) {
	case OP_READ:
		err = tapring_read(q, t->buf, (size_t)t->count * SECTOR,
				   t->first * SECTOR, n);
		break;
	case OP_WRITE:
		err = tapring_write(q, t->buf, (size_t)t->count * SECTOR,
				    t->first * SECTOR, n);
		break;
	case OP_BARRIER:
		err = tapring_barrier(q, t->buf, (size_t)t->count * SECTOR,
				      t->first * SECTOR, n);
		break;
	case OP_FLUSH:
		err = tapring_flush(q, n);
		break;
	default:
		err = tapring_discard(q, (uint64_t)t->count * SECTOR,
				      t->first * SECTOR, n);
	}
	if (err == -EAGAIN) {
		nops--;
		return false;
	}
	if (err)
		die("request %llu: cannot queue a %s: %s",
		    (unsigned long long)t->id, op_names[t->op], strerror(-err));
	t->busy = true;
	if (t->op != OP_READ && t->op != OP_FLUSH && !t->outside)
		model_issue(t);
	return true;
}

static void answered(const struct tapring_answer *a)
{
	struct slot *t;

	if (a->cookie >= depth || !slots[a->cookie].busy)
		die("an answer with the unknown cookie %llu",
		    (unsigned long long)a->cookie);
	t = &slots[a->cookie];
	now++;
	t->busy = false;
	if (t->outside) {
		if (!a->result)
			die("a %s outside the disk succeeded", op_names[t->op]);
		return;
	}
	if (a->result)
		die("request %llu: %s of %u sectors at %llu: %s",
		    (unsigned long long)t->id, op_names[t->op], t->count,
		    (unsigned long long)t->first, strerror(-a->result));
	if (t->op == OP_READ)
		check_read(t);
	else if (t->op != OP_FLUSH)
		model_answer(t);
}

/* Reap what is there; wait for one if nothing else can go on. */
static unsigned reap(bool wait)
{
	struct tapring_answer a[32];
	unsigned got = 0;

	for (unsigned k = 0; k < queues; k++) {
		struct tapring_queue *q = tapring_get_queue(ring, k);
		int n;

		if (wait && !got && tapring_inflight(q)) {
			n = tapring_wait(q, 1, 10000);
			if (n < 1)
				die("no answer for 10 s (%d)", n);
		}
		while ((n = tapring_reap(q, a, 32)) > 0) {
			for (int i = 0; i < n; i++)
				answered(&a[i]);
			got += (unsigned)n;
		}
		if (n < 0)
			die("reap: %s", strerror(-n));
	}
	return got;
}

static void run(uint64_t ops)
{
	while (nops < ops) {
		unsigned batch = 1 + (unsigned)rnd(depth);
		bool full = false;

		for (unsigned i = 0; i < batch && !full; i++) {
			unsigned n = (unsigned)rnd(depth);

			if (!slots[n].busy)
				full = !issue(&slots[n],
					      tapring_get_queue(ring, (unsigned)rnd(queues)));
		}
		for (unsigned k = 0; k < queues; k++)
			if (tapring_submit(tapring_get_queue(ring, k)))
				die("submit");
		reap(full || rnd(3) == 0);
	}
	while (reap(true))
		;
}

static void read_all(const char *dump)
{
	struct slot t = { .op = OP_READ, .issued = ++now, .count = 1 };
	FILE *f = fopen(dump, "w");
	char sect[SECTOR];
	int err;

	if (!f)
		die("%s: %s", dump, strerror(errno));
	t.buf = sect;
	for (t.first = 0; t.first < nsect; t.first++) {
		err = tapring_pread(tapring_get_queue(ring, 0), sect, SECTOR,
				    t.first * SECTOR);
		if (err)
			die("pread: %s", strerror(-err));
		check_read(&t);
		fwrite(sect, SECTOR, 1, f);
	}
	if (fclose(f))
		die("%s: %s", dump, strerror(errno));
}

static unsigned number(const char *s)
{
	return (unsigned)strtoul(s, NULL, 0);
}

int main(int argc, char **argv)
{
	struct tapring_opts o = { 0 };
	bool dirty;
	int err;

	if (argc < 8)
		die("usage: SOCKET SEED OPS DEPTH ABI QUEUES ORDER [DUMP|-]");
	dirty = argc > 8 && !strcmp(argv[8], "-");
	seed = strtoull(argv[2], NULL, 0);
	rng = seed * 2 + 1;
	depth = number(argv[4]) < MAX_DEPTH ? number(argv[4]) : MAX_DEPTH;
	o.abi = number(argv[5]);
	o.queues = number(argv[6]);
	o.order = number(argv[7]);
	o.data = (uint64_t)depth * SLOT_PAGES * TAPRING_PAGE;
	err = tapring_connect(argv[1], &o, &ring);
	if (err)
		die("connect: %s", strerror(-err));
	tapring_get_info(ring, &info);
	queues = info.queues;
	nsect = info.size / SECTOR;
	if (nsect < SLOT_PAGES * 8 || nsect >= 1 << 24)
		die("a disk of %llu sectors will not do", (unsigned long long)nsect);
	disk = calloc(nsect, sizeof(*disk));
	if (!disk)
		die("no memory");
	for (uint64_t i = 0; i < nsect; i++) {
		cand_add(&disk[i], dirty ? ANY : 0, 0);
		disk[i].c[0].answered = 0;
	}
	for (unsigned i = 0; i < depth; i++)
		slots[i].mem = (char *)tapring_data(ring, NULL) +
			       (size_t)i * SLOT_PAGES * TAPRING_PAGE;
	run(strtoull(argv[3], NULL, 0));
	if (argc > 8 && !dirty)
		read_all(argv[8]);
	printf("seed %llu: %llu requests, depth %u, abi %u, %u queues of order %u, %u segments\n",
	       (unsigned long long)seed, (unsigned long long)nops, depth,
	       info.abi, queues, o.order, info.max_segments);
	tapring_close(ring);
	for (uint64_t i = 0; i < nsect; i++)
		free(disk[i].c);
	free(disk);
	return 0;
}
