/* image_rig.h - the disk in an image, request by request, beside a copy of its bytes
 * in memory; and programs of others that judge the image.  What goes wrong in the
 * set-up ends the program with a message.
 */
#ifndef TESTS_IMAGE_RIG_H
#define TESTS_IMAGE_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "drv_rig.h"
#include "mem_store.h"

/* Run a command of the shell that must succeed; or take its status. */
void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
int shell_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Exit 77 with the reason when a program is not there. */
void shell_needs(const char *program);

/* The bytes of a disk. */
struct ref {
	uint8_t *bytes;
	uint64_t size;
};
struct ref ref_new(uint64_t size);
void ref_free(struct ref *r);
/* From a raw file, which may be shorter or longer; into one. */
void ref_load(struct ref *r, const char *path);
void ref_save(const struct ref *r, const char *path);
/* What compresses, what does not, zeroes, and parts of sectors. */
void ref_fill(struct ref *r, uint64_t seed);

/* An image by the format's own tool: options "a=b,c=d", "" for none.  Other files
 * that it needs are made beside it.  0 or -errno. */
int image_make(const char *format, const char *path, uint64_t size,
	       const char *backing, const char *options);

/* g without a disk, on files in memory, of which "a" is there and empty: its bytes. */
struct mem_image *image_in_memory(struct rig *g, struct mem_store *m);
void image_memory_free(struct rig *g, struct mem_store *m);

/* Open and close, which must succeed. */
void image_must_open(struct rig *g, const char *spec, unsigned flags);
void image_must_close(struct rig *g);
/* Open, which must fail with a reason that has `why` in it. */
void image_refused(const char *spec, unsigned flags, const char *why);

/* g's open disk, read whole: sectors that differ from r; the first are told. */
unsigned image_differs(struct rig *g, const struct ref *r);
/* Random reads, writes, zeroes, discards and flushes, each waited for, in r too.
 * Offsets and lengths are multiples of unit.  Sectors that were wrong. */
unsigned image_random(struct rig *g, struct ref *r, uint64_t seed,
		      unsigned requests, unsigned unit, unsigned max_len);
/* The disk holds r; it is written at random, in two sessions; it holds that, also
 * when it is opened again.  Sectors that were wrong. */
unsigned image_work(const char *spec, struct ref *r, uint64_t seed);

/* We and QEMU write the image by turns (format: as QEMU calls it); it holds what
 * both have written.  Sectors that were wrong. */
unsigned image_alternate(const char *spec, const char *format, const char *path,
			 struct ref *r, uint64_t seed, unsigned rounds);

#endif
