/* Framing of control messages: what is whole arrives once and unharmed, what is
 * not costs nothing but itself, and queues are bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "msg.h"

#define BODY_MAX (TAP_MSG_MAX - sizeof(struct tap_hdr))

static struct msg_in in;
static struct msg_out out;

static const struct msg_out *make(uint16_t type, uint32_t id, const void *body,
				  size_t len)
{
	memcpy(out.body, body, len);
	msg_seal(&out, type, 0, id, 0, (uint32_t)len);
	return &out;
}

static void feed(const void *p, size_t n)
{
	assert_true(in.have + n <= sizeof(in.buf));
	memcpy(in.buf + in.have, p, n);
	in.have += n;
}

static void pipe_nb(int p[2])
{
	assert_int_equal(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
}

static int start(void **state)
{
	(void)state;
	memset(&in, 0, sizeof(in));
	return 0;
}

static void test_a_message_arrives_byte_by_byte(void **state)
{
	struct msg m;
	size_t n;

	(void)state;
	make(TAP_CLOSE, 7, "abc", 3);
	n = msg_size(&out);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(msg_next(&in, &m), 0);
		feed((const uint8_t *)&out + i, 1);
	}
	assert_int_equal(msg_next(&in, &m), 1);
	assert_int_equal(m.hdr->type, TAP_CLOSE);
	assert_int_equal(m.hdr->id, 7);
	assert_int_equal(m.hdr->len, 3);
	assert_memory_equal(m.body, "abc", 3);
	assert_int_equal(msg_next(&in, &m), 0);
	assert_int_equal(in.skipped, 0);
}

static void test_bodies_are_aligned_after_odd_lengths(void **state)
{
	struct msg m;

	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		make(TAP_STATS, i, "abcdefg", i);
		feed(&out, msg_size(&out));
	}
	for (uint32_t i = 0; i < 5; i++) {
		assert_int_equal(msg_next(&in, &m), 1);
		assert_int_equal(m.hdr->id, i);
		assert_int_equal((uintptr_t)m.body % 8, 0);
	}
	assert_int_equal(msg_next(&in, &m), 0);
}

/* Every place where a death can cut a message; the next one is full size, as
 * HELLO is. */
static void test_half_a_message_costs_only_itself(void **state)
{
	static uint8_t big[BODY_MAX];
	static struct msg_out half;
	struct msg m;

	(void)state;
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7);
	for (size_t cut = 1; cut < 24 + 300; cut++) {
		memset(&in, 0, sizeof(in));
		make(TAP_STATS_RSP, 1, big, 300);
		half = out;
		feed(&half, cut);
		make(TAP_HELLO, 2, big, sizeof(big));
		assert_int_equal(msg_next(&in, &m), 0);
		feed(&out, msg_size(&out));
		assert_int_equal(msg_next(&in, &m), 1);
		assert_int_equal(m.hdr->type, TAP_HELLO);
		assert_int_equal(in.skipped, cut);
		assert_int_equal(msg_next(&in, &m), 0);
	}
}

static void test_any_flipped_bit_is_noticed(void **state)
{
	static struct msg_out bad;
	struct msg m;

	(void)state;
	for (size_t bit = 0; bit < (24 + 8) * 8; bit++) {
		memset(&in, 0, sizeof(in));
		bad = *make(TAP_PARAMS, 9, "12345678", 8);
		((uint8_t *)&bad)[bit / 8] ^= (uint8_t)(1u << bit % 8);
		feed(&bad, 24 + 8);
		/* A length that grew may wait for its end; nothing is returned. */
		assert_int_equal(msg_next(&in, &m), 0);
	}
}

static void test_oversize_is_refused_at_the_header(void **state)
{
	struct msg m;

	(void)state;
	make(TAP_PARAMS, 1, "x", 1);
	out.hdr.len = BODY_MAX + 1;
	feed(&out, sizeof(out.hdr));
	assert_int_equal(msg_next(&in, &m), 0);
	assert_int_equal(in.skipped, sizeof(out.hdr));
}

