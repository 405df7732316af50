/* list.h - intrusive doubly linked list, circular with a head. */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name) { &(name), &(name) }

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert(struct list *prev, struct list *e)
{
	e->next = prev->next;
	e->prev = prev;
	prev->next->prev = e;
	prev->next = e;
}

/* Append e at the tail of the list headed by l. */
static inline void list_add(struct list *l, struct list *e)
{
	list_insert(l->prev, e);
}

/* Unlink e and leave it empty: a second list_del() does nothing. */
static inline void list_del(struct list *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	list_init(e);
}

/* First element, unlinked, or NULL. */
static inline struct list *list_pop(struct list *l)
{
	struct list *e = l->next;

	if (e == l)
		return NULL;
	list_del(e);
	return e;
}

#define list_first(l, type, member) container_of((l)->next, type, member)

#define list_for_each(e, l) \
	for (struct list *e = (l)->next; e != (l); e = e->next)

/* As above; the body may unlink e (and nothing else). */
#define list_for_each_safe(e, l)                                            \
	for (struct list *e = (l)->next, *e##_next = e->next; e != (l);     \
	     e = e##_next, e##_next = e->next)

#endif
