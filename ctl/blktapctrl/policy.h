/* policy.h - which files a disk may open.  Pure. */
#ifndef CTL_POLICY_H
#define CTL_POLICY_H

#include <stdint.h>

/* The file that a spec names: behind the ':' of the first TYPE whose rest
 * begins with '/', so of "delay:ms=5|aio:/srv/a" it is "/srv/a", and a path may
 * contain anything.  NULL if the spec names none ("ram:1G"). */
const char *policy_path(const char *spec);

/* May a disk with that spec and those flags (TAP_OPEN_*) open path so?  0, or
 * -EACCES / -EROFS. */
int policy_check(const char *spec, uint32_t disk_flags, const char *path,
		 uint32_t ask_flags);

/* Is it a spec at all: TYPE:... without control characters?  0 or -EINVAL. */
int policy_spec(const char *spec);

#endif
