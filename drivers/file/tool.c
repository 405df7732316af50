/* tool.c - raw files, for tools.  There is nothing to write into a raw image: it
 * is as long as the disk.  (Space that is to be there from the start is the
 * tool's to ask for: that takes requests.) */
#include "drivers.h"
#include "formats.h"

static const struct td_format_opt opts[] = {
	{ "size", "SIZE", "size of the disk", NULL },
	{ "preallocation", "MODE", "off, falloc (space is reserved) or full (zeroes "
	  "are written)", NULL },
	{ .name = NULL }
};

static int raw_create(struct td_node *store, const struct td_format_make *m)
{
	return td_blocking_size(store, m->size);
}

const struct td_format_tool td_raw_tool = {
	.name	= "raw",
	.driver	= &td_file,
	.opts	= opts,
	.create	= raw_create,
};
