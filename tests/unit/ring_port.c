/* Rings as a front of the disk: a real loop and a real disk between a driver of
 * the test's (which can hold requests) and a front end played by the test. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "fake_disk.h"
#include "ring/port.h"

#define DATA 8u			/* first page of the front end that holds data */
#define PAGES 300u

/* The back end. */
static uint8_t *mem;
static struct loop *loop;
static struct td_env env;
static struct disk *disk;
static struct ring_port *port;
static unsigned notified[2], armings, resizes, stopped;
static uint64_t told_size;
static const char *hung_up;

static uint8_t *page(unsigned n)
{
	return mem + (size_t)n * TAPRING_PAGE;
}

/* What is held; in a bounce of its own if asked to. */
static unsigned holds, released, loads;
static int release_err, load_err;
static bool holding;

static int be_resolve(struct ring_port *p, const struct blkif_req *b, void **to,
		      void **hold_it)
{
	(void)p;
	for (unsigned i = 0; i < b->nr_segs; i++) {
		if (b->gref[i] >= PAGES)
			return -EFAULT;
		to[i] = page(b->gref[i]);
	}
	if (holding) {
		*hold_it = &holds;
		p->full = ++holds == 3;
	}
	return 0;
}

static void be_load(struct ring_port *p, void **held_it, int *err, unsigned n)
{
	(void)p;
	loads++;
	for (unsigned i = 0; i < n; i++) {
		assert_ptr_equal(held_it[i], &holds);
		assert_int_equal(err[i], 0);
		err[i] = load_err;
	}
}

static void be_release(struct ring_port *p, void **held_it, int *err, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_ptr_equal(held_it[i], &holds);
		assert_true(holds > 0);
		holds--;
		released++;
		if (!err[i])
			err[i] = release_err;
	}
	p->full = false;
}

static int be_fetch(struct ring_port *p, const uint32_t *gref, void *to, size_t len)
{
	(void)p;
	for (; len; gref++) {
		size_t n = min_u64(len, TAPRING_PAGE);

		if (*gref >= PAGES)
			return -EFAULT;
		memcpy(to, page(*gref), n);
		to = (char *)to + n;
		len -= n;
	}
	return 0;
}

static void be_notify(struct ring_port *p, unsigned queue)
{
	(void)p;
	notified[queue]++;
}

static void be_arming(struct ring_port *p, unsigned queue)
{
	(void)p;
	(void)queue;
	armings++;
}

static void be_resized(struct ring_port *p, uint64_t sectors)
{
	(void)p;
	resizes++;
	told_size = sectors;
}

static void be_hang_up(struct ring_port *p, const char *why)
{
	assert_null(hung_up);
	hung_up = why;
	ring_port_stop(p);
}

static void be_stopped(struct ring_port *p)
{
	assert_ptr_equal(p, port);
	stopped++;
	free(port);
	port = NULL;
}

static const struct ring_port_ops be_ops = {
	.name = "test", .resolve = be_resolve, .load = be_load,
	.release = be_release,
	.fetch = be_fetch, .notify = be_notify, .arming = be_arming,
	.resized = be_resized, .hang_up = be_hang_up, .stopped = be_stopped,
};

static bool stop_hook(struct loop_hook *h)
{
	(void)h;
	loop_stop(loop);
	return true;
}

/* Let everything happen that can. */
static void settle(void)
{
	static struct loop_hook h;

	loop_hook_add(loop, LOOP_SLEEP, &h, stop_hook);
	loop_run(loop);
	loop_hook_del(&h);
}

static int ctl_err;
static void on_ctl(void *arg, int err, const char *why)
{
	(void)arg;
	(void)why;
	ctl_err = err;
}

static int make(void **state)
{
	(void)state;
	loop = loop_new();
	mem = calloc(PAGES, TAPRING_PAGE);
	env = (struct td_env){ .loop = loop, .name = "test" };
	disk = disk_new(&env);
	image_size = SIZE / 2;
	hold = false;
	nr_held = 0;
	notified[0] = notified[1] = armings = resizes = stopped = 0;
	hung_up = NULL;
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	port = calloc(1, sizeof(*port));
	for (unsigned q = 0; q < 2; q++) {
		struct blkif_sring *sr = (void *)page(q);

		ring_init(&port->ring[q], TAPRING_ABI_X86_64, 0, sr);
		sr->req_event = sr->rsp_event = 1;
	}
	assert_int_equal(ring_port_start(port, &be_ops, loop, disk, 2, 256), 0);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	let_go();
	if (port && !port->stopping)
		ring_port_stop(port);
	settle();
	assert_int_equal(stopped, 1);
	disk_close(disk, on_ctl, NULL);
	settle();
	disk_free(disk);
	loop_free(loop);
	free(mem);
	return 0;
}

