/* nbd_buf.h - page-aligned payload buffers, shared by the clients of a server.
 *
 * Sizes are rounded up to a power of two; a buffer that is given back is the
 * next of its size to be handed out, while its pages are still warm.  At most
 * NBD_BUF_CACHE bytes are kept, and nothing once the server is idle.
 */
#ifndef NBD_BUF_H
#define NBD_BUF_H

#include <stddef.h>
#include <stdint.h>

#define NBD_BUF_SHIFT	12u			/* the smallest: 4 KiB */
#define NBD_BUF_CLASSES	14u			/* the largest: 32 MiB */
#define NBD_BUF_CACHE	(64u << 20)

struct nbd_bufs {
	void *free[NBD_BUF_CLASSES];
	size_t cached;		/* bytes on the free lists */
	size_t used;		/* bytes handed out */
	uint64_t gets;
};

/* What a buffer of `len` bytes really takes. */
size_t nbd_buf_size(size_t len);
/* NULL: no memory.  len <= 32 MiB: asserted. */
uint8_t *nbd_buf_get(struct nbd_bufs *b, size_t len);
/* len: as it was asked for.  NULL: nothing happens. */
void nbd_buf_put(struct nbd_bufs *b, uint8_t *p, size_t len);
/* Give all that is cached back to the system. */
void nbd_buf_trim(struct nbd_bufs *b);

#endif