static void test_random_garbage_between_messages(void **state)
{
	unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : 1u;
	struct msg m;
	int p[2];

	(void)state;
	print_message("seed %u\n", seed);
	srandom(seed);
	pipe_nb(p);
	for (uint32_t id = 1; id < 2000; id++) {
		uint8_t junk[64], body[64];
		size_t nj = (size_t)random() % sizeof(junk);
		size_t nb = (size_t)random() % sizeof(body);
		uint64_t skipped = in.skipped;
		int r;

		for (size_t i = 0; i < nj; i++)		/* magic-like bytes */
			junk[i] = (uint8_t)"BLTKx\1"[random() % 6];
		for (size_t i = 0; i < nb; i++)
			body[i] = (uint8_t)random();
		if (nj)
			assert_int_equal(write(p[1], junk, nj), nj);
		make(TAP_STATS, id, body, nb);
		assert_int_equal(write(p[1], &out, msg_size(&out)), msg_size(&out));
		do
			r = read_msg(p[0], &in, &m);
		while (r == 1 && m.hdr->id != id);
		if (r == 0)
			continue;	/* the junk looked like a header and waits */
		assert_int_equal(m.hdr->len, nb);
		assert_memory_equal(m.body, body, nb);
		assert_true(in.skipped - skipped >= nj || in.skipped > skipped || !nj);
	}
	close(p[0]);
	close(p[1]);
}

static void test_end_of_file_and_reset(void **state)
{
	struct msg m;
	int p[2];

	(void)state;
	pipe_nb(p);
	assert_int_equal(read_msg(p[0], &in, &m), 0);
	make(TAP_PID, 1, "", 0);
	assert_int_equal(write(p[1], &out, 10), 10);
	close(p[1]);
	assert_int_equal(read_msg(p[0], &in, &m), -EPIPE);
	msg_in_reset(&in);
	feed(&out, msg_size(&out));
	assert_int_equal(msg_next(&in, &m), 1);
	assert_int_equal(in.skipped, 10);
	close(p[0]);
}

/* Messages that a pipe does not take wait, whole, in order, up to the limit. */
static void test_a_full_pipe_queues_whole_messages(void **state)
{
	static uint8_t body[1000];
	struct msg_queue q;
	struct msg m;
	uint32_t sent = 0, got = 0;
	int p[2], err;

	(void)state;
	pipe_nb(p);
	msg_queue_init(&q, 20000);
	do {
		memset(body, (int)sent, sizeof(body));
		make(TAP_STATS, sent, body, sizeof(body));
		err = write_msg(p[1], &q, &out);
		sent += !err;
	} while (!err);
	assert_int_equal(err, -ENOBUFS);
	assert_true(sent > 64 && sent < 100);
	assert_int_equal(msg_flush(p[1], &q), 1);
	for (;;) {
		int r = read_msg(p[0], &in, &m);

		if (r == 0) {
			if (msg_queue_empty(&q))
				break;
			assert_true(msg_flush(p[1], &q) >= 0);
			continue;
		}
		assert_int_equal(r, 1);
		assert_int_equal(m.hdr->id, got);
		memset(body, (int)got, sizeof(body));
		assert_memory_equal(m.body, body, sizeof(body));
		got++;
	}
	assert_int_equal(got, sent);
	assert_int_equal(in.skipped, 0);
	msg_queue_free(&q);
	close(p[0]);
	close(p[1]);
}

/* A stream socket takes parts of messages. */
static void test_a_slow_socket_gets_every_byte(void **state)
{
	static uint8_t body[BODY_MAX];
	struct msg_queue q;
	struct msg m;
	uint32_t got = 0;
	int s[2], small = 4096;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s), 0);
	setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	msg_queue_init(&q, 1 << 20);
	for (uint32_t i = 0; i < 100; i++) {
		memset(body, (int)i, sizeof(body));
		make(TAP_STATS, i, body, sizeof(body));
		assert_int_equal(write_msg(s[0], &q, &out), 0);
	}
	assert_false(msg_queue_empty(&q));
	while (got < 100) {
		int r = read_msg(s[1], &in, &m);

		assert_true(r >= 0);
		if (r == 0) {
			assert_true(msg_flush(s[0], &q) >= 0);
			continue;
		}
		assert_int_equal(m.hdr->id, got);
		memset(body, (int)got, sizeof(body));
		assert_memory_equal(m.body, body, sizeof(body));
		got++;
	}
	assert_true(msg_queue_empty(&q));
	msg_queue_free(&q);
	close(s[0]);
	close(s[1]);
}

