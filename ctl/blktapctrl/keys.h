/* keys.h - keys of disks, as the daemon has them: sealed memfds, which it never
 * reads. */
#ifndef CTL_KEYS_H
#define CTL_KEYS_H

#include "tap_proto.h"

struct chan;

struct key_fds {	/* zeroed: none */
	unsigned n;
	int fd[TAP_KEYS_MAX];
};

/* One more; fd is k's, or closed.  0, or -errno and *why, a constant. */
int key_fds_add(struct key_fds *k, int fd, const char **why);
/* All of `from` and only these are to's. */
void key_fds_move(struct key_fds *to, struct key_fds *from);
void key_fds_close(struct key_fds *k);
/* To its tapdisk, for the PARAMS, RESUME or HOLD that is asked next.  0 or -errno. */
int key_fds_send(const struct key_fds *k, struct chan *c);

#endif
