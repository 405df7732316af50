/* kill_point.h - places where a test may have a process die, chosen at run time
 * (tapdisk --kill-at NAME[:COUNT]): the COUNTth time that the place is reached
 * the process is gone as if by SIGKILL.  Costs one test of a flag otherwise. */
#ifndef BASE_KILL_POINT_H
#define BASE_KILL_POINT_H

#include <stdbool.h>

extern bool kill_points_armed;

/* 0, or -EINVAL: not NAME or NAME:COUNT. */
int kill_point_arm(const char *spec);
void kill_point_reached(const char *name);
/* The same without dying: true when it is time to die in the middle of an act. */
bool kill_point_due(const char *name);
_Noreturn void kill_point_die(void);

#define KILL_POINT(name)                                                    \
	do {                                                                \
		if (__builtin_expect(kill_points_armed, 0))                 \
			kill_point_reached(name);                           \
	} while (0)

#endif
