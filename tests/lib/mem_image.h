/* mem_image.h - the bytes of a file in memory, in pages that copies share: a copy
 * costs a table of pointers, and a page that was never written nothing.
 *
 * Behind the end are zeroes; a file that is made shorter and longer again has
 * zeroes there too.  One thread at a time, copies included.
 */
#ifndef TESTS_MEM_IMAGE_H
#define TESTS_MEM_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_PAGE 4096u

struct mem_page;

struct mem_image {		/* all zero: an empty file */
	uint64_t size;
	struct mem_page **page;	/* NULL: zeroes */
	size_t pages;		/* pointers there */
};

void mem_image_free(struct mem_image *m);	/* empty again */
void mem_image_copy(struct mem_image *to, const struct mem_image *from);

void mem_image_read(const struct mem_image *m, uint64_t off, void *buf, size_t len);
/* Makes the file longer if need be. */
void mem_image_write(struct mem_image *m, uint64_t off, const void *buf,
		     size_t len);
void mem_image_zero(struct mem_image *m, uint64_t off, uint64_t len);
void mem_image_resize(struct mem_image *m, uint64_t size);

/* Whether the page at off takes memory; *end: up to where that is so. */
bool mem_image_data(const struct mem_image *m, uint64_t off, uint64_t *end);
uint64_t mem_image_hash(const struct mem_image *m);

/* From and to a real file.  End the program with a message if that fails. */
void mem_image_load(struct mem_image *m, const char *path);
void mem_image_save(const struct mem_image *m, const char *path);

#endif
