/* libtapring against a server of the test's that greets wrongly, answers what
 * was not asked, moves positions, or goes away. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
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

#include "blkif.h"
#include "tapring.h"

static char dir[80], path[96];
static int listener;
static pthread_t thread;

/* What the server does. */
static struct tapring_greeting greeting;
static struct tapring_status status;
static unsigned bells;			/* descriptors sent with the status */
static void (*act)(struct blkif_sring *sr, struct blkif_rsp64 *slot,
		   uint64_t id);

static int serve_hello(int fd, struct tapring_hello *h, char **mem, int *bell)
{
	struct iovec iov = { h, sizeof(*h) };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	int memfd, pair[2], fds[8];

	if (recvmsg(fd, &m, MSG_WAITALL) != (ssize_t)sizeof(*h))
		return -1;
	memcpy(&memfd, CMSG_DATA(&ctl.h), sizeof(memfd));
	*mem = mmap(NULL, (size_t)h->pages * 4096, PROT_READ | PROT_WRITE,
		    MAP_SHARED, memfd, 0);
	close(memfd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return -1;
	*bell = pair[0];
	iov = (struct iovec){ &status, sizeof(status) };
	m.msg_control = NULL;
	m.msg_controllen = 0;
	if (bells) {
		m.msg_control = ctl.buf;
		m.msg_controllen = CMSG_SPACE(bells * sizeof(int));
		memset(&ctl, 0, sizeof(ctl));
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(bells * sizeof(int));
		for (unsigned i = 0; i < bells; i++)
			fds[i] = pair[1];
		memcpy(CMSG_DATA(&ctl.h), fds, bells * sizeof(int));
	}
	(void)!sendmsg(fd, &m, MSG_NOSIGNAL);
	close(pair[1]);
	return 0;
}

/* One client; act() answers its first request. */
static void *serve(void *arg)
{
	struct tapring_hello h;
	struct blkif_rw64 *slot;
	int fd = accept(listener, NULL, NULL), bell = -1;
	char *mem, byte;

	(void)arg;
	(void)!send(fd, &greeting, sizeof(greeting), MSG_NOSIGNAL);
	if (!serve_hello(fd, &h, &mem, &bell)) {
		slot = (void *)(mem + 64);
		if (act && recv(bell, &byte, 1, 0) == 1) {
			act((void *)mem, (void *)slot, slot->id);
			(void)!send(bell, "", 1, MSG_NOSIGNAL);
			/* until the client goes */
			(void)!recv(fd, &byte, 1, 0);
		}
		munmap(mem, (size_t)h.pages * 4096);
	}
	if (bell >= 0)
		close(bell);
	close(fd);
	return NULL;
}

static atomic_bool enough;

/* Processes that die while they greet a client, and at last one that lives; or until
 * it is enough. */
static void *die_and_serve(void *arg)
{
	const unsigned deaths = *(const unsigned *)arg;

	for (unsigned i = 0; i < deaths && !enough; i++) {
		int fd = accept(listener, NULL, NULL);
		size_t len = i % 3 == 0 ? 0 : i % 3 == 1 ? sizeof(greeting) / 2 :
							   sizeof(greeting);
		char byte;

		(void)!send(fd, &greeting, len, MSG_NOSIGNAL);
		/* It has said hello, and that is not read: a reset. */
		if (len == sizeof(greeting))
			(void)!recv(fd, &byte, 1, MSG_PEEK);
		close(fd);
	}
	return enough ? NULL : serve(NULL);
}

/* Ends it, and leaves no client that nobody has taken. */
static void no_more_deaths(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int wake = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	strcpy(sa.sun_path, path);
	enough = true;
	assert_int_equal(connect(wake, (struct sockaddr *)&sa, sizeof(sa)), 0);
	close(wake);
	pthread_join(thread, NULL);
	assert_int_equal(fcntl(listener, F_SETFL, O_NONBLOCK), 0);
	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close(fd);
	assert_int_equal(fcntl(listener, F_SETFL, 0), 0);
	enough = false;
}

static int make(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	(void)state;
	snprintf(dir, sizeof(dir), "%s/rc.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	strcpy(sa.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(listener, 1), 0);
	greeting = (struct tapring_greeting){
		.magic = TAPRING_MAGIC, .version = TAPRING_VERSION,
		.max_order = 4, .max_queues = 4, .max_indirect = 256,
		.sector_size = 512, .phys_size = 512, .sectors = 1000 };
	status = (struct tapring_status){ .magic = TAPRING_MAGIC,
					  .version = TAPRING_VERSION,
					  .event = TAPRING_CONNECTED,
					  .sectors = 1000 };
	bells = 1;
	act = NULL;
	return 0;
}

static int unmake(void **state)
{
	(void)state;
	close(listener);
	unlink(path);
	rmdir(dir);
	return 0;
}

static int connect_to_it(struct tapring **r, uint32_t queues)
{
	struct tapring_opts o = { .queues = queues, .timeout_ms = 60000 };
	int err;

	*r = NULL;
	assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
	err = tapring_connect(path, &o, r);
	if (err)
		pthread_join(thread, NULL);
	return err;
}

static void wrong_greetings_are_refused(void **state)
{
	struct tapring *r;

	(void)state;
	greeting.magic ^= 1;
	assert_int_equal(connect_to_it(&r, 1), -EPROTO);
	greeting.magic ^= 1;
	greeting.version = 7;
	assert_int_equal(connect_to_it(&r, 1), -EPROTO);
	greeting.version = TAPRING_VERSION;
	greeting.max_queues = 1;
	assert_int_equal(connect_to_it(&r, 2), -EOPNOTSUPP);
}

static void wrong_welcomes_are_refused(void **state)
{
	struct tapring *r;

	(void)state;
	status.status = -EBUSY;
	assert_int_equal(connect_to_it(&r, 1), -EBUSY);
	status.status = 5;
	assert_int_equal(connect_to_it(&r, 1), -EPROTO);
	status.status = 0;
	status.event = TAPRING_RESIZED;
	assert_int_equal(connect_to_it(&r, 1), -EPROTO);
	status.event = TAPRING_CONNECTED;
	bells = 0;
	assert_int_equal(connect_to_it(&r, 1), -EPROTO);
	bells = 1;
	assert_int_equal(connect_to_it(&r, 2), -EPROTO);
	bells = 3;	/* more than asked for: taken, the rest closed */
	assert_int_equal(connect_to_it(&r, 1), 0);
	tapring_close(r);
	pthread_join(thread, NULL);
}

static void one_that_dies_is_tried_again(void **state)
{
	struct tapring_opts o = { .timeout_ms = 60000 };
	unsigned deaths = 7;
	struct tapring *r;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, die_and_serve, &deaths), 0);
	assert_int_equal(tapring_connect(path, &o, &r), 0);
	tapring_close(r);
	pthread_join(thread, NULL);
}

