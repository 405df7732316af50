/* Keys on their way through the daemon: from tap-ctl, which the test plays, to a
 * tapdisk, which the test plays too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl_rig.h"
#include "fds.h"

#include "base/keys.h"

#include <sys/mman.h>

static struct rig r;
static struct msg got;
static struct msg_out mo;
static unsigned fds_before;

static int set_up(void **state)
{
	(void)state;
	rig_new(&r, VD_CLOSED, "qcow2:/nonexistent");
	fds_before = count_fds();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rig_free(&r);
	return 0;
}

/* fd -1: none goes with it; else it is closed here. */
static void send_ctl(uint16_t type, uint32_t id, const char *text, int fd)
{
	struct tap_verb v = { .pid = -1, .minor = 0, .timeout = 1 };
	size_t len = text ? sizeof(v) + strlen(text) : 0;

	if (text) {
		memcpy(mo.body, &v, sizeof(v));
		memcpy(mo.body + sizeof(v), text, strlen(text));
	}
	msg_seal(&mo, type, 0, id, 0, (uint32_t)len);
	if (fd < 0) {
		assert_true(write(r.ctl_sock, &mo, msg_size(&mo)) > 0);
		return;
	}
	assert_int_equal(write_msg_fd(r.ctl_sock, &mo, fd), 0);
	close(fd);
}

static int key(const char *text)
{
	struct td_secret s = { (const unsigned char *)text, strlen(text) };

	return keys_to_memfd(&s);
}

static void answered(uint32_t id, int status, const char *text)
{
	char buf[TAP_TEXT_MAX + 1];

	rig_turn();
	assert_int_equal(read_msg(r.ctl_sock, &r.ctl_in, &got), 1);
	assert_int_equal(got.hdr->id, id);
	assert_int_equal(got.hdr->status, status);
	assert_int_equal(msg_text(&got, 0, buf, sizeof(buf)), 0);
	if (text)
		assert_string_equal(buf, text);
}

/* The tapdisk is asked that, with n keys; their bytes are `keys`. */
static void asked(uint16_t type, unsigned n, const char *keys)
{
	char all[64] = "";
	struct tap_fd_msg fm;
	uint32_t flags = 0, id;
	int fd;

	rig_turn();
	assert_int_equal(read_msg(r.tap_rd, &r.tap_in, &got), 1);
	assert_int_equal(got.hdr->type, type);
	id = got.hdr->id;
	if (type == TAP_PARAMS || type == TAP_RESUME)
		memcpy(&flags, got.body, sizeof(flags));
	assert_int_equal((flags & TAP_OPEN_KEYS) >> TAP_OPEN_KEYS_SHIFT, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(msg_recv_fd(r.tap_sock, &fm, &fd), 1);
		assert_int_equal(fm.kind, TAP_FD_KEY);
		assert_int_equal(fm.id, id);
		assert_true(pread(fd, all + strlen(all), 16, 0) > 0);
		close(fd);
	}
	assert_int_equal(msg_recv_fd(r.tap_sock, &fm, &fd), 0);
	assert_string_equal(all, keys);
}

static void tap_says(int status)
{
	struct tap_img img = { .bytes = 512, .sector_size = 512 };
	uint16_t type = got.hdr->type + 1;
	uint32_t id = got.hdr->id;

	memcpy(mo.body, &img, sizeof(img));
	msg_seal(&mo, type, 0, id, status, status ? 0 : sizeof(img));
	assert_true(write(r.tap_wr, &mo, msg_size(&mo)) > 0);
	rig_turn();
}

/* Open with a key, up to the end: the tapdisk is asked for what that has found. */
static void open_with(const char *k)
{
	send_ctl(TAP_CTL_KEY, 1, NULL, key(k));
	answered(1, 0, "");
	send_ctl(TAP_CTL_OPEN, 2, "qcow2:/x", -1);
	asked(TAP_PARAMS, 1, k);
	tap_says(0);
	answered(2, 0, "");
	asked(TAP_KEYS, 0, "");
}

static void test_keys_go_with_the_next_open_in_order(void **state)
{
	(void)state;
	/* Without waiting for answers, so that all are read at once. */
	send_ctl(TAP_CTL_CHECK, 1, "", -1);
	send_ctl(TAP_CTL_KEY, 2, NULL, key("one"));
	send_ctl(TAP_CTL_KEY, 3, NULL, key("two"));
	send_ctl(TAP_CTL_OPEN, 4, "qcow2:/x", -1);
	answered(1, 0, NULL);
	answered(2, 0, "");
	answered(3, 0, "");
	asked(TAP_PARAMS, 2, "onetwo");
	assert_int_equal(r.vd->keys.n, 0);
	tap_says(0);
	answered(4, 0, "");
	assert_int_equal(r.vd->keys.n, 2);	/* kept */
	assert_int_equal(count_fds(), fds_before + 2);
}

