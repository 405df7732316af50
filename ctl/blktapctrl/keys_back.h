/* keys_back.h - keys that a tapdisk gives, so that a successor can have them: those of
 * a disk that another daemon opened, and those that an open has found behind its
 * passphrases.
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
#include "loop/loop.h"

struct vdisk;

struct keys_back {
	struct call call;
	bool open;		/* asked for, and not all here */
	bool told;		/* that it does not give them */
	bool last;		/* half of a replacement: it ends when it has given them */
	struct loop_timer again;	/* for those that we lack */
	int want;		/* how many; -1: not said yet */
	struct key_fds got;
};

void keys_back_init(struct vdisk *vd);
/* Ask for them: its image, which is open or paused, needs keys.  If we have none it is
 * asked until it gives them. */
void keys_back_ask(struct vdisk *vd);
/* The same, and end it then, or when it does not give them in time. */
void keys_back_ask_and_end(struct vdisk *vd);
/* One has come, fd is ours.  False: nobody asked for it. */
bool keys_back_take(struct vdisk *vd, uint32_t id, int fd);
/* The image is closed, its tapdisk has died: what has not come is of another life. */
void keys_back_end(struct vdisk *vd);

#endif
