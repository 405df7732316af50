/* image.c - an image and what is below it, as the command line names them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tap-ctl.h"

static int add(const struct call *c, char *text, size_t *len, const char *s)
{
	size_t n = strlen(s);

	if (strchr(s, '\n'))	/* it would be another file's name */
		return call_usage(c, "the name of an image has a newline in it");
	if (*len + n <= TAP_TEXT_MAX)
		memcpy(text + *len, s, n);
	*len += n;
	return 0;
}

int image_text(const struct call *c, char *text)
{
	return image_text_of(c, c->value['a'], text);
}

int image_text_of(const struct call *c, const char *image, char *text)
{
	bool none = c->n_backing && !strcmp(c->backing[0], "none");
	size_t len = 0;
	int err;

	text[0] = '\0';
	if (!image)
		return c->n_backing ? call_usage(c, "--backing is of no use without "
						 "-a") : 0;
	if (none && c->n_backing > 1)
		return call_usage(c, "--backing none stands alone");
	err = add(c, text, &len, image);
	for (unsigned i = 0; i < c->n_backing && !err; i++) {
		if (len < TAP_TEXT_MAX)
			text[len] = '\n';
		len++;
		err = none ? 0 : add(c, text, &len, c->backing[i]);
		if (!err && !none && !*c->backing[i])
			err = call_usage(c, "--backing wants TYPE:/path or none");
	}
	if (!err && len > TAP_TEXT_MAX)
		err = call_fail(c, -ENAMETOOLONG, "%zu bytes of names are too many, of "
				"the image and of what is below it: at most %u", len, TAP_TEXT_MAX);
	if (!err)
		text[len] = '\0';
	return err;
}

/* A node's path is short; one that is not is none of xenstore's. */
#define NODE_MAX 200

void image_by_script(struct call *c, char *text)
{
	const char *node = getenv("XENBUS_PATH");
	size_t len = node ? strlen(node) : 0;

	if ((c->verb->ask != TAP_CTL_OPEN && c->verb->ask != TAP_CTL_CREATE) || !len ||
	    len > NODE_MAX || strchr(node, '\n') || strlen(text) + len + 1 > TAP_TEXT_MAX)
		return;
	memmove(text + len + 1, text, strlen(text) + 1);
	memcpy(text, node, len);
	text[len] = '\n';
	c->node = node;
}
