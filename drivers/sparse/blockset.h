/* blockset.h - a set of numbers (blocks of files) that grows as needed.  Pure. */
#ifndef SPARSE_BLOCKSET_H
#define SPARSE_BLOCKSET_H

#include <stdbool.h>
#include <stdint.h>

struct blockset {		/* all zero: empty */
	uint64_t *keys;		/* 0: free */
	uint64_t mask;
	uint64_t used, live;
};

/* key: neither 0 nor UINT64_MAX. */
int blockset_add(struct blockset *b, uint64_t key);	/* 0 or -ENOMEM */
bool blockset_del(struct blockset *b, uint64_t key);	/* was it there? */
bool blockset_has(const struct blockset *b, uint64_t key);
void blockset_free(struct blockset *b);

#endif
