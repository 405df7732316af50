/* libtapring when its server goes away: a goodbye and what ends a connection for
 * good, and a successor that is found, behind descriptors that stay the same. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "blkif.h"
#include "tapring.h"

static char dir[80], path[96];
static int listener;

/* The server of the hour. */
static struct {
	int sock, bell;
	struct tapring_hello hello;
	char *mem;
} srv;
static const struct tapring_token token = { "a secret" };
static uint64_t sectors;

static struct tapring *r;
static struct tapring_queue *q;

static void srv_listen(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	strcpy(sa.sun_path, path);
	unlink(path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(listener, 4), 0);
}

static void srv_greet(uint16_t version, size_t len)
{
	struct tapring_greeting g = {
		.magic = TAPRING_MAGIC, .version = version, .max_order = 4,
		.max_queues = 4, .max_indirect = 256, .sector_size = 512,
		.phys_size = 512, .sectors = sectors };

	srv.sock = accept(listener, NULL, NULL);
	assert_true(srv.sock >= 0);
	assert_int_equal(send(srv.sock, &g, len, MSG_NOSIGNAL), len);
}

static void srv_hello(void)
{
	struct iovec iov = { &srv.hello, sizeof(srv.hello) };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	int memfd;

	assert_int_equal(recvmsg(srv.sock, &m, MSG_WAITALL), sizeof(srv.hello));
	memcpy(&memfd, CMSG_DATA(&ctl.h), sizeof(memfd));
	srv.mem = mmap(NULL, TAPRING_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
		       memfd, 0);
	assert_true(srv.mem != MAP_FAILED);
	close(memfd);
}

static void srv_status(enum tapring_event event, int status, bool with_token)
{
	struct tapring_status s = { .magic = TAPRING_MAGIC,
				    .version = TAPRING_VERSION,
				    .event = (uint16_t)event, .status = status,
				    .sectors = sectors };
	struct iovec iov = { &s, sizeof(s) };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int pair[2] = { -1, -1 };

	if (with_token)
		s.token = token;
	if (event == TAPRING_CONNECTED && !status) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
		srv.bell = pair[0];
		memset(&ctl, 0, sizeof(ctl));
		m.msg_control = ctl.buf;
		m.msg_controllen = sizeof(ctl.buf);
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&ctl.h), &pair[1], sizeof(int));
	}
	assert_int_equal(sendmsg(srv.sock, &m, MSG_NOSIGNAL), sizeof(s));
	if (pair[1] >= 0)
		close(pair[1]);
}

static void srv_dies(void)
{
	if (srv.bell >= 0)
		close(srv.bell);
	if (srv.sock >= 0)
		close(srv.sock);
	if (srv.mem)
		munmap(srv.mem, TAPRING_PAGE);
	srv.bell = srv.sock = -1;
	srv.mem = NULL;
}

/* Answers to requests 0 .. n of the ring, without a doorbell. */
static void srv_answers(uint32_t from, uint32_t to)
{
	struct blkif_sring *sr = (void *)srv.mem;

	for (uint32_t i = from; i < to; i++) {
		struct blkif_rw64 *s = (void *)(srv.mem + sizeof(*sr) +
						i * sizeof(*s));
		uint64_t id = s->id;

		*(struct blkif_rsp64 *)(void *)s = (struct blkif_rsp64){ .id = id };
	}
	__atomic_store_n(&sr->rsp_prod, to, __ATOMIC_SEQ_CST);
}

static void *first_server(void *arg)
{
	srv_greet(TAPRING_VERSION, sizeof(struct tapring_greeting));
	srv_hello();
	srv_status(TAPRING_CONNECTED, 0, arg != NULL);
	return NULL;
}

static void start(bool with_token, uint32_t reconnect_ms)
{
	struct tapring_opts o = { .data = 1 << 16, .reconnect_ms = reconnect_ms };
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, first_server,
					with_token ? &o : NULL), 0);
	assert_int_equal(tapring_connect(path, &o, &r), 0);
	pthread_join(t, NULL);
	q = tapring_get_queue(r, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(tapring_read(q, tapring_data(r, NULL), 512, 0, i),
				 0);
	assert_int_equal(tapring_submit(q), 0);
}

static int make(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "%s/rl.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	srv.bell = srv.sock = -1;
	sectors = 1000;
	srv_listen();
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	tapring_close(r);
	r = NULL;
	srv_dies();
	close(listener);
	unlink(path);
	rmdir(dir);
	return 0;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 1;
}

/* The library is called, as by an event loop, until somebody connects. */
static void until_it_calls(void)
{
	for (int i = 0; i < 2000 && !readable(listener, 0); i++) {
		assert_true(readable(tapring_fd(q), 30000));
		assert_int_equal(tapring_arm(q), 0);
		assert_int_equal(tapring_events(r), 0);
	}
	assert_true(readable(listener, 0));
}

/* ... and has taken what the server has said. */
static void until_it_has_heard(void)
{
	struct tapring_answer a;

	for (int i = 0; i < 20; i++) {
		usleep(1000);
		if (tapring_reap(q, &a, 1))
			return;
	}
}

static void expect_the_end(void)
{
	struct tapring_answer a;

	assert_true(readable(tapring_fd(q), 30000));
	assert_true(readable(tapring_events_fd(r), 30000));
	assert_int_equal(tapring_arm(q), -EPIPE);
	assert_int_equal(tapring_reap(q, &a, 1), -EPIPE);
	assert_int_equal(tapring_wait(q, 1, -1), -EPIPE);
	assert_int_equal(tapring_submit(q), -EPIPE);
	assert_int_equal(tapring_read(q, tapring_data(r, NULL), 512, 0, 9), -EPIPE);
	assert_int_equal(tapring_events(r), -EPIPE);
	assert_false(readable(listener, 20));	/* nor does it try again */
}

