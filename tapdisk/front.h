/* front.h - the entrances of a tapdisk: listening sockets whose clients become
 * fronts of its disk.  One table entry each; main.c knows no more of them.
 */
#ifndef FRONT_H
#define FRONT_H

struct disk;
struct loop;

/* Accept clients of `listen_fd` (ours from now on) for `disk`, until stop.
 * minor is what clients are told.  NULL and errno on failure. */
struct ring_server;
struct ring_server *ring_server_new(struct loop *l, struct disk *d,
				    int listen_fd, unsigned minor);
struct journal;
/* Keep a record of its clients' requests; not while it has clients. */
void ring_server_journal(struct ring_server *s, struct journal *j);
void ring_server_free(struct ring_server *s);	/* cuts its clients off */

struct nbd_server;
struct nbd_server *nbd_server_new(struct loop *l, struct disk *d, int listen_fd,
				  unsigned minor);
void nbd_server_free(struct nbd_server *s);

#endif
