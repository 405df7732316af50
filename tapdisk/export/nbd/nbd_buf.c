/* nbd_buf.c - page-aligned payload buffers.
 *
 * Each is a mapping of its own, so that each goes back to the system by itself
 * and an idle tapdisk is small; the cache keeps the data path free of system
 * calls.  The link of a free buffer lies in its first bytes.
 */
#include "export/nbd/nbd_buf.h"

#include <sys/mman.h>

#include "base/log.h"

static unsigned class_of(size_t len)
{
	unsigned bits;

	if (len <= (1u << NBD_BUF_SHIFT))
		return 0;
	bits = 64 - (unsigned)__builtin_clzll(len - 1);
	ASSERT(bits - NBD_BUF_SHIFT < NBD_BUF_CLASSES);
	return bits - NBD_BUF_SHIFT;
}

size_t nbd_buf_size(size_t len)
{
	return (size_t)1 << (class_of(len) + NBD_BUF_SHIFT);
}

uint8_t *nbd_buf_get(struct nbd_bufs *b, size_t len)
{
	unsigned c = class_of(len);
	size_t size = (size_t)1 << (c + NBD_BUF_SHIFT);
	void *p = b->free[c];

	if (p) {
		b->free[c] = *(void **)p;
		b->cached -= size;
	} else {
		p = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED)
			return NULL;
	}
	b->used += size;
	b->gets++;
	return p;
}

void nbd_buf_put(struct nbd_bufs *b, uint8_t *p, size_t len)
{
	unsigned c = class_of(len);
	size_t size = (size_t)1 << (c + NBD_BUF_SHIFT);

	if (!p)
		return;
	ASSERT(b->used >= size);
	b->used -= size;
	if (b->cached + size > NBD_BUF_CACHE) {
		munmap(p, size);
		return;
	}
	*(void **)(void *)p = b->free[c];
	b->free[c] = p;
	b->cached += size;
}

void nbd_buf_trim(struct nbd_bufs *b)
{
	for (unsigned c = 0; c < NBD_BUF_CLASSES; c++) {
		size_t size = (size_t)1 << (c + NBD_BUF_SHIFT);

		while (b->free[c]) {
			void *p = b->free[c];

			b->free[c] = *(void **)p;
			b->cached -= size;
			munmap(p, size);
		}
	}
	ASSERT(!b->cached);
}
