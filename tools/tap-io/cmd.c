/* cmd.c - the list of commands, the small ones, and lines into commands. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "tap_io.h"

#define ARGS_MAX 64

int fail(const char *what, int err)
{
	fprintf(stderr, "%s: %s: %s\n", TAP_IO, what,
		err == -EPIPE ? "the disk has gone" :
		err == -EPROTO ? "the disk answers nonsense" : strerror(-err));
	return IO_FAILED;
}

int bad_arg(const char *cmd, const char *what, const char *value)
{
	fprintf(stderr, "%s: %s: bad %s '%s'; see '%s --help'\n", TAP_IO, cmd,
		what, value, TAP_IO);
	return IO_FAILED;
}

bool get_bytes(const char *cmd, const char *what, const char *s, uint64_t *v)
{
	if (size_parse(s, v)) {
		bad_arg(cmd, what, s);
		return false;
	}
	if (*v % 512) {
		fprintf(stderr, "%s: %s: the %s must be a multiple of 512\n",
			TAP_IO, cmd, what);
		return false;
	}
	return true;
}

bool get_number(const char *cmd, const char *what, const char *s, uint64_t max,
		uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(s, &end, 0);
	if (errno || end == s || *end || *s == '-' || *v > max) {
		bad_arg(cmd, what, s);
		return false;
	}
	return true;
}

static int usage(const char *cmd)
{
	fprintf(stderr, "%s: %s: wrong number of arguments; see '%s --help'\n",
		TAP_IO, cmd, TAP_IO);
	return IO_FAILED;
}

static int cmd_flush(struct session *s, int argc, char **argv)
{
	int err;

	if (argc != 1)
		return usage(argv[0]);
	err = session_one(s, IO_FLUSH, 0, 0);
	return err ? fail(argv[0], err) : IO_OK;
}

static int cmd_barrier(struct session *s, int argc, char **argv)
{
	uint64_t pattern, offset = 0, len = 0;
	int err;

	if (argc != 1 && argc != 4)
		return usage(argv[0]);
	if (refuse_write(s, argv[0]))
		return IO_FAILED;
	if (argc == 4) {
		if (!get_number(argv[0], "pattern", argv[1], 255, &pattern) ||
		    !get_bytes(argv[0], "offset", argv[2], &offset) ||
		    !get_bytes(argv[0], "length", argv[3], &len))
			return IO_FAILED;
		if (len > s->half)
			return fail(argv[0], -E2BIG);
		fill(s->sync, (size_t)len, (uint8_t)pattern);
	}
	err = session_one(s, IO_BARRIER, offset, (size_t)len);
	return err ? fail(argv[0], err) : IO_OK;
}

static int cmd_discard(struct session *s, int argc, char **argv)
{
	uint64_t offset, len;
	int err;

	if (argc != 3)
		return usage(argv[0]);
	if (refuse_write(s, argv[0]))
		return IO_FAILED;
	if (!get_bytes(argv[0], "offset", argv[1], &offset) ||
	    !get_bytes(argv[0], "length", argv[2], &len))
		return IO_FAILED;
	err = session_one(s, IO_DISCARD, offset, len);
	return err ? fail(argv[0], err) : IO_OK;
}

/* The size may have changed: hear the news first. */
static int cmd_length(struct session *s, int argc, char **argv)
{
	int err = tapring_events(s->ring);

	(void)argc;
	if (err < 0)
		return fail(argv[0], err);
	printf("%llu\n", (unsigned long long)tapring_size(s->ring));
	return IO_OK;
}

