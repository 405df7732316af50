/*
 * guestio - write, verify and load a block device from inside a guest.
 *
 *	guestio write DEVICE SEED [OFFSET LENGTH]	a pattern, then fsync
 *	guestio verify DEVICE SEED [OFFSET LENGTH]	SEED 0: zeroes
 *	guestio discard DEVICE OFFSET LENGTH
 *	guestio refuse DEVICE		a write must fail, and read must not
 *	guestio load DEVICE SECONDS THREADS [MODE]
 *	guestio bench DEVICE SECONDS THREADS	prints 4 KiB requests a second
 *
 * `load' does random reads and writes of 4 to 64 KiB with O_DIRECT.  Each block
 * carries its number and a generation; a thread keeps to a share of the disk of
 * its own, so that what must be there is always known: every read is compared,
 * and at the end all blocks are.  The disk's first contents are read, not
 * assumed.  MODE "flush" syncs after each write, "trim" discards now and then.
 * It says "begun" when requests are answered.
 * It ends early, and well, when the file /tmp/stop appears.  SIGUSR1 has it print
 * "gap N": the longest time in ms, since it was asked last, in which no request
 * of any thread was answered.
 *
 * Static, and of libc alone: the guest has nothing else.  Status 0 all is
 * right, 1 an error or a wrong byte, with a line that says which.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define MAX_BLOCKS 16u
#define MAX_THREADS 32u
#define MIN_OPS 32u	/* of a thread, on average, before a load may end */

struct share {
	pthread_t thread;
	unsigned seed;
	uint64_t first, count;	/* blocks */
};

static int fd;
static uint64_t disk_bytes;
static uint32_t *generation;
static uint64_t *first_sum;	/* of a block nobody has written yet */
static atomic_bool stop, bad;
static atomic_ulong ops, worst_ms, last_us, gap_us;
static bool sync_writes, trims;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A request was answered, or would have had to be: how long had there been none? */
static void silence(unsigned long at)
{
	unsigned long gap = at - last_us, most = gap_us;

	while ((long)gap > (long)most &&
	       !atomic_compare_exchange_weak(&gap_us, &most, gap))
		;
}

static unsigned long now_us(void)
{
	return (unsigned long)(now() * 1e6);
}

static void answered(void)
{
	unsigned long at = now_us();

	silence(at);
	last_us = at;
}

static int complain(const char *what, uint64_t offset)
{
	printf("guestio: %s at %llu: %s\n", what, (unsigned long long)offset,
	       errno ? strerror(errno) : "wrong data");
	bad = true;
	return 1;
}

static void fill(void *page, uint64_t block, uint64_t seed)
{
	uint64_t *p = page;

	for (unsigned i = 0; i < BLOCK / 8; i++)
		p[i] = seed ? ((block * 512 + i + 1) * 0x9e3779b97f4a7c15ull) ^
			      (seed << 32 | seed) : 0;
}

static uint64_t sum(const void *page)
{
	const uint64_t *p = page;
	uint64_t s = 0;

	for (unsigned i = 0; i < BLOCK / 8; i++)
		s = (s ^ p[i]) * 0x100000001b3ull + i;
	return s;
}

static void *pages(size_t n)
{
	void *p = NULL;

	if (posix_memalign(&p, BLOCK, n * BLOCK))
		abort();
	return p;
}

static int pattern(bool write, uint64_t seed, uint64_t from, uint64_t bytes)
{
	uint8_t *want = pages(MAX_BLOCKS), *got = pages(MAX_BLOCKS);
	uint64_t end = from + bytes;

	for (uint64_t at = from; at < end;) {
		size_t n = end - at < MAX_BLOCKS * BLOCK ? end - at :
							   MAX_BLOCKS * BLOCK;

		for (size_t i = 0; i * BLOCK < n; i++)
			fill(want + i * BLOCK, at / BLOCK + i, seed);
		errno = 0;
		if (write && pwrite(fd, want, n, (off_t)at) != (ssize_t)n)
			return complain("write", at);
		if (!write && pread(fd, got, n, (off_t)at) != (ssize_t)n)
			return complain("read", at);
		if (!write && memcmp(want, got, n))
			return complain("verify", at);
		at += n;
	}
	errno = 0;
	if (write && fsync(fd))
		return complain("fsync", 0);
	return 0;
}

