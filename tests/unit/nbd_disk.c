/* The NBD export and its disk: commands and their order, pause, resize, close,
 * errors of the disk, many requests in flight. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "export/nbd/nbd_proto.h"
#include "nbd_rig.h"
#include "td_driver.h"

static uint8_t data[64 << 10], back[64 << 10];

static void fill(uint8_t seed)
{
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + (i >> 8) + seed);
}

static bool silent(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) == 0;
}

/* One structured reply of one chunk: its type; its payload into buf. */
static uint16_t chunk(int fd, uint64_t cookie, void *buf, size_t room,
		      uint32_t *len)
{
	uint8_t h[NBD_CHUNK_LEN];

	nbd_rig_recv(fd, h, sizeof(h));
	assert_int_equal(get_be32(h), NBD_MAGIC_CHUNK);
	assert_int_equal(get_be16(h + 4), NBD_CHUNK_DONE);
	assert_int_equal(get_be64(h + 8), cookie);
	*len = get_be32(h + 16);
	assert_true(*len <= room);
	nbd_rig_recv(fd, buf, *len);
	return get_be16(h + 6);
}

static void put(int fd, uint64_t offset, uint32_t length, uint16_t flags)
{
	nbd_rig_req(fd, NBD_CMD_WRITE, flags, 1, offset, length);
	nbd_rig_send(fd, data, length);
	assert_int_equal(nbd_rig_simple(fd, 1), 0);
}

static void get(int fd, uint64_t offset, uint32_t length)
{
	nbd_rig_req(fd, NBD_CMD_READ, 0, 2, offset, length);
	assert_int_equal(nbd_rig_simple(fd, 2), 0);
	nbd_rig_recv(fd, back, length);
}

static void leave(int fd)
{
	nbd_rig_req(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	assert_true(nbd_rig_ended(fd));
	close(fd);
}

static void what_is_written_is_read(void **state)
{
	struct nbd_rig rig;
	uint32_t len;
	int fd;

	(void)state;
	nbd_rig_start(&rig, "ram:1M", 0);
	fd = nbd_rig_go(&rig, false);
	fill(1);
	put(fd, 4096, 8192, 0);
	put(fd, 20001, 777, NBD_CMD_FLAG_FUA);	/* to the byte */
	get(fd, 4096, 8192);
	assert_memory_equal(back, data, 8192);
	get(fd, 20001, 777);
	assert_memory_equal(back, data, 777);
	nbd_rig_req(fd, NBD_CMD_ZEROES, NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE, 3, 4096,
		4096);
	assert_int_equal(nbd_rig_simple(fd, 3), 0);
	nbd_rig_req(fd, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 4, 0, 4096);
	assert_int_equal(nbd_rig_simple(fd, 4), 0);
	nbd_rig_req(fd, NBD_CMD_CACHE, 0, 5, 0, 1 << 20);
	assert_int_equal(nbd_rig_simple(fd, 5), 0);
	nbd_rig_req(fd, NBD_CMD_FLUSH, 0, 6, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 6), 0);
	/* nothing asked for, nothing done */
	nbd_rig_req(fd, NBD_CMD_READ, 0, 7, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 7), 0);
	nbd_rig_req(fd, NBD_CMD_WRITE, 0, 7, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 7), 0);
	get(fd, 4096, 8192);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(back[i], 0);
	assert_memory_equal(back + 4096, data + 4096, 4096);
	leave(fd);

	fd = nbd_rig_go(&rig, true);
	nbd_rig_req(fd, NBD_CMD_READ, NBD_CMD_FLAG_DF, 1ull << 60, 20001, 777);
	assert_int_equal(chunk(fd, 1ull << 60, back, sizeof(back), &len),
			 NBD_CHUNK_DATA);
	assert_int_equal(len, 785);
	assert_int_equal(get_be64(back), 20001);
	assert_memory_equal(back + 8, data, 777);
	nbd_rig_req(fd, NBD_CMD_READ, 0, 9, 1 << 20, 1);
	assert_int_equal(chunk(fd, 9, back, sizeof(back), &len), NBD_CHUNK_ERROR);
	assert_int_equal(get_be32(back), NBD_EINVAL);
	nbd_rig_req(fd, NBD_CMD_READ, 0, 9, 0, 0);
	assert_int_equal(chunk(fd, 9, back, sizeof(back), &len), NBD_CHUNK_NONE);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
}