static int cmd_info(struct session *s, int argc, char **argv)
{
	static const char *const abi[] = { "", "native", "x86_32", "x86_64" };
	struct tapring_info i;
	int err = tapring_events(s->ring);

	(void)argc;
	if (err < 0)
		return fail(argv[0], err);
	tapring_get_info(s->ring, &i);
	printf("minor: %u\nsize: %llu\nsector size: %u\nphysical block: %u\n",
	       i.minor, (unsigned long long)i.size, i.sector_size, i.phys_size);
	printf("read-only: %s\nflush: %s\nbarrier: %s\ndiscard: %s\n",
	       i.features & TAPRING_F_RDONLY ? "yes" : "no",
	       i.features & TAPRING_F_FLUSH ? "yes" : "no",
	       i.features & TAPRING_F_BARRIER ? "yes" : "no",
	       i.features & TAPRING_F_DISCARD ? "yes" : "no");
	printf("discard granularity: %u\nlayout: %s\nqueues: %u\n"
	       "requests a queue: %u\nsegments a request: %u\n",
	       i.discard_granularity, abi[i.abi], i.queues, i.depth,
	       i.max_segments);
	return IO_OK;
}

static int cmd_stats(struct session *s, int argc, char **argv)
{
	struct tapring_stats t;

	(void)argc;
	(void)argv;
	for (unsigned n = 0; n < s->info.queues; n++) {
		tapring_get_stats(tapring_get_queue(s->ring, n), &t);
		printf("queue %u: %llu requests, %llu answers, %llu doorbells, "
		       "%llu sleeps\n", n, (unsigned long long)t.requests,
		       (unsigned long long)t.answers,
		       (unsigned long long)t.bells_sent,
		       (unsigned long long)t.sleeps);
	}
	return IO_OK;
}

static int cmd_help(struct session *s, int argc, char **argv)
{
	(void)s;
	(void)argc;
	(void)argv;
	for (const struct command *c = commands; c->name; c++) {
		char left[64];

		snprintf(left, sizeof(left), "%s %s", c->name, c->args);
		printf("  %-44s %s\n", left, c->help);
	}
	return IO_OK;
}

static int cmd_quit(struct session *s, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	s->quit = true;
	return IO_OK;
}

const struct command commands[] = {
	{ "read", "[-P N] [-qv] OFFSET LENGTH",
	  "read; -P: expect this byte; -v: dump", cmd_read },
	{ "write", "[-P N] [-fqz] OFFSET LENGTH",
	  "write; -z: zeroes; -f: flush afterwards", cmd_write },
	{ "aio_read", "[-P N] [-qv] OFFSET LENGTH",
	  "one read request, not waited for", cmd_aio_read },
	{ "aio_write", "[-P N] [-qz] OFFSET LENGTH",
	  "one write request, not waited for", cmd_aio_write },
	{ "aio_flush", "", "wait for those", cmd_aio_flush },
	{ "flush", "", "make what was written durable", cmd_flush },
	{ "barrier", "[PATTERN OFFSET LENGTH]",
	  "a write that orders and persists", cmd_barrier },
	{ "discard", "OFFSET LENGTH", "let the contents go", cmd_discard },
	{ "verify", "[OPTIONS]", "random requests against a model; see tap-io(1)",
	  cmd_verify },
	{ "length", "", "the disk's size in bytes, now", cmd_length },
	{ "info", "", "the disk and the ring", cmd_info },
	{ "stats", "", "requests, doorbells and sleeps of this session",
	  cmd_stats },
	{ "help", "", "this list", cmd_help },
	{ "quit", "", "leave", cmd_quit },
	{ NULL, NULL, NULL, NULL },
};

int run_line(struct session *s, const char *line)
{
	char *copy = strdup(line), *argv[ARGS_MAX + 1], *save = NULL;
	int argc = 0, ret = IO_FAILED;

	if (!copy)
		return fail(line, -ENOMEM);
	for (char *w = strtok_r(copy, " \t\r\n", &save); w && argc < ARGS_MAX;
	     w = strtok_r(NULL, " \t\r\n", &save))
		argv[argc++] = w;
	argv[argc] = NULL;
	if (!argc || *argv[0] == '#') {
		ret = IO_OK;
	} else {
		const struct command *c = commands;

		while (c->name && strcmp(c->name, argv[0]))
			c++;
		if (c->name)
			ret = c->run(s, argc, argv);
		else
			fprintf(stderr, "%s: unknown command '%s'; try help\n",
				TAP_IO, argv[0]);
	}
	free(copy);
	fflush(stdout);
	return ret;
}
