/* Connections of Xen guests' rings: how they begin, fail, end, break and are taken up by
 * a successor (xen_rig.h). */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "xen_rig.h"

static void a_connection_that_fails_leaves_nothing(void **state)
{
	const char *why;

	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		struct tap_xen_connect c = hello(0);

		fail_map_after = n <= 2 ? n : 0;
		bind_fails = n > 2 ? 8 + n : 0;
		assert_int_equal(xen_connect(rings, &c, journal, &why), -EIO);
		assert_string_equal(why, n <= 2 ? "cannot map its ring" :
				    "cannot bind its event channel");
		assert_int_equal(nr_mapped, 0);
		assert_int_equal(bound, 0);
	}
	fail_map_after = bind_fails = 0;
	disk_close(disk, on_ctl, NULL);
	settle();
	{
		struct tap_xen_connect c = hello(0);

		assert_int_equal(xen_connect(rings, &c, journal, &why), -ENODEV);
		assert_string_equal(why, "the disk is not open");
	}
	assert_int_equal(nr_mapped, 0);
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
	connect_it(0);
}

static void numbers_are_checked(void **state)
{
	struct tap_xen_connect good = hello(0), c;
	const char *why;

	(void)state;
#define BAD(field, value) do { \
	c = good; c.field = value; \
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EINVAL); \
	assert_non_null(why); \
} while (0)
	BAD(queues, 0);
	BAD(queues, 9);
	BAD(order, 5);
	BAD(abi, 0);
	BAD(abi, 4);
	BAD(flags, 8);
	BAD(max_indirect, 257);
	BAD(vbd.domid, 0x7ff0);
	assert_int_equal(map_calls, 0);
	xen_host.gnt = NULL;
	assert_int_equal(xen_connect(rings, &good, journal, &why), -ENODEV);
}

static void leaving_waits_for_what_is_in_flight(void **state)
{
	static const struct tap_xen_vbd other = { DOM, 51728 };
	struct tap_xen_connect c;
	const char *why;

	(void)state;
	connect_it(TAP_XEN_PERSISTENT);
	hold = true;
	request(0, BLKIF_OP_READ, 0, DATA, 11);
	settle();
	assert_int_equal(xen_disconnect(rings, &other, on_gone, &gone), -ENOENT);
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	request(0, BLKIF_OP_READ, 0, DATA, 1);		/* nobody looks */
	settle();
	assert_int_equal(gone, 0);
	assert_int_equal(nr_held, 1);
	assert_int_equal(nr_mapped, 4 + 11);
	c = hello(0);
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EEXIST);
	let_go();
	settle();
	assert_int_equal(gone, 2);
	assert_int_equal(gone_err, 0);
	assert_int_equal(broken, 0);
	connect_it(0);
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EEXIST);
}

static void what_was_in_flight_is_answered_before_it_goes(void **state)
{
	(void)state;
	connect_it(0);
	hold = true;
	request(0, BLKIF_OP_READ, 0, DATA, 1);
	settle();
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(notes, 0);
	let_go();
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(notes, 1);
	assert_int_equal(gone, 1);
}

static void a_broken_ring_is_told_when_it_is_unmapped(void **state)
{
	(void)state;
	connect_it(0);
	hold = true;
	request(0, BLKIF_OP_WRITE, 0, DATA, 1);
	settle();
	sring(1)->req_prod += 1000;
	settle();
	assert_int_equal(broken, 0);
	let_go();
	settle();
	assert_int_equal(broken, 1);
	assert_string_equal(why_broken, "its request producer ran over the ring");
	connect_it(0);
	/* So is the end of the disk. */
	disk_close(disk, on_ctl, NULL);
	settle();
	assert_int_equal(disk_state(disk), DISK_CLOSED);
	assert_int_equal(broken, 2);
	assert_string_equal(why_broken, "the disk is closing");
}

/* Its memory stays until we let go of it; nothing else of it does. */
static void a_domain_that_dies(void **state)
{
	(void)state;
	connect_it(TAP_XEN_PERSISTENT);
	hold = true;
	request(0, BLKIF_OP_READ, 0, DATA, 2);
	settle();
	dead = true;
	request(0, BLKIF_OP_READ, 0, DATA + 5, 1);
	let_go();
	assert_int_equal(last_answer(0), -1);
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(gone, 1);
}

static void a_guest_that_may_not_write(void **state)
{
	(void)state;
	connect_it(TAP_XEN_READONLY);
	memset(page(DATA), 1, 4096);
	request(0, BLKIF_OP_WRITE, 0, DATA, 1);
	assert_int_equal(last_answer(0), -1);
	assert_int_equal(image[0], 0);
	request(0, BLKIF_OP_READ, 0, DATA, 1);
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(page(DATA)[0], 0);
}

