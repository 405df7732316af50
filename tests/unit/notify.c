/* The service manager hears READY on a path and on an abstract name; children do
 * not inherit its address; without one nothing happens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/notify.h"

static int listen_on(const char *name)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				    strlen(name));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	memcpy(sa.sun_path, name, strlen(name));
	if (name[0] == '@')
		sa.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
	return fd;
}

static void hears(const char *name)
{
	char buf[64] = "";
	int fd = listen_on(name);

	setenv("NOTIFY_SOCKET", name, 1);
	notify_init();
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_int_equal(notify_send("READY=1\nSTATUS=x"), 0);
	assert_int_equal(recv(fd, buf, sizeof(buf), 0), 16);
	assert_string_equal(buf, "READY=1\nSTATUS=x");
	close(fd);
	assert_true(notify_send("STOPPING=1") < 0);
}

static void test_nobody_asked(void **state)
{
	(void)state;
	unsetenv("NOTIFY_SOCKET");
	notify_init();
	assert_int_equal(notify_send("READY=1"), 0);
}

static void test_abstract_name(void **state)
{
	char name[64];

	(void)state;
	snprintf(name, sizeof(name), "@notify-test-%d", (int)getpid());
	hears(name);
}

static void test_path(void **state)
{
	char dir[] = "/tmp/notify.XXXXXX", name[64];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(name, sizeof(name), "%s/s", dir);
	hears(name);
	unlink(name);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_asked),
		cmocka_unit_test(test_abstract_name),
		cmocka_unit_test(test_path),
	};

	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
