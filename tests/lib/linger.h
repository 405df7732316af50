/* linger.h - a descriptor that takes its time to be closed. */
#ifndef LINGER_H
#define LINGER_H

#define LINGER_S 4

/* A TCP socket of this machine with data that nobody takes: the last close(2) of
 * it waits LINGER_S seconds.  -1: cannot be had. */
int linger_socket(void);

#endif
