/* Operations of the daemon, over real pipes to a tapdisk that the test plays:
 * order, unwinding, late answers, askers that are gone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl_rig.h"

static struct rig r;
static struct msg got;
static struct msg_out mo;
static char trace[256];
static uint32_t patience = 60;	/* of an asker, in seconds */

static void ask_ctl(uint16_t type, uint32_t id, const char *text)
{
	struct tap_verb v = { .pid = -1, .minor = 0, .timeout = patience };

	memcpy(mo.body, &v, sizeof(v));
	memcpy(mo.body + sizeof(v), text, strlen(text));
	msg_seal(&mo, type, 0, id, 0, (uint32_t)(sizeof(v) + strlen(text)));
	assert_true(write(r.ctl_sock, &mo, msg_size(&mo)) > 0);
	rig_turn();
}

/* What the tapdisk is asked next: its type, 0 if nothing. */
static int asked(void)
{
	rig_turn();
	return read_msg(r.tap_rd, &r.tap_in, &got) == 1 ? got.hdr->type : 0;
}

static void tap_says(uint16_t type, uint32_t id, int status, const void *body,
		     size_t len)
{
	memcpy(mo.body, body, len);
	msg_seal(&mo, type, 0, id, status, (uint32_t)len);
	assert_true(write(r.tap_wr, &mo, msg_size(&mo)) > 0);
	rig_turn();
}

/* The answer to request id has that status (1: none yet) and text. */
static void answered(uint32_t id, int status, const char *text)
{
	char buf[TAP_TEXT_MAX + 1];
	int n;

	rig_turn();
	n = read_msg(r.ctl_sock, &r.ctl_in, &got);
	if (status == 1) {
		assert_int_equal(n, 0);
		return;
	}
	assert_int_equal(n, 1);
	assert_int_equal(got.hdr->id, id);
	assert_int_equal(got.hdr->status, status);
	if (text) {
		assert_int_equal(msg_text(&got, 0, buf, sizeof(buf)), 0);
		assert_string_equal(buf, text);
	}
}

