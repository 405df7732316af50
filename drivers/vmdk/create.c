/* create.c - making a vmdk disk: its files and their descriptor.  Blocking.
 *
 * Sparse extents are laid out as QEMU does: header, room for a descriptor, two sets
 * of tables that are all there, then grains.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"
#include "formats.h"
#include "vmdk/vmdk_priv.h"

#define GRAIN (64u << 10)
#define DESC_AT 512u
#define DESC_LEN (20 * 512u)
#define SPLIT (2 * GiB)			/* bytes of an extent of many */
#define SPARSE_MAX (2048 * GiB)		/* of one sparse extent: 32-bit sectors */
#define TEXT_MAX (128u << 10)
#define NAME_MAX_LEN 200u

/* The subformats, and how each is made. */
static const struct subformat {
	const char *name;
	bool flat, split, packed;
	const char *suffix;	/* of extents' names: one '%' of printf */
} subformats[] = {
	{ "monolithicSparse", false, false, false, NULL },
	{ "monolithicFlat", true, false, false, "-flat" },
	{ "twoGbMaxExtentSparse", false, true, false, "-s" },
	{ "twoGbMaxExtentFlat", true, true, false, "-f" },
	{ "streamOptimized", false, false, true, NULL },
};

static const char *const adapters[] = { "ide", "lsilogic", "buslogic", "legacyESX" };

static const struct td_format_opt opts[] = {
	{ "size", "SIZE", "size of the disk", NULL },
	{ "subformat", "TYPE", "monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, "
	  "twoGbMaxExtentFlat or streamOptimized", "monolithicSparse" },
	{ "backing_file", "FILE", "the parent, a vmdk disk", NULL },
	{ "backing_fmt", "FORMAT", "vmdk", NULL },
	{ "zeroed_grain", "on|off", "grains can be marked as zeroes", "off" },
	{ "adapter_type", "TYPE", "ide, lsilogic, buslogic or legacyESX", "ide" },
	{ "hwversion", "N", "version of the virtual hardware", NULL },
	{ "compat6", "on|off", "hwversion 6", "off" },
	{ "toolsversion", "N", "version of the guest's tools", "2147483647" },
	{ .name = NULL }
};

struct making {
	const struct td_format_make *m;
	struct td_node *store;		/* of the file that names the image */
	const struct subformat *sub;
	const char *adapter, *hw, *tools;
	bool zeroed;
	uint32_t cid, parent_cid;
	char base[NAME_MAX_LEN + 1];	/* of the image, without a folder ... */
	size_t stem;			/* ... and without ".vmdk": so many bytes */
	char *text;
	size_t len;
};

__attribute__((format(printf, 2, 3)))
static int say(struct making *k, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(k->text + k->len, TEXT_MAX - k->len, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= TEXT_MAX - k->len)
		return -E2BIG;
	k->len += (size_t)n;
	return 0;
}

/* --- options --- */

static int bad_value(const struct making *k, const char *name, const char *value)
{
	td_err(k->store, "bad %s '%s'; -o help lists what there is", name, value);
	return -EINVAL;
}

static const char *value(const struct making *k, const char *name)
{
	return td_format_value(opts, k->m, name);
}

static int on_off(const struct making *k, const char *name, bool *on)
{
	const char *s = value(k, name);

	*on = !strcmp(s, "on");
	return *on || !strcmp(s, "off") ? 0 : bad_value(k, name, s);
}

/* What goes between quotes of a line. */
static bool quotable(const char *s)
{
	return !strpbrk(s, "\"\r\n");
}

static int read_adapter(struct making *k)
{
	const char *s = value(k, "adapter_type");

	for (size_t i = 0; i < ARRAY_SIZE(adapters); i++)
		if (!strcasecmp(s, adapters[i])) {
			k->adapter = adapters[i];
			return 0;
		}
	return bad_value(k, "adapter_type", s);
}

static int read_versions(struct making *k)
{
	bool compat6;
	int err = on_off(k, "compat6", &compat6);

	if (err)
		return err;
	k->hw = value(k, "hwversion");
	k->tools = value(k, "toolsversion");
	if (k->hw && compat6) {
		td_err(k->store, "compat6 and hwversion say the same thing: give one");
		return -EINVAL;
	}
	if (!k->hw)
		k->hw = compat6 ? "6" : "4";
	if (!quotable(k->hw))
		return bad_value(k, "hwversion", k->hw);
	return quotable(k->tools) ? 0 : bad_value(k, "toolsversion", k->tools);
}

static int read_subformat(struct making *k)
{
	const char *s = value(k, "subformat");

	for (size_t i = 0; i < ARRAY_SIZE(subformats); i++)
		if (!strcasecmp(s, subformats[i].name))
			k->sub = &subformats[i];
	return k->sub ? 0 : bad_value(k, "subformat", s);
}

