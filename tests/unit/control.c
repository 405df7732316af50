/* The control channel of one tapdisk, the daemon played by the test: messages on the
 * pipe and descriptors on the socket belong together, whichever is noticed first. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/keys.h"
#include "control.h"
#include "disk/disk.h"
#include "fake_disk.h"
#include "fds.h"
#include "loop/loop.h"
#include "msg.h"

static struct loop *loop;
static struct td_env env;
static struct disk *disk;
static struct control *control;
static char path[64];
static int to, from, conn;	/* the daemon's ends; conn: of the descriptors */
static struct msg_in in;

static int listen_at(const char *p)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, p);
	assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static int dial(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, path);
	assert_int_equal(connect(fd, (void *)&a, sizeof(a)), 0);
	return fd;
}

static void say(uint16_t type, uint32_t id, const void *body, size_t len)
{
	struct msg_out o;

	if (len)
		memcpy(o.body, body, len);
	msg_seal(&o, type, 0, id, 0, (uint32_t)len);
	assert_int_equal(write(to, &o, msg_size(&o)), msg_size(&o));
}

static void say_hello(uint64_t epoch)
{
	struct tap_hello h = { .epoch = epoch };

	say(TAP_HELLO, 0, &h, sizeof(h));
}

static void say_newdev(uint32_t id)
{
	struct tap_newdev n = { .minor = 5 };

	say(TAP_NEWDEV, id, &n, sizeof(n));
}

static void pass_sockets(void)
{
	static const enum tap_fd_kind kinds[] = { TAP_FD_RING, TAP_FD_NBD };

	for (int i = 0; i < 2; i++) {
		struct tap_fd_msg m = { .magic = TAP_MAGIC, .kind = kinds[i] };
		const struct sockaddr any = { .sa_family = AF_UNIX };
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

		assert_int_equal(bind(fd, &any, sizeof(any.sa_family)), 0);
		assert_int_equal(listen(fd, 1), 0);
		assert_int_equal(msg_send_fd(conn, &m, fd), 0);
		close(fd);
	}
}

static void seen(struct loop_fd *f, uint32_t events)
{
	(void)f;
	(void)events;
	loop_stop(loop);
}

/* The loop, until fd can be read. */
static void await(int fd)
{
	struct loop_fd f = { .fd = fd, .fn = seen };

	assert_int_equal(loop_fd_add(loop, &f, EPOLLIN), 0);
	loop_run(loop);
	loop_fd_del(loop, &f);
}

static void out_of_time(struct loop_timer *t)
{
	(void)t;
	loop_stop(loop);
}

/* The loop for a while, in which nothing is answered. */
static void turn(void)
{
	struct loop_timer t;

	loop_timer_init(&t, out_of_time);
	loop_timer_set(loop, &t, 50 * NS_PER_MS);
	loop_run(loop);
}

/* The next answer has to be of this type. */
static const void *answer(uint16_t type, int32_t status)
{
	struct msg m;
	int r;

	while (!(r = read_msg(from, &in, &m)))
		await(from);
	assert_int_equal(r, 1);
	assert_int_equal(m.hdr->type, type);
	assert_int_equal(m.hdr->status, status);
	return m.body;
}

static int minor_told(void)
{
	return ((const struct tap_hello_rsp *)answer(TAP_HELLO_RSP, 0))->minor;
}

static int make(void **state)
{
	struct control_fds fds;
	int up[2], down[2];
	char greeting;

	(void)state;
	loop = loop_new();
	env = (struct td_env){ .loop = loop, .name = "test" };
	disk = disk_new(&env);
	snprintf(path, sizeof(path), "/tmp/control.%d.sock", (int)getpid());
	assert_int_equal(pipe2(up, O_NONBLOCK), 0);
	assert_int_equal(pipe2(down, O_NONBLOCK), 0);
	to = down[1];
	from = up[0];
	fds = (struct control_fds){ down[0], up[1], listen_at(path) };
	control = control_new(loop, disk, &fds, getuid());
	assert_non_null(control);
	msg_in_reset(&in);
	conn = dial();
	await(conn);
	assert_int_equal(read(conn, &greeting, 1), 1);
	say_hello(1);
	assert_int_equal(minor_told(), -1);
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	control_quit(control);
	control_free(control);
	disk_free(disk);
	loop_free(loop);
	close(to);
	close(from);
	close(conn);
	unlink(path);
	return 0;
}

static void sockets_then_newdev(void **state)
{
	(void)state;
	pass_sockets();
	turn();
	say_newdev(7);
	answer(TAP_NEWDEV_RSP, 0);
}

static void newdev_then_sockets(void **state)
{
	(void)state;
	say_newdev(7);
	turn();
	pass_sockets();
	answer(TAP_NEWDEV_RSP, 0);
}

/* A daemon passed all of it and died; the next one's words are there as well when
 * this end looks, at the pipe first. */
static void a_dead_daemons_newdev_holds(void **state)
{
	(void)state;
	say_newdev(7);
	say_hello(2);
	pass_sockets();
	answer(TAP_NEWDEV_RSP, 0);
	assert_int_equal(minor_told(), 5);
}

