/* thread.c - see thread.h. */
#include "pack/thread.h"

#include <pthread.h>
#include <stdlib.h>

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_err;

static void thread_free(void *arg)
{
	struct pack_thread *t = arg;

	libdeflate_free_decompressor(t->inflater);
	if (t->z_made)
		deflateEnd(&t->z);
	ZSTD_freeDCtx(t->zstd_out);
	ZSTD_freeCCtx(t->zstd_in);
	free(t);
}

static void key_make(void)
{
	key_err = pthread_key_create(&key, thread_free);
}

struct pack_thread *pack_thread(void)
{
	struct pack_thread *t;

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
