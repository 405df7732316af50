/* disk.c - the verbs that name a disk, perhaps an image, and print nothing. */
#include "tap-ctl.h"

/* attach, detach, free, close, pause, destroy */
int run_plain(struct call *c)
{
	int err = ask(c, "", 0, NULL, NULL);

	return err ? err : print_done(c);
}

/* open, unpause */
int run_image(struct call *c)
{
	int err = ask(c, c->value['a'] ? c->value['a'] : "", 0, NULL, NULL);

	return err ? err : print_done(c);
}
