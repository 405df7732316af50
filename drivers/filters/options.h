/* options.h - "key=value,key=value", the options of a filter. */
#ifndef FILTERS_OPTIONS_H
#define FILTERS_OPTIONS_H

#include "td_driver.h"

#define OPTION_MAX 32		/* bytes of a key or a value, with the NUL */

struct option {
	const char *key;
	/* 0 or -errno; a refusal is told by the caller, with the help text. */
	int (*set)(void *into, const char *value);
};

/* Give each option of n->arg to its `set`.  0, or -EINVAL after one td_err().
 * The table ends with a NULL key. */
int options_parse(const struct td_node *n, const struct option *table,
		  void *into);

/* An operation's name ("read", "write", ...); "?" if it has none. */
const char *op_name(enum td_op op);
/* A name, or "all", to bits 1 << TD_OP_*, added to *ops.  0 or -EINVAL. */
int op_parse(const char *name, unsigned *ops);

#endif
