/* letgo.h - closing what a stranger may have had a hand in, without waiting.
 *
 * close(2) of a descriptor that a client has sent may take as long as the client
 * likes: a file of a FUSE server that does not answer, a TCP socket that
 * lingers.  The same holds for descriptors that lie unread in a socket when it
 * is closed, and for those that recvmsg(2) drops for want of room.
 */
#ifndef BASE_LETGO_H
#define BASE_LETGO_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

#define LETGO_FDS 253u		/* the kernel's limit of a message: SCM_MAX_FD */
#define LETGO_BUSY 32u

/* Close them: at once what cannot wait, in a thread what can. */
void letgo_fds(const int *fd, unsigned n);

/* Close a socket of a client, with all that it has sent and nobody has read. */
void letgo_socket(int sock);

/* recvmsg(2) with MSG_DONTWAIT for m's vectors: what has come, 0 at the end, or
 * -errno.  Descriptors that came go to fd[LETGO_FDS], *n of them; fd NULL: they
 * are let go, and counted.  MSG_CTRUNC in m: more came than we could take. */
ssize_t letgo_recv(int sock, struct msghdr *m, int *fd, unsigned *n);

/* So many closings hang that strangers had better not be let in. */
bool letgo_busy(void);

#endif
