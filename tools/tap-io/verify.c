/* verify.c - the verify command: random overlapping requests, every sector that
 * is read checked against the model.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "base/size.h"
#include "model.h"
#include "tap_io.h"

#define REGION_DEFAULT (16 * MiB)
#define HOT (256 * KiB)		/* half of the requests fall in here */
#define PIECES 8u		/* of a scattered buffer */
#define GUARD 0xa5		/* around a buffer; must stay */
#define BARRIER_MAX (11u * TAPRING_PAGE)

struct verify;

struct slot {
	struct io io;
	struct verify *v;
	struct model_op op;
	uint8_t kind;		/* IO_* */
	bool busy;
	char *mem;		/* v->room bytes */
	struct iovec iov[PIECES];
	unsigned nr_iov;
};

struct verify {
	struct session *s;
	struct model *model;
	uint64_t seed, rng;
	uint64_t ops, depth, bs;
	uint64_t offset, len;	/* bytes */
	uint64_t count[IO_DISCARD + 1];
	size_t room;
	struct slot *slot;
	uint32_t epoch;
	bool bad;
	int err;
};

static uint64_t rnd(struct verify *v, uint64_t n)
{
	v->rng ^= v->rng << 13;
	v->rng ^= v->rng >> 7;
	v->rng ^= v->rng << 17;
	return (v->rng >> 11) % n;
}

/* Answers. */

static void check_guards(struct slot *t)
{
	const char *at = t->mem, *end = t->mem + t->v->room;

	for (unsigned i = 0; i <= t->nr_iov; i++) {
		const char *to = i < t->nr_iov ? t->iov[i].iov_base : end;

		if (differs(at, (size_t)(to - at), GUARD) < (size_t)(to - at)) {
			printf("verify: a read of %zu bytes at %llu wrote outside "
			       "its buffer\n", t->io.len,
			       (unsigned long long)t->io.offset);
			t->v->bad = true;
			return;
		}
		if (i < t->nr_iov)
			at = to + t->iov[i].iov_len;
	}
}

static void check_sector(struct verify *v, const struct model_op *op,
			 uint64_t sector, const char *buf)
{
	char why[80];

	if (v->bad || model_check(v->model, op, sector, buf, why, sizeof(why)))
		return;
	printf("verify: offset %llu %s (seed %llu)\n",
	       (unsigned long long)(v->offset + sector * MODEL_SECTOR), why,
	       (unsigned long long)v->seed);
	v->bad = true;
}

/* The slot's sectors, in order, wherever they lie. */
static void each_sector(struct slot *t, void (*fn)(struct slot *t,
						   uint64_t sector, char *buf))
{
	uint64_t sector = t->op.first;

	for (unsigned i = 0; i < t->nr_iov; i++) {
		char *p = t->iov[i].iov_base;

		for (size_t k = 0; k < t->iov[i].iov_len; k += MODEL_SECTOR)
			fn(t, sector++, p + k);
	}
}

static void check_one(struct slot *t, uint64_t sector, char *buf)
{
	check_sector(t->v, &t->op, sector, buf);
}

static void stamp_one(struct slot *t, uint64_t sector, char *buf)
{
	model_stamp(t->v->model, t->op.id, sector, buf);
}

static void slot_end(struct io *io, int err)
{
	static const char *const name[] = { "read", "write", "flush", "barrier",
					    "discard" };
	struct slot *t = io->owner;
	struct verify *v = t->v;

	t->busy = false;
	if (err) {
		if (!v->err)
			fprintf(stderr, "%s: verify: %s of %zu bytes at %llu: %s\n",
				TAP_IO, name[t->kind], io->len,
				(unsigned long long)io->offset, strerror(-err));
		v->err = err;
		return;
	}
	if (t->kind == IO_READ) {
		check_guards(t);
		each_sector(t, check_one);
	} else if (t->kind != IO_FLUSH) {
		model_written(v->model, &t->op);
	}
}

/* Requests. */

/* A buffer of len bytes: in one piece on a page, at any sector, or scattered. */
static void layout(struct verify *v, struct slot *t, size_t len, bool plain)
{
	uint64_t how = plain ? 0 : rnd(v, 3);
	char *at = t->mem;

	t->nr_iov = 0;
	if (how == 1)
		at += rnd(v, TAPRING_PAGE / MODEL_SECTOR) * MODEL_SECTOR;
	while (how == 2 && t->nr_iov < PIECES - 1 && len > MODEL_SECTOR) {
		size_t n = (1 + rnd(v, len / MODEL_SECTOR - 1)) * MODEL_SECTOR;

		if (n > 4 * TAPRING_PAGE)
			n = 4 * TAPRING_PAGE;
		t->iov[t->nr_iov++] = (struct iovec){ at, n };
		at += n + rnd(v, TAPRING_PAGE / MODEL_SECTOR) * MODEL_SECTOR;
		len -= n;
	}
	t->iov[t->nr_iov++] = (struct iovec){ at, len };
}