static void test_they_end_with_the_image(void **state)
{
	(void)state;
	open_with("a");
	assert_int_equal(r.vd->keys.n, 1);
	send_ctl(TAP_CTL_CLOSE, 3, "", -1);
	asked(TAP_CLOSE, 0, "");
	tap_says(0);
	assert_int_equal(r.vd->keys.n, 0);
	assert_int_equal(count_fds(), fds_before);
}

static void test_a_pause_keeps_them_and_an_unpause_may_bring_others(void **state)
{
	(void)state;
	open_with("a");
	send_ctl(TAP_CTL_PAUSE, 3, "", -1);
	asked(TAP_PAUSE, 0, "");
	tap_says(0);
	answered(3, 0, "");
	assert_int_equal(r.vd->keys.n, 1);
	/* Wrong: those of before stay. */
	send_ctl(TAP_CTL_KEY, 4, NULL, key("bad"));
	answered(4, 0, "");
	send_ctl(TAP_CTL_UNPAUSE, 5, "", -1);
	asked(TAP_RESUME, 1, "bad");
	tap_says(-EACCES);
	answered(5, -EACCES, NULL);
	assert_int_equal(count_fds(), fds_before + 1);
	/* None: the tapdisk has them. */
	send_ctl(TAP_CTL_UNPAUSE, 6, "", -1);
	asked(TAP_RESUME, 0, "");
	tap_says(0);
	answered(6, 0, "");
	assert_int_equal(r.vd->keys.n, 1);
}

static void test_an_open_that_fails_has_none(void **state)
{
	(void)state;
	send_ctl(TAP_CTL_KEY, 1, NULL, key("a"));
	answered(1, 0, "");
	send_ctl(TAP_CTL_OPEN, 2, "qcow2:/x", -1);
	asked(TAP_PARAMS, 1, "a");
	tap_says(-EIO);
	answered(2, -EIO, NULL);
	assert_int_equal(count_fds(), fds_before);
	send_ctl(TAP_CTL_OPEN, 3, "qcow2:/x", -1);
	asked(TAP_PARAMS, 0, "");
}

static void test_a_request_that_needs_none_drops_them(void **state)
{
	(void)state;
	send_ctl(TAP_CTL_KEY, 1, NULL, key("a"));
	answered(1, 0, "");
	assert_int_equal(count_fds(), fds_before + 1);
	send_ctl(TAP_CTL_CHECK, 2, "", -1);
	answered(2, 0, NULL);
	assert_int_equal(count_fds(), fds_before);
	send_ctl(TAP_CTL_OPEN, 3, "qcow2:/x", -1);
	asked(TAP_PARAMS, 0, "");
}

static int sealed(size_t len, int seals)
{
	int fd = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (ftruncate(fd, (off_t)len) || fcntl(fd, F_ADD_SEALS, seals))
		abort();
	return fd;
}

static void test_what_is_no_key_is_refused(void **state)
{
	const int all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;

	(void)state;
	send_ctl(TAP_CTL_KEY, 1, NULL, sealed(8, 0));
	answered(1, -EPERM, "cannot take key 1: a key comes in a sealed memfd");
	send_ctl(TAP_CTL_KEY, 2, NULL, open("/proc/self/exe", O_RDONLY));
	answered(2, -EPERM, NULL);
	send_ctl(TAP_CTL_KEY, 3, NULL, sealed(TAP_KEY_LEN_MAX + 1, all));
	answered(3, -E2BIG, "cannot take key 1: a key has at most 4096 bytes");
	send_ctl(TAP_CTL_KEY, 4, NULL, sealed(0, all));
	answered(4, -EINVAL, "cannot take key 1: it is empty");
	send_ctl(TAP_CTL_KEY, 5, NULL, -1);
	answered(5, -EBADMSG, "cannot take key 1: no descriptor came with it");
	for (uint32_t i = 0; i < TAP_KEYS_MAX; i++) {
		send_ctl(TAP_CTL_KEY, 6, NULL, sealed(8, all));
		answered(6, 0, "");
	}
	send_ctl(TAP_CTL_KEY, 7, NULL, sealed(8, all));
	answered(7, -E2BIG, "cannot take key 17: too many keys");
	assert_int_equal(count_fds(), fds_before + TAP_KEYS_MAX);
}

static void test_a_flood_of_descriptors_is_cut_off(void **state)
{
	char byte;

	(void)state;
	/* Of requests that need none: they wait, and are bounded. */
	for (uint32_t i = 0; i <= MSG_FDS_MAX; i++) {
		send_ctl(TAP_CTL_CHECK, 1, "", dup(0));
		rig_turn();
	}
	rig_turn();
	while (recv(r.ctl_sock, mo.body, sizeof(mo.body), MSG_DONTWAIT) > 0)
		;
	assert_int_equal(recv(r.ctl_sock, &byte, 1, MSG_DONTWAIT), 0);
	/* The client's own end in the daemon is gone too. */
	assert_int_equal(count_fds(), fds_before - 1);
}

