/* loop.c - see loop.h.
 *
 * I1  A descriptor's callback never runs after loop_fd_del(): events of the
 *     batch in hand that belong to it are blanked.
 * I2  A pass that found work never sleeps; before sleeping every LOOP_SLEEP
 *     hook has armed its notification and looked once more.
 * I3  While work keeps coming without a sleep, epoll is asked (without waiting)
 *     at least every SPIN_PASSES passes: polling starves no descriptor.
 */
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "loop/poll.h"

#define EVENTS 64
#define SPIN_PASSES 32

struct loop {
	int epfd;
	bool stop;
	bool coarse;		/* epoll knows milliseconds only */
	int in_kernel;		/* operations that will end by themselves */
	int poll_fds;		/* who wants descriptors looked at in spins */
	int schedstat;		/* of this thread; -1: not to be had */
	unsigned unslept;	/* passes since epoll was last asked */
	uint64_t now;		/* of this pass; 0: not asked for yet */
	struct list timers;	/* by deadline, earliest first */
	struct list work;
	struct list hooks[LOOP_PHASES];
	struct poll_policy poll;
	struct loop_stats stats;

	struct epoll_event events[EVENTS];	/* the batch in hand */
	int nr_events, cur_event;

	struct loop_fd wake;	/* eventfd: loop_wake() */
	struct loop_fd sig;
	void (*sig_fn)(struct loop *l, int signo);
};

static void wake_ready(struct loop_fd *f, uint32_t events)
{
	/* Edge-triggered and never read: each write is an edge. */
	(void)f;
	(void)events;
}

struct loop *loop_new(void)
{
	struct loop *l = calloc(1, sizeof(*l));
	int err;

	if (!l)
		return NULL;
	list_init(&l->timers);
	list_init(&l->work);
	for (int p = 0; p < LOOP_PHASES; p++)
		list_init(&l->hooks[p]);
	l->sig.fd = l->schedstat = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		goto fail_free;
	l->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake.fd < 0)
		goto fail_epoll;
	l->wake.fn = wake_ready;
	err = loop_fd_add(l, &l->wake, EPOLLIN | EPOLLET);
	if (err) {
		errno = -err;
		goto fail_wake;
	}
	return l;
fail_wake:
	close(l->wake.fd);
fail_epoll:
	close(l->epfd);
fail_free:
	free(l);
	return NULL;
}

void loop_free(struct loop *l)
{
	ASSERT(list_empty(&l->timers) && list_empty(&l->work));
	if (l->sig.fd >= 0)
		close(l->sig.fd);
	if (l->schedstat >= 0)
		close(l->schedstat);
	close(l->wake.fd);
	close(l->epfd);
	free(l);
}

void loop_stop(struct loop *l)
{
	l->stop = true;
}

uint64_t loop_now(struct loop *l)
{
	if (!l->now)
		l->now = clock_ns();
	return l->now;
}

const struct loop_stats *loop_stats(const struct loop *l)
{
	return &l->stats;
}

/* Descriptors. */

static int fd_ctl(struct loop *l, int op, struct loop_fd *f, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = f };

	return epoll_ctl(l->epfd, op, f->fd, &ev) ? -errno : 0;
}

int loop_fd_add(struct loop *l, struct loop_fd *f, uint32_t events)
{
	return fd_ctl(l, EPOLL_CTL_ADD, f, events);
}

int loop_fd_mod(struct loop *l, struct loop_fd *f, uint32_t events)
{
	return fd_ctl(l, EPOLL_CTL_MOD, f, events);
}

void loop_fd_del(struct loop *l, struct loop_fd *f)
{
	int err = fd_ctl(l, EPOLL_CTL_DEL, f, 0);

	ASSERT(!err);
	for (int i = l->cur_event; i < l->nr_events; i++)	/* I1 */
		if (l->events[i].data.ptr == f)
			l->events[i].data.ptr = NULL;
}

void loop_wake(struct loop *l)
{
	uint64_t one = 1;
	ssize_t n = write(l->wake.fd, &one, sizeof(one));

	/* It can only fail when the counter is full, after 2^64 - 2 wakes. */
	ASSERT(n == sizeof(one));
}

/* Signals. */

static void sig_ready(struct loop_fd *f, uint32_t events)
{
	struct loop *l = container_of(f, struct loop, sig);
	struct signalfd_siginfo si;

	(void)events;
	while (read(f->fd, &si, sizeof(si)) == sizeof(si))
		l->sig_fn(l, (int)si.ssi_signo);
}

