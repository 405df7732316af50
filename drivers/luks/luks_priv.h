/* luks_priv.h - the luks disk type: what its files share.
 *
 *   luks.c   the driver table; open, close, resize; requests that need no buffer
 *   chunk.c  requests that do: writes, and reads that cannot be decrypted in place
 */
#ifndef LUKS_LUKS_PRIV_H
#define LUKS_LUKS_PRIV_H

#include "crypto/crypt.h"
#include "crypto/luks.h"
#include "file/bounce.h"
#include "file/range.h"
#include "loop/worker.h"
#include "node.h"

/* What is encrypted in the loop; more goes to a worker.  Handing it over and back
 * costs 20 to 30 us of processor time, for which 64 to 128 KiB are encrypted. */
#define LUKS_INLINE (64u * 1024)

struct luks {			/* node->priv */
	struct td_node *node;
	struct crypt *crypt;
	struct luks_info info;
	uint32_t sector;	/* bytes encrypted under one vector */
	struct ranges ranges;
	struct bounce bounce;
	struct td_pool *pool;	/* of the chunks' requests; one for each buffer */
	struct td_req *grow;	/* and one for control */
	uint64_t by_worker, rmw;
	char why[256];		/* of open */
};

struct luks_req {		/* td_ctx(): nothing here outlives the request */
	struct luks *l;
	struct td_req *r;
	struct worker_job job;
	struct range range;
	struct bounce_wait wait;
	uint64_t pos, end;	/* [pos, end) is in no chunk yet */
	unsigned pending;	/* chunks under way */
	bool waiting;		/* for a buffer */
	int err;
};

/* Number of the 512 bytes at `off` of the disk. */
static inline uint64_t luks_number(const struct luks *l, uint64_t off)
{
	return l->info.first_sector + off / 512;
}

/* r, through buffers; each has a request of the pool, with so much behind it. */
size_t luks_chunk_bytes(void);
void luks_chunks(struct luks *l, struct td_req *r);

#endif
