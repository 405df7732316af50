/* A client that says anything: every bad field gets an error or the end of its
 * connection, the stream goes on where it can, and others are served. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "base/bytes.h"
#include "base/clock.h"
#include "export/nbd/nbd_option.h"
#include "export/nbd/nbd_priv.h"
#include "export/nbd/nbd_proto.h"
#include "linger.h"
#include "nbd_rig.h"

#define SIZE (64 * MiB)

static struct nbd_rig rig;

static int setup(void **state)
{
	(void)state;
	nbd_rig_start(&rig, "ram:64M", 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return nbd_rig_stop(&rig) ? 0 : -1;
}

/* A sanitizer's shadow is memory too: what is private says nothing then. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOWED 1
#else
#define SHADOWED 0
#endif

/* The server is there and well. */
static void assert_serves(void)
{
	int fd = nbd_rig_go(&rig, false);
	uint8_t b[512];

	nbd_rig_req(fd, NBD_CMD_READ, 0, 42, SIZE - 512, 512);
	assert_int_equal(nbd_rig_simple(fd, 42), 0);
	nbd_rig_recv(fd, b, sizeof(b));
	nbd_rig_req(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	assert_true(nbd_rig_ended(fd));
	close(fd);
}

static void greeting_must_be_answered_rightly(void **state)
{
	uint8_t junk[64];
	int fd = nbd_rig_connect(&rig);

	(void)state;
	nbd_rig_greeting(fd, 1u << 7);
	assert_true(nbd_rig_ended(fd));
	close(fd);

	memset(junk, 0xa5, sizeof(junk));
	fd = nbd_rig_connect(&rig);
	nbd_rig_greeting(fd, 3);
	nbd_rig_send(fd, junk, sizeof(junk));
	assert_true(nbd_rig_ended(fd));
	close(fd);

	/* over the limit of what is even skipped */
	fd = nbd_rig_connect(&rig);
	nbd_rig_greeting(fd, 3);
	put_be64(junk, NBD_MAGIC_OPT);
	put_be32(junk + 8, NBD_OPT_GO);
	put_be32(junk + 12, NBD_OPT_DATA_CUT + 1);
	nbd_rig_send(fd, junk, NBD_OPT_LEN);
	assert_true(nbd_rig_ended(fd));
	close(fd);
	assert_serves();
}

static void big_options_are_skipped(void **state)
{
	static uint8_t data[NBD_OPT_DATA_CUT];
	static const uint8_t go[6];
	int fd = nbd_rig_connect(&rig);
	uint8_t b[256];
	uint32_t n;

	(void)state;
	nbd_rig_greeting(fd, 3);
	nbd_rig_opt(fd, NBD_OPT_GO, data, sizeof(data));
	assert_int_equal(nbd_rig_rep(fd, NBD_OPT_GO, b, sizeof(b), &n),
			 NBD_REP_ERR_TOO_BIG);
	nbd_rig_opt(fd, 77, data, NBD_OPT_DATA_MAX);
	assert_int_equal(nbd_rig_rep(fd, 77, b, sizeof(b), &n), NBD_REP_ERR_UNSUP);
	nbd_rig_opt(fd, NBD_OPT_GO, go, sizeof(go));
	assert_int_equal(nbd_rig_rep(fd, NBD_OPT_GO, b, sizeof(b), &n), NBD_REP_INFO);
	close(fd);
	assert_serves();
}

static void options_without_end_are_cut(void **state)
{
	int fd = nbd_rig_connect(&rig);
	uint8_t b[256];
	uint32_t n;

	(void)state;
	nbd_rig_greeting(fd, 3);
	for (unsigned i = 0; i <= NBD_OPTIONS_MAX; i++)
		nbd_rig_opt(fd, NBD_OPT_STARTTLS, NULL, 0);
	/* half of them are answered at least: more than out holds at a time */
	for (unsigned i = 0; i < NBD_OPTIONS_MAX / 2; i++)
		assert_int_equal(nbd_rig_rep(fd, NBD_OPT_STARTTLS, b, sizeof(b), &n),
				 NBD_REP_ERR_POLICY);
	while (!nbd_rig_ended(fd))
		;
	close(fd);
}

static void abort_is_acknowledged(void **state)
{
	int fd = nbd_rig_connect(&rig);
	uint8_t b[16];
	uint32_t n;

	(void)state;
	nbd_rig_greeting(fd, 3);
	nbd_rig_opt(fd, NBD_OPT_ABORT, NULL, 0);
	assert_int_equal(nbd_rig_rep(fd, NBD_OPT_ABORT, b, sizeof(b), &n), NBD_REP_ACK);
	assert_true(nbd_rig_ended(fd));
	close(fd);
}

static void bad_requests_get_an_error_and_the_stream_goes_on(void **state)
{
	static const struct {
		uint16_t type, flags;
		uint64_t offset;
		uint32_t length, error;
	} bad[] = {
		{ NBD_CMD_READ, 0, SIZE, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0, UINT64_MAX, UINT32_MAX, NBD_EINVAL },
		{ NBD_CMD_READ, 0, 0, (32u << 20) + 1, NBD_EINVAL },
		{ NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, 512, NBD_EINVAL },
		{ NBD_CMD_READ, 0x8000, 0, 512, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, SIZE - 4096, 8192, NBD_ENOSPC },
		{ NBD_CMD_WRITE, 0xfffe, 0, 4096, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, 0, (32u << 20) + 1, NBD_EINVAL },
		{ NBD_CMD_WRITE, 0, SIZE, 64u << 20, NBD_EINVAL },
		{ NBD_CMD_FLUSH, 0, 1, 0, NBD_EINVAL },
		{ NBD_CMD_TRIM, 0, SIZE, 1, NBD_EINVAL },
		{ NBD_CMD_CACHE, 0, SIZE, 1, NBD_EINVAL },
		{ NBD_CMD_ZEROES, 0, 1, SIZE, NBD_ENOSPC },
		{ NBD_CMD_BLOCK_STATUS, 0, 0, 512, NBD_EINVAL },
		{ 8, 0, 0, 0, NBD_EINVAL },
		{ UINT16_MAX, UINT16_MAX, UINT64_MAX, UINT32_MAX, NBD_EINVAL },
	};
	uint8_t *payload = calloc(1, 64u << 20);
	int fd = nbd_rig_go(&rig, false);

	(void)state;
	assert_non_null(payload);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		nbd_rig_req(fd, bad[i].type, bad[i].flags, i, bad[i].offset,
			bad[i].length);
		if (bad[i].type == NBD_CMD_WRITE)
			nbd_rig_send(fd, payload, bad[i].length);
		assert_int_equal(nbd_rig_simple(fd, i), bad[i].error);
	}
	free(payload);
	nbd_rig_req(fd, NBD_CMD_FLUSH, 0, 1, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 1), 0);
	close(fd);
	assert_serves();
}