/* The front end. */

static struct blkif_sring *sring(unsigned q)
{
	return (void *)page(q);
}

static struct blkif_rw64 *slot(unsigned q, uint32_t pos)
{
	return (struct blkif_rw64 *)(void *)(page(q) + 64) + pos % 32;
}

static struct blkif_rw64 *request(unsigned q, uint8_t op, uint64_t id,
				  uint64_t sector, unsigned segs)
{
	struct blkif_rw64 *s = slot(q, sring(q)->req_prod++);

	*s = (struct blkif_rw64){ .op = op, .nr_segs = (uint8_t)segs, .id = id,
				  .sector = sector };
	for (unsigned i = 0; i < segs && i < 11; i++)
		s->seg[i] = (struct blkif_segment){ DATA + i, 0, 7, 0 };
	return s;
}

static struct blkif_rsp64 answer(unsigned q, uint32_t pos)
{
	struct blkif_rsp64 r;

	memcpy(&r, slot(q, pos), sizeof(r));
	return r;
}

static void data_goes_both_ways_and_neighbours_are_one_vector(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 4 * TAPRING_PAGE; i++)
		page(DATA)[i] = (uint8_t)(i * 7);
	request(0, BLKIF_OP_WRITE, 1, 8, 4);
	settle();
	assert_int_equal(last_iovcnt, 1);
	assert_memory_equal(image + 4096, page(DATA), 4 * TAPRING_PAGE);
	assert_int_equal(sring(0)->rsp_prod, 1);
	assert_int_equal(answer(0, 0).id, 1);
	assert_int_equal(answer(0, 0).status, 0);
	assert_int_equal(notified[0], 1);
	assert_int_equal(notified[1], 0);

	memset(page(DATA), 0, 4 * TAPRING_PAGE);
	request(1, BLKIF_OP_READ, 2, 8, 1)->seg[0].first = 7;
	settle();
	assert_memory_equal(image + 4096, page(DATA) + 7 * 512, 512);
	assert_int_equal(page(DATA)[0], 0);
	assert_int_equal(notified[1], 1);
}

/* More often than there are vectors for it, so that each must come back. */
static void an_indirect_request_may_be_all_in_pieces(void **state)
{
	struct blkif_segment *seg = (void *)page(2);

	(void)state;
	for (unsigned i = 0; i < 256; i++)
		seg[i] = (struct blkif_segment){ DATA + i, 3, 3, 0 };
	for (unsigned n = 0; n < 100; n++) {
		struct blkif_indirect64 *s = (void *)request(0, BLKIF_OP_INDIRECT,
							     n, 16, 0);

		s->inner = BLKIF_OP_WRITE;
		s->nr_segs = 256;
		s->gref[0] = 2;
		for (unsigned i = 0; i < 256; i++)
			memset(page(DATA + i) + 3 * 512, (int)(i + n), 512);
		settle();
		assert_int_equal(answer(0, n).status, 0);
		assert_int_equal(answer(0, n).op, BLKIF_OP_WRITE);
		assert_int_equal(last_iovcnt, 256);
		for (unsigned i = 0; i < 256; i++)
			assert_int_equal((uint8_t)image[(16 + i) * 512 + 100],
					 (uint8_t)(i + n));
	}
}

static void bad_references_and_requests_cost_an_error_each(void **state)
{
	struct blkif_indirect64 *s;

	(void)state;
	request(0, BLKIF_OP_READ, 10, 0, 1)->seg[0].gref = PAGES;
	request(0, BLKIF_OP_READ, 11, 0, 12);
	request(0, 200, 12, 0, 1);
	s = (void *)request(0, BLKIF_OP_INDIRECT, 13, 0, 0);
	s->inner = BLKIF_OP_WRITE;
	s->nr_segs = 20;
	s->gref[0] = UINT32_MAX;
	request(0, BLKIF_OP_READ, 14, SIZE / 2 / 512, 1);
	request(0, BLKIF_OP_READ, 15, 0, 1);
	settle();
	assert_int_equal(sring(0)->rsp_prod, 6);
	for (unsigned i = 0; i < 6; i++) {
		struct blkif_rsp64 r = answer(0, i);

		assert_int_equal(r.status, r.id == 15 ? 0 : r.id == 12 ? -2 : -1);
		assert_int_equal(r.op, r.id == 12 ? 200 : r.id == 13 ?
				 BLKIF_OP_WRITE : BLKIF_OP_READ);
	}
	assert_null(hung_up);
	assert_int_equal(port->bad, 5);
}

