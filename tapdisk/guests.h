/* guests.h - the control connection's messages about guests of Xen.
 *
 * XEN_CONNECT, XEN_DISCONNECT and XEN_BROKEN of include/tap_proto.h: they come and go
 * beside the operations of the disk.  On the loop's thread.
 */
#ifndef GUESTS_H
#define GUESTS_H

#include <stdint.h>

struct disk;
struct journal;
struct loop;
struct msg;
struct outbox;
struct xen_rings;

struct guests {
	struct xen_rings *rings;
	struct outbox *out;
	unsigned daemons;	/* how many there have been: of whom a request is */
};

/* Answers go to out, which must outlive it.  0 or -errno. */
int guests_init(struct guests *g, struct loop *l, struct disk *d, struct outbox *out);
void guests_free(struct guests *g);

/* Each answers m, whose length has been checked, now or later.  j may be NULL. */
void guests_connect(struct guests *g, const struct msg *m, struct journal *j);
void guests_disconnect(struct guests *g, const struct msg *m);

/* The file in which a guest's statistics are kept has come; fd is theirs. */
void guests_stats_to(struct guests *g, uint32_t domid, uint32_t devid, int fd);

/* blktapctrl is gone: what is due to it is answered to nobody. */
void guests_forget_daemon(struct guests *g);

#endif
