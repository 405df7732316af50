/* tap_img.h - what the commands of tap-img share.
 *
 *   main.c      the table of commands
 *   args.c      command lines: options and operands in any order, sizes, -o lists
 *   described.c --object and --image-opts
 *   env.c       loop, queue, workers: what drivers stand on, and waiting for them
 *   img.c       an open image, and one request to it at a time
 *   scan.c      walking through what is allocated in an image
 *   copy.c      copying one image into another, many requests at a time
 *   make.c      making an image (create, and the destination of convert)
 *   progress.c  -p and SIGUSR1
 *   the rest    one command a file
 *
 * A command is straight code that starts requests and waits for them by
 * env_wait(); completions run from the loop meanwhile.  Messages go through
 * log_err(); a driver's own td_err() is not repeated.
 */
#ifndef TAP_IMG_H
#define TAP_IMG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/opts.h"
#include "formats.h"
#include "node.h"

#define TAP_IMG "tap-img"

/* What every command may end with; some have more of their own. */
enum { ST_OK = 0, ST_FAILED = 1 };

struct command {
	const char *name;
	const char *usage;	/* operands */
	const char *help;
	const struct opt *table;
	/* argv[0] is the command's name. */
	int (*run)(const struct command *c, int argc, char **argv);
};
extern const struct command cmd_create, cmd_info, cmd_convert, cmd_resize, cmd_map,
	cmd_compare, cmd_measure, cmd_check, cmd_snapshot,
	cmd_rebase;

/* --- classic.c --- */

/* Other names of this program, each a command by itself; argv[0] is the name. */
struct classic {
	const char *name;
	int (*run)(int argc, char **argv);
};
const struct classic *classic_find(const char *argv0);	/* NULL: none of them */

/* --- args.c --- */

enum {
	OPT_OUTPUT = 300, OPT_OBJECT, OPT_IMAGE_OPTS, OPT_TARGET_IMAGE_OPTS,
	OPT_CHAIN, OPT_START, OPT_MAX, OPT_PREALLOC, OPT_SHRINK, OPT_SIZE,
	OPT_TARGET_ZERO, OPT_KEY_FILE, OPT_KEY_FD, OPT_SALVAGE, OPT_BITMAPS,
	OPT_SKIP_BROKEN,
};
#define OPTS_EVERY                                                        \
	{ OPT_OBJECT, "object", "secret,id=ID,file=FILE", "a key is in " \
	  "FILE, as it is; images are named by it in --image-opts" },    \
	{ OPT_HELP, "help", NULL, "show this text and exit" }, OPT_END
#define OPT_DESCRIBED_ROW                                                \
	{ OPT_IMAGE_OPTS, "image-opts", NULL, "images are described: "   \
	  "driver=FORMAT,file.filename=FILE,encrypt.key-secret=ID" }
#define OPTS_KEYS                                                                \
	{ OPT_KEY_FILE, "key-file", "FILE", "a key of an encrypted image is in "  \
	  "FILE; -: standard input" },                                           \
	{ OPT_KEY_FD, "key-fd", "N", "a key comes from descriptor N" }
#define OPT_JSON_ROW { OPT_OUTPUT, "output", "FORM", "human or json (human)" }
#define OPT_SHARE_ROW { 'U', "force-share", NULL, "look at an image that another " \
			"program uses" }
#define OPT_QUIET_ROW { 'q', "quiet", NULL, "say nothing but errors" }
#define OPT_PROGRESS_ROW { 'p', "progress", NULL, "show how far it is" }

/* Takes one option; ST_OK, or a status after log_err(). */
typedef int option_fn(void *to, int id, const char *value);

/* All options and operands, in any order.  *operands, counted by *n, is argv's.
 * -1: go on; else the status to end with (help was shown, or a mistake told). */
int args_parse(const struct command *c, int argc, char **argv, option_fn *fn,
	       void *to, char ***operands, int *n);
