/* options.c - see options.h. */
#include "filters/options.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

static const char *const op_names[] = {
	[TD_OP_READ] = "read", [TD_OP_WRITE] = "write", [TD_OP_FLUSH] = "flush",
	[TD_OP_DISCARD] = "discard", [TD_OP_ZEROES] = "zeroes",
	[TD_OP_EXTENTS] = "extents",
};

const char *op_name(enum td_op op)
{
	return op < ARRAY_SIZE(op_names) ? op_names[op] : "?";
}

int op_parse(const char *name, unsigned *ops)
{
	if (!strcmp(name, "all")) {
		*ops |= (1u << ARRAY_SIZE(op_names)) - 1;
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(op_names); i++)
		if (!strcmp(name, op_names[i])) {
			*ops |= 1u << i;
			return 0;
		}
	return -EINVAL;
}

static int set_one(const struct option *table, void *into, const char *s,
		   size_t len)
{
	const char *eq = memchr(s, '=', len);
	size_t key = eq ? (size_t)(eq - s) : len;
	char value[OPTION_MAX];

	if (!eq || len - key > sizeof(value))
		return -EINVAL;
	memcpy(value, eq + 1, len - key - 1);
	value[len - key - 1] = '\0';
	for (const struct option *o = table; o->key; o++)
		if (strlen(o->key) == key && !memcmp(o->key, s, key))
			return o->set(into, value);
	return -EINVAL;
}

int options_parse(const struct td_node *n, const struct option *table,
		  void *into)
{
	const char *s = n->arg;

	while (*s) {
		size_t len = strcspn(s, ",");

		if (set_one(table, into, s, len)) {
			td_err(n, "bad option '%.*s': %s", (int)len, s,
			       n->driver->help);
			return -EINVAL;
		}
		s += len + (s[len] == ',');
	}
	return 0;
}
