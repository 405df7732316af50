/* ringliar.c - a ring client that lies in every field of the hello and the ring.
 *
 *	ringliar SOCKET [SEED [COMMAND]]
 *
 * COMMAND kills the server and starts its successor: then only what concerns those
 * who come back is tried.
 *
 * After each lie a decent client, connected all the time, and a new one must
 * both be served at once.  Status 0, or 1 and a line for each lie that was
 * believed.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "blkif.h"
#include "linger.h"
#include "tapring.h"

#define PAGES 64u
#define DATA 40u

static const char *path;
static uint64_t rng;
static int failures;
static struct tapring *decent;

static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static void complain(const char *who, const char *what)
{
	printf("%s: %s\n", who, what);
	failures++;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* For how long the whole machine stood still: the server cannot help that. */
static _Atomic uint64_t stood_ns;

static void *watch(void *arg)
{
	for (;;) {
		uint64_t begun = now_ns(), late;

		usleep(10000);
		late = now_ns() - begun - 10000000;
		if (late > 50000000)
			stood_ns += late;
	}
	return arg;
}

struct moment {
	uint64_t at, stood;
};

static struct moment moment(void)
{
	return (struct moment){ now_ns(), stood_ns };
}

/* Has the server taken more than that of seconds since? */
static bool slower(const struct moment *m, unsigned s)
{
	uint64_t took = now_ns() - m->at, max = s * 1000000000ull;

	if (took <= max)
		return false;
	usleep(100000);		/* for the watch to have seen it too */
	return took > max + (stood_ns - m->stood);
}

/* A client of our own, raw. */
struct raw {
	int sock, memfd, bell;
	char *mem;
	struct tapring_greeting greeting;
	struct tapring_hello hello;
};

static struct blkif_sring *sring(struct raw *r)
{
	return (struct blkif_sring *)(void *)r->mem;
}

static int memory(size_t size, unsigned flags, int seals)
{
	int fd = memfd_create("liar", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd >= 0 && (ftruncate(fd, (off_t)size) ||
			fcntl(fd, F_ADD_SEALS, seals))) {
		close(fd);
		return -1;
	}
	return fd;
}

static struct raw raw_open(void)
{
	struct raw r = { .bell = -1 };
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 30 };

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	r.sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(r.sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (connect(r.sock, (struct sockaddr *)&sa, sizeof(sa)) ||
	    recv(r.sock, &r.greeting, sizeof(r.greeting), MSG_WAITALL) !=
	    (ssize_t)sizeof(r.greeting)) {
		perror("ringliar: connect");
		exit(1);
	}
	r.memfd = memory((size_t)PAGES * TAPRING_PAGE, 0, F_SEAL_SHRINK);
	r.mem = mmap(NULL, (size_t)PAGES * TAPRING_PAGE, PROT_READ | PROT_WRITE,
		     MAP_SHARED, r.memfd, 0);
	if (r.memfd < 0 || r.mem == MAP_FAILED) {
		perror("ringliar: memory");
		exit(1);
	}
	r.hello = (struct tapring_hello){ .magic = TAPRING_MAGIC,
					  .version = TAPRING_VERSION, .abi = 1,
					  .queues = 1, .pages = PAGES };
	return r;
}

static void raw_close(struct raw *r)
{
	munmap(r->mem, (size_t)PAGES * TAPRING_PAGE);
	close(r->memfd);
	close(r->sock);
	if (r->bell >= 0)
		close(r->bell);
}

static void send_fds(struct raw *r, const void *buf, size_t len, const int *fd,
		     unsigned n)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(64 * sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n) {
		memset(&ctl, 0, sizeof(ctl));
		m.msg_control = ctl.buf;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		ctl.h.cmsg_level = SOL_SOCKET;
		ctl.h.cmsg_type = SCM_RIGHTS;
		ctl.h.cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(&ctl.h), fd, n * sizeof(int));
	}
	(void)!sendmsg(r->sock, &m, MSG_NOSIGNAL);
}

