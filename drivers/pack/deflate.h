/* deflate.h - one cluster, compressed by deflate and back.  Pure; from any thread.
 *
 * Readers are liberal: any window, raw or with zlib's header as asked.  Writers
 * keep to the window that all readers take.
 */
#ifndef PACK_DEFLATE_H
#define PACK_DEFLATE_H

#include <stdbool.h>
#include <stddef.h>

struct sparse_packer;

/* Raw streams (RFC 1951), as in qcow and qcow2: exactly one cluster comes out;
 * what follows it in the input is ignored. */
extern const struct sparse_packer pack_deflate;

/* Inflate a stream (zlib: with the header and sum of RFC 1950, else raw) into out.
 * 0 and in *got how much came out: out_len, or less when the stream ended before.
 * -EIO: no such stream; -ENOMEM. */
int pack_inflate(const void *in, size_t in_len, void *out, size_t out_len,
		 bool zlib, size_t *got);

#endif
