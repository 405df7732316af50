/* redo.h - the redo log: what the cache's slices have that the file has not, where
 * it outlives the process (td_env.redo).  All of it does nothing without.
 */
#ifndef SPARSE_REDO_H
#define SPARSE_REDO_H

#include <stdbool.h>

#include "sparse/sparse_priv.h"

/* Blocking, when all files are open and before the format reads its tables: makes
 * good what a process that died has left, and begins a log of our own.  0, or -errno
 * after td_err(). */
int redo_start(struct sparse *s);
/* Nothing is dirty any more, or it is given up: the log is empty. */
void redo_end(struct sparse *s);

/* A slot that changes tables may run: there is room for all that one can change. */
bool redo_room(const struct sparse *s);
/* [off, off + n) of the slice has changed, in the slot that runs. */
void redo_put(struct sparse *s, struct sparse_slice *sl, unsigned off, size_t n);
/* The slice is of no table any more. */
void redo_forget(struct sparse *s, struct sparse_slice *sl);
/* The slot is over: its changes count, all of them or none. */
void redo_commit(struct sparse *s);

/* A round has frozen what is dirty; it has ended well. */
void redo_freeze(struct sparse *s);
void redo_retire(struct sparse *s);
bool redo_empty(const struct sparse *s);

#endif
