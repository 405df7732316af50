/* poll.c - see poll.h.
 *
 * Spins that gained nothing are followed by ever more waits without a spin, so
 * an idle disk costs nothing; but one is tried again in the end, for a wait that
 * was slept through says little about how long a spin would have taken.
 */
#include "loop/poll.h"

#define LOOK_NS 5000000ull		/* between two looks at the account */
#define REST_MIN_NS 10000000ull
#define REST_MAX_NS 1000000000ull
#define CALM_RESTS 8u			/* this many rests without a crowd: calm */
#define SKIP_MAX 256u
#define DEEP 4u				/* operations in the kernel: sleep */

/* Processors are short when queueing for one took more than this part of the
 * time, and each turn was waited for longer than a mere wake-up takes. */
#define CROWD_PART 50u
#define CROWD_TURN_NS 25000u

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

bool poll_look_due(const struct poll_policy *p, uint64_t now)
{
	return !p->looked_at || now - p->looked_at >= LOOK_NS;
}

static void rest(struct poll_policy *p, uint64_t now)
{
	bool calm = now - p->rest_until > CALM_RESTS * p->rest_ns;

	p->rest_ns = calm ? REST_MIN_NS :
		     2 * p->rest_ns < REST_MAX_NS ? 2 * p->rest_ns : REST_MAX_NS;
	p->rest_until = now + p->rest_ns;
}

void poll_look(struct poll_policy *p, uint64_t now, const struct poll_account *a)
{
	uint64_t queued = a->queued_ns - p->account.queued_ns;
	uint64_t turns = a->turns - p->account.turns;

	if (p->looked_at && queued > (now - p->looked_at) / CROWD_PART &&
	    queued > turns * CROWD_TURN_NS)
		rest(p, now);
	p->looked_at = now;
	p->account = *a;
}
