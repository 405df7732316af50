/* redo_area.c - see redo_area.h.
 *
 * How a change by another is told from ours, when no lock has kept him off: by the
 * ctime of the file, which every write sets, and nobody can set back (mtime: cp -p).
 * The kernel takes it from its clock when a write is submitted, at the latest when it
 * ends; libaio's that is under way when we are killed is submitted already, and what
 * happens at its end (a length, an extent) sets none.
 *
 *  - Nothing under way: no ctime of ours is later than wrote_ns, but for the tick by
 *    which the coarse clock may be late.  He who kills us, and then starts a program
 *    that opens an image, needs longer.
 *  - Something under way: it may have been submitted after the stamp of its beginning,
 *    in the same turn of the loop, or after a wait in the kernel (an inode's lock), or
 *    for another request, whose end is a stamp too.  UNDER_WAY_NS is for that.  Who
 *    waits longer is refused wrongly; who is killed with writes under way, and whose
 *    image another has changed within that time, is not noticed.
 *
 * Where the clock of the file is another host's, or there is no ctime (a block
 * device), nothing can be told, and so the answer is yes.  A clock that is set back
 * between the two is believed. */
#include "redo_area.h"

#include <errno.h>
#include <time.h>

#include "base/clock.h"

#define TICK_NS (10 * NS_PER_MS)
#define UNDER_WAY_NS NS_PER_S

#define MAGIC 0x31304f4445524b42ull	/* "BKREDO01" */

int redo_area_prepare(struct td_redo *r)
{
	struct redo_area *a = r->area;

	uint64_t magic = atomic_load(&a->magic);

	if (r->recover && magic)
		return magic == MAGIC ? 0 : -EBADMSG;
	atomic_store(&a->magic, 0);
	a->bytes = r->bytes;
	a->dev = a->ino = 0;
	a->epoch++;
	atomic_store(&a->sync_failed, 0);
	atomic_store(&a->head, 0);
	atomic_store(&a->tail, 0);
	redo_writes_are_ours(a);
	atomic_store(&a->magic, MAGIC);
	return 0;
}

void redo_sync_failed(const struct td_env *e)
{
	if (e->redo)
		atomic_store(&((struct redo_area *)e->redo->area)->sync_failed, 1);
}

bool redo_sync_had_failed(const struct td_env *e)
{
	return e->redo && e->redo->recover &&
	       atomic_load(&((struct redo_area *)e->redo->area)->sync_failed);
}

/* No call into the kernel. */
static void stamp(struct redo_area *a)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME_COARSE, &ts);
	atomic_store(&a->wrote_ns,
		     (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec);
}

void redo_write_begins(const struct td_env *e)
{
	struct redo_area *a = e->redo ? e->redo->area : NULL;

	if (!a)
		return;
	atomic_fetch_add(&a->writing, 1);
	stamp(a);
}

void redo_write_ended(const struct td_env *e)
{
	struct redo_area *a = e->redo ? e->redo->area : NULL;

	if (!a)
		return;
	stamp(a);
	atomic_fetch_sub(&a->writing, 1);
}

bool redo_changed_since(const struct redo_area *a, uint64_t changed_ns)
{
	uint64_t slack = atomic_load(&a->writing) ? UNDER_WAY_NS : TICK_NS;

	return !changed_ns || changed_ns > atomic_load(&a->wrote_ns) + slack;
}

void redo_writes_are_ours(struct redo_area *a)
{
	stamp(a);
	atomic_store(&a->writing, 0);
}
