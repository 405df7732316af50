/* Lock bytes: which of our own opens go together.  (What qemu's programs think
 * of them is lock_qemu.) */
#include "io/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "drv_rig.h"

static const char *dir;

static int open_again(void)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/f", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int set_up(void **state)
{
	(void)state;
	dir = rig_dir("/tmp");
	(void)rig_file(dir, "f", 4096);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_dir_remove(dir);
	return 0;
}

static void two_writers_exclude_each_other(void **state)
{
	int a = open_again(), b = open_again();
	const char *why;

	(void)state;
	assert_int_equal(file_lock(a, false, &why), 0);
	assert_int_equal(file_lock(b, false, &why), -EBUSY);
	assert_non_null(strstr(why, "another program"));
	close(a);
	assert_int_equal(file_lock(b, false, &why), 0);
	close(b);
}

static void readers_share_and_keep_writers_out(void **state)
{
	int a = open_again(), b = open_again(), c = open_again();
	const char *why;

	(void)state;
	assert_int_equal(file_lock(a, true, &why), 0);
	assert_int_equal(file_lock(b, true, &why), 0);
	assert_int_equal(file_lock(c, false, &why), -EBUSY);
	close(a);
	assert_int_equal(file_lock(c, false, &why), -EBUSY);
	close(b);
	assert_int_equal(file_lock(c, false, &why), 0);
	close(c);
}

static void a_refused_lock_leaves_nothing_behind(void **state)
{
	int a = open_again(), b = open_again(), c = open_again();
	const char *why;

	(void)state;
	assert_int_equal(file_lock(a, false, &why), 0);
	assert_int_equal(file_lock(b, false, &why), -EBUSY);
	close(a);
	/* b is still open: had it kept a byte, c would be refused. */
	assert_int_equal(file_lock(c, false, &why), 0);
	close(b);
	close(c);
}

static void a_duplicate_keeps_the_lock(void **state)
{
	int a = open_again(), b = open_again(), copy;
	const char *why;

	(void)state;
	assert_int_equal(file_lock(a, false, &why), 0);
	copy = dup(a);
	close(a);
	assert_int_equal(file_lock(b, false, &why), -EBUSY);
	close(copy);
	assert_int_equal(file_lock(b, false, &why), 0);
	close(b);
}

static void a_foreign_exclusive_lock_is_busy(void **state)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
			   .l_start = 100, .l_len = 200 };
	int a = open_again(), b = open_again();
	const char *why;

	(void)state;
	assert_int_equal(fcntl(a, F_OFD_SETLK, &l), 0);
	assert_int_equal(file_lock(b, true, &why), -EBUSY);
	assert_string_equal(why, "another program has locked it");
	close(a);
	close(b);
	assert_int_equal(file_lock(-1, true, &why), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_writers_exclude_each_other),
		cmocka_unit_test(readers_share_and_keep_writers_out),
		cmocka_unit_test(a_refused_lock_leaves_nothing_behind),
		cmocka_unit_test(a_duplicate_keeps_the_lock),
		cmocka_unit_test(a_foreign_exclusive_lock_is_busy),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
