/* delay.c - makes requests wait before they are passed on.
 *
 * Image name: delay:OPTIONS|CHILD, e.g. delay:ms=5,op=read|aio:/path
 *   ms=N us=N   how long; both given: their sum; at most a minute
 *   op=NAME     which requests (read write flush discard zeroes extents all);
 *               may be given several times; default all
 *
 * Delays do not add up: requests that wait together are passed together.
 */
#include <errno.h>

#include "base/clock.h"
#include "base/size.h"
#include "filters/options.h"
#include "loop/loop.h"
#include "td_driver.h"

#define DELAY_MAX (60 * NS_PER_S)

struct delay {
	unsigned ops;
	uint64_t ns;
};

struct delay_req {
	struct loop_timer timer;
	struct td_node *node;
	struct td_req *r;
};

static int add(struct delay *d, const char *v, uint64_t unit)
{
	uint64_t n;
	int err = uint_parse(v, DELAY_MAX / unit, &n);

	if (err)
		return err;
	d->ns += n * unit;
	return d->ns <= DELAY_MAX ? 0 : -ERANGE;
}

static int set_ms(void *into, const char *v)
{
	return add(into, v, NS_PER_MS);
}

static int set_us(void *into, const char *v)
{
	return add(into, v, NS_PER_US);
}

static int set_op(void *into, const char *v)
{
	return op_parse(v, &((struct delay *)into)->ops);
}

static const struct option options[] = {
	{ "ms", set_ms }, { "us", set_us }, { "op", set_op }, { NULL, NULL }
};

static void delay_open(struct td_node *n, struct td_req *r)
{
	struct delay *d = n->priv;
	int err;

	*d = (struct delay){ 0 };
	err = options_parse(n, options, d);
	if (!err && !d->ns) {
		td_err(n, "no delay given: %s", n->driver->help);
		err = -EINVAL;
	}
	if (!d->ops)
		(void)op_parse("all", &d->ops);
	td_complete(r, err);
}

static void passed(struct td_req *r, int err)
{
	td_complete(r, err);
}

static void waited(struct loop_timer *t)
{
	struct delay_req *q = container_of(t, struct delay_req, timer);

	td_pass(q->node, q->r, passed);
}

static void delay_submit(struct td_node *n, struct td_req *r)
{
	struct delay *d = n->priv;
	struct delay_req *q = td_ctx(n, r);

	if (!(d->ops & (1u << r->op))) {
		td_pass(n, r, passed);
		return;
	}
	q->node = n;
	q->r = r;
	loop_timer_init(&q->timer, waited);
	loop_timer_set(n->env->loop, &q->timer, d->ns);
}

static void delay_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	td_complete(r, 0);
}

const struct td_driver td_filter_delay = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_FILTER,
	.name	= "delay",
	.help	= "delay:[ms=N],[us=N],[op=read|write|flush|discard|zeroes|extents|"
		  "all]|CHILD  makes requests wait",
	.caps	= TD_CAP_ALL,
	.node_ctx = sizeof(struct delay),
	.req_ctx = sizeof(struct delay_req),
	.open	= delay_open,
	.submit	= delay_submit,
	.close	= delay_close,
};
