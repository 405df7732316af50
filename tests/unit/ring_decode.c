/* The ring decoder: every field of every operation in all three layouts, bytes
 * placed by hand from blkif.h's offsets, not by the structs under test. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ring/decode.h"

#define SECTORS 1000u

/* Where things lie: of the 64-bit layouts and of x86_32. */
struct offsets {
	unsigned abi;
	unsigned id, sector, seg, nr_sectors, ind_gref;
	unsigned slot, rsp;
};
static const struct offsets layouts[] = {
	{ TAPRING_ABI_NATIVE, 8, 16, 24, 24, 28, 112, 16 },
	{ TAPRING_ABI_X86_64, 8, 16, 24, 24, 28, 112, 16 },
	{ TAPRING_ABI_X86_32, 4, 12, 20, 20, 24, 108, 12 },
};

static const struct blkif_limits lim = { .sectors = SECTORS, .align = 1,
					 .max_indirect = 256 };
static const struct offsets *L;
static uint8_t slot[BLKIF_SLOT_MAX];
static struct blkif_req q;

static void put(unsigned at, const void *v, size_t n)
{
	memcpy(slot + at, v, n);
}

static void head(uint8_t op, uint8_t second, uint64_t id, uint64_t sector)
{
	memset(slot, 0xee, sizeof(slot));
	slot[0] = op;
	slot[1] = second;
	put(L->id, &id, 8);
	put(L->sector, &sector, 8);
}

static void seg(unsigned i, uint32_t gref, uint8_t first, uint8_t last)
{
	put(L->seg + 8 * i, &gref, 4);
	slot[L->seg + 8 * i + 4] = first;
	slot[L->seg + 8 * i + 5] = last;
}

static int decode(void)
{
	memset(&q, 0x55, sizeof(q));
	return blkif_decode(L->abi, slot, &lim, &q);
}

/* Run for each layout. */
#define EACH(name)                                                           \
	static void name##_in(void);                                         \
	static void name(void **state)                                       \
	{                                                                    \
		(void)state;                                                 \
		for (L = layouts; L < layouts + ARRAY_SIZE(layouts); L++)    \
			name##_in();                                         \
	}                                                                    \
	static void name##_in(void)

EACH(sizes_are_those_of_blkif_h)
{
	assert_int_equal(blkif_slot_size(L->abi), L->slot);
	assert_int_equal(L->rsp, blkif_is64(L->abi) ? sizeof(struct blkif_rsp64) :
						      sizeof(struct blkif_rsp32));
	for (unsigned order = 0; order <= 4; order++)
		assert_int_equal(blkif_slots(L->abi, order), 32u << order);
}

EACH(reads_and_writes_are_taken_field_by_field)
{
	for (uint8_t op = 0; op < 2; op++) {
		head(op, 3, 0x1122334455667788ull, 500);
		seg(0, 7, 0, 7);
		seg(1, 0xfffffff0u, 3, 3);
		seg(2, 9, 6, 7);
		assert_int_equal(decode(), 0);
		assert_true(q.id == 0x1122334455667788ull);
		assert_int_equal(q.op, op);
		assert_int_equal(q.td_op, op ? TD_OP_WRITE : TD_OP_READ);
		assert_int_equal(q.td_flags, 0);
		assert_int_equal(q.sector, 500);
		assert_int_equal(q.sectors, 8 + 1 + 2);
		assert_int_equal(q.nr_segs, 3);
		assert_int_equal(q.gref[1], 0xfffffff0u);
		assert_int_equal(q.span[1].first, 3);
		assert_int_equal(q.span[2].last, 7);
	}
}

EACH(all_eleven_segments_count)
{
	head(0, 11, 1, 0);
	for (unsigned i = 0; i < 11; i++)
		seg(i, i, 0, 7);
	assert_int_equal(decode(), 0);
	assert_int_equal(q.sectors, 88);
	assert_int_equal(q.gref[10], 10);
}

EACH(a_bad_number_of_segments_is_refused_and_answerable)
{
	static const uint8_t bad[] = { 0, 12, 13, 255 };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		for (uint8_t op = 0; op < 2; op++) {
			head(op, bad[i], 42 + i, 0);
			assert_int_equal(decode(), -EINVAL);
			assert_int_equal(q.id, 42 + i);
			assert_int_equal(q.op, op);
		}
	}
	head(BLKIF_OP_BARRIER, 12, 1, 0);
	assert_int_equal(decode(), -EINVAL);
	head(BLKIF_OP_FLUSH, 12, 1, 0);
	assert_int_equal(decode(), -EINVAL);
}

