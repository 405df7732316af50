/* main.c - tap-io: reads and writes a disk through its ring, by commands, in
 * the manner of qemu-io.  tap-io(1). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/opts.h"
#include "base/rundir.h"
#include "base/size.h"
#include "tap_io.h"

#define DATA_DEFAULT (8 * MiB)
#define DATA_MIN (64 * KiB)

enum {
	OPT_ABI = 300, OPT_QUEUES, OPT_ORDER, OPT_POLL, OPT_DATA, OPT_SEGS,
	OPT_RECONNECT,
};

static const struct opt table[] = {
	{ 'c', "cmd", "COMMAND", "run COMMAND; may be repeated", },
	{ 'm', "minor", "MINOR", "the disk's number: its socket in the run "
	  "directory" },
	{ 'r', "read-only", NULL, "refuse commands that write" },
	{ OPT_ABI, "abi", "LAYOUT", "native, x86_32 or x86_64 (native)" },
	{ OPT_QUEUES, "queues", "N", "rings, used in turn (1)" },
	{ OPT_ORDER, "order", "N", "a ring has 2^N pages, 0 to 4 (0)" },
	{ OPT_SEGS, "max-segments", "N", "pages a request touches at most, 11 to "
	  "256 (what the disk offers)" },
	{ OPT_POLL, "poll-us", "N", "spin for N us before sleeping (0)" },
	{ OPT_DATA, "data", "SIZE", "memory for data (8M)" },
	{ OPT_RECONNECT, "reconnect", "SECONDS", "wait so long for a tapdisk in place "
	  "of one that died (30; 0: not at all)" },
	OPT_COMMON, OPT_END
};

struct args {
	struct tapring_opts ring;
	const char *rundir;
	const char *path;
	int minor;
	bool rdonly;
	const char **cmd;
	int nr_cmds;
};

static void help(void)
{
	printf("usage: %s [OPTIONS] -m MINOR | SOCKET [OPTIONS]\n\n"
	       "Reads and writes a disk through its ring.  Without -c, commands "
	       "are read\nfrom the standard input.\n\n", TAP_IO);
	opts_help(table, stdout);
	printf("\nCommands (sizes may end in k, M, G, T):\n\n");
	run_line(NULL, "help");
	printf("\nThe exit code is 0, or 1 if a command failed or data was not "
	       "as it should be,\nor 2 if the command line was wrong or the disk "
	       "could not be reached.\n");
}

static int wrong(const char *option, const char *value)
{
	fprintf(stderr, "%s: bad value for %s: '%s'; see '%s --help'\n", TAP_IO,
		option, value, TAP_IO);
	return IO_USAGE;
}

static int parse_abi(const char *s, uint32_t *abi)
{
	static const char *const name[] = { "native", "x86_32", "x86_64" };

	for (unsigned i = 0; i < ARRAY_SIZE(name); i++) {
		if (!strcmp(s, name[i])) {
			*abi = TAPRING_ABI_NATIVE + i;
			return IO_OK;
		}
	}
	return wrong("--abi", s);
}

static int option(struct args *a, int id, const char *s)
{
	uint64_t v = 0;

	switch (id) {
	case 'c':
		a->cmd[a->nr_cmds++] = s;
		return IO_OK;
	case 'm':
		if (uint_parse(s, 1u << 20, &v))
			return wrong("--minor", s);
		a->minor = (int)v;
		return IO_OK;
	case 'r':
		a->rdonly = true;
		return IO_OK;
	case OPT_ABI:
		return parse_abi(s, &a->ring.abi);
	case OPT_QUEUES:
		if (uint_parse(s, TAPRING_MAX_QUEUES, &v) || !v)
			return wrong("--queues", s);
		a->ring.queues = (uint32_t)v;
		return IO_OK;
	case OPT_ORDER:
		if (uint_parse(s, TAPRING_MAX_ORDER, &v))
			return wrong("--order", s);
		a->ring.order = (uint32_t)v;
		return IO_OK;
	case OPT_SEGS:
		if (uint_parse(s, TAPRING_MAX_INDIRECT, &v) || v < 11)
			return wrong("--max-segments", s);
		a->ring.max_segments = (uint32_t)v;
		return IO_OK;
	case OPT_POLL:
		if (uint_parse(s, 1000000, &v))
			return wrong("--poll-us", s);
		a->ring.poll_ns = v * 1000;
		return IO_OK;
	case OPT_DATA:
		if (size_parse(s, &v) || v < DATA_MIN)
			return wrong("--data", s);
		a->ring.data = v;
		return IO_OK;
	case OPT_RECONNECT:
		if (uint_parse(s, 1000000, &v))
			return wrong("--reconnect", s);
		a->ring.reconnect_ms = v ? (uint32_t)v * 1000 : TAPRING_NO_RECONNECT;
		return IO_OK;
	default:
		a->rundir = s;
		return IO_OK;
	}
}

/* IO_OK, IO_USAGE, or -1: all is done (help). */
static int parse(struct args *a, int argc, char **argv)
{
	struct opts o;
	int id, ret = IO_OK;

	a->minor = -1;
	a->ring.data = DATA_DEFAULT;
	opts_init(&o, table, TAP_IO, argc, argv);
	while (ret == IO_OK) {
		id = opts_next(&o);
		/* An operand ends options: take it and go on behind it. */
		if (id == OPT_DONE && o.next < argc && !a->path) {
			a->path = argv[o.next];
			memmove(argv + o.next, argv + o.next + 1,
				(size_t)(argc - o.next) * sizeof(*argv));
			o.argc = --argc;
			continue;
		}
		if (id == OPT_DONE)
			break;
		if (id == OPT_BAD) {
			ret = IO_USAGE;
		} else if (id == OPT_HELP) {
			help();
			ret = -1;
		} else if (id == OPT_VERSION) {
			printf("%s %s\n", TAP_IO, BLKTAP_VERSION);
			ret = -1;
		} else {
			ret = option(a, id, o.value);
		}
	}
	if (ret == IO_OK && (o.next < argc || !a->path == (a->minor < 0))) {
		fprintf(stderr, "%s: wants one disk: -m MINOR or a socket; see "
			"'%s --help'\n", TAP_IO, TAP_IO);
		ret = IO_USAGE;
	}
	opts_free(&o);
	return ret;
}

