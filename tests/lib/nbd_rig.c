/* nbd_rig.c - an NBD export without blktapctrl, and a client that can say
 * anything. */
#include "nbd_rig.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "disk/disk.h"
#include "export/nbd/nbd_proto.h"
#include "front.h"
#include "io/io.h"
#include "io/open.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "td_driver.h"

#define WAIT_MS 60000

#define must(cond) do { if (!(cond)) {                                      \
	fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #cond,       \
		strerror(errno));                                           \
	_exit(1); } } while (0)

/* ---- server ---- */

struct serve {
	struct td_env env;
	struct disk *disk;
	struct nbd_server *nbd;
	struct loop_fd ctl;
	struct loop_work got;	/* a file that was asked for */
	struct td_file file;
	td_file_fn *file_fn;
	void *file_arg;
	const char *spec;
	unsigned flags;
	bool held;		/* 'P': its answer waits for 'w' */
	bool waited;
	int held_err;
	int rc;
};

struct order {
	uint64_t what;	/* no padding: valgrind sees all of it sent */
	uint64_t arg;
};

static void file_got(struct loop_work *w)
{
	struct serve *s = container_of(w, struct serve, got);

	s->file_fn(s->file_arg, &s->file);
}

static void file_get(struct td_env *e, const char *path, unsigned flags,
		     td_file_fn *fn, void *arg)
{
	struct serve *s = container_of(e, struct serve, env);
	unsigned f = (flags & TD_NODE_RDONLY ? IMAGE_RDONLY : 0) |
		(flags & TD_NODE_NO_DIRECT ? IMAGE_NO_DIRECT : 0);
	bool direct;
	int fd = image_open(path, f, &direct, &s->file.why);

	s->file.fd = fd < 0 ? -1 : fd;
	s->file.err = fd < 0 ? fd : 0;
	s->file_fn = fn;
	s->file_arg = arg;
	loop_defer(e->loop, &s->got);
}

static void tell(struct serve *s, int err)
{
	must(write(s->ctl.fd, &err, sizeof(err)) == sizeof(err));
}

static void told(void *arg, int err, const char *why)
{
	if (err)
		fprintf(stderr, "order: %s %s\n", strerror(-err), why);
	tell(arg, err);
}

static void told_later(void *arg, int err, const char *why)
{
	struct serve *s = arg;

	(void)why;
	s->held_err = err;
	s->held = false;
	if (s->waited)
		tell(s, err);
	s->waited = false;
}

static void leave(void *arg, int err, const char *why)
{
	struct serve *s = arg;

	(void)why;
	s->rc = err ? 1 : 0;
	nbd_server_free(s->nbd);
	loop_stop(s->env.loop);
}

static void ordered(struct loop_fd *f, uint32_t events)
{
	struct serve *s = container_of(f, struct serve, ctl);
	struct order o = { .what = 'q' };
	ssize_t n = read(f->fd, &o, sizeof(o));

	(void)events;
	switch (n == sizeof(o) ? o.what : 'q') {
	case 'p':
		disk_pause(s->disk, told, s);
		break;
	case 'P':
		s->held = true;
		disk_pause(s->disk, told_later, s);
		tell(s, 0);
		break;
	case 'w':
		s->waited = s->held;
		if (!s->held)
			tell(s, s->held_err);
		break;
	case 'r':
		disk_resume(s->disk, NULL, 0, told, s);
		break;
	case 'c':
		disk_close(s->disk, told, s);
		break;
	case 'o':
		disk_open(s->disk, s->spec, s->flags, told, s);
		break;
	case 'z':
		disk_resize(s->disk, o.arg, told, s);
		break;
	default:
		loop_fd_del(s->env.loop, f);
		if (disk_state(s->disk) == DISK_CLOSED)
			leave(s, 0, "");
		else
			disk_close(s->disk, leave, s);
	}
}

