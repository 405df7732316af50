/* geometry.c - what a descriptor is, and what direct I/O on it wants.
 *
 * The kernel says so since 6.1 (STATX_DIOALIGN).  Before that a block device
 * tells its sector size, and a file is asked by reading a little from it.
 * Everything here may block.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "file/file_priv.h"

#define ALIGN_MAX FILE_ALIGN_MAX	/* a bounce buffer holds two such blocks */
#define ALIGN_GUESS 4096u
_Static_assert(2 * ALIGN_MAX <= BOUNCE_BYTES, "head and tail fit one buffer");

/* A power of two in [lo, hi]. */
static uint32_t sane(uint64_t v, uint32_t lo, uint32_t hi)
{
	if (!is_pow2(v) || v < lo)
		return lo;
	return v > hi ? hi : (uint32_t)v;
}

int file_bytes(int fd, bool block_device, uint64_t *bytes)
{
	struct stat st;
	off_t end;

	if (block_device) {
		end = lseek(fd, 0, SEEK_END);
		if (end < 0)
			return -errno;
		*bytes = (uint64_t)end;
		return 0;
	}
	if (fstat(fd, &st))
		return -errno;
	*bytes = (uint64_t)st.st_size;
	return 0;
}

#ifdef STATX_DIOALIGN
/* False: the kernel does not tell.  Zero: no direct I/O on this file. */
static bool ask_statx(int fd, uint32_t *align, uint32_t *mem_align)
{
	struct statx stx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) ||
	    !(stx.stx_mask & STATX_DIOALIGN))
		return false;
	*align = stx.stx_dio_offset_align;
	*mem_align = stx.stx_dio_mem_align;
	return true;
}
#else
static bool ask_statx(int fd, uint32_t *align, uint32_t *mem_align)
{
	(void)fd;
	(void)align;
	(void)mem_align;
	return false;
}
#endif

/* The smallest read that works says what is needed; where even a byte can be
 * read, nothing is.  0: none works. */
static uint32_t ask_by_reading(int fd)
{
	static const uint32_t try[] = { 1, 512, 1024, 2048, 4096, 8192, 16384,
					32768, 65536 };
	uint32_t found = 0;
	void *buf;

	if (posix_memalign(&buf, ALIGN_MAX, 2 * ALIGN_MAX))
		return ALIGN_GUESS;
	for (size_t i = 0; i < ARRAY_SIZE(try) && !found; i++)
		if (pread(fd, (char *)buf + try[i], try[i], 0) >= 0)
			found = try[i];
	free(buf);
	return found;
}

/* 0 for g->align: direct I/O does not work here. */
static void ask_alignment(int fd, struct file_geometry *g)
{
	int sector;

	if (ask_statx(fd, &g->align, &g->mem_align)) {
		if (!g->align || !g->mem_align)
			g->align = g->mem_align = 0;
		else
			g->align = sane(g->align, 1, UINT32_MAX / 2 + 1);
		return;
	}
	if (g->block_device)
		g->align = ioctl(fd, BLKSSZGET, &sector) ? ALIGN_GUESS :
			   sane((uint64_t)sector, 512, UINT32_MAX / 2 + 1);
	else
		g->align = ask_by_reading(fd);
	g->mem_align = g->align;
}

static int give_up_direct(int fd, int flags, struct file_geometry *g)
{
	if (fcntl(fd, F_SETFL, flags & ~O_DIRECT))
		return -errno;
	g->direct = false;
	g->lost_direct = true;
	return 0;
}

/* Behind the end there is nothing to punch: harmless, and it tells.  But it sets the
 * file's ctime. */
static bool punch_refused(int fd, uint64_t bytes)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			 (off_t)(align_up(bytes, MiB) + GiB), 4096) &&
	       (errno == EOPNOTSUPP || errno == ENOSYS);
}

static uint32_t physical_block(int fd, const struct file_geometry *g,
			       const struct stat *st)
{
	unsigned block;

	if (!g->block_device)
		return sane((uint64_t)st->st_blksize, 512, 4096);
	if (ioctl(fd, BLKPBSZGET, &block))
		return 512;
	return sane(block, 512, 1u << 20);
}

