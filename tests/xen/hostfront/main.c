/*
 * hostfront - plays the front end of one block device, right and wrong.
 *
 *	hostfront DEVID VERB [ARGUMENT]
 *
 *	io		verified I/O in every layout, several sizes and numbers of rings
 *	io-all		each with each
 *	crowd 0 N	verified I/O through N pages that stay granted
 *	requests ABI [persistent]	requests that are none (native, x86_32, x86_64)
 *	readonly	writes to a disk that may not be written
 *	indices ABI	producers and consumers that are nowhere
 *	loop 0 N	breaks its ring, N times in a hurry
 *	events		storms of events, channels that are closed
 *	random SEED SECONDS	any bytes in the slots, also while they are read
 *	values [all]	handshakes that cannot be
 *	states SEED N	any state after any other
 *	nodes		keys that go; keys of others
 *	exit		ends in the midst of it; `io' after it must work
 *	removal		removes its directory: the device's end
 *
 * Each but the last two ends with a device that connects and does verified I/O.
 */
#include "hostfront.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void io_with(struct front *f, const struct setup *s)
{
	doing("%s, %u queues of %u pages%s", abi_name[s->abi], s->queues,
	      1u << s->order, s->persistent ? ", persistent" : "");
	model_control(f, s);
}

static void io(struct front *f)
{
	static const struct setup setups[] = {
		{ NATIVE, 0, 1, false }, { NATIVE, 2, 2, true },
		{ X86_32, 0, 1, true }, { X86_32, 1, 2, false },
		{ X86_32, 4, 1, false }, { X86_64, 0, 8, false },
		{ X86_64, 3, 1, true },
	};

	for (unsigned i = 0; i < sizeof(setups) / sizeof(setups[0]); i++)
		io_with(f, &setups[i]);
}

static void io_all(struct front *f)
{
	static const unsigned queues[] = { 1, 3, 8 };

	for (unsigned i = 0; i < ABIS * (ORDER + 1) * 3; i++) {
		struct setup s = { (enum abi)(i % ABIS), i / ABIS % (ORDER + 1),
				   queues[i / ABIS / (ORDER + 1)], i & 1 };

		io_with(f, &s);
	}
}

static void crowd(struct front *f, unsigned pages)
{
	const struct setup s = { NATIVE, 0, 1, true };

	front_connect(f, &s);
	model_write(f);
	model_crowd(f, pages);
	front_show(f);
	front_leave(f);
}

static void random_all(struct front *f, unsigned seconds)
{
	const struct setup s = { X86_32, 0, 1, true };

	for (unsigned abi = 0; abi < ABIS; abi++)
		bad_random(f, (enum abi)abi, seconds);
	doing("after random requests");
	model_control(f, &s);
}

static enum abi abi_of(const char *s)
{
	return !strcmp(s, "x86_32") ? X86_32 : !strcmp(s, "x86_64") ? X86_64 : NATIVE;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 2 ? argv[2] : "", *arg = argc > 3 ? argv[3] : "1";
	unsigned more = argc > 4 ? (unsigned)atoi(argv[4]) : 5;
	static struct front f;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 3)
		return 2;
	front_open(&f, (unsigned)atoi(argv[1]));
	rnd_seed = (unsigned)atoi(arg);
	doing("%s", verb);
	if (!strcmp(verb, "io"))
		io(&f);
	else if (!strcmp(verb, "io-all"))
		io_all(&f);
	else if (!strcmp(verb, "crowd"))
		crowd(&f, more);
	else if (!strcmp(verb, "requests"))
		bad_requests(&f, abi_of(arg), argc > 4);
	else if (!strcmp(verb, "readonly"))
		bad_readonly(&f);
	else if (!strcmp(verb, "indices"))
		bad_indices(&f, abi_of(arg));
	else if (!strcmp(verb, "loop"))
		bad_loop(&f, more);
	else if (!strcmp(verb, "events"))
		bad_events(&f);
	else if (!strcmp(verb, "random"))
		random_all(&f, more);
	else if (!strcmp(verb, "values"))
		bad_values(&f, argc > 3);
	else if (!strcmp(verb, "states"))
		bad_states(&f, more);
	else if (!strcmp(verb, "nodes"))
		bad_nodes(&f);
	else if (!strcmp(verb, "exit"))
		bad_exit(&f);
	else if (!strcmp(verb, "removal"))
		bad_removal(&f);
	else
		return 2;
	/* Another front end may have it. */
	if (strcmp(verb, "removal"))
		front_reset(&f);
	return 0;
}