static int set_up(void **state)
{
	(void)state;
	rig_new(&r, VD_RUNNING, "aio:/nonexistent");
	trace[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_free(&r);
	return 0;
}

static void test_a_disk_does_one_thing_after_the_other(void **state)
{
	(void)state;
	ask_ctl(TAP_CTL_PAUSE, 1, "");
	ask_ctl(TAP_CTL_UNPAUSE, 2, "");
	ask_ctl(TAP_CTL_STATS, 3, "");
	assert_int_equal(asked(), TAP_PAUSE);
	uint32_t pause = got.hdr->id;

	/* Statistics go beside it; the unpause waits. */
	assert_int_equal(asked(), TAP_STATS);
	tap_says(TAP_STATS_RSP, got.hdr->id, 0, "{}", 2);
	answered(3, 0, "{}");
	assert_int_equal(asked(), 0);
	assert_int_equal(r.vd->state, VD_PAUSING);
	tap_says(TAP_PAUSE_RSP, pause, 0, "", 0);
	answered(1, 0, "");
	assert_int_equal(asked(), TAP_RESUME);
	tap_says(TAP_RESUME_RSP, got.hdr->id, -EIO, "it broke", 8);
	answered(2, -EIO, "disk 0: cannot unpause: it broke");
	assert_int_equal(r.vd->state, VD_PAUSED);
	assert_true(r.vd->failed_resume);
}

static void test_wrong_states_are_refused_by_name(void **state)
{
	(void)state;
	ask_ctl(TAP_CTL_UNPAUSE, 1, "");
	answered(1, -EINVAL, "disk 0: cannot unpause: it is open");
	ask_ctl(TAP_CTL_OPEN, 2, "aio:/x");
	answered(2, -EINVAL, "disk 0: cannot open aio:/x: it is open");
	ask_ctl(TAP_CTL_DETACH, 3, "");
	answered(3, -EINVAL, "disk 0: cannot detach: it is open");
	ask_ctl(TAP_CTL_FREE, 4, "");
	answered(4, -EBUSY, "disk 0: cannot free: tapdisk 1234 has it");
	assert_int_equal(asked(), 0);
}

static void test_a_late_answer_still_counts(void **state)
{
	uint32_t id;

	(void)state;
	patience = 1;
	ask_ctl(TAP_CTL_PAUSE, 1, "");
	patience = 60;
	assert_int_equal(asked(), TAP_PAUSE);
	id = got.hdr->id;
	usleep(1050000);
	answered(1, -ETIMEDOUT,
		 "disk 0: cannot pause: tapdisk 1234 has not answered in time");
	assert_int_equal(r.vd->state, VD_PAUSING);
	ask_ctl(TAP_CTL_CLOSE, 2, "");
	answered(2, -EBUSY, "disk 0: cannot close: it is being paused");
	tap_says(TAP_PAUSE_RSP, id, 0, "", 0);
	assert_int_equal(r.vd->state, VD_PAUSED);
	tap_says(TAP_PAUSE_RSP, id, 0, "", 0);		/* again: nothing */
	assert_int_equal(r.vd->state, VD_PAUSED);
}

static void test_death_answers_everybody_who_waits(void **state)
{
	(void)state;
	ask_ctl(TAP_CTL_PAUSE, 1, "");
	ask_ctl(TAP_CTL_UNPAUSE, 2, "");
	ask_ctl(TAP_CTL_STATS, 3, "");
	vdisk_died(r.vd, "was killed by signal 9");
	answered(3, -ENXIO, "disk 0: cannot tell statistics: its tapdisk has ended");
	answered(1, -ENXIO, "disk 0: cannot pause: its tapdisk was killed by "
		 "signal 9");
	answered(2, -ENXIO, "disk 0: cannot unpause: its tapdisk was killed by "
		 "signal 9");
	ask_ctl(TAP_CTL_PAUSE, 4, "");
	answered(4, -ENXIO, NULL);
	ask_ctl(TAP_CTL_DESTROY, 5, "");
	answered(5, 0, "");
	assert_int_equal(ctl.n_vdisks, 0);
	assert_false(minor_taken(0));
}

static void test_what_was_too_much_to_tell_has_ended(void **state)
{
	static const char why[] = "disk 0: cannot tell statistics: its tapdisk had "
				  "too much to tell at once";

	(void)state;
	for (uint32_t id = 1; id <= 3; id++) {
		ask_ctl(TAP_CTL_STATS, id, "");
		assert_int_equal(asked(), TAP_STATS);
	}
	tap_says(TAP_STATS_RSP, got.hdr->id, 0, "{}", 2);	/* the last alone */
	answered(3, 0, "{}");
	answered(1, -ENOBUFS, why);
	answered(2, -ENOBUFS, why);
	assert_int_equal(r.vd->n_forwards, 0);
}

static void test_a_tapdisk_that_reads_no_more_has_ended(void **state)
{
	(void)state;
	close(r.tap_rd);
	r.tap_rd = -1;
	ask_ctl(TAP_CTL_STATS, 1, "");
	answered(1, -ENXIO, "disk 0: cannot tell statistics: its tapdisk has ended");
}

static void test_a_tapdisk_that_does_not_read_is_not_asked_for_ever(void **state)
{
	char text[3000];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_true(fcntl(r.tap_rd, F_SETPIPE_SZ, 4096) > 0);
	for (uint32_t id = 1; id < FORWARDS_MAX; id++) {
		ask_ctl(TAP_CTL_DEBUG, id, text);
		if (read_msg(r.ctl_sock, &r.ctl_in, &got))
			break;
	}
	assert_int_equal(got.hdr->status, -ENOBUFS);
	assert_int_equal(msg_text(&got, 0, text, sizeof(text)), 0);
	assert_string_equal(strrchr(text, ':'),
			    ": its tapdisk does not read what it is asked");
}

static void test_who_asks_one_that_talks_nonsense_does_not_wait(void **state)
{
	static const char why[] = "disk 0: cannot tell statistics: its tapdisk "
				  "talks nonsense";
	static const char zeroes[4096];

	(void)state;
	ask_ctl(TAP_CTL_STATS, 1, "");
	for (int i = 0; i < 40 && !r.vd->chan.mute; i++) {
		assert_true(write(r.tap_wr, zeroes, sizeof(zeroes)) > 0);
		rig_turn();
	}
	answered(1, -ENXIO, why);
	ask_ctl(TAP_CTL_STATS, 2, "");
	answered(2, -ENXIO, why);
}

static void test_who_waits_for_a_destroyed_disk_is_told(void **state)
{
	(void)state;
	ask_ctl(TAP_CTL_DESTROY, 1, "");
	ask_ctl(TAP_CTL_PAUSE, 2, "");
	assert_int_equal(asked(), TAP_CLOSE);
	tap_says(TAP_CLOSE_RSP, got.hdr->id, 0, "", 0);
	assert_int_equal(asked(), TAP_DETACH);
	tap_says(TAP_DETACH_RSP, got.hdr->id, 0, "", 0);
	answered(1, 1, NULL);		/* its process has not ended */
	vdisk_died(r.vd, "has ended");
	answered(1, 0, "");
	answered(2, -ENODEV, "disk 0: cannot pause: it is gone");
	assert_false(minor_taken(0));
}

static void test_the_queue_is_bounded(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < OP_QUEUE_MAX; i++)
		ask_ctl(TAP_CTL_PAUSE, i, "");
	ask_ctl(TAP_CTL_PAUSE, 99, "");
	answered(99, -EBUSY, "disk 0: cannot pause: too much waits for it already");
}

