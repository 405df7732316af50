/* What a Xen guest's requests do with its pages: copied, mapped for good, bad ones, more
 * than there is room for (xen_rig.h). */
#include <stdlib.h>

#include "xen_rig.h"

static void pages_are_copied_and_nothing_stays_mapped(void **state)
{
	struct blkif_rw64 *s;

	(void)state;
	connect_it(0);
	for (unsigned i = 0; i < 3 * 4096; i++)
		page(DATA)[i] = (char)(i * 7 + 1);
	request(0, BLKIF_OP_WRITE, 8, DATA, 3);
	assert_int_equal(last_answer(0), 0);
	assert_memory_equal(image + 4096, page(DATA), 3 * 4096);
	assert_int_equal(copies, 3);
	assert_int_equal(notes, 1);

	/* Parts of pages: what lies around them is the guest's. */
	memset(page(DATA), 0x11, 3 * 4096);
	s = request(1, BLKIF_OP_READ, 8, DATA, 2);
	s->seg[0].first = 7;
	s->seg[1].last = 1;
	assert_int_equal(last_answer(1), 0);
	assert_memory_equal(page(DATA) + 3584, image + 4096, 512);
	assert_memory_equal(page(DATA + 1), image + 4608, 1024);
	for (unsigned i = 0; i < 3584; i++)
		assert_int_equal(page(DATA)[i], 0x11);
	for (unsigned i = 1024; i < 4096; i++)
		assert_int_equal(page(DATA + 1)[i], 0x11);

	indirect(0, BLKIF_OP_READ, 8, LIST, DATA, 3);
	assert_int_equal(last_answer(0), 0);
	assert_memory_equal(image + 4096, page(DATA), 3 * 4096);
	assert_int_equal(nr_mapped, 4);
	assert_int_equal(map_calls, 2);
	assert_int_equal(stat_of("mapped"), 0);
}

static void grants_that_stay_are_mapped_once(void **state)
{
	struct blkif_rw64 *s;

	(void)state;
	connect_it(TAP_XEN_PERSISTENT);
	for (unsigned n = 0; n < 20; n++) {
		memset(page(DATA), (int)n + 1, 4 * 4096);
		request(n % 2, BLKIF_OP_WRITE, 0, DATA, 4);
		assert_int_equal(last_answer(n % 2), 0);
		assert_int_equal(image[4095 * 4], n + 1);
	}
	assert_int_equal(map_calls, 2 + 4);
	indirect(0, BLKIF_OP_READ, 0, LIST, DATA, 4);
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(map_calls, 2 + 5);
	assert_int_equal(copies, 0);

	/* One page, all over a request. */
	image[0] = 'a';
	image[512] = 'b';
	s = request(0, BLKIF_OP_READ, 0, DATA, 4);
	for (unsigned i = 0; i < 4; i++)
		s->seg[i] = (struct blkif_segment){ DATA, (uint8_t)(6 - i),
						    (uint8_t)(6 - i), 0 };
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(page(DATA)[6 * 512], 'a');
	assert_int_equal(page(DATA)[5 * 512], 'b');
	assert_int_equal(map_calls, 2 + 5);
	assert_int_equal(stat_of("mapped"), 5);
}

/* Also that an error leaves nothing behind: more often than there are pages. */
static void a_bad_grant_fails_its_request_alone(void **state)
{
	(void)state;
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		connect_it(persistent);
		for (unsigned n = 0; n < 5000; n++) {
			bool first = n < 10, list = n % 3 == 1, write = n % 2;

			bad[DATA + 1] = bad[LIST + 1] = true;
			indirect(0, write, 0, LIST + list, DATA, 3);
			assert_int_equal(last_answer(0), -1);
			if (!first)
				continue;
			memset(page(DATA), (int)n, 4096);
			request(1, BLKIF_OP_WRITE, 64, DATA, 1);
			assert_int_equal(last_answer(1), 0);
			assert_int_equal(image[64 * 512], (char)n);
		}
		request(0, BLKIF_OP_READ, 0, GREFS + 5, 2);
		assert_int_equal(last_answer(0), -1);
		request(0, BLKIF_OP_READ, 0, UINT32_MAX, 1);
		assert_int_equal(last_answer(0), -1);
		assert_true(stat_of("bad_grants") >= 5000);
		assert_int_equal(broken, 0);
		assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
		settle();
		assert_int_equal(gone, persistent + 1);
	}
}

