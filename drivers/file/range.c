/* range.c - see range.h.
 *
 * I1  r->blockers is the number of ranges before r in `all` that conflict with
 *     it.  Nothing is ever put before r, and each range that leaves takes itself
 *     off the counts of those behind it: so r goes exactly when the last range
 *     that came before it and conflicts has left, and nobody is overtaken.
 */
#include "file/range.h"

#include "base/log.h"

static bool conflict(const struct range *a, const struct range *b)
{
	return (a->excl || b->excl) && a->start < b->end && b->start < a->end;
}

void ranges_init(struct ranges *s)
{
	*s = (struct ranges){ .all = LIST_INIT(s->all) };
}

bool range_enter(struct ranges *s, struct range *r)
{
	r->blockers = 0;
	if (s->excl || r->excl)
		list_for_each(e, &s->all)
			r->blockers += conflict(
				r, container_of(e, struct range, link));
	list_add(&s->all, &r->link);
	s->excl += r->excl;
	s->waiting += r->blockers != 0;
	return !r->blockers;
}

/* Count first, call then: whoever is called may leave, and change the list. */
void range_leave(struct ranges *s, struct range *r)
{
	struct list *next = r->link.next, go = LIST_INIT(go), *turn;

	ASSERT(!r->blockers);
	list_del(&r->link);
	if (s->excl) {
		for (struct list *e = next; e != &s->all; e = e->next) {
			struct range *o = container_of(e, struct range, link);

			if (conflict(r, o) && !--o->blockers) {
				s->waiting--;
				list_add(&go, &o->turn);
			}
		}
	}
	s->excl -= r->excl;
	while ((turn = list_pop(&go))) {
		struct range *o = container_of(turn, struct range, turn);

		o->ready(o);
	}
}
