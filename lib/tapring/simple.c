/* simple.c - libtapring: synchronous functions, with any memory. */
#include <errno.h>
#include <string.h>

#include "tapring_priv.h"

/* The one request that was just queued: show it, wait for it. */
static int finish(struct tapring_queue *q)
{
	struct tapring_answer a;
	int n = tapring_submit(q);

	if (n)
		return n;
	do
		n = tapring_wait(q, 1, -1);
	while (n == -EINTR);
	if (n < 0)
		return n;
	n = tapring_reap(q, &a, 1);
	if (n < 0)
		return n;
	return n == 1 ? a.result : -EPIPE;
}

static int copy_through(struct tapring_queue *q, char *in, const char *out,
			size_t len, uint64_t offset)
{
	size_t max = (size_t)q->r->info.max_segments * TAPRING_PAGE;
	int err = 0;

	if ((len | offset) % BLKIF_SECTOR)
		return -EINVAL;
	if (tapring_inflight(q))
		return -EBUSY;
	for (size_t done = 0, n; !err && done < len; done += n) {
		n = len - done < max ? len - done : max;
		if (out) {
			memcpy(q->bounce, out + done, n);
			err = tapring_write(q, q->bounce, n, offset + done, 0);
		} else {
			err = tapring_read(q, q->bounce, n, offset + done, 0);
		}
		if (!err)
			err = finish(q);
		if (!err && in)
			memcpy(in + done, q->bounce, n);
	}
	return err;
}

int tapring_pread(struct tapring_queue *q, void *buf, size_t len,
		  uint64_t offset)
{
	return copy_through(q, buf, NULL, len, offset);
}

int tapring_pwrite(struct tapring_queue *q, const void *buf, size_t len,
		   uint64_t offset)
{
	return copy_through(q, NULL, buf, len, offset);
}

int tapring_pflush(struct tapring_queue *q)
{
	int err = tapring_inflight(q) ? -EBUSY : tapring_flush(q, 0);

	return err ? err : finish(q);
}

int tapring_pdiscard(struct tapring_queue *q, uint64_t len, uint64_t offset)
{
	int err = tapring_inflight(q) ? -EBUSY :
		  tapring_discard(q, len, offset, 0);

	return err ? err : finish(q);
}