/* Over the limit: copied while those that are mapped are in use or fresh; then
 * the idle ones go, in batches, and none that a request holds. */
static void grants_over_the_limit(void **state)
{
	struct tap_xen_connect c = hello(TAP_XEN_PERSISTENT);
	const unsigned limit = 1056;
	const char *why;

	(void)state;
	c.queues = 1;
	c.order = 2;
	for (unsigned i = 0; i < 4; i++)
		c.ref[0][i] = RING(0) + i;
	slots = blkif_slots(TAPRING_ABI_X86_64, 2);
	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	hold = true;
	for (unsigned n = 0; n < limit; n += 11)
		request(0, BLKIF_OP_WRITE, 0, DATA + n, 11);
	request(0, BLKIF_OP_READ, 0, DATA + limit, 1);
	settle();
	assert_int_equal(nr_held, 97);
	assert_int_equal(stat_of("mapped"), limit);
	let_go();
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(copies, 1);
	assert_int_equal(stat_of("evicted"), 0);
	/* Eleven are held by one that is slow. */
	hold = true;
	memset(image, 0x77, 4096);
	request(0, BLKIF_OP_READ, 0, DATA, 11);
	settle();
	assert_int_equal(nr_held, 1);
	hold = false;
	wait_ms(150);
	memset(page(DATA + limit), 0x3d, 4096);
	request(0, BLKIF_OP_WRITE, 8, DATA + limit, 1);
	settle();
	assert_int_equal(image[4096], 0x3d);
	assert_int_equal(copies, 1);
	assert_int_equal(stat_of("evicted"), 64);
	assert_int_equal(stat_of("mapped"), limit - 63);
	for (unsigned i = 0; i < 11; i++)
		assert_int_equal(mapped[DATA + i], 1);
	let_go();
	settle();
	assert_int_equal(page(DATA)[0], 0x77);
	/* Those that went come back. */
	for (unsigned n = 0; n < limit; n += 11) {
		request(0, BLKIF_OP_READ, 0, DATA + n, 11);
		assert_int_equal(last_answer(0), 0);
		assert_int_equal(page(DATA + n)[5], 0x77);
	}
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(gone, 1);
}

/* One call for many, and a bad one among them is its own. */
static void what_is_due_together_is_copied_together(void **state)
{
	struct blkif_rsp64 r;

	(void)state;
	connect_it(0);
	bad[DATA + 40] = true;
	for (unsigned round = 0; round < 2; round++) {
		copy_calls = 0;
		for (unsigned i = 0; i < 32; i++) {
			memset(page(DATA + 2 * i), round ? 0 : (int)i + 1, 8192);
			request(0, round ? BLKIF_OP_READ : BLKIF_OP_WRITE, i * 16,
				DATA + 2 * i, 2);
		}
		last_answer(0);
		assert_int_equal(copy_calls, 1);
		for (unsigned i = 0; i < 32; i++) {
			memcpy(&r, slot(0, round * 32 + i), sizeof(r));
			assert_int_equal(r.status, r.id % 32 == 20 ? -1 : 0);
			if (i != 20)
				assert_int_equal(page(DATA + 2 * i)[8191], i + 1);
			assert_int_equal(image[i * 8192 + 8191],
					 i == 20 ? 0 : i + 1);
		}
	}
	/* More than one call takes. */
	copy_calls = 0;
	for (unsigned i = 0; i < 5; i++)
		indirect(0, BLKIF_OP_READ, i * 8, LIST + i, DATA + 50, 100);
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(copy_calls, 5 + 3);
}