static void test_they_go_with_a_client_that_leaves(void **state)
{
	(void)state;
	send_ctl(TAP_CTL_KEY, 1, NULL, key("a"));
	answered(1, 0, "");
	shutdown(r.ctl_sock, SHUT_RDWR);
	rig_turn();
	assert_int_equal(count_fds(), fds_before - 1);
}

/* --- another daemon had them: the tapdisk gives them back */

/* The disk is as adopted; the tapdisk has been asked for its keys. */
static uint32_t adopted(void)
{
	r.vd->state = VD_RUNNING;
	r.vd->revival.keyless = true;
	keys_back_ask(r.vd);
	asked(TAP_KEYS, 0, "");
	return got.hdr->id;
}

/* fd is closed here. */
static void give(uint32_t id, int fd)
{
	struct tap_fd_msg fm = { .magic = TAP_MAGIC, .kind = TAP_FD_KEY, .id = id };

	assert_int_equal(msg_send_fd(r.tap_sock, &fm, fd), 0);
	close(fd);
	rig_turn();
}

static void tell(uint32_t id, int status, const void *body, size_t len)
{
	memcpy(mo.body, body, len);
	msg_seal(&mo, TAP_KEYS_RSP, 0, id, status, (uint32_t)len);
	assert_true(write(r.tap_wr, &mo, msg_size(&mo)) > 0);
	rig_turn();
}

static void tell_number(uint32_t id, uint32_t n)
{
	tell(id, 0, &n, sizeof(n));
}

static void has(unsigned n, const char *keys)
{
	char all[64] = "";

	for (unsigned i = 0; i < r.vd->keys.n; i++)
		assert_true(pread(r.vd->keys.fd[i], all + strlen(all), 16, 0) > 0);
	assert_string_equal(all, keys);
	assert_int_equal(r.vd->keys.n, n);
	assert_int_equal(r.vd->revival.keyless, !n);
	assert_int_equal(count_fds(), fds_before + n);
}

static void test_they_come_back_whichever_is_first(void **state)
{
	(void)state;
	uint32_t id = adopted();

	give(id, key("one"));
	assert_true(r.vd->revival.keyless);
	tell_number(id, 2);
	assert_int_equal(r.vd->keys.n, 0);	/* half of them are none */
	give(id, key("two"));
	has(2, "onetwo");
	/* More than it had said, or for another time. */
	give(id, key("three"));
	has(2, "onetwo");
}

static void test_what_comes_back_is_checked(void **state)
{
	(void)state;
	uint32_t id = adopted();

	give(id, sealed(8, 0));
	tell_number(id, 1);
	has(0, "");
	id = adopted();
	give(id + 1, key("unasked"));
	tell_number(id, 1);
	has(0, "");
	id = adopted();
	tell_number(id, TAP_KEYS_MAX + 1);
	give(id, key("late"));
	has(0, "");
	id = adopted();
	give(id, key("one"));
	tell(id, -EOPNOTSUPP, "unknown message", 15);	/* an older tapdisk */
	has(0, "");
	id = adopted();
	give(id, key("one"));
	tell_number(id, 0);
	has(0, "");
	id = adopted();
	tell(id, 0, "x", 1);
	has(0, "");
	id = adopted();
	give(id, key("one"));
	tell_number(id, 1);
	has(1, "one");
}

static void test_those_of_a_later_open_stay(void **state)
{
	(void)state;
	uint32_t id = adopted();

	give(id, key("old"));
	r.vd->state = VD_PAUSED;
	send_ctl(TAP_CTL_KEY, 4, NULL, key("new"));
	answered(4, 0, "");
	send_ctl(TAP_CTL_UNPAUSE, 5, "", -1);
	asked(TAP_RESUME, 1, "new");
	tap_says(0);
	answered(5, 0, "");
	give(id, key("old"));
	tell_number(id, 1);
	has(1, "new");
}

static void test_what_an_open_finds_is_kept_with_them(void **state)
{
	uint32_t id;

	(void)state;
	open_with("a");
	id = got.hdr->id;
	give(id, key("a"));
	give(id, key("data"));
	assert_int_equal(r.vd->keys.n, 1);	/* not before it says that is all */
	tell_number(id, 2);
	has(2, "adata");
	send_ctl(TAP_CTL_CLOSE, 3, "", -1);
	asked(TAP_CLOSE, 0, "");
	tap_says(0);
	assert_int_equal(count_fds(), fds_before);
}

