/* policy.c - see policy.h.
 *
 * What a tapdisk asks is not trusted: it faces guests and images.  It gets the
 * one file that its operator named, never more than the operator allowed.
 */
#include "policy.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "tap_proto.h"

/* Length of the TYPE at s if a ':' follows it, else 0. */
static size_t type_len(const char *s)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz"
			     "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_");

	return s[n] == ':' ? n : 0;
}

const char *policy_path(const char *spec)
{
	for (;;) {
		size_t n = type_len(spec);

		if (!n)
			return NULL;
		spec += n + 1;
		if (*spec == '/')
			return spec;
		spec = strchr(spec, '|');
		if (!spec)
			return NULL;
		spec++;
	}
}

int policy_check(const char *spec, uint32_t disk_flags, const char *path,
		 uint32_t ask_flags)
{
	const char *own = policy_path(spec);

	if (!own || strcmp(own, path))
		return -EACCES;
	if ((disk_flags & TAP_OPEN_RDONLY) && !(ask_flags & TAP_OPEN_RDONLY))
		return -EROFS;
	return 0;
}

int policy_spec(const char *spec)
{
	if (!type_len(spec))
		return -EINVAL;
	for (; *spec; spec++)
		if ((unsigned char)*spec < ' ' || *spec == 0x7f)
			return -EINVAL;
	return 0;
}