static bool right(const uint8_t *page, uint8_t *scratch, uint64_t block)
{
	if (!generation[block])
		return sum(page) == first_sum[block];
	fill(scratch, block, generation[block]);
	return !memcmp(page, scratch, BLOCK);
}

static int one(struct share *s, uint8_t *buf, uint8_t *scratch)
{
	uint64_t n = 1 + (uint64_t)rand_r(&s->seed) % MAX_BLOCKS;
	uint64_t b;

	if (n > s->count)
		n = s->count;
	b = s->first + (uint64_t)rand_r(&s->seed) % (s->count - n + 1);
	errno = 0;
	if (trims && rand_r(&s->seed) % 16 == 0) {
		uint64_t range[2] = { b * BLOCK, n * BLOCK };

		if (ioctl(fd, BLKDISCARD, range))
			return complain("discard", b * BLOCK);
		/* What it holds now is not promised; made known again. */
	} else if (rand_r(&s->seed) % 2) {
		if (pread(fd, buf, n * BLOCK, (off_t)(b * BLOCK)) != (ssize_t)(n * BLOCK))
			return complain("read", b * BLOCK);
		errno = 0;
		for (uint64_t i = 0; i < n; i++)
			if (!right(buf + i * BLOCK, scratch, b + i))
				return complain("verify", (b + i) * BLOCK);
		return 0;
	}
	for (uint64_t i = 0; i < n; i++)
		fill(buf + i * BLOCK, b + i, generation[b + i] + 1);
	if (pwrite(fd, buf, n * BLOCK, (off_t)(b * BLOCK)) != (ssize_t)(n * BLOCK))
		return complain("write", b * BLOCK);
	for (uint64_t i = 0; i < n; i++)
		generation[b + i]++;
	if ((sync_writes || rand_r(&s->seed) % 64 == 0) && fsync(fd))
		return complain("fsync", b * BLOCK);
	return 0;
}

static void *worker(void *arg)
{
	struct share *s = arg;
	uint8_t *buf = pages(MAX_BLOCKS), *scratch = pages(1);

	while (!stop && !bad) {
		double begin = now();
		unsigned long ms;

		if (one(s, buf, scratch))
			break;
		ms = (unsigned long)((now() - begin) * 1e3);
		if (ms > worst_ms)
			worst_ms = ms;
		answered();
		ops++;
	}
	return NULL;
}

static int all_right(bool learn)
{
	uint8_t *buf = pages(MAX_BLOCKS), *scratch = pages(1);
	uint64_t blocks = disk_bytes / BLOCK;

	for (uint64_t b = 0; b < blocks; b += MAX_BLOCKS) {
		uint64_t n = blocks - b < MAX_BLOCKS ? blocks - b : MAX_BLOCKS;

		errno = 0;
		if (pread(fd, buf, n * BLOCK, (off_t)(b * BLOCK)) != (ssize_t)(n * BLOCK))
			return complain("read of all", b * BLOCK);
		errno = 0;
		for (uint64_t i = 0; i < n; i++) {
			if (learn)
				first_sum[b + i] = sum(buf + i * BLOCK);
			else if (!right(buf + i * BLOCK, scratch, b + i))
				return complain("verify of all", (b + i) * BLOCK);
		}
	}
	return 0;
}

