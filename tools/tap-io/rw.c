/* rw.c - the commands that read and write. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/size.h"
#include "tap_io.h"

#define PATTERN_DEFAULT 0xcd	/* qemu-io's */

void fill(char *buf, size_t len, uint8_t pattern)
{
	memset(buf, pattern, len);
}

size_t differs(const char *buf, size_t len, uint8_t pattern)
{
	size_t i = 0;

	while (i < len && (uint8_t)buf[i] == pattern)
		i++;
	return i;
}

void hex_dump(const char *buf, size_t len, uint64_t offset)
{
	for (size_t i = 0; i < len; i += 16) {
		size_t n = len - i < 16 ? len - i : 16;

		printf("%08llx:  ", (unsigned long long)(offset + i));
		for (size_t k = 0; k < n; k++)
			printf("%02x ", (unsigned char)buf[i + k]);
		printf(" ");
		for (size_t k = 0; k < n; k++)
			putchar(isprint((unsigned char)buf[i + k]) ? buf[i + k] : '.');
		putchar('\n');
	}
}

struct rw_args {
	struct transfer t;
	bool quiet, flush;
};

/* [-P pattern] [-q] [-v] [-f] offset length */
static bool parse_rw(int argc, char **argv, bool write, struct rw_args *a)
{
	uint64_t v;
	int c;

	*a = (struct rw_args){ .t = { .write = write,
				      .pattern = PATTERN_DEFAULT } };
	optind = 0;
	opterr = 0;
	while ((c = getopt(argc, argv, write ? "+P:qfz" : "+P:qv")) != -1) {
		switch (c) {
		case 'P':
			if (!get_number(argv[0], "pattern", optarg, 255, &v))
				return false;
			a->t.pattern = (uint8_t)v;
			a->t.has_pattern = true;
			break;
		case 'z':
			a->t.pattern = 0;
			break;
		case 'q':
			a->quiet = true;
			break;
		case 'v':
			a->t.dump = true;
			break;
		case 'f':
			a->flush = true;
			break;
		default:
			bad_arg(argv[0], "option", argv[optind - 1]);
			return false;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "%s: %s: wants an offset and a length\n", TAP_IO,
			argv[0]);
		return false;
	}
	return get_bytes(argv[0], "offset", argv[optind], &a->t.offset) &&
	       get_bytes(argv[0], "length", argv[optind + 1], &a->t.len);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void report(const struct transfer *t, double secs)
{
	char text[16];

	printf("%s %llu/%llu bytes at offset %llu\n", t->write ? "wrote" : "read",
	       (unsigned long long)t->len, (unsigned long long)t->len,
	       (unsigned long long)t->offset);
	printf("%s; %.4f sec (%.2f MiB/sec)\n", size_text(t->len, text), secs,
	       secs > 0 ? (double)t->len / secs / 1048576 : 0);
}

int refuse_write(const struct session *s, const char *cmd)
{
	if (s->rdonly)
		fprintf(stderr, "%s: %s: the disk was opened read-only\n", TAP_IO,
			cmd);
	return s->rdonly ? IO_FAILED : IO_OK;
}

static int do_rw(struct session *s, int argc, char **argv, bool write)
{
	struct rw_args a;
	double start;
	int err;

	if (write && refuse_write(s, argv[0]))
		return IO_FAILED;
	if (!parse_rw(argc, argv, write, &a))
		return IO_FAILED;
	start = now();
	err = transfer(s, &a.t);
	if (!err && a.flush)
		err = session_one(s, IO_FLUSH, 0, 0);
	if (err == -EILSEQ)
		return IO_FAILED;
	if (err)
		return fail(argv[0], err);
	if (!a.quiet)
		report(&a.t, now() - start);
	return IO_OK;
}

int cmd_read(struct session *s, int argc, char **argv)
{
	return do_rw(s, argc, argv, false);
}

int cmd_write(struct session *s, int argc, char **argv)
{
	return do_rw(s, argc, argv, true);
}

/* Asynchronous: one request each, ended by aio_flush or by the way. */

struct aio {
	struct io io;
	struct session *s;
	struct rw_args a;
};

static void aio_end(struct io *io, int err)
{
	struct aio *x = io->owner;
	struct session *s = x->s;
	const struct transfer *t = &x->a.t;
	size_t at;

	if (err) {
		fail(t->write ? "aio_write" : "aio_read", err);
		s->aio_failed = 1;
	} else if (!t->write && t->has_pattern &&
		   (at = differs(io->buf, io->len, t->pattern)) < io->len) {
		printf("Pattern verification failed at offset %llu: 0x%02x "
		       "instead of 0x%02x\n",
		       (unsigned long long)(io->offset + at),
		       (unsigned char)io->buf[at], t->pattern);
		s->aio_failed = 1;
	} else if (t->dump) {
		hex_dump(io->buf, io->len, io->offset);
	} else if (!x->a.quiet) {
		printf("%s %llu/%llu bytes at offset %llu\n",
		       t->write ? "wrote" : "read", (unsigned long long)t->len,
		       (unsigned long long)t->len, (unsigned long long)t->offset);
	}
	if (!--s->aio_open)
		s->aio_used = 0;
	free(x);
}

static int do_aio(struct session *s, int argc, char **argv, bool write)
{
	struct aio *x;
	struct rw_args a;
	int err;

	if (write && refuse_write(s, argv[0]))
		return IO_FAILED;
	if (!parse_rw(argc, argv, write, &a))
		return IO_FAILED;
	if (a.t.len > s->half - s->aio_used) {
		fprintf(stderr, "%s: %s: no memory left for it; use aio_flush "
			"first, or a larger --data\n", TAP_IO, argv[0]);
		return IO_FAILED;
	}
	x = calloc(1, sizeof(*x));
	if (!x)
		return fail(argv[0], -ENOMEM);
	x->s = s;
	x->a = a;
	x->io = (struct io){ .queue = session_queue(s), .offset = a.t.offset,
			     .buf = s->aio + s->aio_used,
			     .len = (size_t)a.t.len, .end = aio_end, .owner = x };
	if (write)
		fill(x->io.buf, x->io.len, a.t.pattern);
	while ((err = io_start(&x->io, write ? IO_WRITE : IO_READ)) == -EAGAIN) {
		err = session_turn(s);
		if (err)
			break;
	}
	if (err) {
		free(x);
		return fail(argv[0], err);
	}
	s->aio_used += (size_t)a.t.len;
	s->aio_open++;
	err = tapring_submit(x->io.queue);
	return err ? fail(argv[0], err) : IO_OK;
}

int cmd_aio_read(struct session *s, int argc, char **argv)
{
	return do_aio(s, argc, argv, false);
}

int cmd_aio_write(struct session *s, int argc, char **argv)
{
	return do_aio(s, argc, argv, true);
}

int cmd_aio_flush(struct session *s, int argc, char **argv)
{
	int err = session_drain(s), failed = s->aio_failed;

	(void)argc;
	s->aio_failed = 0;
	if (err)
		return fail(argv[0], err);
	return failed ? IO_FAILED : IO_OK;
}
