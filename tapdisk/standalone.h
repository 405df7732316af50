/* standalone.h - a tapdisk without blktapctrl (--foreground): it opens its image
 * and its sockets itself, serves until SIGTERM, and leaves nothing behind.  For
 * debugging and for hosts that supervise processes in their own way. */
#ifndef STANDALONE_H
#define STANDALONE_H

#include <stdbool.h>

#include "td_driver.h"

struct disk;
struct loop;
struct standalone;


/* Make RUNDIR/ring<minor>.sock and nbd<minor>.sock.  A socket that somebody
 * serves is left alone (-EADDRINUSE), a dead one is replaced.  journal: a file
 * for what ring clients have in flight, made if it is not there, or NULL; recover:
 * it is a dead process', whose clients go on.  0 or -errno, after one line in the
 * log. */
int standalone_new(struct loop *l, struct disk *d, unsigned minor,
		   const char *journal, bool recover, struct standalone **s);
void standalone_free(struct standalone *s);
/* td_env.file_get for this mode. */
void standalone_file_get(struct td_env *e, const char *path, unsigned flags,
			 td_file_fn *fn, void *arg);

#endif
