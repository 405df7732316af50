/* vdev.c - see vdev.h. */
#include "base/vdev.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define EXTENDED (1u << 28)	/* xvd disks that the old numbers have no room for */

/* A number up to max that ends the string, or that `p` follows. */
static bool tail(const char **s, uint32_t max, uint32_t *v)
{
	char *end;

	if (**s < '0' || **s > '9')
		return false;
	errno = 0;
	*v = (uint32_t)strtoul(*s, &end, 10);
	*s = end;
	return !errno && *v <= max;
}

static int pack(uint32_t disk, uint32_t part, uint32_t *devid)
{
	if (disk < 16 && part < 16)
		*devid = 202u << 8 | disk << 4 | part;
	else if (disk < (1u << 20) && part < 256)
		*devid = EXTENDED | disk << 8 | part;
	else
		return -EINVAL;
	return 0;
}

int vdev_parse(const char *name, uint32_t *devid)
{
	uint32_t disk = 0, part = 0;
	const char *s = name;
	uint64_t v;

	if (!uint_parse(name, (1u << 29) - 1, &v)) {
		*devid = (uint32_t)v;
		return 0;
	}
	if (*s == 'd' && s[1] >= '0' && s[1] <= '9') {	/* d0p1 */
		s++;
		if (!tail(&s, (1u << 20) - 1, &disk))
			return -EINVAL;
		if (*s == 'p') {
			s++;
			if (!tail(&s, 255, &part))
				return -EINVAL;
		}
		return *s ? -EINVAL : pack(disk, part, devid);
	}
	if (strncmp(s, "xvd", 3) && strncmp(s, "sd", 2) && strncmp(s, "hd", 2))
		return -EINVAL;
	s += *s == 'x' ? 3 : 2;
	if (*s < 'a' || *s > 'z')
		return -EINVAL;
	for (; *s >= 'a' && *s <= 'z' && disk < (1u << 20); s++)
		disk = disk * 26 + (uint32_t)(*s - 'a') + 1;
	disk--;
	if (*s && (!tail(&s, 255, &part) || *s))
		return -EINVAL;
	switch (*name) {
	case 's':
		if (disk > 15 || part > 15)
			return -EINVAL;
		*devid = 8u << 8 | disk << 4 | part;
		return 0;
	case 'h':
		if (disk > 3 || part > 63)
			return -EINVAL;
		*devid = (disk < 2 ? 3u : 22u) << 8 | (disk & 1) << 6 | part;
		return 0;
	default:
		return pack(disk, part, devid);
	}
}

const char *vdev_name(uint32_t devid, char *buf)
{
	uint32_t disk = (devid & (EXTENDED - 1)) >> 8, part = devid & 255, same;
	char letters[8];
	int n = sizeof(letters) - 1;

	if (devid >> 8 == 202) {
		disk = (devid >> 4) & 15;
		part = devid & 15;
	}
	if (pack(disk, part, &same) || same != devid) {
		snprintf(buf, VDEV_NAME_MAX, "%u", devid);
		return buf;
	}
	letters[n] = '\0';
	for (disk++; disk && n; disk = (disk - 1) / 26)
		letters[--n] = (char)('a' + (disk - 1) % 26);
	if (part)
		snprintf(buf, VDEV_NAME_MAX, "xvd%s%u", letters + n, part);
	else
		snprintf(buf, VDEV_NAME_MAX, "xvd%s", letters + n);
	return buf;
}