/* The server's verdict: 0, and a token, or its -errno; -EPIPE if it just hung up. */
static struct tapring_token token;
static int verdict(struct raw *r)
{
	struct tapring_status s;
	struct iovec iov = { &s, sizeof(s) };
	union {
		struct cmsghdr h;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} ctl;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1,
			    .msg_control = ctl.buf,
			    .msg_controllen = sizeof(ctl.buf) };
	ssize_t n = recvmsg(r->sock, &m, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;

	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;		/* no verdict */
	if (n != (ssize_t)sizeof(s))
		return -EPIPE;
	c = CMSG_FIRSTHDR(&m);
	if (c)
		memcpy(&r->bell, CMSG_DATA(c), sizeof(int));
	token = s.token;
	return s.status;
}

/* Has the server hung up, and not only since the time for a hello is over, 5 s? */
static bool cut_off(struct raw *r)
{
	struct pollfd p = { .fd = r->sock, .events = POLLIN };
	struct moment begun = moment();
	char buf[256];

	while (!slower(&begun, 4))
		if (poll(&p, 1, 100) == 1 &&
		    recv(r->sock, buf, sizeof(buf), 0) <= 0)
			return true;
	return false;
}

static struct raw raw_connected(void)
{
	struct raw r = raw_open();
	int err;

	send_fds(&r, &r.hello, sizeof(r.hello), &r.memfd, 1);
	err = verdict(&r);
	if (err) {
		printf("ringliar: a good hello: %s\n", strerror(-err));
		exit(1);
	}
	return r;
}

