/* opts.h - one table of options is the parser (getopt_long), the help text and
 * what the documentation test compares man pages and completion with. */
#ifndef BASE_OPTS_H
#define BASE_OPTS_H

#include <stdbool.h>
#include <stdio.h>

struct opt {
	int id;			/* what opts_next() returns; its short letter, or
				 * >= 256 where there is none */
	const char *name;	/* long name, or NULL */
	const char *arg;	/* what it takes, for the help text; NULL: nothing */
	const char *help;	/* one line; NULL: not shown */
};

#define OPT_END { 0, NULL, NULL, NULL }
enum { OPT_BAD = -2, OPT_DONE = -1 };

/* Options that every program has. */
enum { OPT_HELP = 'h', OPT_VERSION = 256, OPT_RUNDIR = 257 };
#define OPT_COMMON                                                           \
	{ OPT_RUNDIR, "rundir", "DIR",                                       \
	  "run directory (BLKTAP_RUNDIR, /var/run/tap)" },                   \
	{ OPT_HELP, "help", NULL, "show this text and exit" },               \
	{ OPT_VERSION, "version", NULL, "show the version and exit" }

struct opts {
	const struct opt *table;
	int argc;
	char **argv;
	const char *prog;	/* for messages: "tap-ctl create" */
	const char *value;	/* of the option that was returned */
	int next;		/* first operand, once OPT_DONE was returned */
	/* private: */
	void *lopts;
	char *sopts;
};

void opts_init(struct opts *o, const struct opt *table, const char *prog,
	       int argc, char **argv);
/* An id, OPT_DONE, or OPT_BAD after one line on stderr. */
int opts_next(struct opts *o);
void opts_free(struct opts *o);
/* The table, a line an option, aligned. */
void opts_help(const struct opt *table, FILE *to);

#endif
