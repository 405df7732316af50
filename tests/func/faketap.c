/* faketap.c - a tapdisk with faults, for tests of blktapctrl (ctl-*.sh).
 *
 * Takes a tapdisk's arguments and `--modes DIR`: DIR/N, if it is there, says in
 * words what tapdisk number N does wrong:
 *
 *	exit		ends at once			deaf	opens nothing
 *	mute:TYPE	never answers that message, which it says on stderr
 *	die:TYPE	dies of it
 *	fail:TYPE	answers it with EIO		garbage	sends no messages
 *	flood		asks for files for ever		pid, minor, state  lies
 *	ask:PATH	asks for that file as it is opened
 *	askrw:PATH	the same, for writing
 *	times:N		asks N times, at once
 *	endless		answers stats without end
 *	twice		answers everything twice	late	leaves after 15 s
 *	stop		stops itself before it answers anything
 *	unsure		answers CLOSE with EIO, and has not closed
 *	more		says of every answer that more follows
 *	hellos		answers HELLO without being asked, for ever
 *	opens:N		its Nth open does not end, which it says on stderr, and it has
 *			the name of the one before
 *	other:N		says that it has that minor, once it is open
 *	spec:SPEC	says that it serves this, for writing
 *	keys		writes the keys that it gets to DIR/N.keys, a line each
 *
 * By SIGUSR1 it closes its end of the pipe that it reads.  Otherwise it behaves, and
 * serves nothing.  TYPE is a number of tap_proto.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/rundir.h"
#include "msg.h"

static int rd, wr, sock = -1;
static struct msg_in in;
static struct msg_out out;
static struct msg_queue queue;
static char modes[512];
static struct tap_hello_rsp hello;
static char spec[TAP_TEXT_MAX + 1];
static uint32_t params_id, params_type;
static int keys_to = -1;
static unsigned files_due;
static int opens;

/* The argument of a mode, "" if it has none, NULL if it is off. */
static const char *mode(const char *name)
{
	static char arg[256];
	size_t len = strlen(name);

	for (const char *p = modes; *p;) {
		size_t n = strcspn(p, " \n");

		if (n >= len && !strncmp(p, name, len) &&
		    (n == len || p[len] == ':')) {
			snprintf(arg, sizeof(arg), "%.*s",
				 n > len ? (int)(n - len - 1) : 0, p + len + 1);
			return arg;
		}
		p += n + strspn(p + n, " \n");
	}
	return NULL;
}

static bool of_type(const char *name, int type)
{
	const char *a = mode(name);

	return a && atoi(a) == type;
}

static void answer(uint16_t type, uint32_t id, int status, const void *body,
		   size_t len)
{
	for (int i = mode("twice") ? 2 : 1; i > 0; i--) {
		memcpy(out.body, body, len);
		msg_seal(&out, type, mode("more") ? TAP_MORE : 0, id, status,
			 (uint32_t)len);
		write_msg(wr, &queue, &out);
	}
}

static void take_key(int fd)
{
	char key[TAP_KEY_LEN_MAX + 1];
	ssize_t n = pread(fd, key, TAP_KEY_LEN_MAX, 0);

	if (n <= 0)
		_exit(3);
	key[n++] = '\n';
	if (keys_to >= 0 && write(keys_to, key, (size_t)n) != n)
		_exit(3);
}

static void take_fd(void)
{
	struct tap_fd_msg fm;
	int fd, r = msg_recv_fd(sock, &fm, &fd);

	if (r == -EPIPE) {
		close(sock);
		sock = -1;
	}
	if (r != 1)
		return;
	if (fm.kind == TAP_FD_KEY)
		take_key(fd);
	close(fd);
	if (fm.kind == TAP_FD_FILE && --files_due == 0) {
		struct tap_img img = { .bytes = 1 << 20, .sector_size = 512 };

		answer((uint16_t)params_type + 1, params_id, 0, &img, sizeof(img));
		hello.state = TAP_ST_RUNNING;
	}
}

/* As often as `times` says. */
static void ask_file(const char *path, uint32_t flags)
{
	struct tap_file_ask a = { .flags = flags };

	memcpy(out.body, &a, sizeof(a));
	memcpy(out.body + sizeof(a), path, strlen(path));
	msg_seal(&out, TAP_FILE, 0, 77, 0, (uint32_t)(sizeof(a) + strlen(path)));
	files_due = mode("times") ? (unsigned)atoi(mode("times")) : 1;
	for (unsigned i = 0; i < files_due; i++)
		write_msg(wr, &queue, &out);
}

static void open_it(const struct msg *m)
{
	struct tap_img img = { .bytes = 1 << 20, .sector_size = 512 };

	params_id = m->hdr->id;
	params_type = m->hdr->type;
	if (of_type("opens", ++opens)) {
		hello.state = TAP_ST_OPENING;
		fprintf(stderr, "faketap %d: opens, and will not end\n", (int)getpid());
		return;
	}
	msg_text(m, sizeof(struct tap_params), spec, sizeof(spec));
	memcpy(&hello.flags, m->body, sizeof(hello.flags));
	if (mode("ask")) {
		ask_file(mode("ask"), TAP_OPEN_RDONLY);
	} else if (mode("askrw")) {
		ask_file(mode("askrw"), 0);
	} else {
		answer(m->hdr->type + 1, m->hdr->id, 0, &img, sizeof(img));
		hello.state = TAP_ST_RUNNING;
	}
}