/* The same, and the next one is at the door. */
static void a_dead_daemons_sockets_are_heard(void **state)
{
	(void)state;
	int door = dial();

	pass_sockets();
	turn();
	say_newdev(7);
	say_hello(2);
	answer(TAP_NEWDEV_RSP, 0);
	assert_int_equal(minor_told(), 5);
	close(door);
}

/* What was begun for a daemon that is gone, and is not whole, is nothing. */
static void half_of_a_newdev_is_forgotten(void **state)
{
	(void)state;
	say_newdev(7);
	say_hello(2);
	assert_int_equal(minor_told(), -1);
	pass_sockets();
	say_newdev(8);
	answer(TAP_NEWDEV_RSP, 0);
}

/* --- keys */

static void pass_key(uint32_t id, const char *text)
{
	const struct td_secret s = { (const unsigned char *)text, strlen(text) };
	struct tap_fd_msg m = { .magic = TAP_MAGIC, .kind = TAP_FD_KEY, .id = id };
	int fd = keys_to_memfd(&s);

	assert_int_equal(msg_send_fd(conn, &m, fd), 0);
	close(fd);
}

static void say_hold(uint32_t id, unsigned keys)
{
	const struct tap_hold h = {
		.img = { .bytes = MiB, .sector_size = 512, .phys_size = 512 },
		.flags = keys << TAP_OPEN_KEYS_SHIFT,
	};
	char body[sizeof(h) + 6];

	memcpy(body, &h, sizeof(h));
	memcpy(body + sizeof(h), "ram:1M", 6);
	say(TAP_HOLD, id, body, sizeof(body));
}

static unsigned keys_told(uint64_t epoch)
{
	const struct tap_hello_rsp *h;

	say_hello(epoch);
	h = answer(TAP_HELLO_RSP, 0);
	return (h->flags & TAP_OPEN_KEYS) >> TAP_OPEN_KEYS_SHIFT;
}

/* It gives them to a daemon that asks, in order, as often as it does. */
static void keys_are_given_back(void **state)
{
	unsigned before = count_fds();
	uint32_t n;

	(void)state;
	pass_key(9, "one");
	pass_key(9, "two");
	say_hold(9, 2);
	answer(TAP_HOLD_RSP, 0);
	assert_int_equal(count_fds(), before + 2);
	assert_int_equal(keys_told(2), 2);
	for (uint32_t id = 5; id < 7; id++) {
		char all[16] = "";

		say(TAP_KEYS, id, NULL, 0);
		memcpy(&n, answer(TAP_KEYS_RSP, 0), sizeof(n));
		assert_int_equal(n, 2);
		for (int i = 0; i < 2; i++) {
			struct tap_fd_msg m;
			int fd;

			assert_int_equal(msg_recv_fd(conn, &m, &fd), 1);
			assert_int_equal(m.kind, TAP_FD_KEY);
			assert_int_equal(m.id, id);
			assert_int_equal(pread(fd, all + strlen(all), 3, 0), 3);
			close(fd);
		}
		assert_string_equal(all, "onetwo");
	}
	/* The disk ends, and they with it. */
	say(TAP_CLOSE, 3, (uint32_t[]){ 0 }, 4);
	answer(TAP_CLOSE_RSP, 0);
	assert_int_equal(count_fds(), before);
	assert_int_equal(keys_told(3), 0);
}

static void a_hold_without_its_keys_is_refused(void **state)
{
	(void)state;
	pass_key(9, "one");
	say_hold(9, 2);
	answer(TAP_HOLD_RSP, -EIO);
	assert_int_equal(keys_told(1), 0);
}

/* The next one's may have the same id. */
static void keys_of_a_dead_daemon_are_forgotten(void **state)
{
	unsigned before = count_fds();

	(void)state;
	pass_key(9, "one");
	turn();
	assert_int_equal(count_fds(), before + 1);
	assert_int_equal(keys_told(2), 0);
	assert_int_equal(count_fds(), before);
	pass_key(9, "two");
	say_hold(9, 1);
	answer(TAP_HOLD_RSP, 0);
	assert_int_equal(keys_told(2), 1);
}

static void nobody_is_given_keys_behind_a_closed_door(void **state)
{
	char greeting;

	(void)state;
	pass_key(9, "one");
	say_hold(9, 1);
	answer(TAP_HOLD_RSP, 0);
	close(conn);
	turn();
	say(TAP_KEYS, 5, NULL, 0);
	answer(TAP_KEYS_RSP, -ENOTCONN);
	conn = dial();
	await(conn);
	assert_int_equal(read(conn, &greeting, 1), 1);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, make, unmake)
	const struct CMUnitTest tests[] = {
		TEST(sockets_then_newdev),
		TEST(newdev_then_sockets),
		TEST(a_dead_daemons_newdev_holds),
		TEST(a_dead_daemons_sockets_are_heard),
		TEST(half_of_a_newdev_is_forgotten),
		TEST(keys_are_given_back),
		TEST(a_hold_without_its_keys_is_refused),
		TEST(keys_of_a_dead_daemon_are_forgotten),
		TEST(nobody_is_given_keys_behind_a_closed_door),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
