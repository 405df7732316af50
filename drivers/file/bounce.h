/* bounce.h - a bounded set of aligned buffers for requests that O_DIRECT would
 * refuse.  Made on demand, given back to the system when none has been used
 * for a second, so that an idle disk holds none. */
#ifndef FILE_BOUNCE_H
#define FILE_BOUNCE_H

#include <stdbool.h>

#include "base/list.h"
#include "loop/loop.h"

#define BOUNCE_BYTES (128u * 1024)
#define BOUNCE_MAX 32

struct bounce_wait {
	struct list link;
	/* A buffer is there, ours until bounce_put(). */
	void (*ready)(struct bounce_wait *w, void *buf);
};

struct bounce {
	struct loop *loop;
	void *bufs[BOUNCE_MAX];	/* [0, nfree): free ones */
	unsigned nfree, made;
	bool used;		/* since the timer was set */
	struct list waiting;
	struct loop_timer trim;
};

void bounce_init(struct bounce *b, struct loop *l);
void bounce_free(struct bounce *b);		/* all put back */
/* A buffer, or NULL: w->ready is called later, first come first served. */
void *bounce_get(struct bounce *b, struct bounce_wait *w);
void bounce_put(struct bounce *b, void *buf);

#endif
