/* keyring.h - the keys of a disk in its process.
 *
 * Those that an open brings take the place of the others only when it succeeds.
 * What is open and what is paused keeps its keys; what is closed has none.
 * Their memfds are kept beside them: a daemon that has not passed them itself asks
 * for them.  With them are the keys of the data that opens have found: what derived them
 took a second or more, which neither an unpause nor a successor shall take again.
 */
#ifndef KEYRING_H
#define KEYRING_H

#include <stdbool.h>

#include "base/keys.h"

struct key_set {
	struct keys keys;
	int fd[KEYS_MAX];	/* of each its memfd, as it came */
	unsigned given;		/* the first ones; behind them what opens found */
};

struct keyring {	/* zeroed but for env */
	struct td_env *env;	/* secrets: what the next open sees */
	struct key_set now, next;
	int found[KEYS_MAX];	/* memfds of what an open has found */
	unsigned n_found;
	uint32_t id;		/* of the open (or HOLD) that `next` is for */
	int err;		/* why one of them could not be taken */
	const char *why;	/* NULL: as strerror says */
};

/* A key for the open of that id; fd is ours.  Ids of before count no more. */
void keyring_take(struct keyring *k, uint32_t id, int fd);
/* Have all n of that open come, well or ill? */
bool keyring_complete(const struct keyring *k, uint32_t id, unsigned n);
/* They are what is opened with: its own, or, if there are none and it goes on
 * with a paused disk, those of before.  0, or what keyring_take() met. */
int keyring_use(struct keyring *k, uint32_t id, unsigned n, bool resume);
/* It has opened, or it has not. */
void keyring_settle(struct keyring *k, bool opened);
/* td_env.key_found's work: from any thread, while an open runs. */
void keyring_found(struct keyring *k, const struct td_secret *key);
/* What has come for an open that will not be asked for. */
void keyring_forget(struct keyring *k);
void keyring_wipe(struct keyring *k);

#endif
