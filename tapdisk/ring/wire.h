/* wire.h - messages of include/tapring_proto.h on a connection's socket. */
#ifndef RING_WIRE_H
#define RING_WIRE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "tapring_proto.h"

/* One status; of a connection that is taken, with its token and nr descriptors.
 * 0, -EAGAIN or another -errno. */
int wire_status(int sock, enum tapring_event event, int status,
		uint64_t sectors);
int wire_connected(int sock, uint64_t sectors, const struct tapring_token *token,
		   const int *fds, unsigned nr);

/* Up to len bytes of what has come: their number, 0 at the end, or -errno.  The
 * first descriptor that comes goes to *fd, which is -1 until then; others are
 * let go, and *more is set. */
ssize_t wire_recv(int sock, void *buf, size_t len, int *fd, bool *more);

#endif