int loop_signals(struct loop *l, const int *signos, unsigned n,
		 void (*fn)(struct loop *l, int signo))
{
	sigset_t set;
	int err;

	sigemptyset(&set);
	for (unsigned i = 0; i < n; i++)
		sigaddset(&set, signos[i]);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	l->sig.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (l->sig.fd < 0)
		return -errno;
	l->sig.fn = sig_ready;
	l->sig_fn = fn;
	err = loop_fd_add(l, &l->sig, EPOLLIN);
	if (err) {
		close(l->sig.fd);
		l->sig.fd = -1;
	}
	return err;
}

/* Timers: a sorted list, searched from its end, where new deadlines belong
 * when delays are alike. */

void loop_timer_init(struct loop_timer *t, void (*fn)(struct loop_timer *t))
{
	list_init(&t->link);
	t->fn = fn;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t delay_ns)
{
	struct list *at;

	list_del(&t->link);
	t->at = clock_ns() + delay_ns;
	for (at = l->timers.prev; at != &l->timers; at = at->prev)
		if (container_of(at, struct loop_timer, link)->at <= t->at)
			break;
	list_insert(at, &t->link);
}

void loop_timer_clear(struct loop_timer *t)
{
	list_del(&t->link);
}

static bool run_timers(struct loop *l)
{
	bool any = false;

	while (!list_empty(&l->timers)) {
		struct loop_timer *t =
			list_first(&l->timers, struct loop_timer, link);

		if (t->at > l->now)
			break;
		list_del(&t->link);
		t->fn(t);
		any = true;
	}
	return any;
}

/* Deferred work. */

void loop_work_init(struct loop_work *w, void (*fn)(struct loop_work *w))
{
	list_init(&w->link);
	w->fn = fn;
}

void loop_defer(struct loop *l, struct loop_work *w)
{
	if (list_empty(&w->link))
		list_add(&l->work, &w->link);
}

void loop_work_cancel(struct loop_work *w)
{
	list_del(&w->link);
}

static void run_work(struct loop *l)
{
	struct list *e;

	while ((e = list_pop(&l->work))) {
		struct loop_work *w = container_of(e, struct loop_work, link);

		w->fn(w);
	}
}

/* Hooks. */

void loop_hook_add(struct loop *l, enum loop_phase p, struct loop_hook *h,
		   bool (*fn)(struct loop_hook *h))
{
	h->fn = fn;
	list_add(&l->hooks[p], &h->link);
}

void loop_hook_del(struct loop_hook *h)
{
	list_del(&h->link);
}

static bool run_hooks(struct loop *l, enum loop_phase p)
{
	struct list *head = &l->hooks[p], mark;
	bool any = false;

	/* The mark stays in the list behind the hook that runs, so that a hook
	 * may remove any hook. */
	list_init(&mark);
	for (struct list *e = head->next; e != head; e = mark.next) {
		struct loop_hook *h = container_of(e, struct loop_hook, link);

		list_del(&mark);
		list_insert(e, &mark);
		any |= h->fn(h);
	}
	list_del(&mark);
	return any;
}

/* Polling. */

void loop_poll_max(struct loop *l, uint64_t max_ns)
{
	/* Opened here: a sandbox may follow. */
	if (max_ns && l->schedstat < 0)
		l->schedstat = open("/proc/thread-self/schedstat",
				    O_RDONLY | O_CLOEXEC);
	poll_init(&l->poll, max_ns);
}

void loop_poll_fds(struct loop *l, int delta)
{
	l->poll_fds += delta;
	ASSERT(l->poll_fds >= 0);
}

void loop_in_kernel(struct loop *l, int delta)
{
	l->in_kernel += delta;
	ASSERT(l->in_kernel >= 0);
}

/* Ask epoll for at most timeout_ns (0: do not wait, UINT64_MAX: for ever); true
 * if something is ready (it is in l->events). */
static bool ask_epoll(struct loop *l, uint64_t timeout_ns)
{
	struct timespec ts = { .tv_sec = (time_t)(timeout_ns / NS_PER_S),
			       .tv_nsec = (long)(timeout_ns % NS_PER_S) };
	int n;

	l->unslept = 0;
	if (!timeout_ns || timeout_ns == UINT64_MAX) {
		n = epoll_wait(l->epfd, l->events, EVENTS, timeout_ns ? -1 : 0);
	} else {
		/* Milliseconds are too coarse for a delay filter's timer; but
		 * Linux before 5.11 has nothing finer. */
		n = -1;
		if (!l->coarse)
			n = epoll_pwait2(l->epfd, l->events, EVENTS, &ts, NULL);
		l->coarse |= n < 0 && errno == ENOSYS;
		if (l->coarse)
			n = epoll_wait(l->epfd, l->events, EVENTS,
				       timeout_ns > 1000000 * NS_PER_MS ? 1000000 :
				       (int)(timeout_ns / NS_PER_MS + 1));
	}
	ASSERT(n >= 0 || errno == EINTR);
	l->nr_events = n < 0 ? 0 : n;
	l->cur_event = 0;
	return n > 0;
}

