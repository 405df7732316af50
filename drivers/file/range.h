/* range.h - who may work where: serialises requests to one file that must not
 * overlap in time, first come first served.
 *
 * An exclusive range (read-modify-write of a host block, fallocate, a write through
 * the page cache) waits for every earlier range that it overlaps, and every later one
 * that overlaps it waits for it.  Plain ranges (direct writes of whole blocks, reads
 * that have to wait) do not wait for each other.
 * While there is no exclusive range, entering and leaving cost a list insert
 * and a list removal.  Pure.
 */
#ifndef FILE_RANGE_H
#define FILE_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct range {
	struct list link;
	uint64_t start, end;	/* bytes; end is behind the last */
	bool excl;
	unsigned blockers;	/* earlier ranges that we wait for */
	struct list turn;	/* on range_leave()'s list of those who may go */
	/* It may go now; called inside range_leave() of another one, and may
	 * leave at once (a request that fails before its first byte). */
	void (*ready)(struct range *r);
};

struct ranges {
	struct list all;	/* running and waiting, in order of arrival */
	unsigned excl;		/* how many of them are exclusive */
	unsigned waiting;
};

void ranges_init(struct ranges *s);
/* start, end, excl and ready are filled.  True: go; false: wait for ready(). */
bool range_enter(struct ranges *s, struct range *r);
void range_leave(struct ranges *s, struct range *r);

#endif