/* Where a file ends inside a page, growing it zeroes the rest of that page in the
 * page cache.  A direct write to that page, while it is dirty there, collides with
 * it, and the kernel may count that as lost data: the next fdatasync fails.  So
 * the page is written out before anybody else comes by. */
int file_truncate(int fd, uint64_t have, uint64_t want)
{
	if (ftruncate(fd, (off_t)want))
		return -1;
	return want > have && !is_aligned(have, FILE_PAGE) ? fdatasync(fd) : 0;
}

/* Where the times of a file are, or may be, another host's or a server's. */
static bool foreign_clock(int fd)
{
	static const uint32_t kinds[] = {
		0x6969 /* nfs */, 0xff534d42 /* cifs */, 0xfe534d42 /* smb2, smb3 */,
		0x517b /* smbfs */, 0x00c36400 /* ceph */, 0x65735546 /* fuse */,
		0x01021997 /* 9p */, 0x5346414f /* afs */, 0x6b414653 /* kafs */,
		0x01161970 /* gfs2 */, 0x7461636f /* ocfs2 */, 0x0bd00bd0 /* lustre */,
		0x47504653 /* gpfs */,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if ((uint32_t)fs.f_type == kinds[i])
			return true;
	return false;
}

static uint64_t changed(int fd, const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || foreign_clock(fd))
		return 0;
	return (uint64_t)st->st_ctim.tv_sec * NS_PER_S +
	       (uint64_t)st->st_ctim.tv_nsec;
}

int file_geometry(int fd, unsigned how, struct file_geometry *g, const char **why)
{
	int flags = fcntl(fd, F_GETFL), err, sector;
	struct stat st;

	*g = (struct file_geometry){ 0 };
	*why = "cannot examine it";
	if (flags < 0 || fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		*why = "not a regular file or a block device";
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	}
	if (!(how & FILE_RDONLY) && (flags & O_ACCMODE) != O_RDWR) {
		*why = "it was opened for reading only";
		return -EROFS;
	}
	g->block_device = S_ISBLK(st.st_mode);
	g->dev = g->block_device ? st.st_rdev : st.st_dev;
	g->ino = g->block_device ? UINT64_MAX : st.st_ino;
	g->changed_ns = changed(fd, &st);
	err = file_bytes(fd, g->block_device, &g->bytes);
	if (err)
		return err;
	if (!g->bytes) {
		*why = g->block_device ? "the device has no size (no medium?)" :
		       "the file is empty; give it a size with truncate -s";
		return -EINVAL;
	}
	if (g->bytes > FILE_BYTES_MAX) {
		*why = "it is too large";
		return -EFBIG;
	}
	g->size = align_up(g->bytes, 512);

	g->direct = flags & O_DIRECT;
	if (g->direct) {
		ask_alignment(fd, g);
		/* Blocks that reach over the end could be read but not written
		 * without growing the file. */
		if (!g->align || g->align > ALIGN_MAX ||
		    (g->align > 512 && !is_aligned(g->bytes, g->align) &&
		     !(how & FILE_GROWS))) {
			err = give_up_direct(fd, flags, g);
			if (err)
				return err;
		}
	}
	if (!g->direct)
		g->align = g->mem_align = 1;
	g->mem_align = sane(g->mem_align, 1, 4096);
	g->phys = physical_block(fd, g, &st);
	if (g->phys < g->align)
		g->phys = g->align;

	g->trim_align = g->phys;
	if (g->block_device)
		g->trim_align = ioctl(fd, BLKSSZGET, &sector) ?
				(g->align > 1 ? g->align : ALIGN_GUESS) :
				sane((uint64_t)sector, 512, ALIGN_MAX);
	else if (!(how & (FILE_RDONLY | FILE_EVIDENCE)))
		g->no_punch = punch_refused(fd, g->bytes);
	return 0;
}
