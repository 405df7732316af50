/* vmdk.c - the vmdk format: opening, and its tables of slots.
 *
 * A disk is a list of extents, in the order of its lines: flat files, sparse files,
 * zeroes.  The file that was opened is a descriptor that names them, or one sparse
 * extent that has its descriptor inside (and then is the whole disk, whatever file
 * name the descriptor gives: images are renamed).
 *
 * A child knows its parent by the parent's CID, a number that each writer changes
 * before it changes the disk.  So do we, at the first write of a session.
 *
 * The mark for an unclean shutdown is left as it is: after a crash of ours nothing
 * has to be checked, and whether others have checked is not ours to say.
 *
 * Image name: vmdk:/PATH
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "pack/deflate.h"
#include "vmdk/vmdk_priv.h"

#define FLAT_CLUSTER (64u << 10)	/* of disks without sparse extents */

/* Grains, then tables, then directories; both sets of them at once. */
static const struct sparse_class classes[] = {
	[VMDK_GT] = { "grain table", 1 },
	[VMDK_GD] = { "grain directory", 2 },
};

/* A stream's grain: a marker {u64 sector of the disk, u32 bytes} and a zlib stream.
 * The last grain of a disk may be short, by whole sectors. */
static int unpack(const void *in, size_t in_len, void *out, size_t out_len,
		  size_t need)
{
	const uint8_t *p = in;
	uint32_t len;
	size_t got;
	int err;

	if (in_len < VMDK_GRAIN_MARKER)
		return -EIO;
	len = get_le32(p + 8);
	if (!len || len > in_len - VMDK_GRAIN_MARKER)
		return -EIO;
	err = pack_inflate(p + VMDK_GRAIN_MARKER, len, out, out_len, true, &got);
	if (err || got < need || got % VMDK_SECTOR)
		return err ? err : -EIO;
	memset((uint8_t *)out + got, 0, out_len - got);
	return 0;
}

static const struct sparse_packer packer = { .unpack = unpack };

static int no_memory(const struct sparse *s)
{
	td_err(sparse_node(s), "no memory");
	return -ENOMEM;
}

/* Files that the lines name.  One file may have several flat extents. */
static int want_file(struct sparse *s, struct vmdk *v, unsigned i)
{
	const struct vmdk_line *lines = v->head.d.lines, *l = &lines[i];
	bool rdonly = true;

	for (unsigned k = 0; k < v->head.d.n_lines; k++) {
		if (lines[k].access == VMDK_NOACCESS || !lines[k].name ||
		    strcmp(lines[k].name, l->name))
			continue;
		if (k < i && l->type == VMDK_FLAT && lines[k].type == VMDK_FLAT) {
			v->extents[i].file = v->extents[k].file;
			return 0;
		}
		if (k != i && (l->type == VMDK_SPARSE || lines[k].type == VMDK_SPARSE)) {
			td_err(sparse_node(s), "the descriptor uses %s twice", l->name);
			return -EINVAL;
		}
		rdonly &= lines[k].access != VMDK_RW;
	}
	return sparse_want_file(s, l->name, rdonly, &v->extents[i].file);
}

/* A text: one extent a line. */
static int open_lines(struct sparse *s, struct vmdk *v)
{
	const struct vmdk_descriptor *d = &v->head.d;
	uint64_t start = 0;

	if (!d->n_lines || !d->type) {
		td_err(sparse_node(s), "the descriptor %s", d->n_lines ?
		       "does not say of what type the disk is: createType is missing" :
		       "names no extents");
		return -EINVAL;
	}
	v->extents = calloc(d->n_lines, sizeof(*v->extents));
	if (!v->extents)
		return no_memory(s);
	v->n_extents = d->n_lines;
	for (unsigned i = 0; i < d->n_lines; i++) {
		const struct vmdk_line *l = &d->lines[i];
		int err;

		v->extents[i] = (struct vmdk_extent){
			.start = start, .end = start + l->sectors * VMDK_SECTOR,
			.access = l->access, .type = l->type, .name = l->name,
			.host = l->offset * VMDK_SECTOR,
		};
		start = v->extents[i].end;
		if (l->access == VMDK_NOACCESS)
			v->extents[i].type = VMDK_ZERO;	/* its file is not for us */
		err = v->extents[i].type == VMDK_ZERO ? 0 : want_file(s, v, i);
		if (err)
			return err;
	}
	return 0;
}

/* A sparse file that is the whole disk. */
static int open_single(struct sparse *s, struct vmdk *v)
{
	const struct vmdk_descriptor *d = &v->head.d;

	if (!d->type && !d->has_cid && !d->n_lines) {
		td_err(sparse_node(s), "there is no descriptor in it: it is a piece of a "
		       "disk; open the file that describes the whole");
		return -EINVAL;
	}
	v->extents = calloc(1, sizeof(*v->extents));
	if (!v->extents)
		return no_memory(s);
	v->n_extents = 1;
	v->extents[0] = (struct vmdk_extent){
		.end = v->head.h.capacity, .type = VMDK_SPARSE, .h = v->head.h,
		.access = d->n_lines ? d->lines[0].access : VMDK_RW,
		.name = sparse_node(s)->child->arg,
	};
	return 0;
}