static uint8_t choose(struct verify *v)
{
	uint64_t n = rnd(v, 100);

	if (n < 46)
		return IO_READ;
	if (n < 88)
		return IO_WRITE;
	if (n < 92 && v->s->info.features & TAPRING_F_FLUSH)
		return IO_FLUSH;
	if (n < 95 && v->s->info.features & TAPRING_F_BARRIER)
		return IO_BARRIER;
	if (n < 100 && v->s->info.features & TAPRING_F_DISCARD)
		return IO_DISCARD;
	return IO_READ;
}

static void choose_range(struct verify *v, struct slot *t)
{
	uint64_t max = t->kind == IO_BARRIER && v->bs > BARRIER_MAX ?
		       BARRIER_MAX : v->bs;
	uint64_t area = v->len < HOT || rnd(v, 2) ? v->len : HOT;
	uint64_t n, first;

	n = 1 + rnd(v, max / MODEL_SECTOR);
	if (n > area / MODEL_SECTOR)
		n = area / MODEL_SECTOR;
	first = rnd(v, area / MODEL_SECTOR - n + 1);
	t->op.first = first;
	t->op.n = n;
	t->io.offset = v->offset + first * MODEL_SECTOR;
	t->io.len = (size_t)n * MODEL_SECTOR;
}

static uint64_t oldest_read(const struct verify *v)
{
	uint64_t at = UINT64_MAX;

	for (uint64_t i = 0; i < v->depth; i++)
		if (v->slot[i].busy && v->slot[i].kind == IO_READ &&
		    v->slot[i].op.began < at)
			at = v->slot[i].op.began;
	return at;
}

static int start(struct verify *v, struct slot *t, bool plain)
{
	layout(v, t, t->io.len, plain || t->kind == IO_BARRIER);
	t->io.buf = t->iov[0].iov_base;
	if (t->kind == IO_READ)
		memset(t->mem, GUARD, v->room);
	else if (t->kind != IO_FLUSH && t->kind != IO_DISCARD)
		each_sector(t, stamp_one);
	if (t->kind <= IO_WRITE)
		return io_startv(&t->io, t->kind, t->iov, t->nr_iov);
	return io_start(&t->io, t->kind);
}

/* One more request in t. */
static int launch(struct verify *v, struct slot *t)
{
	uint64_t oldest = oldest_read(v);
	int err;

	t->kind = choose(v);
	t->io.queue = session_queue(v->s);
	choose_range(v, t);
	/* Barriers order what is on one queue; across queues nobody can tell. */
	if (t->kind == IO_BARRIER && v->s->info.queues == 1)
		v->epoch++;
	t->op.epoch = v->epoch;
	t->op.discard = t->kind == IO_DISCARD;
	model_begin(v->model, &t->op);
	if (oldest > t->op.began)
		oldest = t->op.began;
	if (t->kind != IO_READ && t->kind != IO_FLUSH &&
	    !model_write(v->model, &t->op, oldest))
		return -ENOMEM;
	err = start(v, t, false);
	if (err == -E2BIG)
		err = start(v, t, true);
	while (err == -EAGAIN) {
		err = session_turn(v->s);
		if (!err)
			err = start(v, t, true);
	}
	if (err)
		return err;
	if (t->kind == IO_BARRIER && v->s->info.queues == 1)
		v->epoch++;	/* what comes next is behind it */
	t->busy = true;
	v->count[t->kind]++;
	return 0;
}

static struct slot *free_slot(struct verify *v)
{
	for (uint64_t i = 0; i < v->depth; i++)
		if (!v->slot[i].busy)
			return &v->slot[i];
	return NULL;
}

/* All sectors get a known content, one request after the other; or are read. */
static int sweep(struct verify *v, bool write)
{
	struct model_op op = { .epoch = v->epoch };
	size_t max = v->s->max_request < v->s->half ? v->s->max_request :
						      v->s->half;
	int err;

	for (uint64_t at = 0; at < v->len && !v->bad; at += op.n * MODEL_SECTOR) {
		size_t n = v->len - at < max ? (size_t)(v->len - at) : max;

		op.first = at / MODEL_SECTOR;
		op.n = n / MODEL_SECTOR;
		model_begin(v->model, &op);
		if (write && !model_write(v->model, &op, op.began))
			return -ENOMEM;
		for (uint64_t i = 0; write && i < op.n; i++)
			model_stamp(v->model, op.id, op.first + i,
				    v->s->sync + i * MODEL_SECTOR);
		err = session_one(v->s, write ? IO_WRITE : IO_READ,
				  v->offset + at, n);
		if (err)
			return err;
		if (write)
			model_written(v->model, &op);
		for (uint64_t i = 0; !write && i < op.n; i++)
			check_sector(v, &op, op.first + i,
				     v->s->sync + i * MODEL_SECTOR);
	}
	return 0;
}

