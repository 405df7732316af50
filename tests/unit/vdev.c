/* Names of virtual block devices, as libxl has them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/vdev.h"

static void test_names(void **state)
{
	static const struct {
		const char *name;
		uint32_t id;
	} good[] = {
		{ "xvda", 51712 }, { "xvdb", 51728 }, { "xvdp15", 51967 },
		{ "xvdq", 268439552 }, { "xvdaa", 268442112 }, { "xvda16", 268435472 },
		{ "sda", 2048 }, { "sdb1", 2065 }, { "hda", 768 }, { "hdb2", 834 },
		{ "hdc", 5632 }, { "51712", 51712 }, { "d0", 51712 }, { "d1p3", 51731 },
	};
	static const char *const bad[] = {
		"", "xvd", "xvda256", "xvda-1", "vda", "xvda1x", "sdq", "hde", "d", "dp1",
		"d0p", "xvda 1", "536870912", "-1", "xvdaaaaaaaaaa", "d99999999999",
	};
	static const struct {
		uint32_t id;
		const char *name;
	} names[] = {
		{ 51712, "xvda" }, { 51731, "xvdb3" }, { 51967, "xvdp15" },
		{ 268439552, "xvdq" }, { 268442112, "xvdaa" }, { 268435472, "xvda16" },
		{ (1u << 28) | 701 << 8, "xvdzz" }, { (1u << 28) | 702 << 8 | 1, "xvdaaa1" },
		{ (1u << 28) | 0xfffffff, "xvdbgqcv255" },
		/* xvda has another; these have no name. */
		{ 1u << 28, "268435456" }, { 2048, "2048" }, { 768, "768" },
		{ 1u << 29, "536870912" }, { 0, "0" }, { UINT32_MAX, "4294967295" },
	};
	char buf[VDEV_NAME_MAX];
	uint32_t id;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(vdev_parse(good[i].name, &id), 0);
		assert_int_equal(id, good[i].id);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(vdev_parse(bad[i], &id), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_string_equal(vdev_name(names[i].id, buf), names[i].name);
}

/* What xen-list prints is what xen-detach takes. */
static void test_back_and_forth(void **state)
{
	char buf[VDEV_NAME_MAX];
	uint32_t id = 0, back;

	(void)state;
	for (unsigned i = 0; i < 200000; i++) {
		id = i % 2 ? id * 1664525 + 1013904223 : 1u << 28 | id >> 4;
		if (id >> 29)
			continue;
		assert_int_equal(vdev_parse(vdev_name(id, buf), &back), 0);
		assert_int_equal(back, id);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_back_and_forth),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
