/* blockset.c - see blockset.h. */
#include "sparse/blockset.h"

#include <errno.h>
#include <stdlib.h>

#define GONE UINT64_MAX

static uint64_t hash(uint64_t key)
{
	return (key * 0x9e3779b97f4a7c15ull) >> 20;
}

static bool find(const struct blockset *b, uint64_t key, uint64_t *at)
{
	uint64_t i = hash(key) & b->mask;

	for (; b->keys[i]; i = (i + 1) & b->mask) {
		if (b->keys[i] == key) {
			*at = i;
			return true;
		}
	}
	return false;
}

static void insert(struct blockset *b, uint64_t key)
{
	uint64_t i = hash(key) & b->mask;

	while (b->keys[i] && b->keys[i] != GONE)
		i = (i + 1) & b->mask;
	b->used += !b->keys[i];
	b->live++;
	b->keys[i] = key;
}

static int rehash(struct blockset *b, uint64_t size)
{
	uint64_t *old = b->keys, old_size = b->mask + 1;
	uint64_t *keys = calloc(size, sizeof(*keys));

	if (!keys)
		return -ENOMEM;
	b->keys = keys;
	b->mask = size - 1;
	b->used = b->live = 0;
	for (uint64_t i = 0; old && i < old_size; i++)
		if (old[i] && old[i] != GONE)
			insert(b, old[i]);
	free(old);
	return 0;
}

int blockset_add(struct blockset *b, uint64_t key)
{
	uint64_t at;
	int err;

	if (!b->keys || b->used * 2 >= b->mask) {
		uint64_t size = b->keys ? b->mask + 1 : 128;

		if (b->live * 4 >= size || !b->keys)
			size *= 2;
		err = rehash(b, size);
		if (err)
			return err;
	}
	if (!find(b, key, &at))
		insert(b, key);
	return 0;
}

bool blockset_del(struct blockset *b, uint64_t key)
{
	uint64_t at;

	if (!b->keys || !find(b, key, &at))
		return false;
	b->keys[at] = GONE;
	b->live--;
	return true;
}

bool blockset_has(const struct blockset *b, uint64_t key)
{
	uint64_t at;

	return b->keys && find(b, key, &at);
}

void blockset_free(struct blockset *b)
{
	free(b->keys);
	*b = (struct blockset){ 0 };
}
