/* disk.c - the verbs that name a disk, perhaps an image, and print nothing:
 * destroy, free, attach, detach, open, close, pause, unpause. */
#include "tap-ctl.h"

int run_plain(struct call *c)
{
	int err = ask(c, c->value['a'] ? c->value['a'] : "", 0, NULL, NULL);

	return err ? err : print_done(c);
}