static void a_broken_ring_hangs_up_and_waits_for_its_io(void **state)
{
	(void)state;
	hold = true;
	request(0, BLKIF_OP_READ, 1, 0, 1);
	request(1, BLKIF_OP_WRITE, 2, 0, 1);
	settle();
	assert_int_equal(nr_held, 2);
	sring(0)->req_prod += 1000;
	settle();
	assert_non_null(hung_up);
	assert_int_equal(stopped, 0);		/* memory is still in use */
	let_go();
	settle();
	assert_int_equal(stopped, 1);
}

static void a_paused_disk_leaves_requests_on_the_ring(void **state)
{
	(void)state;
	disk_pause(disk, on_ctl, NULL);
	settle();
	assert_int_equal(disk_state(disk), DISK_PAUSED);
	request(0, BLKIF_OP_WRITE, 1, 0, 1);
	armings = 0;
	settle();
	assert_int_equal(sring(0)->rsp_prod, 0);
	assert_int_equal(armings, 0);
	disk_resume(disk, NULL, 0, on_ctl, NULL);
	settle();
	assert_int_equal(disk_state(disk), DISK_RUNNING);
	assert_int_equal(sring(0)->rsp_prod, 1);
	assert_int_equal(answer(0, 0).status, 0);
}

static void a_client_may_come_while_the_disk_is_being_unpaused(void **state)
{
	struct ring_port *first = port;
	struct disk *new;

	(void)state;
	ring_port_stop(first);
	settle();
	assert_int_equal(stopped--, 1);
	disk_pause(disk, on_ctl, NULL);
	settle();
	disk_resume(disk, NULL, 0, on_ctl, NULL);
	assert_int_equal(disk_state(disk), DISK_OPENING);
	assert_true(ring_port_disk_ready(disk));
	port = calloc(1, sizeof(*port));
	for (unsigned q = 0; q < 2; q++)
		ring_init(&port->ring[q], TAPRING_ABI_X86_64, 0, page(q));
	assert_int_equal(ring_port_start(port, &be_ops, loop, disk, 2, 256), 0);
	request(0, BLKIF_OP_WRITE, 1, 0, 1);
	settle();
	assert_int_equal(disk_state(disk), DISK_RUNNING);
	assert_int_equal(sring(0)->rsp_prod, 1);
	assert_int_equal(answer(0, 0).status, 0);

	/* One that was never open is nothing to connect to. */
	new = disk_new(&env);
	disk_open(new, "fake:x", 0, on_ctl, NULL);
	assert_int_equal(disk_state(new), DISK_OPENING);
	assert_false(ring_port_disk_ready(new));
	settle();
	disk_close(new, on_ctl, NULL);
	settle();
	disk_free(new);
}

static void growth_is_told_and_counts_at_once(void **state)
{
	(void)state;
	disk_resize(disk, SIZE, on_ctl, NULL);
	settle();
	assert_int_equal(resizes, 1);
	assert_int_equal(told_size, SIZE / 512);
	request(0, BLKIF_OP_READ, 1, SIZE / 512 - 8, 1);
	settle();
	assert_int_equal(answer(0, 0).status, 0);
}

static void a_closing_disk_hangs_up_on_its_clients(void **state)
{
	(void)state;
	disk_close(disk, on_ctl, NULL);
	settle();
	assert_non_null(hung_up);
	assert_int_equal(stopped, 1);
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
}

/* A full ring, again and again: the pool is just large enough. */
static void full_rings_are_served(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		for (unsigned q = 0; q < 2; q++)
			for (unsigned i = 0; i < 32; i++)
				request(q, i % 2, i, i, 11);
		hold = round % 2;
		settle();
		let_go();
		settle();
		for (unsigned q = 0; q < 2; q++)
			assert_int_equal(sring(q)->rsp_prod, (round + 1) * 32);
	}
}

static void a_doorbell_is_asked_for_only_before_sleeping(void **state)
{
	(void)state;
	settle();
	assert_int_equal(armings, 2);
	assert_int_equal(sring(0)->req_event, 1);
	settle();
	assert_int_equal(armings, 2);
	request(0, BLKIF_OP_READ, 1, 0, 1);
	settle();
	assert_int_equal(armings, 3);
	assert_int_equal(sring(0)->req_event, 2);
	assert_int_equal(sring(1)->req_event, 1);
}

