/* tap-ctl.h - what the files of tap-ctl share.
 *
 * verbs.c holds the one table: names, help, options, function.  main.c finds
 * the row and reads the command line into a struct call, by the table; the
 * row's function asks the daemon (client.c) and prints (print.c).
 *
 * Every function answers 0 or -errno, and whoever answers -errno has said why
 * on stderr, in one line.  main() makes the exit code of it.
 */
#ifndef TAP_CTL_H
#define TAP_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/opts.h"
#include "msg.h"

#define TAPCTL "tap-ctl"

/* Option ids beyond the letters and OPT_COMMON's. */
enum { CTL_OPT_JSON = 300, CTL_OPT_DEBUG, CTL_OPT_BACKING,
       CTL_OPT_KEY_FILE, CTL_OPT_KEY_FD, CTL_OPT_NR };

#define BACKING_MAX 256
#define OPERANDS_MORE 3

struct call;

struct verb {
	const char *name;
	const char *args;	/* of the usage line */
	const char *help;	/* one line */
	const char *more;	/* paragraphs of `VERB --help`, or NULL */
	const char *act;	/* "cannot ACT: reason"; NULL: the name */
	/* What an option takes is known by its `arg`: PID, MINOR and SECS are
	 * checked numbers.  One without help is tapdisk3's and refused. */
	const struct opt *opts;
	const char *need;	/* letters of the options that must be there */
	bool operand;		/* one may follow */
	unsigned n_more;	/* and so many behind it */
	uint16_t ask;		/* TAP_CTL_* */
	int (*run)(struct call *c);
};

extern const struct verb ctl_verbs[];	/* ends with a NULL name */

/* Where a key comes from. */
struct key_source {
	const char *file;	/* NULL: fd */
	int fd;
};

/* A command line, understood. */
struct call {
	const struct verb *verb;
	const char *value[CTL_OPT_NR];	/* by option id; "" without a value */
	const char *operand;	/* or NULL */
	const char *more[OPERANDS_MORE];	/* those behind it */
	unsigned n_more;
	const char *backing[BACKING_MAX];	/* --backing, in order */
	unsigned n_backing;
	struct key_source keys[TAP_KEYS_MAX];	/* --key-file, --key-fd, in order */
	unsigned n_keys;
	int32_t pid, minor;	/* -1: not given */
	uint32_t timeout;	/* seconds, 0: not given */
	uint32_t patience;	/* seconds that an answer may take */
	const char *node;	/* open, create: XENBUS_PATH of a hotplug script, or NULL */
	bool json;
	bool quiet;		/* failures are expected: say nothing */
};

/* client.c */
typedef int reply_fn(void *arg, const struct msg *m);
/* One request and its answers, each given to `fn`, which may be NULL. */
int ask(const struct call *c, const char *text, uint64_t size, reply_fn *fn,
	void *arg);
/* Answers about minor[i]: parts (TAP_MORE in m) and the last; or err and no m, of
 * which nothing has been told. */
typedef void each_fn(void *arg, unsigned i, int err, const struct msg *m);
/* The same request about each of n disks, in order of minor[] and all at once: it takes
 * as long as the slowest.  Each is told of to fn until it has had its last answer. */
int ask_each(const struct call *c, const int32_t *minor, unsigned n, each_fn *fn,
	     void *arg);

/* image.c */
/* What the daemon is told of -a and --backing, a line each ("" without -a), in
 * text, which has TAP_TEXT_MAX + 1 bytes. */
int image_text(const struct call *c, char *text);
/* The same of another image than -a's. */
int image_text_of(const struct call *c, const char *image, char *text);
/* An open or create by a hotplug script: its node before that text.  The daemon reads in
 * it what the script does not pass on, and closes the disk when nobody needs it. */
void image_by_script(struct call *c, char *text);

/* keys.c */
struct keys;
/* The keys that the command line names; wiped again if one cannot be had. */
int keys_get(const struct call *c, struct keys *k);

/* print.c */

/* One disk as the daemon tells it. */
struct disk {
	int32_t pid, minor;	/* -1: none */
	uint32_t state, flags;	/* TAP_ST_*, TAP_OPEN_* */
	struct tap_img img;	/* zeroes unless open */
	uint32_t restarts;	/* of its tapdisk */
	char last[sizeof(((struct tap_disk *)0)->last)];	/* why, the last time */
	char spec[TAP_TEXT_MAX + 1];	/* the first line */
	const char *backing;	/* in spec's room: the others; NULL: none were given */
	char type[64];		/* of the store, without the filters above it */
	const char *path;	/* in spec; what follows the store's "TYPE:" */
};

int disk_parse(struct disk *k, const struct msg *m);
/* The state's word: "running", "paused", ... */
const char *disk_state(const struct disk *k);
/* tapdisk3's two lines, byte for byte. */
void disk_row(const struct disk *k, FILE *to);
void disk_line(const struct disk *k, FILE *to);
json_t *disk_json(const struct disk *k);
/* What tapdisk3 prints for a minor: the path of its marker. */
const char *marker_path(int32_t minor, char *buf, size_t len);

/* A text that came from elsewhere, with nothing in it that moves a cursor. */
void print_clean(const char *s, FILE *to);
json_t *text_json(const char *s);	/* also if it is not UTF-8 */
int print_json(json_t *j);		/* and give it back */
/* {} or the object that names the call's disk, if --json was given. */
int print_done(const struct call *c);

/* "tap-ctl: disk 3: cannot pause: REASON"; answers err. */
int call_fail(const struct call *c, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same, in the daemon's words, which name all three; answers err. */
int call_refused(const struct call *c, int err, const char *words);
/* "tap-ctl pause: REASON; see 'tap-ctl pause --help'"; answers -EINVAL. */
int call_usage(const struct call *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* args.c */
int call_parse(struct call *c, int argc, char **argv, bool *help);
int parse_minor(const char *s, int32_t *minor);

/* The verbs' functions. */
int run_list(struct call *c);		/* list.c */
int run_allocate(struct call *c);	/* create.c */
int run_spawn(struct call *c);
int run_create(struct call *c);
int run_plain(struct call *c);		/* disk.c */
int run_info(struct call *c);		/* info.c */
int run_resize(struct call *c);
int run_stats(struct call *c);		/* stats.c */
int run_check(struct call *c);		/* daemon.c */
int run_version(struct call *c);
int run_debug(struct call *c);
int run_shutdown(struct call *c);
int run_major(struct call *c);
int run_xen_attach(struct call *c);	/* xen.c */
int run_xen_detach(struct call *c);
int run_xen_list(struct call *c);

#endif
