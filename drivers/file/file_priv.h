/* file_priv.h - the raw file store: what its files share.
 *
 *   file.c      the driver table; open, close, resize; requests that the kernel
 *               takes as they are (the fast path); flush
 *   geometry.c  what a descriptor is and what O_DIRECT wants of us
 *   slow.c      requests that need a bounce buffer, and read-modify-write
 *   space.c     discard, zeroes, block status
 *   blocking.c  blocking I/O for formats and tools
 *   range.c     which requests must wait for which
 *   bounce.c    the buffers
 */
#ifndef FILE_PRIV_H
#define FILE_PRIV_H

#include "base/log.h"
#include "file/bounce.h"
#include "file/range.h"
#include "io/io.h"
#include "loop/worker.h"
#include "td_driver.h"

#define FILE_PAGE 4096u		/* of the page cache */

/* The end of a larger file could not be rounded up to a block. */
#define FILE_ALIGN_MAX 65536u
#define FILE_BYTES_MAX ((uint64_t)INT64_MAX - FILE_ALIGN_MAX)

struct file_geometry {
	uint64_t bytes;		/* of the file or device, exactly */
	uint64_t size;		/* of the disk: rounded up to 512 */
	uint32_t align;		/* of offset and length; 1: none is needed */
	uint32_t mem_align;
	uint32_t phys;
	uint32_t trim_align;	/* what fallocate should be given */
	bool block_device;
	bool direct;
	bool lost_direct;	/* O_DIRECT was there and had to be given up */
	bool no_punch;
	uint64_t dev, ino;	/* which file; of a device, its own number */
	uint64_t changed_ns;	/* as in td_node */
};

/* Find out; may block: for workers.  0 or -errno and *why. */
enum {
	FILE_RDONLY	= 1u << 0,
	FILE_GROWS	= 1u << 1,	/* it is a format's, which will make the end a
					 * whole block before it writes there */
	FILE_EVIDENCE	= 1u << 2,	/* its ctime tells who has changed it, also to
					 * him who opens it after us: leave it.  That
					 * holes can be punched is believed then, until
					 * one is refused */
};
int file_geometry(int fd, unsigned how, struct file_geometry *g, const char **why);
int file_bytes(int fd, bool block_device, uint64_t *bytes);
/* ftruncate(2), from `have` bytes to `want`.  -1 and errno. */
int file_truncate(int fd, uint64_t have, uint64_t want);

struct file {			/* node->priv */
	struct td_node *node;
	int fd;
	struct file_geometry geo;
	bool no_dsync;		/* RWF_DSYNC is refused */
	bool no_punch, no_zero_range;
	bool sync_failed;	/* I3 of file.c */
	struct list syncing;	/* those whom the running fdatasync serves */
	struct list to_sync;	/* those who came since: they share the next */
	_Atomic uint64_t odd_end; /* the file's end inside a sector, or UINT64_MAX */
	struct ranges ranges;
	struct bounce bounce;
	struct log_limit limit;
	uint64_t bounced, rmw;
};

struct file_req {		/* td_ctx(): nothing here outlives the request */
	struct io_op op;
	struct file *f;
	struct td_req *r;
	struct range range;
	bool in_range;
	bool writes;		/* between redo_write_begins() and _ended() */
	struct list sync;	/* on syncing or to_sync */

	/* slow.c: [from, end) is still to do, [chunk, chunk_end) is in buf. */
	uint64_t from, end;
	uint64_t chunk, chunk_end;
	uint64_t io, io_end;	/* what the running transfer has left */
	bool io_write;
	bool read_head, read_tail;
	void *buf;
	struct bounce_wait wait;
	struct iovec vec;
	void (*step)(struct file_req *q);	/* after a transfer */
	void (*then)(struct file_req *q, int err); /* after [from, end) */

	/* Workers. */
	struct worker_job job;
	uint64_t start, stop;	/* range of fallocate and lseek */
	int mode;		/* of fallocate; RWF_* of a write */
	int err;
	const char *why;
};

/* Leaves the range, makes FUA good unless `durable`, and completes. */
void file_end(struct file_req *q, int err, bool durable);

/* Transfer [from, end) through a bounce buffer, as the request's op says
 * (zeroes: writes zeroes), then call `then`.  Writes hold a range that covers
 * all host blocks touched, exclusively where a block is touched in part. */
void file_slow(struct file_req *q, uint64_t from, uint64_t end,
	       void (*then)(struct file_req *q, int err));

void file_sync_failed(struct file *f);		/* I3 */
/* The file's length is now `bytes`. */
void file_sized(struct file *f, uint64_t bytes);
int file_blocking(struct td_node *n, enum td_op op, uint64_t off, void *buf,
		  size_t len);

void file_discard(struct file_req *q);
void file_zeroes(struct file_req *q);
void file_extents(struct file_req *q);

#endif
