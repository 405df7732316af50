/* poll.h - how long to spin before going to sleep.  A policy: pure, no system
 * calls, driven by what the loop tells it.
 *
 * Spinning is worth it while the awaited event tends to come within the
 * budget; and it must never take a processor from somebody who has work.  So
 * spins that gain nothing are tried ever more rarely, and the scheduler's own
 * account of this thread says whether processors are short: a thread that has
 * lately had to queue for one does not poll, and looks again after a rest that
 * doubles each time.
 *
 * With many operations in the kernel there is nothing to gain: one wake-up
 * takes several completions, and while some are awaited others are served.
 */
#ifndef LOOP_POLL_H
#define LOOP_POLL_H

#include <stdbool.h>
#include <stdint.h>

/* Of a thread, since it began: /proc/thread-self/schedstat. */
struct poll_account {
	uint64_t ran_ns;	/* on a processor */
	uint64_t queued_ns;	/* runnable, without one */
	uint64_t turns;		/* times that it got one */
};

struct poll_policy {
	uint64_t max_ns;	/* the operator's limit; 0 = never poll */
	uint64_t rest_until;	/* polling rests until then */
	uint64_t rest_ns;	/* how long the last rest was */
	uint64_t looked_at;	/* when `account` was taken; 0: never */
	struct poll_account account;
	unsigned misses;	/* spins in a row that gained nothing */
	unsigned skip;		/* waits to sit out before trying again */
};

void poll_init(struct poll_policy *p, uint64_t max_ns);
/* How long to spin now, ns, with so many operations in the kernel; 0 = sleep
 * at once. */
uint64_t poll_budget(struct poll_policy *p, uint64_t now, unsigned inflight);
/* Before a spin: is it time to look at the account?  Then poll_look(), and ask
 * for the budget again. */
bool poll_look_due(const struct poll_policy *p, uint64_t now);
void poll_look(struct poll_policy *p, uint64_t now, const struct poll_account *a);
/* A wait that began with a spin has ended: the spin gained something, or not. */
void poll_spun(struct poll_policy *p, bool won);

/* In a spin: yield after so long, and then so often.  The kernel's own threads
 * finish I/O, and a spin holds them up. */
#define POLL_YIELD_AFTER_NS 20000u
#define POLL_YIELD_NS 5000u
#define POLL_LENT_NS 3000u	/* a yield of that long: somebody else ran */

/* In a spin descriptors are looked at with a system call: at first, and then
 * each time that half as much again has passed, up to so long. */
#define POLL_ASK_MAX_NS 4000u

#endif
