/* meta.c - where the tables are, so that guest data is never written there,
 * whatever a crafted image says.
 *
 * A hash of the cluster-sized blocks that hold some of a table: the question is
 * asked for every write, and the answer is nearly always no.  Tables that do not
 * fill their blocks (qcow and vmdk put them at any sector) are in a list of
 * ranges besides, which is looked at when a block is hit.
 */
#include <errno.h>
#include <stdlib.h>

#include "sparse/sparse_priv.h"

struct range {
	unsigned file;
	uint64_t start, end;
};

/* Below HOST_MAX a block's number leaves room for the file's and a flag: a table
 * fills the block, or it is one of those with ranges of their own. */
#define HOST_MAX (1ull << 60)
#define PARTLY (1ull << 53)
_Static_assert(SPARSE_FILES <= 1 << 10, "a file's number in 10 bits");

static uint64_t key_of(unsigned file, uint64_t block, uint64_t flag)
{
	return (uint64_t)file << 54 | flag | (block + 1);
}

void meta_free(struct sparse *s)
{
	blockset_free(&s->meta.blocks);
	free(s->meta.ranges);
	s->meta = (struct meta){ 0 };
}

static int add_range(struct meta *m, unsigned file, uint64_t start, uint64_t end)
{
	if (m->n_ranges == m->max_ranges) {
		size_t max = m->max_ranges ? 2 * m->max_ranges : 16;
		struct range *r = realloc(m->ranges, max * sizeof(*r));

		if (!r)
			return -ENOMEM;
		m->ranges = r;
		m->max_ranges = max;
	}
	m->ranges[m->n_ranges++] = (struct range){ file, start, end };
	return 0;
}

int sparse_meta_add(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	struct meta *m = &s->meta;
	uint64_t flag = 0, b = host / s->cluster;
	int err = 0;

	if (s->rdonly || !len)
		return 0;
	if (host >= HOST_MAX || len >= HOST_MAX)
		return -EFBIG;
	if (!is_aligned(host, s->cluster) || !is_aligned(len, s->cluster)) {
		err = add_range(m, file, host, host + len);
		flag = PARTLY;
	}
	for (; !err && b <= (host + len - 1) / s->cluster; b++)
		err = blockset_add(&m->blocks, key_of(file, b, flag));
	return err;
}

void sparse_meta_del(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	struct meta *m = &s->meta;
	uint64_t b = host / s->cluster;

	for (size_t i = 0; i < m->n_ranges; i++) {
		if (m->ranges[i].file == file && m->ranges[i].start == host &&
		    m->ranges[i].end == host + len) {
			/* Its blocks may hold other tables: they stay. */
			m->ranges[i] = m->ranges[--m->n_ranges];
			return;
		}
	}
	for (; len && b <= (host + len - 1) / s->cluster; b++)
		blockset_del(&m->blocks, key_of(file, b, 0));
}

static bool range_hit(const struct meta *m, unsigned file, uint64_t start,
		      uint64_t end)
{
	for (size_t i = 0; i < m->n_ranges; i++)
		if (m->ranges[i].file == file && m->ranges[i].start < end &&
		    start < m->ranges[i].end)
			return true;
	return false;
}

bool meta_hit(const struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	const struct meta *m = &s->meta;
	uint64_t b = host / s->cluster;

	if (!len || host >= HOST_MAX)
		return false;
	for (; b <= (host + len - 1) / s->cluster; b++)
		if (blockset_has(&m->blocks, key_of(file, b, 0)) ||
		    (m->n_ranges && blockset_has(&m->blocks,
						 key_of(file, b, PARTLY)) &&
		     range_hit(m, file, host, host + len)))
			return true;
	return false;
}

bool sparse_meta_has(const struct sparse *s, unsigned file, uint64_t host,
		     uint64_t len)
{
	return meta_hit(s, file, host, len);
}
