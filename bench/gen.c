/* gen.c - one thread that keeps `depth` requests in flight for some seconds and
 * says how many were done, how long they took and what that cost itself.
 *
 * It reads the clock once a batch, not once a request: latency is from the
 * moment before the submission of a request's batch to the moment after the
 * wait that returned it.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/opts.h"
#include "base/size.h"
#include "gen.h"

enum {
	OPT_BACKEND = 300, OPT_PATH, OPT_RW, OPT_BS, OPT_DEPTH, OPT_SECONDS,
	OPT_RAMP, OPT_POLL, OPT_CPU, OPT_ABI, OPT_SEED, OPT_FLUSH, OPT_SPAN,
};

static const struct opt options[] = {
	{ OPT_BACKEND, "backend", "ring|aio|nbd", "what to drive" },
	{ OPT_PATH, "path", "PATH", "socket, or the file itself for aio" },
	{ OPT_RW, "rw", "OP",
	  "read, write, randread or randwrite (randread)" },
	{ OPT_BS, "bs", "SIZE", "bytes a request (4k)" },
	{ OPT_DEPTH, "depth", "N", "requests in flight (1)" },
	{ OPT_SECONDS, "ms", "N", "how long to measure, milliseconds (1000)" },
	{ OPT_RAMP, "ramp-ms", "N", "how long to run before (100)" },
	{ OPT_POLL, "poll-us", "N", "spin so long before sleeping (0)" },
	{ OPT_CPU, "cpu", "N", "run on this processor" },
	{ OPT_ABI, "abi", "N", "ring: 1 native, 2 x86_32, 3 x86_64 (1)" },
	{ OPT_SEED, "seed", "N", "of the offsets (1)" },
	{ OPT_FLUSH, "flush-every", "N", "a flush after each N requests (0: none)" },
	{ OPT_SPAN, "span", "SIZE", "touch only so many bytes from the start" },
	OPT_COMMON,
	OPT_END
};

struct config {
	struct gen_opts o;
	const struct gen_backend *backend;
	bool random, pin;
	uint64_t ms, ramp_ms, cpu, seed, flush_every, span;
};

/* Latencies: 64 octaves of 32 steps each, 3 % wide. */
#define STEPS 32u
static uint64_t hist[64 * STEPS];
static uint64_t lat_sum, lat_max;

static unsigned bucket(uint64_t ns)
{
	unsigned top;

	if (ns < STEPS)
		return (unsigned)ns;
	top = 63u - (unsigned)__builtin_clzll(ns);
	return (top - 4) * STEPS + (unsigned)(ns >> (top - 5) & (STEPS - 1));
}

static uint64_t bucket_ns(unsigned b)
{
	if (b < STEPS)
		return b;
	return (uint64_t)(STEPS + b % STEPS) << (b / STEPS - 1);
}

static double percentile_us(uint64_t total, double p)
{
	uint64_t want = (uint64_t)((double)total * p), sum = 0;

	for (unsigned b = 0; b < sizeof(hist) / sizeof(hist[0]); b++) {
		sum += hist[b];
		if (sum > want)
			return (double)bucket_ns(b) / 1000;
	}
	return (double)lat_max / 1000;
}

static uint64_t rng;

