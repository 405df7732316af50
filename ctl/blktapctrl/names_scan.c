/* names_scan.c - what lies in the run directory, and tapdisk3's names of it;
 * see names.h. */
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/size.h"

/* "PREFIX<number>SUFFIX" -> the number, or -1. */
static int number_in(const char *name, const char *prefix, const char *suffix)
{
	size_t len = strlen(name), p = strlen(prefix), s = strlen(suffix);
	char digits[16];
	uint64_t v;

	if (len <= p + s || len - p - s >= sizeof(digits) ||
	    strncmp(name, prefix, p) || strcmp(name + len - s, suffix))
		return -1;
	memcpy(digits, name + p, len - p - s);
	digits[len - p - s] = '\0';
	/* One spelling a number: "007" is none of ours. */
	if ((digits[0] == '0' && digits[1]) || uint_parse(digits, INT_MAX, &v))
		return -1;
	return (int)v;
}

void names_scan(void (*fn)(enum run_name what, int n))
{
	static const struct {
		enum run_name what;
		const char *prefix, *suffix;
	} kinds[] = {
		{ RUN_PIPE_WRITE, "tapctrlwrite", "" },
		{ RUN_PIPE_READ, "tapctrlread", "" },
		{ RUN_FD, "tapfd", ".sock" },
		{ RUN_RING, "ring", ".sock" },
		{ RUN_NBD, "nbd", ".sock" },
		{ RUN_MARKER, "tapdisk-", "" },
		{ RUN_JOURNAL, "journal", "" },
		{ RUN_REDO, "redo", "" },
		{ RUN_MEMO, "disk", "" },
		{ RUN_MEMO_NEW, "disk", ".new" },
	};
	DIR *d = opendir(rundir());
	struct dirent *e;

	if (!d) {
		log_err("cannot read %s: %s", rundir(), strerror(errno));
		return;
	}
	while ((e = readdir(d)))
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
			int n = number_in(e->d_name, kinds[i].prefix,
					  kinds[i].suffix);

			if (n >= 0)
				fn(kinds[i].what, n);
		}
	closedir(d);
}

/* --- tapdisk3's names --- */

#define COMPAT_DIR "/run/blktap-control"
#define COMPAT_MARKERS COMPAT_DIR "/tapdisk"

static bool compat;

/* Is it a link of ours: into our run directory? */
static bool compat_is_ours(const char *path)
{
	char to[PATH_MAX];
	ssize_t n = readlink(path, to, sizeof(to) - 1);
	size_t len = strlen(rundir());

	if (n < 0)
		return false;
	to[n] = '\0';
	return !strncmp(to, rundir(), len) && to[len] == '/';
}

/* Make dir, for everybody to read, and empty it of links of ours. */
static bool compat_dir(const char *dir)
{
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (mkdir(dir, 0755) == 0) {
		chmod(dir, 0755);	/* our umask is strict */
		return true;
	}
	if (errno != EEXIST) {
		log_warn("cannot make %s: %s", dir, strerror(errno));
		return false;
	}
	if (lstat(dir, &st) || !S_ISDIR(st.st_mode) || st.st_uid != 0 ||
	    (st.st_mode & 022)) {
		log_warn("%s is not a directory of root's alone: not used", dir);
		return false;
	}
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		char path[sizeof(COMPAT_MARKERS) + NAME_MAX + 2];

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (compat_is_ours(path))
			unlink(path);
	}
	if (d)
		closedir(d);
	return true;
}

void names_compat_init(void)
{
	compat = geteuid() == 0 && rundir_is_default() &&
		 compat_dir(COMPAT_DIR) && compat_dir(COMPAT_MARKERS);
}

static void compat_set(const char *path, enum run_name what, int n, bool there)
{
	char to[PATH_MAX];

	if (!compat)
		return;
	if (compat_is_ours(path))
		unlink(path);
	if (there && symlink(run_path(what, n, to, sizeof(to)), path))
		log_warn("cannot make %s: %s", path, strerror(errno));
}

void names_compat_nbd(pid_t pid, int minor, bool there)
{
	char path[64];

	snprintf(path, sizeof(path), COMPAT_DIR "/nbd%d.%d", (int)pid, minor);
	compat_set(path, RUN_NBD, minor, there);
}

void names_compat_marker(int minor, bool there)
{
	char path[64];

	snprintf(path, sizeof(path), COMPAT_MARKERS "/tapdisk-%d", minor);
	compat_set(path, RUN_MARKER, minor, there);
}
