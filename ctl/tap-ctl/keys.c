/* keys.c - keys of encrypted images: from files and descriptors, never from the
 * command line itself. */
#include <errno.h>
#include <string.h>

#include "base/keys.h"
#include "tap-ctl.h"

int keys_get(const struct call *c, struct keys *k)
{
	for (unsigned i = 0; i < c->n_keys; i++) {
		const struct key_source *s = &c->keys[i];
		const char *why;
		int err = s->file ? keys_add_file(k, s->file, &why) :
				    keys_add_fd(k, s->fd, &why);

		if (!err)
			continue;
		keys_wipe(k);
		if (!why)
			why = strerror(-err);
		if (s->file)
			return call_fail(c, err, "no key in %s: %s", s->file, why);
		return call_fail(c, err, "no key in descriptor %d: %s", s->fd, why);
	}
	return 0;
}