static int run(struct verify *v)
{
	int err = sweep(v, true), end;

	for (uint64_t n = 0; !err && !v->err && !v->bad && n < v->ops;) {
		struct slot *t = free_slot(v);

		if (t) {
			err = launch(v, t);
			n++;
			/* Batches of any size. */
			if (!err && !rnd(v, 4))
				err = tapring_submit(t->io.queue);
		} else {
			err = session_turn(v->s);
		}
	}
	end = session_drain(v->s);
	if (!err)
		err = end ? end : v->err;
	if (!err && !v->bad)
		err = session_one(v->s, IO_FLUSH, 0, 0);
	return err || v->bad ? err : sweep(v, false);
}

/* The options, and the region that they leave. */

static bool parse(struct verify *v, int argc, char **argv)
{
	static const struct option opts[] = {
		{ "seed", 1, NULL, 's' }, { "ops", 1, NULL, 'n' },
		{ "depth", 1, NULL, 'd' }, { "bs", 1, NULL, 'b' },
		{ "offset", 1, NULL, 'o' }, { "length", 1, NULL, 'l' },
		{ NULL, 0, NULL, 0 },
	};
	uint64_t size = tapring_size(v->s->ring);
	bool good = true;
	uint32_t seed = 1;
	int c;

	(void)!getrandom(&seed, sizeof(seed), 0);
	v->seed = seed;
	v->ops = 10000;
	v->depth = 16;
	v->bs = 64 * KiB;
	optind = 0;
	opterr = 0;
	while (good && (c = getopt_long(argc, argv, "+", opts, NULL)) != -1) {
		if (c == 's')
			good = get_number(argv[0], "seed", optarg, UINT64_MAX,
					  &v->seed);
		else if (c == 'n')
			good = get_number(argv[0], "ops", optarg, UINT32_MAX,
					  &v->ops);
		else if (c == 'd')
			good = get_number(argv[0], "depth", optarg, 4096,
					  &v->depth);
		else if (c == 'b')
			good = get_bytes(argv[0], "bs", optarg, &v->bs);
		else if (c == 'o')
			good = get_bytes(argv[0], "offset", optarg, &v->offset);
		else if (c == 'l')
			good = get_bytes(argv[0], "length", optarg, &v->len);
		else
			good = !bad_arg(argv[0], "option", argv[optind - 1]);
	}
	if (good && optind < argc)
		good = !bad_arg(argv[0], "argument", argv[optind]);
	if (!good)
		return false;
	if (v->offset >= size || v->len > size - v->offset) {
		fprintf(stderr, "%s: verify: the region leaves the disk\n", TAP_IO);
		return false;
	}
	if (!v->len)
		v->len = min_u64(size - v->offset, REGION_DEFAULT);
	v->bs = min_u64(min_u64(v->bs, v->len), v->s->max_request);
	if (!v->depth || !v->bs) {
		fprintf(stderr, "%s: verify: --depth and --bs must not be 0\n",
			TAP_IO);
		return false;
	}
	v->room = (size_t)align_up(v->bs, TAPRING_PAGE) + (PIECES + 1) * TAPRING_PAGE;
	if (v->depth > v->s->half / v->room) {
		fprintf(stderr, "%s: verify: depth and bs need more memory; use a "
			"larger --data\n", TAP_IO);
		return false;
	}
	return true;
}

static int report(const struct verify *v, int err)
{
	if (err && !v->err)
		fail("verify", err);
	printf("verify: %s: seed %llu, %llu reads, %llu writes, %llu flushes, "
	       "%llu barriers, %llu discards\n", err || v->bad ? "FAILED" : "good",
	       (unsigned long long)v->seed, (unsigned long long)v->count[IO_READ],
	       (unsigned long long)v->count[IO_WRITE],
	       (unsigned long long)v->count[IO_FLUSH],
	       (unsigned long long)v->count[IO_BARRIER],
	       (unsigned long long)v->count[IO_DISCARD]);
	return err || v->bad ? IO_FAILED : IO_OK;
}

int cmd_verify(struct session *s, int argc, char **argv)
{
	struct verify v = { .s = s };
	int ret = IO_FAILED;

	if (refuse_write(s, argv[0]) || cmd_aio_flush(s, 1, argv) ||
	    !parse(&v, argc, argv))
		return IO_FAILED;
	v.rng = v.seed | 1;
	v.model = model_new(v.seed, v.len / MODEL_SECTOR);
	v.slot = calloc(v.depth, sizeof(*v.slot));
	if (!v.model || !v.slot) {
		ret = fail(argv[0], -ENOMEM);
		goto out;
	}
	for (uint64_t i = 0; i < v.depth; i++) {
		v.slot[i].v = &v;
		v.slot[i].mem = s->aio + i * v.room;
		v.slot[i].io.end = slot_end;
		v.slot[i].io.owner = &v.slot[i];
	}
	printf("verify: seed %llu\n", (unsigned long long)v.seed);
	fflush(stdout);
	ret = report(&v, run(&v));
out:
	free(v.slot);
	model_free(v.model);
	return ret;
}
