/* tap-ctl's client against a daemon that answers in every wrong way: each ends
 * in one line and an error, none in a hang. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <sys/un.h>

#include "../../ctl/tap-ctl/client.c"
#include "../../ctl/tap-ctl/keys.c"
#include "../../ctl/tap-ctl/print.c"

/* What the daemon does with its one client. */
enum act {
	ACT_DONE,	/* an empty success */
	ACT_REASON,	/* -EBUSY and a text */
	ACT_NO_REASON,	/* -EBUSY alone */
	ACT_LIST,	/* three parts, byte by byte */
	ACT_STRANGERS,	/* other ids and types first, and rubbish */
	ACT_HANG_UP,	/* reads and closes */
	ACT_HALF,	/* half an answer, then closes */
	ACT_SILENT,	/* never answers */
	ACT_POSITIVE,	/* a status that is no status */
	ACT_WILD,	/* a status beyond errno */
	ACT_SHUTDOWN,	/* answers, and closes later */
	ACT_MORE_FAIL,	/* one part, then a failure */
};

static char dir[] = "/tmp/tapctl.XXXXXX";
static int listener = -1;
static enum act act;
static struct tap_verb asked;	/* what the daemon got */
static uint32_t asked_len;
static uint16_t asked_type;
static uint64_t closed_ns, ended_ns;	/* by the daemon; ask() was back */

static void answer(int fd, uint16_t type, uint8_t flags, uint32_t id, int status,
		   const char *text, size_t chunk)
{
	static struct msg_out o;
	const char *p = (const char *)&o;
	size_t len = strlen(text);

	memcpy(o.body, text, len);
	msg_seal(&o, type, flags, id, status, (uint32_t)len);
	for (size_t i = 0, n = msg_size(&o); i < n; i += chunk) {
		size_t k = n - i < chunk ? n - i : chunk;

		if (write(fd, p + i, k) != (ssize_t)k)
			return;
	}
}

static void serve(int fd, const struct msg *m)
{
	uint16_t t = m->hdr->type + 1;
	uint32_t id = m->hdr->id;
	size_t all = TAP_MSG_MAX;
	char c;

	switch (act) {
	case ACT_DONE:
		answer(fd, t, 0, id, 0, "", all);
		break;
	case ACT_REASON:
		answer(fd, t, 0, id, -EBUSY, "disk 3: cannot pause: it is\nbusy", all);
		break;
	case ACT_NO_REASON:
		answer(fd, t, 0, id, -EBUSY, "", all);
		break;
	case ACT_LIST:
		answer(fd, t, TAP_MORE, id, 0, "one", 1);
		answer(fd, t, TAP_MORE, id, 0, "two", 1);
		answer(fd, t, 0, id, 0, "", 1);
		break;
	case ACT_STRANGERS:
		answer(fd, t, 0, id + 1, -EIO, "another's", all);
		answer(fd, t + 2, 0, id, -EIO, "another's", all);
		if (write(fd, "BLTKrubbish", 11) == 11)
			answer(fd, t, 0, id, 0, "ours", all);
		break;
	case ACT_HALF:
		if (write(fd, "BLTK\1", 5) != 5)
			return;
		break;
	case ACT_SILENT:
		while (read(fd, &c, 1) > 0)
			;
		break;
	case ACT_POSITIVE:
		answer(fd, t, 0, id, 5, "", all);
		break;
	case ACT_WILD:
		answer(fd, t, 0, id, -2000000000, "", all);
		break;
	case ACT_MORE_FAIL:
		answer(fd, t, TAP_MORE, id, 0, "one", all);
		answer(fd, t, 0, id, -EIO, "no more", all);
		break;
	case ACT_SHUTDOWN:
		answer(fd, t, 0, id, 0, "", all);
		usleep(100000);
		closed_ns = clock_ns();
		break;
	case ACT_HANG_UP:
		break;
	}
}

static void *fake_daemon(void *arg)
{
	static struct msg_in in;
	int fd = accept(listener, NULL, NULL);
	struct msg m;
	int n = 0;

	(void)arg;
	memset(&in, 0, sizeof(in));
	while (fd >= 0 && !n)
		n = read_msg(fd, &in, &m);
	if (n > 0) {
		asked_type = m.hdr->type;
		asked_len = m.hdr->len;
		memcpy(&asked, m.body, sizeof(asked));
		serve(fd, &m);
	}
	close(fd);
	return NULL;
}

static char got[256];
static int collect(void *arg, const struct msg *m)
{
	size_t n = strlen(got);

	(void)arg;
	return msg_text(m, 0, got + n, sizeof(got) - n);
}

/* One ask of a daemon that does `a`; what goes to stderr is in `said`. */
static char said[1024];
static int run(struct call *c, enum act a, const char *text)
{
	FILE *was = stderr;
	pthread_t t;
	int err;

	act = a;
	memset(got, 0, sizeof(got));
	memset(said, 0, sizeof(said));
	assert_int_equal(pthread_create(&t, NULL, fake_daemon, NULL), 0);
	stderr = fmemopen(said, sizeof(said), "w");
	err = ask(c, text, 7, collect, NULL);
	ended_ns = clock_ns();
	fclose(stderr);
	stderr = was;
	pthread_join(t, NULL);
	if (err)	/* exactly one line */
		assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	else
		assert_string_equal(said, "");
	return err;
}

static const struct verb pause_verb = { .name = "pause", .ask = TAP_CTL_PAUSE };
static const struct verb close_verb = { .name = "close", .ask = TAP_CTL_CLOSE };
static const struct verb end_verb = { .name = "shutdown", .ask = TAP_CTL_SHUTDOWN };

