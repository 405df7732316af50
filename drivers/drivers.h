/* drivers.h - the list of drivers. */
#ifndef DRIVERS_H
#define DRIVERS_H

#include "td_driver.h"

/* Raw files: the store below formats. */
extern const struct td_driver td_file;

/* NULL-ended. */
extern const struct td_driver *const td_drivers[];

/* By name or alias; NULL if there is none. */
const struct td_driver *td_driver_find(const char *name, size_t len);

#endif
