/* disk_model.h - what each sector of a disk may hold, now or after a power cut at
 * any moment of the past.
 *
 * Each write fills its sectors with a stamp: its number and the sector's.  So a
 * sector that is where it does not belong, or older than it may be, is known by
 * what it says.
 *
 * Times are those of one clock that only goes forward; each event has its own.
 */
#ifndef TESTS_DISK_MODEL_H
#define TESTS_DISK_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "td_req.h"

struct disk_model;

/* What the disk holds at first: `bytes` bytes. */
struct disk_model *disk_model_new(const void *initial, uint64_t bytes);
void disk_model_free(struct disk_model *m);
void disk_model_grow(struct disk_model *m, uint64_t bytes);	/* by zeroes */

/* A change or flush begins: its number.  Sector-aligned. */
uint32_t disk_model_begin(struct disk_model *m, enum td_op op, unsigned flags,
			  uint64_t off, uint64_t len, uint64_t now);
void disk_model_end(struct disk_model *m, uint32_t id, int err, uint64_t now);
/* The bytes that write `id` writes to the sector.  Those of every fourth write
 * cannot be compressed. */
void disk_model_stamp(uint32_t id, uint64_t sector, void *bytes);

uint64_t disk_model_bytes(const struct disk_model *m);

/* Sectors that hold what they may not, of a read that began at `since` and has
 * ended.  The first few are told. */
unsigned disk_model_read(struct disk_model *m, uint64_t off, const void *buf,
			 uint64_t len, uint64_t since, uint64_t now);
/* The same, of a disk after a power cut at that time. */
unsigned disk_model_cut(struct disk_model *m, uint64_t off, const void *buf,
			uint64_t len, uint64_t cut);
/* How many flushes and durable changes had ended well at that time: between two
 * cuts that see the same number, what must be there does not differ. */
uint32_t disk_model_flushes(const struct disk_model *m, uint64_t cut);

#endif