static void test_what_is_asked(void **state)
{
	struct call c = { .verb = &close_verb, .pid = 5, .minor = 3, .timeout = 9,
			  .patience = 60 };

	(void)state;
	c.value['f'] = c.value['R'] = c.value['D'] = "";
	assert_int_equal(run(&c, ACT_DONE, "aio:/x"), 0);
	assert_int_equal(asked_type, TAP_CTL_CLOSE);
	assert_int_equal(asked_len, sizeof(asked) + 6);
	assert_int_equal(asked.pid, 5);
	assert_int_equal(asked.minor, 3);
	assert_int_equal(asked.timeout, 9);
	assert_int_equal(asked.size, 7);
	assert_int_equal(asked.flags, TAP_VERB_FORCE | TAP_OPEN_RDONLY |
			 TAP_OPEN_NO_DIRECT);
	c.verb = &pause_verb;	/* -f is list's file elsewhere */
	assert_int_equal(run(&c, ACT_DONE, ""), 0);
	assert_int_equal(asked.flags, TAP_OPEN_RDONLY | TAP_OPEN_NO_DIRECT);
}

static void test_answers(void **state)
{
	struct call c = { .verb = &pause_verb, .pid = -1, .minor = 3, .patience = 60 };

	(void)state;
	assert_int_equal(run(&c, ACT_LIST, ""), 0);
	assert_string_equal(got, "onetwo");
	assert_int_equal(run(&c, ACT_STRANGERS, ""), 0);
	assert_string_equal(got, "ours");
}

static void test_failures(void **state)
{
	static const struct { enum act act; int err; const char *part; } t[] = {
		{ ACT_REASON, -EBUSY, "tap-ctl: disk 3: cannot pause: it is?busy\n" },
		{ ACT_NO_REASON, -EBUSY,
		  "disk 3: cannot pause: Device or resource busy\n" },
		{ ACT_HANG_UP, -EPIPE, "ended the connection" },
		{ ACT_HALF, -EPIPE, "ended the connection" },
		{ ACT_POSITIVE, -EBADMSG, "broken" },
		{ ACT_WILD, -EBADMSG, "broken" },
		{ ACT_MORE_FAIL, -EIO, "no more" },
	};
	struct call c = { .verb = &pause_verb, .pid = -1, .minor = 3, .patience = 60 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(run(&c, t[i].act, ""), t[i].err);
		assert_non_null(strstr(said, t[i].part));
	}
}

static void test_a_silent_daemon_hangs_nobody(void **state)
{
	struct call c = { .verb = &pause_verb, .pid = -1, .minor = 3, .patience = 1 };
	uint64_t begin = clock_ns();

	(void)state;
	assert_int_equal(run(&c, ACT_SILENT, ""), -ETIMEDOUT);
	assert_true(clock_ns() - begin >= NS_PER_S);
	assert_true(clock_ns() - begin < 60 * NS_PER_S);
	assert_non_null(strstr(said, "did not answer within 1 s"));
}

static void test_shutdown_waits_for_the_end(void **state)
{
	struct call c = { .verb = &end_verb, .pid = -1, .minor = -1, .patience = 60 };

	(void)state;
	closed_ns = 0;
	assert_int_equal(run(&c, ACT_SHUTDOWN, ""), 0);
	assert_true(closed_ns && ended_ns >= closed_ns);
}

static void test_too_long_a_text_is_not_sent(void **state)
{
	struct call c = { .verb = &pause_verb, .pid = -1, .minor = 3, .patience = 60 };
	char *text = malloc(TAP_TEXT_MAX + 2);

	(void)state;
	memset(text, 'x', TAP_TEXT_MAX + 1);
	text[TAP_TEXT_MAX + 1] = '\0';
	assert_int_equal(run(&c, ACT_DONE, text), -ENAMETOOLONG);
	text[TAP_TEXT_MAX] = '\0';	/* the longest there may be */
	assert_int_equal(run(&c, ACT_DONE, text), 0);
	assert_int_equal(asked_len, sizeof(asked) + TAP_TEXT_MAX);
	free(text);
}

/* A socket of a dead daemon and none at all are one error. */
static void test_no_daemon(void **state)
{
	struct call c = { .verb = &pause_verb, .pid = -1, .minor = 3, .patience = 60 };
	FILE *was = stderr;

	(void)state;
	close(listener);
	for (int i = 0; i < 2; i++) {
		memset(said, 0, sizeof(said));
		stderr = fmemopen(said, sizeof(said), "w");
		assert_int_equal(ask(&c, "", 0, NULL, NULL), -ECONNREFUSED);
		fclose(stderr);
		stderr = was;
		assert_non_null(strstr(said, "start it with `blktapctrl --rundir"));
		if (!i) {
			char path[128];

			unlink(run_path(RUN_CTL, 0, path, sizeof(path)));
		}
	}
}

static int start(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	(void)state;
	if (!mkdtemp(dir) || rundir_set(dir))
		return -1;
	run_path(RUN_CTL, 0, a.sun_path, sizeof(a.sun_path));
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
		listen(listener, 5);
}

static int stop(void **state)
{
	(void)state;
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_asked),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_a_silent_daemon_hangs_nobody),
		cmocka_unit_test(test_shutdown_waits_for_the_end),
		cmocka_unit_test(test_too_long_a_text_is_not_sent),
		cmocka_unit_test(test_no_daemon),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, stop);
}