/* How this thread has fared with the scheduler; false: it is not known. */
static bool read_account(struct loop *l, struct poll_account *a)
{
	unsigned long long ran, queued, turns;
	char text[96];
	ssize_t n = pread(l->schedstat, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return false;
	text[n] = '\0';
	if (sscanf(text, "%llu %llu %llu", &ran, &queued, &turns) != 3)
		return false;
	*a = (struct poll_account){ ran, queued, turns };
	return true;
}

/* How long to spin, after a look at the account if that is due. */
static uint64_t spin_budget(struct loop *l)
{
	uint64_t budget = poll_budget(&l->poll, l->now, (unsigned)l->in_kernel);
	struct poll_account a;

	if (!budget || !poll_look_due(&l->poll, l->now))
		return budget;
	if (!read_account(l, &a)) {
		loop_poll_max(l, 0);	/* who cannot tell must not spin */
		return 0;
	}
	poll_look(&l->poll, l->now, &a);
	return poll_budget(&l->poll, l->now, (unsigned)l->in_kernel);
}

/* When a spin that began at `start` asks epoll next: soon at first, then more
 * rarely, for each time is a system call. */
static uint64_t next_ask(uint64_t start, uint64_t now)
{
	uint64_t gap = (now - start) / 2;

	return now + (gap < POLL_ASK_MAX_NS ? gap : POLL_ASK_MAX_NS);
}

/* Spin for up to budget ns; true if something has come.  *gained: and sooner
 * than a sleep would have brought it.  What a peer brought while it had our
 * processor is no gain: it could have had that at once.  (The kernel's threads
 * do so too; but where they have work, a processor that is awake is a gain.) */
static bool spin(struct loop *l, uint64_t budget, bool *gained)
{
	uint64_t start = l->now, t = start, ask_at = start;
	uint64_t yield_at = start + POLL_YIELD_AFTER_NS;
	bool found, lent = false;

	l->stats.polls++;
	for (;;) {
		found = run_hooks(l, LOOP_POLL);
		if (!found && l->poll_fds && t >= ask_at) {
			found = ask_epoll(l, 0);
			ask_at = next_ask(start, t);
		}
		if (found)
			break;
		t = clock_ns();
		lent = t > yield_at;
		if (lent) {
			uint64_t from = t;

			sched_yield();
			t = clock_ns();
			yield_at = t + POLL_YIELD_NS;
			lent = t - from >= POLL_LENT_NS;
		}
		if (t - start >= budget)
			break;
		__builtin_ia32_pause();
	}
	l->now = t;
	*gained = found && !(lent && !l->in_kernel);
	l->stats.polls_won += *gained;
	return found;
}

static uint64_t time_left(const struct loop *l)
{
	const struct loop_timer *t;

	if (list_empty(&l->timers))
		return UINT64_MAX;
	t = list_first(&l->timers, struct loop_timer, link);
	return t->at > l->now ? t->at - l->now : 0;
}

/* Nothing is due: poll, then sleep, until something is. */
static void wait(struct loop *l)
{
	uint64_t left, budget;

	l->now = clock_ns();
	left = time_left(l);
	if (!left)
		return;
	budget = spin_budget(l);
	if (budget) {
		bool gained, found = spin(l, budget < left ? budget : left,
					  &gained);

		poll_spun(&l->poll, gained);
		if (found)
			return;
		left = time_left(l);
	}
	if (run_hooks(l, LOOP_SLEEP))		/* I2 */
		return;
	l->stats.sleeps++;
	ask_epoll(l, left);
	l->now = clock_ns();
}

static void dispatch(struct loop *l)
{
	while (l->cur_event < l->nr_events) {
		struct epoll_event *ev = &l->events[l->cur_event++];
		struct loop_fd *f = ev->data.ptr;

		if (f)
			f->fn(f, ev->events);
	}
	l->nr_events = l->cur_event = 0;
}

void loop_run(struct loop *l)
{
	l->stop = false;
	while (!l->stop) {
		bool busy;

		l->stats.passes++;
		l->now = 0;
		do
			run_work(l);
		while (run_hooks(l, LOOP_SUBMIT) || !list_empty(&l->work));
		busy = run_hooks(l, LOOP_PUSH);
		if (!list_empty(&l->timers)) {
			l->now = clock_ns();
			busy |= run_timers(l);
		}
		busy |= !list_empty(&l->work) || run_hooks(l, LOOP_POLL);
		if (l->stop)
			break;
		if (!busy)
			wait(l);
		else if (++l->unslept >= SPIN_PASSES)	/* I3 */
			ask_epoll(l, 0);
		dispatch(l);
	}
}
