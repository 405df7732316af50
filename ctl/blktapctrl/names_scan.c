/* names_scan.c - what lies in the run directory, and tapdisk3's names of it;
 * see names.h. */
#include "names.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

void names_scan(void (*fn)(enum run_name what, int n))
{
	DIR *d = opendir(rundir());
	struct dirent *e;

	if (!d) {
		log_err("cannot read %s: %s", rundir(), strerror(errno));
		return;
	}
	while ((e = readdir(d)))
		for (int what = 0; what < RUN_NAMES; what++) {
			int n = run_number((enum run_name)what, e->d_name);

			if (n >= 0)
				fn((enum run_name)what, n);
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
