/* client.h - connections of tap-ctl to RUNDIR/ctl.sock.
 *
 * At most CLIENTS_MAX; others wait in the backlog.  Nothing blocks; what a
 * client does not read is bounded, and a client that sends what is no message,
 * or nothing for a while, is cut off.  Only root and our own user may ask.
 */
#ifndef CTL_CLIENT_H
#define CTL_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "op.h"

#define CLIENTS_MAX 64

struct client;

int clients_start(void);	/* listen on ctl.sock; 0 or -errno */
void clients_shut(void);	/* no new ones: ctl.sock goes */
void clients_stop(void);	/* cut all off, after clients_shut() */

/* c has asked something that is answered later. */
void ask_init(struct ask *a, struct client *c, uint32_t id, uint16_t type);
/* One answer (flags: TAP_MORE: not the last).  The asker may be gone. */
void ask_reply(struct ask *a, uint8_t flags, int status, const void *body,
	       size_t len);
void ask_drop(struct ask *a);	/* no (more) answer; any number of times */
void ask_fail(struct ask *a, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* What has come for the request that is being answered; what it does not take
 * is closed after it. */
struct key_fds *client_keys(struct client *c);

/* list: told bit by bit, whenever there is room.  only: verbs.h. */
void client_list(struct client *c, uint32_t id, int only);

#endif
