/* disk.c - the verbs that name a disk, perhaps an image, and print nothing:
 * destroy, free, attach, detach, open, close, pause, unpause. */
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"

/* A node's path is short; one that is not is none of xenstore's. */
#define NODE_MAX 200

/* An open by a hotplug script: the daemon reads in the node what the script does
 * not pass on. */
static void by_script(struct call *c, char *text)
{
	const char *node = getenv("XENBUS_PATH");
	size_t len = node ? strlen(node) : 0;

	if (c->verb->ask != TAP_CTL_OPEN || !len || len > NODE_MAX ||
	    strchr(node, '\n') || strlen(text) + len + 1 > TAP_TEXT_MAX)
		return;
	memmove(text + len + 1, text, strlen(text) + 1);
	memcpy(text, node, len);
	text[len] = '\n';
	c->node = node;
}

int run_plain(struct call *c)
{
	char text[TAP_TEXT_MAX + 1];
	int err = image_text(c, text);

	if (!err)
		by_script(c, text);
	if (!err)
		err = ask(c, text, 0, NULL, NULL);
	return err ? err : print_done(c);
}