static void test_text_is_checked(void **state)
{
	static char longest[TAP_TEXT_MAX + 1];
	char buf[TAP_TEXT_MAX + 2];
	struct msg m;

	(void)state;
	memset(longest, 'a', sizeof(longest));
	make(TAP_OPEN_RDONLY, 1, "\1\0\0\0aio:/x", 10);
	m = (struct msg){ &out.hdr, out.body };
	assert_int_equal(msg_text(&m, 4, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "aio:/x");
	assert_int_equal(msg_text(&m, 10, buf, sizeof(buf)), 0);
	assert_string_equal(buf, "");
	assert_int_equal(msg_text(&m, 11, buf, sizeof(buf)), -EBADMSG);
	assert_int_equal(msg_text(&m, 4, buf, 6), -EBADMSG);
	assert_int_equal(msg_text(&m, 0, buf, sizeof(buf)), -EBADMSG);	/* NULs */
	make(TAP_PARAMS, 1, longest, TAP_TEXT_MAX);
	assert_int_equal(msg_text(&m, 0, buf, sizeof(buf)), 0);
	make(TAP_PARAMS, 1, longest, TAP_TEXT_MAX + 1);
	assert_int_equal(msg_text(&m, 0, buf, sizeof(buf)), -EBADMSG);
}

static int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_one_descriptor_travels(void **state)
{
	struct tap_fd_msg fm = { .magic = TAP_MAGIC, .kind = TAP_FD_FILE, .id = 5 };
	struct stat a, b;
	int s[2], fd, null = open("/dev/null", O_RDONLY | O_CLOEXEC), fds;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	fds = open_fds();
	assert_int_equal(msg_recv_fd(s[1], &fm, &fd), 0);
	assert_int_equal(msg_send_fd(s[0], &fm, null), 0);
	memset(&fm, 0, sizeof(fm));
	assert_int_equal(msg_recv_fd(s[1], &fm, &fd), 1);
	assert_int_equal(fm.id, 5);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	fstat(null, &a);
	fstat(fd, &b);
	assert_int_equal(a.st_rdev, b.st_rdev);
	close(fd);

	/* None, and one with a wrong magic: refused, nothing left open. */
	assert_int_equal(send(s[0], &fm, sizeof(fm), 0), sizeof(fm));
	assert_int_equal(msg_recv_fd(s[1], &fm, &fd), -EBADMSG);
	fm.magic = 0;
	assert_int_equal(msg_send_fd(s[0], &fm, null), 0);
	assert_int_equal(msg_recv_fd(s[1], &fm, &fd), -EBADMSG);
	assert_int_equal(fd, -1);
	assert_int_equal(open_fds(), fds);
	close(s[0]);
	assert_int_equal(msg_recv_fd(s[1], &fm, &fd), -EPIPE);
	close(s[1]);
	close(null);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, start)
	const struct CMUnitTest tests[] = {
		T(test_a_message_arrives_byte_by_byte),
		T(test_bodies_are_aligned_after_odd_lengths),
		T(test_half_a_message_costs_only_itself),
		T(test_any_flipped_bit_is_noticed),
		T(test_oversize_is_refused_at_the_header),
		T(test_random_garbage_between_messages),
		T(test_end_of_file_and_reset),
		T(test_a_full_pipe_queues_whole_messages),
		T(test_a_slow_socket_gets_every_byte),
		T(test_text_is_checked),
		T(test_one_descriptor_travels),
	};

	return cmocka_run_group_tests_name("msg", tests, NULL, NULL);
}
