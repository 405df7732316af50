/* verbs.h - what tap-ctl may ask: one table. */
#ifndef CTL_VERBS_H
#define CTL_VERBS_H

#include <stddef.h>

struct client;
struct msg;
struct tap_disk;

/* Handle one message of a client: it is answered, now or later, always. */
void verbs_do(struct client *c, const struct msg *m);

/* Where a listing is: by minor first, then those without one by pid.  Disks
 * may come and go meanwhile. */
struct list_pos {
	int minor;		/* the next one to tell */
	int pid;		/* the last one told, of those without minor */
	int only;		/* the one whose tapdisk has, or had, this pid; < 0: all */
};
/* The next disk; its length, or 0: that was all. */
size_t verbs_list_next(struct list_pos *p, struct tap_disk *d, size_t room);

#endif
