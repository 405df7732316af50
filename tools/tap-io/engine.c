/* engine.c - keeps requests in flight on the queues of a session. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tap_io.h"

struct tapring_queue *session_queue(struct session *s)
{
	return tapring_get_queue(s->ring, s->next_queue++ % s->info.queues);
}

int io_startv(struct io *io, uint8_t op, const struct iovec *iov, unsigned n)
{
	uint64_t cookie = (uint64_t)(uintptr_t)io;

	return op == IO_READ ?
	       tapring_readv(io->queue, iov, n, io->offset, cookie) :
	       tapring_writev(io->queue, iov, n, io->offset, cookie);
}

int io_start(struct io *io, uint8_t op)
{
	struct tapring_queue *q = io->queue;
	uint64_t cookie = (uint64_t)(uintptr_t)io;

	switch (op) {
	case IO_READ:
		return tapring_read(q, io->buf, io->len, io->offset, cookie);
	case IO_WRITE:
		return tapring_write(q, io->buf, io->len, io->offset, cookie);
	case IO_FLUSH:
		return tapring_flush(q, cookie);
	case IO_BARRIER:
		return tapring_barrier(q, io->buf, io->len, io->offset, cookie);
	default:
		return tapring_discard(q, io->len, io->offset, cookie);
	}
}

static int reap(struct tapring_queue *q)
{
	struct tapring_answer a[64];
	int n = tapring_reap(q, a, 64);

	for (int i = 0; i < n; i++) {
		struct io *io = (struct io *)(uintptr_t)a[i].cookie;

		io->err = a[i].result;
		io->end(io, a[i].result);
	}
	return n;
}

int session_turn(struct session *s)
{
	struct tapring_queue *busy = NULL;
	int n, reaped = 0;

	for (unsigned i = 0; i < s->info.queues; i++) {
		struct tapring_queue *q = tapring_get_queue(s->ring, i);
		int err = tapring_submit(q);

		if (err)
			return err;
	}
	for (unsigned i = 0; i < s->info.queues; i++) {
		struct tapring_queue *q = tapring_get_queue(s->ring, i);

		if (!tapring_inflight(q))
			continue;
		n = reap(q);
		if (n < 0)
			return n;
		reaped += n;
		if (!busy && tapring_inflight(q))
			busy = q;
	}
	/* With several queues any may answer next: do not sleep long on one. */
	if (reaped || !busy)
		return 0;
	n = tapring_wait(busy, 1, s->info.queues > 1 ? 1 : -1);
	return n < 0 && n != -EINTR ? n : 0;
}

static unsigned in_flight(struct session *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->info.queues; i++)
		n += tapring_inflight(tapring_get_queue(s->ring, i));
	return n;
}

int session_drain(struct session *s)
{
	while (in_flight(s)) {
		int err = session_turn(s);

		if (err)
			return err;
	}
	return 0;
}

/* A transfer in pieces: as many at a time as memory and rings take.  A dump
 * wants them in order, so one at a time. */

#define PIECES 32

struct run {
	const struct transfer *t;
	struct io io[PIECES];
	struct io *free;
	unsigned open;
	int err;
};

static void piece_end(struct io *io, int err)
{
	struct run *r = io->owner;
	const struct transfer *t = r->t;

	if (!err && !t->write && t->has_pattern) {
		size_t at = differs(io->buf, io->len, t->pattern);

		if (at < io->len) {
			printf("Pattern verification failed at offset %llu: "
			       "0x%02x instead of 0x%02x\n",
			       (unsigned long long)(io->offset + at),
			       (unsigned char)io->buf[at], t->pattern);
			err = -EILSEQ;
		}
	}
	if (!err && t->dump)
		hex_dump(io->buf, io->len, io->offset);
	if (err && !r->err)
		r->err = err;
	r->open--;
	io->next = r->free;
	r->free = io;
}

static void run_init(struct run *r, struct session *s, const struct transfer *t,
		     size_t piece)
{
	unsigned n = (unsigned)(s->half / piece);

	memset(r, 0, sizeof(*r));
	r->t = t;
	if (n > PIECES)
		n = PIECES;
	if (t->dump)
		n = 1;
	for (unsigned i = 0; i < n; i++) {
		struct io *io = &r->io[i];

		io->buf = s->sync + i * piece;
		io->end = piece_end;
		io->owner = r;
		io->next = r->free;
		r->free = io;
		if (t->write)
			fill(io->buf, piece, t->pattern);
	}
}

int transfer(struct session *s, const struct transfer *t)
{
	size_t piece = s->max_request < s->half ? s->max_request : s->half;
	struct run r;
	int err = 0;

	run_init(&r, s, t, piece);
	for (uint64_t done = 0; !err && !r.err && done < t->len;) {
		struct io *io = r.free;

		if (io) {
			io->queue = session_queue(s);
			io->offset = t->offset + done;
			io->len = t->len - done < piece ? (size_t)(t->len - done) :
							  piece;
			err = io_start(io, t->write ? IO_WRITE : IO_READ);
			if (!err) {
				r.free = io->next;
				r.open++;
				done += io->len;
				continue;
			}
		}
		if (!io || err == -EAGAIN)
			err = session_turn(s);
	}
	while (!err && r.open)	/* what has been started points into r */
		err = session_turn(s);
	return err ? err : r.err;
}

static void one_end(struct io *io, int err)
{
	(void)err;
	*(bool *)io->owner = true;
}

int session_one(struct session *s, uint8_t op, uint64_t offset, size_t len)
{
	bool ended = false;
	struct io io = { .queue = session_queue(s), .offset = offset,
			 .buf = s->sync, .len = len, .end = one_end,
			 .owner = &ended };
	int err;

	while ((err = io_start(&io, op)) == -EAGAIN) {
		err = session_turn(s);
		if (err)
			return err;
	}
	while (!err && !ended)
		err = session_turn(s);
	return err ? err : io.err;
}