static int open_session(struct session *s, const struct args *a)
{
	char path[256];
	size_t len;
	int err = rundir_set(a->rundir);

	if (err) {
		fprintf(stderr, "%s: bad run directory: %s\n", TAP_IO,
			strerror(-err));
		return IO_USAGE;
	}
	snprintf(path, sizeof(path), "%s", a->path ? a->path : "");
	if (!a->path)
		run_path(RUN_RING, a->minor, path, sizeof(path));
	err = tapring_connect(path, &a->ring, &s->ring);
	if (err) {
		fprintf(stderr, "%s: cannot connect to %s: %s\n", TAP_IO, path,
			err == -EPROTO ? "no ring is served there" :
			err == -ENODEV ? "the disk is not open" : strerror(-err));
		return IO_USAGE;
	}
	tapring_get_info(s->ring, &s->info);
	s->rdonly = a->rdonly || s->info.features & TAPRING_F_RDONLY;
	s->aio = tapring_data(s->ring, &len);
	s->half = align_down(len / 2, TAPRING_PAGE);
	s->sync = s->aio + s->half;
	s->max_request = (size_t)s->info.max_segments * TAPRING_PAGE;
	return IO_OK;
}

/* Every line, until the end or quit; the worst result counts. */
static int prompt(struct session *s)
{
	bool tty = isatty(STDIN_FILENO);
	char *line = NULL;
	size_t room = 0;
	int ret = IO_OK;

	for (;;) {
		if (tty) {
			printf("%s> ", TAP_IO);
			fflush(stdout);
		}
		if (s->quit || getline(&line, &room, stdin) < 0)
			break;
		if (run_line(s, line))
			ret = IO_FAILED;
		if (s->quit)
			break;
	}
	free(line);
	return tty ? IO_OK : ret;
}

int main(int argc, char **argv)
{
	struct session s = { 0 };
	struct args a = { 0 };
	int ret;

	signal(SIGPIPE, SIG_IGN);
	a.cmd = calloc((size_t)argc, sizeof(*a.cmd));
	if (!a.cmd)
		return IO_USAGE;
	ret = parse(&a, argc, argv);
	if (ret == IO_OK)
		ret = open_session(&s, &a);
	if (ret != IO_OK) {
		free(a.cmd);
		return ret < 0 ? IO_OK : ret;
	}
	for (int i = 0; i < a.nr_cmds && !s.quit; i++)
		if (run_line(&s, a.cmd[i]))
			ret = IO_FAILED;
	if (!a.nr_cmds)
		ret = prompt(&s);
	if (s.aio_open && run_line(&s, "aio_flush"))
		ret = IO_FAILED;
	tapring_close(s.ring);
	free(a.cmd);
	if (fflush(stdout) || ferror(stdout)) {
		fprintf(stderr, "%s: cannot write the output\n", TAP_IO);
		ret = IO_FAILED;
	}
	return ret;
}
