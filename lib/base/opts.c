/* opts.c - see opts.h. */
#include "base/opts.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

void opts_init(struct opts *o, const struct opt *table, const char *prog,
	       int argc, char **argv)
{
	struct option *l;
	size_t n = 0, s = 0;

	while (table[n].id)
		n++;
	*o = (struct opts){ .table = table, .argc = argc, .argv = argv,
			    .prog = prog };
	l = calloc(n + 1, sizeof(*l));
	o->sopts = calloc(1, 2 * n + 3);
	if (!l || !o->sopts)
		abort();
	/* '+': stop at the first operand; ':': tell a missing value apart. */
	o->sopts[s++] = '+';
	o->sopts[s++] = ':';
	for (size_t i = 0, k = 0; i < n; i++) {
		if (table[i].name)
			l[k++] = (struct option){
				.name = table[i].name,
				.has_arg = table[i].arg != NULL,
				.val = table[i].id,
			};
		if (table[i].id < 256) {
			o->sopts[s++] = (char)table[i].id;
			if (table[i].arg)
				o->sopts[s++] = ':';
		}
	}
	o->lopts = l;
	optind = 0;	/* glibc: start afresh */
	opterr = 0;
}

int opts_next(struct opts *o)
{
	int c = getopt_long(o->argc, o->argv, o->sopts, o->lopts, NULL);
	const char *what;

	o->value = optarg;
	o->next = optind;
	if (c == -1)
		return OPT_DONE;
	if (c != '?' && c != ':')
		return c;
	what = o->argv[optind > 0 ? optind - 1 : 0];
	if (c == ':')
		fprintf(stderr, "%s: option '%s' needs a value; see '%s --help'\n",
			o->prog, what, o->prog);
	else if (optopt && optopt < 256)
		fprintf(stderr, "%s: unknown option '-%c'; see '%s --help'\n",
			o->prog, optopt, o->prog);
	else
		fprintf(stderr, "%s: bad option '%s'; see '%s --help'\n", o->prog,
			what, o->prog);
	return OPT_BAD;
}

void opts_free(struct opts *o)
{
	free(o->lopts);
	free(o->sopts);
}

void opts_help(const struct opt *t, FILE *to)
{
	for (; t->id; t++) {
		char left[64];
		int n = 0;

		if (!t->help)
			continue;
		if (t->id < 256)
			n += snprintf(left + n, sizeof(left) - n, "-%c%s", t->id,
				      t->name ? ", " : "");
		else
			n += snprintf(left + n, sizeof(left) - n, "    ");
		if (t->name)
			n += snprintf(left + n, sizeof(left) - n, "--%s", t->name);
		if (t->arg)
			snprintf(left + n, sizeof(left) - n, " %s", t->arg);
		fprintf(to, "  %-28s %s\n", left, t->help);
	}
}