/* ... but not for ever ... */
static void who_dies_always_is_given_up(void **state)
{
	struct tapring_opts o = { .timeout_ms = 100 };
	unsigned deaths = 1u << 20;
	struct tapring *r;
	int err;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, die_and_serve, &deaths), 0);
	err = tapring_connect(path, &o, &r);
	assert_true(err == -EPIPE || err == -ECONNRESET || err == -ETIMEDOUT);
	no_more_deaths();
}

/* ... and not for who wants no successor. */
static void one_who_wants_no_successor_is_told(void **state)
{
	struct tapring_opts o = { .reconnect_ms = TAPRING_NO_RECONNECT };
	unsigned deaths = 3;
	struct tapring *r;
	int err;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, die_and_serve, &deaths), 0);
	for (unsigned i = 0; i < deaths; i++) {
		err = tapring_connect(path, &o, &r);
		assert_true(err == -EPIPE || err == -ECONNRESET);
	}
	assert_int_equal(tapring_connect(path, &o, &r), 0);
	tapring_close(r);
	pthread_join(thread, NULL);
}

/* One that could not pass its doorbells, and one that could. */
static void *pass_none_and_serve(void *arg)
{
	bells = 0;
	status.status = -ETOOMANYREFS;
	serve(NULL);
	bells = 1;
	status.status = 0;
	return serve(arg);
}

static void what_passes_is_waited_out(void **state)
{
	struct tapring_opts o = { .timeout_ms = 60000 };
	struct tapring *r;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, pass_none_and_serve, NULL), 0);
	assert_int_equal(tapring_connect(path, &o, &r), 0);
	tapring_close(r);
	pthread_join(thread, NULL);
}

/* One read; what came of it. */
static int one_read(void (*fn)(struct blkif_sring *sr, struct blkif_rsp64 *slot,
			       uint64_t id))
{
	struct tapring_answer a = { .result = 1 };
	struct tapring_queue *q;
	struct tapring *r;
	int n;

	act = fn;
	assert_int_equal(connect_to_it(&r, 1), 0);
	q = tapring_get_queue(r, 0);
	assert_int_equal(tapring_read(q, tapring_data(r, NULL), 512, 0, 77), 0);
	assert_int_equal(tapring_submit(q), 0);
	n = tapring_wait(q, 1, 60000);
	if (n >= 0)
		n = tapring_reap(q, &a, 1);
	if (n == 1) {
		assert_int_equal(a.cookie, 77);
		n = a.result;
	} else {
		assert_true(n < 0);
		/* dead for good */
		assert_int_equal(tapring_read(q, tapring_data(r, NULL), 512, 0, 1),
				 n);
		assert_int_equal(tapring_submit(q), n);
		assert_int_equal(tapring_wait(q, 1, 100), n);
	}
	tapring_close(r);
	pthread_join(thread, NULL);
	return n;
}

static void answer(struct blkif_sring *sr, struct blkif_rsp64 *slot, uint64_t id,
		   uint8_t op, int16_t st, uint32_t prod)
{
	*slot = (struct blkif_rsp64){ .id = id, .op = op, .status = st };
	__atomic_store_n(&sr->rsp_prod, prod, __ATOMIC_RELEASE);
}

