/* ram.c - a disk in this process' memory; gone when it is closed.
 *
 * The memory is private to the disk and taken page by page as it is written;
 * discard and zeroes give pages back.
 *
 * Image name: ram:SIZE, e.g. ram:64M
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/size.h"
#include "td_driver.h"

#define PAGE 4096u

struct ram {
	char *mem;
	size_t len;
};

static void ram_open(struct td_node *n, struct td_req *r)
{
	struct ram *m = n->priv;
	uint64_t bytes;
	int err = size_parse(n->arg, &bytes);

	if (!err && (!bytes || bytes > SIZE_MAX / 4))
		err = -ERANGE;
	if (err) {
		td_err(n, "bad size '%s': want a number like 4096, 64M or 1G",
		       n->arg);
		td_complete(r, err);
		return;
	}
	m->len = align_up(bytes, PAGE);
	m->mem = mmap(NULL, m->len, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->mem == MAP_FAILED) {
		err = -errno;
		td_err(n, "cannot get %s of memory: %s", n->arg, strerror(-err));
		td_complete(r, err);
		return;
	}
	/* A core dump of the process is not a copy of the disk. */
	madvise(m->mem, m->len, MADV_DONTDUMP);
	td_set_geometry(n, align_up(bytes, 512), 512);
	td_complete(r, 0);
}

static void copy(char *mem, const struct td_req *r)
{
	if (r->op == TD_OP_READ)
		iov_fill(r->iov, r->iovcnt, 0, mem, r->length);
	else
		iov_read(r->iov, r->iovcnt, 0, mem, r->length);
}

/* Whole pages go back to the system and read as zeroes again. */
static int release(struct ram *m, uint64_t from, uint64_t to)
{
	if (from < to && madvise(m->mem + from, to - from, MADV_DONTNEED))
		return -errno;
	return 0;
}

static int zero(struct ram *m, const struct td_req *r)
{
	uint64_t from = r->offset, to = from + r->length;
	uint64_t page = align_up(from, PAGE), last = align_down(to, PAGE);

	if ((r->flags & TD_REQ_NO_HOLE) || page >= last) {
		memset(m->mem + from, 0, to - from);
		return 0;
	}
	memset(m->mem + from, 0, page - from);
	memset(m->mem + last, 0, to - last);
	return release(m, page, last);
}

static void ram_submit(struct td_node *n, struct td_req *r)
{
	struct ram *m = n->priv;
	int err = 0;

	if (r->op == TD_OP_READ || r->op == TD_OP_WRITE)
		copy(m->mem + r->offset, r);
	else if (r->op == TD_OP_ZEROES)
		err = zero(m, r);
	else if (r->op == TD_OP_DISCARD)
		err = release(m, align_up(r->offset, PAGE),
			      align_down(r->offset + r->length, PAGE));
	td_complete(r, err);
}

static void ram_close(struct td_node *n, struct td_req *r)
{
	struct ram *m = n->priv;

	munmap(m->mem, m->len);
	td_complete(r, 0);
}

const struct td_driver td_ram = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_STORE,
	.name	= "ram",
	.help	= "ram:SIZE  memory of the process, gone when closed",
	.caps	= TD_CAP_ALL & ~(TD_CAP_RESIZE | TD_CAP_EXTENTS),
	.node_ctx = sizeof(struct ram),
	.open	= ram_open,
	.submit	= ram_submit,
	.close	= ram_close,
};
