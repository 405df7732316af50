/* poll.c - see poll.h.
 *
 * The average of recent waits says whether spinning can pay: a wait that takes
 * longer than the budget is slept through.  Spins that gained nothing are
 * followed by ever more waits without a spin, so an idle disk costs nothing.
 */
#include "loop/poll.h"

#define REST_MIN_NS 1000000ull		/* 1 ms */
#define REST_MAX_NS 1000000000ull
#define SKIP_MAX 256u

void poll_init(struct poll_policy *p, uint64_t max_ns)
{
	*p = (struct poll_policy){ .max_ns = max_ns, .rest_ns = REST_MIN_NS };
}

uint64_t poll_budget(struct poll_policy *p, uint64_t now)
{
	if (!p->max_ns || now < p->rest_until)
		return 0;
	if (p->skip) {
		p->skip--;
		return 0;
	}
	/* Not worth it when waits are usually longer; but try now and then. */
	if (p->wait_ns > p->max_ns && p->misses)
		return 0;
	return p->max_ns;
}

void poll_waited(struct poll_policy *p, uint64_t waited_ns, bool spun, bool won)
{
	/* One long idle wait must not outweigh the busy times around it. */
	uint64_t w = waited_ns < 4 * p->max_ns ? waited_ns : 4 * p->max_ns;

	p->wait_ns = p->wait_ns - p->wait_ns / 8 + w / 8;
	if (!spun)
		return;
	if (won) {
		p->misses = 0;
		p->rest_ns = REST_MIN_NS;
		return;
	}
	if (p->misses < 8)
		p->misses++;
	p->skip = (1u << p->misses) < SKIP_MAX ? 1u << p->misses : SKIP_MAX;
}

void poll_crowded(struct poll_policy *p, uint64_t now)
{
	p->rest_until = now + p->rest_ns;
	if (p->rest_ns < REST_MAX_NS)
		p->rest_ns *= 2;
}
