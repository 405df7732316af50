/* The header of a qcow image: what it says is read and written again, and what
 * cannot be is refused with a reason. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"
#include "qcow/header.h"

static uint8_t bytes[QCOW_HEADER_XEN];
static struct qcow_header h;
static const char *why;

/* As qemu-img makes it for 64 MiB with a backing file named "base". */
static void good(void)
{
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, "QFI\xfb\0\0\0\1", 8);
	put_be64(bytes + 8, 48);
	put_be32(bytes + 16, 4);
	put_be64(bytes + 24, 64 * MiB);
	bytes[32] = 9;
	bytes[33] = 12;
	put_be64(bytes + 40, 56);
	memcpy(bytes + 48, "base", 4);
}

static int parse(void)
{
	why = NULL;
	return qcow_header_parse(&h, bytes, &why);
}

static void a_good_header_is_read_and_written_again(void **state)
{
	uint8_t again[QCOW_HEADER];

	(void)state;
	good();
	assert_int_equal(parse(), 0);
	assert_int_equal(h.size, 64 * MiB);
	assert_int_equal(h.cluster_bits, 9);
	assert_int_equal(h.l2_bits, 12);
	assert_int_equal(h.l1, 56);
	assert_int_equal(h.l1_entries, 32);
	assert_int_equal(h.name, 48);
	assert_int_equal(h.name_len, 4);
	assert_false(h.aes || h.l1_little);
	qcow_header_write(&h, again);
	assert_memory_equal(again, bytes, QCOW_HEADER);
	put_be64(bytes + 24, 64 * MiB + 513);		/* rounded down to sectors */
	put_be32(bytes + 36, 1);
	assert_int_equal(parse(), 0);
	assert_int_equal(h.size, 64 * MiB + 512);
	assert_int_equal(h.l1_entries, 33);
	assert_true(h.aes);
}

static void xens_extension_is_known(void **state)
{
	(void)state;
	good();
	put_be64(bytes + 8, 0);
	put_be64(bytes + 40, 4096);
	memcpy(bytes + 48, "XEN\xfb", 4);
	assert_int_equal(parse(), 0);
	assert_true(h.l1_little);
	put_be32(bytes + 60, 3);
	assert_int_equal(parse(), 0);
	assert_false(h.l1_little);
	put_be32(bytes + 60, 0);
	put_be64(bytes + 40, 4096 + 8);		/* nothing of Xen's */
	assert_int_equal(parse(), 0);
	assert_false(h.l1_little);
	put_be64(bytes + 40, 4096);		/* it is a name */
	put_be64(bytes + 8, 48);
	assert_int_equal(parse(), 0);
	assert_false(h.l1_little);
}

static const struct {
	unsigned at, len;
	uint64_t value;
	int err;
} cases[] = {
	{ 0, 4, 0x51464900, -EINVAL },
	{ 4, 4, 0, -EOPNOTSUPP },	{ 4, 4, 2, -EOPNOTSUPP },
	{ 8, 8, 47, -EINVAL },		{ 8, 8, UINT64_MAX, -EINVAL },
	{ 8, 8, 60, -EINVAL },		/* over the level 1 table */
	{ 8, 8, 56 + 32 * 8 - 1, -EINVAL },
	{ 16, 4, 0, -EINVAL },		{ 16, 4, 1024, -EINVAL },
	{ 16, 4, UINT32_MAX, -EINVAL },	{ 16, 4, 9, -EINVAL },
	{ 24, 8, 0, -EINVAL },		{ 24, 8, 511, -EINVAL },
	{ 24, 8, UINT64_MAX, -EINVAL },	{ 24, 8, 1ull << 62, -EINVAL },
	{ 24, 8, (uint64_t)QCOW_L1_MAX * 2 * MiB + 512, -EINVAL },
	{ 32, 1, 8, -EINVAL },		{ 32, 1, 17, -EINVAL },
	{ 32, 1, 255, -EINVAL },
	{ 33, 1, 5, -EINVAL },		{ 33, 1, 14, -EINVAL },
	{ 33, 1, 64, -EINVAL },
	{ 36, 4, 2, -EOPNOTSUPP },	{ 36, 4, UINT32_MAX, -EOPNOTSUPP },
	{ 40, 8, 0, -EINVAL },		{ 40, 8, 40, -EINVAL },
	{ 40, 8, 60, -EINVAL },		{ 40, 8, UINT64_MAX - 7, -EINVAL },
	{ 40, 8, INT64_MAX - 7, -EINVAL },
};

static void what_cannot_be_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t v[8];

		good();
		put_be64(v, cases[i].value);
		memcpy(bytes + cases[i].at, v + 8 - cases[i].len, cases[i].len);
		if (parse() != cases[i].err)
			fail_msg("case %zu was not refused", i);
		assert_non_null(why);
	}
	good();
	put_be64(bytes + 24, (uint64_t)QCOW_L1_MAX * 2 * MiB);
	put_be64(bytes + 8, 0);
	assert_int_equal(parse(), 0);
	assert_int_equal(h.l1_entries, QCOW_L1_MAX);
}

/* What is accepted keeps its promises, whatever the bytes. */
static void random_headers_keep_the_promises(void **state)
{
	uint64_t seed = rig_seed();
	unsigned accepted = 0;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		good();
		for (unsigned n = 1 + rig_random(&seed) % 3; n--;)
			bytes[8 + rig_random(&seed) % 56] =
				(uint8_t)rig_random(&seed);
		if (parse()) {
			assert_non_null(why);
			continue;
		}
		accepted++;
		assert_true(h.size && is_aligned(h.size, 512));
		assert_in_range(h.cluster_bits, 9, 16);
		assert_in_range(h.l2_bits, 6, 13);
		assert_in_range(h.l1_entries, 1, QCOW_L1_MAX);
		assert_true((uint64_t)h.l1_entries << (h.cluster_bits + h.l2_bits) >=
			    h.size);
		assert_true(h.l1 >= QCOW_HEADER &&
			    h.l1 + h.l1_entries * 8ull <= INT64_MAX);
		assert_true(!h.name || (h.name >= QCOW_HEADER && h.name_len &&
					h.name_len <= QCOW_NAME_MAX));
	}
	assert_true(accepted > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_header_is_read_and_written_again),
		cmocka_unit_test(xens_extension_is_known),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(random_headers_keep_the_promises),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
