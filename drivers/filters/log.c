/* log.c - writes a line for each request that passes, when it is complete:
 *
 *   write 4096 at 1048576 fua: ok, 83 us
 *
 * Image name: log:OPTIONS|CHILD
 *   level=debug  every request, while debug area "node" is on (the default)
 *   level=info   always, but not more than log.h's rate limit allows
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "filters/options.h"
#include "td_driver.h"

struct log_filter {
	bool info;
	struct log_limit limit;
};

struct log_req {
	uint64_t since;		/* ns */
};

static int set_level(void *into, const char *v)
{
	struct log_filter *f = into;

	f->info = !strcmp(v, "info");
	return f->info || !strcmp(v, "debug") ? 0 : -EINVAL;
}

static const struct option options[] = {
	{ "level", set_level }, { NULL, NULL }
};

static void log_filter_open(struct td_node *n, struct td_req *r)
{
	td_complete(r, options_parse(n, options, n->priv));
}

static void say(const struct td_req *r, int err, uint64_t ns,
		enum log_level level)
{
	log_write(level, "%s %llu at %llu%s%s%s: %s, %llu us", op_name(r->op),
		  (unsigned long long)r->length, (unsigned long long)r->offset,
		  r->flags & TD_REQ_FUA ? " fua" : "",
		  r->flags & TD_REQ_NO_HOLE ? " no-hole" : "",
		  r->flags & TD_REQ_FAST ? " fast" : "",
		  err ? strerror(-err) : "ok",
		  (unsigned long long)(ns / NS_PER_US));
}

static void passed(struct td_req *r, int err)
{
	struct log_filter *f = r->node->priv;
	struct log_req *q = td_ctx(r->node, r);

	if (!q->since)
		;		/* nobody listened when it came */
	else if (!f->info)
		say(r, err, clock_ns() - q->since, LOG_LVL_DEBUG);
	else if (log_allowed(&f->limit))
		say(r, err, clock_ns() - q->since, LOG_LVL_INFO);
	td_complete(r, err);
}

static void log_filter_submit(struct td_node *n, struct td_req *r)
{
	struct log_filter *f = n->priv;
	struct log_req *q = td_ctx(n, r);

	q->since = f->info || (log_areas & LOG_NODE) ? clock_ns() : 0;
	td_pass(n, r, passed);
}

static void log_filter_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	td_complete(r, 0);
}

const struct td_driver td_filter_log = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_FILTER,
	.name	= "log",
	.help	= "log:[level=debug|info]|CHILD  writes a line for each request",
	.caps	= TD_CAP_ALL,
	.node_ctx = sizeof(struct log_filter),
	.req_ctx = sizeof(struct log_req),
	.open	= log_filter_open,
	.submit	= log_filter_submit,
	.close	= log_filter_close,
};
