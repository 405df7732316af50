/* ringbells.c - no doorbell is ever lost: threads that sleep for every answer,
 * with so little in flight that both ends go to sleep and wake all the time.
 *
 *	ringbells SOCKET SECONDS
 *
 * A lost doorbell shows as a wait that does not end.  A thread a queue, as
 * libtapring allows.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tapring.h"

#define THREADS_MAX 2u

struct job {
	struct tapring_queue *q;
	char *buf;
	unsigned depth;
	double seconds;
	int err;
	unsigned long done;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fill(struct job *j, unsigned n)
{
	int err = 0;

	for (unsigned i = 0; i < n && !err; i++)
		err = tapring_read(j->q, j->buf, 512, 0, i);
	return err ? err : tapring_submit(j->q);
}

static void *run(void *arg)
{
	struct job *j = arg;
	struct tapring_answer a[8];
	double end = now() + j->seconds;
	int n = fill(j, j->depth);

	while (!n && now() < end) {
		/* (Nothing else wakes either end, and machines stand still for seconds.) */
		n = tapring_wait(j->q, 1, 20000);
		if (!n)
			n = -ETIMEDOUT;
		if (n > 0)
			n = tapring_reap(j->q, a, 8);
		if (n <= 0)
			break;
		j->done += (unsigned)n;
		n = fill(j, (unsigned)n);
	}
	j->err = n;
	return NULL;
}

static int round_of(const char *path, unsigned threads, unsigned depth,
		    double seconds)
{
	struct tapring_opts o = { .queues = threads };
	struct job j[THREADS_MAX];
	pthread_t t[THREADS_MAX];
	struct tapring *r;
	int err = tapring_connect(path, &o, &r);

	if (err) {
		printf("connect: %s\n", strerror(-err));
		return 1;
	}
	for (unsigned i = 0; i < threads; i++) {
		j[i] = (struct job){ .q = tapring_get_queue(r, i),
				     .buf = (char *)tapring_data(r, NULL) + i * 4096,
				     .depth = depth + i, .seconds = seconds };
		if (pthread_create(&t[i], NULL, run, &j[i]))
			exit(1);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(t[i], NULL);
		if (j[i].err) {
			printf("depth %u: after %lu answers: %s\n", j[i].depth,
			       j[i].done, strerror(-j[i].err));
			err = 1;
		}
	}
	tapring_close(r);
	return err;
}

int main(int argc, char **argv)
{
	double each = argc == 3 ? strtod(argv[2], NULL) / 8 : 0;
	int bad = 0;

	if (argc != 3)
		return 1;
	/* One thread leaves both ends a processor each: the tightest races. */
	for (unsigned depth = 1; depth <= 3; depth++)
		bad |= round_of(argv[1], 1, depth, 2 * each);
	for (unsigned depth = 1; depth <= 2; depth++)
		bad |= round_of(argv[1], 2, depth, each);
	return bad;
}
