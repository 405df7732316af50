/* zstd.c - see zstd.h.
 *
 * A frame is decompressed in one call straight into the cluster: the window that
 * a hostile frame asks for is never allocated.
 */
#include "pack/zstd.h"

#include <errno.h>
#include <stdint.h>

#include "pack/thread.h"
#include "sparse/sparse.h"

static int unpack(const void *in, size_t in_len, void *out, size_t out_len,
		  size_t need)
{
	(void)need;
	struct pack_thread *t = pack_thread();
	const uint8_t *from = in;
	uint8_t *to = out;

	if (t && !t->zstd_out)
		t->zstd_out = ZSTD_createDCtx();
	if (!t || !t->zstd_out)
		return -ENOMEM;
	while (out_len) {
		size_t n, frame = ZSTD_findFrameCompressedSize(from, in_len);

		if (ZSTD_isError(frame))
			return -EIO;
		n = ZSTD_decompressDCtx(t->zstd_out, to, out_len, from, frame);
		if (ZSTD_isError(n))
			return -EIO;
		from += frame;
		in_len -= frame;
		to += n;
		out_len -= n;
	}
	return 0;
}

static size_t pack(const void *in, size_t len, void *out)
{
	struct pack_thread *t = pack_thread();
	size_t n;

	if (t && !t->zstd_in)
		t->zstd_in = ZSTD_createCCtx();
	if (!t || !t->zstd_in)
		return 0;
	n = ZSTD_compressCCtx(t->zstd_in, out, len - 1, in, len, ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(n) ? 0 : n;
}

const struct sparse_packer pack_zstd = {
	.unpack	= unpack,
	.pack	= pack,
};
