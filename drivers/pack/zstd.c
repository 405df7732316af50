/* zstd.c - see zstd.h.
 *
 * A frame is decompressed in one call straight into the cluster: the window that
 * a hostile frame asks for is never allocated.  A thread keeps its contexts until
 * it ends; making one costs more than a small cluster.
 */
#include "pack/zstd.h"

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <zstd.h>

#include "sparse/sparse.h"

struct contexts {
	ZSTD_DCtx *d;
	ZSTD_CCtx *c;
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_err;

static void contexts_free(void *p)
{
	struct contexts *t = p;

	ZSTD_freeDCtx(t->d);
	ZSTD_freeCCtx(t->c);
	free(t);
}

static void key_make(void)
{
	key_err = pthread_key_create(&key, contexts_free);
}

/* This thread's, or NULL: no memory. */
static struct contexts *contexts(void)
{
	struct contexts *t;

	pthread_once(&once, key_make);
	if (key_err)
		return NULL;
	t = pthread_getspecific(key);
	if (t)
		return t;
	t = calloc(1, sizeof(*t));
	if (t && pthread_setspecific(key, t)) {
		free(t);
		return NULL;
	}
	return t;
}

static int unpack(const void *in, size_t in_len, void *out, size_t out_len)
{
	struct contexts *t = contexts();
	const uint8_t *from = in;
	uint8_t *to = out;

	if (t && !t->d)
		t->d = ZSTD_createDCtx();
	if (!t || !t->d)
		return -ENOMEM;
	while (out_len) {
		size_t n, frame = ZSTD_findFrameCompressedSize(from, in_len);

		if (ZSTD_isError(frame))
			return -EIO;
		n = ZSTD_decompressDCtx(t->d, to, out_len, from, frame);
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
	struct contexts *t = contexts();
	size_t n;

	if (t && !t->c)
		t->c = ZSTD_createCCtx();
	if (!t || !t->c)
		return 0;
	n = ZSTD_compressCCtx(t->c, out, len - 1, in, len, ZSTD_CLEVEL_DEFAULT);
	return ZSTD_isError(n) ? 0 : n;
}

const struct sparse_packer pack_zstd = {
	.unpack	= unpack,
	.pack	= pack,
};