static int read_name(struct making *k)
{
	const char *slash = strrchr(k->m->path, '/');
	const char *base = slash ? slash + 1 : k->m->path;

	if (strlen(base) > NAME_MAX_LEN || !quotable(base)) {
		td_err(k->store, "the image's name is too long, or has quotes in it");
		return -EINVAL;
	}
	strcpy(k->base, base);
	k->stem = strlen(base);
	if (k->stem > 5 && !strcasecmp(base + k->stem - 5, ".vmdk"))
		k->stem -= 5;
	return 0;
}

static int read_options(struct making *k)
{
	const char *format = k->m->backing_format;
	uint64_t most = k->sub->split ? VMDK_EXTENTS_MAX * SPLIT :
			k->sub->flat ? INT64_MAX : SPARSE_MAX;
	int err = on_off(k, "zeroed_grain", &k->zeroed);

	if (!err)
		err = read_adapter(k);
	if (!err)
		err = read_versions(k);
	if (!err)
		err = read_name(k);
	if (err)
		return err;
	if (!k->m->size || k->m->size > most) {
		td_err(k->store, "a disk of type %s cannot be %s", k->sub->name,
		       k->m->size ? "so large" : "empty");
		return -EINVAL;
	}
	if (k->m->backing && (k->sub->flat || (format && strcmp(format, "vmdk")) ||
			      !quotable(k->m->backing))) {
		td_err(k->store, k->sub->flat ? "flat disks have no parent" :
		       "a parent must be a vmdk disk, without quotes in its name");
		return -EINVAL;
	}
	return 0;
}

/* --- the parent --- */

static int open_file(const struct making *k, const char *name, bool fresh,
		     struct td_node **store)
{
	if (k->m->file)
		return k->m->file(k->m, name, fresh, store);
	td_err(k->store, "this disk needs the file %s too", name);
	return -EOPNOTSUPP;
}

static int read_parent(struct making *k)
{
	struct vmdk_source f = { .n = k->store, .name = k->m->backing };
	struct vmdk_head head;
	int err;

	if (!k->m->backing)
		return 0;
	err = open_file(k, k->m->backing, false, &f.store);
	if (err)
		return err;
	f.bytes = f.store->size;
	err = vmdk_head_load(&f, &head);
	if (!err && (!head.described || !head.d.has_cid)) {
		td_err(k->store, "%s has no CID: it cannot be a parent", f.name);
		err = -EINVAL;
	}
	if (!err)
		k->parent_cid = head.d.cid;
	vmdk_head_free(&head);
	return err;
}

/* --- files --- */

/* Where things are in a sparse extent of `bytes` of the disk. */
static struct vmdk_header layout(const struct making *k, uint64_t bytes)
{
	struct vmdk_header h = { .version = k->sub->packed ? 3 : k->zeroed ? 2 : 1,
				 .zeroed = k->zeroed, .packed = k->sub->packed,
				 .capacity = bytes, .grain = GRAIN,
				 .gtes = VMDK_GTES_MAX, .desc = DESC_AT,
				 .desc_len = DESC_LEN, .rgd = DESC_AT + DESC_LEN };
	uint64_t per_gt = (uint64_t)GRAIN * h.gtes, set;

	h.gts = (uint32_t)((bytes + per_gt - 1) / per_gt);
	set = align_up(h.gts * VMDK_ENTRY, VMDK_SECTOR) +
	      (uint64_t)h.gts * h.gtes * VMDK_ENTRY;
	h.gd = h.rgd + set;
	h.overhead = align_up(h.gd + set, GRAIN);
	return h;
}

/* A directory whose tables lie behind it, all zeroes. */
static int write_set(struct td_node *store, const struct vmdk_header *h, uint64_t gd)
{
	uint64_t len = align_up(h->gts * VMDK_ENTRY, VMDK_SECTOR);
	uint32_t gt_len = h->gtes * VMDK_ENTRY;
	uint8_t *buf = calloc(1, len);
	int err;

	if (!buf)
		return -ENOMEM;
	for (uint32_t i = 0; i < h->gts; i++)
		put_le32(buf + i * VMDK_ENTRY, (uint32_t)
			 ((gd + len + (uint64_t)i * gt_len) / VMDK_SECTOR));
	err = td_blocking_zeroes(store, gd + len, (uint64_t)h->gts * gt_len);
	if (!err)
		err = td_blocking_write(store, gd, buf, len);
	free(buf);
	return err;
}

static int make_sparse(const struct making *k, struct td_node *store, uint64_t bytes)
{
	struct vmdk_header h = layout(k, bytes);
	uint8_t head[VMDK_HEADER];
	int err = td_blocking_size(store, h.overhead);

	vmdk_header_write(&h, head);
	if (!err)
		err = write_set(store, &h, h.rgd);
	if (!err)
		err = write_set(store, &h, h.gd);
	if (!err)
		err = td_blocking_write(store, 0, head, sizeof(head));
	return err ? err : td_blocking_flush(store);
}

