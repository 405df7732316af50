/* iov.c - see iov.h. */
#include "base/iov.h"

#include <string.h>

#include "base/bytes.h"
#include "base/log.h"

/* The next piece of [*off, *off + *len): moves all three on.  NULL: no more. */
static char *next(const struct iovec **iov, unsigned *iovcnt, uint64_t *off,
		  uint64_t *len, size_t *n)
{
	char *p;

	if (!*len)
		return NULL;
	while (*iovcnt && *off >= (*iov)->iov_len) {
		*off -= (*iov)->iov_len;
		++*iov;
		--*iovcnt;
	}
	if (!*iovcnt)
		return NULL;
	p = (char *)(*iov)->iov_base + *off;
	*n = min_u64(*len, (*iov)->iov_len - *off);
	*off += *n;
	*len -= *n;
	return p;
}

void iov_zero(const struct iovec *iov, unsigned iovcnt, uint64_t off, uint64_t len)
{
	size_t n;
	char *p;

	while ((p = next(&iov, &iovcnt, &off, &len, &n)))
		memset(p, 0, n);
	ASSERT(!len);
}

void iov_fill(const struct iovec *iov, unsigned iovcnt, uint64_t off, const void *from,
	      uint64_t len)
{
	size_t n;
	char *p;

	while ((p = next(&iov, &iovcnt, &off, &len, &n))) {
		memcpy(p, from, n);
		from = (const char *)from + n;
	}
	ASSERT(!len);
}

void iov_read(const struct iovec *iov, unsigned iovcnt, uint64_t off, void *to,
	      uint64_t len)
{
	size_t n;
	char *p;

	while ((p = next(&iov, &iovcnt, &off, &len, &n))) {
		memcpy(to, p, n);
		to = (char *)to + n;
	}
	ASSERT(!len);
}

uint64_t iov_cut(const struct iovec *iov, unsigned iovcnt, uint64_t off, uint64_t len,
		 struct iovec *to, unsigned max, unsigned *n)
{
	uint64_t want = len;
	size_t piece;
	char *p;

	for (*n = 0; *n < max; ++*n) {
		p = next(&iov, &iovcnt, &off, &len, &piece);
		if (!p)
			break;
		to[*n] = (struct iovec){ p, piece };
	}
	return want - len;
}