#define ANSWER(name, id, op, st, prod)                                       \
	static void name(struct blkif_sring *sr, struct blkif_rsp64 *slot,   \
			 uint64_t given)                                     \
	{                                                                    \
		(void)given;                                                 \
		answer(sr, slot, id, op, st, prod);                          \
	}
ANSWER(well, given, 0, 0, 1)
ANSWER(failed, given, 0, -1, 1)
ANSWER(unsupported, given, 0, -2, 1)
ANSWER(odd_status, given, 0, 99, 1)
ANSWER(unknown_id, given + 1, 0, 0, 1)
ANSWER(huge_id, UINT64_MAX, 0, 0, 1)
ANSWER(old_id, given - (1ull << 32), 0, 0, 1)
ANSWER(wrong_op, given, 1, 0, 1)
ANSWER(too_many, given, 0, 0, 2)
ANSWER(far_too_many, given, 0, 0, 0x80000000)
ANSWER(backwards, given, 0, 0, UINT32_MAX)

static void answers_are_believed_only_when_they_fit(void **state)
{
	(void)state;
	assert_int_equal(one_read(well), 0);
	assert_int_equal(one_read(failed), -EIO);
	assert_int_equal(one_read(unsupported), -EOPNOTSUPP);
	assert_int_equal(one_read(odd_status), -EIO);
	assert_int_equal(one_read(unknown_id), -EPROTO);
	assert_int_equal(one_read(huge_id), -EPROTO);
	assert_int_equal(one_read(old_id), -EPROTO);
	assert_int_equal(one_read(wrong_op), -EPROTO);
	assert_int_equal(one_read(too_many), -EPROTO);
	assert_int_equal(one_read(far_too_many), -EPROTO);
	assert_int_equal(one_read(backwards), -EPROTO);
}

static void a_server_that_leaves_is_noticed(void **state)
{
	struct tapring_queue *q;
	struct tapring *r;
	struct tapring_answer a;
	int n;

	(void)state;
	assert_int_equal(connect_to_it(&r, 1), 0);
	pthread_join(thread, NULL);
	q = tapring_get_queue(r, 0);
	n = tapring_read(q, tapring_data(r, NULL), 512, 0, 1);
	if (!n)
		n = tapring_submit(q);
	if (!n)
		n = tapring_wait(q, 1, 60000);
	assert_int_equal(n, -EPIPE);
	assert_int_equal(tapring_reap(q, &a, 1), -EPIPE);
	assert_int_equal(tapring_events(r), -EPIPE);
	tapring_close(r);
}

static void wrong_calls_are_refused_and_harmless(void **state)
{
	struct tapring_opts o = { .reserved = { 1 } };
	struct tapring_queue *q;
	struct tapring *r;
	size_t len;
	char *mem;

	(void)state;
	assert_int_equal(tapring_connect(path, &o, &r), -EINVAL);
	o = (struct tapring_opts){ .abi = 4 };
	assert_int_equal(tapring_connect(path, &o, &r), -EINVAL);
	o = (struct tapring_opts){ .max_segments = 10 };
	assert_int_equal(tapring_connect(path, &o, &r), -EINVAL);
	assert_int_equal(tapring_connect("/nowhere/at/all", NULL, &r), -ENOENT);

	assert_int_equal(connect_to_it(&r, 1), 0);
	q = tapring_get_queue(r, 0);
	assert_null(tapring_get_queue(r, 1));
	mem = tapring_data(r, &len);
	assert_int_equal(len, 4 << 20);
	assert_int_equal(tapring_read(q, &o, 512, 0, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem, 511, 0, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem + 1, 512, 0, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem, 512, 1, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem, 0, 0, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem + len, 512, 0, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem + len - 512, 1024, 0, 1), -EINVAL);
	assert_int_equal(tapring_read(q, mem, 257 * 4096, 0, 1), -E2BIG);
	assert_int_equal(tapring_barrier(q, mem, 12 * 4096, 0, 1), -E2BIG);
	assert_int_equal(tapring_discard(q, 0, 0, 1), -EINVAL);
	assert_int_equal(tapring_inflight(q), 0);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(tapring_flush(q, i), 0);
	assert_int_equal(tapring_flush(q, 32), -EAGAIN);
	assert_int_equal(tapring_pflush(q), -EBUSY);
	tapring_close(r);
	pthread_join(thread, NULL);
	tapring_close(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(wrong_greetings_are_refused),
		TEST(wrong_welcomes_are_refused),
		TEST(one_that_dies_is_tried_again),
		TEST(who_dies_always_is_given_up),
		TEST(one_who_wants_no_successor_is_told),
		TEST(what_passes_is_waited_out),
		TEST(answers_are_believed_only_when_they_fit),
		TEST(a_server_that_leaves_is_noticed),
		TEST(wrong_calls_are_refused_and_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
