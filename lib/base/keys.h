/* keys.h - the keys of one disk: read from files, passed on as descriptors.
 *
 * They are in memory that is locked as far as the system lets us, left out of
 * core dumps, and wiped; a process that has some makes no core dump at all and
 * is nobody's to look into but root's.  On their way between processes they are
 * memfds, sealed, so that what was checked stays what it is.
 */
#ifndef BASE_KEYS_H
#define BASE_KEYS_H

#include "tap_proto.h"
#include "td_driver.h"

#define KEYS_MAX TAP_KEYS_MAX	/* an image may have several layers */
#define KEY_LEN_MAX TAP_KEY_LEN_MAX

struct keys {		/* zeroed: none */
	unsigned n;
	struct td_secret v[KEYS_MAX];
	unsigned char *room;
};

/* One more, all that fd gives until its end, but for one newline there; it may
 * wait.  0, or -errno and *why (a constant, or NULL when strerror says it all):
 * -E2BIG, -EINVAL (empty). */
int keys_add_fd(struct keys *k, int fd, const char **why);
/* The same of a file; "-" is the standard input. */
int keys_add_file(struct keys *k, const char *path, const char **why);
/* All that a file has, also a newline at its end. */
int keys_add_exact(struct keys *k, const char *path, const char **why);
/* The same of a memfd, as it is; fd stays the caller's. */
int keys_add_memfd(struct keys *k, int fd, const char **why);
/* A sealed memfd with that key, or -errno. */
int keys_to_memfd(const struct td_secret *s);
/* Is fd one, of a possible length?  0, or -errno and *why. */
int keys_check_memfd(int fd, const char **why);
void keys_drop(struct keys *k, unsigned n);	/* the first n are left */
void keys_wipe(struct keys *k);		/* none is left */

#endif
