/* proc.h - tapdisk processes: started, watched, ended by force. */
#ifndef CTL_PROC_H
#define CTL_PROC_H

#include <sys/types.h>

struct vdisk;

/* Start a tapdisk for vd->number, with listen_fd as its descriptor 3, and watch
 * it.  0 or -errno. */
int proc_start(struct vdisk *vd, int listen_fd);
/* Watch one that another daemon has started.  0 or -errno (-ESRCH: gone). */
int proc_watch(struct vdisk *vd, pid_t pid);
void proc_unwatch(struct vdisk *vd);
void proc_kill(struct vdisk *vd);

#endif
