/* power_cut.h - what a power cut may leave of the files of a mem_store, from its
 * record.
 *
 * On stable storage is what had ended before a flush of the same file began that
 * ended well; and a write with FUA that has ended.  Of the rest that had begun, any
 * part may be there: whole operations or single sectors, in any combination; only
 * changes of a file's size come in their order.
 */
#ifndef TESTS_POWER_CUT_H
#define TESTS_POWER_CUT_H

#include "mem_store.h"

enum power_cut_how {
	CUT_DONE,		/* all that had ended is there */
	CUT_BEGUN,		/* and what was under way too */
	CUT_STABLE,		/* only what was on stable storage */
	CUT_SOME,		/* some operations are there, whole */
	CUT_TORN,		/* some sectors */
	CUT_ONE,		/* one operation, beside what is stable */
	CUT_BUT_ONE,		/* all but one */
	CUT_HOWS
};
extern const char *const power_cut_name[CUT_HOWS];

struct power_cut {
	const struct mem_store *m;
	uint64_t at;		/* the clock: what begins or ends then has not yet */
	struct mem_image stable[MEM_FILES];

	/* Private. */
	size_t *event;		/* by clock: which operation begins or ends */
	uint64_t from, to;	/* of event */
	size_t *pending, n;	/* begun and not in `stable` */
	bool *must;		/* of the record: stable all the same */
};

/* `start`: the files as they were when the record began. */
void power_cut_init(struct power_cut *c, const struct mem_store *m,
		    const struct mem_image *start);
void power_cut_free(struct power_cut *c);
void power_cut_go(struct power_cut *c, uint64_t at);	/* forward only */
/* The files after a cut at this time; `which`, any number, chooses. */
void power_cut_build(const struct power_cut *c, enum power_cut_how how,
		     uint64_t which, struct mem_image *files);

#endif
