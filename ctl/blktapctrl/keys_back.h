/* keys_back.h - keys of a disk that another daemon opened: its tapdisk gives them
 * back, so that a successor can have them.
 *
 * They come on the files socket, their number on the pipe, whichever is first.  What
 * a tapdisk gives is its own disk's alone to suffer from: a wrong key opens nothing.
 */
#ifndef CTL_KEYS_BACK_H
#define CTL_KEYS_BACK_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "keys.h"

struct vdisk;

struct keys_back {
	struct call call;
	bool open;		/* asked for, and not all here */
	int want;		/* how many; -1: not said yet */
	struct key_fds got;
};

void keys_back_init(struct vdisk *vd);
/* Ask for them, if we lack what its image was opened with; it runs or is paused. */
void keys_back_ask(struct vdisk *vd);
/* One has come, fd is ours.  False: nobody asked for it. */
bool keys_back_take(struct vdisk *vd, uint32_t id, int fd);
/* What has not come shall not come. */
void keys_back_drop(struct vdisk *vd);

#endif
