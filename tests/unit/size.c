/* Sizes as people write them: units of either case, fractions of units, and nothing
 * else. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/size.h"

static void sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 }, { "512", 512 }, { "512b", 512 }, { "4k", 4096 },
		{ "4KiB", 4096 }, { "2G", 2ull << 30 }, { "7E", 7ull << 60 },
		{ "1.5G", 3ull << 29 }, { "1.k", 1024 }, { "0.5M", 1u << 19 },
		{ "1.25KiB", 1280 }, { "1.0", 1 }, { "0.0004883k", 1 },
		{ "0.0004k", 0 }, { "0.333333333333333333333333333T", 366503875925 },
		{ "15.9999999999999999999999999999E", UINT64_MAX },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		uint64_t v = 1234;

		assert_int_equal(size_parse(good[i].text, &v), 0);
		assert_int_equal(v, good[i].bytes);
	}
}

static void no_sizes(void **state)
{
	static const struct {
		const char *text;
		int err;
	} bad[] = {
		{ "", -EINVAL }, { "k", -EINVAL }, { ".5k", -EINVAL },
		{ "1.5", -EINVAL }, { "1.5b", -EINVAL }, { "1.5.5k", -EINVAL },
		{ "1e3", -EINVAL }, { "-1", -EINVAL }, { "1.-5k", -EINVAL },
		{ "1 k", -EINVAL }, { "1kk", -EINVAL }, { "16E", -ERANGE },
		{ "16.5E", -ERANGE }, { "99999999999999999999", -ERANGE },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t v = 1234;

		assert_int_equal(size_parse(bad[i].text, &v), bad[i].err);
		assert_int_equal(v, 1234);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes),
		cmocka_unit_test(no_sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
