/* tap_io.h - what the files of tap-io share: the session with a disk, and the
 * engine that keeps requests in flight on its queues. */
#ifndef TAP_IO_H
#define TAP_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tapring.h"

#define TAP_IO "tap-io"

/* Exit codes; tap-io(1) documents them. */
enum { IO_OK = 0, IO_FAILED = 1, IO_USAGE = 2 };

struct io;
typedef void io_end_fn(struct io *io, int err);

/* One request; its owner's until started, the engine's until `end` runs. */
struct io {
	struct tapring_queue *queue;
	uint64_t offset;
	char *buf;		/* in the data area */
	size_t len;
	int err;
	io_end_fn *end;
	void *owner;
	struct io *next;
};

struct session {
	struct tapring *ring;
	struct tapring_info info;
	bool rdonly;
	unsigned next_queue;
	size_t max_request;	/* bytes, from a page-aligned buffer */
	/* The data area: the first half for asynchronous commands, the second
	 * for those that wait. */
	char *aio, *sync;
	size_t half;
	size_t aio_used;
	unsigned aio_open;	/* asynchronous commands not ended */
	int aio_failed;
	bool quit;
};

/* engine.c */

/* Queues take turns. */
struct tapring_queue *session_queue(struct session *s);
/* What the request functions of tapring.h return for it; io is the cookie. */
int io_start(struct io *io, uint8_t op);
enum { IO_READ, IO_WRITE, IO_FLUSH, IO_BARRIER, IO_DISCARD };
int io_startv(struct io *io, uint8_t op, const struct iovec *iov, unsigned n);
/* Show the disk what was started; run `end` of what has been answered, waiting
 * for at least one answer if any is due.  0 or -errno: the disk has gone. */
int session_turn(struct session *s);
/* Turns until nothing is in flight. */
int session_drain(struct session *s);

/* One request, waited for; a barrier writes s->sync.  0 or -errno. */
int session_one(struct session *s, uint8_t op, uint64_t offset, size_t len);

/* What a read or write command does, in as many requests as it takes. */
struct transfer {
	bool write;
	uint64_t offset, len;
	bool has_pattern;
	uint8_t pattern;	/* written, or expected */
	bool dump;
};
/* 0; -errno of the first request that failed; -EILSEQ: not the pattern, which
 * has been said. */
int transfer(struct session *s, const struct transfer *t);

/* rw.c and verify.c */
void fill(char *buf, size_t len, uint8_t pattern);
/* The first byte that is not the pattern, or len. */
size_t differs(const char *buf, size_t len, uint8_t pattern);
/* IO_FAILED, with a message, if the session may not write. */
int refuse_write(const struct session *s, const char *cmd);
void hex_dump(const char *buf, size_t len, uint64_t offset);

/* A command: argv[0] is its name.  IO_*. */
struct command {
	const char *name;
	const char *args;
	const char *help;
	int (*run)(struct session *s, int argc, char **argv);
};
extern const struct command commands[];
int cmd_read(struct session *s, int argc, char **argv);
int cmd_write(struct session *s, int argc, char **argv);
int cmd_aio_read(struct session *s, int argc, char **argv);
int cmd_aio_write(struct session *s, int argc, char **argv);
int cmd_aio_flush(struct session *s, int argc, char **argv);
int cmd_verify(struct session *s, int argc, char **argv);

/* Runs a line: IO_*.  An empty one or a comment does nothing. */
int run_line(struct session *s, const char *line);

/* Says why a command failed: "tap-io: WHAT: strerror". */
int fail(const char *what, int err);
/* "write: bad offset 'x'": IO_FAILED. */
int bad_arg(const char *cmd, const char *what, const char *value);
/* A size that is a multiple of 512; false after a message. */
bool get_bytes(const char *cmd, const char *what, const char *s, uint64_t *v);
bool get_number(const char *cmd, const char *what, const char *s, uint64_t max,
		uint64_t *v);

#endif
