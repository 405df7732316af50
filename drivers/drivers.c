/* drivers.c - the one list of drivers. */
#include "drivers.h"

#include <string.h>

extern const struct td_driver td_ram, td_null, td_luks;
extern const struct td_driver td_qcow2, td_qcow, td_vmdk;
extern const struct td_driver td_filter_error, td_filter_delay, td_filter_log;

const struct td_driver *const td_drivers[] = {
	&td_file, &td_ram, &td_null, &td_luks,
	&td_qcow2, &td_qcow, &td_vmdk,
	&td_filter_error, &td_filter_delay, &td_filter_log,
	NULL
};

static bool is(const char *name, const char *word, size_t len)
{
	return strlen(name) == len && !memcmp(name, word, len);
}

const struct td_driver *td_driver_find(const char *name, size_t len)
{
	for (const struct td_driver *const *d = td_drivers; *d; d++) {
		if (is((*d)->name, name, len))
			return *d;
		for (const char *const *a = (*d)->aliases; a && *a; a++)
			if (is(*a, name, len))
				return *d;
	}
	return NULL;
}
