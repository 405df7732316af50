/* keys.c - see keys.h. */
#include "keys.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/keys.h"
#include "chan.h"

int key_fds_add(struct key_fds *k, int fd, const char **why)
{
	int err = -E2BIG;

	*why = "too many keys";
	if (k->n < TAP_KEYS_MAX)
		err = keys_check_memfd(fd, why);
	if (err) {
		if (!*why)
			*why = strerror(-err);
		close(fd);
		return err;
	}
	k->fd[k->n++] = fd;
	return 0;
}

void key_fds_move(struct key_fds *to, struct key_fds *from)
{
	key_fds_close(to);
	*to = *from;
	from->n = 0;
}

void key_fds_close(struct key_fds *k)
{
	while (k->n)
		close(k->fd[--k->n]);
}

int key_fds_send(const struct key_fds *k, struct chan *c)
{
	int err = 0;

	for (unsigned i = 0; i < k->n && !err; i++)
		err = chan_send_fd(c, TAP_FD_KEY, chan_next_id(c), k->fd[i]);
	return err;
}
