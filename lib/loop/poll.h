/* poll.h - how long to spin before going to sleep.  A policy: pure, no system
 * calls, driven by what the loop tells it.
 *
 * Spinning is worth it while the awaited event tends to come within the
 * budget; and it must never take a processor from somebody who has work.  So
 * the budget follows what waits have lately taken, and as soon as a gap in the
 * spin shows that the processor was wanted elsewhere, polling rests, twice as
 * long each time that happens again.
 */
#ifndef LOOP_POLL_H
#define LOOP_POLL_H

#include <stdbool.h>
#include <stdint.h>

struct poll_policy {
	uint64_t max_ns;	/* the operator's limit; 0 = never poll */
	uint64_t wait_ns;	/* moving average of recent waits */
	uint64_t rest_until;	/* polling rests until then */
	uint64_t rest_ns;	/* how long the next rest is */
	unsigned misses;	/* spins in a row that gained nothing */
	unsigned skip;		/* waits to sit out before trying again */
};

void poll_init(struct poll_policy *p, uint64_t max_ns);
/* How long to spin now, ns; 0 = sleep at once. */
uint64_t poll_budget(struct poll_policy *p, uint64_t now);
/* A wait has ended: it took waited_ns, and spinning did or did not see it. */
void poll_waited(struct poll_policy *p, uint64_t waited_ns, bool spun, bool won);
/* A turn of the spin took gap_ns: somebody else had the processor if long. */
#define POLL_GAP_NS 30000u
void poll_crowded(struct poll_policy *p, uint64_t now);

#endif
