/* stats.h - counters of one disk: by operation, with latency histograms. */
#ifndef DISK_STATS_H
#define DISK_STATS_H

#include <stdint.h>

#include "td_req.h"

struct json_t;

#define STATS_OPS (TD_OP_EXTENTS + 1)
#define STATS_BUCKETS 28	/* bucket b: latency < 2^b us; the last: the rest */

struct op_stats {
	uint64_t count, bytes, errors;
	uint64_t total_ns, max_ns;
	uint64_t hist[STATS_BUCKETS];
};

struct disk_stats {
	struct op_stats op[STATS_OPS];
};

static inline void stats_count(struct disk_stats *s, enum td_op op,
			       uint64_t bytes, uint64_t ns, int err)
{
	struct op_stats *o = &s->op[op];
	uint64_t us = ns / 1000;
	unsigned b = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	o->count++;
	if (err)
		o->errors++;
	else
		o->bytes += bytes;
	o->total_ns += ns;
	if (ns > o->max_ns)
		o->max_ns = ns;
	o->hist[b < STATS_BUCKETS ? b : STATS_BUCKETS - 1]++;
}

struct json_t *stats_json(const struct disk_stats *s);

#endif
