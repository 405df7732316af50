/* stats.c - see stats.h. */
#include "disk/stats.h"

#include <jansson.h>

static const char *const op_names[STATS_OPS] = {
	[TD_OP_READ] = "read", [TD_OP_WRITE] = "write", [TD_OP_FLUSH] = "flush",
	[TD_OP_DISCARD] = "discard", [TD_OP_ZEROES] = "write_zeroes",
	[TD_OP_EXTENTS] = "block_status",
};

/* Buckets up to the last that is not empty: [<1us, <2us, <4us, ...]. */
static json_t *hist_json(const struct op_stats *o)
{
	json_t *a = json_array();
	unsigned n = STATS_BUCKETS;

	while (n && !o->hist[n - 1])
		n--;
	for (unsigned b = 0; b < n; b++)
		json_array_append_new(a, json_integer((json_int_t)o->hist[b]));
	return a;
}

json_t *stats_json(const struct disk_stats *s)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < STATS_OPS; i++) {
		const struct op_stats *o = &s->op[i];

		json_object_set_new(all, op_names[i], json_pack(
			"{s:I, s:I, s:I, s:I, s:I, s:o}",
			"count", (json_int_t)o->count,
			"bytes", (json_int_t)o->bytes,
			"errors", (json_int_t)o->errors,
			"total_us", (json_int_t)(o->total_ns / 1000),
			"max_us", (json_int_t)(o->max_ns / 1000),
			"latency_us_log2", hist_json(o)));
	}
	return all;
}