static uint64_t next_random(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

uint64_t gen_spin(uint64_t start, uint64_t *yielded)
{
	uint64_t now = clock_ns();

	if (now > start + 20 * NS_PER_US && now > *yielded + 5 * NS_PER_US) {
		sched_yield();
		*yielded = now;
	}
	return now;
}

char *gen_buffers(const struct gen_opts *o)
{
	size_t len = o->bs * o->depth;
	char *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	memset(p, 0xa5, len);
	return p;
}

static double cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return ((double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec) * 1e6 +
	       (double)u.ru_utime.tv_usec + (double)u.ru_stime.tv_usec;
}

struct result {
	uint64_t ops, all, ns;		/* all: with those before and after */
	double cpu;
};

/* 0 or -errno. */
static int run(const struct config *c, uint64_t size, struct result *res)
{
	const struct gen_backend *be = c->backend;
	static uint64_t begun[GEN_DEPTH_MAX];
	unsigned slots[GEN_DEPTH_MAX], n = c->o.depth;
	uint64_t blocks = size / c->o.bs, at = 0, unflushed = 0, now = clock_ns();
	uint64_t from = now + c->ramp_ms * NS_PER_MS, end = 0, start = 0;
	bool counting = false;
	int err;

	for (unsigned i = 0; i < n; i++)
		slots[i] = i;
	for (;;) {
		int got;

		for (unsigned i = 0; i < n; i++) {
			uint64_t b = c->random ? next_random() % blocks :
						 at++ % blocks;

			begun[slots[i]] = now;
			if (c->flush_every && unflushed++ == c->flush_every) {
				unflushed = 0;
				err = be->flush(slots[i]);
			} else {
				err = be->queue(slots[i], b * c->o.bs);
			}
			if (err)
				return err;
		}
		err = be->submit();
		if (err)
			return err;
		got = be->wait(slots, c->o.depth);
		if (got < 0)
			return got;
		n = (unsigned)got;
		res->all += n;
		now = clock_ns();
		if (!counting) {
			if (now < from)
				continue;
			counting = true;
			start = now;
			end = now + c->ms * NS_PER_MS;
			res->cpu = cpu_us();
			continue;
		}
		res->ops += n;
		for (unsigned i = 0; i < n; i++) {
			uint64_t ns = now - begun[slots[i]];

			hist[bucket(ns)]++;
			lat_sum += ns;
			if (ns > lat_max)
				lat_max = ns;
		}
		if (now >= end)
			break;
	}
	res->ns = now - start;
	res->cpu = cpu_us() - res->cpu;
	for (unsigned left = c->o.depth - n; left;) {
		int got = be->wait(slots, c->o.depth);

		if (got < 0)
			return got;
		left -= (unsigned)got;
		res->all += (unsigned)got;
	}
	return 0;
}

static void report(const struct config *c, const struct result *r)
{
	double s = (double)r->ns / 1e9, ops = (double)r->ops;

	printf("{\"backend\": \"%s\", \"bs\": %zu, \"depth\": %u, "
	       "\"write\": %s, \"random\": %s, \"seconds\": %.3f, "
	       "\"ops\": %llu, \"all_ops\": %llu, \"iops\": %.1f, \"mb_s\": %.2f, "
	       "\"lat_us\": %.2f, \"p50_us\": %.2f, \"p99_us\": %.2f, "
	       "\"max_us\": %.2f, \"client_cpu_us\": %.3f}\n",
	       c->backend->name, c->o.bs, c->o.depth,
	       c->o.write ? "true" : "false", c->random ? "true" : "false", s,
	       (unsigned long long)r->ops, (unsigned long long)r->all, ops / s,
	       ops * (double)c->o.bs / s / 1e6,
	       ops > 0 ? (double)lat_sum / ops / 1000 : 0,
	       percentile_us(r->ops, 0.50), percentile_us(r->ops, 0.99),
	       (double)lat_max / 1000, ops > 0 ? r->cpu / ops : 0);
}

static int parse_rw(const char *s, struct config *c)
{
	c->random = !strncmp(s, "rand", 4);
	s += c->random ? 4 : 0;
	c->o.write = !strcmp(s, "write");
	return c->o.write || !strcmp(s, "read") ? 0 : -EINVAL;
}

static int parse_backend(const char *s, struct config *c)
{
	static const struct gen_backend *const all[] = {
		&gen_ring, &gen_aio, &gen_nbd,
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (!strcmp(s, all[i]->name))
			c->backend = all[i];
	return c->backend ? 0 : -EINVAL;
}

static int one_option(int id, const char *v, struct config *c)
{
	uint64_t n = 0;
	int err = 0;

	switch (id) {
	case OPT_BACKEND:
		return parse_backend(v, c);
	case OPT_PATH:
		c->o.path = v;
		return 0;
	case OPT_RW:
		return parse_rw(v, c);
	case OPT_BS:
		err = size_parse(v, &n);
		c->o.bs = n;
		return err || !n || n % 512 || n > 32u << 20 ? -EINVAL : 0;
	case OPT_DEPTH:
		err = uint_parse(v, GEN_DEPTH_MAX, &n);
		c->o.depth = (unsigned)n;
		return err || !n ? -EINVAL : 0;
	case OPT_SECONDS:
		return uint_parse(v, 3600000, &c->ms);
	case OPT_RAMP:
		return uint_parse(v, 3600000, &c->ramp_ms);
	case OPT_POLL:
		err = uint_parse(v, 1000000, &n);
		c->o.poll_ns = n * NS_PER_US;
		return err;
	case OPT_CPU:
		c->pin = true;
		return uint_parse(v, CPU_SETSIZE - 1, &c->cpu);
	case OPT_ABI:
		err = uint_parse(v, 3, &n);
		c->o.abi = (unsigned)n;
		return err;
	case OPT_SEED:
		return uint_parse(v, UINT64_MAX, &c->seed);
	case OPT_FLUSH:
		return uint_parse(v, UINT32_MAX, &c->flush_every);
	case OPT_SPAN:
		return size_parse(v, &c->span);
	default:
		return -EINVAL;
	}
}

static void usage(FILE *to)
{
	fputs("usage: gen --backend ring|aio|nbd --path PATH [OPTIONS]\n\n"
	      "Keeps requests in flight and prints a line of JSON.\n\n", to);
	opts_help(options, to);
}

int main(int argc, char **argv)
{
	struct config c = {
		.o = { .bs = 4096, .depth = 1 }, .random = true,
		.ms = 1000, .ramp_ms = 100, .seed = 1,
	};
	struct result r = { 0 };
	struct opts o;
	uint64_t size = 0;
	int id, err;

	opts_init(&o, options, "gen", argc, argv);
	while ((id = opts_next(&o)) != OPT_DONE) {
		if (id == OPT_HELP || id == OPT_VERSION) {
			usage(stdout);
			return 0;
		}
		if (id == OPT_BAD)
			return 2;
		if (one_option(id, o.value, &c)) {
			fprintf(stderr, "gen: bad value '%s'\n", o.value);
			return 2;
		}
	}
	if (!c.backend || !c.o.path || o.next < argc) {
		usage(stderr);
		return 2;
	}
	opts_free(&o);
	rng = c.seed * 0x9e3779b97f4a7c15ull | 1;
	if (c.pin) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(c.cpu, &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			perror("gen: cannot run on that processor");
	}
	err = c.backend->open(&c.o, &size);
	if (!err && c.span && c.span < size)
		size = c.span;
	if (!err && size < c.o.bs)
		err = -ENOSPC;
	if (err) {
		fprintf(stderr, "gen: cannot open %s: %s\n", c.o.path,
			strerror(-err));
		return 1;
	}
	err = run(&c, size, &r);
	if (err) {
		fprintf(stderr, "gen: %s: %s\n", c.o.path, strerror(-err));
		return 1;
	}
	c.backend->close();
	report(&c, &r);
	return 0;
}
