/* names.h - the daemon's side of the run directory: what it makes there, what
 * it takes away, and what others may have left.
 *
 * Nothing follows a symbolic link, and nothing is removed that is not of the
 * kind (fifo, socket, plain file) that its name promises.
 */
#ifndef CTL_NAMES_H
#define CTL_NAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/rundir.h"

/* Make RUNDIR (0700) or check it: a directory, ours, writable by us alone.  0
 * or -errno, with the reason in `why`. */
int names_rundir(const char **why);
/* Take RUNDIR/lock: a descriptor, -EEXIST (a daemon lives) or -errno. */
int names_lock(void);
void names_unlock(int fd);

/* A listening socket of that name, 0600; a dead one is replaced.  Descriptor
 * (non-blocking, close-on-exec) or -errno. */
int names_listen(enum run_name what, int n, int type);
/* Connect a SOCK_SEQPACKET to RUN_FD of number n.  Descriptor or -errno. */
int names_connect(int n);

/* The two fifos of number n, 0600.  0 or -errno, and then none is there. */
int names_pipes(int n);
/* Open a fifo; -ENXIO: nobody reads; -EPERM: it is not a fifo. */
int names_open_pipe(enum run_name what, int n, int flags);

/* Give pipes and tapfd socket of `from` a second name `to`: at any moment one
 * of both sets is whole.  0 or -errno, and then the old names alone are. */
int names_link(int from, int to);
/* Are both the same fifo? */
bool names_same(int a, int b);

void names_remove(enum run_name what, int n);
void names_remove_channel(int n);	/* pipes and tapfd socket */
void names_remove_served(int n);		/* these, and what clients connect to */
void names_remove_disk(int n);		/* and all else but its marker */
/* Something of a foreign kind has a name that number n needs. */
bool names_foreign(int n);

/* Files of fixed size that a tapdisk maps and that outlive it: RUN_JOURNAL,
 * RUN_REDO.  Anew, full of zeroes and without room of its own; descriptor or
 * -errno. */
int names_store(enum run_name what, int n, uint64_t bytes);
/* One of these or a RUN_MEMO, as it is; for both ways.  Descriptor or -errno. */
int names_store_open(enum run_name what, int n);
/* Give it its room: what is mapped and has none, in a full file system, kills.
 * 0 or -errno; more than once does no harm, nor if a disk has none. */
int names_store_fill(enum run_name what, int n, uint64_t bytes);

/* Markers: a minor is taken.  `creating` is written into it while a disk is
 * half made, so that nobody needs to keep it after a crash. */
int names_marker_make(int n, bool creating);	/* -EEXIST, -errno */
void names_marker_settle(int n);		/* no longer `creating` */
bool names_marker_creating(int n);
/* "xen" and a guest's device ("tap/3/51712") when that has it, or when it is `creating`
 * for that: nobody else needs it, and no other device takes it for its own. */
#define NAMES_NODE_MAX 32
void names_marker_xen(int n, const char *node);
void names_marker_creating_xen(int n, const char *node);
/* False: it is none's. */
bool names_marker_node(int n, char node[NAMES_NODE_MAX]);
bool names_marker_is_of(int n, const char *node);

/* Calls fn for each name in RUNDIR of a kind that has a number. */
void names_scan(void (*fn)(enum run_name what, int n));

/* tapdisk3's names of NBD sockets and markers, links to ours, where they are kept:
 * as root with the default run directory. */
void names_compat_init(void);	/* removes ours that are stale */
void names_compat_nbd(pid_t pid, int minor, bool there);
void names_compat_marker(int minor, bool there);

#endif
