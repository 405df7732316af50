/* args.c - command lines. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"
#include "tap_img.h"

static void help(const struct command *c)
{
	printf("usage: %s %s [OPTIONS] %s\n\n%s\n\n", TAP_IMG, c->name, c->usage,
	       c->help);
	opts_help(c->table, stdout);
}

/* Options that mean the same everywhere. */
static int option(const struct command *c, option_fn *fn, void *to, int id,
		  const char *value)
{
	unsigned fd;

	switch (id) {
	case OPT_KEY_FILE:
		return env_key(value, -1) ? ST_FAILED : -1;
	case OPT_KEY_FD:
		if (arg_number("--key-fd", value, 0, INT32_MAX, &fd))
			return ST_FAILED;
		return env_key(NULL, (int)fd) ? ST_FAILED : -1;
	case OPT_HELP:
		help(c);
		return ST_OK;
	case OPT_OBJECT:
		return object_add((char *)value) ? ST_FAILED : -1;
	case OPT_IMAGE_OPTS:
		env_opts.described = true;
		return -1;
	default:
		id = fn(to, id, value);
		return id == ST_OK ? -1 : id;
	}
}

int args_parse(const struct command *c, int argc, char **argv, option_fn *fn,
	       void *to, char ***operands, int *n)
{
	char prog[64];
	struct opts o;
	int st = -1, left = argc;

	snprintf(prog, sizeof(prog), "%s %s", TAP_IMG, c->name);
	opts_init(&o, c->table, prog, argc, argv);
	while (st < 0) {
		int id = opts_next(&o);

		if (id == OPT_BAD) {
			st = ST_FAILED;
		} else if (id != OPT_DONE) {
			st = option(c, fn, to, id, o.value);
		} else if (o.next >= left || (o.next > 0 && o.next < argc &&
					      !strcmp(argv[o.next - 1], "--"))) {
			break;
		} else {		/* an operand: to the end with it */
			char *p = argv[o.next];

			memmove(argv + o.next, argv + o.next + 1,
				(size_t)(argc - o.next - 1) * sizeof(*argv));
			argv[argc - 1] = p;
			o.argc = --left;
		}
	}
	*operands = argv + o.next;
	*n = argc - o.next;
	opts_free(&o);
	return st;
}

int args_wrong(const struct command *c, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_err("%s: %s; see '%s %s --help'", c->name, text, TAP_IMG, c->name);
	return ST_FAILED;
}

int arg_output(const char *value, bool *json)
{
	*json = !strcmp(value, "json");
	if (*json || !strcmp(value, "human"))
		return ST_OK;
	log_err("bad value for --output: '%s': want human or json", value);
	return ST_FAILED;
}

int arg_size(const char *what, const char *value, uint64_t *bytes)
{
	int err = size_parse(value, bytes);

	if (!err && *bytes <= INT64_MAX)
		return ST_OK;
	log_err("bad %s '%s': want bytes, or a number (1, 1.5) with k, M, G, T, P or E%s",
		what, value, err == -EINVAL ? "" : ", below 8 EiB");
	return ST_FAILED;
}

int arg_number(const char *what, const char *value, unsigned min, unsigned max,
	       unsigned *v)
{
	uint64_t n;

	if (uint_parse(value, max, &n) || n < min) {
		log_err("bad %s '%s': want %u to %u", what, value, min, max);
		return ST_FAILED;
	}
	*v = (unsigned)n;
	return ST_OK;
}

int arg_cache(const char *value, struct cache *c)
{
	static const struct {
		const char *name;
		struct cache is;
	} mode[] = {
		{ "none", { .direct = true } },
		{ "directsync", { .direct = true } },
		{ "writeback", { 0 } },
		{ "writethrough", { 0 } },
		{ "unsafe", { .unsafe = true } },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(mode); i++) {
		if (!strcmp(mode[i].name, value)) {
			*c = mode[i].is;
			return ST_OK;
		}
	}
	log_err("bad cache mode '%s': want none, directsync, writeback, writethrough "
		"or unsafe", value);
	return ST_FAILED;
}

/* -o lists. */

/* Up to the next single comma; *s is moved behind it.  Allocated. */
static char *list_word(const char **s)
{
	char *w = malloc(strlen(*s) + 1), *p = w;

	ASSERT(w);
	while (**s) {
		if (**s == ',' && *++*s != ',')
			break;
		*p++ = *(*s)++;
	}
	*p = '\0';
	return w;
}

int values_add(struct values *l, const char *text)
{
	while (*text) {
		char *w = list_word(&text), *eq = strchr(w, '=');

		if (!strcmp(w, "help") || !strcmp(w, "?")) {
			l->help = true;
			free(w);
			continue;
		}
		if (eq)
			*eq = '\0';
		free(values_take(l, w));	/* the last one counts */
		l->v = realloc(l->v, (l->n + 1) * sizeof(*l->v));
		ASSERT(l->v);
		l->v[l->n].name = w;
		l->v[l->n++].value = strdup(eq ? eq + 1 : "on");
	}
	return ST_OK;
}

char *values_take(struct values *l, const char *name)
{
	for (unsigned i = 0; i < l->n; i++) {
		char *v = (char *)l->v[i].value;

		if (strcmp(l->v[i].name, name))
			continue;
		free((char *)l->v[i].name);
		memmove(l->v + i, l->v + i + 1, (--l->n - i) * sizeof(*l->v));
		return v;
	}
	return NULL;
}

bool values_has(const struct values *l, const char *name)
{
	for (unsigned i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].name, name))
			return true;
	return false;
}

void values_free(struct values *l)
{
	while (l->n) {
		free((char *)l->v[--l->n].name);
		free((char *)l->v[l->n].value);
	}
	free(l->v);
	l->v = NULL;
}

const char *size_human(uint64_t bytes, char *buf)
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB",
					    "EiB" };
	double v = (double)bytes;
	unsigned i = 0;

	/* 1000 of a unit are the next one's: three digits always do. */
	for (; v >= 999.5 && i + 1 < ARRAY_SIZE(unit); i++)
		v /= 1024;
	snprintf(buf, 32, "%0.3g %s", v, unit[i]);
	return buf;
}