static void block_status_covers_what_was_asked(void **state)
{
	struct nbd_rig rig;
	uint32_t len;
	int fd;

	(void)state;
	nbd_rig_start(&rig, "null:8G", 0);
	fd = nbd_rig_go(&rig, true);
	for (unsigned one = 0; one < 2; one++) {
		uint64_t sum = 0;

		nbd_rig_req(fd, NBD_CMD_BLOCK_STATUS, one ? NBD_CMD_FLAG_REQ_ONE : 0, 3,
			4096, UINT32_MAX);
		assert_int_equal(chunk(fd, 3, back, sizeof(back), &len),
				 NBD_CHUNK_BLOCK_STATUS);
		assert_true(len >= 12 && len % 8 == 4);
		if (one)
			assert_int_equal(len, 12);
		assert_int_equal(get_be32(back), 1);
		for (uint32_t i = 4; i < len; i += 8) {
			assert_true(get_be32(back + i) > 0);
			sum += get_be32(back + i);
		}
		assert_true(sum <= UINT32_MAX);
	}
	nbd_rig_req(fd, NBD_CMD_BLOCK_STATUS, 0, 4, 8ull << 30, 1);
	assert_int_equal(chunk(fd, 4, back, sizeof(back), &len), NBD_CHUNK_ERROR);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
}

/* 200 slow requests take as long as one: all of them are in flight at once. */
static void many_requests_are_in_flight(void **state)
{
	struct nbd_rig rig;
	uint8_t h[NBD_SIMPLE_LEN];
	int fd;

	(void)state;
	nbd_rig_start(&rig, "delay:ms=500|ram:1M", 0);
	fd = nbd_rig_go(&rig, false);
	for (unsigned i = 0; i < 200; i++)
		nbd_rig_req(fd, NBD_CMD_READ, 0, i, i * 512, 512);
	assert_true(silent(fd, 200));
	assert_false(silent(fd, 2000));
	for (unsigned i = 0; i < 200; i++) {
		nbd_rig_recv(fd, h, sizeof(h));
		nbd_rig_recv(fd, back, 512);
		assert_int_equal(get_be32(h + 4), 0);
	}
	assert_true(silent(fd, 50));
	leave(fd);

	/* a good-bye does not cut short what was asked before it */
	fd = nbd_rig_go(&rig, false);
	put(fd, 0, 512, 0);
	nbd_rig_req(fd, NBD_CMD_READ, 0, 1, 0, 512);
	nbd_rig_req(fd, NBD_CMD_DISC, 0, 0, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 1), 0);
	nbd_rig_recv(fd, back, 512);
	assert_true(nbd_rig_ended(fd));
	close(fd);

	/* and one who leaves without it is forgotten only when all is done */
	for (unsigned i = 0; i < 50; i++) {
		fd = nbd_rig_go(&rig, false);
		for (unsigned j = 0; j < 8; j++)
			nbd_rig_req(fd, NBD_CMD_READ, 0, j, 0, 4096);
		close(fd);
	}
	assert_true(nbd_rig_stop(&rig));
}

static void errors_of_the_disk_reach_the_client(void **state)
{
	struct nbd_rig rig;
	uint32_t len;
	int fd;

	(void)state;
	nbd_rig_start(&rig, "error:rate=100%,op=write,errno=ENOSPC|ram:1M", 0);
	fd = nbd_rig_go(&rig, true);
	nbd_rig_req(fd, NBD_CMD_WRITE, 0, 1, 0, 512);
	nbd_rig_send(fd, data, 512);
	assert_int_equal(nbd_rig_simple(fd, 1), NBD_ENOSPC);
	nbd_rig_req(fd, NBD_CMD_READ, 0, 2, 0, 512);
	assert_int_equal(chunk(fd, 2, back, sizeof(back), &len), NBD_CHUNK_DATA);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));

	nbd_rig_start(&rig, "error:rate=100%,op=read,errno=EIO|ram:1M", 0);
	fd = nbd_rig_go(&rig, true);
	nbd_rig_req(fd, NBD_CMD_READ, 0, 2, 0, 512);
	assert_int_equal(chunk(fd, 2, back, sizeof(back), &len), NBD_CHUNK_ERROR);
	assert_int_equal(get_be32(back), NBD_EIO);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
}

