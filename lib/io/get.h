/* get.h - td_env.file_get of programs that open images themselves. */
#ifndef IO_GET_H
#define IO_GET_H

#include "td_driver.h"

/* Open `path` in a worker (a name may lead to a server that is slow) and give it
 * to fn from the loop.  flags: TD_NODE_*; how: more of IMAGE_*. */
void image_get(struct td_env *e, const char *path, unsigned flags, unsigned how,
	       td_file_fn *fn, void *arg);

#endif
