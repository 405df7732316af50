/* only_driver.h - in place of drivers/drivers.c: a table with one driver, the test's. */
#ifndef TESTS_ONLY_DRIVER_H
#define TESTS_ONLY_DRIVER_H

#include <string.h>

#include "drivers.h"

/* Once in a program, behind `static const struct td_driver DRV'. */
#define ONLY_DRIVER(drv)                                                      \
	const struct td_driver *const td_drivers[] = { &(drv), NULL };        \
	const struct td_driver *td_driver_find(const char *name, size_t len)  \
	{                                                                     \
		return len == strlen((drv).name) &&                           \
		       !memcmp(name, (drv).name, len) ? &(drv) : NULL;        \
	}

#endif
