/* tool.c - qcow2, for tools: what an image says of itself. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "crypto/luks.h"
#include "formats.h"
#include "luks/about.h"
#include "qcow2/bitmap.h"
#include "qcow2/check.h"
#include "qcow2/create.h"
#include "qcow2/image.h"
#include "qcow2/snap.h"

static bool qcow2_probe(const void *head, size_t len)
{
	const uint8_t *p = head;

	return len >= 8 && get_be32(p) == QCOW2_MAGIC && get_be32(p + 4) >= 2;
}

static void set_int(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

static void set_bool(json_t *o, const char *name, bool v)
{
	json_object_set_new(o, name, json_boolean(v));
}

/* Names in images are bytes; JSON is UTF-8. */
static void set_text(json_t *o, const char *name, const char *v, size_t len)
{
	json_t *s = json_stringn(v, len);

	json_object_set_new(o, name, s ? s : json_string("?"));
}

static json_t *snapshots(const struct qcow2_image *im)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < im->h.snapshots; i++) {
		const struct qcow2_snapshot *s = &im->snap[i];
		json_t *o = json_object();

		set_text(o, "id", (const char *)s->id, s->id_len);
		set_text(o, "name", (const char *)s->name, s->name_len);
		set_int(o, "vm-state-size", s->vm_state_size);
		set_int(o, "date-sec", s->date_sec);
		set_int(o, "date-nsec", s->date_nsec);
		set_int(o, "vm-clock-sec", s->vm_clock_ns / 1000000000u);
		set_int(o, "vm-clock-nsec", s->vm_clock_ns % 1000000000u);
		if (s->icount != UINT64_MAX)
			set_int(o, "icount", s->icount);
		json_array_append_new(list, o);
	}
	return list;
}

static json_t *bitmap(const struct qcow2_bitmap *b)
{
	json_t *o = json_object(), *flags = json_array();

	if (b->flags & QCOW2_BM_IN_USE)
		json_array_append_new(flags, json_string("in-use"));
	if (b->flags & QCOW2_BM_AUTO)
		json_array_append_new(flags, json_string("auto"));
	json_object_set_new(o, "flags", flags);
	set_text(o, "name", (const char *)b->name, b->name_len);
	set_int(o, "granularity", 1ull << b->bits);
	return o;
}

/* Of a damaged directory, what comes before the damage. */
static json_t *bitmaps(const struct qcow2_image *im)
{
	const struct qcow2_header *h = &im->h;
	uint64_t at = 0, size = h->bitmap_dir_size;
	json_t *list = json_array();
	uint8_t *dir = malloc(size);
	struct qcow2_bitmap b;

	if (!dir || td_blocking_read(im->store, h->bitmap_dir_offset, dir, size))
		size = 0;
	for (uint32_t i = 0; i < h->bitmaps; i++, at += b.length) {
		if (!size || !qcow2_bitmap_decode(dir + at, size - at, &b) ||
		    b.bits > QCOW2_BITMAP_BITS_MAX)
			break;
		json_array_append_new(list, bitmap(&b));
	}
	free(dir);
	return list;
}

static int luks_read(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct qcow2_image *im = arg;

	return td_blocking_read(im->store, im->h.crypto_offset + off, buf, len);
}

/* Of a damaged header of LUKS, that it is one. */
static json_t *encryption(struct qcow2_image *im)
{
	struct luks_io io = { .read = luks_read, .arg = im,
			      .bytes = im->h.crypto_length };
	struct luks_about a;
	char why[160] = "";

	if (im->h.crypt != QCOW2_CRYPT_LUKS)
		return json_pack("{s:s}", "format", "aes");
	if (!crypt_luks_about(&io, true, &a, why, sizeof(why)))
		return luks_about_json(&a, "luks");
	td_warn(im->store, "%s: its header of LUKS: %s", im->store->arg, why);
	return json_pack("{s:s}", "format", "luks");
}

static json_t *specific(struct qcow2_image *im)
{
	const struct qcow2_header *h = &im->h;
	json_t *o = json_object();

	json_object_set_new(o, "compat", json_string(h->version < 3 ? "0.10" : "1.1"));
	if (h->version >= 3)
		json_object_set_new(o, "compression-type", json_string(
			h->compression == QCOW2_ZSTD ? "zstd" : "zlib"));
	else
		json_object_set_new(o, "compression-type", json_string("zlib"));
	if (h->version >= 3)
		set_bool(o, "lazy-refcounts", h->compat & QCOW2_LAZY);
	if (h->autoclear & QCOW2_BITMAPS)
		json_object_set_new(o, "bitmaps", bitmaps(im));
	set_int(o, "refcount-bits", 1u << h->ref_order);
	if (h->data_file[0]) {
		set_text(o, "data-file", h->data_file, strlen(h->data_file));
		set_bool(o, "data-file-raw", h->autoclear & QCOW2_DATA_RAW);
	}
	if (h->crypt)
		json_object_set_new(o, "encrypt", encryption(im));
	if (h->version >= 3) {
		set_bool(o, "corrupt", h->incompat & QCOW2_CORRUPT);
		set_bool(o, "extended-l2", h->incompat & QCOW2_EXT_L2);
	}
	return json_pack("{s:s, s:o}", "type", "qcow2", "data", o);
}

static int qcow2_info(struct td_node *store, json_t *o)
{
	struct qcow2_image im;
	struct qcow2_why why;
	int err = qcow2_image_load(store, 0, &im);

	if (err)
		return err;
	set_int(o, "virtual-size", align_down(im.h.size, 512));
	set_int(o, "cluster-size", qcow2_cluster(&im.d));
	set_bool(o, "dirty-flag", im.h.incompat & QCOW2_DIRTY);
	if (im.h.crypt)
		set_bool(o, "encrypted", true);
	if (im.h.backing[0]) {
		set_text(o, "backing-filename", im.h.backing, strlen(im.h.backing));
		if (im.h.backing_fmt[0])
			set_text(o, "backing-filename-format", im.h.backing_fmt,
				 strlen(im.h.backing_fmt));
	}
	json_object_set_new(o, "format-specific", specific(&im));
	err = qcow2_image_snapshots(&im, &why);
	if (err)
		td_err(store, "cannot read the snapshots of %s: %s", store->arg,
		       why.text);
	else if (im.h.snapshots)
		json_object_set_new(o, "snapshots", snapshots(&im));
	qcow2_image_free(&im);
	return err;
}

const struct td_format_tool td_qcow2_tool = {
	.name	= "qcow2",
	.opts	= qcow2_opts,
	.pack	= TD_PACK_CLUSTERS,
	.probe	= qcow2_probe,
	.create	= qcow2_create,
	.measure = qcow2_measure,
	.info	= qcow2_info,
	.check	= qcow2_check,
	.rebase	= qcow2_rename_backing,
	.snap	= qcow2_snap,
};
