/* drv_model.h - random requests against a disk and against a model in memory
 * at the same time; the two must never differ. */
#ifndef TESTS_DRV_MODEL_H
#define TESTS_DRV_MODEL_H

#include <stdint.h>

struct rig;

struct model_run {
	uint64_t seed;
	unsigned requests;
	unsigned depth;		/* in flight, at most RIG_DEPTH */
	unsigned unit;		/* offsets and lengths are multiples of it */
	unsigned max_len;	/* bytes */
	uint64_t span;		/* touch only the first bytes; 0: all */
};

/* Reads, writes, zeroes, discards, flushes on g's open disk.  What overlaps is
 * in flight together; the model allows for a sector each value that some order
 * of those writes could have left.  0, or the number of wrong sectors, which
 * are shown. */
unsigned model_run(struct rig *g, const struct model_run *how);

#endif
