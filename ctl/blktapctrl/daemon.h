/* daemon.h - going to the background, with an exit status for the starter. */
#ifndef CTL_DAEMON_H
#define CTL_DAEMON_H

/* Forks.  In the child: -1.  In the parent: the exit code, once the child is
 * ready (0) or has ended. */
int daemon_fork(void);

/* Ready: the parent may go; stdin, stdout and (unless the log needs it) stderr
 * lead nowhere from now on.  Without daemon_fork(): nothing. */
void daemon_ready(void);

#endif