static void what_is_no_request_is_cut(void **state)
{
	uint8_t b[NBD_REQUEST_LEN];
	int fd = nbd_rig_go(&rig, false);

	(void)state;
	memset(b, 0, sizeof(b));
	nbd_rig_send(fd, b, sizeof(b));
	assert_true(nbd_rig_ended(fd));
	close(fd);
	fd = nbd_rig_go(&rig, false);
	nbd_rig_req(fd, NBD_CMD_WRITE, 0, 1, 0, (64u << 20) + 1);
	assert_true(nbd_rig_ended(fd));
	close(fd);
	assert_serves();
}

/* A whole session as the client's bytes, kept by the test. */
static size_t session(uint8_t *b)
{
	static const uint8_t head[] = {
		0, 0, 0, 3,
		'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 8, 0, 0, 0, 0,
		'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 7, 0, 0, 0, 8,
		0, 0, 0, 0, 0, 1, 0, 3,
	};
	static const uint16_t types[] = { NBD_CMD_WRITE, NBD_CMD_READ,
		NBD_CMD_FLUSH, NBD_CMD_DISC };
	uint8_t *p = b;

	memcpy(p, head, sizeof(head));
	p += sizeof(head);
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		put_be32(p, NBD_MAGIC_REQUEST);
		put_be16(p + 4, 0);
		put_be16(p + 6, types[i]);
		put_be64(p + 8, i);
		put_be64(p + 16, 0);
		put_be32(p + 24, types[i] < NBD_CMD_DISC ? 700 : 0);
		p += NBD_REQUEST_LEN;
		if (types[i] == NBD_CMD_WRITE) {
			memset(p, 'x', 700);
			p += 700;
		}
	}
	return (size_t)(p - b);
}

/* greeting, ack, info export and block size, ack, write, read, flush */
#define ANSWERS (18 + 20 + 32 + 34 + 20 + 16 + 28 + 700 + 16)

