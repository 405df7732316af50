/* poll.c - see poll.h.
 *
 * Spins that gained nothing are followed by ever more waits without a spin, so
 * an idle disk costs nothing; but one is tried again in the end, for a wait that
 * was slept through says little about how long a spin would have taken.
 */
#include "loop/poll.h"

#define REST_MIN_NS 10000000ull		/* 10 ms */
#define REST_MAX_NS 1000000000ull
#define CALM_RESTS 8u			/* this many rests without a gap: calm */
#define SKIP_MAX 256u
#define DEEP 4u				/* operations in the kernel: sleep */

void poll_init(struct poll_policy *p, uint64_t max_ns)
{
	*p = (struct poll_policy){ .max_ns = max_ns, .rest_ns = REST_MIN_NS };
}

uint64_t poll_budget(struct poll_policy *p, uint64_t now, unsigned inflight)
{
	if (!p->max_ns || now < p->rest_until || inflight >= DEEP)
		return 0;
	if (p->skip) {
		p->skip--;
		return 0;
	}
	return p->max_ns;
}

void poll_spun(struct poll_policy *p, bool won)
{
	if (won) {
		p->misses = 0;
		return;
	}
	if (p->misses < 8)
		p->misses++;
	p->skip = (1u << p->misses) < SKIP_MAX ? 1u << p->misses : SKIP_MAX;
}

void poll_crowded(struct poll_policy *p, uint64_t now)
{
	bool calm = now - p->rest_until > CALM_RESTS * p->rest_ns;

	p->rest_ns = calm ? REST_MIN_NS :
		     2 * p->rest_ns < REST_MAX_NS ? 2 * p->rest_ns : REST_MAX_NS;
	p->rest_until = now + p->rest_ns;
}