static void a_goodbye_is_the_end(void **state)
{
	struct tapring_answer a[4];

	(void)state;
	start(true, 600000);
	srv_answers(0, 2);
	srv_status(TAPRING_CLOSED, 0, false);
	srv_dies();
	/* What was answered is handed out first. */
	assert_int_equal(tapring_wait(q, 3, -1), 2);
	assert_int_equal(tapring_reap(q, a, 4), 2);
	expect_the_end();
}

static void a_server_without_tokens_has_no_successor(void **state)
{
	(void)state;
	start(false, 0);
	srv_dies();
	assert_int_equal(tapring_wait(q, 1, -1), -EPIPE);
	expect_the_end();
}

static void one_who_wants_no_successor_has_none(void **state)
{
	(void)state;
	start(true, TAPRING_NO_RECONNECT);
	srv_dies();
	assert_int_equal(tapring_events(r), -EPIPE);
	expect_the_end();
}

static void the_search_ends(void **state)
{
	struct tapring_answer a;
	uint64_t begin;
	int n;

	(void)state;
	start(true, 150);
	srv_dies();
	close(listener);
	begin = clock_ns();
	n = tapring_wait(q, 1, 20);
	while (!n) {
		assert_true(readable(tapring_fd(q), 30000));
		n = tapring_reap(q, &a, 1);
	}
	assert_int_equal(n, -EPIPE);
	assert_true(clock_ns() - begin >= 150 * NS_PER_MS);	/* not before its time */
	srv_listen();
	expect_the_end();
}

static void refused_for_good(int status, uint16_t version)
{
	start(true, 600000);
	srv_dies();
	until_it_calls();
	srv_greet(version, sizeof(struct tapring_greeting));
	until_it_has_heard();
	if (status) {
		srv_hello();
		srv_status(TAPRING_CONNECTED, status, false);
		until_it_has_heard();
	}
	expect_the_end();
}

static void a_successor_that_knows_nothing_is_the_end(void **state)
{
	(void)state;
	refused_for_good(-ESTALE, TAPRING_VERSION);
}

static void a_successor_of_another_version_is_the_end(void **state)
{
	(void)state;
	refused_for_good(0, TAPRING_VERSION + 1);
}

static void a_successor_is_found_at_last(void **state)
{
	static const int soft[] = { -ENODEV, -EBUSY, -ENOMEM };
	struct tapring_answer a[4];
	struct tapring_hello before;
	int fd, events;
	char byte;

	(void)state;
	start(true, 600000);
	before = srv.hello;
	fd = tapring_fd(q);
	events = tapring_events_fd(r);
	srv_answers(0, 1);
	assert_int_equal(tapring_reap(q, a, 4), 1);
	srv_dies();
	close(listener);
	/* Nobody is there: nothing is to be seen, and requests are taken. */
	assert_int_equal(tapring_arm(q), 0);
	assert_int_equal(tapring_reap(q, a, 4), 0);
	assert_int_equal(tapring_events(r), 0);
	assert_int_equal(tapring_wait(q, 1, 30), 0);
	assert_int_equal(tapring_read(q, tapring_data(r, NULL), 512, 0, 7), 0);
	assert_int_equal(tapring_submit(q), 0);
	srv_listen();
	/* Some die early, or have no disk yet. */
	until_it_calls();
	srv_greet(TAPRING_VERSION, 17);
	until_it_has_heard();
	srv_dies();
	for (unsigned i = 0; i < sizeof(soft) / sizeof(soft[0]); i++) {
		until_it_calls();
		srv_greet(TAPRING_VERSION, sizeof(struct tapring_greeting));
		until_it_has_heard();
		srv_hello();
		srv_status(TAPRING_CONNECTED, soft[i], false);
		srv_dies();
	}
	until_it_calls();
	srv_greet(TAPRING_VERSION, sizeof(struct tapring_greeting));
	until_it_has_heard();
	srv_hello();
	assert_memory_equal(&srv.hello.token, &token, sizeof(token));
	srv.hello.token = before.token;
	assert_memory_equal(&srv.hello, &before, sizeof(before));
	sectors = 2000;
	srv_status(TAPRING_CONNECTED, 0, true);
	until_it_has_heard();
	/* It is the same memory; the doorbell has rung for request 7. */
	assert_int_equal(((struct blkif_sring *)(void *)srv.mem)->req_prod, 4);
	assert_int_equal(recv(srv.bell, &byte, 1, MSG_DONTWAIT), 1);
	assert_int_equal(tapring_fd(q), fd);
	assert_int_equal(tapring_events_fd(r), events);
	assert_true(readable(events, 0));
	assert_int_equal(tapring_events(r), 1);
	assert_int_equal(tapring_size(r), 2000 * 512);
	assert_false(readable(events, 20));
	assert_int_equal(tapring_arm(q), 0);
	assert_false(readable(fd, 20));
	srv_answers(1, 4);
	assert_int_equal(send(srv.bell, "", 1, 0), 1);
	assert_true(readable(fd, 30000));
	assert_int_equal(tapring_reap(q, a, 4), 3);
	assert_int_equal(a[2].cookie, 7);
	assert_int_equal(tapring_inflight(q), 0);
	/* And once more. */
	srv_dies();
	until_it_calls();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_goodbye_is_the_end),
		TEST(a_server_without_tokens_has_no_successor),
		TEST(one_who_wants_no_successor_has_none),
		TEST(the_search_ends),
		TEST(a_successor_that_knows_nothing_is_the_end),
		TEST(a_successor_of_another_version_is_the_end),
		TEST(a_successor_is_found_at_last),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