static void test_none_are_taken_of_what_is_closed(void **state)
{
	uint32_t id;

	(void)state;
	open_with("a");
	id = got.hdr->id;
	give(id, key("a"));
	send_ctl(TAP_CTL_CLOSE, 3, "", -1);
	asked(TAP_CLOSE, 0, "");
	tap_says(0);
	tell_number(id, 1);
	give(id, key("a"));
	assert_int_equal(r.vd->keys.n, 0);
	assert_int_equal(count_fds(), fds_before);
}

static void test_fewer_than_ours_are_not_taken(void **state)
{
	uint32_t id;

	(void)state;
	open_with("a");
	id = got.hdr->id;
	give(id, key("a"));
	give(id, key("b"));
	tell_number(id, 2);
	has(2, "ab");
	keys_back_ask(r.vd);
	asked(TAP_KEYS, 0, "");
	give(got.hdr->id, key("c"));
	tell_number(got.hdr->id, 1);
	has(2, "ab");
}

/* Its time is over, which the test does not wait for. */
static void time_is_over(void)
{
	assert_true(loop_timer_is_set(&r.vd->keys_back.again));
	in_time(&r.vd->keys_back.again);
}

static void test_they_are_asked_for_until_they_come(void **state)
{
	(void)state;
	uint32_t id = adopted();

	tell(id, -EMFILE, "no room", 7);
	time_is_over();
	asked(TAP_KEYS, 0, "");
	id = got.hdr->id;
	/* Not twice: a process that is stopped would answer all of it one day. */
	time_is_over();
	assert_int_equal(read_msg(r.tap_rd, &r.tap_in, &got), 0);
	give(id, key("one"));
	tell_number(id, 1);
	has(1, "one");
	assert_false(loop_timer_is_set(&r.vd->keys_back.again));
}

/* Half of a replacement ends when it has given its keys, or has not in time. */
static void test_who_is_to_end_gives_them_before(void **state)
{
	(void)state;
	for (int late = 0; late < 2; late++) {
		rig_killed = NULL;
		key_fds_close(&r.vd->keys);
		adopted();
		keys_back_ask_and_end(r.vd);
		asked(TAP_KEYS, 0, "");
		assert_null(rig_killed);
		if (late) {
			time_is_over();
		} else {
			tell_number(got.hdr->id, 1);
			assert_null(rig_killed);
			keys_back_take(r.vd, got.hdr->id, key("one"));
		}
		assert_ptr_equal(rig_killed, r.vd);
		assert_int_equal(r.vd->keys.n, !late);
	}
	rig_killed = NULL;
}

/* What the memo said of an image that has been closed meanwhile. */
static void test_what_is_adopted_as_closed_lacks_nothing(void **state)
{
	(void)state;
	r.vd->state = VD_SILENT;
	r.vd->revival.keyless = r.vd->revival.unclean = true;
	vdisk_enter(r.vd, VD_CLOSED);
	assert_false(r.vd->revival.keyless || r.vd->revival.unclean);
}

static void test_a_death_ends_the_giving(void **state)
{
	(void)state;
	uint32_t id = adopted();

	give(id, key("one"));
	tell_number(id, 2);
	vdisk_died(r.vd, "has ended");
	assert_int_equal(r.vd->keys_back.got.n, 0);
	assert_false(r.vd->keys_back.open);
	assert_false(loop_timer_is_set(&r.vd->keys_back.again));
}

static void test_unasked_keys_are_a_flood(void **state)
{
	(void)state;
	for (int i = 0; i <= 1000 && !r.vd->chan.mute; i++)
		give(0, dup(0));
	assert_true(r.vd->chan.mute);
	assert_int_equal(r.vd->keys.n, 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_keys_go_with_the_next_open_in_order),
		TEST(test_they_end_with_the_image),
		TEST(test_a_pause_keeps_them_and_an_unpause_may_bring_others),
		TEST(test_an_open_that_fails_has_none),
		TEST(test_a_request_that_needs_none_drops_them),
		TEST(test_what_is_no_key_is_refused),
		TEST(test_a_flood_of_descriptors_is_cut_off),
		TEST(test_they_go_with_a_client_that_leaves),
		TEST(test_they_come_back_whichever_is_first),
		TEST(test_what_comes_back_is_checked),
		TEST(test_those_of_a_later_open_stay),
		TEST(test_what_an_open_finds_is_kept_with_them),
		TEST(test_none_are_taken_of_what_is_closed),
		TEST(test_fewer_than_ours_are_not_taken),
		TEST(test_they_are_asked_for_until_they_come),
		TEST(test_who_is_to_end_gives_them_before),
		TEST(test_what_is_adopted_as_closed_lacks_nothing),
		TEST(test_a_death_ends_the_giving),
		TEST(test_unasked_keys_are_a_flood),
	};
	int failed;

	rig_start();
	failed = cmocka_run_group_tests_name("ctl_keys", tests, NULL, NULL);
	rig_end();
	return failed;
}
