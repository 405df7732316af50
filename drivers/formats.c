/* formats.c - the one list of formats that tools know. */
#include "formats.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "drivers.h"

extern const struct td_format_tool td_raw_tool, td_qcow2_tool, td_qcow_tool,
	td_vmdk_tool, td_luks_tool;

const struct td_format_tool *const td_format_tools[] = {
	&td_raw_tool, &td_qcow2_tool, &td_qcow_tool, &td_vmdk_tool,
	&td_luks_tool, NULL
};

const struct td_format_tool *td_format_find(const char *name)
{
	const struct td_driver *d = td_driver_find(name, strlen(name));

	for (const struct td_format_tool *const *t = td_format_tools; *t; t++)
		if (!strcmp((*t)->name, name) || (d && (*t)->driver == d))
			return *t;
	return NULL;
}

const struct td_format_tool *td_format_probe(const void *head, size_t len)
{
	for (const struct td_format_tool *const *t = td_format_tools; *t; t++)
		if ((*t)->probe && (*t)->probe(head, len))
			return *t;
	return NULL;
}

const char *td_format_value(const struct td_format_opt *opts,
			    const struct td_format_make *m, const char *name)
{
	for (unsigned i = 0; i < m->n_values; i++)
		if (!strcmp(m->values[i].name, name))
			return m->values[i].value;
	for (; opts->name; opts++)
		if (!strcmp(opts->name, name))
			return opts->def;
	return NULL;
}

void td_check_say(struct td_check *c, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	c->say(c->arg, line);
}
