/* null.c - a disk without storage: reads give zeroes, writes vanish.
 *
 * For timing and testing everything above a driver: what is slow or wrong with
 * null: is not the format's fault.  It is also the template for new drivers:
 * copy it, keep the order, and replace what is not true of yours.
 *
 * Image name: null:SIZE, e.g. null:1G
 *
 * How to add a driver (include/td_driver.h is the contract):
 *  1. One file (or folder) in drivers/, with its table at the end.
 *  2. One line in drivers/drivers.c.
 *  3. A unit test, tests/unit/drv_NAME.c.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/iov.h"
#include "base/size.h"
#include "td_driver.h"

/* A driver with state puts it into a struct, says sizeof in .node_ctx, and
 * finds it, zeroed, in n->priv; the same for .req_ctx and td_ctx(n, r). */

/* Open parses n->arg, sets the geometry and completes, now or later.  A refusal
 * is one td_err() that says what is wrong and what would be right. */
static void null_open(struct td_node *n, struct td_req *r)
{
	uint64_t bytes;
	int err = size_parse(n->arg, &bytes);

	if (!err && (!bytes || bytes > INT64_MAX - 512))
		err = -ERANGE;
	if (err) {
		td_err(n, "bad size '%s': want a number like 4096, 64M or 1G",
		       n->arg);
		td_complete(r, err);
		return;
	}
	td_set_geometry(n, align_up(bytes, 512), 512);
	td_complete(r, 0);
}

/* Submit starts what r asks for and returns; sooner or later it ends in one
 * td_complete(r, 0 or -errno), which never calls anybody back from here.  What
 * is not in .caps does not come; ranges lie inside the disk. */
static void null_submit(struct td_node *n, struct td_req *r)
{
	(void)n;
	if (r->op == TD_OP_READ)
		iov_zero(r->iov, r->iovcnt, 0, r->length);
	else if (r->op == TD_OP_EXTENTS)
		td_extent_add(r->extents, r->length,
			      TD_EXTENT_HOLE | TD_EXTENT_ZERO);
	td_complete(r, 0);
}

/* Close gives back what open took; no request is in flight. */
static void null_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	td_complete(r, 0);
}

const struct td_driver td_null = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_STORE,
	.name	= "null",
	.help	= "null:SIZE  reads give zeroes, writes vanish",
	.caps	= TD_CAP_ALL & ~TD_CAP_RESIZE,
	.open	= null_open,
	.submit	= null_submit,
	.close	= null_close,
};