static void more_than_there_is_room_for_waits(void **state)
{
	(void)state;
	connect_it(0);
	hold = true;
	for (unsigned i = 0; i < 20; i++)
		indirect(0, BLKIF_OP_READ, i * 8, LIST + i, DATA, 256);
	settle();
	assert_int_equal(nr_held, 16);		/* 4096 pages */
	assert_int_equal(stat_of("waited"), 1);
	let_go();
	assert_int_equal(last_answer(0), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct blkif_rsp64 r;

		memcpy(&r, slot(0, i), sizeof(r));
		assert_int_equal(r.status, 0);
	}
}

/* Random slots, grants that come and go, I/O that ends late and in any order:
 * each request is answered once, by its id, and nothing stays held. */
static void whatever_a_guest_sends_is_answered(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given && *given ? (unsigned)atoi(given) : (unsigned)getpid();
	static bool waiting[2][64];

	(void)state;
	print_message("SEED=%u\n", seed);
	for (unsigned life = 0; life < 4; life++) {
		uint32_t seen[2] = { 0, 0 };

		connect_it(life % 2 ? TAP_XEN_PERSISTENT : 0);
		memset(waiting, 0, sizeof(waiting));
		for (unsigned n = 0; n < 20000; n++) {
			unsigned q = rand_r(&seed) % 2, pos = sring(q)->req_prod;
			unsigned ref = (unsigned)rand_r(&seed) % 1500 + DATA;
			uint64_t sector = (uint64_t)rand_r(&seed) % 8000;
			struct blkif_rw64 *s;

			if (rand_r(&seed) % 16 == 0)
				bad[rand_r(&seed) % 1500 + LIST] ^= true;
			if (pos - seen[q] >= slots || rand_r(&seed) % 8 == 0) {
				hold = rand_r(&seed) % 2;
				while (nr_held && rand_r(&seed) % 8) {
					struct td_req *r = held[0];

					held[0] = held[--nr_held];
					do_io(r);
				}
				if (nr_held > 500)
					let_go();
				settle();
				for (; seen[q] != sring(q)->rsp_prod; seen[q]++) {
					struct blkif_rsp64 r;

					memcpy(&r, slot(q, seen[q]), sizeof(r));
					assert_true(r.id < 64 && waiting[q][r.id]);
					waiting[q][r.id] = false;
				}
				continue;
			}
			for (unsigned id = 0; ; id++) {
				if (waiting[q][id])
					continue;
				waiting[q][id] = true;
				pos = id;
				break;
			}
			if (rand_r(&seed) % 2) {
				struct blkif_segment *seg = indirect(q,
					rand_r(&seed) % 4, sector, LIST + pos, ref,
					(unsigned)rand_r(&seed) % 40);

				for (unsigned i = 0; i < 40; i++)
					seg[i].gref = DATA + (unsigned)rand_r(&seed) % 1800;
			} else {
				request(q, rand_r(&seed) % 7, sector, ref,
					(unsigned)rand_r(&seed) % 11);
			}
			s = slot(q, sring(q)->req_prod - 1);
			s->id = pos;
			if (s->op != BLKIF_OP_INDIRECT && rand_r(&seed) % 8 == 0)
				s->seg[0].last = (uint8_t)rand_r(&seed);
		}
		assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
		let_go();
		settle();
		assert_int_equal(gone, life + 1);
		assert_int_equal(broken, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pages_are_copied_and_nothing_stays_mapped),
		TEST(grants_that_stay_are_mapped_once),
		TEST(a_bad_grant_fails_its_request_alone),
		TEST(grants_over_the_limit),
		TEST(what_is_due_together_is_copied_together),
		TEST(more_than_there_is_room_for_waits),
		TEST(whatever_a_guest_sends_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