static void a_read_only_disk_is_not_written(void **state)
{
	static const uint16_t types[] = { NBD_CMD_WRITE, NBD_CMD_TRIM,
		NBD_CMD_ZEROES };
	struct nbd_rig rig;
	int fd;

	(void)state;
	nbd_rig_start(&rig, "ram:1M", TD_NODE_RDONLY);
	fd = nbd_rig_go(&rig, false);
	for (unsigned i = 0; i < 3; i++) {
		nbd_rig_req(fd, types[i], 0, i, 0, 512);
		if (types[i] == NBD_CMD_WRITE)
			nbd_rig_send(fd, data, 512);
		assert_int_equal(nbd_rig_simple(fd, i), NBD_EPERM);
	}
	get(fd, 0, 512);
	nbd_rig_req(fd, NBD_CMD_FLUSH, 0, 6, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 6), 0);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
}

/* The server has read what was sent. */
static void until_taken(int fd)
{
	int left;

	do {
		usleep(1000);
		assert_int_equal(ioctl(fd, SIOCOUTQ, &left), 0);
	} while (left);
	usleep(30000);
}

static void new_file(char *path, size_t room, off_t size)
{
	const char *dir = getenv("TMPDIR");
	int img;

	snprintf(path, room, "%s/nbd_disk.%d", dir ? dir : "/tmp", (int)getpid());
	img = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(img >= 0);
	assert_int_equal(ftruncate(img, size), 0);
	close(img);
}

static void a_paused_disk_answers_later(void **state)
{
	struct nbd_rig rig;
	char path[128], spec[160];
	int fd, late;

	(void)state;
	new_file(path, sizeof(path), 1 << 20);
	snprintf(spec, sizeof(spec), "delay:ms=100|aio:%s", path);
	nbd_rig_start(&rig, spec, 0);
	fd = nbd_rig_go(&rig, false);
	fill(2);
	put(fd, 0, 4096, 0);

	/* what is in flight is answered, what comes then waits */
	nbd_rig_req(fd, NBD_CMD_READ, 0, 1, 0, 512);
	nbd_rig_req(fd, NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 2, 8192, 4096);
	until_taken(fd);
	assert_int_equal(nbd_rig_order(&rig, 'p', 0), 0);
	assert_int_equal(nbd_rig_simple(fd, 1), 0);
	nbd_rig_recv(fd, back, 512);
	assert_int_equal(nbd_rig_simple(fd, 2), 0);	/* flushed, too */
	nbd_rig_req(fd, NBD_CMD_READ, 0, 3, 0, 4096);
	nbd_rig_req(fd, NBD_CMD_WRITE, 0, 4, 4096, 4096);
	nbd_rig_send(fd, data, 1000);
	assert_true(silent(fd, 300));
	/* a new client waits too */
	late = nbd_rig_connect(&rig);
	nbd_rig_greeting(late, 3);
	nbd_rig_opt(late, NBD_OPT_GO, "\0\0\0\0\0\0", 6);
	assert_true(silent(late, 100));

	assert_int_equal(nbd_rig_order(&rig, 'r', 0), 0);
	nbd_rig_send(fd, data + 1000, 3096);
	for (unsigned i = 0; i < 2; i++) {	/* in any order */
		uint8_t h[NBD_SIMPLE_LEN];

		nbd_rig_recv(fd, h, sizeof(h));
		assert_int_equal(get_be32(h + 4), 0);
		if (get_be64(h + 8) == 3) {
			nbd_rig_recv(fd, back, 4096);
			assert_memory_equal(back, data, 4096);
		}
	}
	get(fd, 4096, 4096);
	assert_memory_equal(back, data, 4096);
	assert_false(silent(late, 30000));
	close(late);

	/* and what came while it was paused hears of its end */
	assert_int_equal(nbd_rig_order(&rig, 'p', 0), 0);
	nbd_rig_req(fd, NBD_CMD_READ, 0, 5, 0, 4096);
	nbd_rig_req(fd, NBD_CMD_WRITE, 0, 6, 0, 4096);
	nbd_rig_send(fd, data, 4096);
	assert_int_equal(nbd_rig_order(&rig, 'c', 0), 0);
	assert_int_equal(nbd_rig_simple(fd, 5), NBD_ESHUTDOWN);
	assert_int_equal(nbd_rig_simple(fd, 6), NBD_ESHUTDOWN);
	nbd_rig_req(fd, NBD_CMD_FLUSH, 0, 7, 0, 0);
	assert_int_equal(nbd_rig_simple(fd, 7), NBD_ESHUTDOWN);
	assert_true(nbd_rig_ended(fd));
	close(fd);

	/* closed: nobody is let in; open again: everybody */
	fd = nbd_rig_connect(&rig);
	assert_true(nbd_rig_ended(fd));
	close(fd);
	assert_int_equal(nbd_rig_order(&rig, 'o', 0), 0);
	fd = nbd_rig_go(&rig, false);
	get(fd, 0, 4096);
	assert_memory_equal(back, data, 4096);

	/* a larger disk: at once for those who are here */
	nbd_rig_req(fd, NBD_CMD_READ, 0, 1, 1 << 20, 512);
	assert_int_equal(nbd_rig_simple(fd, 1), NBD_EINVAL);
	assert_int_equal(nbd_rig_order(&rig, 'z', 2 << 20), 0);
	get(fd, 1 << 20, 512);
	put(fd, (2 << 20) - 512, 512, 0);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
	unlink(path);
}

