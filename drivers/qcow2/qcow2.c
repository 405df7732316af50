/* qcow2.c - the driver of qcow2 images: its table.
 *
 * What the format says of bytes is in this folder; how requests are served from
 * them is the sparse engine's (sparse/sparse.h).
 *
 * Image name: qcow2:/path
 */
#include "qcow2/qcow2_priv.h"

/* A new cluster's count is on stable storage before the entry that names it: the
 * refcount table waits for blocks, L2 tables for both, the L1 table for L2. */
static const struct sparse_class classes[QC_CLASSES] = {
	[QC_BLOCK] = { "refcount block", 0 },
	[QC_REFT] = { "refcount table", 1 },
	[QC_L2] = { "L2 table", 3 },
	[QC_L1] = { "L1 table", 4 },
};

static const struct sparse_format format = {
	.classes	= classes,
	.n_classes	= QC_CLASSES,
	.open		= qcow2_open,
	.opened		= qcow2_opened,
	.first_write	= qcow2_first_write,
	.resize		= qcow2_resize,
	.shrink		= qcow2_shrink,
	.resized	= qcow2_resized,
	.mark_corrupt	= qcow2_mark_corrupt,
	.map		= qcow2_map,
	.link		= qcow2_link,
	.unmap		= qcow2_unmap,
	.claim		= qcow2_claim,
	.share		= qcow2_share,
	.release	= qcow2_release,
	.search		= qcow2_search,
};

static void qcow2_td_open(struct td_node *n, struct td_req *r)
{
	sparse_open(n, r, &format, sizeof(struct qcow2));
}

const struct td_driver td_qcow2 = {
	.abi		= TD_DRIVER_ABI,
	.kind		= TD_FORMAT,
	.name		= "qcow2",
	.help		= "qcow2:/path  an image of QEMU's format, version 2 or 3",
	.caps		= SPARSE_CAPS,
	.node_ctx	= SPARSE_NODE_CTX,
	.req_ctx	= SPARSE_REQ_CTX,
	.open		= qcow2_td_open,
	.submit		= sparse_submit,
	.close		= sparse_close,
	.resize		= sparse_resize,
	.stats		= sparse_stats,
};
