/* progress.c - how far it is, on the standard output: all the time with -p, and
 * once for each SIGUSR1. */
#include <stdio.h>

#include "base/clock.h"
#include "tap_img.h"

#define SHOW_NS (100 * NS_PER_MS)

static struct {
	uint64_t total, done, shown_ns;
	bool show, active;
} now;

static void print(char end)
{
	double part = now.total ? (double)now.done / (double)now.total : 1;

	printf("    (%3.2f/100%%)%c", 100 * part, end);
	fflush(stdout);
}

void progress_begin(uint64_t total, bool show)
{
	now.total = total;
	now.done = 0;
	now.show = show;
	now.active = true;
	if (show)
		print('\r');
}

void progress_add(uint64_t done)
{
	uint64_t t;

	now.done += done;
	if (!now.show)
		return;
	t = clock_ns();
	if (t - now.shown_ns < SHOW_NS)
		return;
	now.shown_ns = t;
	print('\r');
}

void progress_end(bool complete)
{
	if (complete)
		now.done = now.total;
	if (now.show)
		print('\n');
	now.active = false;
}

void progress_signal(void)
{
	if (now.active)
		print('\n');
}
