/* loop.h - the event loop: descriptors, timers, deferred work, and the hooks
 * that make one pass cheap.
 *
 * One pass:
 *   1. deferred work and LOOP_SUBMIT hooks, in turn, until both are quiet
 *      (requests completed; all new I/O given to the kernel, in few calls);
 *   2. LOOP_PUSH hooks (all answers pushed; one notification a peer);
 *   3. expired timers;
 *   4. if nothing is due: poll (LOOP_POLL hooks, for as long as the policy of
 *      loop/poll.h allows), then LOOP_SLEEP hooks (arm notifications, look once
 *      more), then epoll_wait;
 *   5. ready descriptors.
 *
 * A loop belongs to one thread; only loop_wake() may be called from another.
 * Callbacks never nest, and may add and remove anything, themselves included.
 * Structures are the caller's and must stay until removed.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct loop;

struct loop *loop_new(void);	/* NULL and errno */
void loop_free(struct loop *l);	/* nothing may be left in it */
void loop_run(struct loop *l);	/* until loop_stop() */
void loop_stop(struct loop *l);

/* The time, CLOCK_MONOTONIC, ns: read once a pass, when first asked for. */
uint64_t loop_now(struct loop *l);

/* Descriptors.  events: EPOLLIN, EPOLLOUT, EPOLLET, ...; fn gets what is ready
 * (EPOLLHUP and EPOLLERR always may be).  The descriptor stays the caller's. */
struct loop_fd {
	int fd;
	void (*fn)(struct loop_fd *f, uint32_t events);
};
int loop_fd_add(struct loop *l, struct loop_fd *f, uint32_t events);
int loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events);
void loop_fd_del(struct loop *l, struct loop_fd *f);

/* Timers.  One shot; a timer that is set again moves.  Cheapest when deadlines
 * are set in rising order. */
struct loop_timer {
	struct list link;
	uint64_t at;		/* ns */
	void (*fn)(struct loop_timer *t);
};
void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t));
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t delay_ns);
void loop_timer_clear(struct loop_timer *t);	/* not set: nothing happens */
static inline bool loop_timer_is_set(const struct loop_timer *t)
{
	return !list_empty(&t->link);
}

/* Deferred work: runs once, soon, never inside loop_defer(). */
struct loop_work {
	struct list link;
	void (*fn)(struct loop_work *w);
};
void loop_work_init(struct loop_work *w, void (*fn)(struct loop_work *w));
void loop_defer(struct loop *l, struct loop_work *w);	/* again: no effect */
void loop_work_cancel(struct loop_work *w);

/* Hooks, called in the order of their adding.  A hook returns true if it found
 * something to do (so the loop does not go to sleep). */
enum loop_phase { LOOP_SUBMIT, LOOP_PUSH, LOOP_POLL, LOOP_SLEEP, LOOP_PHASES };
struct loop_hook {
	struct list link;
	bool (*fn)(struct loop_hook *h);
};
void loop_hook_add(struct loop *l, enum loop_phase p, struct loop_hook *h,
		   bool (*fn)(struct loop_hook *h));
void loop_hook_del(struct loop_hook *h);

/* Signals as events: blocked in the process, delivered as `fn(l, signo)` from
 * the loop.  Call once, before any thread is made. */
int loop_signals(struct loop *l, const int *signos, unsigned n,
		 void (*fn)(struct loop *l, int signo));

/* From any thread: make the loop run a pass soon. */
void loop_wake(struct loop *l);

/* The adaptive-polling policy of this loop (loop/poll.h); 0 turns polling off.
 * From the loop's thread. */
void loop_poll_max(struct loop *l, uint64_t max_ns);

/* Polling also looks at descriptors while it spins (with system calls, so not
 * every turn): for peers that are reached by sockets.  Counted. */
void loop_poll_fds(struct loop *l, int delta);

/* So many more operations are in the kernel's hands (or fewer): the policy of
 * polling takes them into account. */
void loop_in_kernel(struct loop *l, int delta);

struct loop_stats {
	uint64_t passes, sleeps, polls, polls_won;
};
const struct loop_stats *loop_stats(const struct loop *l);

#endif