static void ring_bell(struct raw *r)
{
	(void)!send(r->bell, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Nobody else has noticed anything. */
static void others_live(const char *after)
{
	struct tapring_opts o = { .data = 1 << 16, .timeout_ms = 20000 };
	struct moment begun = moment();
	static char buf[8192];
	struct tapring *r;
	int err;

	err = tapring_pread(tapring_get_queue(decent, 0), buf, sizeof(buf), 4096);
	if (err) {
		printf("after '%s' the decent client got: %s\n", after,
		       strerror(-err));
		exit(1);
	}
	err = tapring_connect(path, &o, &r);
	if (!err) {
		err = tapring_pread(tapring_get_queue(r, 0), buf, 512, 0);
		tapring_close(r);
	}
	if (err)
		complain(after, "a new client is not served any more");
	if (slower(&begun, 10))
		complain(after, "others had to wait");
}

/* Lies in the hello: refused, with a status. */

static void lie(const char *what, struct raw *r, int fd)
{
	int err;

	send_fds(r, &r->hello, sizeof(r->hello), &fd, fd < 0 ? 0 : 1);
	err = verdict(r);
	if (err >= 0 || err == -EAGAIN)
		complain(what, "was believed");
	if (!cut_off(r))
		complain(what, "was not cut off");
	raw_close(r);
	others_live(what);
}

#define LIE(change)                                                          \
	do {                                                                 \
		struct raw r = raw_open();                                   \
		change;                                                      \
		lie(#change, &r, r.memfd);                                   \
	} while (0)

static void hello_fields(void)
{
	LIE(r.hello.magic = 0);
	LIE(r.hello.version = 9);
	LIE(r.hello.abi = 0);
	LIE(r.hello.abi = 4);
	LIE(r.hello.order = 5);
	LIE(r.hello.order = UINT16_MAX);
	LIE(r.hello.queues = 0);
	LIE(r.hello.queues = 9);
	LIE(r.hello.queues = UINT16_MAX);
	LIE(r.hello.pages = 0);
	LIE(r.hello.pages = PAGES + 1);
	LIE(r.hello.pages = UINT32_MAX);
	LIE(r.hello.ring_ref[0][0] = PAGES);
	LIE(r.hello.ring_ref[0][0] = UINT32_MAX);
	LIE(r.hello.queues = 2);
	LIE(r.hello.order = 1);
}

/* One that comes back, wrongly. */
static void back(const char *what, const struct tapring_hello *h, int want)
{
	struct raw r = raw_open();
	int err;

	r.hello = *h;
	send_fds(&r, &r.hello, sizeof(r.hello), &r.memfd, 1);
	err = verdict(&r);
	if (err != want) {
		printf("%s: %d, not %d\n", what, err, want);
		failures++;
	}
	if (!cut_off(&r))
		complain(what, "was not cut off");
	raw_close(&r);
	others_live(what);
}

static void tokens(void)
{
	static const struct tapring_token none;
	struct raw r = raw_connected();
	struct tapring_hello h = r.hello;
	struct tapring_token mine = token;
	unsigned char *b = h.token.b;

	if (!memcmp(&token, &none, sizeof(none))) {
		/* Served without a journal: then nobody can come back. */
		memset(b, 1, sizeof(h.token));
		back("any token", &h, -ESTALE);
		raw_close(&r);
		return;
	}
	h.token = mine;
	back("a token of one who is here", &h, -EBUSY);
	h.order = 1;
	h.ring_ref[0][1] = 1;
	back("the same, with other rings", &h, -EBUSY);
	h = r.hello;
	for (unsigned i = 0; i < 32; i++) {
		h.token = mine;
		b[i / 2] ^= (unsigned char)(1 + rnd() % 255);
		back("a token with a wrong byte", &h, -ESTALE);
	}
	memset(b, 0xff, sizeof(h.token));
	back("a token of ones", &h, -ESTALE);
	/* It has not noticed; and when it goes, so does what is known of it. */
	h.token = mine;
	if (poll(&(struct pollfd){ .fd = r.sock, .events = POLLIN }, 1, 0))
		complain("one who is here", "was disturbed");
	raw_close(&r);
	for (int i = 0; i < 2000; i++) {
		int err;

		r = raw_open();
		r.hello = h;
		send_fds(&r, &r.hello, sizeof(r.hello), &r.memfd, 1);
		err = verdict(&r);
		raw_close(&r);
		if (err == -ESTALE)
			break;
		if (err != -EBUSY || i == 1999) {
			printf("a token of one who has gone: %d\n", err), failures++;
			break;
		}
		usleep(10000);
	}
	others_live("tokens");
}

static void hello_memory(void)
{
	static const struct { const char *what; size_t size; unsigned flags;
			      int seals; } t[] = {
		{ "no seal", PAGES * 4096, 0, 0 },
		{ "the wrong seal", PAGES * 4096, 0, F_SEAL_GROW },
		{ "sealed against writing", PAGES * 4096, 0,
		  F_SEAL_SHRINK | F_SEAL_WRITE },
		{ "too short", PAGES * 4096 - 1, 0, F_SEAL_SHRINK },
		{ "empty", 0, 0, F_SEAL_SHRINK },
		{ "huge pages", 4 << 20, MFD_HUGETLB, F_SEAL_SHRINK },
	};
	static const char *const files[] = { "/dev/null", "/dev/zero", "/proc/self/mem",
					     "/proc/self/exe", "/" };
	struct raw r;
	int fd;

	for (unsigned i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		fd = memory(t[i].size, t[i].flags, t[i].seals);
		if (fd < 0)
			continue;	/* no huge pages on this machine */
		r = raw_open();
		lie(t[i].what, &r, fd);
		close(fd);
	}
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		fd = open(files[i], O_RDONLY | O_CLOEXEC);
		r = raw_open();
		lie(files[i], &r, fd);
		close(fd);
	}
	r = raw_open();
	lie("its own socket as memory", &r, r.sock);
	r = raw_open();
	lie("no descriptor", &r, -1);
}

/* `n` copies of the memory's descriptor. */
static void hello_descriptors(unsigned n)
{
	struct raw r = raw_open();
	int fd[64];

	for (unsigned i = 0; i < n; i++)
		fd[i] = r.memfd;
	send_fds(&r, &r.hello, sizeof(r.hello), fd, n);
	if (verdict(&r) >= 0)
		complain("many descriptors", "were believed");
	raw_close(&r);
	others_live("many descriptors");
}

/* Descriptors whose last close takes seconds: with the hello, unread behind it,
 * and with a doorbell.  Ours are closed before the server's. */
static void descriptors_that_linger(void)
{
	struct raw r = raw_open();
	int fd = linger_socket();

	if (fd < 0)
		return;
	send_fds(&r, &r.hello, 100, &fd, 1);
	close(fd);
	raw_close(&r);
	others_live("a lingering socket as memory");

	for (int unread = 0; unread < 2; unread++) {
		int sock;

		r = raw_connected();
		fd = linger_socket();
		sock = r.sock;
		if (!unread)
			r.sock = r.bell;
		send_fds(&r, "", 1, &fd, 1);
		r.sock = sock;
		close(fd);
		raw_close(&r);
		others_live(unread ? "a lingering socket that nobody reads" :
			    "a lingering socket with a doorbell");
	}
}

static void hello_in_pieces(void)
{
	struct raw r = raw_open();
	const char *p = (const char *)&r.hello;

	send_fds(&r, p, 1, &r.memfd, 1);
	for (size_t i = 1; i < sizeof(r.hello); i++)
		send_fds(&r, p + i, 1, NULL, 0);
	if (verdict(&r))
		complain("a hello byte by byte", "was refused");
	raw_close(&r);

	r = raw_open();
	send_fds(&r, &r.hello, 100, &r.memfd, 1);
	raw_close(&r);
	others_live("half a hello");

	r = raw_open();
	send_fds(&r, &r.hello, 100, &r.memfd, 1);
	send_fds(&r, (char *)&r.hello + 100, sizeof(r.hello) - 100, &r.memfd, 1);
	if (verdict(&r) >= 0)
		complain("a descriptor with each half", "was believed");
	raw_close(&r);

	r = raw_open();
	send_fds(&r, &r.hello, sizeof(r.hello), &r.memfd, 1);
	send_fds(&r, &r.hello, 1, NULL, 0);
	if (!cut_off(&r))
		complain("more than a hello", "was not cut off");
	raw_close(&r);
	others_live("more than a hello");
}

static void silence_is_cut_off(void)
{
	struct raw r[40];

	for (unsigned i = 0; i < 40; i++) {
		r[i] = raw_open();
		if (i % 2)
			send_fds(&r[i], &r[i].hello, 100, &r[i].memfd, 1);
	}
	others_live("silent clients");
	for (unsigned i = 0; i < 40; i++) {
		if (verdict(&r[i]) != -ETIMEDOUT || !cut_off(&r[i]))
			complain("silence", "was not cut off");
		raw_close(&r[i]);
	}
}

static void too_many_clients(void)
{
	struct raw r[12];
	unsigned ok = 0, busy = 0;

	for (unsigned i = 0; i < 12; i++) {
		int err;

		r[i] = raw_open();
		send_fds(&r[i], &r[i].hello, sizeof(r[i].hello), &r[i].memfd, 1);
		err = verdict(&r[i]);
		ok += !err;
		busy += err == -EBUSY;
	}
	if (ok != 7 || busy != 5)
		printf("clients: %u taken, %u told to come later\n", ok, busy),
		failures++;
	for (unsigned i = 0; i < 12; i++)
		raw_close(&r[i]);
	others_live("too many clients");
}

/* Lies on the ring. */

static void positions(void)
{
	static const uint32_t prod[] = { 33, 34, 0x10000, 0x80000000, UINT32_MAX };

	for (unsigned i = 0; i < sizeof(prod) / sizeof(prod[0]); i++) {
		struct raw r = raw_connected();

		__atomic_store_n(&sring(&r)->req_prod, prod[i], __ATOMIC_SEQ_CST);
		ring_bell(&r);
		if (!cut_off(&r))
			complain("a producer over the ring", "was not cut off");
		raw_close(&r);
		others_live("a producer over the ring");
	}
}

/* Every field of one request, wrong; each must be answered, and none well. */
static void requests(void)
{
	struct raw r = raw_connected();
	struct blkif_rw64 *s = (void *)(r.mem + 64);
	struct blkif_indirect64 *in = (void *)(r.mem + 64);
	struct blkif_discard64 *di = (void *)(r.mem + 64);
	uint32_t pos = 0;
	static const uint8_t ops[] = { 0, 1, 2, 3, 4, 5, 6, 7, 128, 255 };

#define ASK(name, setup)                                                     \
	do {                                                                 \
		struct blkif_rsp64 a;                                        \
		memset(r.mem + 64, 0, 32 * 112);                             \
		s += pos % 32;                                               \
		in = (void *)s;                                              \
		di = (void *)s;                                              \
		*s = (struct blkif_rw64){ .nr_segs = 1, .id = 1000 + pos };  \
		s->seg[0] = (struct blkif_segment){ DATA, 0, 7, 0 };         \
		setup;                                                       \
		__atomic_store_n(&sring(&r)->req_prod, ++pos,                \
				 __ATOMIC_SEQ_CST);                          \
		ring_bell(&r);                                               \
		for (int k = 0; k < 20000 && __atomic_load_n(                \
		     &sring(&r)->rsp_prod, __ATOMIC_SEQ_CST) != pos; k++)    \
			usleep(1000);                                        \
		memcpy(&a, s, sizeof(a));                                    \
		if (sring(&r)->rsp_prod != pos)                              \
			complain(name, "was not answered");                  \
		else if (a.id != 999 + pos || a.status >= 0)                 \
			complain(name, "was believed");                      \
		s = (void *)(r.mem + 64);                                    \
	} while (0)

	for (unsigned i = 0; i < sizeof(ops); i++) {
		ASK("a sector beyond the disk", (s->op = ops[i], s->sector = 1ull << 60,
		    s->nr_segs = 1));
		if (ops[i] < 4) {
			ASK("too many segments", (s->op = ops[i], s->nr_segs = 12));
			ASK("a segment beyond its page", (s->op = ops[i],
			    s->seg[0].last = 8));
			ASK("a segment backwards", (s->op = ops[i],
			    s->seg[0].first = 5, s->seg[0].last = 4));
			ASK("a bad reference", (s->op = ops[i],
			    s->seg[0].gref = PAGES));
			ASK("the largest reference", (s->op = ops[i],
			    s->seg[0].gref = UINT32_MAX));
		}
	}
	ASK("no segments", s->nr_segs = 0);
	ASK("a wrapping discard", (di->op = 5, di->flag = 0, di->sector = 1,
	    di->nr_sectors = UINT64_MAX));
	ASK("a secure discard", (di->op = 5, di->flag = 1, di->nr_sectors = 1));
	ASK("indirect without segments", (in->op = 6, in->inner = 0,
	    in->nr_segs = 0));
	ASK("indirect with too many", (in->op = 6, in->inner = 0,
	    in->nr_segs = UINT16_MAX));
	ASK("indirect with a bad page", (in->op = 6, in->inner = 0,
	    in->nr_segs = 12, in->gref[0] = PAGES));
	ASK("indirect barrier", (in->op = 6, in->inner = 2, in->nr_segs = 1,
	    in->gref[0] = DATA));
	raw_close(&r);
	others_live("bad requests");
}

/* Everything at random, all the time, with holes in the memory. */
static void noise(void)
{
	for (int round = 0; round < 40; round++) {
		struct raw r = raw_connected();
		uint64_t *w = (uint64_t *)(void *)r.mem;

		for (int i = 0; i < 4000; i++) {
			w[8 + rnd() % (DATA * 512 - 8)] = rnd();
			/* mostly plausible requests */
			if (i % 4 == 0) {
				struct blkif_rw64 *s = (void *)(r.mem + 64);

				s += rnd() % 32;
				s->op = (uint8_t)(rnd() % 7);
				s->nr_segs = (uint8_t)(rnd() % 13);
				s->sector = rnd() % 10000;
				s->seg[0] = (struct blkif_segment){
					(uint32_t)(rnd() % (PAGES + 4)),
					(uint8_t)(rnd() % 9),
					(uint8_t)(rnd() % 9), 0 };
			}
			sring(&r)->rsp_event = (uint32_t)rnd();
			sring(&r)->req_event = (uint32_t)rnd();
			__atomic_store_n(&sring(&r)->req_prod,
					 __atomic_load_n(&sring(&r)->rsp_prod,
							 __ATOMIC_RELAXED) +
					 rnd() % 8, __ATOMIC_SEQ_CST);
			if (i % 100 == 0)
				ring_bell(&r);
			if (i % 500 == 0)
				fallocate(r.memfd, FALLOC_FL_PUNCH_HOLE |
					  FALLOC_FL_KEEP_SIZE,
					  (off_t)(rnd() % PAGES) * 4096, 8192);
		}
		if (!ftruncate(r.memfd, 4096))
			complain("shrinking the memory", "was possible");
		raw_close(&r);
	}
	others_live("noise");
}

static void doorbells(void)
{
	struct raw r = raw_connected();
	char flood[512];
	ssize_t n;

	memset(flood, 0, sizeof(flood));
	for (int i = 0; i < 100000; i++) {
		n = send(r.bell, flood, sizeof(flood), MSG_DONTWAIT | MSG_NOSIGNAL);
		(void)n;
	}
	others_live("flooded doorbells");
	close(r.bell);
	r.bell = -1;
	if (!cut_off(&r))
		complain("a closed doorbell", "was not cut off");
	raw_close(&r);

	r = raw_connected();
	shutdown(r.bell, SHUT_WR);
	if (!cut_off(&r))
		complain("half a doorbell", "was not cut off");
	raw_close(&r);

	r = raw_connected();
	shutdown(r.sock, SHUT_WR);
	if (!cut_off(&r))
		complain("half a connection", "was not cut off");
	raw_close(&r);
	others_live("doorbells");
}

/* Gone with everything in flight. */
static void sudden_deaths(void)
{
	for (int i = 0; i < 50; i++) {
		struct tapring_opts o = { .order = 2, .queues = 2 };
		struct tapring *t;
		char *data;

		if (tapring_connect(path, &o, &t)) {
			complain("a client after a death", "is not served");
			return;
		}
		data = tapring_data(t, NULL);
		for (unsigned q = 0; q < 2; q++) {
			for (unsigned k = 0; k < 100; k++)
				tapring_read(tapring_get_queue(t, q),
					     data + k * 4096, 32768, 4096 * k, k);
			tapring_submit(tapring_get_queue(t, q));
		}
		tapring_close(t);
	}
	others_live("sudden deaths");
}

/* Not a lie: a ring whose pages lie anywhere, in any order. */
static void scattered_ring(void)
{
	static const uint32_t ref[4] = { 0, 33, 7, 20 };
	struct raw r = raw_open();
	char *slot;
	struct blkif_rw64 *s, copy;

	r.hello.order = 2;
	memcpy(r.hello.ring_ref[0], ref, sizeof(ref));
	send_fds(&r, &r.hello, sizeof(r.hello), &r.memfd, 1);
	if (verdict(&r)) {
		complain("a scattered ring", "was refused");
		raw_close(&r);
		return;
	}
	for (uint32_t i = 0; i < 300; i++) {
		size_t at = 64 + (size_t)(i % 128) * 112, in = at % 4096;

		copy = (struct blkif_rw64){ .op = 0, .nr_segs = 1, .id = i };
		copy.seg[0] = (struct blkif_segment){ DATA, 0, 0, 0 };
		/* by halves: a slot may straddle pages */
		for (size_t k = 0; k < sizeof(copy); k++) {
			slot = r.mem + (size_t)ref[(at + k) / 4096] * 4096;
			slot[(in + k) % 4096] = ((char *)&copy)[k];
		}
		__atomic_store_n(&sring(&r)->req_prod, i + 1, __ATOMIC_SEQ_CST);
		ring_bell(&r);
		for (int k = 0; k < 100000 && __atomic_load_n(&sring(&r)->rsp_prod,
		     __ATOMIC_SEQ_CST) != i + 1; k++)
			usleep(200);
		s = &copy;
		for (size_t k = 0; k < 16; k++) {
			slot = r.mem + (size_t)ref[(at + k) / 4096] * 4096;
			((char *)s)[k] = slot[(in + k) % 4096];
		}
		if (*(uint64_t *)(void *)s != i || ((int16_t *)(void *)s)[5]) {
			complain("a scattered ring", "is not served rightly");
			break;
		}
	}
	raw_close(&r);
}

/* Random requests, shown or not, and anything in the positions. */
static void scribble(struct raw *r, bool positions_too)
{
	struct blkif_rw64 *s = (void *)(r->mem + 64);
	uint32_t n = 1 + (uint32_t)(rnd() % 32);

	for (uint32_t i = 0; i < n; i++) {
		s[i] = (struct blkif_rw64){ .op = (uint8_t)(rnd() % 6),
					    .nr_segs = (uint8_t)(rnd() % 2),
					    .sector = rnd() % 20000, .id = rnd() };
		s[i].seg[0] = (struct blkif_segment){
			/* anything but the ring itself, which reads would fill;
			 * so would an indirect one */
			1 + (uint32_t)(rnd() % (PAGES + 3)), 0,
			(uint8_t)(rnd() % 9), 0 };
	}
	__atomic_store_n(&sring(r)->req_prod, n, __ATOMIC_SEQ_CST);
	ring_bell(r);
	if (!positions_too)
		return;
	sring(r)->rsp_prod = (uint32_t)rnd();
	sring(r)->rsp_event = (uint32_t)rnd();
	sring(r)->req_event = (uint32_t)rnd();
}

/* Clients whose server has been replaced, and who lie to the next one. */
static void after_a_kill(const char *replace)
{
	for (unsigned round = 0; round < 12; round++) {
		struct raw r = raw_connected(), r2;
		struct tapring_hello h = r.hello;
		int err;

		h.token = token;
		if (round % 3)
			scribble(&r, round % 3 == 2);
		if (system(replace)) {
			complain(replace, "failed");
			return;
		}
		h.order = 1;
		h.ring_ref[0][1] = 1;
		back("more pages a ring than before", &h, -EINVAL);
		h.order = 0;
		h.queues = 2;
		back("more rings than before", &h, -EINVAL);
		h.queues = 1;
		h.abi = 2;
		back("another layout than before", &h, -EINVAL);
		h.abi = r.hello.abi;
		h.token.b[3] ^= 1;
		back("another's token", &h, -ESTALE);
		h.token.b[3] ^= 1;
		if (round % 3 == 2)	/* it may break its ring by that */
			scribble(&r, true);
		r2 = raw_open();
		send_fds(&r2, &h, sizeof(h), &r.memfd, 1);
		err = verdict(&r2);
		if (err)
			complain("its own token", "was refused");
		else if (round % 3 != 2)
			back("a token that was used", &h, -EBUSY);
		scribble(&r, true);
		raw_close(&r2);
		raw_close(&r);
		others_live("a kill");
	}
}

int main(int argc, char **argv)
{
	struct tapring_opts o = { .data = 1 << 16 };
	pthread_t watcher;

	if (argc < 2 || pthread_create(&watcher, NULL, watch, NULL))
		return 1;
	path = argv[1];
	rng = argc > 2 ? strtoull(argv[2], NULL, 0) | 1 : 88172645463325252ull;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (tapring_connect(path, &o, &decent)) {
		fprintf(stderr, "ringliar: cannot connect to %s\n", path);
		return 1;
	}
	others_live("the start");
	if (argc > 3) {
		after_a_kill(argv[3]);
		tapring_close(decent);
		return failures ? 1 : 0;
	}
	hello_fields();
	tokens();
	hello_memory();
	hello_descriptors(2);
	hello_descriptors(9);
	hello_descriptors(64);
	hello_in_pieces();
	descriptors_that_linger();
	too_many_clients();
	positions();
	requests();
	scattered_ring();
	doorbells();
	sudden_deaths();
	noise();
	silence_is_cut_off();
	others_live("the end");
	tapring_close(decent);
	return failures ? 1 : 0;
}
