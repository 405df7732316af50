/* error.c - makes requests fail, to see what those above do about it.
 *
 * Image name: error:OPTIONS|CHILD, e.g. error:rate=1%,op=write,errno=ENOSPC|...
 *   op=NAME     which requests (read write flush discard zeroes extents all);
 *               may be given several times; default all
 *   rate=N%     how many of them fail, up to three decimals; default 100%
 *   errno=NAME  with which error, ENOSPC or 28; default EIO
 *   after=N     not the first N of them
 *   count=N     only N failures, then no more
 *   seed=N      of the dice; the same seed fails the same requests
 *
 * A request that fails is not passed on: nothing below has happened.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/size.h"
#include "filters/options.h"
#include "td_driver.h"

#define RATE_ALL 100000u	/* thousandths of a percent */

struct error_filter {
	unsigned ops;
	unsigned rate;
	int err;
	uint64_t after, count;
	uint64_t dice;
	struct log_limit limit;
};

static int set_op(void *into, const char *v)
{
	return op_parse(v, &((struct error_filter *)into)->ops);
}

/* "1", "0.5%", "100%" */
static int set_rate(void *into, const char *v)
{
	struct error_filter *e = into;
	unsigned whole = 0, part = 0, unit = 1000;

	if (*v < '0' || *v > '9')
		return -EINVAL;
	for (; *v >= '0' && *v <= '9' && whole <= 100; v++)
		whole = whole * 10 + (unsigned)(*v - '0');
	if (*v == '.')
		for (v++; *v >= '0' && *v <= '9' && unit > 1; v++) {
			unit /= 10;
			part += unit * (unsigned)(*v - '0');
		}
	if (strcmp(v, "%") && *v)
		return -EINVAL;
	e->rate = whole * 1000 + part;
	return e->rate <= RATE_ALL ? 0 : -ERANGE;
}

static int set_errno(void *into, const char *v)
{
	struct error_filter *e = into;
	uint64_t n;

	if (!uint_parse(v, 4095, &n)) {
		e->err = -(int)n;
		return n ? 0 : -EINVAL;
	}
	for (int i = 1; i < 256; i++) {
		const char *name = strerrorname_np(i);

		if (name && !strcmp(name, v)) {
			e->err = -i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_after(void *into, const char *v)
{
	return uint_parse(v, UINT64_MAX, &((struct error_filter *)into)->after);
}

static int set_count(void *into, const char *v)
{
	return uint_parse(v, UINT64_MAX, &((struct error_filter *)into)->count);
}

static int set_seed(void *into, const char *v)
{
	return uint_parse(v, UINT64_MAX, &((struct error_filter *)into)->dice);
}

static const struct option options[] = {
	{ "op", set_op }, { "rate", set_rate }, { "errno", set_errno },
	{ "after", set_after }, { "count", set_count }, { "seed", set_seed },
	{ NULL, NULL }
};

static void error_open(struct td_node *n, struct td_req *r)
{
	struct error_filter *e = n->priv;
	int err;

	*e = (struct error_filter){ .rate = RATE_ALL, .err = -EIO,
				    .count = UINT64_MAX };
	err = options_parse(n, options, e);
	if (!e->ops)
		(void)op_parse("all", &e->ops);
	td_complete(r, err);
}

/* splitmix64: small, seedable, good enough for dice. */
static uint64_t roll(struct error_filter *e)
{
	uint64_t z = e->dice += 0x9e3779b97f4a7c15ull;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static bool must_fail(struct error_filter *e, enum td_op op)
{
	if (!(e->ops & (1u << op)) || !e->count)
		return false;
	if (e->after) {
		e->after--;
		return false;
	}
	if (roll(e) % RATE_ALL >= e->rate)
		return false;
	e->count--;
	return true;
}

static void passed(struct td_req *r, int err)
{
	td_complete(r, err);
}

static void error_submit(struct td_node *n, struct td_req *r)
{
	struct error_filter *e = n->priv;

	if (!must_fail(e, r->op)) {
		td_pass(n, r, passed);
		return;
	}
	if (log_allowed(&e->limit))
		td_warn(n, "%s of %llu bytes at %llu fails, as asked for: %s",
			op_name(r->op), (unsigned long long)r->length,
			(unsigned long long)r->offset, strerror(-e->err));
	td_complete(r, e->err);
}

static void error_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	td_complete(r, 0);
}

const struct td_driver td_filter_error = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_FILTER,
	.name	= "error",
	.help	= "error:[op=read|write|flush|discard|zeroes|extents|all],"
		  "[rate=N%],[errno=NAME],[after=N],[count=N],[seed=N]|CHILD"
		  "  makes requests fail",
	.caps	= TD_CAP_ALL,
	.node_ctx = sizeof(struct error_filter),
	.open	= error_open,
	.submit	= error_submit,
	.close	= error_close,
};
