/* blocking.c - blocking I/O for formats and tools (td_blocking_*()): through an
 * aligned buffer of its own, so any range will do.
 *
 * Called while nothing else of this file is in flight; so a block may be read,
 * changed and written back without asking anybody.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "file/file_priv.h"
#include "redo_area.h"

#define CHUNK (1u << 20)

struct chunk {
	char *buf;
	uint64_t at, end;	/* whole blocks */
	uint64_t from, to;	/* what is wanted of them */
};

static struct chunk chunk_at(const struct file *f, char *buf, uint64_t off,
			     uint64_t end)
{
	uint32_t align = f->geo.align;
	struct chunk c = { .buf = buf, .at = align_down(off, align), .from = off };

	c.end = min_u64(align_up(end, align), c.at + CHUNK);
	c.to = min_u64(c.end, end);
	return c;
}

/* Fill [at, end) of c->buf; zeroes behind the end of the file. */
static int fill(const struct file *f, const struct chunk *c, uint64_t at,
		uint64_t end)
{
	while (at < end) {
		char *p = c->buf + (at - c->at);
		ssize_t n = pread(f->fd, p, end - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n || !is_aligned((uint64_t)n, f->geo.align)) {
			memset(p + n, 0, end - at - (uint64_t)n);
			return 0;
		}
		at += (uint64_t)n;
	}
	return 0;
}

static int drain(const struct file *f, const struct chunk *c)
{
	uint64_t at = c->at;

	while (at < c->end) {
		ssize_t n = pwrite(f->fd, c->buf + (at - c->at), c->end - at,
				   (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n || !is_aligned((uint64_t)n, f->geo.align))
			return -EIO;
		at += (uint64_t)n;
	}
	return 0;
}

static int write_chunk(const struct file *f, struct chunk *c, const char *from)
{
	uint32_t align = f->geo.align;
	int err = 0;

	if (c->at < c->from)
		err = fill(f, c, c->at, min_u64(c->at + align, c->end));
	if (!err && c->to < c->end)
		err = fill(f, c, max_u64(c->end - align, c->at), c->end);
	if (err)
		return err;
	memcpy(c->buf + (c->from - c->at), from, c->to - c->from);
	return drain(f, c);
}

static int transfer(const struct file *f, enum td_op op, uint64_t off, char *buf,
		    size_t len)
{
	uint64_t end = off + len;
	void *mem;
	int err = 0;

	if (posix_memalign(&mem, FILE_ALIGN_MAX, CHUNK))
		return -ENOMEM;
	while (!err && off < end) {
		struct chunk c = chunk_at(f, mem, off, end);

		if (op == TD_OP_READ) {
			err = fill(f, &c, c.at, c.end);
			if (!err)
				memcpy(buf, c.buf + (c.from - c.at), c.to - c.from);
		} else {
			err = write_chunk(f, &c, buf);
		}
		buf += c.to - c.from;
		off = c.to;
	}
	free(mem);
	return err;
}

/* Whole blocks, so that direct I/O reaches all of it. */
static int set_size(struct file *f, uint64_t size)
{
	if (f->geo.block_device)
		return size <= f->geo.bytes ? 0 : -ENOSPC;
	if (size > FILE_BYTES_MAX)
		return -EFBIG;
	size = align_up(size, max_u64(f->geo.align, 512));
	if (file_truncate(f->fd, f->geo.bytes, size))
		return -errno;
	file_sized(f, size);
	return 0;
}

int file_blocking(struct td_node *n, enum td_op op, uint64_t off, void *buf,
		  size_t len)
{
	struct file *f = n->priv;
	int err;

	switch (op) {
	case TD_OP_READ:
		return len ? transfer(f, op, off, buf, len) : 0;
	case TD_OP_WRITE:
		redo_write_begins(n->env);
		err = len ? transfer(f, op, off, buf, len) : 0;
		redo_write_ended(n->env);
		return err;
	case TD_OP_FLUSH:
		if (f->sync_failed)
			return -EIO;
		if (!fdatasync(f->fd))
			return 0;
		err = -errno;
		file_sync_failed(f);
		return err;
	default:
		redo_write_begins(n->env);
		err = set_size(f, off);
		redo_write_ended(n->env);
		return err;
	}
}
