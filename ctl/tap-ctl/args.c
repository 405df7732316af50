/* args.c - from a command line to a struct call, by the verb's row.
 *
 * Knows nothing of single verbs.  What an option takes is told by the `arg` of
 * its row; numbers are strict: no sign, no blank, nothing behind them.
 */
#include "tap-ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/rundir.h"
#include "base/size.h"

#define TIMEOUT_MAX 86400u	/* a day */

/* The daemon should be the one that gives up: it undoes what it has begun, and
 * knows more.  -t is for the step that does I/O; others, and what is ahead of
 * us in a disk's queue, take their time as well. */
#define PATIENCE_S 300u
#define PATIENCE_MORE_S 60u

int parse_minor(const char *s, int32_t *minor)
{
	const char *slash = strrchr(s, '/');
	char path[128];
	uint64_t v;

	/* What allocate and create print names the disk as well: scripts that
	 * know another prefix than ours pass it on as it is. */
	if (slash && !strncmp(slash, "/tapdisk-", 9)) {
		int err = uint_parse(slash + 9, TAP_MINOR_MAX - 1, &v);

		if (err)
			return err;
		if (strcmp(s, marker_path((int32_t)v, path, sizeof(path))) &&
		    strcmp(s, run_path(RUN_MARKER, (int)v, path, sizeof(path))))
			return -EINVAL;
	} else {
		int err = uint_parse(s, TAP_MINOR_MAX - 1, &v);

		if (err)
			return err;
	}
	*minor = (int32_t)v;
	return 0;
}

static const struct opt *find_opt(const struct opt *t, int id)
{
	while (t->id != id)
		t++;
	return t;
}

static int take_value(struct call *c, const struct opt *t, const char *value)
{
	uint64_t v;

	if (!t->help) {
		/* As tapdisk3 spells it; it has short options alone. */
		fprintf(stderr, "%s %s: option -%c is not supported\n", TAPCTL,
			c->verb->name, t->id);
		return -EOPNOTSUPP;
	}
	c->value[t->id] = t->arg ? value : "";
	if (!t->arg)
		return 0;
	if (!strcmp(t->arg, "MINOR") && parse_minor(value, &c->minor))
		return call_usage(c, "'%s' is not a minor (0 to %d)", value,
				  TAP_MINOR_MAX - 1);
	if (!strcmp(t->arg, "PID")) {
		if (uint_parse(value, INT_MAX, &v) || !v)
			return call_usage(c, "'%s' is not a pid", value);
		c->pid = (int32_t)v;
	}
	if (!strcmp(t->arg, "SECS")) {
		if (uint_parse(value, TIMEOUT_MAX, &v))
			return call_usage(c, "'%s' is not a time-out in seconds "
					     "(0 to %u)", value, TIMEOUT_MAX);
		c->timeout = (uint32_t)v;
	}
	return 0;
}

/* --key-file and --key-fd. */
static int take_key(struct call *c, int id, const char *value)
{
	struct key_source *s = &c->keys[c->n_keys];
	uint64_t fd;

	if (c->n_keys == TAP_KEYS_MAX)
		return call_usage(c, "more than %u keys", TAP_KEYS_MAX);
	*s = (struct key_source){ .file = value };
	if (id == CTL_OPT_KEY_FD) {
		/* Nothing of ours is open yet that could have that number. */
		if (uint_parse(value, INT_MAX, &fd) ||
		    fcntl((int)fd, F_GETFD) < 0)
			return call_usage(c, "'%s' is not an open descriptor",
					  value);
		*s = (struct key_source){ .fd = (int)fd };
	}
	c->n_keys++;
	return 0;
}

/* The options up to the first operand; -h and --version are for the caller. */
static int take_options(struct call *c, struct opts *o, bool *help)
{
	int id, err;

	while ((id = opts_next(o)) != OPT_DONE) {
		switch (id) {
		case OPT_BAD:
			return -EINVAL;
		case OPT_HELP:
			*help = true;
			break;
		case OPT_VERSION:
			c->value[OPT_VERSION] = "";
			break;
		case OPT_RUNDIR:
			if (rundir_set(o->value))
				return call_usage(c, "bad run directory '%s': "
						  "want an absolute path of at "
						  "most %d bytes", o->value,
						  RUNDIR_MAX);
			break;
		case CTL_OPT_JSON:
			c->json = true;
			break;
		case CTL_OPT_KEY_FILE:
		case CTL_OPT_KEY_FD:
			err = take_key(c, id, o->value);
			if (err)
				return err;
			break;
		case CTL_OPT_BACKING:
			if (c->n_backing == BACKING_MAX)
				return call_usage(c, "more than %u --backing",
						  BACKING_MAX);
			c->backing[c->n_backing++] = o->value;
			break;
		default:
			err = take_value(c, find_opt(c->verb->opts, id), o->value);
			if (err)
				return err;
		}
	}
	return 0;
}

static int check_need(const struct call *c)
{
	for (const char *n = c->verb->need; n && *n; n++) {
		const struct opt *t = find_opt(c->verb->opts, *n);

		if (!c->value[t->id])
			return call_usage(c, "-%c %s is missing", t->id, t->arg);
	}
	return 0;
}

/* Options may stand behind an operand as well: each round takes options up to
 * an operand, which is argv[0] of the next round. */
int call_parse(struct call *c, int argc, char **argv, bool *help)
{
	char prog[64];
	struct opts o;
	int err;

	snprintf(prog, sizeof(prog), "%s %s", TAPCTL, c->verb->name);
	for (;;) {
		opts_init(&o, c->verb->opts, prog, argc, argv);
		err = take_options(c, &o, help);
		opts_free(&o);
		if (err || *help || c->value[OPT_VERSION])
			return err;
		argc -= o.next;
		argv += o.next;
		if (!argc)
			break;
		if (!c->operand && c->verb->operand)
			c->operand = argv[0];
		else if (c->n_more < c->verb->n_more)
			c->more[c->n_more++] = argv[0];
		else
			return call_usage(c, "'%s' is too much", argv[0]);
	}
	c->patience = c->timeout ? c->timeout + PATIENCE_MORE_S : PATIENCE_S;
	return check_need(c);
}
