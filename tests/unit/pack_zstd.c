/* Zstd of clusters: what goes in comes out, also of several frames; what is short,
 * torn, too long or no frame is refused. */
#include "pack/zstd.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"
#include "sparse/sparse.h"

#define CLUSTER (64 * KiB)

static unsigned char plain[CLUSTER], packed[2 * CLUSTER], out[CLUSTER + 16];

static void fill(unsigned random)
{
	uint64_t state = 7;

	for (size_t i = 0; i < CLUSTER; i++)
		plain[i] = (unsigned char)(i / 100);
	rig_fill(&state, plain, random);
}

static void what_goes_in_comes_out(void **state)
{
	(void)state;
	for (size_t len = 512; len <= CLUSTER; len *= 2) {
		size_t n;

		fill(100);
		n = pack_zstd.pack(plain, len, packed);
		assert_in_range(n, 1, len - 1);
		memset(out, 0xaa, sizeof(out));
		memset(packed + n, 0x55, 100);
		assert_int_equal(pack_zstd.unpack(packed, n + 100, out, len, len), 0);
		assert_memory_equal(out, plain, len);
		assert_int_equal(out[len], 0xaa);
	}
}

static void what_does_not_get_smaller_is_not_packed(void **state)
{
	(void)state;
	fill(CLUSTER);
	assert_int_equal(pack_zstd.pack(plain, CLUSTER, packed), 0);
}

static void several_frames_are_one_cluster(void **state)
{
	size_t a, b;

	(void)state;
	fill(1000);
	a = pack_zstd.pack(plain, CLUSTER / 4, packed);
	b = pack_zstd.pack(plain + CLUSTER / 4, 3 * CLUSTER / 4, packed + a);
	assert_true(a && b);
	assert_int_equal(pack_zstd.unpack(packed, a + b, out, CLUSTER, CLUSTER), 0);
	assert_memory_equal(out, plain, CLUSTER);
}

static void short_long_and_broken_frames_are_errors(void **state)
{
	size_t n;

	(void)state;
	fill(5000);
	n = pack_zstd.pack(plain, CLUSTER, packed);
	assert_true(n > 0);
	assert_int_equal(pack_zstd.unpack(packed, n, out,
			 CLUSTER + 1, CLUSTER + 1), -EIO);
	assert_int_equal(pack_zstd.unpack(packed, n, out,
			 CLUSTER - 1, CLUSTER - 1), -EIO);
	assert_int_equal(pack_zstd.unpack(packed, n / 2, out, CLUSTER, CLUSTER), -EIO);
	assert_int_equal(pack_zstd.unpack(packed, 0, out, CLUSTER, CLUSTER), -EIO);
	memset(packed, 0xff, n);
	assert_int_equal(pack_zstd.unpack(packed, n, out, CLUSTER, CLUSTER), -EIO);
}

/* The header of a frame can ask for a window of gigabytes. */
static void a_large_window_costs_nothing(void **state)
{
	ZSTD_CCtx *c = ZSTD_createCCtx();
	ZSTD_outBuffer o = { packed, sizeof(packed), 0 };
	ZSTD_inBuffer in = { plain, CLUSTER, 0 };
	size_t left;

	(void)state;
	fill(1000);
	assert_non_null(c);
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, 30)));
	left = ZSTD_compressStream2(c, &o, &in, ZSTD_e_flush);
	assert_int_equal(left, 0);
	left = ZSTD_compressStream2(c, &o, &in, ZSTD_e_end);
	assert_int_equal(left, 0);
	ZSTD_freeCCtx(c);
	assert_int_equal(pack_zstd.unpack(packed, o.pos, out, CLUSTER, CLUSTER), 0);
	assert_memory_equal(out, plain, CLUSTER);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_out),
		cmocka_unit_test(what_does_not_get_smaller_is_not_packed),
		cmocka_unit_test(several_frames_are_one_cluster),
		cmocka_unit_test(short_long_and_broken_frames_are_errors),
		cmocka_unit_test(a_large_window_costs_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
