/* disk.c - the verbs that name a disk, perhaps an image, and print nothing:
 * destroy, free, attach, detach, open, close, pause, unpause. */
#include "tap-ctl.h"

int run_plain(struct call *c)
{
	char text[TAP_TEXT_MAX + 1];
	int err = image_text(c, text);

	if (!err)
		image_by_script(c, text);
	if (!err)
		err = ask(c, text, 0, NULL, NULL);
	return err ? err : print_done(c);
}
