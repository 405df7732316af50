/* What the sparse engine must do when requests meet in a bad moment, or when the store
 * fails and then does not: each on a store in memory that answers in an order of its
 * own, over many of its orders. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "image_rig.h"
#include "mem_store.h"

#define SIZE (8 * MiB)
#define CLUSTER (64 * KiB)
#define REQS 4u

static struct rig g;
static struct mem_store m;
static char path[4096];

/* Requests at times of their own, waited for together. */

struct late {
	struct loop_timer timer;
	enum td_op op;
	uint64_t off, len;
	struct iovec iov;
	struct td_req resize;
	unsigned char buf[2 * CLUSTER];
	int err;
};

static struct late late[REQS];
static unsigned n_late, under_way;
static bool all_done;

static void one_done(struct td_req *r, int err)
{
	struct late *l = r->owner;

	l->err = err;
	if (r != &l->resize)
		td_pool_put(g.pool, r);
	all_done = !--under_way;
	if (all_done)
		loop_stop(g.env.loop);
}

static void start_late(struct loop_timer *t)
{
	struct late *l = container_of(t, struct late, timer);
	bool data = l->op == TD_OP_WRITE || l->op == TD_OP_READ;

	if (l->op == TD_OP_RESIZE) {
		l->resize = (struct td_req){ .length = l->len, .done = one_done,
					     .owner = l };
		td_tree_resize(g.tree, &l->resize);
		return;
	}
	l->iov = (struct iovec){ l->buf, l->len };
	rig_start(&g, l->op, 0, l->off, l->len, data ? &l->iov : NULL, data, one_done, l);
}

/* After so many ns; a write's bytes are all `fill`. */
static struct late *add(enum td_op op, uint64_t off, uint64_t len, int fill,
			uint64_t ns)
{
	struct late *l = &late[n_late++];

	assert_true(n_late <= REQS);
	assert_true(op == TD_OP_RESIZE || len <= sizeof(l->buf));
	l->op = op;
	l->off = off;
	l->len = len;
	l->err = 1;
	memset(l->buf, fill, sizeof(l->buf));
	loop_timer_init(&l->timer, start_late);
	loop_timer_set(g.env.loop, &l->timer, ns);
	under_way++;
	return l;
}

static void wait_all(void)
{
	all_done = false;
	rig_run(&g, &all_done);
	n_late = 0;
}

static void mem_begin(const char *spec, const struct td_secret *key)
{
	rig_init(&g);
	g.env.secrets = key;
	g.env.n_secrets = key != NULL;
	g.env.store = &mem_store_driver;
	mem_store_init(&m, rig_random(&group.seed));
	mem_image_load(&m.file[mem_store_file(&m, "a")].image, path);
	assert_int_equal(rig_open(&g, spec, 0), 0);
}

static void mem_end(void)
{
	assert_int_equal(rig_close(&g), 0);
	mem_store_free(&m);
	rig_free(&g);
}

static void put(uint64_t at, const void *bytes, size_t len)
{
	FILE *f = fopen(path, "r+");

	assert_non_null(f);
	assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

/* A grain table of one set alone is copied for the other while a grain of it is
 * discarded: the copy must not bring the grain back. */
static void a_copied_table_does_not_revive_a_grain(void **state)
{
	static unsigned char buf[CLUSTER];
	uint8_t head[512];
	FILE *f;

	(void)state;
	assert_int_equal(image_make("vmdk", path, SIZE, NULL, ""), 0);
	mem_begin("vmdk:a", NULL);
	memset(buf, 'a', sizeof(buf));
	assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
	assert_int_equal(rig_close(&g), 0);
	mem_image_save(&m.file[0].image, path);
	mem_store_free(&m);
	rig_free(&g);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(head, 1, sizeof(head), f), sizeof(head));
	fclose(f);
	for (unsigned i = 0; i < 2; i++) {
		/* The one directory in the first half, then the other in the second. */
		uint64_t gd = 512 * get_le64(head + (i ? 48 : 56)), was;

		f = fopen(path, "r");
		fseek(f, (long)gd, SEEK_SET);
		assert_int_equal(fread(&was, 1, 8, f), 8);
		fclose(f);
		put(gd, "\0\0\0\0\0\0\0", 8);
		for (unsigned k = 0; k < 40; k++) {
			struct late *w, *d;

			mem_begin("vmdk:a", NULL);
			w = add(TD_OP_WRITE, 3 * CLUSTER, 4096, 'b', 0);
			d = add(TD_OP_DISCARD, 0, CLUSTER, 0, k * 8000);
			wait_all();
			assert_int_equal(w->err, 0);
			assert_int_equal(d->err, 0);
			assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
			assert_int_equal(rig_read(&g, 0, sizeof(buf), buf), 0);
			for (unsigned b = 0; b < sizeof(buf); b++)
				assert_int_equal(buf[b], 0);
			mem_end();
		}
		put(gd, &was, 8);
	}
}

