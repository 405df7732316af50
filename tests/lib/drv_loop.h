/* drv_loop.h - a loop device for a test, gone with the process however it ends.
 * Needs root. */
#ifndef TESTS_DRV_LOOP_H
#define TESTS_DRV_LOOP_H

#include <stdbool.h>

/* Attach `file` as a device of such sectors.  The device's name, or NULL after a
 * line that starts with SKIP.  One at a time. */
const char *loop_attach(const char *file, unsigned sector, bool direct);
void loop_detach(void);

/* A mount that nobody else sees and that dies with the process.  False after a
 * SKIP line. */
bool private_mount(const char *what, const char *where, const char *type,
		   const char *options);

/* Run a command; false and a SKIP line if it fails. */
bool command(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
