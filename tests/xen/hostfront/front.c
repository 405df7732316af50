/* front.c - a device: its handshake and its end.  See hostfront.h. */
#include "hostfront.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONG_MS 30000u

void front_open(struct front *f, unsigned devid)
{
	const char *back;
	char path[96];

	memset(f, 0, sizeof(*f));
	f->devid = devid;
	snprintf(f->dir, sizeof(f->dir), "device/vbd/%u", devid);
	snprintf(path, sizeof(path), "%s/backend", f->dir);
	back = store_get(path);
	if (!back)
		die("there is no device %u", devid);
	snprintf(f->back, sizeof(f->back), "%s", back);
}

void front_set(struct front *f, const char *key, const char *fmt, ...)
{
	char path[128], value[PAGE];
	va_list ap;
	int err;

	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	snprintf(path, sizeof(path), "%s/%s", f->dir, key);
	err = store_put(path, value, strlen(value));
	if (err)
		die("cannot write %s: %s", path, strerror(-err));
}

void front_unset(struct front *f, const char *key)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->dir, key);
	store_rm(path);
}

const char *front_back(struct front *f, const char *key)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", f->back, key);
	return store_get(path);
}

int front_back_state(struct front *f)
{
	const char *s = front_back(f, "state");

	return s ? atoi(s) : 0;
}

int front_await(struct front *f, unsigned states, unsigned ms)
{
	uint64_t end = now_ms() + ms;

	for (;;) {
		int s = front_back_state(f);

		if (s >= 0 && s < 32 && states & (1u << s))
			return s;
		if (now_ms() > end)
			die("the back end stays in state %d", s);
		sleep_ms(10);
	}
}

void front_make(struct front *f, const struct setup *s)
{
	f->s = *s;
	for (f->made = 0; f->made < s->queues; f->made++)
		queue_new(&f->q[f->made], s->abi, s->order);
}

void front_drop(struct front *f)
{
	while (f->made)
		queue_free(&f->q[--f->made]);
}

static void tell_queue(struct front *f, const char *dir, const struct queue *q)
{
	char key[64];

	for (unsigned i = 0; i < q->ring->n; i++) {
		if (q->ring->n == 1)
			snprintf(key, sizeof(key), "%sring-ref", dir);
		else
			snprintf(key, sizeof(key), "%sring-ref%u", dir, i);
		front_set(f, key, "%u", q->ring->gref[i]);
	}
	snprintf(key, sizeof(key), "%sevent-channel", dir);
	front_set(f, key, "%u", q->port);
}

static void forget(struct front *f)
{
	static const char *const keys[] = {
		"ring-ref", "event-channel", "ring-page-order", "protocol",
		"multi-queue-num-queues", "feature-persistent",
	};
	char key[32];

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		front_unset(f, keys[i]);
	for (unsigned i = 0; i < 1u << ORDER && f->s.order; i++) {
		snprintf(key, sizeof(key), "ring-ref%u", i);
		front_unset(f, key);
	}
	for (unsigned i = 0; i < QUEUES && f->s.queues > 1; i++) {
		snprintf(key, sizeof(key), "queue-%u", i);
		front_unset(f, key);
	}
}

void front_tell(struct front *f)
{
	char dir[32];

	if (f->s.order)
		front_set(f, "ring-page-order", "%u", f->s.order);
	if (f->s.queues > 1)
		front_set(f, "multi-queue-num-queues", "%u", f->s.queues);
	for (unsigned i = 0; i < f->made; i++) {
		snprintf(dir, sizeof(dir), "queue-%u/", i);
		tell_queue(f, f->made > 1 ? dir : "", &f->q[i]);
	}
	if (f->s.abi != NATIVE)
		front_set(f, "protocol", "%s", abi_name[f->s.abi]);
	front_set(f, "feature-persistent", "%u", f->s.persistent);
}

void front_reset(struct front *f)
{
	int s = front_back_state(f);

	if (s == 4 || s == 5) {
		front_set(f, "state", "5");
		front_await(f, CLOSING | CLOSED, LONG_MS);
		front_set(f, "state", "6");
		front_await(f, CLOSED, LONG_MS);
	}
	forget(f);
	front_set(f, "state", "1");
	front_await(f, WAITING, LONG_MS);
}

static unsigned number(struct front *f, const char *key)
{
	const char *s = front_back(f, key);

	return s ? (unsigned)strtoul(s, NULL, 10) : 0;
}

void front_connect(struct front *f, const struct setup *s)
{
	front_reset(f);
	front_make(f, s);
	front_tell(f);
	front_set(f, "state", "3");
	if (front_await(f, CONNECTED | CLOSED, LONG_MS) != 4)
		die("refused: %s", front_back(f, "hotplug-error"));
	f->sectors = number(f, "sectors");
	f->max_indirect = number(f, "feature-max-indirect-segments");
	f->discards = number(f, "feature-discard");
	f->readonly = number(f, "info") & 4;
	front_set(f, "state", "4");
}

void front_leave(struct front *f)
{
	front_set(f, "state", "5");
	front_await(f, CLOSING | CLOSED, LONG_MS);
	front_set(f, "state", "6");
	front_await(f, CLOSED, LONG_MS);
	front_drop(f);
}

void front_show(struct front *f)
{
	uint64_t end = now_ms() + 4 * LONG_MS;
	const char *said;
	char path[128];

	front_set(f, "look", "please");
	snprintf(path, sizeof(path), "%s/look", f->dir);
	while (!(said = store_get(path)) || strcmp(said, "seen") != 0) {
		if (now_ms() > end)
			die("nobody looks");
		sleep_ms(10);
	}
	front_unset(f, "look");
}

int ask(struct front *f, unsigned queue, struct req *r)
{
	static uint64_t id = 0x1122334400000000ull;
	struct queue *q = &f->q[queue];
	uint8_t op = r->op == INDIRECT ? r->inner : r->op;
	struct answer a;

	r->id = id++;
	queue_put(q, r);
	queue_push(q, false);
	if (!queue_get(q, &a, LONG_MS))
		die("no answer");
	if (a.id != r->id || a.op != op)
		die("an answer of id %llx, operation %u, not %llx, %u",
		    (unsigned long long)a.id, a.op, (unsigned long long)r->id, op);
	return a.status;
}