/* The owner has room for three: the fourth waits on the ring. */
static void what_is_held_is_released_and_a_full_owner_is_waited_for(void **state)
{
	(void)state;
	holding = hold = true;
	holds = released = 0;
	for (unsigned i = 0; i < 5; i++)
		request(0, BLKIF_OP_READ, i, i, 1);
	request(0, BLKIF_OP_FLUSH, 5, 0, 0);
	settle();
	assert_int_equal(nr_held, 3);
	assert_int_equal(port->ring[0].cons, 3);
	assert_int_equal(sring(0)->rsp_prod, 0);
	let_go();
	settle();
	assert_int_equal(sring(0)->rsp_prod, 6);
	assert_int_equal(released, 5);		/* a flush holds nothing */
	assert_int_equal(holds, 0);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(answer(0, i).status, 0);
	/* What cannot be given to the guest is an error of the request. */
	release_err = -EFAULT;
	request(0, BLKIF_OP_READ, 6, 0, 1);
	settle();
	assert_int_equal(answer(0, 6).status, -1);
	assert_int_equal(port->io[TD_OP_READ].taken, 6);
	assert_int_equal(port->io[TD_OP_READ].done, 6);
	assert_int_equal(port->io[TD_OP_READ].sectors, 6 * 8);
	release_err = 0;
	/* Nor does what cannot be had of it reach the disk: others do, in order. */
	load_err = -EFAULT;
	image[0] = 0;
	request(0, BLKIF_OP_WRITE, 7, 0, 1);
	request(0, BLKIF_OP_READ, 8, 0, 1);
	settle();
	assert_int_equal(sring(0)->rsp_prod, 9);
	for (unsigned i = 7; i < 9; i++)
		assert_int_equal(answer(0, i).status, answer(0, i).id == 7 ? -1 : 0);
	assert_int_equal(holds, 0);
	load_err = 0;
	holding = false;
}

static void held_writes_are_loaded_together_and_keep_their_order(void **state)
{
	(void)state;
	holding = true;
	holds = 10;		/* far from full */
	loads = released = 0;
	for (unsigned i = 0; i < 6; i++)
		request(0, BLKIF_OP_WRITE, i, i * 8, 1);
	hold = true;
	request(0, BLKIF_OP_FLUSH, 6, 0, 0);
	request(0, BLKIF_OP_WRITE, 7, 64, 1);
	settle();
	assert_int_equal(loads, 1);
	assert_int_equal(nr_held, 8);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(held[i]->op, i == 6 ? TD_OP_FLUSH : TD_OP_WRITE);
		assert_int_equal(held[i]->offset, i == 6 ? 0 : i == 7 ? 32768 :
				 i * 4096);
	}
	let_go();
	settle();
	assert_int_equal(sring(0)->rsp_prod, 8);
	assert_int_equal(released, 7);
	assert_int_equal(holds, 10);
	holds = 0;
	holding = false;
}

static void a_ring_that_may_not_write_does_not(void **state)
{
	static const uint8_t ops[] = { BLKIF_OP_WRITE, BLKIF_OP_BARRIER,
				       BLKIF_OP_DISCARD, BLKIF_OP_READ,
				       BLKIF_OP_FLUSH };

	(void)state;
	port->rdonly = true;
	memset(page(DATA), 0x5a, TAPRING_PAGE);
	memset(image, 0, TAPRING_PAGE);
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		struct blkif_rw64 *s = request(0, ops[i], i, 0,
					       ops[i] != BLKIF_OP_FLUSH);

		if (ops[i] == BLKIF_OP_DISCARD)
			*(struct blkif_discard64 *)(void *)s =
				(struct blkif_discard64){ .op = ops[i], .id = i,
							  .nr_sectors = 8 };
	}
	settle();
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		struct blkif_rsp64 r = answer(0, i);

		assert_int_equal(r.status, r.id < 3 ? -1 : 0);
	}
	assert_int_equal(image[0], 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(data_goes_both_ways_and_neighbours_are_one_vector),
		TEST(an_indirect_request_may_be_all_in_pieces),
		TEST(bad_references_and_requests_cost_an_error_each),
		TEST(a_broken_ring_hangs_up_and_waits_for_its_io),
		TEST(a_paused_disk_leaves_requests_on_the_ring),
		TEST(a_client_may_come_while_the_disk_is_being_unpaused),
		TEST(growth_is_told_and_counts_at_once),
		TEST(a_closing_disk_hangs_up_on_its_clients),
		TEST(full_rings_are_served),
		TEST(a_doorbell_is_asked_for_only_before_sleeping),
		TEST(what_is_held_is_released_and_a_full_owner_is_waited_for),
		TEST(held_writes_are_loaded_together_and_keep_their_order),
		TEST(a_ring_that_may_not_write_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