static int make_flat(struct td_node *store, uint64_t bytes)
{
	int err = td_blocking_size(store, bytes);

	return err ? err : td_blocking_flush(store);
}

/* Extent i of the disk: its file and its line. */
static int make_extent(struct making *k, unsigned i, uint64_t bytes)
{
	char name[NAME_MAX_LEN + 32], nr[16] = "";
	struct td_node *store = k->store;
	bool own = k->sub->suffix;
	int err = 0;

	if (k->sub->split)
		snprintf(nr, sizeof(nr), "%03u", i + 1);
	snprintf(name, sizeof(name), "%.*s%s%s%s", (int)k->stem, k->base,
		 own ? k->sub->suffix : "", nr, k->base + k->stem);
	if (own)
		err = open_file(k, name, true, &store);
	if (err)
		return err;
	err = k->sub->flat ? make_flat(store, bytes) : make_sparse(k, store, bytes);
	if (err) {
		td_err(k->store, "cannot write %s: %s", name, strerror(-err));
		return err;
	}
	return say(k, "RW %llu %s \"%s\"%s\n", (unsigned long long)(bytes / VMDK_SECTOR),
		   k->sub->flat ? "FLAT" : "SPARSE", name, k->sub->flat ? " 0" : "");
}

static int make_extents(struct making *k)
{
	uint64_t step = k->sub->split ? SPLIT : k->m->size, n;
	int err = 0;

	for (uint64_t at = 0; !err && at < k->m->size; at += n) {
		n = min_u64(step, k->m->size - at);
		err = make_extent(k, (unsigned)(at / step), n);
	}
	return err;
}

/* --- the descriptor --- */

static int say_head(struct making *k)
{
	int err = say(k, "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=%08x\n"
		      "createType=\"%s\"\n", k->cid, k->parent_cid, k->sub->name);

	if (!err && k->m->backing)
		err = say(k, "parentFileNameHint=\"%s\"\n", k->m->backing);
	return err ? err : say(k, "\n# Extent description\n");
}

static int say_database(struct making *k)
{
	unsigned heads = strcmp(k->adapter, "ide") ? 255 : 16;

	return say(k, "\n# The Disk Data Base\n#DDB\n\n"
		   "ddb.virtualHWVersion = \"%s\"\n"
		   "ddb.geometry.cylinders = \"%llu\"\n"
		   "ddb.geometry.heads = \"%u\"\n"
		   "ddb.geometry.sectors = \"63\"\n"
		   "ddb.adapterType = \"%s\"\n"
		   "ddb.toolsVersion = \"%s\"\n", k->hw,
		   (unsigned long long)(k->m->size / VMDK_SECTOR / 63 / heads), heads,
		   k->adapter, k->tools);
}

/* Into its place in the one extent, or as the file that names the others. */
static int write_text(struct making *k)
{
	bool inside = !k->sub->suffix;
	size_t room = inside ? DESC_LEN : align_up(k->len, VMDK_SECTOR);
	int err = 0;

	if (k->len > room) {
		td_err(k->store, "names and versions are too long for a descriptor");
		return -E2BIG;
	}
	memset(k->text + k->len, 0, room - k->len);
	if (!inside)
		err = td_blocking_size(k->store, k->len);
	if (!err)
		err = td_blocking_write(k->store, inside ? DESC_AT : 0, k->text,
					inside ? room : k->len);
	if (!err)
		err = td_blocking_flush(k->store);
	if (err)
		td_err(k->store, "cannot write the descriptor: %s", strerror(-err));
	return err;
}

static int make_disk(struct making *k)
{
	int err = read_parent(k);

	if (!err)
		err = say_head(k);
	if (!err)
		err = make_extents(k);
	if (!err)
		err = say_database(k);
	return err ? err : write_text(k);
}

static int vmdk_create(struct td_node *store, const struct td_format_make *m)
{
	struct making k = { .m = m, .store = store, .parent_cid = VMDK_NO_PARENT };
	int err = read_subformat(&k);

	if (!err)
		err = read_options(&k);
	if (err)
		return err;
	/* The two highest have meanings. */
	if (getrandom(&k.cid, sizeof(k.cid), 0) != sizeof(k.cid))
		return -EIO;
	k.cid = k.cid < 0xfffffffeu ? k.cid : 1;
	k.text = malloc(TEXT_MAX);
	if (!k.text)
		return -ENOMEM;
	err = make_disk(&k);
	free(k.text);
	return err;
}

static bool vmdk_probe(const void *head, size_t len)
{
	return vmdk_header_magic(head, len) || vmdk_descriptor_magic(head, len);
}

const struct td_format_tool td_vmdk_tool = {
	.name	= "vmdk",
	.driver	= &td_vmdk,
	.opts	= opts,
	.pack	= TD_PACK_PLAIN,
	.below	= "vmdk",
	.probe	= vmdk_probe,
	.create	= vmdk_create,
	.info	= vmdk_info,
};