/* One log_err() that points to the help; ST_FAILED. */
int args_wrong(const struct command *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
int arg_output(const char *value, bool *json);
int arg_size(const char *what, const char *value, uint64_t *bytes);
int arg_number(const char *what, const char *value, unsigned min, unsigned max,
	       unsigned *v);

struct cache {
	bool direct;		/* O_DIRECT */
	bool unsafe;		/* nothing is flushed */
};
int arg_cache(const char *value, struct cache *c);

/* A list of -o NAME=VALUE,... of several times; a comma in a value is doubled. */
struct values {
	struct td_format_value *v;
	unsigned n;
	bool help;		/* -o help */
};
int values_add(struct values *l, const char *text);
/* Takes the value out of the list: NULL, or allocated. */
char *values_take(struct values *l, const char *name);
bool values_has(const struct values *l, const char *name);
void values_free(struct values *l);

/* "1.5 GiB", with three digits; buf of 32 bytes. */
const char *size_human(uint64_t bytes, char *buf);

/* --- described.c --- */

/* The value of an --object; it is changed, and kept.  ST_OK, or after log_err(). */
int object_add(char *text);
/* First of all: what --object's data= says is not to be seen in /proc/PID/cmdline. */
void objects_hide(int argc, char **argv);
/* An --object has that id, and is the first key, which is that of an image that is made?
 * ST_OK, or after log_err(). */
int secret_first(const char *id);
/* Of an image that is described: the number of the key that its word names, else 0. */
unsigned secret_of(const char *word);
/* If images are described (--image-opts): what *word says, as a name and a format.
 * ST_OK, or after log_err(). */
int image_word(bool described, char **word, const char **format);

/* --- env.c --- */

struct env_opts {
	bool share;		/* read-only images: no locks */
	bool described;		/* --image-opts */
};
extern struct env_opts env_opts;
int env_init(void);		/* ST_OK, or after log_err() */
void env_free(void);
/* A key of images, from a file or (NULL) a descriptor; ST_OK, or after log_err(). */
int env_key(const char *file, int fd);
/* The same of a file that has nothing else, or (NULL) of these bytes. */
int env_secret(const char *file, const void *data, size_t len);
/* Changes places with the first key, and, done again, back. */
void env_swap_key(unsigned n);
struct td_env *env_get(void);
void env_snapshot(const char *id);	/* images that are opened show it; NULL: none */
void env_wait(void);		/* run the loop until somebody calls ... */
void env_wake(void);
void env_sleep(uint64_t ns);	/* the loop runs meanwhile */

/* --- img.c --- */

enum img_flag {
	IMG_WRITE	= 1u << 0,
	IMG_DIRECT	= 1u << 1,
	IMG_PROBE	= 1u << 2,	/* no format given: look at its first bytes */
};
#define IMG_DEPTH 256u		/* requests to one image at a time */

struct img {
	const char *name;	/* as it was given */
	const char *format;	/* for people */
	const struct td_format_tool *tool;	/* NULL: a driver that has none */
	struct td_tree *tree;
	struct td_node *root;
	struct td_pool *pool;	/* requests, each with room for struct img_part */
	bool guessed;		/* raw for want of anything better */
};

struct img_part {
	struct iovec iov;
	void *owner;
	uint64_t at;
};

/* format NULL: raw, unless IMG_PROBE finds another one.  chain: specs of the
 * backing files; NULL: those that the image names.  0, or -errno after
 * log_err(). */
int img_open(struct img *im, const char *name, const char *format, unsigned flags);
/* The same, but what is open is the file of the image, as a store: for functions
 * of im->tool. */
int img_open_file(struct img *im, const char *name, const char *format,
		  unsigned flags);
int img_close(struct img *im);	/* also one that is not open */
uint64_t img_size(const struct img *im);
bool img_is_raw(const struct img *im);
bool img_is_device(const struct img *im);
/* What its space is handed out in.  Before requests are under way. */
uint32_t img_unit(struct img *im);
/* A request of the pool that has been filled and given to the image; NULL: all
 * are in use.  `done` must give it back by td_pool_put(). */
struct td_req *img_start(struct img *im, enum td_op op, unsigned flags, uint64_t off,
			 uint64_t len, void *buf, td_done_fn *done, void *owner);
/* One, waited for. */
int img_io(struct img *im, enum td_op op, unsigned flags, uint64_t off, uint64_t len,
	   void *buf);
int img_extents(struct img *im, unsigned flags, uint64_t off, uint64_t len,
		struct td_extents *x);
int img_resize(struct img *im, uint64_t size, unsigned flags);	/* TD_REQ_SHRINK */
/* The first bytes of a file and what they say: NULL: nothing that we know. */
int img_probe(const char *name, const struct td_format_tool **tool);

/* --- make.c --- */

/* A name in an image is seen from the image's folder.  Allocated. */
char *name_from_image(const char *image, const char *name);

/* --- snapshot.c --- */

void snapshots_print(const struct json_t *list);	/* NULL: nothing */
/* The id of a snapshot inside an image, by its id or name, or as
 * "snapshot.id=ID,snapshot.name=NAME".  Allocated; NULL after log_err(). */
char *snapshot_id(const char *image, const char *format, const char *which);

/* --- info.c --- */

/* "virtual-size", "filename", "format", ... of an image, which is opened only as
 * far as that needs.  NULL after log_err(). */
struct json_t *info_of(const char *name, const char *format);
uint64_t json_u64(const struct json_t *o, const char *name);	/* 0: not there */

/* --- scan.c --- */

#define SCAN_RUNS 128u
#define SCAN_SPAN (1ull << 30)	/* asked for at a time */

struct scan {
	struct img *im;
	unsigned flags;		/* TD_REQ_WHERE */
	uint64_t from;		/* of run `at` */
	unsigned at;
	struct td_extents x;
	struct td_extent v[SCAN_RUNS];
};
void scan_begin(struct scan *s, struct img *im, unsigned flags);
/* The run that `off` lies in, from there on, no longer than max; a run may be
 * told in pieces.  off never goes back.  Behind the image's end: zeroes. */
int scan_at(struct scan *s, uint64_t off, uint64_t max, struct td_extent *e);

/* --- copy.c --- */

struct copy {
	struct img *src;	/* one after another */
	unsigned n_src;
	struct img *dst;
	uint64_t size;		/* bytes to copy; the sources' sum or less */
	unsigned jobs;		/* at a time */
	bool ordered;		/* writes start in the order of the disk */
	uint32_t unit;		/* of the destination's space; a power of two */
	bool pack;		/* units are written compressed */
	uint32_t grain;		/* zeroes are looked for in pieces of that many
				 * bytes; 0: everything is written */
	bool dst_zero;		/* dst reads as zeroes already */
	bool differ;		/* what dst has already is not written */
	bool salvage;		/* what cannot be read is zeroes ... */
	bool quiet;		/* ... and nothing is said of it */
	uint64_t rate;		/* bytes of data a second; 0: as it goes */
};
/* 0, or -errno after log_err(). */
int copy_run(struct copy *c);
bool is_zero(const void *buf, size_t len);

/* --- make.c --- */

struct make {
	const char *name, *format;
	const char *backing, *backing_format;	/* -b, -F */
	struct values values;		/* -o */
	bool quiet;
	bool backing_unseen;		/* the backing file need not be there */
	uint64_t size;			/* of the disk */
	bool has_size;
	bool size_found;		/* and not said */
	/* make_check() finds: */
	const struct td_format_tool *tool;
	const char *space;		/* preallocation of a raw image, or NULL */
	char *taken[5];			/* make_free() gives them back */
};
/* Looks at format, options, backing file and size; ST_OK, ST_FAILED after
 * log_err(), or -1: it was a question (-o help) and has been answered. */
int make_check(struct make *m);
/* Makes the file (what is there is overwritten when no other program uses it) and
 * the image in it.  0, or -errno after log_err(). */
int make_image(struct make *m);
void make_free(struct make *m);
/* Reserve or write out [from, to), which reads as zeroes; mode: off, metadata (not of a
 * raw image), falloc, full. */
int make_space(struct img *im, const char *mode, uint64_t from, uint64_t to);
int space_mode(const char *mode, bool raw);	/* ST_OK, or after log_err() */

/* --- progress.c --- */

void progress_begin(uint64_t total, bool show);
void progress_add(uint64_t done);
void progress_end(bool complete);
void progress_signal(void);	/* somebody asks */

#endif
