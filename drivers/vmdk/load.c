/* load.c - what a file says about itself: header, footer and descriptor, read and
 * given to their parsers.  Blocking. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "vmdk/vmdk_priv.h"

/* A stream's footer is looked for so far before the end of the file: behind it may
 * be what archives pad with. */
#define FOOTER_BACK (64 * KiB)

/* Other formats of the same suffix, by their first bytes. */
static const struct {
	const char *magic;
	const char *what;
} others[] = {
	{ "COWD", "a vmfsSparse (COWD) file, which is not supported" },
	{ "\xbe\xba\xfe\xca", "a seSparse file, which is not supported" },
};

static int get(const struct vmdk_source *f, uint64_t off, void *buf, size_t len)
{
	int err = f->s ? sparse_pread(f->s, f->file, off, buf, len) :
			 td_blocking_read(f->store, off, buf, len);

	if (err)
		td_err(f->n, "cannot read %s: %s", f->name, strerror(-err));
	return err;
}

/* FOOTER marker, footer and end-of-stream marker at p? */
static bool footer_at(const uint8_t *p)
{
	uint64_t n;

	return vmdk_marker(p, &n) == VMDK_MARK_FOOTER && n == 1 &&
	       vmdk_header_magic(p + VMDK_SECTOR, VMDK_HEADER) &&
	       vmdk_marker(p + 2 * VMDK_SECTOR, &n) == VMDK_MARK_EOS && !n;
}

static const uint8_t *footer_find(const uint8_t *buf, size_t len)
{
	for (size_t at = len / VMDK_SECTOR; at-- > 0;)
		if (at * VMDK_SECTOR + 3 * VMDK_SECTOR <= len &&
		    footer_at(buf + at * VMDK_SECTOR))
			return buf + at * VMDK_SECTOR + VMDK_SECTOR;
	return NULL;
}

/* The footer is a copy of the header that knows where the directory is. */
static int footer_check(const struct vmdk_header *h, const uint8_t *bytes,
			struct vmdk_header *foot, const char **why)
{
	int err = bytes ? vmdk_header_parse(foot, bytes, why) : -EINVAL;

	if (!bytes)
		*why = "its end, with the directory of what is in it, is missing";
	else if (!err && (foot->gd_at_end || !foot->gd ||
			  foot->capacity != h->capacity ||
			  foot->grain != h->grain || foot->gtes != h->gtes ||
			  foot->packed != h->packed)) {
		*why = "its footer and its header differ";
		err = -EINVAL;
	}
	return err;
}

static int footer_load(const struct vmdk_source *f, struct vmdk_header *h)
{
	uint64_t end = align_down(f->bytes, VMDK_SECTOR);
	size_t len = min_u64(end, FOOTER_BACK);
	struct vmdk_header foot;
	const char *why = NULL;
	uint8_t *buf = malloc(len);
	int err = buf ? get(f, end - len, buf, len) : -ENOMEM;

	if (!err)
		err = footer_check(h, footer_find(buf, len), &foot, &why);
	if (why)
		td_err(f->n, "%s: not a usable stream: %s", f->name, why);
	free(buf);
	if (!err) {
		h->gd = foot.gd;
		h->rgd = foot.rgd;
	}
	return err;
}

/* Header and footer of the file that begins with these bytes. */
static int header_load(const struct vmdk_source *f, const uint8_t *bytes,
		       struct vmdk_header *h)
{
	const char *why;
	int err = vmdk_header_parse(h, bytes, &why);

	if (err)
		td_err(f->n, "%s: not a usable sparse extent: %s", f->name, why);
	else if (h->overhead > f->bytes) {
		td_err(f->n, "%s: the file is cut off: %llu bytes, and its grains "
		       "begin at %llu", f->name,
		       (unsigned long long)f->bytes,
		       (unsigned long long)h->overhead);
		err = -EINVAL;
	} else if (h->desc && !range_ok(h->desc, h->desc_len, f->bytes)) {
		td_err(f->n, "%s: its descriptor is behind the end of the file", f->name);
		err = -EINVAL;
	} else if (h->capacity && h->gd_at_end)
		err = footer_load(f, h);
	return err;
}

static int text_load(const struct vmdk_source *f, struct vmdk_head *head, uint64_t len)
{
	char why[128], *text;
	int err;

	if (len > VMDK_DESCRIPTOR_MAX) {
		td_err(f->n, "%s: a descriptor of more than 1 MiB", f->name);
		return -EINVAL;
	}
	text = malloc(len + 1);
	err = text ? get(f, head->text_at, text, len) : -ENOMEM;
	if (!err) {
		err = vmdk_descriptor_parse(&head->d, text, len, why, sizeof(why));
		if (err)
			td_err(f->n, "%s: %s", f->name, why);
		head->described = !err;
	}
	free(text);
	return err;
}

static int refuse(const struct vmdk_source *f, const uint8_t *bytes)
{
	const char *what = "neither a vmdk descriptor nor a sparse extent";

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (!memcmp(bytes, others[i].magic, 4))
			what = others[i].what;
	td_err(f->n, "%s: %s", f->name, what);
	return -EINVAL;
}

int vmdk_head_load(const struct vmdk_source *f, struct vmdk_head *head)
{
	uint8_t bytes[VMDK_HEADER];
	int err = get(f, 0, bytes, sizeof(bytes));

	*head = (struct vmdk_head){ .d = { .parent_cid = VMDK_NO_PARENT } };
	if (err)
		return err;
	head->sparse = vmdk_header_magic(bytes, sizeof(bytes));
	if (!head->sparse) {
		if (!vmdk_descriptor_magic((const char *)bytes, sizeof(bytes)))
			return refuse(f, bytes);
		return text_load(f, head, f->bytes);
	}
	err = header_load(f, bytes, &head->h);
	if (err || !head->h.desc)
		return err;
	head->text_at = head->h.desc;
	return text_load(f, head, head->h.desc_len);
}

void vmdk_head_free(struct vmdk_head *head)
{
	vmdk_descriptor_free(&head->d);
}

int vmdk_header_load(const struct vmdk_source *f, struct vmdk_header *h)
{
	uint8_t bytes[VMDK_HEADER];
	int err = get(f, 0, bytes, sizeof(bytes));

	if (!err && !vmdk_header_magic(bytes, sizeof(bytes)))
		err = refuse(f, bytes);
	return err ? err : header_load(f, bytes, h);
}