static void events_wake_and_counters_are_shown(void **state)
{
	int fd = memfd_create("stats", 0);
	static const struct tap_xen_vbd other = { DOM, 1 };
	uint64_t *page_of;

	(void)state;
	connect_it(0);
	assert_int_equal(ftruncate(fd, TAP_XENSTAT_BYTES), 0);
	page_of = mmap(NULL, TAP_XENSTAT_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	xen_stats_to(rings, &other, dup(fd));
	assert_int_equal(page_of[0], 0);
	request(0, BLKIF_OP_READ, 0, DATA, 2);
	request(0, BLKIF_OP_WRITE, 0, DATA, 1);
	assert_int_equal(last_answer(0), 0);
	pending[nr_pending++] = 1011;
	pending[nr_pending++] = 1012;
	assert_int_equal(write(events_fd, &(uint64_t){ 1 }, 8), 8);
	wait_ms(20);
	assert_int_equal(nr_pending, 0);
	assert_int_equal(unmasked, 2);
	xen_stats_to(rings, &vbd, fd);
	assert_int_equal(page_of[0], 1);		/* version */
	assert_int_equal(page_of[2], 1);		/* reads */
	assert_int_equal(page_of[3], 1);
	assert_int_equal(page_of[4], 16);
	assert_int_equal(page_of[6], 1);		/* writes */
	assert_int_equal(page_of[8], 8);
	assert_int_equal(page_of[10], 0);		/* errors */
	request(0, BLKIF_OP_READ, 0, UINT32_MAX, 1);
	assert_int_equal(last_answer(0), -1);
	wait_ms(1050);
	assert_int_equal(page_of[10], 1);
	assert_int_equal(stat_of("domid"), DOM);
	assert_int_equal(stat_of("devid"), 51712);
	munmap(page_of, TAP_XENSTAT_BYTES);
}

/* The predecessor: three in flight when it is killed, the last one answered. */
static void live_and_die(int fd)
{
	struct tap_xen_connect c = hello(0);
	const char *why;

	start();
	assert_int_equal(journal_new(dup(fd), &journal), 0);
	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	for (unsigned i = 0; i < 70; i++) {
		request(0, BLKIF_OP_WRITE, 0, DATA, 1);
		assert_int_equal(last_answer(0), 0);
	}
	hold = true;
	for (unsigned i = 0; i < 3; i++) {
		memset(page(DATA + i), 0x40 + (int)i, 4096);
		request(0, BLKIF_OP_WRITE, 8 * i, DATA + i, 1);
	}
	settle();
	assert_int_equal(nr_held, 3);
	do_io(held[2]);
	settle();
	assert_int_equal(sring(0)->rsp_prod, 71);
	raise(SIGKILL);
}

static void a_successor_goes_on(void **state)
{
	struct tap_xen_connect c = hello(TAP_XEN_RECONNECT);
	int fd = memfd_create("journal", 0), status;
	struct blkif_rsp64 r;
	const char *why;
	pid_t pid;

	(void)state;
	assert_int_equal(ftruncate(fd, TAP_JOURNAL_BYTES), 0);
	assert_int_equal(xen_connect(rings, &c, NULL, &why), -ESTALE);
	pid = fork();
	if (!pid)
		live_and_die(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

	assert_int_equal(journal_new(fd, &journal), 0);
	c.vbd.devid++;
	assert_int_equal(xen_connect(rings, &c, journal, &why), -ESTALE);
	c.vbd.devid--;
	c.queues = 1;
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EINVAL);
	c.queues = 2;
	fail_map_after = 1;	/* EINVAL from the kernel: not for good */
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EIO);
	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	settle();
	assert_int_equal(sring(0)->rsp_prod, 73);
	for (unsigned i = 0; i < 2; i++) {
		memcpy(&r, slot(0, 71 + i), sizeof(r));
		assert_int_equal(r.id, 70 + i);
		assert_int_equal(r.status, 0);
		assert_int_equal(image[4096 * i], 0x40 + i);
	}
	assert_int_equal(image[8192], 0);	/* that was answered */
	assert_int_equal(notes, 2);		/* both rings, in any case */
	request(0, BLKIF_OP_READ, 8, DATA, 1);
	assert_int_equal(last_answer(0), 0);

	/* Whoever is disconnected is not taken up. */
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(gone, 1);
	assert_int_equal(xen_connect(rings, &c, journal, &why), -ESTALE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_connection_that_fails_leaves_nothing),
		TEST(numbers_are_checked),
		TEST(leaving_waits_for_what_is_in_flight),
		TEST(what_was_in_flight_is_answered_before_it_goes),
		TEST(a_broken_ring_is_told_when_it_is_unmapped),
		TEST(a_domain_that_dies),
		TEST(a_guest_that_may_not_write),
		TEST(events_wake_and_counters_are_shown),
		TEST(a_successor_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
