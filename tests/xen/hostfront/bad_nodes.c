/* bad_nodes.c - what a guest writes into xenstore: values, states, nothing at all. */
#include "hostfront.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LONG_MS 30000u

static const struct setup plain = { NATIVE, 0, 1, true };
static char nines[1501];	/* a value may have 2 KiB */

#define NO_RING "cannot map its ring"
#define NO_PORT "cannot bind its event channel"

/* Good nodes but for the key: refused, with a reason that is fit to print, and says
 * so (NULL: whatever).  With `either' the back end may also take it. */
static void refused(struct front *f, const struct setup *s, bool either,
		    const char *key, const char *value, const char *because)
{
	const char *why;

	doing("%s = '%.40s'", key, value ? value : "(none)");
	front_reset(f);
	front_make(f, s);
	front_tell(f);
	if (value)
		front_set(f, key, "%s", value);
	else
		front_unset(f, key);
	front_set(f, "state", "3");
	if (front_await(f, CONNECTED | CLOSED, LONG_MS) == 4 && !either)
		die("was taken");
	if (!either) {
		why = front_back(f, "hotplug-error");
		if (!why || !*why)
			die("refused without a reason");
		if (because && !strstr(why, because))
			die("refused for another reason: %s", why);
		for (; *why; why++)
			if (*why < ' ' || *why > '~')
				die("the reason is not fit to print");
	}
	front_set(f, "state", "5");
	front_await(f, CLOSING | CLOSED, LONG_MS);
	front_set(f, "state", "6");
	front_await(f, CLOSED, LONG_MS);
	if (!value || strncmp(key, "queue", 5))
		front_unset(f, key);
	front_drop(f);
}

static void bad(struct front *f, const char *key, const char *value)
{
	refused(f, &plain, false, key, value, NULL);
}

/* It could be, but Xen has none for us. */
static void none(struct front *f, const char *key, uint32_t value, const char *because)
{
	char text[24];

	snprintf(text, sizeof(text), "%u", value);
	refused(f, &plain, false, key, text, because);
}

/* Values that only Xen can judge. */
static void grants_and_ports(struct front *f)
{
	struct pages *rdonly = pages_new(1, 0, false), *others = pages_new(1, 4711, true);
	unsigned others_port = port_new(4711), lower = port_new(0), port = port_new(0);
	const struct setup two = { NATIVE, 0, 2, false }, four = { NATIVE, 2, 1, false };
	char text[24];

	none(f, "ring-ref", UINT32_MAX, NULL);
	none(f, "ring-ref", 123456, NO_RING);
	/* rdonly, others: pages that are granted, but not so */
	none(f, "ring-ref", rdonly->gref[0], NO_RING);
	none(f, "ring-ref", others->gref[0], NO_RING);
	none(f, "event-channel", others_port, NO_PORT);
	none(f, "event-channel", 1, NO_PORT);		/* the console's and xenstore's */
	none(f, "event-channel", 2, NO_PORT);
	none(f, "event-channel", 4095, NO_PORT);
	none(f, "event-channel", 131071, NO_PORT);
	/* A new channel takes the lowest number: the other stays closed. */
	port_free(lower);
	port_free(port);
	none(f, "event-channel", port, NO_PORT);
	/* Pages that are mapped twice, and no event channel for the second queue. */
	front_reset(f);
	front_make(f, &four);
	snprintf(text, sizeof(text), "%u", f->q[0].ring->gref[0]);
	front_drop(f);
	refused(f, &four, true, "ring-ref3", text, NULL);
	refused(f, &four, false, "ring-ref3", "4294967295", NULL);
	front_reset(f);
	front_make(f, &two);
	snprintf(text, sizeof(text), "%u", f->q[0].port);
	front_drop(f);
	refused(f, &two, true, "queue-1/event-channel", text, NULL);
	refused(f, &two, false, "queue-1/event-channel", "4095", NO_PORT);
	refused(f, &two, false, "queue-1/ring-ref", NULL, NULL);
	pages_free(rdonly);
	pages_free(others);
	port_free(others_port);
}

