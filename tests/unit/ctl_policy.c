/* Which files a disk may open: the one that its operator named, and no more than
 * the operator allowed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policy.c"

static void test_the_path_is_what_the_last_type_names(void **state)
{
	static const struct { const char *spec, *path; } t[] = {
		{ "aio:/srv/a.img", "/srv/a.img" },
		{ "aio:/", "/" },
		{ "aio:/a:/b", "/a:/b" },
		{ "aio:/a|b:/c", "/a|b:/c" },
		{ "delay:ms=5|aio:/srv/a", "/srv/a" },
		{ "log:|error:op=read,rate=1%|file:/x y", "/x y" },
		{ "ram:1G", NULL },
		{ "aio:relative", NULL },
		{ "delay:ms=5|ram:1M", NULL },
		{ "aio", NULL },
		{ "", NULL },
		{ ":/etc/shadow", NULL },
		{ "/etc/shadow", NULL },
		{ "delay:|/etc/shadow", NULL },
		{ "a b:/x", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		const char *p = policy_path(t[i].spec);

		if (t[i].path)
			assert_string_equal(p, t[i].path);
		else
			assert_null(p);
	}
}

static void test_only_that_path_and_only_as_allowed(void **state)
{
	const char *spec = "delay:ms=1|aio:/srv/a:b";
	const uint32_t ro = TAP_OPEN_RDONLY;

	(void)state;
	assert_int_equal(policy_check(spec, 0, "/srv/a:b", 0), 0);
	assert_int_equal(policy_check(spec, 0, "/srv/a:b", ro), 0);
	assert_int_equal(policy_check(spec, ro, "/srv/a:b", ro), 0);
	assert_int_equal(policy_check(spec, ro, "/srv/a:b", 0), -EROFS);
	assert_int_equal(policy_check(spec, 0, "/srv/a", 0), -EACCES);
	assert_int_equal(policy_check(spec, 0, "b", 0), -EACCES);
	assert_int_equal(policy_check(spec, 0, "", 0), -EACCES);
	assert_int_equal(policy_check(spec, 0, "/srv/a:b/", 0), -EACCES);
	assert_int_equal(policy_check(spec, 0, "/srv/../srv/a:b", 0), -EACCES);
	assert_int_equal(policy_check("ram:1G", 0, "1G", 0), -EACCES);
	assert_int_equal(policy_check("ram:1G", 0, "/1G", 0), -EACCES);
	assert_int_equal(policy_check("", 0, "/etc/shadow", ro), -EACCES);
}

static void test_what_is_a_spec(void **state)
{
	(void)state;
	assert_int_equal(policy_spec("aio:/x"), 0);
	assert_int_equal(policy_spec("null:"), 0);
	assert_int_equal(policy_spec("/x"), -EINVAL);
	assert_int_equal(policy_spec(""), -EINVAL);
	assert_int_equal(policy_spec("aio:/x\ny"), -EINVAL);
	assert_int_equal(policy_spec("aio:/x\x1b[2J"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_path_is_what_the_last_type_names),
		cmocka_unit_test(test_only_that_path_and_only_as_allowed),
		cmocka_unit_test(test_what_is_a_spec),
	};

	return cmocka_run_group_tests_name("ctl_policy", tests, NULL, NULL);
}
