/* conn.h - one connection of a ring client, as its server sees it. */
#ifndef RING_CONN_H
#define RING_CONN_H

#include <stdint.h>

#include "base/list.h"

struct disk;
struct journal;
struct loop;
struct ring_conn;

#define RING_CONNS_MAX 8u	/* served connections a disk */
#define RING_OTHERS_MAX 64u	/* silent yet, or with I/O that has not ended */
#define RING_HELLO_NS (5ull * 1000000000ull)	/* to say hello in */
/* For who was a predecessor's client: as long as libtapring looks for a successor. */
#define RING_RESERVE_NS (30ull * 1000000000ull)

/* What a connection tells its server when it has gone, memory and all. */
struct ring_conn_owner {
	struct list conns;
	unsigned served, others;
	struct journal *journal;	/* or NULL */
	uint64_t reserved_until;	/* for those who have a section in it */
};

/* Greet the client of `fd` (ours from now on) and serve it. */
void ring_conn_new(struct loop *l, struct disk *d, struct ring_conn_owner *o,
		   unsigned minor, int fd);
/* Cut all off.  Those with I/O in flight stay until it has ended and then free
 * themselves; the owner may go at once. */
void ring_conns_cut(struct ring_conn_owner *o);

#endif
