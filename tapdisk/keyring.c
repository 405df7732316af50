/* keyring.c - see keyring.h. */
#include "keyring.h"

#include <string.h>
#include <unistd.h>

static void show(struct keyring *k, const struct keys *keys)
{
	k->env->secrets = keys->v;
	k->env->n_secrets = keys->n;
}

void keyring_take(struct keyring *k, uint32_t id, int fd)
{
	int err;

	if (id != k->id) {
		keys_wipe(&k->next);
		k->id = id;
		k->err = 0;
	}
	err = k->err ? 0 : keys_add_memfd(&k->next, fd, &k->why);
	if (err)
		k->err = err;
	close(fd);
}

bool keyring_complete(const struct keyring *k, uint32_t id, unsigned n)
{
	return !n || (id == k->id && (k->err || k->next.n >= n));
}

int keyring_use(struct keyring *k, uint32_t id, unsigned n, bool resume)
{
	if (n && k->err)
		return k->err;
	if (!n || id != k->id)
		keys_wipe(&k->next);
	if (!n && !resume)
		keys_wipe(&k->now);
	show(k, n ? &k->next : &k->now);
	return 0;
}

void keyring_settle(struct keyring *k, bool opened)
{
	if (opened && k->next.n) {
		keys_wipe(&k->now);
		k->now = k->next;
		k->next = (struct keys){ 0 };
	}
	keys_wipe(&k->next);
	show(k, &k->now);
}

void keyring_wipe(struct keyring *k)
{
	keys_wipe(&k->now);
	keys_wipe(&k->next);
	show(k, &k->now);
}
