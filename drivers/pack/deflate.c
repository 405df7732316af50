/* deflate.c - see deflate.h.
 *
 * libdeflate inflates two to several times as fast as zlib, but takes only streams
 * that end, in the room that there is: what it refuses zlib has a look at.  It has
 * no way to keep to a window of 4 KiB, so zlib deflates.
 */
#include "pack/deflate.h"

#include <errno.h>

#include "base/log.h"
#include "pack/noise.h"
#include "pack/thread.h"
#include "sparse/sparse.h"

#define WINDOW_READ 15		/* the largest there is */
#define WINDOW_WRITE 12		/* what readers of qcow are sure to have */
#define MEM_LEVEL 9

/* Within 4 KiB long searches find little: these bounds (see zlib.h) make clusters a
 * hundredth larger, and take three quarters of the time. */
#define GOOD_LENGTH 4
#define MAX_LAZY 8
#define NICE_LENGTH 32
#define MAX_CHAIN 16

/* Ready for a new stream; NULL: no memory. */
static z_stream *deflater(void)
{
	struct pack_thread *t = pack_thread();

	if (!t)
		return NULL;
	if (t->z_made) {
		if (deflateReset(&t->z) != Z_OK)
			return NULL;
	} else {
		if (deflateInit2(&t->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED,
				 -WINDOW_WRITE, MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
			return NULL;
		t->z_made = true;
	}
	return deflateTune(&t->z, GOOD_LENGTH, MAX_LAZY, NICE_LENGTH, MAX_CHAIN) ==
	       Z_OK ? &t->z : NULL;
}

static bool inflate_fast(const void *in, size_t in_len, void *out, size_t out_len,
			 bool zlib, size_t *got)
{
	struct pack_thread *t = pack_thread();
	enum libdeflate_result r;

	if (t && !t->inflater)
		t->inflater = libdeflate_alloc_decompressor();
	if (!t || !t->inflater)
		return false;
	if (zlib)
		r = libdeflate_zlib_decompress_ex(t->inflater, in, in_len, out,
						  out_len, NULL, got);
	else
		r = libdeflate_deflate_decompress_ex(t->inflater, in, in_len, out,
						     out_len, NULL, got);
	return r == LIBDEFLATE_SUCCESS;
}

int pack_inflate(const void *in, size_t in_len, void *out, size_t out_len,
		 bool zlib, size_t *got)
{
	z_stream z = { .next_in = (Bytef *)in, .avail_in = (uInt)in_len,
		       .next_out = out, .avail_out = (uInt)out_len };
	int rc;

	ASSERT(in_len <= UINT32_MAX && out_len <= UINT32_MAX);
	if (inflate_fast(in, in_len, out, out_len, zlib, got))
		return 0;
	rc = inflateInit2(&z, zlib ? WINDOW_READ : -WINDOW_READ);
	if (rc != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	*got = out_len - z.avail_out;
	if (rc == Z_STREAM_END)
		return 0;
	/* All that was asked for is there; what the stream has beyond is not
	 * looked at. */
	return rc == Z_BUF_ERROR && !z.avail_out ? 0 : -EIO;
}

static int unpack(const void *in, size_t in_len, void *out, size_t out_len,
		  size_t need)
{
	(void)need;
	size_t got;
	int err = pack_inflate(in, in_len, out, out_len, false, &got);

	return err ? err : got == out_len ? 0 : -EIO;
}

static size_t pack(const void *in, size_t len, void *out)
{
	z_stream *z;

	ASSERT(len && len <= UINT32_MAX);
	if (pack_is_noise(in, len))
		return 0;
	z = deflater();
	if (!z)
		return 0;
	z->next_in = (Bytef *)in;
	z->avail_in = (uInt)len;
	z->next_out = out;
	z->avail_out = (uInt)len - 1;
	return deflate(z, Z_FINISH) == Z_STREAM_END ? z->total_out : 0;
}

const struct sparse_packer pack_deflate = {
	.unpack	= unpack,
	.pack	= pack,
};
