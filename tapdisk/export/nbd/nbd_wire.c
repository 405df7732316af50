/* nbd_wire.c - requests checked, replies made, errors translated.
 *
 * A request is decoded from the receive buffer into private memory once and
 * checked once; nothing here is trusted or kept.
 */
#include "export/nbd/nbd_wire.h"

#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "export/nbd/nbd_proto.h"
#include "td_driver.h"

uint16_t nbd_export_flags(uint32_t caps, bool rdonly)
{
	/* One process and one queue serve all connections, and a flush covers
	 * what any of them has been told is written: multi-conn. */
	uint32_t f = NBD_FLAG_HAS_FLAGS | NBD_FLAG_MULTI_CONN | NBD_FLAG_SEND_CACHE;

	if (caps & TD_CAP_FLUSH)
		f |= NBD_FLAG_SEND_FLUSH;
	if (rdonly || !(caps & TD_CAP_WRITE))
		return (uint16_t)(f | NBD_FLAG_READ_ONLY);
	if (caps & (TD_CAP_FUA | TD_CAP_FLUSH))
		f |= NBD_FLAG_SEND_FUA;
	if (caps & TD_CAP_DISCARD)
		f |= NBD_FLAG_SEND_TRIM;
	/* What a driver cannot zero is written out, or refused if it was to be
	 * fast: both flags hold for every driver. */
	f |= NBD_FLAG_SEND_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	return (uint16_t)f;
}

bool nbd_request_get(struct nbd_request *q, const uint8_t *p)
{
	if (get_be32(p) != NBD_MAGIC_REQUEST)
		return false;
	q->flags = get_be16(p + 4);
	q->type = get_be16(p + 6);
	q->cookie = get_be64(p + 8);
	q->offset = get_be64(p + 16);
	q->length = get_be32(p + 24);
	return true;
}

/* Flags beside FUA, which is allowed with every command. */
static const struct {
	bool known, writes, payload;
	uint16_t flags;
} cmds[] = {
	[NBD_CMD_READ]	= { .known = true, .payload = true,
			    .flags = NBD_CMD_FLAG_DF },
	[NBD_CMD_WRITE]	= { .known = true, .payload = true, .writes = true },
	[NBD_CMD_FLUSH]	= { .known = true },
	[NBD_CMD_TRIM]	= { .known = true, .writes = true },
	[NBD_CMD_CACHE]	= { .known = true },
	[NBD_CMD_ZEROES] = { .known = true, .writes = true,
			    .flags = NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO },
	[NBD_CMD_BLOCK_STATUS] = { .known = true, .flags = NBD_CMD_FLAG_REQ_ONE },
};

int nbd_request_check(const struct nbd_request *q, const struct nbd_export *x,
		      bool structured, bool meta)
{
	uint16_t extra = q->flags & (uint16_t)~NBD_CMD_FLAG_FUA;

	if (q->type >= ARRAY_SIZE(cmds) || !cmds[q->type].known)
		return -EINVAL;
	if (extra & ~cmds[q->type].flags)
		return -EINVAL;
	if ((extra & NBD_CMD_FLAG_DF) && !structured)
		return -EINVAL;
	if (q->type == NBD_CMD_BLOCK_STATUS && (!meta || !q->length))
		return -EINVAL;
	if (q->type == NBD_CMD_FLUSH)
		return q->offset || q->length ? -EINVAL : 0;
	if (cmds[q->type].writes && (x->flags & NBD_FLAG_READ_ONLY))
		return -EPERM;
	if (q->type == NBD_CMD_TRIM && !(x->flags & NBD_FLAG_SEND_TRIM))
		return -EOPNOTSUPP;
	if (cmds[q->type].payload && q->length > NBD_BLOCK_MAX)
		return -EINVAL;
	if (!range_ok(q->offset, q->length, x->size))
		return q->type == NBD_CMD_WRITE || q->type == NBD_CMD_ZEROES ?
			-ENOSPC : -EINVAL;
	return 0;
}

uint32_t nbd_errno(int err)
{
	ASSERT(err <= 0);
	switch (-err) {
	case 0:
		return 0;
	case EPERM:
	case EACCES:
	case EROFS:
		return NBD_EPERM;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
	case ERANGE:
		return NBD_EINVAL;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return NBD_ENOSPC;
	case EOVERFLOW:
		return NBD_EOVERFLOW;
	case EOPNOTSUPP:
		return NBD_ENOTSUP;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

unsigned nbd_put_simple(uint8_t *p, uint64_t cookie, int err)
{
	put_be32(p, NBD_MAGIC_SIMPLE);
	put_be32(p + 4, nbd_errno(err));
	put_be64(p + 8, cookie);
	return NBD_SIMPLE_LEN;
}

/* Every reply of ours is one chunk, so it is always the last. */
static void put_chunk(uint8_t *p, uint64_t cookie, uint16_t type, uint32_t length)
{
	put_be32(p, NBD_MAGIC_CHUNK);
	put_be16(p + 4, NBD_CHUNK_DONE);
	put_be16(p + 6, type);
	put_be64(p + 8, cookie);
	put_be32(p + 16, length);
}

unsigned nbd_put_error(uint8_t *p, uint64_t cookie, int err)
{
	put_chunk(p, cookie, NBD_CHUNK_ERROR, 6);
	put_be32(p + 20, nbd_errno(err));
	put_be16(p + 24, 0);			/* no text */
	return NBD_CHUNK_LEN + 6;
}

unsigned nbd_put_none(uint8_t *p, uint64_t cookie)
{
	put_chunk(p, cookie, NBD_CHUNK_NONE, 0);
	return NBD_CHUNK_LEN;
}

unsigned nbd_put_data(uint8_t *p, uint64_t cookie, uint64_t offset,
		      uint32_t length)
{
	put_chunk(p, cookie, NBD_CHUNK_DATA, length + 8);
	put_be64(p + 20, offset);
	return NBD_CHUNK_LEN + 8;
}

unsigned nbd_put_status(uint8_t *p, uint64_t cookie, uint32_t context, unsigned n)
{
	put_chunk(p, cookie, NBD_CHUNK_BLOCK_STATUS, 4 + 8 * n);
	put_be32(p + 20, context);
	return NBD_CHUNK_LEN + 4;
}
