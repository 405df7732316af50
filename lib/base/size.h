/* size.h - sizes as people write them. */
#ifndef BASE_SIZE_H
#define BASE_SIZE_H

#include <stdint.h>

/* "512", "4k", "1.5M", "2G", "1T", "1P" (powers of 1024, either case, optionally
 * followed by "iB" or "B"; with a unit also fractions) -> bytes, the nearest number
 * of them.  0, -EINVAL or -ERANGE. */
int size_parse(const char *s, uint64_t *bytes);

/* Decimal digits alone, up to max.  0, -EINVAL or -ERANGE. */
int uint_parse(const char *s, uint64_t max, uint64_t *v);

/* bytes -> "1.5 GiB", into buf of at least 16 bytes; returns buf. */
const char *size_text(uint64_t bytes, char *buf);

#endif