EACH(a_segment_stays_inside_its_page)
{
	static const struct { uint8_t first, last; int want; } t[] = {
		{ 0, 7, 0 }, { 7, 7, 0 }, { 0, 8, -EINVAL }, { 8, 8, -EINVAL },
		{ 5, 4, -EINVAL }, { 0, 255, -EINVAL }, { 255, 255, -EINVAL },
		{ 255, 0, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		for (unsigned at = 0; at < 2; at++) {
			head(1, 2, 1, 0);
			seg(!at, 1, 0, 0);
			seg(at, 1, t[i].first, t[i].last);
			assert_int_equal(decode(), t[i].want);
		}
	}
}

EACH(the_range_stays_inside_the_disk_and_cannot_wrap)
{
	static const struct { uint64_t sector; int want; } t[] = {
		{ 0, 0 }, { SECTORS - 8, 0 }, { SECTORS - 7, -EINVAL },
		{ SECTORS, -EINVAL }, { UINT64_MAX, -EINVAL },
		{ UINT64_MAX - 7, -EINVAL }, { 1ull << 55, -EINVAL },
		{ 1ull << 63, -EINVAL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		head(0, 1, 1, t[i].sector);
		seg(0, 0, 0, 7);
		assert_int_equal(decode(), t[i].want);
	}
}

EACH(large_logical_sectors_want_alignment)
{
	struct blkif_limits l8 = { .sectors = SECTORS, .align = 8 };

	head(0, 1, 1, 8);
	seg(0, 0, 0, 7);
	assert_int_equal(blkif_decode(L->abi, slot, &l8, &q), 0);
	head(0, 1, 1, 4);
	seg(0, 0, 0, 7);
	assert_int_equal(blkif_decode(L->abi, slot, &l8, &q), -EINVAL);
	head(0, 2, 1, 8);
	seg(0, 0, 0, 3);
	seg(1, 0, 4, 7);
	assert_int_equal(blkif_decode(L->abi, slot, &l8, &q), -EINVAL);
}

EACH(barriers_and_flushes_may_be_empty_or_carry_data)
{
	head(BLKIF_OP_BARRIER, 0, 5, UINT64_MAX);
	assert_int_equal(decode(), 0);
	assert_int_equal(q.td_op, TD_OP_FLUSH);
	assert_int_equal(q.td_flags, TD_REQ_BARRIER);
	assert_int_equal(q.sector, 0);
	head(BLKIF_OP_BARRIER, 1, 5, 3);
	seg(0, 0, 1, 2);
	assert_int_equal(decode(), 0);
	assert_int_equal(q.td_op, TD_OP_WRITE);
	assert_int_equal(q.td_flags, TD_REQ_BARRIER);
	assert_int_equal(q.sectors, 2);
	head(BLKIF_OP_FLUSH, 0, 5, UINT64_MAX);
	assert_int_equal(decode(), 0);
	assert_int_equal(q.td_op, TD_OP_FLUSH);
	assert_int_equal(q.td_flags, 0);
	assert_int_equal(q.nr_segs, 0);
	/* Old front ends: a write that flushes first.  Never lose the data. */
	head(BLKIF_OP_FLUSH, 1, 5, 3);
	seg(0, 0, 1, 2);
	assert_int_equal(decode(), 0);
	assert_int_equal(q.td_op, TD_OP_WRITE);
	assert_int_equal(q.td_flags, TD_REQ_BARRIER);
}

static int discard(uint8_t flag, uint64_t sector, uint64_t n)
{
	head(BLKIF_OP_DISCARD, flag, 77, sector);
	put(L->nr_sectors, &n, 8);
	return decode();
}

EACH(discards_are_checked_like_everything)
{
	assert_int_equal(discard(0, 10, 20), 0);
	assert_int_equal(q.td_op, TD_OP_DISCARD);
	assert_int_equal(q.id, 77);
	assert_int_equal(q.sector, 10);
	assert_int_equal(q.sectors, 20);
	assert_int_equal(q.nr_segs, 0);
	assert_int_equal(discard(0, 0, SECTORS), 0);
	assert_int_equal(discard(0, 0, 0), -EINVAL);
	assert_int_equal(discard(0, 0, SECTORS + 1), -EINVAL);
	assert_int_equal(discard(0, 1, SECTORS), -EINVAL);
	assert_int_equal(discard(0, 1, UINT64_MAX), -EINVAL);
	assert_int_equal(discard(0, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(discard(BLKIF_DISCARD_SECURE, 0, 8), -EOPNOTSUPP);
	assert_int_equal(q.op, BLKIF_OP_DISCARD);
}

static int indirect(uint8_t inner, uint16_t n, uint64_t sector)
{
	uint32_t gref = 0xabcdef01;

	head(BLKIF_OP_INDIRECT, inner, 99, sector);
	put(2, &n, 2);
	put(L->ind_gref, &gref, 4);
	return decode();
}

EACH(indirect_requests_answer_as_their_inner_operation)
{
	static const uint8_t bad[] = { 2, 3, 4, 5, 6, 7, 255 };
	struct blkif_segment s[256];

	for (uint8_t op = 0; op < 2; op++) {
		assert_int_equal(indirect(op, 256, 0), 1);
		assert_int_equal(q.op, op);
		assert_int_equal(q.id, 99);
		assert_int_equal(q.nr_segs, 256);
		assert_int_equal(q.ind_gref[0], 0xabcdef01);
		assert_int_equal(blkif_ind_pages(q.nr_segs), 1);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(indirect(bad[i], 1, 0), -EINVAL);
		assert_int_equal(q.op, bad[i]);
		assert_int_equal(q.id, 99);
	}
	assert_int_equal(indirect(0, 0, 0), -EINVAL);
	assert_int_equal(indirect(0, 257, 0), -EINVAL);
	assert_int_equal(indirect(0, 0xffff, 0), -EINVAL);

	assert_int_equal(indirect(1, 100, SECTORS - 100), 1);
	for (unsigned i = 0; i < 256; i++)
		s[i] = (struct blkif_segment){ .gref = i, .first = 2, .last = 2 };
	assert_int_equal(blkif_decode_segs(s, &lim, &q), 0);
	assert_int_equal(q.sectors, 100);
	assert_int_equal(q.gref[99], 99);
	s[99].last = 3;
	assert_int_equal(blkif_decode_segs(s, &lim, &q), -EINVAL);
	s[99] = (struct blkif_segment){ .first = 3, .last = 2 };
	assert_int_equal(blkif_decode_segs(s, &lim, &q), -EINVAL);
}

EACH(indirect_requests_that_are_not_offered_are_not_supported)
{
	struct blkif_limits l = lim;

	l.max_indirect = 0;
	indirect(0, 1, 0);
	assert_int_equal(blkif_decode(L->abi, slot, &l, &q), -EOPNOTSUPP);
	l.max_indirect = 32;
	indirect(0, 33, 0);
	assert_int_equal(blkif_decode(L->abi, slot, &l, &q), -EINVAL);
}

EACH(unknown_operations_are_not_supported)
{
	for (unsigned op = 0; op < 256; op++) {
		if (op <= 3 || op == 5 || op == 6)
			continue;
		head((uint8_t)op, 1, 1234, 0);
		assert_int_equal(decode(), -EOPNOTSUPP);
		assert_int_equal(q.id, 1234);
		assert_int_equal(q.op, op);
	}
}

static void errors_are_translated_once(void **state)
{
	(void)state;
	assert_int_equal(blkif_status(0), 0);
	assert_int_equal(blkif_status(-EIO), -1);
	assert_int_equal(blkif_status(-EINVAL), -1);
	assert_int_equal(blkif_status(-EROFS), -1);
	assert_int_equal(blkif_status(-EOPNOTSUPP), -2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_those_of_blkif_h),
		cmocka_unit_test(reads_and_writes_are_taken_field_by_field),
		cmocka_unit_test(all_eleven_segments_count),
		cmocka_unit_test(a_bad_number_of_segments_is_refused_and_answerable),
		cmocka_unit_test(a_segment_stays_inside_its_page),
		cmocka_unit_test(the_range_stays_inside_the_disk_and_cannot_wrap),
		cmocka_unit_test(large_logical_sectors_want_alignment),
		cmocka_unit_test(barriers_and_flushes_may_be_empty_or_carry_data),
		cmocka_unit_test(discards_are_checked_like_everything),
		cmocka_unit_test(indirect_requests_answer_as_their_inner_operation),
		cmocka_unit_test(indirect_requests_that_are_not_offered_are_not_supported),
		cmocka_unit_test(unknown_operations_are_not_supported),
		cmocka_unit_test(errors_are_translated_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
