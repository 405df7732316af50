/* Deflate of clusters: what goes in comes out; what is short, torn or no stream is
 * refused; nothing is written behind the output. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"
#include "pack/deflate.h"
#include "pack/noise.h"
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
		n = pack_deflate.pack(plain, len, packed);
		assert_in_range(n, 1, len - 1);
		memset(out, 0xaa, sizeof(out));
		/* Sectors are rounded up: what follows does not matter. */
		memset(packed + n, 0x55, 100);
		assert_int_equal(pack_deflate.unpack(packed, n + 100, out, len, len), 0);
		assert_memory_equal(out, plain, len);
		assert_int_equal(out[len], 0xaa);
	}
}

static void what_does_not_get_smaller_is_not_packed(void **state)
{
	(void)state;
	fill(CLUSTER);
	assert_int_equal(pack_deflate.pack(plain, CLUSTER, packed), 0);
}

/* By zlib itself, at its best. */
static size_t smallest(void)
{
	z_stream z = { .next_in = plain, .avail_in = CLUSTER, .next_out = packed,
		       .avail_out = sizeof(packed) };

	assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY),
			 Z_OK);
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	assert_int_equal(deflateEnd(&z), Z_OK);
	return z.total_out;
}

/* Random bytes in which more and more is repeated, or zero, or never above 200. */
static void what_is_taken_for_noise_would_hardly_get_smaller(void **state)
{
	unsigned noise = 0, other = 0;

	(void)state;
	for (unsigned part = 0; part <= 32; part++) {
		for (unsigned way = 0; way < 3; way++) {
			fill(CLUSTER);
			for (unsigned at = 2048; at < CLUSTER; at += 2048) {
				if (way == 0)
					memcpy(plain + at, plain + at - 2000, part * 16);
				else if (way == 1)
					memset(plain + at, 0, part * 16);
				for (unsigned i = 0; way == 2 && i < part * 64; i++)
					plain[at + i - 2048] %= 200;
			}
			if (pack_is_noise(plain, CLUSTER)) {
				noise++;
				assert_in_range(smallest(), CLUSTER * 49 / 50, 2 * CLUSTER);
			} else {
				other++;
				assert_true(part > 0);
			}
		}
	}
	assert_in_range(noise, 3, 40);
	assert_in_range(other, 40, 96);
	memset(plain, 'x', CLUSTER);
	assert_false(pack_is_noise(plain, CLUSTER));
	assert_false(pack_is_noise(plain, 512));
	assert_false(pack_is_noise(plain, 0));
}

static void short_and_broken_streams_are_errors(void **state)
{
	size_t n;

	(void)state;
	fill(5000);
	n = pack_deflate.pack(plain, CLUSTER, packed);
	assert_true(n > 0);
	/* Asked for more than is in it, or only its beginning is there. */
	assert_int_equal(pack_deflate.unpack(packed, n, out,
			 CLUSTER + 1, CLUSTER + 1), -EIO);
	assert_int_equal(pack_deflate.unpack(packed, n / 2, out, CLUSTER, CLUSTER), -EIO);
	assert_int_equal(pack_deflate.unpack(packed, 0, out, CLUSTER, CLUSTER), -EIO);
	memset(packed, 0xff, n);
	assert_int_equal(pack_deflate.unpack(packed, n, out, CLUSTER, CLUSTER), -EIO);
}

/* A stream of another writer, with a window of 32 KiB and zlib's header. */
static void larger_windows_and_zlib_headers_are_read(void **state)
{
	uLongf n = sizeof(packed);
	size_t got;

	(void)state;
	fill(20000);
	memcpy(plain + 30000, plain, 20000);	/* a match 30000 bytes back */
	assert_int_equal(compress2(packed, &n, plain, CLUSTER, 9), Z_OK);
	assert_int_equal(pack_inflate(packed, n, out, CLUSTER, true, &got), 0);
	assert_int_equal(got, CLUSTER);
	assert_memory_equal(out, plain, CLUSTER);
	assert_int_equal(pack_deflate.unpack(packed + 2, n - 6, out,
			 CLUSTER, CLUSTER), 0);
	assert_memory_equal(out, plain, CLUSTER);
	/* A short one says how much there was; a wrong sum is an error. */
	assert_int_equal(pack_inflate(packed, n, out, CLUSTER + 8, true, &got), 0);
	assert_int_equal(got, CLUSTER);
	packed[n - 1] ^= 1;
	assert_int_equal(pack_inflate(packed, n, out, CLUSTER + 8, true, &got),
			 -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_out),
		cmocka_unit_test(what_does_not_get_smaller_is_not_packed),
		cmocka_unit_test(what_is_taken_for_noise_would_hardly_get_smaller),
		cmocka_unit_test(short_and_broken_streams_are_errors),
		cmocka_unit_test(larger_windows_and_zlib_headers_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
