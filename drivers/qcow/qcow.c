/* qcow.c - the qcow (version 1) format: opening, and its tables of slots.
 *
 * The header does not say of what format the backing file is: it is used only when
 * the operator gave the chain.  Files may be shorter than their tables and clusters:
 * what is behind the end is zeroes.
 *
 * Image name: qcow:/PATH
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "crypto/crypt.h"
#include "pack/deflate.h"
#include "qcow/qcow_priv.h"

#define CHUNK (64 * KiB)	/* of level 1, read at a time */

static const struct sparse_class classes[] = {
	[QCOW_L2] = { "level 2", 1 },
	[QCOW_L1] = { "level 1", 2 },
};

static int cipher(struct sparse *s)
{
	const struct td_node *n = sparse_node(s);
	struct crypt *c;
	int err;

	if (!n->env->n_secrets) {
		td_err(n, "the image is encrypted: its passphrase is needed");
		return -EACCES;
	}
	err = crypt_new_aes(&n->env->secrets[0], &c);
	if (!err)
		sparse_cipher(s, c, false);
	return err;
}

static int backing(struct sparse *s, const struct qcow *q)
{
	char name[QCOW_NAME_MAX + 1];
	int err;

	if (!range_ok(q->h.name, q->h.name_len, sparse_bytes(s, 0))) {
		td_err(sparse_node(s), "the backing file's name is behind the end of "
		       "the image");
		return -EINVAL;
	}
	err = sparse_pread(s, 0, q->h.name, name, q->h.name_len);
	if (err)
		return err;
	name[q->h.name_len] = '\0';
	return sparse_want_parent(s, NULL, name);
}

static int qcow_open(struct sparse *s)
{
	struct qcow *q = sparse_priv(s);
	uint8_t bytes[QCOW_HEADER_XEN];
	const char *why;
	int err = sparse_pread(s, 0, 0, bytes, sizeof(bytes));

	if (err) {
		td_err(sparse_node(s), "cannot read the header: %s", strerror(-err));
		return err;
	}
	err = qcow_header_parse(&q->h, bytes, &why);
	if (err) {
		td_err(sparse_node(s), "not a usable qcow image: %s", why);
		return err;
	}
	q->cluster = 1u << q->h.cluster_bits;
	if (q->h.l1 > align_up(sparse_bytes(s, 0), q->cluster)) {
		td_err(sparse_node(s), "the level 1 table is behind the end of the file");
		return -EINVAL;
	}
	q->l2_len = 8u << q->h.l2_bits;
	sparse_geometry(s, q->h.size, q->cluster, q->cluster);
	sparse_packing(s, &pack_deflate);
	if (q->h.aes)
		err = cipher(s);
	if (!err && q->h.name)
		err = backing(s, q);
	return err;
}

/* Tables are metadata, and free space begins behind the last of them: one may lie
 * behind the end of the file, when QEMU was stopped between linking and writing it. */
static int add_l2(struct sparse *s, const struct qcow *q, uint64_t host,
		  uint64_t bytes, uint64_t *end)
{
	if (!qcow_l2_ok(q, host) || host > align_up(bytes, q->cluster)) {
		/* It may be read; but the file must not grow to where that is. */
		sparse_corrupt(s, "a level 2 table at %llu, which is not in the file or "
			       "over other tables", (unsigned long long)host);
		return 0;
	}
	*end = max_u64(*end, host + q->l2_len);
	return sparse_meta_add(s, 0, host, q->l2_len);
}

static int scan_l1(struct sparse *s, const struct qcow *q, uint64_t bytes,
		   uint64_t *end)
{
	uint64_t len = q->h.l1_entries * 8ull, n;
	uint8_t *buf = malloc(CHUNK);
	int err = buf ? 0 : -ENOMEM;

	/* Behind the end of the file there are none. */
	if (q->h.l1 >= bytes)
		len = 0;
	else
		len = min_u64(len, align_down(bytes - q->h.l1, 8));
	for (uint64_t at = 0; !err && at < len; at += n) {
		n = min_u64(len - at, CHUNK);
		err = sparse_pread(s, 0, q->h.l1 + at, buf, n);
		for (uint64_t i = 0; !err && i < n; i += 8) {
			uint64_t host = qcow_l1_get(q, buf + i);

			if (host)
				err = add_l2(s, q, host, bytes, end);
		}
	}
	free(buf);
	return err;
}

static int qcow_opened(struct sparse *s)
{
	struct qcow *q = sparse_priv(s);
	uint64_t l1_len = q->h.l1_entries * 8ull, bytes = sparse_bytes(s, 0);
	uint64_t end = max_u64(bytes, q->h.l1 + l1_len);
	int err = sparse_meta_add(s, 0, 0, QCOW_HEADER_XEN);

	q->parent = sparse_parent(s);
	if (!err)
		err = sparse_meta_add(s, 0, q->h.l1, l1_len);
	if (!err && q->h.name)
		err = sparse_meta_add(s, 0, q->h.name, q->h.name_len);
	if (!err)
		err = scan_l1(s, q, bytes, &end);
	if (err) {
		td_err(sparse_node(s), "cannot read the level 1 table: %s",
		       strerror(-err));
		return err;
	}
	sparse_appends(s, 0, align_up(end, q->cluster));
	return 0;
}

static const struct sparse_format qcow_format = {
	.classes = classes,
	.n_classes = ARRAY_SIZE(classes),
	.open	= qcow_open,
	.opened	= qcow_opened,
	.map	= qcow_map,
	.link	= qcow_link,
	.unmap	= qcow_unmap,
	.release = qcow_release,
};

static void open_slot(struct td_node *n, struct td_req *r)
{
	sparse_open(n, r, &qcow_format, sizeof(struct qcow));
}

const struct td_driver td_qcow = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_FORMAT,
	.name	= "qcow",
	.help	= "qcow:/PATH  qcow image (version 1)",
	.caps	= SPARSE_CAPS & ~TD_CAP_RESIZE,
	.node_ctx = SPARSE_NODE_CTX,
	.req_ctx = SPARSE_REQ_CTX,
	.open	= open_slot,
	.submit	= sparse_submit,
	.close	= sparse_close,
	.stats	= sparse_stats,
};
