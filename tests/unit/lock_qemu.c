/* Lock bytes: qemu's own programs and we keep each other off an image. */
#include "io/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "drv_rig.h"

static const char *dir;
static char path[256];

static int open_it(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* PROGRAM path ARGUMENT */
static bool works(const char *program, const char *argument)
{
	char command[600];
	int rc;

	snprintf(command, sizeof(command), "%s %s %s >/dev/null 2>&1", program,
		 path, argument);
	rc = system(command);
	return WIFEXITED(rc) && !WEXITSTATUS(rc);
}

#define WRITES "qemu-io -f raw -c 'write 0 512'", ""
#define READS "qemu-io -r -f raw -c 'read 0 512'", ""

static void our_writer_keeps_qemu_writers_out(void **state)
{
	int fd = open_it();
	const char *why;

	(void)state;
	assert_true(works(WRITES));
	assert_int_equal(file_lock(fd, false, &why), 0);
	assert_false(works(WRITES));
	assert_false(works("qemu-img resize -f raw", "131072"));
	close(fd);
	assert_true(works(WRITES));
	assert_true(works("qemu-img resize -f raw", "131072"));
}

static void our_reader_lives_with_qemu_readers_only(void **state)
{
	int fd = open_it();
	const char *why;

	(void)state;
	assert_int_equal(file_lock(fd, true, &why), 0);
	assert_true(works(READS));
	assert_true(works("qemu-img info", ""));
	assert_false(works(WRITES));
	close(fd);
}

/* A qemu-io that has the image open until its input ends.  It takes its locks before
 * it does what it is told: when that has an answer, it is up. */
static FILE *hold(const char *how)
{
	char command[900], said[300], line[256];
	bool up = false;
	FILE *p, *f;

	snprintf(said, sizeof(said), "%s.said", path);
	snprintf(command, sizeof(command), "exec qemu-io %s -f raw %s >%s", how, path, said);
	p = popen(command, "we");
	assert_non_null(p);
	fputs("read 0 512\n", p);
	fflush(p);
	for (int i = 0; i < 1200 && !up; i++) {
		usleep(50 * 1000);
		f = fopen(said, "re");
		while (f && fgets(line, sizeof(line), f))
			up = up || strstr(line, "ops");
		if (f)
			fclose(f);
	}
	unlink(said);
	assert_true(up);
	return p;
}

static int try_lock(bool rdonly)
{
	int fd = open_it(), err;
	const char *why;

	err = file_lock(fd, rdonly, &why);
	close(fd);
	return err;
}

static void a_qemu_writer_keeps_us_out(void **state)
{
	FILE *p = hold("");

	(void)state;
	assert_int_equal(try_lock(false), -EBUSY);
	assert_int_equal(try_lock(true), -EBUSY);
	pclose(p);
	assert_int_equal(try_lock(false), 0);
}

/* qemu-io -r shares everything, so a writer may come beside it; qemu-nbd -r
 * does not share resize, which our writer claims. */
static void a_qemu_reader_lets_our_reader_in(void **state)
{
	FILE *p = hold("-r");

	(void)state;
	assert_int_equal(try_lock(true), 0);
	pclose(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_writer_keeps_qemu_writers_out),
		cmocka_unit_test(our_reader_lives_with_qemu_readers_only),
		cmocka_unit_test(a_qemu_writer_keeps_us_out),
		cmocka_unit_test(a_qemu_reader_lets_our_reader_in),
	};
	int failed;

	if (system("qemu-io --version >/dev/null 2>&1")) {
		puts("SKIP: qemu-io is not installed");
		return 77;
	}
	dir = rig_dir("/tmp");
	snprintf(path, sizeof(path), "%s", rig_file(dir, "f", 65536));
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rig_dir_remove(dir);
	return failed;
}
