/* Which files a disk may open: those that its operator named, what lies beside an
 * image that names files, and no more than the operator allowed. */
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
		{ "qcow2:/a\nqcow2:/b", "/a" },
		{ "qcow2:/a\n", "/a" },
		{ "ram:1G\nlog:|aio:/x", NULL },
		{ "delay:ms=5\n|aio:/x", NULL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		size_t len;
		const char *p = policy_path(t[i].spec, &len);

		if (t[i].path) {
			assert_int_equal(len, strlen(t[i].path));
			assert_memory_equal(p, t[i].path, len);
		} else {
			assert_null(p);
		}
	}
}

static struct policy_grant g;
static const char *const shared[] = { "/tmpl", "/usr//base/", NULL };

/* -errno, or 0, or 1 if it was found and not named. */
static int may(const char *spec, uint32_t disk, const char *path, uint32_t ask)
{
	const struct policy p = { spec, disk, shared };
	const char *why;
	int err = policy_check(&p, path, ask, &g, &why);

	assert_true(!err || *why);
	return err ? err : g.found;
}

/* Found in that folder, by that way. */
static void found(const char *spec, const char *path, uint32_t ask,
		  const char *dir, const char *name)
{
	assert_int_equal(may(spec, 0, path, ask), 1);
	assert_string_equal(g.dir, dir);
	assert_string_equal(g.name, name);
}

#define RO TAP_OPEN_RDONLY

static void test_only_that_path_and_only_as_allowed(void **state)
{
	const char *spec = "delay:ms=1|aio:/srv/a:b";

	(void)state;
	assert_int_equal(may(spec, 0, "/srv/a:b", 0), 0);
	assert_int_equal(may(spec, 0, "/srv/a:b", RO), 0);
	assert_int_equal(may(spec, RO, "/srv/a:b", RO), 0);
	assert_int_equal(may(spec, RO, "/srv/a:b", 0), -EROFS);
	assert_int_equal(may(spec, 0, "/srv/a", 0), -EACCES);
	assert_int_equal(may(spec, 0, "b", 0), -EINVAL);
	assert_int_equal(may(spec, 0, "", 0), -EINVAL);
	assert_int_equal(may(spec, 0, "/srv/a:b/", 0), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/../srv/a:b", 0), -EACCES);
	assert_int_equal(may("ram:1G", 0, "1G", 0), -EINVAL);
	assert_int_equal(may("ram:1G", 0, "/1G", 0), -EACCES);
	assert_int_equal(may("ram:1G", 0, "/tmpl/x", RO), -EACCES);
	assert_int_equal(may("", 0, "/etc/shadow", RO), -EACCES);
}

static void test_raw_images_name_nothing(void **state)
{
	static const char *const raw[] = {
		"aio:/srv/a", "file:/srv/a", "phy:/srv/a", "log:|aio:/srv/a",
		"luks:/srv/a",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(raw); i++) {
		assert_int_equal(may(raw[i], 0, "/srv/b", RO), -EACCES);
		assert_int_equal(may(raw[i], 0, "/tmpl/b", RO), -EACCES);
	}
	assert_int_equal(may("log:|aiox:/srv/a", 0, "/srv/b", RO), 1);
}

static void test_a_given_chain_is_read_and_is_all(void **state)
{
	const char *spec = "qcow2:/srv/a\nlog:|qcow2:/far/b|c\naio:/far/d";

	(void)state;
	assert_int_equal(may(spec, 0, "/srv/a", 0), 0);
	assert_int_equal(may(spec, 0, "/far/b|c", RO), 0);
	assert_int_equal(may(spec, 0, "/far/d", RO), 0);
	assert_int_equal(may(spec, 0, "/far/b|c", 0), -EROFS);
	assert_int_equal(may(spec, 0, "/far/d", 0), -EROFS);
	assert_int_equal(may(spec, 0, "/far/b", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/x", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/x", 0), -EACCES);
	assert_int_equal(may("qcow2:/srv/a\n", 0, "/srv/x", RO), -EACCES);
	found(spec, "/tmpl/x", RO, "/tmpl", "x");
	assert_int_equal(may(spec, 0, "/tmpl/x", 0), -EACCES);
}

static void test_what_lies_beside_the_image(void **state)
{
	const char *spec = "log:|qcow2:/srv/vm/a";

	(void)state;
	found(spec, "/srv/vm/b", 0, "/srv/vm/", "b");
	assert_false(g.dotted || g.device);
	found(spec, "/srv/vm/b", RO, "/srv/vm/", "b");
	found(spec, "/srv//vm/./sub/b", 0, "/srv/vm/", "sub/b");
	assert_false(g.dotted);
	found(spec, "/srv/vm/sub/../b", 0, "/srv/vm/", "b");
	assert_true(g.dotted);
	assert_int_equal(may(spec, RO, "/srv/vm/b", 0), -EROFS);
	assert_int_equal(may(spec, 0, "/srv/vmb", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/vm", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/vm/", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/vm/b/", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/vm/..", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/b", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/vm/../b", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/srv/vm/../../../etc/shadow", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/etc/shadow", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/etc/shadow", 0), -EACCES);
	/* The root folder is nobody's. */
	assert_int_equal(may("qcow2:/a", 0, "/b", RO), -EACCES);
	assert_int_equal(may("qcow2:/a", 0, "/etc/shadow", RO), -EACCES);
	assert_int_equal(may("qcow2:/x/../a", 0, "/etc/shadow", RO), -EACCES);
	assert_int_equal(may("qcow2:/", 0, "/etc/shadow", RO), -EACCES);
	found("qcow2:/x/../y/a", "/x/../y/b", RO, "/x/../y/", "b");
	assert_true(g.dotted);
}

static void test_folders_of_the_operator(void **state)
{
	const char *spec = "qcow2:/srv/a";

	(void)state;
	found(spec, "/tmpl/deb/x", RO, "/tmpl", "deb/x");
	assert_true(g.device);
	found(spec, "/usr/base/x", RO, "/usr//base/", "x");
	found(spec, "/srv/../tmpl/x", RO, "/tmpl", "x");
	assert_true(g.dotted);
	assert_int_equal(may(spec, 0, "/tmpl/x", 0), -EACCES);
	assert_int_equal(may(spec, 0, "/tmplx", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/tmpl", RO), -EACCES);
	assert_int_equal(may(spec, 0, "/tmpl/../x", RO), -EACCES);
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
	assert_int_equal(policy_spec("qcow2:/x\nqcow2:/y\naio:/z"), 0);
	assert_int_equal(policy_spec("qcow2:/x\n"), 0);
	assert_int_equal(policy_spec("qcow2:/x\n\n"), -EINVAL);
	assert_int_equal(policy_spec("qcow2:/x\naio:/y\n"), -EINVAL);
	assert_int_equal(policy_spec("qcow2:/x\n\naio:/y"), -EINVAL);
	assert_int_equal(policy_spec("\nqcow2:/x"), -EINVAL);
	assert_int_equal(policy_spec("\n"), -EINVAL);
	assert_int_equal(policy_spec("qcow2:/x\r\naio:/y"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_path_is_what_the_last_type_names),
		cmocka_unit_test(test_only_that_path_and_only_as_allowed),
		cmocka_unit_test(test_raw_images_name_nothing),
		cmocka_unit_test(test_a_given_chain_is_read_and_is_all),
		cmocka_unit_test(test_what_lies_beside_the_image),
		cmocka_unit_test(test_folders_of_the_operator),
		cmocka_unit_test(test_what_is_a_spec),
	};

	return cmocka_run_group_tests_name("ctl_policy", tests, NULL, NULL);
}
