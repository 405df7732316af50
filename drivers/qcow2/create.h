/* create.h - making qcow2 images: what is asked for, how large it gets, writing it. */
#ifndef QCOW2_CREATE_H
#define QCOW2_CREATE_H

#include "formats.h"

extern const struct td_format_opt qcow2_opts[];

int qcow2_create(struct td_node *store, const struct td_format_make *m);
/* Bytes of a file with so many bytes of data in it, of a disk of m->size.  0, or
 * -EINVAL after log_err(). */
int qcow2_measure(const struct td_format_make *m, uint64_t data, uint64_t *bytes);

/* "": none.  0, or -errno after td_err(). */
int qcow2_rename_backing(struct td_node *store, const char *backing,
			 const char *format);

#endif