int nbd_rig_serve(const char *spec, unsigned flags, int listen_fd, int ctl_fd,
	      uint64_t poll_ns)
{
	struct serve s = { .spec = spec, .flags = flags,
			   .ctl = { .fd = ctl_fd, .fn = ordered } };
	struct loop *l = loop_new();

	must(l);
	log_open(LOG_TO_STDERR, "nbd_rig", LOG_LVL_WARN);
	loop_poll_max(l, poll_ns);
	s.env = (struct td_env){ .loop = l, .name = "rig", .file_get = file_get };
	loop_work_init(&s.got, file_got);
	must(!io_queue_new(l, IO_DEPTH_MAX, &s.env.io));
	s.env.workers = workers_new(l, 4);
	must(s.env.workers);
	s.disk = disk_new(&s.env);
	must(s.disk);
	s.nbd = nbd_server_new(l, s.disk, listen_fd, RIG_MINOR);
	must(s.nbd);
	must(!loop_fd_add(l, &s.ctl, EPOLLIN));
	disk_open(s.disk, spec, flags, told, &s);
	loop_run(l);

	disk_free(s.disk);
	workers_free(s.env.workers);
	io_queue_free(s.env.io);
	close(ctl_fd);
	loop_free(l);
	return s.rc;
}

int nbd_rig_listen(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	must(fd >= 0 && strlen(path) < sizeof(a.sun_path));
	strcpy(a.sun_path, path);
	must(!bind(fd, (struct sockaddr *)&a, sizeof(a)) && !listen(fd, 128));
	return fd;
}

void nbd_rig_start(struct nbd_rig *r, const char *spec, unsigned flags)
{
	const char *tmp = getenv("TMPDIR");
	int pair[2], fd, err = -1;

	snprintf(r->dir, sizeof(r->dir), "%.40s/nbdrig.XXXXXX", tmp ? tmp : "/tmp");
	must(mkdtemp(r->dir));
	snprintf(r->sock, sizeof(r->sock), "%s/nbd.sock", r->dir);
	fd = nbd_rig_listen(r->sock);
	must(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
	fflush(NULL);
	r->pid = fork();
	must(r->pid >= 0);
	if (!r->pid) {
		close(pair[0]);
		exit(nbd_rig_serve(spec, flags, fd, pair[1], 0));
	}
	close(fd);
	close(pair[1]);
	r->ctl = pair[0];
	must(read(r->ctl, &err, sizeof(err)) == sizeof(err) && !err);
}

int nbd_rig_order(struct nbd_rig *r, char order, uint64_t arg)
{
	struct order o = { (unsigned char)order, arg };
	struct pollfd p = { .fd = r->ctl, .events = POLLIN };
	int err = -1;

	must(write(r->ctl, &o, sizeof(o)) == sizeof(o));
	must(poll(&p, 1, WAIT_MS) == 1);
	must(read(r->ctl, &err, sizeof(err)) == sizeof(err));
	return err;
}

long nbd_rig_private_kib(const struct nbd_rig *r)
{
	char path[64], line[128];
	long kib = 0, v;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)r->pid);
	f = fopen(path, "r");
	must(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Private_Dirty: %ld", &v) == 1 ||
		    sscanf(line, "Private_Clean: %ld", &v) == 1)
			kib += v;
	fclose(f);
	return kib;
}

bool nbd_rig_stop(struct nbd_rig *r)
{
	int status = -1;

	close(r->ctl);
	must(waitpid(r->pid, &status, 0) == r->pid);
	unlink(r->sock);
	rmdir(r->dir);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* ---- client ---- */

int nbd_rig_connect(const struct nbd_rig *r)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = WAIT_MS / 1000 };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(fd >= 0);
	strcpy(a.sun_path, r->sock);
	must(!connect(fd, (struct sockaddr *)&a, sizeof(a)));
	must(!setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)));
	must(!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)));
	return fd;
}

