/* gen_aio.c - the generator's back end on the file itself: libaio, O_DIRECT, one
 * io_submit a batch, completions from the ring that the kernel maps when it
 * spins.  This is the limit that a server of the file is measured against. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <libaio.h>

#include "base/clock.h"
#include "gen.h"

struct aio_ring {
	unsigned id, nr;
	unsigned head, tail;
	unsigned magic, compat_features, incompat_features;
	unsigned header_length;
	struct io_event events[];
};
#define AIO_RING_MAGIC 0xa10a10a1u

static struct gen_opts opt;
static io_context_t ctx;
static struct aio_ring *ring;
static int fd;
static char *data;
static struct iocb *cb;
static struct iocb *batch[GEN_DEPTH_MAX];
static unsigned queued;

static int aio_open(const struct gen_opts *o, uint64_t *size)
{
	int err;
	off_t end;

	opt = *o;
	fd = open(o->path, (o->write ? O_RDWR : O_RDONLY) | O_DIRECT);
	if (fd < 0)
		return -errno;
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	*size = (uint64_t)end;
	err = io_setup((int)o->depth, &ctx);
	if (err)
		return err;
	ring = (struct aio_ring *)ctx;
	if (ring->magic != AIO_RING_MAGIC)
		ring = NULL;
	data = gen_buffers(o);
	cb = calloc(o->depth, sizeof(*cb));
	return data && cb ? 0 : -ENOMEM;
}

static int aio_queue(unsigned slot, uint64_t offset)
{
	char *buf = data + slot * opt.bs;

	if (opt.write)
		io_prep_pwrite(&cb[slot], fd, buf, opt.bs, (long long)offset);
	else
		io_prep_pread(&cb[slot], fd, buf, opt.bs, (long long)offset);
	batch[queued++] = &cb[slot];
	return 0;
}

static int aio_flush(unsigned slot)
{
	io_prep_fdsync(&cb[slot], fd);
	batch[queued++] = &cb[slot];
	return 0;
}

static int aio_submit(void)
{
	unsigned done = 0;

	while (done < queued) {
		int n = io_submit(ctx, queued - done, batch + done);

		if (n < 0 && n != -EAGAIN)
			return n;
		done += n > 0 ? (unsigned)n : 0;
	}
	queued = 0;
	return 0;
}

/* Until the mapped ring shows a completion, or the time is over. */
static void spin(void)
{
	uint64_t start = clock_ns(), yielded = start;

	do {
		for (int i = 0; i < 8; i++) {
			if (__atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE) !=
			    ring->head)
				return;
			__builtin_ia32_pause();
		}
	} while (gen_spin(start, &yielded) < start + opt.poll_ns);
}

/* What the mapped ring shows, taken without a system call. */
static int reap(struct io_event *ev, unsigned max)
{
	unsigned tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
	unsigned head = ring->head, n = 0;

	while (head != tail && n < max) {
		ev[n++] = ring->events[head];
		head = head + 1 == ring->nr ? 0 : head + 1;
	}
	__atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
	return (int)n;
}

static int aio_wait(unsigned *slots, unsigned max)
{
	struct io_event ev[GEN_DEPTH_MAX];
	int n = 0;

	if (ring) {
		if (opt.poll_ns)
			spin();
		n = reap(ev, max);
	}
	if (!n)
		n = io_getevents(ctx, 1, (long)max, ev, NULL);
	for (int i = 0; i < n; i++) {
		size_t want = ev[i].obj->aio_lio_opcode == IO_CMD_FDSYNC ? 0 :
			      opt.bs;

		if (ev[i].res != want)
			return (long)ev[i].res < 0 ? (int)(long)ev[i].res : -EIO;
		slots[i] = (unsigned)(ev[i].obj - cb);
	}
	return n;
}

static void aio_close(void)
{
	io_destroy(ctx);
	close(fd);
}

const struct gen_backend gen_aio = {
	.name = "aio", .open = aio_open, .queue = aio_queue,
	.flush = aio_flush, .submit = aio_submit, .wait = aio_wait, .close = aio_close,
};
