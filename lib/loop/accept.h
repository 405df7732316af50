/* accept.h - the door of a listening socket: who connects is let in, a few in a
 * pass, so that others are served as well.  Out of descriptors or memory it rests
 * for a second and says so: who waits outside would wake us for ever.
 */
#ifndef LOOP_ACCEPT_H
#define LOOP_ACCEPT_H

#include <stdbool.h>

#include "base/log.h"
#include "loop/loop.h"

struct acceptor {
	const char *whom;	/* for the message: "a client" */
	/* fd, which does not block, is the receiver's.  May pause the acceptor, not
	 * stop it. */
	void (*fn)(struct acceptor *a, int fd);

	struct loop *loop;
	struct loop_fd listen;	/* -1: stopped */
	struct loop_timer rest;
	bool paused;
	struct log_limit limit;
};

/* whom and fn are set, all else is zero.  listen_fd is the acceptor's if that
 * succeeds.  0 or -errno. */
int acceptor_start(struct acceptor *a, struct loop *l, int listen_fd);
/* Who comes waits outside, until he tires of it. */
void acceptor_pause(struct acceptor *a, bool paused);
void acceptor_stop(struct acceptor *a);		/* closes listen_fd */

#endif
