/* xen_pages.h - the data of one guest's requests: pages that it grants.
 *
 * A guest whose grants stay valid (feature-persistent) has them mapped when
 * they are first used, up to a limit, and those that it has not used for a
 * while make room for others.  What is not mapped is copied by the hypervisor
 * to and from pages of ours: a grant that is mapped would have to be unmapped
 * before its answer, which costs more than the copy.
 *
 * G1  A page that is mapped is in the hash; users counts the requests that hold
 *     it; it is on the idle list exactly when that is 0, and only then unmapped.
 * G2  Pages of ours are taken by hold and given back by release, nothing else.
 * G3  While xen_pages_full() is false, any request finds room.
 * G4  Memory is taken at the start; there is no allocation on the data path.
 */
#ifndef RING_XEN_PAGES_H
#define RING_XEN_PAGES_H

#include <stdbool.h>

#include "ring/decode.h"

struct xen_pages;

struct xen_pages_counts {
	unsigned mapped;	/* grants, now */
	uint64_t evicted;	/* mapped no more: others were needed */
	uint64_t copied;	/* pages */
	uint64_t failed;	/* grants that could not be mapped or copied */
};

/* slots: requests at a time; segs: segments of the largest.  NULL: no memory. */
struct xen_pages *xen_pages_new(unsigned domid, bool persistent, unsigned queues,
				unsigned slots, unsigned segs);
/* Unmap a part; true: there is more.  Nothing may be held. */
bool xen_pages_shrink(struct xen_pages *p);
void xen_pages_free(struct xen_pages *p);	/* unmaps what is left */

/* What resolve, load, release and fetch of port.h promise; now: ns. */
void *xen_pages_hold(struct xen_pages *p, const struct blkif_req *b, uint64_t now,
		     void **page);
void xen_pages_load(struct xen_pages *p, void **hold, int *err, unsigned n);
void xen_pages_release(struct xen_pages *p, void **hold, int *err, unsigned n,
		       uint64_t now);
int xen_pages_fetch(struct xen_pages *p, const uint32_t *gref, void *to,
		    size_t len, uint64_t now);

bool xen_pages_full(const struct xen_pages *p);
const struct xen_pages_counts *xen_pages_counts(const struct xen_pages *p);

#endif