/* A write of parts of two encrypted sectors waits for one that writes the second, while
 * one that came later writes the first: that must not be lost. */
static void a_part_and_a_whole_sector(void **state)
{
	static unsigned char buf[2048];
	static const struct td_secret key = { (const unsigned char *)"k", 1 };
	unsigned char aes[4] = { 0, 0, 0, 1 };

	(void)state;
	assert_int_equal(image_make("qcow2", path, SIZE, NULL, "compat=0.10"), 0);
	put(32, aes, sizeof(aes));
	for (unsigned k = 0; k < 200; k++) {
		struct late *older, *part, *younger;

		mem_begin("qcow2:a", &key);
		memset(buf, 'o', sizeof(buf));
		assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
		older = add(TD_OP_WRITE, 512, 512, '1', 0);
		part = add(TD_OP_WRITE, 500, 100, '2', 1000);
		younger = add(TD_OP_WRITE, 0, 512, '3', 2000 + k * 400);
		wait_all();
		assert_int_equal(older->err | part->err | younger->err, 0);
		assert_int_equal(rig_read(&g, 0, sizeof(buf), buf), 0);
		for (unsigned i = 0; i < 500; i++)
			assert_int_equal(buf[i], '3');
		for (unsigned i = 600; i < 1024; i++)
			assert_int_equal(buf[i], '1');
		mem_end();
	}
}

/* Space runs out and comes back.  Who waited is told; who comes later is not, also
 * when somebody waited who wants no space himself: a resize. */
static void no_space_is_not_remembered(void **state)
{
	static unsigned char buf[CLUSTER];
	unsigned refused = 0;

	(void)state;
	assert_int_equal(image_make("qcow2", path, SIZE, NULL, ""), 0);
	for (unsigned k = 0; k < 50; k++) {
		struct late *w, *r;
		uint64_t most;

		mem_begin("qcow2:a", NULL);
		assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, CLUSTER, NULL), 0);
		most = m.max_bytes;
		m.max_bytes = m.file[0].image.size;
		w = add(TD_OP_WRITE, 0, 4096, 'a', 0);
		r = add(TD_OP_RESIZE, 0, SIZE + 512, 0, k * 2000);
		wait_all();
		assert_int_equal(w->err, -ENOSPC);
		refused += r->err != 0;
		m.max_bytes = most;
		assert_int_equal(rig_write(&g, 0, sizeof(buf), buf), 0);
		mem_end();
	}
	assert_true(refused < 50);
}

/* Writes that go on and on while a round syncs are no reason to sync again. */

static bool go_on;
static uint64_t streamed;

static void stream_done(struct td_req *r, int err)
{
	struct late *l = r->owner;

	l->err |= err;
	td_pool_put(g.pool, r);
	if (go_on) {
		l->off = streamed++ % (SIZE / CLUSTER) * CLUSTER + 4096;
		rig_start(&g, TD_OP_WRITE, 0, l->off, l->len, &l->iov, 1, stream_done,
			  l);
	} else if (!--under_way) {
		loop_stop(g.env.loop);
	}
}

static void stream_start(unsigned n)
{
	go_on = true;
	for (under_way = 0; under_way < n; under_way++) {
		struct late *l = &late[under_way];
		struct td_req *r = td_pool_get(g.pool);

		l->len = 4096;
		l->err = 0;
		l->iov = (struct iovec){ l->buf, l->len };
		r->owner = l;
		stream_done(r, 0);
	}
}

static void a_round_syncs_once_a_stage(void **state)
{
	static unsigned char buf[SIZE / 4];
	unsigned syncs = 0;

	(void)state;
	assert_int_equal(image_make("qcow2", path, SIZE, NULL, ""), 0);
	mem_begin("qcow2:a", NULL);
	for (uint64_t at = 0; at < SIZE; at += sizeof(buf))
		assert_int_equal(rig_write(&g, at, sizeof(buf), buf), 0);
	m.record = true;
	stream_start(REQS);
	/* A round of three stages at most: refcounts, L2, L1; and then its end. */
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
	for (size_t i = 0; i < m.n_ops; i++)
		syncs += m.ops[i].op == TD_OP_FLUSH;
	assert_in_range(syncs, 1, 4);
	go_on = false;
	while (under_way)
		loop_run(g.env.loop);
	for (unsigned i = 0; i < REQS; i++)
		assert_int_equal(late[i].err, 0);
	mem_end();
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
		cmocka_unit_test(a_copied_table_does_not_revive_a_grain),
		cmocka_unit_test(a_part_and_a_whole_sector),
		cmocka_unit_test(no_space_is_not_remembered),
		cmocka_unit_test(a_round_syncs_once_a_stage),
	};

	return cmocka_run_group_tests(tests, begin, rig_group_end);
}
