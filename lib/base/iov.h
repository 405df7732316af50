/* iov.h - scattered memory as one run of bytes.  Pure. */
#ifndef BASE_IOV_H
#define BASE_IOV_H

#include <stdint.h>
#include <sys/uio.h>

/* Each works on [off, off + len) of what iov describes, which must reach so far. */
void iov_zero(const struct iovec *iov, unsigned iovcnt, uint64_t off, uint64_t len);
void iov_fill(const struct iovec *iov, unsigned iovcnt, uint64_t off,
	      const void *from, uint64_t len);
void iov_read(const struct iovec *iov, unsigned iovcnt, uint64_t off, void *to,
	      uint64_t len);

/* Vectors for as much of it as `max` of them can describe: *n of them, in `to`.
 * Returns the bytes that they cover. */
uint64_t iov_cut(const struct iovec *iov, unsigned iovcnt, uint64_t off,
		 uint64_t len, struct iovec *to, unsigned max, unsigned *n);

#endif
