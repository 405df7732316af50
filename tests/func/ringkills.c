/* ringkills.c - a client that knows what its disk must hold, and that is not to
 * notice that the disk's process is killed and replaced again and again.
 *
 *	ringkills SOCKET
 *
 * Two threads, a queue each: one sleeps in tapring_wait(), the other in an event
 * loop of its own on what tapring_fd() and tapring_events_fd() gave at the start.
 * Reads, writes and flushes of 4 to 64 KiB until SIGTERM comes; then all is read
 * again.  It says when it is connected.  Status 0: every request was answered well,
 * every read was right; 2: the disk has gone (EPIPE); 1: all else.  Pauses of more
 * than 5 ms are counted.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "tapring.h"

#define BLOCK 4096u
#define BLOCKS 1024u	/* of a thread */
#define RUN_MAX 16u	/* blocks of a request */
#define DEPTH 32u	/* a full ring: answers lie where new requests go */
#define PAUSES 100000u

static struct tapring *ring;
static _Atomic bool stopping;

struct op {
	bool busy;
	char kind;		/* r, w, f */
	unsigned first, n;
	char *buf;
};

struct thread {
	pthread_t id;
	unsigned n;
	struct tapring_queue *q;
	uint64_t rng;
	uint32_t gen[BLOCKS];
	bool used[BLOCKS];	/* a request has it */
	struct op op[DEPTH];
	unsigned open;
	uint64_t done, last;
	unsigned nr_pauses;
	double pause[PAUSES];	/* ms */
	int err;
};
static struct thread threads[2];

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned rnd(struct thread *t, unsigned below)
{
	t->rng = t->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(t->rng >> 33) % below;
}

static uint64_t stamp(const struct thread *t, unsigned block)
{
	return (uint64_t)t->gen[block] << 32 | t->n << 16 | block;
}

/* A new request, if one is free and its blocks are. */
static int start(struct thread *t)
{
	uint64_t at;
	struct op *o = t->op;

	while (o->busy)
		o++;
	o->kind = stopping ? 'r' : "rrwwwwwf"[rnd(t, 8)];
	o->n = 1 + rnd(t, RUN_MAX);
	o->first = rnd(t, BLOCKS - o->n + 1);
	for (unsigned i = 0; i < o->n && o->kind != 'f'; i++)
		if (t->used[o->first + i])
			return 0;
	o->busy = true;
	t->open++;
	if (o->kind == 'f')
		return tapring_flush(t->q, (uint64_t)(o - t->op));
	for (unsigned i = 0; i < o->n; i++) {
		unsigned block = o->first + i;

		t->used[block] = true;
		t->gen[block] += o->kind == 'w';
		/* What a read leaves as it was is found out too. */
		for (unsigned k = 0; k < BLOCK / 8; k++)
			((uint64_t *)(void *)(o->buf + i * BLOCK))[k] =
				o->kind == 'w' ? stamp(t, block) : UINT64_MAX;
	}
	at = ((uint64_t)t->n * BLOCKS + o->first) * BLOCK;
	return o->kind == 'w' ? tapring_write(t->q, o->buf, o->n * BLOCK, at,
					      (uint64_t)(o - t->op)) :
				tapring_read(t->q, o->buf, o->n * BLOCK, at,
					     (uint64_t)(o - t->op));
}

static int finish(struct thread *t, const struct tapring_answer *a)
{
	struct op *o = &t->op[a->cookie];

	if (a->cookie >= DEPTH || !o->busy) {
		printf("thread %u: an answer to nothing\n", t->n);
		return -EPROTO;
	}
	if (a->result) {
		printf("thread %u: %c of %u blocks at %u: %s\n", t->n, o->kind, o->n,
		       o->first, strerror(-a->result));
		return a->result;
	}
	for (unsigned i = 0; i < o->n && o->kind != 'f'; i++) {
		const uint64_t *p = (void *)(o->buf + i * BLOCK);
		unsigned block = o->first + i;
		uint64_t want = t->gen[block] ? stamp(t, block) : 0;

		for (unsigned k = 0; k < BLOCK / 8; k++) {
			if (p[k] == want)
				continue;
			printf("thread %u: block %u holds %llx, not %llx\n", t->n,
			       block, (unsigned long long)p[k],
			       (unsigned long long)want);
			return -EILSEQ;
		}
		t->used[block] = false;
	}
	o->busy = false;
	t->open--;
	t->done++;
	return 0;
}

