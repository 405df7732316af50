/* minors.c - see minors.h. */
#include "minors.h"

#include <errno.h>
#include <stddef.h>

#include "base/log.h"
#include "names.h"
#include "tap_proto.h"
#include "vdisk.h"

static struct {
	bool taken;
	struct vdisk *disk;
} minors[TAP_MINOR_MAX];

static bool in_range(int minor)
{
	return minor >= 0 && minor < TAP_MINOR_MAX;
}

int minor_take(int want, bool creating)
{
	int first = want < 0 ? 0 : want;
	int last = want < 0 ? TAP_MINOR_MAX - 1 : want;

	if (want >= TAP_MINOR_MAX)
		return -EINVAL;
	for (int n = first; n <= last; n++) {
		int err;

		/* (One that lies about its minor has the names of one.) */
		if (minors[n].taken || names_foreign(n) || vdisk_by_number(n))
			continue;
		err = names_marker_make(n, creating);
		if (err == -EEXIST)	/* not ours: somebody's file */
			continue;
		if (err)
			return err;
		minor_adopt(n);
		return n;
	}
	return want < 0 ? -EUSERS : -EEXIST;
}

void minor_adopt(int minor)
{
	ASSERT(in_range(minor));
	minors[minor].taken = true;
	names_compat_marker(minor, true);
}

void minor_free(int minor)
{
	ASSERT(in_range(minor) && minors[minor].taken && !minors[minor].disk);
	names_remove(RUN_MARKER, minor);
	names_compat_marker(minor, false);
	minors[minor].taken = false;
}

bool minor_taken(int minor)
{
	return in_range(minor) && minors[minor].taken;
}

struct vdisk *minor_disk(int minor)
{
	return in_range(minor) ? minors[minor].disk : NULL;
}

void minor_bind(int minor, struct vdisk *vd)
{
	ASSERT(minor_taken(minor) && !minors[minor].disk && vd->minor < 0);
	minors[minor].disk = vd;
	vd->minor = minor;				/* I2 */
}

void minor_unbind(int minor)
{
	ASSERT(in_range(minor) && minors[minor].disk);
	minors[minor].disk->minor = -1;
	minors[minor].disk = NULL;
}