static int load(unsigned seconds, unsigned threads)
{
	static struct share shares[MAX_THREADS];
	uint64_t blocks = disk_bytes / BLOCK, each = blocks / threads;
	const struct timespec beat = { .tv_nsec = 200000000 };
	double begin = now();
	bool begun = false;
	sigset_t ask;

	sigemptyset(&ask);
	sigaddset(&ask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &ask, NULL);
	generation = calloc(blocks, sizeof(*generation));
	first_sum = calloc(blocks, sizeof(*first_sum));
	if (!generation || !first_sum || all_right(true))
		return 1;
	last_us = now_us();
	for (unsigned i = 0; i < threads; i++) {
		struct share *s = &shares[i];

		s->seed = i * 77 + 1;
		s->first = i * each;
		s->count = each;
		if (pthread_create(&s->thread, NULL, worker, s))
			abort();
	}
	/* A busy machine may do next to nothing in that time. */
	while (!bad && access("/tmp/stop", F_OK) &&
	       (now() - begin < seconds || ops < threads * MIN_OPS)) {
		if (sigtimedwait(&ask, NULL, &beat) == SIGUSR1) {
			silence(now_us());
			printf("gap %lu\n", atomic_exchange(&gap_us, 0) / 1000);
		}
		if (!begun && ops) {
			begun = true;
			printf("begun\n");
		}
	}
	stop = true;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(shares[i].thread, NULL);
	if (!bad)
		all_right(false);
	printf("guestio: load %s, %lu requests, worst %lu ms\n",
	       bad ? "failed" : "good", ops, worst_ms);
	return bad;
}

static void *hurry(void *arg)
{
	struct share *s = arg;
	uint8_t *buf = pages(1);

	while (!stop && !bad) {
		off_t at = (off_t)((uint64_t)rand_r(&s->seed) % s->count * BLOCK);
		ssize_t n = rand_r(&s->seed) % 2 ? pread(fd, buf, BLOCK, at) :
						   pwrite(fd, buf, BLOCK, at);

		if (n != BLOCK)
			complain("transfer", (uint64_t)at);
		ops++;
	}
	return NULL;
}

static int bench(unsigned seconds, unsigned threads)
{
	static struct share shares[MAX_THREADS];
	double begin = now();

	for (unsigned i = 0; i < threads; i++) {
		shares[i] = (struct share){ .seed = i + 1, .count = disk_bytes / BLOCK };
		if (pthread_create(&shares[i].thread, NULL, hurry, &shares[i]))
			abort();
	}
	sleep(seconds);
	stop = true;
	for (unsigned i = 0; i < threads; i++)
		pthread_join(shares[i].thread, NULL);
	printf("%.0f\n", (double)ops / (now() - begin));
	return bad;
}

static int refuse(void)
{
	void *page = pages(1);

	if (pread(fd, page, BLOCK, 0) != BLOCK)
		return complain("read", 0);
	if (pwrite(fd, page, BLOCK, 0) >= 0) {
		printf("guestio: a write was taken\n");
		return 1;
	}
	return 0;
}

static uint64_t number(char **argv, int i, int argc, uint64_t otherwise)
{
	return i < argc ? strtoull(argv[i], NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[1] : "";
	uint64_t from, bytes;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3)
		return 2;
	fd = open(argv[2], O_RDWR | O_DIRECT);
	if (fd < 0)
		fd = open(argv[2], O_RDONLY | O_DIRECT);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &disk_bytes))
		return complain("open", 0);
	from = number(argv, 4, argc, 0);
	bytes = number(argv, 5, argc, disk_bytes - from);
	if (!strcmp(verb, "write") || !strcmp(verb, "verify"))
		return pattern(verb[0] == 'w', number(argv, 3, argc, 1), from, bytes);
	if (!strcmp(verb, "discard")) {
		uint64_t range[2] = { number(argv, 3, argc, 0),
				      number(argv, 4, argc, disk_bytes) };

		return ioctl(fd, BLKDISCARD, range) ? complain("discard", range[0]) : 0;
	}
	if (!strcmp(verb, "refuse"))
		return refuse();
	if ((!strcmp(verb, "load") || !strcmp(verb, "bench")) && argc > 4) {
		unsigned seconds = (unsigned)number(argv, 3, argc, 1);
		unsigned threads = (unsigned)number(argv, 4, argc, 1);

		threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
		sync_writes = argc > 5 && !strcmp(argv[5], "flush");
		trims = argc > 5 && !strcmp(argv[5], "trim");
		return *verb == 'l' ? load(seconds, threads) : bench(seconds, threads);
	}
	return 2;
}