static void a_byte_at_a_time_is_understood(void **state)
{
	uint8_t b[1024], a[ANSWERS];
	size_t len = session(b);
	int fd = nbd_rig_connect(&rig);

	(void)state;
	for (size_t i = 0; i < len; i++) {
		nbd_rig_send(fd, b + i, 1);
		if (i % 16 == 0)
			usleep(100);
	}
	nbd_rig_recv(fd, a, sizeof(a));
	assert_int_equal(a[ANSWERS - 17], 'x');
	assert_true(nbd_rig_ended(fd));
	close(fd);
}

static void all_at_once_is_understood(void **state)
{
	uint8_t b[1024], a[ANSWERS];
	size_t len = session(b);
	int fd = nbd_rig_connect(&rig);

	(void)state;
	nbd_rig_send(fd, b, len);
	nbd_rig_recv(fd, a, sizeof(a));
	assert_int_equal(a[ANSWERS - 17], 'x');
	assert_true(nbd_rig_ended(fd));
	close(fd);
}

static void leaving_at_any_point_harms_nobody(void **state)
{
	uint8_t b[1024];
	size_t len = session(b);

	(void)state;
	for (size_t i = 0; i <= len; i += i < 170 || i > 780 ? 1 : 37) {
		int fd = nbd_rig_connect(&rig);

		nbd_rig_send(fd, b, i);
		if (i % 3 == 0)
			shutdown(fd, SHUT_WR);
		else if (i % 3 == 1)
			usleep(200);
		close(fd);
	}
	assert_serves();
}

static void a_half_closed_client_gets_its_answers(void **state)
{
	static uint8_t data[1 << 20];
	int fd = nbd_rig_go(&rig, false);

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		nbd_rig_req(fd, NBD_CMD_READ, 0, 5, 0, sizeof(data));
	shutdown(fd, SHUT_WR);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(nbd_rig_simple(fd, 5), 0);
		nbd_rig_recv(fd, data, sizeof(data));
	}
	assert_true(nbd_rig_ended(fd));
	close(fd);
}

static void too_many_clients_are_turned_away(void **state)
{
	int fds[NBD_CLIENTS_MAX], fd;

	(void)state;
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		fds[i] = nbd_rig_go(&rig, i & 1);
	fd = nbd_rig_connect(&rig);
	assert_true(nbd_rig_ended(fd));
	close(fd);
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++) {
		nbd_rig_req(fds[i], NBD_CMD_DISC, 0, 0, 0, 0);
		assert_true(nbd_rig_ended(fds[i]));
		close(fds[i]);
	}
	assert_serves();
}

/* Sends and does not read: it gets no more than its share, others are served
 * at once, and when it reads at last, all is there. */
static void a_slow_reader_stops_only_itself(void **state)
{
	static uint8_t data[1 << 20];
	/* More than may be buffered; what is not taken fits the socket. */
	const unsigned n = 200;
	int fd = nbd_rig_go(&rig, false);
	long before = nbd_rig_private_kib(&rig), grown;
	uint64_t start;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		nbd_rig_req(fd, NBD_CMD_READ, 0, i, 0, sizeof(data));
	usleep(300000);
	grown = nbd_rig_private_kib(&rig) - before;
	assert_true(SHADOWED || grown < (long)(NBD_CHARGE_MAX / KiB) + 16384);
	start = clock_ns();
	for (unsigned i = 0; i < 50; i++)
		assert_serves();
	assert_true(clock_ns() - start < 60 * NS_PER_S);
	for (unsigned i = 0; i < n; i++) {
		uint8_t h[NBD_SIMPLE_LEN];

		nbd_rig_recv(fd, h, sizeof(h));
		assert_int_equal(get_be32(h), NBD_MAGIC_SIMPLE);
		nbd_rig_recv(fd, data, sizeof(data));
	}
	nbd_rig_req(fd, NBD_CMD_FLUSH, 0, 9, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 9), 0);
	close(fd);
}

/* More small requests than may be in flight, none of them read for a while. */
static void a_flood_of_requests_is_answered(void **state)
{
	static uint8_t seen[20000];
	int fd = nbd_rig_go(&rig, false);
	pid_t pid = fork();

	(void)state;
	memset(seen, 0, sizeof(seen));
	if (!pid) {
		for (unsigned i = 0; i < sizeof(seen); i++)
			nbd_rig_req(fd, NBD_CMD_TRIM, 0, i, (i % 1000) * 4096, 4096);
		_exit(0);
	}
	usleep(100000);
	for (unsigned i = 0; i < sizeof(seen); i++) {
		uint8_t h[NBD_SIMPLE_LEN];

		nbd_rig_recv(fd, h, sizeof(h));
		assert_int_equal(get_be32(h + 4), 0);
		assert_true(get_be64(h + 8) < sizeof(seen));
		assert_int_equal(seen[get_be64(h + 8)]++, 0);
	}
	close(fd);
}

