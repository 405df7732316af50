/* The sandbox: what it must let through, and what it must not, tried by
 * children that have entered it. */
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/keys.h"

static pid_t other;		/* another sandboxed process */

static void *nothing(void *arg)
{
	return arg;
}

static int refused(long rc)
{
	return rc == -1 && errno == EPERM ? 0 : -1;
}

/* Each answers 0 when the sandbox does as it should. */

static int threads_start(void)
{
	pthread_t t;

	return pthread_create(&t, NULL, nothing, NULL) || pthread_join(t, NULL);
}

static int memory_can_be_had(void)
{
	void *p = malloc(64 << 20);
	int rc = p ? 0 : -1;

	if (p)
		memset(p, 1, 64 << 20);
	free(p);
	return rc;
}

/* Before the sandbox; a key is passed in. */
static int key_fd;

static int a_key_can_be_had(void)
{
	struct keys k = { 0 };
	const char *why;
	int rc = keys_add_memfd(&k, key_fd, &why);

	if (!rc)
		rc = memcmp(k.v[0].bytes, "secret", 6) || mlock(k.v[0].bytes, 6);
	keys_wipe(&k);
	return rc;
}

static int a_name_is_taken(void)
{
	return prctl(PR_SET_NAME, "tapdisk/12", 0, 0, 0);
}

static int flags_of_descriptors(void)
{
	int flags = fcntl(0, F_GETFL);

	return flags < 0 || fcntl(0, F_SETFL, flags);
}

static int signals_of_ours(void)
{
	return (int)syscall(SYS_tgkill, getpid(), getpid(), 0);
}

static int signals_to_others(void)
{
	return refused(syscall(SYS_tgkill, other, other, 0)) |
	       refused(syscall(SYS_kill, other, 0));
}

static int signals_by_descriptors(void)
{
	return refused(fcntl(0, F_SETOWN, other)) |
	       refused(fcntl(0, F_SETSIG, SIGKILL));
}

static int processors_of_others(void)
{
	unsigned long mask = 1;

	return refused(syscall(SYS_sched_setaffinity, other, sizeof(mask), &mask));
}

static int the_events_of_all(void)
{
	unsigned long ctx = 0;

	return refused(syscall(SYS_io_setup, 65536, &ctx));
}

static int files_by_name(void)
{
	return refused(open("/dev/null", O_RDONLY)) |
	       refused(unlink("/nowhere/at/all"));
}

static int programs_and_processes(void)
{
	char *none[] = { NULL };

	return refused(execve("/bin/true", none, none)) | refused(fork());
}

static int the_network(void)
{
	return refused(socket(AF_INET, SOCK_STREAM, 0)) |
	       refused(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int new_code(void)
{
	return refused((long)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static int an_abort(void)
{
	abort();
}

/* The wait status of a sandboxed child that has run fn. */
static int run(int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		if (sandbox_enter(NULL, 0))
			_exit(99);
		_exit(fn() ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void lets_through(void **state)
{
	(void)state;
	assert_int_equal(run(threads_start), 0);
	assert_int_equal(run(memory_can_be_had), 0);
	assert_int_equal(run(a_key_can_be_had), 0);
	assert_int_equal(run(a_name_is_taken), 0);
	assert_int_equal(run(flags_of_descriptors), 0);
	assert_int_equal(run(signals_of_ours), 0);
}

static void keeps_in(void **state)
{
	(void)state;
	assert_int_equal(run(signals_to_others), 0);
	assert_int_equal(run(signals_by_descriptors), 0);
	assert_int_equal(run(processors_of_others), 0);
	assert_int_equal(run(the_events_of_all), 0);
	assert_int_equal(run(files_by_name), 0);
	assert_int_equal(run(programs_and_processes), 0);
	assert_int_equal(run(the_network), 0);
	assert_int_equal(run(new_code), 0);
}

static void a_broken_promise_still_aborts(void **state)
{
	int status;

	(void)state;
	status = run(an_abort);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

static int setup(void **state)
{
	int up[2];
	char byte;

	(void)state;
	key_fd = keys_to_memfd(&(struct td_secret){
			(const unsigned char *)"secret", 6 });
	if (key_fd < 0 || pipe(up))
		return -1;
	other = fork();
	if (!other) {
		int err = sandbox_enter(NULL, 0);

		if (write(up[1], "", err ? 0 : 1) < 0)
			_exit(1);
		close(up[1]);
		(void)poll(NULL, 0, -1);
		_exit(0);
	}
	close(up[1]);
	return other < 0 || read(up[0], &byte, 1) != 1;
}

static int teardown(void **state)
{
	(void)state;
	kill(other, SIGKILL);
	return waitpid(other, NULL, 0) != other;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lets_through),
		cmocka_unit_test(keeps_in),
		cmocka_unit_test(a_broken_promise_still_aborts),
	};

	if (RUNNING_ON_VALGRIND) {
		puts("SKIP: valgrind makes system calls of its own, which the "
		     "sandbox refuses");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
