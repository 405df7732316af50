/* deflate.c - see deflate.h.
 *
 * libdeflate inflates two to several times as fast as zlib, but takes only streams
 * that end, in the room that there is: what it refuses zlib has a look at.  It has
 * no way to keep to a window of 4 KiB, so zlib deflates.
 */
#include "pack/deflate.h"

#include <errno.h>
#include <libdeflate.h>
#include <pthread.h>
#include <zlib.h>

#include "base/log.h"
#include "sparse/sparse.h"

#define WINDOW_READ 15		/* the largest there is */
#define WINDOW_WRITE 12		/* what readers of qcow are sure to have */
#define MEM_LEVEL 9

/* A thread keeps its decompressor until it ends. */

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_err;

static void fast_free(void *d)
{
	libdeflate_free_decompressor(d);
}

static void key_make(void)
{
	key_err = pthread_key_create(&key, fast_free);
}

static struct libdeflate_decompressor *fast(void)
{
	struct libdeflate_decompressor *d;

	pthread_once(&once, key_make);
	if (key_err)
		return NULL;
	d = pthread_getspecific(key);
	if (d)
		return d;
	d = libdeflate_alloc_decompressor();
	if (d && pthread_setspecific(key, d)) {
		libdeflate_free_decompressor(d);
		return NULL;
	}
	return d;
}

static bool inflate_fast(const void *in, size_t in_len, void *out, size_t out_len,
			 bool zlib, size_t *got)
{
	struct libdeflate_decompressor *d = fast();
	enum libdeflate_result r;

	if (!d)
		return false;
	if (zlib)
		r = libdeflate_zlib_decompress_ex(d, in, in_len, out, out_len, NULL,
						  got);
	else
		r = libdeflate_deflate_decompress_ex(d, in, in_len, out, out_len,
						     NULL, got);
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

static int unpack(const void *in, size_t in_len, void *out, size_t out_len)
{
	size_t got;
	int err = pack_inflate(in, in_len, out, out_len, false, &got);

	return err ? err : got == out_len ? 0 : -EIO;
}

static size_t pack(const void *in, size_t len, void *out)
{
	z_stream z = { .next_in = (Bytef *)in, .avail_in = (uInt)len,
		       .next_out = out, .avail_out = (uInt)len - 1 };
	int rc;

	ASSERT(len && len <= UINT32_MAX);
	if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_WRITE,
			 MEM_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
		return 0;
	rc = deflate(&z, Z_FINISH);
	deflateEnd(&z);
	return rc == Z_STREAM_END ? z.total_out : 0;
}

const struct sparse_packer pack_deflate = {
	.unpack	= unpack,
	.pack	= pack,
};
