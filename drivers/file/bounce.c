/* bounce.c - see bounce.h.
 *
 * I1  made counts buffers in existence, nfree those of them in bufs[].
 * I2  Somebody waits only while none is free and no more can be had.  If not
 *     even the first can be had the system is out of address space: the
 *     waiter is tried again by the timer.
 */
#include "file/bounce.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/log.h"

#define TRIM_NS NS_PER_S
#define RETRY_NS (10 * NS_PER_MS)

static void *take(struct bounce *b)
{
	void *p;

	b->used = true;
	if (b->nfree)
		return b->bufs[--b->nfree];
	if (b->made == BOUNCE_MAX)
		return NULL;
	p = mmap(NULL, BOUNCE_BYTES, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	b->made++;
	return p;
}

static void trim(struct loop_timer *t)
{
	struct bounce *b = container_of(t, struct bounce, trim);

	while (!list_empty(&b->waiting)) {
		struct bounce_wait *w =
			list_first(&b->waiting, struct bounce_wait, link);
		void *p = take(b);

		if (!p)
			break;
		list_del(&w->link);
		w->ready(w, p);
	}
	if (!b->used) {
		while (b->nfree) {
			munmap(b->bufs[--b->nfree], BOUNCE_BYTES);
			b->made--;
		}
	}
	b->used = false;
	if (b->made || !list_empty(&b->waiting))
		loop_timer_set(b->loop, t,
			       list_empty(&b->waiting) ? TRIM_NS : RETRY_NS);
}

void bounce_init(struct bounce *b, struct loop *l)
{
	*b = (struct bounce){ .loop = l, .waiting = LIST_INIT(b->waiting) };
	loop_timer_init(&b->trim, trim);
}

void bounce_free(struct bounce *b)
{
	ASSERT(b->nfree == b->made && list_empty(&b->waiting));
	loop_timer_clear(&b->trim);
	while (b->nfree)
		munmap(b->bufs[--b->nfree], BOUNCE_BYTES);
}

void *bounce_get(struct bounce *b, struct bounce_wait *w)
{
	void *p = list_empty(&b->waiting) ? take(b) : NULL;

	if (!p)
		list_add(&b->waiting, &w->link);
	if (!loop_timer_is_set(&b->trim))
		loop_timer_set(b->loop, &b->trim, p ? TRIM_NS : RETRY_NS);
	return p;
}

void bounce_put(struct bounce *b, void *buf)
{
	struct list *e = list_pop(&b->waiting);

	if (e) {
		struct bounce_wait *w = container_of(e, struct bounce_wait, link);

		w->ready(w, buf);
		return;
	}
	b->bufs[b->nfree++] = buf;
}
