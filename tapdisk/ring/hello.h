/* hello.h - what a client says of itself, checked.  hello_check() is a pure
 * function; hello_check_memory() asks the kernel what a descriptor really is.
 */
#ifndef RING_HELLO_H
#define RING_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tapring_proto.h"

/* 0, or -EPROTO, -EINVAL, -E2BIG and *why. */
int hello_check(const struct tapring_hello *h, const char **why);

/* Do the pages of queue q lie in a row? */
bool hello_ring_in_row(const struct tapring_hello *h, unsigned q);

/* A memfd that cannot shrink under us and holds `len` bytes.  0 or -errno and
 * *why. */
int hello_check_memory(int fd, size_t len, const char **why);

#endif
