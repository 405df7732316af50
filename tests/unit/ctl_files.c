/* Files that are open already, where no lock of a file system says so: what an
 * image names is then still not shared with a writer.  And many at once, for a
 * tapdisk that takes its time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl_rig.h"
#include "fds.h"

static struct rig r;
static struct vdisk *disk[2];

static int set_up(void **state)
{
	(void)state;
	rig_new(&r, VD_RUNNING, "qcow2:/nonexistent");
	disk[0] = r.vd;
	disk[1] = vdisk_new(1);
	return disk[1] ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	rig_free(&r);
	return 0;
}

static void has(int who, ino_t ino, bool rdonly)
{
	const struct stat st = { .st_dev = 7, .st_ino = ino };

	keep(disk[who], fcntl(0, F_DUPFD_CLOEXEC, 3), rdonly, &st, "");
}

/* What disk 0 gets when it wants that file. */
static int wants(ino_t ino, bool rdonly, const char **why)
{
	struct opening o = { .vd = disk[0], .flags = rdonly ? TAP_OPEN_RDONLY : 0,
			     .st = { .st_dev = 7, .st_ino = ino } };
	int err = check_others(&o);

	*why = o.why;
	return err;
}

static void test_no_file_is_shared_with_a_writer(void **state)
{
	const char *why;

	(void)state;
	has(0, 1, false);
	has(0, 2, true);
	has(1, 3, false);
	has(1, 4, true);
	assert_int_equal(wants(1, false, &why), -EBUSY);
	assert_string_equal(why, "this disk has it open already");
	assert_int_equal(wants(1, true, &why), -EBUSY);
	assert_int_equal(wants(2, false, &why), -EBUSY);
	assert_int_equal(wants(2, true, &why), 0);
	assert_int_equal(wants(3, false, &why), -EBUSY);
	assert_string_equal(why, "it is another disk's");
	assert_int_equal(wants(3, true, &why), -EBUSY);
	assert_int_equal(wants(4, false, &why), -EBUSY);
	assert_int_equal(wants(4, true, &why), 0);
	assert_int_equal(wants(5, false, &why), 0);
}

static void test_a_closed_disk_holds_nothing(void **state)
{
	const char *why;

	(void)state;
	has(1, 3, false);
	broker_close(disk[1]);
	assert_int_equal(disk[1]->n_files, 0);
	assert_int_equal(wants(3, false, &why), 0);
}

#define MANY 1000

static void send_many(void)
{
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(chan_send_fd(&r.vd->chan, TAP_FD_FILE, i,
					      rig_bell.fd), 0);
	assert_false(list_empty(&r.vd->chan.fds));
}

static void test_descriptors_wait_for_a_slow_tapdisk(void **state)
{
	unsigned before = count_fds();

	(void)state;
	send_many();
	for (uint32_t i = 0; i < MANY;) {
		struct tap_fd_msg fm;
		int fd, n = msg_recv_fd(r.tap_sock, &fm, &fd);

		assert_true(n >= 0);
		if (n) {
			assert_int_equal(fm.id, i++);
			close(fd);
		} else {
			rig_turn();
		}
	}
	assert_true(list_empty(&r.vd->chan.fds));
	assert_int_equal(count_fds(), before);
}

static void test_what_waits_goes_with_its_tapdisk(void **state)
{
	unsigned before = count_fds();

	(void)state;
	send_many();
	assert_true(count_fds() > before);
	chan_close(&r.vd->chan);
	assert_int_equal(count_fds(), before - 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_no_file_is_shared_with_a_writer,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_closed_disk_holds_nothing,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_descriptors_wait_for_a_slow_tapdisk, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_what_waits_goes_with_its_tapdisk, set_up, tear_down),
	};
	int failed;

	rig_start();
	failed = cmocka_run_group_tests_name("ctl_files", tests, NULL, NULL);
	rig_end();
	return failed;
}
