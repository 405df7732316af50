/* keyring.c - see keyring.h. */
#include "keyring.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static void show(struct keyring *k, const struct key_set *set)
{
	k->env->secrets = set->keys.v;
	k->env->n_secrets = set->keys.n;
}

static void drop(struct key_set *set, unsigned n)
{
	for (unsigned i = n; i < set->keys.n; i++)
		close(set->fd[i]);
	keys_drop(&set->keys, n);
}

static void wipe(struct key_set *set)
{
	drop(set, 0);
	keys_wipe(&set->keys);
	set->given = 0;
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

void keyring_found(struct keyring *k, const struct td_secret *key)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	int fd = keys_to_memfd(key);

	if (fd < 0) {
		log_dbg(LOG_CTL, "a key is not kept: %s", strerror(-fd));
		return;
	}
	pthread_mutex_lock(&lock);
	if (k->n_found < KEYS_MAX)
		k->found[k->n_found++] = fd;
	else
		close(fd);
	pthread_mutex_unlock(&lock);
}

/* Is the last one of them there before? */
static bool last_is_twice(const struct keys *k)
{
	const struct td_secret *s = &k->v[k->n - 1];

	for (unsigned i = 0; i + 1 < k->n; i++)
		if (k->v[i].len == s->len && !memcmp(k->v[i].bytes, s->bytes, s->len))
			return true;
	return false;
}

/* Behind those that were given stands what the last open used, as far as there is room. */
static void take_found(struct key_set *now, int fd)
{
	const char *why;

	if (keys_add_memfd(&now->keys, fd, &why)) {
		close(fd);
		return;
	}
	now->fd[now->keys.n - 1] = fd;
	if (last_is_twice(&now->keys))
		drop(now, now->keys.n - 1);
}

static void forget_found(struct keyring *k)
{
	while (k->n_found)
		close(k->found[--k->n_found]);
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
		k->now.given = k->now.keys.n;
		k->next = (struct key_set){ 0 };
	}
	wipe(&k->next);
	if (opened && k->n_found)
		drop(&k->now, k->now.given);
	while (opened && k->n_found)
		take_found(&k->now, k->found[--k->n_found]);
	forget_found(k);
	show(k, &k->now);
}

void keyring_forget(struct keyring *k)
{
	wipe(&k->next);
	k->id = 0;
	k->err = 0;
}

void keyring_wipe(struct keyring *k)
{
	forget_found(k);
	wipe(&k->now);
	wipe(&k->next);
	show(k, &k->now);
}