/* Does the server's private memory come to lie on that side of `kib`? */
static bool memory_gets(bool above, long kib)
{
	for (unsigned i = 0; i < 200; i++) {
		if ((nbd_rig_private_kib(&rig) > kib) == above)
			return true;
		usleep(100000);
	}
	return false;
}

/* What is left when three seconds have given nothing back. */
static long memory_settled(void)
{
	long least = nbd_rig_private_kib(&rig);

	for (unsigned quiet = 0; quiet < 30; quiet++) {
		long now;

		usleep(100000);
		now = nbd_rig_private_kib(&rig);
		if (now < least) {
			least = now;
			quiet = 0;
		}
	}
	return least;
}

static void memory_goes_back_when_idle(void **state)
{
	static uint8_t data[1 << 20];
	long before;
	int fd;

	(void)state;
	if (SHADOWED)
		skip();
	before = memory_settled();
	fd = nbd_rig_go(&rig, false);
	for (unsigned i = 0; i < 48; i++)
		nbd_rig_req(fd, NBD_CMD_READ, 0, i, i * MiB, sizeof(data));
	/* they pile up: nobody reads */
	assert_true(memory_gets(true, before + 8192));
	for (unsigned i = 0; i < 48; i++) {
		uint8_t h[NBD_SIMPLE_LEN];

		nbd_rig_recv(fd, h, sizeof(h));
		nbd_rig_recv(fd, data, sizeof(data));
	}
	assert_true(memory_gets(false, before + 2048));
	close(fd);
}

/* Closing what a client sends may take as long as the client likes. */
static void descriptors_are_no_way_to_delay_others(void **state)
{
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(sizeof(int))];
	} ctl = { .h = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			 .cmsg_len = CMSG_LEN(sizeof(int)) } };
	struct iovec iov = { (void *)(uintptr_t)"", 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	int fd = nbd_rig_connect(&rig), slow = linger_socket();
	uint64_t start;

	(void)state;
	/* One thread at a time is valgrind's way, also while it closes. */
	if (slow < 0 || RUNNING_ON_VALGRIND) {
		if (slow >= 0)
			close(slow);
		close(fd);
		skip();
	}
	/* While the disk is paused nothing is read: so the last close of it is
	 * not ours. */
	assert_int_equal(nbd_rig_order(&rig, 'p', 0), 0);
	memcpy(CMSG_DATA(&ctl.h), &slow, sizeof(slow));
	assert_int_equal(sendmsg(fd, &m, MSG_NOSIGNAL), 1);
	close(slow);
	start = clock_ns();
	assert_int_equal(nbd_rig_order(&rig, 'r', 0), 0);
	assert_serves();
	assert_true(clock_ns() - start < LINGER_S * NS_PER_S * 7 / 8);
	while (!nbd_rig_ended(fd))	/* the greeting, then the end */
		;
	close(fd);
}

static void a_handshake_has_a_time_limit(void **state)
{
	uint64_t start = clock_ns();
	int fd = nbd_rig_connect(&rig);
	struct timeval limit = { .tv_sec = 30 };

	(void)state;
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit,
				    sizeof(limit)), 0);
	nbd_rig_greeting(fd, 3);
	assert_true(nbd_rig_ended(fd));
	assert_true(clock_ns() - start > NBD_HANDSHAKE_NS / 2);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(greeting_must_be_answered_rightly),
		cmocka_unit_test(big_options_are_skipped),
		cmocka_unit_test(options_without_end_are_cut),
		cmocka_unit_test(abort_is_acknowledged),
		cmocka_unit_test(bad_requests_get_an_error_and_the_stream_goes_on),
		cmocka_unit_test(what_is_no_request_is_cut),
		cmocka_unit_test(a_byte_at_a_time_is_understood),
		cmocka_unit_test(all_at_once_is_understood),
		cmocka_unit_test(leaving_at_any_point_harms_nobody),
		cmocka_unit_test(a_half_closed_client_gets_its_answers),
		cmocka_unit_test(too_many_clients_are_turned_away),
		cmocka_unit_test(a_slow_reader_stops_only_itself),
		cmocka_unit_test(a_flood_of_requests_is_answered),
		cmocka_unit_test(memory_goes_back_when_idle),
		cmocka_unit_test(descriptors_are_no_way_to_delay_others),
		cmocka_unit_test(a_handshake_has_a_time_limit),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
