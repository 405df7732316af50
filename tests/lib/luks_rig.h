/* luks_rig.h - LUKS headers in files and in memory, for tests. */
#ifndef TESTS_LUKS_RIG_H
#define TESTS_LUKS_RIG_H

#include <stddef.h>
#include <stdint.h>

#include "crypto/luks.h"
#include "td_driver.h"

/* A header in memory: reads and writes outside fail with -ERANGE. */
struct luks_mem {
	unsigned char *bytes;
	size_t len;
};
struct luks_io luks_mem_io(struct luks_mem *m);

struct td_secret luks_secret(const char *text);

/* Make an image of `size` bytes of data, or end the program with a message. */
void luks_file(const char *path, const struct luks_format *f, const char *pass,
	       uint64_t size);

#endif
