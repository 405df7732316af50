/* tap-ctl's client against a daemon that answers in every wrong way: each ends
 * in one line and an error, none in a hang. */
#include <limits.h>
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

/* --- the same about many disks --- */

/* A daemon that answers nobody until it has been asked about as many disks as may be
 * asked about at once; then about all that comes.  Minors from REFUSED on do not exist,
 * and one connection ends when it is asked about minor `ends`. */
#define REFUSED 5000
#define SHARE (SHARES_MAX * TAP_CTL_ASKS)

static struct crowd {
	unsigned n, links, ends;
	bool early, too_many;
	struct { int fd; unsigned asked, answered; struct msg_in in; } link[SHARES_MAX];
	struct msg_out o;
} crowd;

/* One request of a link, or its end. */
static bool crowd_read(unsigned i, struct tap_verb *v, uint32_t *id)
{
	struct msg m;
	int n;

	do
		n = read_msg(crowd.link[i].fd, &crowd.link[i].in, &m);
	while (!n);
	if (n < 0)
		return false;
	memcpy(v, m.body, sizeof(*v));
	*id = m.hdr->id;
	crowd.link[i].asked++;
	return true;
}

struct crowd_ask { unsigned link; uint32_t id; struct tap_verb v; };

static void crowd_answer(const struct crowd_ask *k)
{
	uint16_t t = TAP_CTL_STATS + 1;
	int fd = crowd.link[k->link].fd;
	char text[32];

	if (k->v.minor >= REFUSED) {
		answer(fd, t, 0, k->id, -ENODEV, "no such disk", TAP_MSG_MAX);
	} else {
		snprintf(text, sizeof(text), "disk %d", k->v.minor);
		answer(fd, t, TAP_MORE, k->id, 0, text, TAP_MSG_MAX);
		answer(fd, t, 0, k->id + 100000, 0, "a stranger's", TAP_MSG_MAX);
		answer(fd, t, 0, k->id, 0, "!", TAP_MSG_MAX);
	}
	crowd.link[k->link].answered++;
}

static void *crowd_daemon(void *arg)
{
	static struct crowd_ask asks[SHARE];
	unsigned n = 0, at_once = crowd.n < SHARE ? crowd.n : SHARE;

	(void)arg;
	for (unsigned i = 0; i < crowd.links; i++) {
		unsigned share = (crowd.n * (i + 1) / crowd.links) -
				 (crowd.n * i / crowd.links);

		crowd.link[i].fd = accept(listener, NULL, NULL);
		for (unsigned k = 0; k < share && k < TAP_CTL_ASKS; k++, n++) {
			asks[n].link = i;
			if (!crowd_read(i, &asks[n].v, &asks[n].id))
				return NULL;
		}
	}
	crowd.early = n < at_once;
	for (unsigned i = 0; i < crowd.links; i++) {
		char c;

		crowd.too_many |= crowd.link[i].in.have > crowd.link[i].in.done ||
				  recv(crowd.link[i].fd, &c, 1,
				       MSG_PEEK | MSG_DONTWAIT) > 0;
	}
	while (n-- > 0) {	/* the last first */
		if ((unsigned)asks[n].v.minor == crowd.ends)
			shutdown(crowd.link[asks[n].link].fd, SHUT_RDWR);
		else
			crowd_answer(&asks[n]);
	}
	for (unsigned i = 0; i < crowd.links; i++) {
		struct crowd_ask k = { .link = i };

		while (crowd_read(i, &k.v, &k.id))
			crowd_answer(&k);
		close(crowd.link[i].fd);
	}
	return NULL;
}

static struct { char text[32]; unsigned over; int err; } about[2 * SHARE];
static void crowd_told(void *arg, unsigned i, int err, const struct msg *m)
{
	size_t n = strlen(about[i].text);

	(void)arg;
	assert_int_equal(!err, !!m);
	assert_int_equal(about[i].over, 0);
	if (m)
		assert_int_equal(msg_text(m, 0, about[i].text + n,
					  sizeof(about[i].text) - n), 0);
	about[i].err = err;
	about[i].over = !m || !(m->hdr->flags & TAP_MORE);
}

static void run_each(unsigned n, unsigned links, unsigned refused_at, unsigned ends)
{
	static const struct verb stats = { .name = "stats", .ask = TAP_CTL_STATS };
	struct call c = { .verb = &stats, .pid = -1, .minor = -1, .patience = 60 };
	static int32_t minor[2 * SHARE];
	pthread_t t;

	memset(&crowd, 0, sizeof(crowd));
	memset(about, 0, sizeof(about));
	crowd.n = n;
	crowd.links = links;
	crowd.ends = ends;
	for (unsigned i = 0; i < n; i++)
		minor[i] = (int32_t)(i + (i == refused_at ? REFUSED : 7));
	assert_int_equal(pthread_create(&t, NULL, crowd_daemon, NULL), 0);
	assert_int_equal(ask_each(&c, minor, n, crowd_told, NULL), 0);
	pthread_join(t, NULL);
	assert_false(crowd.early);
	assert_false(crowd.too_many);
	for (unsigned i = 0; i < n; i++) {
		char want[32];

		assert_int_equal(about[i].over, 1);
		if (about[i].err)
			continue;
		snprintf(want, sizeof(want), "disk %u!", i + 7);
		assert_string_equal(about[i].text, want);
	}
}

static void test_many_are_asked_at_once(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= SHARE; n += n < 40 ? 1 : 157) {
		run_each(n, (n + TAP_CTL_ASKS - 1) / TAP_CTL_ASKS, n / 2, UINT_MAX);
		for (unsigned i = 0; i < n; i++)
			assert_int_equal(about[i].err, i == n / 2 ? -ENODEV : 0);
	}
	/* More than may be asked at once: the others after these. */
	run_each(2 * SHARE - 3, SHARES_MAX, UINT_MAX, UINT_MAX);
	for (unsigned i = 0; i < 2 * SHARE - 3; i++)
		assert_int_equal(about[i].err, 0);
}

/* Of what a connection that ends was asked, each disk is told of once. */
static void test_a_connection_ends(void **state)
{
	unsigned lost = 0;

	(void)state;
	run_each(70, 3, UINT_MAX, 7 + 5);
	for (unsigned i = 0; i < 70; i++) {
		assert_true(!about[i].err || about[i].err == -EPIPE);
		lost += about[i].err == -EPIPE;
	}
	assert_int_equal(about[5].err, -EPIPE);
	assert_int_equal(lost, 6);	/* those before it were to be answered later */
}

static void test_nobody_is_asked(void **state)
{
	(void)state;
	run_each(0, 0, UINT_MAX, UINT_MAX);
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
		listen(listener, SHARES_MAX);
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
		cmocka_unit_test(test_many_are_asked_at_once),
		cmocka_unit_test(test_a_connection_ends),
		cmocka_unit_test(test_nobody_is_asked),
		cmocka_unit_test(test_no_daemon),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, start, stop);
}
