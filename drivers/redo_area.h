/* redo_area.h - the memory that outlives a process of a disk (td_env.redo): its
 * first bytes.  Behind them is the log of the sparse engine (sparse/redo.h).
 *
 * It lies in a file that the process maps.  What it has stored there when it is
 * killed is there for its successor, in the order of the stores; after a power cut
 * the file is gone.  The successor runs when no I/O of ours can land any more.
 */
#ifndef REDO_AREA_H
#define REDO_AREA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "td_driver.h"

#define REDO_AREA_HEAD 4096u		/* bytes before the log */
#define REDO_AREA_MIN (128u << 10)	/* with a log, at least */

struct redo_area {
	_Atomic uint64_t magic;		/* set last, cleared first */
	uint64_t bytes;			/* of all of it, when it was emptied */
	uint64_t dev, ino;		/* of the image's first file; 0: not known */
	uint32_t epoch;			/* another one each time that it is emptied */
	_Atomic uint32_t sync_failed;	/* a flush of a file has failed */
	/* Positions in the log, which only grow: what is between them counts. */
	_Atomic uint64_t head, tail;
	/* When a write to one of its files last began or ended (CLOCK_REALTIME, ns), and
	 * how many are under way: so from when on a change is another's. */
	_Atomic uint64_t wrote_ns;
	_Atomic uint32_t writing;
};
_Static_assert(sizeof(struct redo_area) <= REDO_AREA_HEAD, "before the log");

/* Before an open, while nothing is open: without r->recover, or if nothing was ever
 * there, it becomes empty.  0, or -EBADMSG: something else is there. */
int redo_area_prepare(struct td_redo *r);

/* A flush of a file has failed: who takes up the disk must not believe another. */
void redo_sync_failed(const struct td_env *e);
/* It had, before this open. */
bool redo_sync_had_failed(const struct td_env *e);

/* A store's: whatever changes its file lies between the two, from any thread. */
void redo_write_begins(const struct td_env *e);
void redo_write_ended(const struct td_env *e);
/* The file was changed by another after the process that left the area had died, or
 * that cannot be ruled out.  changed_ns: as in td_node. */
bool redo_changed_since(const struct redo_area *a, uint64_t changed_ns);
/* What was under way is not any more, and what has changed is known. */
void redo_writes_are_ours(struct redo_area *a);

#endif
