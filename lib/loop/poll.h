/* poll.h - how long to spin before going to sleep.  A policy: pure, no system
 * calls, driven by what the loop tells it.
 *
 * Spinning is worth it while the awaited event tends to come within the
 * budget; and it must never take a processor from somebody who has work.  So
 * spins that gain nothing are tried ever more rarely; a long spin yields the
 * processor now and then (the kernel's own threads finish I/O, and a spin holds
 * them up); and when a gap in it shows that the processor was wanted elsewhere,
 * polling rests, twice as long each time that this happens again soon.
 *
 * With many operations in the kernel there is nothing to gain: one wake-up
 * takes several completions, and while some are awaited others are served.
 */
#ifndef LOOP_POLL_H
#define LOOP_POLL_H

#include <stdbool.h>
#include <stdint.h>

struct poll_policy {
	uint64_t max_ns;	/* the operator's limit; 0 = never poll */
	uint64_t rest_until;	/* polling rests until then */
	uint64_t rest_ns;	/* how long the last rest was */
	unsigned misses;	/* spins in a row that gained nothing */
	unsigned skip;		/* waits to sit out before trying again */
};

void poll_init(struct poll_policy *p, uint64_t max_ns);
/* How long to spin now, ns, with so many operations in the kernel; 0 = sleep
 * at once. */
uint64_t poll_budget(struct poll_policy *p, uint64_t now, unsigned inflight);
/* A wait that began with a spin has ended: the spin saw what came, or not. */
void poll_spun(struct poll_policy *p, bool won);
/* Before a spin, so often: yield; others ran if that took so long. */
#define POLL_PROBE_NS 1000000u
#define POLL_SWITCH_NS 3000u
/* In a spin: yield after so long, and then so often. */
#define POLL_YIELD_AFTER_NS 20000u
#define POLL_YIELD_NS 5000u
/* A turn of the spin that took longer: perhaps somebody else had the
 * processor. */
#define POLL_GAP_NS 30000u
void poll_crowded(struct poll_policy *p, uint64_t now);

#endif
