/* rundir.c - see rundir.h. */
#include "base/rundir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

const char *run_path(enum run_name what, int n, char *buf, size_t len)
{
	static const char *const fmt[] = {
		[RUN_LOCK]	 = "%s/lock",
		[RUN_CTL]	 = "%s/ctl.sock",
		[RUN_PIPE_WRITE] = "%s/tapctrlwrite%d",
		[RUN_PIPE_READ]	 = "%s/tapctrlread%d",
		[RUN_FD]	 = "%s/tapfd%d.sock",
		[RUN_RING]	 = "%s/ring%d.sock",
		[RUN_NBD]	 = "%s/nbd%d.sock",
		[RUN_MARKER]	 = "%s/tapdisk-%d",
		[RUN_JOURNAL]	 = "%s/journal%d",
		[RUN_REDO]	 = "%s/redo%d",
		[RUN_MEMO]	 = "%s/disk%d",
		[RUN_MEMO_NEW]	 = "%s/disk%d.new",
	};

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(buf, len, fmt[what], dir, n);
#pragma GCC diagnostic pop
	return buf;
}