/* A long write is in the disk piece by piece; its answer is the answer to all. */

static uint8_t big[1 << 20];
#define HALF (600u << 10)	/* of its payload, and some pieces */

static void begin_big(int fd, uint64_t offset, uint16_t flags)
{
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 11 + (i >> 9));
	nbd_rig_req(fd, NBD_CMD_WRITE, flags, 1, offset, sizeof(big));
	nbd_rig_send(fd, big, HALF);
	until_taken(fd);
}

static uint32_t end_big(int fd)
{
	nbd_rig_send(fd, big + HALF, sizeof(big) - HALF);
	return nbd_rig_simple(fd, 1);
}

static void big_is_there(int fd, uint64_t offset)
{
	for (size_t at = 0; at < sizeof(big); at += sizeof(back)) {
		get(fd, offset + at, sizeof(back));
		assert_memory_equal(back, big + at, sizeof(back));
	}
}

static void a_long_write_goes_in_pieces(void **state)
{
	struct nbd_rig rig;
	int fd, other;

	(void)state;
	nbd_rig_start(&rig, "ram:4M", 0);
	fd = nbd_rig_go(&rig, false);
	other = nbd_rig_go(&rig, false);
	begin_big(fd, 1001, 0);
	get(other, 1001, 65536);
	assert_memory_equal(back, big, 65536);
	assert_int_equal(end_big(fd), 0);
	big_is_there(other, 1001);
	/* with FUA at once: nothing is there before all of it is */
	begin_big(fd, 2 << 20, NBD_CMD_FLAG_FUA);
	get(other, 2 << 20, 65536);
	for (unsigned i = 0; i < 65536; i++)
		assert_int_equal(back[i], 0);
	assert_int_equal(end_big(fd), 0);
	big_is_there(other, 2 << 20);
	leave(other);
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
}

static void a_piece_that_fails_fails_the_write(void **state)
{
	struct nbd_rig rig;
	int fd;

	(void)state;
	for (unsigned after = 0; after < 2; after++) {
		char spec[96];

		snprintf(spec, sizeof(spec), "error:after=%u,count=1,op=write,"
			 "errno=ENOSPC|delay:ms=1|ram:2M", after);
		nbd_rig_start(&rig, spec, 0);
		fd = nbd_rig_go(&rig, false);
		begin_big(fd, 0, 0);
		assert_int_equal(end_big(fd), NBD_ENOSPC);
		begin_big(fd, 0, 0);
		assert_int_equal(end_big(fd), 0);
		big_is_there(fd, 0);
		leave(fd);
		assert_true(nbd_rig_stop(&rig));
	}
}

