/* redo_file.h - the file that td_env.redo lies in: mapped, and readied for an open. */
#ifndef REDO_FILE_H
#define REDO_FILE_H

#include <stdbool.h>

#include "td_driver.h"

struct redo_file {
	struct td_redo redo;
	struct td_env *env;		/* its redo is set when there is one */
	int fd;				/* -1: none has come */
	size_t bytes;			/* of all of it */
};

void redo_file_init(struct redo_file *f, struct td_env *e);
/* A descriptor has come (TAP_FD_REDO): it is ours. */
void redo_file_take(struct redo_file *f, int fd);
/* Before an open, while nothing is open; as td_redo says.  0, or -errno and *why: not
 * without it. */
int redo_file_prepare(struct redo_file *f, bool recover, bool unlocked,
		      const char **why);
/* Without blktapctrl: the file is made if it is not there, has room, and is readied.
 * 0, or -errno after one line in the log. */
int redo_file_open(struct redo_file *f, const char *path, bool recover);
void redo_file_free(struct redo_file *f);	/* nothing is open */

#endif
