/* keyring.c - see keyring.h. */
#include "keyring.h"

#include <string.h>
#include <unistd.h>

static void show(struct keyring *k, const struct key_set *set)
{
	k->env->secrets = set->keys.v;
	k->env->n_secrets = set->keys.n;
}

static void wipe(struct key_set *set)
{
	for (unsigned i = 0; i < set->keys.n; i++)
		close(set->fd[i]);
	keys_wipe(&set->keys);
}

void keyring_take(struct keyring *k, uint32_t id, int fd)
{
	int err;

	if (id != k->id) {
		wipe(&k->next);
		k->id = id;
		k->err = 0;
	}
	err = k->err ? k->err : keys_add_memfd(&k->next.keys, fd, &k->why);
	if (err) {
		k->err = err;
		close(fd);
		return;
	}
	k->next.fd[k->next.keys.n - 1] = fd;
}

bool keyring_complete(const struct keyring *k, uint32_t id, unsigned n)
{
	return !n || (id == k->id && (k->err || k->next.keys.n >= n));
}

int keyring_use(struct keyring *k, uint32_t id, unsigned n, bool resume)
{
	if (n && k->err)
		return k->err;
	if (!n || id != k->id)
		wipe(&k->next);
	if (!n && !resume)
		wipe(&k->now);
	show(k, n ? &k->next : &k->now);
	return 0;
}

void keyring_settle(struct keyring *k, bool opened)
{
	if (opened && k->next.keys.n) {
		wipe(&k->now);
		k->now = k->next;
		k->next = (struct key_set){ 0 };
	}
	wipe(&k->next);
	show(k, &k->now);
}

void keyring_wipe(struct keyring *k)
{
	wipe(&k->now);
	wipe(&k->next);
	show(k, &k->now);
}
