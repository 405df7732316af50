/* redo_area.c - see redo_area.h. */
#include "redo_area.h"

#include <errno.h>

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
