/* Positions of a ring: what is consumed, answered, pushed and asked for, at the
 * wrap too; and that a front end cannot move what is ours. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ring/ring.h"

static uint32_t mem[TAPRING_PAGE];	/* four pages: order 2 */
static struct blkif_sring *sr = (struct blkif_sring *)mem;
static struct ring r;
static const uint8_t *slot;
static unsigned ticket;

static void start(unsigned abi, uint32_t at)
{
	memset(mem, 0, sizeof(mem));
	ring_init(&r, abi, 0, mem);
	r.cons = r.seen = r.rsp_pvt = r.rsp_pub = at;
	sr->req_prod = sr->rsp_prod = at;
	sr->req_event = sr->rsp_event = at + 1;
}

/* Request `pos` carries pos as its id. */
static void request(uint32_t pos)
{
	uint8_t *p = (uint8_t *)mem + 64 + (pos % ring_slots(&r)) * r.slot_size;
	uint64_t id = pos;

	memcpy(p + (r.slot_size == 112 ? 8 : 4), &id, 8);
	sr->req_prod = pos + 1;
}

static uint64_t id_of(void)
{
	uint64_t id;

	memcpy(&id, slot + (r.slot_size == 112 ? 8 : 4), 8);
	return id;
}

static void requests_come_in_order_across_the_wrap(void **state)
{
	(void)state;
	for (unsigned abi = 1; abi <= 3; abi++) {
		uint32_t at = UINT32_MAX - 40;

		start(abi, at);
		for (unsigned n = 0; n < 100; n++, at++) {
			assert_int_equal(ring_consume(&r, &slot, &ticket), 0);
			request(at);
			assert_true(ring_waiting(&r));
			assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
			assert_int_equal(id_of(), at);
			assert_int_equal(ring_open(&r), 1);
			assert_false(ring_unpushed(&r));
			ring_answer(&r, ticket, id_of(), 1, -1);
			assert_int_equal(ring_open(&r), 0);
			assert_true(ring_unpushed(&r));
			ring_push(&r);
			assert_int_equal(sr->rsp_prod, at + 1);
		}
	}
}

static void an_answer_has_its_layout(void **state)
{
	const uint8_t *p = (uint8_t *)mem + 64;
	uint64_t id = 0x8877665544332211ull, got;
	int16_t status;

	(void)state;
	for (unsigned abi = 1; abi <= 3; abi++) {
		size_t step = abi == TAPRING_ABI_X86_32 ? 108 : 112;

		start(abi, 0);
		request(0);
		request(1);
		assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
		assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
		ring_answer(&r, ticket, 0, 0, 0);
		ring_answer(&r, ticket, id, 5, -2);
		memcpy(&got, p + step, 8);
		memcpy(&status, p + step + 10, 2);
		assert_true(got == id);
		assert_int_equal(p[step + 8], 5);
		assert_int_equal(status, -2);
	}
}

static void a_slot_that_changes_later_changes_nothing(void **state)
{
	(void)state;
	start(1, 0);
	request(0);
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	memset((uint8_t *)mem + 64, 0xff, 112);
	assert_int_equal(id_of(), 0);
}

static void a_producer_beyond_the_ring_breaks_it(void **state)
{
	static const uint32_t bad[] = { 33, 34, 1000, 0x80000000, UINT32_MAX };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		start(1, 500);
		sr->req_prod = 500 + bad[i];
		assert_int_equal(ring_consume(&r, &slot, &ticket), -EPROTO);
		assert_int_equal(ring_consume(&r, &slot, &ticket), 0);
		assert_false(ring_waiting(&r));
		assert_false(ring_arm(&r));
		assert_int_equal(r.cons, 500);
	}
	start(1, 500);
	sr->req_prod = 532;
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
}

static void a_slot_is_free_again_only_when_its_answer_was_shown(void **state)
{
	(void)state;
	start(1, 0);
	for (uint32_t i = 0; i < 32; i++)
		request(i);
	for (uint32_t i = 0; i < 32; i++)
		assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	ring_answer(&r, ticket, 0, 0, 0);
	request(32);
	assert_int_equal(ring_consume(&r, &slot, &ticket), -EPROTO);

	start(1, 0);
	for (uint32_t i = 0; i < 32; i++)
		request(i);
	for (uint32_t i = 0; i < 32; i++)
		assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	ring_answer(&r, ticket, 0, 0, 0);
	ring_push(&r);
	request(32);
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
}

static void a_producer_that_goes_back_breaks_the_ring(void **state)
{
	(void)state;
	start(1, 0);
	request(0);
	request(1);
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	sr->req_prod = 1;
	assert_int_equal(ring_consume(&r, &slot, &ticket), -EPROTO);
}

static void our_positions_are_not_in_the_page(void **state)
{
	(void)state;
	start(1, 10);
	request(10);
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	sr->rsp_prod = 12345;
	ring_answer(&r, ticket, 10, 0, 0);
	ring_push(&r);
	assert_int_equal(sr->rsp_prod, 11);
}

static void a_front_end_is_notified_when_it_asks(void **state)
{
	static const struct { uint32_t event; unsigned answers; bool want; } t[] = {
		{ 1, 1, true }, { 2, 1, false }, { 2, 2, true }, { 1, 3, true },
		{ 3, 3, true }, { 4, 3, false }, { 0, 3, false },
		{ UINT32_MAX, 3, false },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		start(1, 0);
		sr->rsp_event = t[i].event;
		for (unsigned k = 0; k < t[i].answers; k++) {
			request(k);
			assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
			ring_answer(&r, ticket, k, 0, 0);
		}
		assert_int_equal(ring_push(&r), t[i].want);
	}
}

static void a_doorbell_is_asked_for_once_a_position(void **state)
{
	(void)state;
	start(1, 7);
	assert_true(ring_arm(&r));
	assert_int_equal(sr->req_event, 8);
	assert_false(ring_arm(&r));
	request(7);
	assert_int_equal(ring_consume(&r, &slot, &ticket), 1);
	assert_int_equal(sr->req_event, 8);
	assert_true(ring_arm(&r));
	assert_int_equal(sr->req_event, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(requests_come_in_order_across_the_wrap),
		cmocka_unit_test(an_answer_has_its_layout),
		cmocka_unit_test(a_slot_that_changes_later_changes_nothing),
		cmocka_unit_test(a_producer_beyond_the_ring_breaks_it),
		cmocka_unit_test(a_slot_is_free_again_only_when_its_answer_was_shown),
		cmocka_unit_test(a_producer_that_goes_back_breaks_the_ring),
		cmocka_unit_test(our_positions_are_not_in_the_page),
		cmocka_unit_test(a_front_end_is_notified_when_it_asks),
		cmocka_unit_test(a_doorbell_is_asked_for_once_a_position),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
