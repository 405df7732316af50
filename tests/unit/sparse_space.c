/* What a closed image takes of its file system: what it holds and what its tables need,
 * nothing that was reserved or allocated ahead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "image_rig.h"
#include "loop/loop.h"

#define SIZE (1 * GiB)
#define WRITES 360u
#define TABLES (256 * KiB)	/* at most, beside those that are there at first */

static const struct {
	const char *format, *options;
	uint64_t cluster;
} kinds[] = {
	{ "qcow2", "", 64 * KiB },
	{ "qcow2", "cluster_size=4096", 4 * KiB },
	{ "qcow2", "extended_l2=on,cluster_size=131072", 128 * KiB },
	{ "qcow", "", 4 * KiB },
	{ "vmdk", "", 64 * KiB },
};

static char path[4096], spec[4096 + 16];

/* Writes that meet no cluster twice, many at a time. */
struct many {
	struct rig *g;
	struct iovec iov;
	unsigned n, started, pending;
	uint64_t step;
	int err;
};

static void more(struct many *m);

static void one_done(struct td_req *r, int err)
{
	struct many *m = r->owner;

	m->err |= err;
	m->pending--;
	td_pool_put(m->g->pool, r);
	more(m);
	if (!m->pending)
		loop_stop(m->g->env.loop);
}

static void more(struct many *m)
{
	while (m->pending < 32 && m->started < m->n) {
		m->pending++;
		rig_start(m->g, TD_OP_WRITE, 0, m->started++ * m->step,
			  m->iov.iov_len, &m->iov, 1, one_done, m);
	}
}

static void write_some(struct rig *g, unsigned n)
{
	static unsigned char buf[4096];
	struct many m = { .g = g, .n = n, .iov = { buf, sizeof(buf) },
			  .step = align_down(SIZE / WRITES, 128 * KiB) };

	rig_fill(&group.seed, buf, sizeof(buf));
	more(&m);
	while (m.pending)
		loop_run(g->env.loop);
	assert_int_equal(m.err, 0);
}

static uint64_t bytes_of(uint64_t *blocks)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	*blocks = (uint64_t)st.st_blocks * 512;
	return (uint64_t)st.st_size;
}

static void left_over(size_t kind, unsigned n)
{
	uint64_t most, cluster = kinds[kind].cluster, size, blocks;
	struct rig g;

	assert_int_equal(image_make(kinds[kind].format, path, SIZE, NULL,
				    kinds[kind].options), 0);
	most = bytes_of(&blocks) + n * cluster + TABLES;
	if (cluster == 4 * KiB)			/* a table for each */
		most += n * 4 * KiB;
	snprintf(spec, sizeof(spec), "%s:%s", kinds[kind].format, path);
	image_must_open(&g, spec, 0);
	write_some(&g, n);
	image_must_close(&g);
	size = bytes_of(&blocks);
	if (size > most || blocks > most)
		fail_msg("%s %s, %u writes: %llu bytes, %llu of them allocated, want "
			 "%llu", kinds[kind].format, kinds[kind].options, n,
			 (unsigned long long)size, (unsigned long long)blocks,
			 (unsigned long long)most);
}

/* However far the last run of clusters has been used up. */
static void nothing_is_left_over(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned n = WRITES - 48; n <= WRITES; n += 6)
			left_over(i, n);
}

/* All written, half of it discarded in pieces, some of it written again. */
static void what_was_discarded_is_not_left_either(void **state)
{
	static unsigned char buf[MiB];

	(void)state;
	rig_fill(&group.seed, buf, sizeof(buf));
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		uint64_t size = 64 * MiB, most;
		uint64_t blocks;
		struct rig g;

		if (!strcmp(kinds[i].format, "qcow"))
			continue;	/* it has no word for "nothing here" */
		assert_int_equal(image_make(kinds[i].format, path, size, NULL,
					    kinds[i].options), 0);
		snprintf(spec, sizeof(spec), "%s:%s", kinds[i].format, path);
		image_must_open(&g, spec, 0);
		for (uint64_t at = 0; at < size; at += sizeof(buf))
			assert_int_equal(rig_write(&g, at, sizeof(buf), buf), 0);
		for (uint64_t at = 0; at < size; at += 2 * MiB)
			assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, at, MiB, NULL), 0);
		assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
		for (uint64_t at = 0; at < 8 * MiB; at += 2 * MiB)
			assert_int_equal(rig_write(&g, at, MiB, buf), 0);
		image_must_close(&g);
		bytes_of(&blocks);
		most = size / 2 + 4 * MiB + MiB;
		if (blocks > most)
			fail_msg("%s %s: %llu bytes allocated, want %llu",
				 kinds[i].format, kinds[i].options,
				 (unsigned long long)blocks, (unsigned long long)most);
	}
}

static int begin(void **state)
{
	int err = rig_group_begin(state);

	snprintf(path, sizeof(path), "%s/a", group.dir);
	return err;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_left_over),
		cmocka_unit_test(what_was_discarded_is_not_left_either),
	};

	return cmocka_run_group_tests(tests, begin, rig_group_end);
}
