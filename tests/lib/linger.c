/* linger.c - see linger.h. */
#include "linger.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

int linger_socket(void)
{
	static const char data[1 << 16];
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct linger how = { .l_onoff = 1, .l_linger = LINGER_S };
	socklen_t len = sizeof(a);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (l < 0 || fd < 0 || bind(l, (struct sockaddr *)&a, len) ||
	    listen(l, 1) || getsockname(l, (struct sockaddr *)&a, &len) ||
	    connect(fd, (struct sockaddr *)&a, len) ||
	    accept4(l, NULL, NULL, SOCK_CLOEXEC) < 0 ||	/* and never read */
	    setsockopt(fd, SOL_SOCKET, SO_LINGER, &how, sizeof(how))) {
		close(l);
		close(fd);
		return -1;
	}
	close(l);
	while (send(fd, data, sizeof(data), MSG_DONTWAIT) > 0)
		;
	return fd;
}
