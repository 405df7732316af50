/* An NBD client that says what the fuzzer says: the real server, disk and loop
 * in this process, over a socket pair.
 *
 * First byte of the input: bit 0 - a good handshake comes before the rest;
 * bit 1 - with structured replies and base:allocation; the upper bits - in what
 * pieces the rest is sent.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "disk/disk.h"
#include "export/nbd/nbd_priv.h"
#include "front.h"
#include "io/io.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "nbd_rig.h"
#include "td_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct td_env env;
static struct disk *disk;
static struct nbd_server *server;
static struct loop_hook sleepy;
static bool asked;

static const uint8_t plain[] = "\0\0\0\3" "IHAVEOPT" "\0\0\0\7" "\0\0\0\6"
	"\0\0\0\0" "\0";
static const uint8_t rich[] = "\0\0\0\3" "IHAVEOPT" "\0\0\0\10" "\0\0\0"
	"\0IHAVEOPT" "\0\0\0\12" "\0\0\0\33" "\0\0\0\0" "\0\0\0\1" "\0\0\0\17"
	"base:allocation" "IHAVEOPT" "\0\0\0\7" "\0\0\0\6" "\0\0\0\0" "\0";

/* The loop would sleep: look at the sockets once more, then stop. */
static bool stop_when_idle(struct loop_hook *h)
{
	(void)h;
	if (asked) {
		loop_stop(env.loop);
		return true;
	}
	asked = true;
	loop_wake(env.loop);
	return false;
}

static void run(void)
{
	for (unsigned i = 0; i < 2; i++) {
		asked = false;
		loop_run(env.loop);
	}
}

static void opened(void *arg, int err, const char *why)
{
	(void)arg;
	(void)why;
	ASSERT(!err);
}

static void begin(void)
{
	char path[64];
	int fd;

	log_open(LOG_TO_STDERR, "fuzz", LOG_LVL_ERR);
	snprintf(path, sizeof(path), "/tmp/fuzz-nbd.%d", (int)getpid());
	fd = nbd_rig_listen(path);
	unlink(path);
	env.loop = loop_new();
	env.name = "fuzz";
	ASSERT(env.loop && !io_queue_new(env.loop, IO_DEPTH_MIN, &env.io));
	env.workers = workers_new(env.loop, 1);
	disk = disk_new(&env);
	server = nbd_server_new(env.loop, disk, fd, RIG_MINOR);
	ASSERT(disk && server);
	loop_hook_add(env.loop, LOOP_SLEEP, &sleepy, stop_when_idle);
	disk_open(disk, "ram:1M", 0, opened, NULL);
	run();
	ASSERT(disk_running(disk));
}

static void drain(int fd)
{
	static uint8_t sink[1 << 20];

	while (recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		;
}

/* Send what the socket takes; the server may have closed it. */
static bool feed(int fd, const uint8_t *p, size_t len)
{
	ssize_t n = send(fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	run();
	drain(fd);
	run();
	return n == (ssize_t)len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	uint8_t how;
	size_t piece;

	if (!server)
		begin();
	if (!size)
		return 0;
	how = *data++;
	size--;
	piece = (how >> 2) ? (size_t)(how >> 2) * 5 : size;
	ASSERT(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
	ASSERT(!nbd_client_new(server, pair[0]));
	if (how & 1)
		feed(pair[1], how & 2 ? rich : plain,
		     how & 2 ? sizeof(rich) : sizeof(plain));
	while (size) {
		size_t n = piece < size ? piece : size;

		if (!feed(pair[1], data, n))
			break;
		data += n;
		size -= n;
	}
	close(pair[1]);
	run();
	ASSERT(!server->nclients && !server->bufs.used);
	return 0;
}
