/* rundir.h - the run directory and the names in it.  The one place that knows
 * how a pipe, a socket or a marker is called. */
#ifndef BASE_RUNDIR_H
#define BASE_RUNDIR_H

#include <stdbool.h>
#include <stddef.h>

#define RUNDIR_DEFAULT "/var/run/tap"
#define RUNDIR_ENV "BLKTAP_RUNDIR"
/* A socket's name must fit sun_path with this many bytes for what we add. */
#define RUNDIR_MAX 80

/* The option's value if not NULL, else the environment's, else the default.
 * 0, or -ENAMETOOLONG / -EINVAL (empty, relative) with nothing changed. */
int rundir_set(const char *option);
const char *rundir(void);
bool rundir_is_default(void);

enum run_name {
	RUN_LOCK,		/* lock          held by the living daemon */
	RUN_CTL,		/* ctl.sock      tap-ctl's */
	RUN_PIPE_WRITE,		/* tapctrlwriteN daemon -> tapdisk */
	RUN_PIPE_READ,		/* tapctrlreadN  tapdisk -> daemon */
	RUN_FD,			/* tapfdN.sock   descriptors */
	RUN_RING,		/* ringN.sock */
	RUN_NBD,		/* nbdN.sock */
	RUN_MARKER,		/* tapdisk-N     a minor is taken */
	RUN_JOURNAL,		/* journalN      what a disk's rings have in flight */
	RUN_REDO,		/* redoN         changes of its tables */
	RUN_MEMO,		/* diskN         what it is, for the next daemon */
	RUN_MEMO_NEW,		/* diskN.new     the next one, or what was */
	RUN_NAMES
};

/* Full path into buf (PATH_MAX is enough); n is ignored for names without. */
const char *run_path(enum run_name what, int n, char *buf, size_t len);
/* The number in a file's name of that kind; -1: it is none. */
int run_number(enum run_name what, const char *file);

#endif