static int open_parent(struct sparse *s, const struct vmdk *v)
{
	const struct vmdk_descriptor *d = &v->head.d;

	if (d->parent_cid == VMDK_NO_PARENT)
		return 0;
	if (!d->parent) {
		td_err(sparse_node(s), "it is the child of another disk, and does not "
		       "say of which: parentFileNameHint is missing");
		return -EINVAL;
	}
	return sparse_want_parent(s, "vmdk", d->parent);
}

static int vmdk_open(struct sparse *s)
{
	struct vmdk *v = sparse_priv(s);
	const struct td_node *n = sparse_node(s);
	struct vmdk_source f = { .n = n, .name = n->child->arg, .s = s,
				 .bytes = sparse_bytes(s, 0) };
	int err = vmdk_head_load(&f, &v->head);

	if (err)
		return err;
	if (v->head.sparse && v->head.h.capacity)
		err = open_single(s, v);
	else
		err = open_lines(s, v);
	return err ? err : open_parent(s, v);
}

static int not_writable(const struct sparse *s, const struct vmdk_extent *e,
			const char *why)
{
	td_err(sparse_node(s), "%s: %s: open it read-only, or convert it", e->name, why);
	return -EROFS;
}

static int check_sparse(struct sparse *s, struct vmdk *v, struct vmdk_extent *e)
{
	struct vmdk_source f = { .n = sparse_node(s), .name = e->name, .s = s,
				 .file = e->file,
				 .bytes = sparse_bytes(s, e->file) };
	int err = e->h.capacity ? 0 : vmdk_header_load(&f, &e->h);

	if (err)
		return err;
	if (e->h.capacity < e->end - e->start) {
		td_err(f.n, "%s: it has %llu bytes of the disk, and the descriptor says "
		       "%llu", e->name, (unsigned long long)e->h.capacity,
		       (unsigned long long)(e->end - e->start));
		return -EINVAL;
	}
	if (v->grain && v->grain != e->h.grain) {
		td_err(f.n, "%s: its grains have %u bytes, those of other extents %u",
		       e->name, e->h.grain, v->grain);
		return -EOPNOTSUPP;
	}
	v->grain = e->h.grain;
	v->packed |= e->h.packed;
	/* One of several may be read-only by itself. */
	if (sparse_rdonly(s) || (e->access != VMDK_RW && v->n_extents > 1))
		return 0;
	if (e->h.packed)
		return not_writable(s, e, "grains of a stream cannot be written again");
	if (e->h.version > 2)
		return not_writable(s, e, "extents of version 3 are not written");
	if (e->access != VMDK_RW)
		return not_writable(s, e, "its descriptor says that it is not written");
	return 0;
}

/* Space is taken by grains of the disk: each must be of one extent. */
static int check_borders(struct sparse *s, const struct vmdk *v)
{
	for (unsigned i = 1; v->grain && i < v->n_extents; i++) {
		const struct vmdk_extent *a = &v->extents[i - 1], *b = &v->extents[i];

		if (is_aligned(b->start, v->grain) ||
		    (a->type != VMDK_SPARSE && b->type != VMDK_SPARSE))
			continue;
		if (v->packed || !sparse_rdonly(s)) {
			td_err(sparse_node(s), "the extent of line %u does not begin at "
			       "a whole grain%s", i + 1, v->packed ? "" :
			       ": open it read-only, or convert it");
			return v->packed ? -EOPNOTSUPP : -EROFS;
		}
	}
	return 0;
}

/* A file that is too short reads as zeroes behind its end, and is made longer when
 * something is written. */
static void check_flat(const struct sparse *s, const struct vmdk_extent *e)
{
	uint64_t bytes = sparse_bytes(s, e->file), want = e->host + e->end - e->start;

	if (bytes < want)
		td_warn(sparse_node(s), "%s: %llu bytes, and the descriptor says %llu: "
			"the rest is taken for zeroes", e->name,
			(unsigned long long)bytes, (unsigned long long)want);
}

static int each_extent(struct sparse *s, struct vmdk *v,
		       int (*fn)(struct sparse *s, struct vmdk_extent *e))
{
	int err = 0;

	for (unsigned i = 0; !err && i < v->n_extents; i++)
		err = fn(s, &v->extents[i]);
	return err;
}

static int take_up(struct sparse *s, struct vmdk_extent *e)
{
	int err = 0;

	if (e->type == VMDK_FLAT)
		check_flat(s, e);
	if (e->type != VMDK_SPARSE)
		return 0;
	err = vmdk_tables_check(s, e);
	if (!err && e->access == VMDK_RW)
		sparse_appends(s, e->file, sparse_bytes(s, e->file));
	return err;
}

