/* The header of a sparse vmdk extent: what it says is read, and what cannot be is
 * refused with a reason. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"
#include "vmdk/header.h"

static uint8_t bytes[VMDK_HEADER];
static struct vmdk_header h;
static const char *why;

/* As qemu-img makes it for 100 MiB. */
static void good(void)
{
	memset(bytes, 0, sizeof(bytes));
	memcpy(bytes, "KDMV", 4);
	put_le32(bytes + 4, 1);
	put_le32(bytes + 8, 3);
	put_le64(bytes + 12, 204800);
	put_le64(bytes + 20, 128);
	put_le64(bytes + 28, 1);
	put_le64(bytes + 36, 20);
	put_le32(bytes + 44, 512);
	put_le64(bytes + 48, 21);
	put_le64(bytes + 56, 38);
	put_le64(bytes + 64, 128);
	memcpy(bytes + 73, "\n \r\n", 4);
}

static int parse(void)
{
	why = NULL;
	return vmdk_header_parse(&h, bytes, &why);
}

static void a_good_header_is_read_and_written_again(void **state)
{
	uint8_t again[VMDK_HEADER];

	(void)state;
	good();
	assert_int_equal(parse(), 0);
	assert_int_equal(h.capacity, 100 * MiB);
	assert_int_equal(h.grain, 64 * KiB);
	assert_int_equal(h.gtes, 512);
	assert_int_equal(h.gts, 4);
	assert_int_equal(h.rgd, 21 * 512);
	assert_int_equal(h.gd, 38 * 512);
	assert_int_equal(h.desc, 512);
	assert_int_equal(h.desc_len, 20 * 512);
	assert_int_equal(h.overhead, 128 * 512);
	assert_false(h.zeroed || h.packed || h.gd_at_end || h.unclean);

	vmdk_header_write(&h, again);
	assert_memory_equal(again, bytes, VMDK_HEADER);

	put_le64(bytes + 12, 204801);		/* not a whole grain */
	put_le32(bytes + 8, 0x30005);		/* no newline test needed, no rgd */
	bytes[72] = 1;
	put_le64(bytes + 56, UINT64_MAX);
	put_le16(bytes + 77, 1);
	assert_int_equal(parse(), 0);
	assert_int_equal(h.capacity, 204801 * 512);
	assert_true(h.zeroed && h.packed && h.gd_at_end && h.unclean);
	assert_int_equal(h.rgd, 0);

	put_le64(bytes + 12, 0);		/* a place for a descriptor alone */
	assert_int_equal(parse(), 0);
	assert_int_equal(h.capacity, 0);
}

static const struct {
	unsigned at, len;
	uint64_t value;
	int err;
} cases[] = {
	{ 0, 4, 0x444d564b, -EINVAL },			/* bytes in reverse */
	{ 4, 4, 0, -EOPNOTSUPP },	{ 4, 4, 4, -EOPNOTSUPP },
	{ 20, 8, 0, -EINVAL },		{ 20, 8, 127, -EINVAL },
	{ 20, 8, 1ull << 63, -EINVAL },	{ 20, 8, 8192, -EINVAL },
	{ 20, 8, 4, -EINVAL },
	{ 44, 4, 0, -EINVAL },		{ 44, 4, 513, -EINVAL },
	{ 44, 4, 0x80000000, -EINVAL },
	{ 12, 8, UINT64_MAX, -EINVAL },
	{ 12, 8, (1ull << 41) + 1, -EINVAL },		/* a directory of 32 Mi + 1 */
	{ 28, 8, 1ull << 55, -EINVAL },	{ 36, 8, UINT64_MAX, -EINVAL },
	{ 48, 8, 1ull << 56, -EINVAL },	{ 56, 8, UINT64_MAX - 1, -EINVAL },
	{ 64, 8, UINT64_MAX, -EINVAL },
	{ 73, 4, 0x0a0a200a, -EINVAL },			/* CR lost */
	{ 77, 2, 2, -EOPNOTSUPP },
	{ 8, 4, 0x10003, -EOPNOTSUPP },			/* packed, with what? */
};

static void what_cannot_be_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t v[8];

		good();
		put_le64(v, cases[i].value);
		memcpy(bytes + cases[i].at, v, cases[i].len);
		if (parse() != cases[i].err)
			fail_msg("case %zu was not refused", i);
		assert_non_null(why);
	}
	good();
	put_le64(bytes + 12, 1ull << 41);
	assert_int_equal(parse(), 0);
	good();
	put_le64(bytes + 48, 0);
	put_le64(bytes + 56, 0);
	assert_int_equal(parse(), -EINVAL);
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
			bytes[4 + rig_random(&seed) % 75] =
				(uint8_t)rig_random(&seed);
		if (parse()) {
			assert_non_null(why);
			continue;
		}
		if (!h.capacity)
			continue;
		accepted++;
		assert_true(is_pow2(h.grain) && h.grain >= 4096 &&
			    h.grain <= 2 * MiB);
		assert_in_range(h.gtes, 1, VMDK_GTES_MAX);
		assert_in_range(h.gts, 1, VMDK_GTS_MAX);
		assert_true((uint64_t)h.gts * h.gtes * h.grain >= h.capacity);
		assert_true(h.gd <= INT64_MAX && h.rgd <= INT64_MAX &&
			    h.desc <= INT64_MAX && h.overhead <= INT64_MAX);
	}
	assert_true(accepted > 1000);
}

static void markers_are_told_apart(void **state)
{
	uint64_t n;

	(void)state;
	memset(bytes, 0, sizeof(bytes));
	assert_int_equal(vmdk_marker(bytes, &n), VMDK_MARK_EOS);
	put_le64(bytes, 4);
	bytes[12] = 1;
	assert_int_equal(vmdk_marker(bytes, &n), VMDK_MARK_GT);
	assert_int_equal(n, 4);
	bytes[12] = 3;
	assert_int_equal(vmdk_marker(bytes, &n), VMDK_MARK_FOOTER);
	bytes[12] = 4;
	assert_int_equal(vmdk_marker(bytes, &n), VMDK_MARK_NONE);
	bytes[12] = 1;
	bytes[8] = 1;				/* a grain's: it has a size */
	assert_int_equal(vmdk_marker(bytes, &n), VMDK_MARK_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_header_is_read_and_written_again),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(random_headers_keep_the_promises),
		cmocka_unit_test(markers_are_told_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
