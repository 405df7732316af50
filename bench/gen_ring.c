/* gen_ring.c - the generator's back end over libtapring: no copy, one doorbell
 * a batch at most. */
#include <errno.h>
#include <string.h>

#include "gen.h"
#include "tapring.h"

static struct tapring *ring;
static struct tapring_queue *queue;
static struct gen_opts opt;
static char *data;

static int ring_open(const struct gen_opts *o, uint64_t *size)
{
	struct tapring_opts ro = { .abi = o->abi, .data = o->bs * o->depth,
				   .poll_ns = o->poll_ns };
	struct tapring_info info;
	int err;

	opt = *o;
	for (;; ro.order++) {
		err = tapring_connect(o->path, &ro, &ring);
		if (err)
			return err;
		tapring_get_info(ring, &info);
		if (info.depth >= o->depth)
			break;
		tapring_close(ring);
		if (ro.order == info.max_order)
			return -E2BIG;
	}
	queue = tapring_get_queue(ring, 0);
	data = tapring_data(ring, NULL);
	memset(data, 0xa5, o->bs * o->depth);
	*size = tapring_size(ring);
	return 0;
}

static int ring_queue(unsigned slot, uint64_t offset)
{
	char *buf = data + slot * opt.bs;

	return opt.write ? tapring_write(queue, buf, opt.bs, offset, slot) :
			   tapring_read(queue, buf, opt.bs, offset, slot);
}

static int ring_flush(unsigned slot)
{
	return tapring_flush(queue, slot);
}

static int ring_submit(void)
{
	return tapring_submit(queue);
}

static int ring_wait(unsigned *slots, unsigned max)
{
	struct tapring_answer a[GEN_DEPTH_MAX];
	int n = tapring_wait(queue, 1, -1);

	if (n > 0)
		n = tapring_reap(queue, a, max);
	for (int i = 0; i < n; i++) {
		if (a[i].result)
			return a[i].result;
		slots[i] = (unsigned)a[i].cookie;
	}
	return n;
}

static void ring_close(void)
{
	tapring_close(ring);
}

const struct gen_backend gen_ring = {
	.name = "ring", .open = ring_open, .queue = ring_queue,
	.flush = ring_flush, .submit = ring_submit, .wait = ring_wait, .close = ring_close,
};
