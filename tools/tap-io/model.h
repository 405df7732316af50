/* model.h - what a disk may answer while overlapping requests are in flight.
 *
 * Every write stamps its sectors with its id, so what is read names the write
 * that it came from.  Writes that overlap in time may end in any order; a read
 * may see any write that was not certainly overwritten before the read began.
 * Certainly: another write of the sector began after the first had been
 * answered, or came behind a barrier that came behind the first; and it had been
 * answered before the read began, or a barrier stood between those two.
 *
 * A discarded sector may read as before, or as zeroes.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_SECTOR 512u

struct model;

/* One request as the model knows it. */
struct model_op {
	uint64_t id;		/* of a write or discard; > 0 */
	uint64_t first, n;	/* sectors */
	uint64_t began;		/* the model's clock */
	uint32_t epoch;		/* barriers that came before, itself included */
	bool discard;
};

struct model *model_new(uint64_t seed, uint64_t sectors); /* NULL: no memory */
void model_free(struct model *m);

/* A request begins: sets began, and id of a write. */
void model_begin(struct model *m, struct model_op *op);
/* A write or discard was begun (model_begin()) and goes out now.  oldest: began
 * of the oldest read in flight, or UINT64_MAX.  False: no memory. */
bool model_write(struct model *m, const struct model_op *op, uint64_t oldest);
/* ... and was answered. */
void model_written(struct model *m, const struct model_op *op);

/* The contents of one sector as write `id` leaves it. */
void model_stamp(const struct model *m, uint64_t id, uint64_t sector, void *buf);
/* May the read `op` see this in that sector?  If not, why is a sentence. */
bool model_check(const struct model *m, const struct model_op *op,
		 uint64_t sector, const void *buf, char *why, size_t len);

#endif