/* The CID that the parent has now. */
static int parent_cid(struct sparse *s, const struct td_node *p, bool *has,
		      uint32_t *cid)
{
	struct vmdk_source f = { .n = sparse_node(s), .name = p->child->arg,
				 .store = p->child, .bytes = p->child->size };
	struct vmdk_head head;
	int err = vmdk_head_load(&f, &head);

	*has = !err && head.described && head.d.has_cid;
	*cid = *has ? head.d.cid : 0;
	vmdk_head_free(&head);
	return err;
}

static int check_parent(struct sparse *s, struct vmdk *v)
{
	const struct td_node *n = sparse_node(s), *p = sparse_parent(s);
	uint32_t cid, want = v->head.d.parent_cid;
	bool has;
	int err;

	v->parent = p;
	while (p && p->driver->kind == TD_FILTER)
		p = p->child;
	if (!p)
		return 0;
	if (p->driver != &td_vmdk) {
		td_warn(n, "the parent is of type %s: whether it has changed since this "
			"disk was made cannot be checked", p->driver->name);
		return 0;
	}
	err = parent_cid(s, p, &has, &cid);
	if (!err && (!has || cid != want)) {
		td_err(n, "the parent %s has changed since this disk was made: its CID is "
		       "%08x, and parentCID here is %08x", p->child->arg, cid, want);
		err = -EINVAL;
	}
	return err;
}

static int vmdk_opened(struct sparse *s)
{
	struct vmdk *v = sparse_priv(s);
	int err = 0;

	for (unsigned i = 0; !err && i < v->n_extents; i++)
		if (v->extents[i].type == VMDK_SPARSE)
			err = check_sparse(s, v, &v->extents[i]);
	if (!err)
		err = check_borders(s, v);
	if (err)
		return err;
	if (!v->grain)
		v->grain = FLAT_CLUSTER;
	sparse_geometry(s, v->extents[v->n_extents - 1].end, v->grain, v->grain);
	if (v->packed)
		sparse_packing(s, &packer);
	err = each_extent(s, v, take_up);
	return err ? err : check_parent(s, v);
}

/* Others see that the disk is no longer what it was. */
static int new_cid(struct sparse *s, struct vmdk *v)
{
	struct vmdk_descriptor *d = &v->head.d;
	uint32_t random;
	char digits[8];
	int err;

	if (!d->has_cid)
		return 0;
	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	vmdk_descriptor_cid(d, random, digits);
	err = sparse_pwrite(s, 0, v->head.text_at + d->cid_at, digits, d->cid_digits);
	return err ? err : sparse_psync(s, 0);
}

static int before_write(struct sparse *s, struct vmdk_extent *e)
{
	uint64_t want = e->host + e->end - e->start;

	if (e->access != VMDK_RW)
		return 0;
	if (e->type == VMDK_SPARSE)
		return vmdk_tables_repair(s, e);
	if (e->type == VMDK_FLAT && sparse_bytes(s, e->file) < want)
		return sparse_psize(s, e->file, want);
	return 0;
}

static int vmdk_first_write(struct sparse *s)
{
	struct vmdk *v = sparse_priv(s);
	int err = each_extent(s, v, before_write);

	if (!err)
		err = new_cid(s, v);
	if (err)
		td_err(sparse_node(s), "cannot prepare the image for writing: %s",
		       strerror(-err));
	return err;
}

static void vmdk_free(struct sparse *s)
{
	struct vmdk *v = sparse_priv(s);

	vmdk_head_free(&v->head);
	free(v->extents);
}

static const struct sparse_format format = {
	.classes = classes,
	.n_classes = ARRAY_SIZE(classes),
	.open	= vmdk_open,
	.opened	= vmdk_opened,
	.first_write = vmdk_first_write,
	.free	= vmdk_free,
	.map	= vmdk_map,
	.link	= vmdk_link,
	.unmap	= vmdk_unmap,
	.release = vmdk_release,
};

static void open_slot(struct td_node *n, struct td_req *r)
{
	sparse_open(n, r, &format, sizeof(struct vmdk));
}

const struct td_driver td_vmdk = {
	.abi	= TD_DRIVER_ABI,
	.kind	= TD_FORMAT,
	.name	= "vmdk",
	.help	= "vmdk:/PATH  VMware image: a descriptor, or one sparse file",
	.caps	= SPARSE_CAPS & ~TD_CAP_RESIZE,
	.node_ctx = SPARSE_NODE_CTX,
	.req_ctx = SPARSE_REQ_CTX,
	.open	= open_slot,
	.submit	= sparse_submit,
	.close	= sparse_close,
	.stats	= sparse_stats,
};
