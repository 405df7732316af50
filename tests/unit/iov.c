/* Scattered memory: pieces of any length, empty ones too, from any byte on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

#include "base/iov.h"

static char mem[3][8];
static struct iovec iov[5];

static void scatter(void)
{
	memset(mem, 'x', sizeof(mem));
	iov[0] = (struct iovec){ mem[0], 3 };
	iov[1] = (struct iovec){ mem[2], 0 };
	iov[2] = (struct iovec){ mem[1], 8 };
	iov[3] = (struct iovec){ mem[2] + 7, 1 };
	iov[4] = (struct iovec){ mem[2], 4 };
}

static void test_every_range_goes_in_and_comes_out(void **state)
{
	const char text[] = "abcdefghijklmnop";

	(void)state;
	for (uint64_t off = 0; off <= 16; off++) {
		for (uint64_t len = 0; off + len <= 16; len++) {
			char flat[16], want[16];

			scatter();
			memset(want, 'x', sizeof(want));
			memcpy(want + off, text, len);
			iov_fill(iov, 5, off, text, len);
			iov_read(iov, 5, 0, flat, 16);
			assert_memory_equal(flat, want, 16);
			iov_read(iov, 5, off, flat, len);
			assert_memory_equal(flat, text, len);
			iov_zero(iov, 5, off, len);
			memset(want + off, 0, len);
			iov_read(iov, 5, 0, flat, 16);
			assert_memory_equal(flat, want, 16);
		}
	}
}

static void test_a_cut_covers_what_it_says(void **state)
{
	(void)state;
	scatter();
	for (uint64_t off = 0; off < 16; off++) {
		for (unsigned max = 1; max <= 5; max++) {
			struct iovec to[5];
			uint64_t got, sum = 0;
			unsigned n;

			got = iov_cut(iov, 5, off, 16 - off, to, max, &n);
			assert_true(n <= max && n > 0);
			for (unsigned i = 0; i < n; i++) {
				assert_true(to[i].iov_len > 0);
				sum += to[i].iov_len;
			}
			assert_int_equal(sum, got);
			if (max == 5)
				assert_int_equal(got, 16 - off);
			iov_fill(iov, 5, off, "A", 1);
			assert_int_equal(*(char *)to[0].iov_base, 'A');
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_range_goes_in_and_comes_out),
		cmocka_unit_test(test_a_cut_covers_what_it_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
