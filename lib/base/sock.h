/* sock.h - unix sockets that have a name. */
#ifndef BASE_SOCK_H
#define BASE_SOCK_H

/* A listening socket of that name, 0600, which must not be there yet: a descriptor
 * (non-blocking, close-on-exec), or -errno and nothing is there. */
int sock_listen(const char *path, int type);
/* Does a process take connections there (SOCK_STREAM), or would if it were not
 * stopped?  1: so it is; 0: no; -errno: not known.  Never waits. */
int sock_listens(const char *path);

#endif