void bad_values(struct front *f, bool all)
{
	/* A short run has one of each kind: the first FEW. */
	enum { FEW = 10 };
	static const struct { const char *key, *value; } values[] = {
		{ "ring-page-order", "-1" }, { "ring-page-order", "8" },
		{ "ring-page-order", "4294967296" }, { "ring-page-order", "1" },
		{ "multi-queue-num-queues", "0" },
		{ "multi-queue-num-queues", "99" },
		{ "multi-queue-num-queues", nines },
		{ "protocol", "x86_64-abi\n\033[2J" }, { "ring-ref", NULL },
		{ "event-channel", "0" },
		{ "ring-page-order", "5" }, { "ring-page-order", "31" },
		{ "ring-page-order", "32" }, { "ring-page-order", "63" },
		{ "ring-page-order", "4294967295" },
		{ "ring-page-order", "18446744073709551616" },
		{ "ring-page-order", "" }, { "ring-page-order", "abc" },
		{ "ring-page-order", "0x1" }, { "ring-page-order", " 1" },
		{ "ring-page-order", "1.0" }, { "ring-page-order", nines },
		{ "multi-queue-num-queues", "9" },
		{ "multi-queue-num-queues", "-1" },
		{ "multi-queue-num-queues", "65537" },
		{ "multi-queue-num-queues", "abc" },
		{ "multi-queue-num-queues", "" },
		{ "multi-queue-num-queues", "4294967297" }, { "protocol", "junk" },
		{ "protocol", "" }, { "protocol", nines },
		{ "feature-persistent", "2" }, { "feature-persistent", "yes" },
		{ "ring-ref", nines }, { "ring-ref", "abc" },
		{ "event-channel", NULL }, { "event-channel", "-1" },
		{ "event-channel", "131072" }, { "event-channel", nines },
	};

	memset(nines, '9', sizeof(nines) - 1);
	for (unsigned i = 0; i < (all ? sizeof(values) / sizeof(values[0]) : FEW); i++)
		bad(f, values[i].key, values[i].value);
	grants_and_ports(f);
	doing("after the bad values");
	model_control(f, &plain);
}

/* --- states --- */

/* Any state after any other, in a hurry, with rings that could be served. */
void bad_states(struct front *f, unsigned n)
{
	static const char *const some[] = { "0", "1", "2", "3", "4", "5", "6", "7",
		"8", "9", "99", "-1", "abc", "", "4294967299", "3 ", nines };

	memset(nines, '9', sizeof(nines) - 1);
	doing("states in any order");
	front_reset(f);
	front_make(f, &plain);
	front_tell(f);
	for (unsigned i = 0; i < n; i++) {
		unsigned k = rnd(2) ? rnd(sizeof(some) / sizeof(*some)) : 1 + rnd(6);

		if (rnd(16))
			front_set(f, "state", "%s", some[k]);
		else
			front_unset(f, "state");
		if (rnd(2))
			sleep_ms(rnd(40));
	}
	for (unsigned i = 0; i < n; i++)
		front_set(f, "state", "%u", i % 2 ? 3 : 5);
	/* Whatever came of it: it ends, and begins again. */
	front_set(f, "state", "5");
	front_await(f, CLOSING | CLOSED, LONG_MS);
	front_set(f, "state", "6");
	front_await(f, CLOSED, LONG_MS);
	front_drop(f);
	doing("after the states");
	model_control(f, &plain);
}

/* Nodes that go away, or are not its own. */
void bad_nodes(struct front *f)
{
	char path[192];

	doing("its keys go while it is served");
	front_connect(f, &plain);
	model_write(f);
	front_unset(f, "ring-ref");
	front_unset(f, "event-channel");
	front_set(f, "ring-page-order", "31");
	front_set(f, "protocol", "%s", abi_name[X86_32]);
	model_run(f, 64);
	front_set(f, "state", "4");
	model_run(f, 64);
	model_check(f);

	doing("its state goes while it is served");
	front_unset(f, "state");
	front_await(f, CLOSED, LONG_MS);
	front_drop(f);
	doing("after its state went");
	model_control(f, &plain);

	doing("the rings are taken back while they are served");
	front_connect(f, &plain);
	model_run(f, 64);
	front_drop(f);
	sleep_ms(100);
	front_set(f, "state", "6");
	front_await(f, CLOSED, LONG_MS);
	model_control(f, &plain);

	doing("the back end's nodes");
	snprintf(path, sizeof(path), "%s/state", f->back);
	if (store_put(path, "6", 1) != -EACCES)
		die("a guest may write the back end's state");
	snprintf(path, sizeof(path), "%s/params", f->back);
	if (store_put(path, "aio:/dev/vda", 12) != -EACCES)
		die("a guest may write the back end's image");
}

/* Ends in the midst of it, its grants and ports with it. */
void bad_exit(struct front *f)
{
	const struct setup s = { X86_64, 4, 4, true };

	front_connect(f, &s);
	model_write(f);
	for (unsigned i = 0; i < 32; i++) {
		struct req r = { .op = FLUSH, .id = i };

		queue_put(&f->q[i % s.queues], &r);
	}
	for (unsigned i = 0; i < s.queues; i++)
		queue_push(&f->q[i], true);
	_exit(0);
}

/* The last of it: the device is no more, until the toolstack says so too. */
void bad_removal(struct front *f)
{
	front_connect(f, &plain);
	model_write(f);
	model_run(f, 64);
	doing("its directory goes");
	if (store_rm(f->dir))
		die("cannot remove it");
	front_await(f, CLOSED, LONG_MS);
}
