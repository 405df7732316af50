/* kill_point.c - see kill_point.h. */
#include "base/kill_point.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "base/size.h"

bool kill_points_armed;
static char point[64];
static uint64_t left;

int kill_point_arm(const char *spec)
{
	size_t len = strcspn(spec, ":");

	left = 1;
	if (!len || len >= sizeof(point))
		return -EINVAL;
	if (spec[len] && (uint_parse(spec + len + 1, UINT32_MAX, &left) || !left))
		return -EINVAL;
	memcpy(point, spec, len);
	point[len] = '\0';
	kill_points_armed = true;
	return 0;
}

bool kill_point_due(const char *name)
{
	return kill_points_armed && left && !strcmp(name, point) && !--left;
}

_Noreturn void kill_point_die(void)
{
	for (;;)
		raise(SIGKILL);
}

void kill_point_reached(const char *name)
{
	if (kill_point_due(name))
		kill_point_die();
}