static void a_long_write_is_paused_or_left(void **state)
{
	struct nbd_rig rig;
	char path[128], spec[160];
	int fd;

	(void)state;
	new_file(path, sizeof(path), 2 << 20);
	snprintf(spec, sizeof(spec), "delay:ms=200|aio:%s", path);
	nbd_rig_start(&rig, spec, 0);
	fd = nbd_rig_go(&rig, false);
	begin_big(fd, 4096, 0);
	assert_int_equal(nbd_rig_order(&rig, 'p', 0), 0);
	assert_int_equal(nbd_rig_order(&rig, 'r', 0), 0);
	assert_int_equal(end_big(fd), 0);
	big_is_there(fd, 4096);
	begin_big(fd, 0, 0);
	close(fd);		/* pieces are in the disk */
	fd = nbd_rig_go(&rig, false);
	begin_big(fd, 0, 0);
	shutdown(fd, SHUT_WR);
	assert_true(nbd_rig_ended(fd));
	close(fd);
	assert_true(nbd_rig_stop(&rig));
	unlink(path);
}

/* Pause and resume under load, again and again; nothing is lost or doubled. */
static void pauses_under_load_lose_nothing(void **state)
{
	static uint8_t seen[6000];
	struct nbd_rig rig;
	unsigned done = 0;
	pid_t pid;
	int fd;

	(void)state;
	nbd_rig_start(&rig, "ram:1M", 0);
	nbd_rig_order(&rig, 'p', 0);
	nbd_rig_order(&rig, 'r', 0);
	fd = nbd_rig_go(&rig, false);
	pid = fork();
	if (!pid) {
		for (unsigned i = 0; i < sizeof(seen); i++) {
			nbd_rig_req(fd, NBD_CMD_WRITE, 0, i, (i % 256) * 4096, 4096);
			nbd_rig_send(fd, data, 4096);
			if (i % 50 == 0)
				usleep(200);
		}
		_exit(0);
	}
	while (done < sizeof(seen)) {
		uint8_t h[NBD_SIMPLE_LEN];

		nbd_rig_recv(fd, h, sizeof(h));
		assert_int_equal(get_be32(h + 4), 0);
		assert_int_equal(seen[get_be64(h + 8)]++, 0);
		if (++done % 100 == 0) {
			assert_int_equal(nbd_rig_order(&rig, 'p', 0), 0);
			assert_int_equal(nbd_rig_order(&rig, 'r', 0), 0);
		}
	}
	leave(fd);
	assert_true(nbd_rig_stop(&rig));
}

static void the_end_cuts_everybody_off(void **state)
{
	struct nbd_rig rig;
	int fd[3];

	(void)state;
	nbd_rig_start(&rig, "delay:ms=200|ram:1M", 0);
	fd[0] = nbd_rig_connect(&rig);
	fd[1] = nbd_rig_go(&rig, true);
	fd[2] = nbd_rig_go(&rig, false);
	nbd_rig_req(fd[2], NBD_CMD_READ, 0, 1, 0, 512);
	usleep(20000);
	assert_true(nbd_rig_stop(&rig));
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_read),
		cmocka_unit_test(block_status_covers_what_was_asked),
		cmocka_unit_test(many_requests_are_in_flight),
		cmocka_unit_test(errors_of_the_disk_reach_the_client),
		cmocka_unit_test(a_read_only_disk_is_not_written),
		cmocka_unit_test(a_paused_disk_answers_later),
		cmocka_unit_test(a_long_write_goes_in_pieces),
		cmocka_unit_test(a_piece_that_fails_fails_the_write),
		cmocka_unit_test(a_long_write_is_paused_or_left),
		cmocka_unit_test(pauses_under_load_lose_nothing),
		cmocka_unit_test(the_end_cuts_everybody_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
