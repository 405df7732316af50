/* rundir.c - see rundir.h. */
#include "base/rundir.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

static char dir[RUNDIR_MAX + 1] = RUNDIR_DEFAULT;

int rundir_set(const char *option)
{
	const char *d = option;
	size_t len;

	if (!d)
		d = getenv(RUNDIR_ENV);
	if (!d)
		d = RUNDIR_DEFAULT;
	if (d[0] != '/')
		return -EINVAL;
	len = strlen(d);
	while (len > 1 && d[len - 1] == '/')
		len--;
	if (len > RUNDIR_MAX)
		return -ENAMETOOLONG;
	memcpy(dir, d, len);
	dir[len] = '\0';
	return 0;
}

const char *rundir(void)
{
	return dir;
}

bool rundir_is_default(void)
{
	return !strcmp(dir, RUNDIR_DEFAULT);
}

static const struct {
	const char *prefix, *suffix;	/* of the number; suffix NULL: it has none */
} names[RUN_NAMES] = {
	[RUN_LOCK]	 = { "lock", NULL },
	[RUN_CTL]	 = { "ctl.sock", NULL },
	[RUN_PIPE_WRITE] = { "tapctrlwrite", "" },
	[RUN_PIPE_READ]	 = { "tapctrlread", "" },
	[RUN_FD]	 = { "tapfd", ".sock" },
	[RUN_RING]	 = { "ring", ".sock" },
	[RUN_NBD]	 = { "nbd", ".sock" },
	[RUN_MARKER]	 = { "tapdisk-", "" },
	[RUN_JOURNAL]	 = { "journal", "" },
	[RUN_REDO]	 = { "redo", "" },
	[RUN_MEMO]	 = { "disk", "" },
	[RUN_MEMO_NEW]	 = { "disk", ".new" },
};

const char *run_path(enum run_name what, int n, char *buf, size_t len)
{
	const char *prefix = names[what].prefix, *suffix = names[what].suffix;

	if (suffix)
		snprintf(buf, len, "%s/%s%d%s", dir, prefix, n, suffix);
	else
		snprintf(buf, len, "%s/%s", dir, prefix);
	return buf;
}

int run_number(enum run_name what, const char *file)
{
	const char *prefix = names[what].prefix, *suffix = names[what].suffix;
	size_t len = strlen(file), p = strlen(prefix), s = suffix ? strlen(suffix) : 0;
	char digits[16];
	uint64_t v;

	if (!suffix || len <= p + s || len - p - s >= sizeof(digits) ||
	    strncmp(file, prefix, p) || strcmp(file + len - s, suffix))
		return -1;
	memcpy(digits, file + p, len - p - s);
	digits[len - p - s] = '\0';
	/* One spelling a number: "007" is none of ours. */
	if ((digits[0] == '0' && digits[1]) || uint_parse(digits, INT_MAX, &v))
		return -1;
	return (int)v;
}