static void test_an_asker_that_is_gone_stops_nothing(void **state)
{
	(void)state;
	ask_ctl(TAP_CTL_PAUSE, 1, "");
	assert_int_equal(asked(), TAP_PAUSE);
	shutdown(r.ctl_sock, SHUT_RDWR);
	rig_turn();
	assert_int_equal(clients.n, 0);
	tap_says(TAP_PAUSE_RSP, got.hdr->id, 0, "", 0);
	assert_int_equal(r.vd->state, VD_PAUSED);
}

static void test_so_many_clients_and_no_more(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int s[CLIENTS_MAX + 8], waiting = 9, n = 0;	/* one is there already */

	(void)state;
	assert_int_equal(clients_start(), 0);
	run_path(RUN_CTL, 0, sa.sun_path, sizeof(sa.sun_path));
	for (int i = 0; i < CLIENTS_MAX + 8; i++) {
		s[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(connect(s[i], (struct sockaddr *)&sa, sizeof(sa)), 0);
	}
	for (int i = 0; i < 10; i++)
		rig_turn();
	assert_int_equal(clients.n, CLIENTS_MAX);
	while (waiting--) {
		close(s[n++]);
		rig_turn();
		assert_int_equal(clients.n, CLIENTS_MAX);
	}
	close(s[n++]);
	rig_turn();
	assert_int_equal(clients.n, CLIENTS_MAX - 1);
	clients_shut();
	while (n < CLIENTS_MAX + 8)
		close(s[n++]);
	rig_turn();
}

/* Files are opened only while an open is under way, and only its own. */
static void test_files_are_asked_for_in_vain(void **state)
{
	static const char ask[] = "\0\0\0\0/nonexistent";

	(void)state;
	tap_says(TAP_FILE, 5, 0, ask, sizeof(ask) - 1);
	assert_int_equal(asked(), TAP_FILE_RSP);
	assert_int_equal(got.hdr->id, 5);
	assert_int_equal(got.hdr->status, -EACCES);
	ask_ctl(TAP_CTL_PAUSE, 1, "");
	assert_int_equal(asked(), TAP_PAUSE);
	tap_says(TAP_FILE, 6, 0, ask, sizeof(ask) - 1);
	assert_int_equal(asked(), TAP_FILE_RSP);
	assert_int_equal(got.hdr->status, -EACCES);
}

/* --- unwinding --- */

static void mark(const char *what)
{
	strcat(trace, what);
}
static void run_a(struct op *op) { mark("a"); op_done(op, 0, " "); }
static void run_b(struct op *op) { mark("b"); op_done(op, 0, " "); }
static void run_c(struct op *op) { mark("c"); op_done(op, -EIO, "no c"); }
static void run_d(struct op *op) { mark("d"); op_done(op, 0, " "); }
static void undo_a(struct op *op) { mark("A"); op_done(op, 0, " "); }
static void undo_b(struct op *op) { mark("B"); op_done(op, -EPERM, "no B"); }
static void undo_c(struct op *op) { mark("C"); op_done(op, 0, " "); }
static int last_err;
static void ended_with(struct op *op) { last_err = op->err; }

static void test_what_was_done_is_undone_in_reverse(void **state)
{
	static const struct step steps[] = {
		{ "a", .run = run_a, .undo = undo_a },
		{ "b", .run = run_b, .undo = undo_b },
		{ "c", .run = run_c, .undo = undo_c },
		{ "d", .run = run_d },
	};
	static const struct op_kind kind = { .act = "test", .steps = steps,
					     .n_steps = 4, .tells = false };
	static const struct tap_verb v = { .minor = -1 };
	struct op *op = op_new(&kind, &v, "");

	(void)state;
	op->ended = ended_with;
	assert_int_equal(op_start(op, r.vd), 0);
	rig_turn();
	assert_string_equal(trace, "abcBA");
	assert_int_equal(last_err, -EIO);	/* the first reason */
	assert_true(list_empty(&r.vd->ops));
}

static int names;
static void count(enum run_name what, int n)
{
	(void)what;
	(void)n;
	names++;
}

static void test_a_create_that_cannot_start_leaves_nothing(void **state)
{
	(void)state;
	ask_ctl(TAP_CTL_CREATE, 1, "aio:/x");
	answered(1, -EEXIST, "disk 0: cannot create aio:/x: that minor is taken");
	ask_ctl(TAP_CTL_SPAWN, 2, "");
	answered(2, -ENOENT, NULL);
	assert_int_equal(ctl.n_vdisks, 1);
	names = 0;
	names_scan(count);
	assert_int_equal(names, 1);		/* disk 0's marker */
}

/* Both in one turn: the minor is free a moment before the disk is. */
static void test_a_create_beside_a_free_may_have_its_minor(void **state)
{
	struct tap_verb v = { .pid = -1, .minor = 0 };

	(void)state;
	vdisk_died(r.vd, "was killed");
	memcpy(mo.body, &v, sizeof(v));
	msg_seal(&mo, TAP_CTL_FREE, 0, 1, 0, sizeof(v));
	assert_true(write(r.ctl_sock, &mo, msg_size(&mo)) > 0);
	ask_ctl(TAP_CTL_CREATE, 2, "aio:/x");
	answered(1, 0, "");
	answered(2, -ENOENT, NULL);	/* nothing starts here */
	assert_int_equal(ctl.n_vdisks, 0);
}

static int group_start(void **state)
{
	(void)state;
	log_open(LOG_TO_STDERR, "ctl_ops", (enum log_level)0);
	rig_start();
	return 0;
}

static int group_end(void **state)
{
	(void)state;
	rig_end();
	return 0;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_a_disk_does_one_thing_after_the_other),
		T(test_wrong_states_are_refused_by_name),
		T(test_a_late_answer_still_counts),
		T(test_death_answers_everybody_who_waits),
		T(test_what_was_too_much_to_tell_has_ended),
		T(test_a_tapdisk_that_reads_no_more_has_ended),
		T(test_a_tapdisk_that_does_not_read_is_not_asked_for_ever),
		T(test_who_asks_one_that_talks_nonsense_does_not_wait),
		T(test_who_waits_for_a_destroyed_disk_is_told),
		T(test_the_queue_is_bounded),
		T(test_an_asker_that_is_gone_stops_nothing),
		T(test_so_many_clients_and_no_more),
		T(test_files_are_asked_for_in_vain),
		T(test_what_was_done_is_undone_in_reverse),
		T(test_a_create_that_cannot_start_leaves_nothing),
		T(test_a_create_beside_a_free_may_have_its_minor),
	};

	return cmocka_run_group_tests_name("ctl_ops", tests, group_start, group_end);
}