static int reap(struct thread *t)
{
	struct tapring_answer a[DEPTH];
	int n = tapring_reap(t->q, a, DEPTH), err;
	uint64_t at = now();

	if (n > 0) {
		double ms = (double)(at - t->last) / 1e6;

		if (ms > 5 && t->last && t->nr_pauses < PAUSES)
			t->pause[t->nr_pauses++] = ms;
		t->last = at;
	}
	for (int i = 0; i < n; i++) {
		err = finish(t, &a[i]);
		if (err)
			return err;
	}
	return n;
}

static int fill(struct thread *t)
{
	int err = 0;

	for (unsigned i = 0; !err && i < 4 * DEPTH && t->open < DEPTH && !stopping; i++)
		err = start(t);
	return err ? err : tapring_submit(t->q);
}

static int sleeper(struct thread *t)
{
	int n = fill(t);

	while (n >= 0 && t->open) {
		n = tapring_wait(t->q, 1 + rnd(t, 3), rnd(t, 2) ? -1 : 20000);
		if (n == -EINTR)
			n = 0;
		if (n >= 0)
			n = reap(t);
		if (n >= 0)
			n = fill(t);
	}
	return n;
}

static int looper(struct thread *t)
{
	struct epoll_event e = { .events = EPOLLIN };
	int set = epoll_create1(0), n = fill(t);

	epoll_ctl(set, EPOLL_CTL_ADD, tapring_fd(t->q), &e);
	epoll_ctl(set, EPOLL_CTL_ADD, tapring_events_fd(ring), &e);
	while (n >= 0 && t->open) {
		n = tapring_arm(t->q);
		if (!n && epoll_wait(set, &e, 1, -1) < 0 && errno != EINTR)
			n = -errno;
		if (n >= 0)
			n = tapring_events(ring);
		if (n >= 0)
			n = reap(t);
		if (n >= 0)
			n = fill(t);
	}
	close(set);
	return n;
}

/* All of it once more, when nothing else is in flight. */
static int verify(struct thread *t)
{
	static char buf[BLOCKS * BLOCK];
	int err = tapring_pread(t->q, buf, sizeof(buf),
				(uint64_t)t->n * BLOCKS * BLOCK);

	for (unsigned b = 0; b < BLOCKS && !err; b++)
		if (*(uint64_t *)(void *)(buf + b * BLOCK) !=
		    (t->gen[b] ? stamp(t, b) : 0)) {
			printf("thread %u: block %u at the end\n", t->n, b);
			err = -EILSEQ;
		}
	return err;
}

static void *run(void *arg)
{
	struct thread *t = arg;

	t->err = t->n ? looper(t) : sleeper(t);
	if (t->err && t->err != -EPIPE)
		exit(1);	/* while what has done it can be seen */
	return NULL;
}

static void on_term(int signo)
{
	(void)signo;
	stopping = true;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
	struct tapring_opts o = { .queues = 2, .data = 2 * DEPTH * RUN_MAX * BLOCK,
				  .reconnect_ms = 600000 };
	int err, status = 0;

	if (argc != 2)
		return 1;
	signal(SIGTERM, on_term);
	err = tapring_connect(argv[1], &o, &ring);
	if (err) {
		printf("connect: %s\n", strerror(-err));
		return 1;
	}
	printf("connected\n");
	fflush(stdout);
	for (unsigned i = 0; i < 2; i++) {
		struct thread *t = &threads[i];

		t->n = i;
		t->rng = (uint64_t)getpid() * 2 + i;
		t->q = tapring_get_queue(ring, i);
		for (unsigned k = 0; k < DEPTH; k++)
			t->op[k].buf = (char *)tapring_data(ring, NULL) +
				       (size_t)(i * DEPTH + k) * RUN_MAX * BLOCK;
		if (pthread_create(&t->id, NULL, run, t))
			return 1;
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i].id, NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct thread *t = &threads[i];

		if (t->err >= 0)
			t->err = verify(t);
		qsort(t->pause, t->nr_pauses, sizeof(t->pause[0]), by_size);
		printf("thread %u: %llu requests, %u pauses, median %.1f ms, longest "
		       "%.1f ms%s%s\n", i, (unsigned long long)t->done, t->nr_pauses,
		       t->nr_pauses ? t->pause[t->nr_pauses / 2] : 0,
		       t->nr_pauses ? t->pause[t->nr_pauses - 1] : 0,
		       t->err ? ": " : "", t->err ? strerror(-t->err) : "");
		if (t->err)
			status = t->err == -EPIPE ? 2 : 1;
	}
	tapring_close(ring);
	return status;
}