void nbd_rig_send(int fd, const void *p, size_t len)
{
	const char *at = p;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		must(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

void nbd_rig_recv(int fd, void *p, size_t len)
{
	char *at = p;

	while (len) {
		ssize_t n = recv(fd, at, len, 0);

		must(n > 0);
		at += n;
		len -= (size_t)n;
	}
}

bool nbd_rig_ended(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, 0);

	return !n || (n < 0 && errno == ECONNRESET);
}

void nbd_rig_greeting(int fd, uint32_t flags)
{
	uint8_t b[NBD_GREETING_LEN], f[4];

	nbd_rig_recv(fd, b, sizeof(b));
	must(get_be64(b) == NBD_MAGIC_INIT && get_be64(b + 8) == NBD_MAGIC_OPT);
	must(get_be16(b + 16) == (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES));
	put_be32(f, flags);
	nbd_rig_send(fd, f, sizeof(f));
}

void nbd_rig_opt(int fd, uint32_t opt, const void *data, uint32_t len)
{
	uint8_t h[NBD_OPT_LEN];

	put_be64(h, NBD_MAGIC_OPT);
	put_be32(h + 8, opt);
	put_be32(h + 12, len);
	nbd_rig_send(fd, h, sizeof(h));
	if (len)
		nbd_rig_send(fd, data, len);
}

uint32_t nbd_rig_rep(int fd, uint32_t opt, void *buf, size_t len, uint32_t *n)
{
	uint8_t h[NBD_OPT_REPLY_LEN];

	nbd_rig_recv(fd, h, sizeof(h));
	must(get_be64(h) == NBD_MAGIC_OPT_REPLY && get_be32(h + 8) == opt);
	*n = get_be32(h + 16);
	must(*n <= len);
	nbd_rig_recv(fd, buf, *n);
	return get_be32(h + 12);
}

int nbd_rig_go(const struct nbd_rig *r, bool structured)
{
	static const uint8_t meta[] = "\0\0\0\0" "\0\0\0\1" "\0\0\0\17"
		"base:allocation";
	static const uint8_t go[6];
	int fd = nbd_rig_connect(r);
	uint8_t b[256];
	uint32_t n;

	nbd_rig_greeting(fd, 3);
	if (structured) {
		nbd_rig_opt(fd, NBD_OPT_STRUCTURED_REPLY, NULL, 0);
		must(nbd_rig_rep(fd, NBD_OPT_STRUCTURED_REPLY, b, sizeof(b), &n) ==
		     NBD_REP_ACK);
		nbd_rig_opt(fd, NBD_OPT_SET_META, meta, sizeof(meta) - 1);
		must(nbd_rig_rep(fd, NBD_OPT_SET_META, b, sizeof(b), &n) == NBD_REP_META);
		must(nbd_rig_rep(fd, NBD_OPT_SET_META, b, sizeof(b), &n) == NBD_REP_ACK);
	}
	nbd_rig_opt(fd, NBD_OPT_GO, go, sizeof(go));
	must(nbd_rig_rep(fd, NBD_OPT_GO, b, sizeof(b), &n) == NBD_REP_INFO);
	must(nbd_rig_rep(fd, NBD_OPT_GO, b, sizeof(b), &n) == NBD_REP_ACK);
	return fd;
}

void nbd_rig_req(int fd, uint16_t type, uint16_t flags, uint64_t cookie,
	     uint64_t offset, uint32_t length)
{
	uint8_t b[NBD_REQUEST_LEN];

	put_be32(b, NBD_MAGIC_REQUEST);
	put_be16(b + 4, flags);
	put_be16(b + 6, type);
	put_be64(b + 8, cookie);
	put_be64(b + 16, offset);
	put_be32(b + 24, length);
	nbd_rig_send(fd, b, sizeof(b));
}

uint32_t nbd_rig_simple(int fd, uint64_t cookie)
{
	uint8_t b[NBD_SIMPLE_LEN];

	nbd_rig_recv(fd, b, sizeof(b));
	must(get_be32(b) == NBD_MAGIC_SIMPLE);
	must(get_be64(b + 8) == cookie);
	return get_be32(b + 4);
}
