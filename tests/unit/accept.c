/* accept: all who connect are let in; out of descriptors, or paused, nobody is, and
 * who waits outside costs no time. */
#include "loop/accept.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"

#define CLIENTS 20

static struct loop *loop;
static struct acceptor door;
static struct loop_timer over;
static int client[CLIENTS], entered;
static int pause_at;		/* pause when so many have entered */
static int wanted;		/* the loop ends when so many have */

static void let_in(struct acceptor *a, int fd)
{
	close(fd);
	if (++entered == pause_at)
		acceptor_pause(a, true);
	if (entered == wanted)
		loop_stop(loop);
}

static void stop(struct loop_timer *t)
{
	(void)t;
	loop_stop(loop);
}

/* The passes of the loop in 50 ms: with nothing to do these are a few. */
static uint64_t passes(void)
{
	uint64_t before = loop_stats(loop)->passes;

	loop_timer_set(loop, &over, 50 * NS_PER_MS);
	loop_run(loop);
	return loop_stats(loop)->passes - before;
}

/* Until n have entered, however busy the machine. */
static void await(int n)
{
	wanted = n;
	if (entered < n) {
		loop_timer_set(loop, &over, 20 * NS_PER_S);
		loop_run(loop);
		loop_timer_clear(&over);
	}
	wanted = 0;
	assert_in_range(entered, n, CLIENTS);
}

static int set_up(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa.sun_family);	/* a name is found for it */
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	(void)state;
	loop = loop_new();
	loop_timer_init(&over, stop);
	entered = pause_at = 0;
	door = (struct acceptor){ .whom = "a client", .fn = let_in };
	if (bind(fd, (struct sockaddr *)&sa, len) || listen(fd, CLIENTS) ||
	    acceptor_start(&door, loop, fd))
		return -1;
	len = sizeof(sa);
	if (getsockname(fd, (struct sockaddr *)&sa, &len))
		return -1;
	for (int i = 0; i < CLIENTS; i++) {
		client[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		if (connect(client[i], (struct sockaddr *)&sa, len))
			return -1;
	}
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	acceptor_stop(&door);
	acceptor_stop(&door);		/* again: nothing */
	acceptor_pause(&door, false);
	for (int i = 0; i < CLIENTS; i++)
		close(client[i]);
	loop_free(loop);
	return 0;
}

static void all_are_let_in(void **state)
{
	(void)state;
	await(CLIENTS);
}

static void paused_it_lets_nobody_in(void **state)
{
	(void)state;
	pause_at = 3;
	await(3);
	assert_in_range(passes(), 1, 20);
	assert_int_equal(entered, 3);
	acceptor_pause(&door, false);
	await(CLIENTS);
}

static void out_of_descriptors_it_rests(void **state)
{
	struct rlimit all, none;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &all), 0);
	none = (struct rlimit){ 3, all.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	for (int i = 0; i < 100 && !loop_timer_is_set(&door.rest); i++)
		assert_in_range(passes(), 1, 20);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &all), 0);
	assert_true(loop_timer_is_set(&door.rest));
	assert_int_equal(entered, 0);

	/* Whoever pauses it meanwhile does not end that. */
	loop_timer_set(loop, &door.rest, 3600 * NS_PER_S);
	acceptor_pause(&door, true);
	acceptor_pause(&door, false);
	passes();
	assert_int_equal(entered, 0);
	/* Nor does its end let anybody in who is not to be. */
	acceptor_pause(&door, true);
	loop_timer_set(loop, &door.rest, 0);
	passes();
	assert_int_equal(entered, 0);
	acceptor_pause(&door, false);
	/* (valgrind accepts one, and closes what the limit does not allow) */
	await(CLIENTS - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(all_are_let_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(paused_it_lets_nobody_in, set_up, tear_down),
		cmocka_unit_test_setup_teardown(out_of_descriptors_it_rests, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
