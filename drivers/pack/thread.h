/* thread.h - what a thread keeps of the libraries' contexts until it ends: making one
 * costs as much as a small cluster.
 */
#ifndef PACK_THREAD_H
#define PACK_THREAD_H

#include <libdeflate.h>
#include <stdbool.h>
#include <zlib.h>
#include <zstd.h>

/* Each is made by its first user; NULL, or !z_made: not yet. */
struct pack_thread {
	struct libdeflate_decompressor *inflater;
	z_stream z;			/* deflates */
	bool z_made;
	ZSTD_DCtx *zstd_out;
	ZSTD_CCtx *zstd_in;
};

/* The calling thread's; NULL: no memory. */
struct pack_thread *pack_thread(void);

#endif
