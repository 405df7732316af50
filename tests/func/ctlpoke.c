/* ctlpoke.c - clients of blktapctrl with faults, for ctl-clients.sh.
 *
 *	ctlpoke SOCKET garbage SEED	random bytes until cut off
 *	ctlpoke SOCKET half		half a message, then wait to be cut off
 *	ctlpoke SOCKET deaf		asks for ever, reads nothing, until cut off
 *	ctlpoke SOCKET vanish SPEC	asks for a disk and leaves
 *	ctlpoke SOCKET many N		N clients at once, each is answered
 *	ctlpoke SOCKET pipeline N	N requests at once by one, answers counted
 *	ctlpoke SOCKET wrong		every type, with every payload that is wrong
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "msg.h"

static struct msg_out out;
static const char *path;

static void die(const char *what)
{
	fprintf(stderr, "ctlpoke: %s\n", what);
	exit(1);
}

static int dial(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct timeval tv = { .tv_sec = 20 };
	int s = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	if (connect(s, (struct sockaddr *)&sa, sizeof(sa)))
		die("cannot connect");
	return s;
}

static const struct msg_out *ask(uint16_t type, uint32_t id, const char *text,
				 size_t len)
{
	struct tap_verb v = { .pid = -1, .minor = -1 };

	memcpy(out.body, &v, sizeof(v));
	memcpy(out.body + sizeof(v), text, len);
	msg_seal(&out, type, 0, id, 0, (uint32_t)(sizeof(v) + len));
	return &out;
}

/* The last answer to request id; -1: cut off. */
static int wait_answer(int s, struct msg_in *in, uint32_t id, int *status)
{
	struct msg m;
	int r;

	while ((r = read_msg(s, in, &m)) == 1)
		if (m.hdr->id == id && !(m.hdr->flags & TAP_MORE)) {
			*status = m.hdr->status;
			return 0;
		}
	return -1;
}

static void until_cut_off(int s, void (*send_some)(int s))
{
	char c[4096];
	time_t end = time(NULL) + 80;

	while (time(NULL) < end) {
		/* Deaf to what comes, but not to the end. */
		struct pollfd p = { s, send_some ? POLLOUT : POLLIN, 0 };

		poll(&p, 1, 1000);
		if (p.revents & (POLLHUP | POLLERR))
			return;
		if (p.revents & POLLOUT)
			send_some(s);
		else if ((p.revents & POLLIN) && recv(s, c, sizeof(c), 0) <= 0)
			return;
	}
	die("not cut off");
}

static void some_garbage(int s)
{
	char junk[512];

	for (size_t i = 0; i < sizeof(junk); i++)
		junk[i] = random() & 3 ? (char)random() : "BLTK\1"[random() % 5];
	send(s, junk, sizeof(junk), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void some_asks(int s)
{
	ask(TAP_CTL_CHECK, 1, "", 0);
	send(s, &out, msg_size(&out), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void many(int n)
{
	int *s = calloc((size_t)n, sizeof(*s)), status;
	struct msg_in *in = calloc(1, sizeof(*in));

	for (int i = 0; i < n; i++) {
		s[i] = dial();
		ask(TAP_CTL_LIST, 5, "", 0);
		if (write(s[i], &out, msg_size(&out)) < 0)
			die("cannot ask");
	}
	for (int i = 0; i < n; i++) {
		memset(in, 0, sizeof(*in));
		if (wait_answer(s[i], in, 5, &status) || status)
			die("no answer");
		close(s[i]);
	}
	free(in);
	free(s);
}

/* One client that has everybody's patience.  It has at most 500 requests on the way:
 * who stands still with more is cut off, as it does not read. */
static void pipeline(int n)
{
	struct msg_in *in = calloc(1, sizeof(*in));
	int s = dial(), got = 0, turns[2];
	struct msg m;

	if (pipe(turns))
		die("no pipe");
	if (fork() == 0) {
		close(turns[1]);
		for (int i = 0; i < n; i++) {
			char c;

			if (i >= 500 && i % 100 == 0 && read(turns[0], &c, 1) != 1)
				_exit(1);
			ask(i % 3 ? TAP_CTL_CHECK : TAP_CTL_LIST, (uint32_t)i, "", 0);
			if (write(s, &out, msg_size(&out)) != (ssize_t)msg_size(&out))
				_exit(1);
		}
		_exit(0);
	}
	while (got < n && read_msg(s, in, &m) == 1)
		if (!(m.hdr->flags & TAP_MORE) && ++got % 100 == 0 &&
		    write(turns[1], "", 1) != 1)
			die("no turn");
	if (got != n)
		die("answers are missing");
	free(in);
	close(s);
}

/* Whatever the type, a payload that is no request is answered so. */
static void wrong(void)
{
	static char big[TAP_MSG_MAX];
	struct msg_in *in = calloc(1, sizeof(*in));
	int s = dial(), status;
	uint32_t id = 0;

	for (unsigned type = 0; type < 300; type += 2)
		for (int k = 0; k < 4; k++) {
			size_t len = k == 0 ? 0 : k == 1 ? sizeof(struct tap_verb) - 1 :
				     sizeof(struct tap_verb) + (k == 2 ? 9 : 4000);

			memset(big, k == 3 ? 'x' : 0, sizeof(big));
			memcpy(out.body, big, len);
			msg_seal(&out, (uint16_t)type, 0, ++id, 0, (uint32_t)len);
			if (write(s, &out, msg_size(&out)) < 0)
				die("cut off");
			if (wait_answer(s, in, id, &status))
				die("no answer");
			if (status >= 0)
				die("taken for right");
		}
	free(in);
	close(s);
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "", *arg = argc > 3 ? argv[3] : "0";
	int s;

	if (argc < 3)
		die("usage: ctlpoke SOCKET WHAT [ARG]");
	signal(SIGPIPE, SIG_IGN);
	path = argv[1];
	if (!strcmp(what, "many")) {
		many(atoi(arg));
	} else if (!strcmp(what, "pipeline")) {
		pipeline(atoi(arg));
	} else if (!strcmp(what, "wrong")) {
		wrong();
	} else {
		s = dial();
		srandom((unsigned)atoi(arg));
		ask(!strcmp(what, "vanish") ? TAP_CTL_CREATE : TAP_CTL_LIST, 1, arg,
		    !strcmp(what, "vanish") ? strlen(arg) : 0);
		if (!strcmp(what, "garbage"))
			until_cut_off(s, some_garbage);
		else if (!strcmp(what, "deaf"))
			until_cut_off(s, some_asks);
		else if (write(s, &out, !strcmp(what, "half") ? 30 : msg_size(&out)) < 0)
			die("cannot ask");
		if (!strcmp(what, "half"))
			until_cut_off(s, NULL);
		close(s);
	}
	return 0;
}
