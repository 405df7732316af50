/* open.c - opens a qcow2 image: header, names of other files, keys.
 *
 * Everything that is refused is refused here or in ready.c, with one message
 * that says what to do.  Nothing is written.
 */
#include <errno.h>
#include <stdlib.h>

#include "crypto/crypt.h"
#include "crypto/luks.h"
#include "pack/deflate.h"
#include "pack/zstd.h"
#include "qcow2/blocking.h"

static int refuse(struct sparse *s, int err, const struct qcow2_why *why)
{
	td_err(sparse_node(s), "cannot open %s: %s", sparse_node(s)->arg, why->text);
	return err;
}

static int read_header(struct sparse *s, struct qcow2_header *h)
{
	struct qcow2_why why;
	uint8_t first[512], *cluster;
	unsigned bits;
	int err;

	err = sparse_pread(s, 0, 0, first, sizeof(first));
	if (err)
		return err;
	err = qcow2_header_cluster(first, (size_t)min_u64(sparse_bytes(s, 0),
							  sizeof(first)),
				   &bits, &why);
	if (err)
		return refuse(s, err, &why);
	cluster = malloc((size_t)1 << bits);
	if (!cluster)
		return -ENOMEM;
	err = sparse_pread(s, 0, 0, cluster, (size_t)1 << bits);
	if (!err) {
		err = qcow2_header_decode(cluster, sparse_bytes(s, 0), 0, h, &why);
		if (err)
			refuse(s, err, &why);
	}
	free(cluster);
	return err;
}

/* What a disk that is written to must not have. */
static int check_writable(struct sparse *s, const struct qcow2_header *h)
{
	struct td_node *n = sparse_node(s);

	if (sparse_rdonly(s) || !(h->incompat & QCOW2_CORRUPT))
		return 0;
	td_err(n, "cannot open %s for writing: it is marked as damaged (repair it with tap-img check -r all, or open it read-only)",
	       n->arg);
	return -EACCES;
}

/* The header of LUKS, in the image. */
struct luks_at {
	struct sparse *s;
	uint64_t offset;
};

static int luks_read(void *arg, uint64_t off, void *buf, size_t len)
{
	struct luks_at *l = arg;

	return sparse_pread(l->s, 0, l->offset + off, buf, len);
}

static int open_luks(struct sparse *s, const struct qcow2_header *h,
		     struct crypt **c, char *why, size_t why_len)
{
	struct luks_at at = { s, h->crypto_offset };
	const struct luks_io io = {
		.read = luks_read, .arg = &at, .bytes = h->crypto_length,
	};
	struct luks_info info;

	return crypt_luks_open(&io, true, sparse_node(s)->env, NULL, &info, c, why,
			       why_len);
}

static int open_crypt(struct sparse *s, const struct qcow2_header *h)
{
	struct td_node *n = sparse_node(s);
	struct crypt *c = NULL;
	char why[200] = "";
	int err;

	if (h->crypt == QCOW2_CRYPT_NONE)
		return 0;
	if (!n->env->n_secrets) {
		td_err(n, "cannot open %s: it is encrypted, and no key was given",
		       n->arg);
		return -ENOKEY;
	}
	if (h->crypt == QCOW2_CRYPT_AES)
		err = crypt_new_aes(&n->env->secrets[0], &c);
	else
		err = open_luks(s, h, &c, why, sizeof(why));
	if (err) {
		td_err(n, "cannot open %s: %s", n->arg,
		       *why ? why :
		       err == -EKEYREJECTED ? "none of the given keys fits" :
					      strerror(-err));
		return err;
	}
	sparse_cipher(s, c, h->crypt == QCOW2_CRYPT_LUKS);
	return 0;
}

static int want_files(struct sparse *s, struct qcow2 *q)
{
	struct td_node *n = sparse_node(s);
	int err;

	if (q->d.external) {
		if (!q->h.data_file[0]) {
			td_err(n, "cannot open %s: it does not name its data file",
			       n->arg);
			return -EINVAL;
		}
		err = sparse_want_file(s, q->h.data_file, sparse_rdonly(s), &q->data);
		if (err)
			return err;
	}
	if (!q->h.backing[0])
		return 0;
	return sparse_want_parent(s, q->h.backing_fmt[0] ? q->h.backing_fmt : NULL,
				  q->h.backing);
}

/* The disk is to be what it was when that snapshot was made. */
static int take_snapshot(struct sparse *s, const struct qcow2_snapshot *sn, void *arg)
{
	struct qcow2 *q = sparse_priv(s);
	const char *id = sparse_node(s)->env->snapshot;
	bool *found = arg;

	if (strlen(id) != sn->id_len || memcmp(id, sn->id, sn->id_len))
		return 0;
	*found = true;
	q->h.l1_offset = sn->l1_offset;
	q->h.l1_entries = sn->l1_entries;
	if (sn->disk_size)
		q->h.size = sn->disk_size;
	return 0;
}

static int open_snapshot(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	struct td_node *n = sparse_node(s);
	const char *id = n->env->snapshot, *why = NULL;
	uint64_t bytes;
	bool found = false;
	int err;

	if (!id || !td_is_top(n))
		return 0;
	err = qcow2_snapshots_each(s, take_snapshot, &found, &bytes);
	if (err)
		return err;
	if (!sparse_rdonly(s))
		why = "a snapshot is read, not written";
	else if (!found)
		why = "it has no such snapshot";
	else if (qcow2_l1_needed(q->h.size, q->d.cluster_bits, q->d.ext) > q->h.l1_entries)
		why = "the table of the snapshot is too small for its disk";
	if (!why)
		return 0;
	td_err(n, "cannot open %s: %s", n->arg, why);
	return -EINVAL;
}

int qcow2_open(struct sparse *s)
{
	struct qcow2 *q = sparse_priv(s);
	int err;

	err = read_header(s, &q->h);
	if (!err)
		err = check_writable(s, &q->h);
	if (err)
		return err;
	q->d = qcow2_dims(&q->h);
	err = open_snapshot(s);
	if (err)
		return err;
	q->l1_bytes = q->h.l1_entries * 8ull;
	q->reft_bytes = (uint64_t)q->h.reft_clusters << q->h.cluster_bits;
	sparse_geometry(s, align_down(q->h.size, 512), 1u << q->d.cluster_bits,
			1u << q->d.unit_bits);
	if (!q->d.external)	/* its data file has plain clusters alone */
		sparse_packing(s, q->h.compression == QCOW2_ZSTD ? &pack_zstd :
								   &pack_deflate);
	err = want_files(s, q);
	if (!err)
		err = open_crypt(s, &q->h);
	return err;
}