static void handle(const struct msg *m)
{
	int type = m->hdr->type;
	char both[sizeof(hello) + TAP_TEXT_MAX];
	struct tap_newdev nd;

	if (of_type("die", type)) {
		signal(SIGSEGV, SIG_DFL);
		raise(SIGSEGV);
	}
	if (of_type("mute", type)) {
		fprintf(stderr, "faketap %d: silent at message %d\n", (int)getpid(), type);
		return;
	}
	if (of_type("fail", type)) {
		answer((uint16_t)type + 1, m->hdr->id, -EIO, "it broke", 8);
		return;
	}
	switch (type) {
	case TAP_HELLO:
		memcpy(&hello.epoch, m->body, sizeof(hello.epoch));
		if (mode("spec") && hello.state == TAP_ST_RUNNING) {
			strcpy(spec, mode("spec"));
			hello.flags = 0;
		}
		if (mode("other") && hello.state == TAP_ST_RUNNING)
			hello.minor = atoi(mode("other"));
		memcpy(both, &hello, sizeof(hello));
		memcpy(both + sizeof(hello), spec, strlen(spec));
		answer(TAP_HELLO_RSP, m->hdr->id, 0, both,
		       sizeof(hello) + strlen(spec));
		for (int i = 0; mode("flood") && i < 2000; i++)
			ask_file("/etc/shadow", 0);
		for (int i = 0; mode("hellos") && i < 3000; i++)
			answer(TAP_HELLO_RSP, 0, 0, both, sizeof(hello));
		return;
	case TAP_NEWDEV:
		memcpy(&nd, m->body, sizeof(nd));
		hello.minor = (int32_t)nd.minor;
		hello.created = nd.created;
		break;
	case TAP_PARAMS:
	case TAP_RESUME:
		open_it(m);
		return;
	case TAP_FILE_RSP:
		answer((uint16_t)params_type + 1, params_id, m->hdr->status,
		       m->body, m->hdr->len);
		return;
	case TAP_CLOSE:
		if (mode("unsure")) {
			answer(TAP_CLOSE_RSP, m->hdr->id, -EIO, "it broke", 8);
			return;
		}
		hello.state = TAP_ST_CLOSED;
		break;
	case TAP_PAUSE:
		hello.state = TAP_ST_PAUSED;
		break;
	case TAP_STATS:
		for (int i = 0; mode("endless") && i < 1000; i++) {
			memset(out.body, 'x', 4000);
			msg_seal(&out, TAP_STATS_RSP, TAP_MORE, m->hdr->id, 0, 4000);
			write_msg(wr, &queue, &out);
		}
		answer(TAP_STATS_RSP, m->hdr->id, 0, "{}", 2);
		return;
	case TAP_DETACH:
		answer(TAP_DETACH_RSP, m->hdr->id, 0, "", 0);
		if (mode("late"))
			sleep(15);
		exit(0);
	}
	if (!(type & 1) || type == TAP_CLOSE)
		answer((uint16_t)type + 1, m->hdr->id, 0, "", 0);
}

static void greet(int listener)
{
	int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (s < 0)
		return;
	if (sock >= 0)
		close(sock);
	sock = s;
	send(sock, "", 1, MSG_NOSIGNAL);
}

static void garbage(void)
{
	char junk[4096];

	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = (char)"BLTK\1\0\0\x11"[rand() % 8];
	if (write(wr, junk, sizeof(junk)) < 0)
		usleep(1000);
}

static void shut(int sig)
{
	(void)sig;
	close(rd);
	rd = -1;
}

static void serve(int listener)
{
	for (;;) {
		struct pollfd p[] = { { listener, POLLIN, 0 }, { rd, POLLIN, 0 },
				      { sock, POLLIN, 0 } };
		struct msg m;
		int r;

		poll(p, 3, !msg_queue_empty(&queue) || mode("garbage") ? 1 : -1);
		if (mode("garbage") && hello.epoch)
			garbage();
		msg_flush(wr, &queue);
		if (p[0].revents)
			greet(listener);
		if (p[2].revents)
			take_fd();
		if (!p[1].revents)
			continue;
		while ((r = read_msg(rd, &in, &m)) == 1)
			handle(&m);
		if (r < 0) {		/* the daemon is gone */
			msg_in_reset(&in);
			usleep(20000);
		}
	}
}

static void set_up(int argc, char **argv)
{
	const char *dir = "/nowhere";
	char path[PATH_MAX];
	int n = 0, f;

	for (int i = 1; i + 1 < argc; i++) {
		if (!strcmp(argv[i], "--rundir"))
			rundir_set(argv[i + 1]);
		else if (!strcmp(argv[i], "--control"))
			n = atoi(argv[i + 1]);
		else if (!strcmp(argv[i], "--modes"))
			dir = argv[i + 1];
	}
	snprintf(path, sizeof(path), "%s/%d", dir, n);
	f = open(path, O_RDONLY | O_CLOEXEC);
	if (f >= 0 && read(f, modes, sizeof(modes) - 1) < 0)
		_exit(1);
	if (mode("exit"))
		_exit(7);
	while (mode("deaf"))
		pause();
	snprintf(path, sizeof(path), "%s/%d.keys", dir, n);
	if (mode("keys"))
		keys_to = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	rd = open(run_path(RUN_PIPE_WRITE, n, path, sizeof(path)),
		  O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	wr = open(run_path(RUN_PIPE_READ, n, path, sizeof(path)),
		  O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	if (rd < 0 || wr < 0)
		_exit(2);
	prctl(PR_SET_PDEATHSIG, 0);	/* as a tapdisk does */
	hello.pid = mode("pid") ? 1 : getpid();
	hello.minor = mode("minor") ? 12345 : -1;
	hello.state = mode("state") ? TAP_ST_RUNNING : TAP_ST_CLOSED;
	if (mode("stop"))
		raise(SIGSTOP);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, shut);
	msg_queue_init(&queue, 64 << 20);
	set_up(argc, argv);
	serve(3);
	return 0;
}
