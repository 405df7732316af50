/* tool.c - qcow images, for tools: telling and making them. */
#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/bytes.h"
#include "formats.h"
#include "qcow/header.h"
#include "qcow/qcow_priv.h"

static const struct td_format_opt opts[] = {
	{ "size", "SIZE", "size of the disk", NULL },
	{ "backing_file", "FILE", "what the image does not hold is in FILE", NULL },
	{ "backing_fmt", "FORMAT", "of the backing file; the image does not keep it",
	  NULL },
	{ "encrypt.format", "aes", "encrypt the data", NULL },
	{ .name = NULL }
};

static bool qcow_probe(const void *head, size_t len)
{
	return len >= 8 && !memcmp(head, "QFI\xfb\0\0\0\1", 8);
}

/* QEMU copies nothing from a backing file when it writes a part of a cluster: with a
 * backing file, a cluster is a sector, for its sake. */
static int layout(struct td_node *store, const struct td_format_make *m,
		  struct qcow_header *h)
{
	const char *format = td_format_value(opts, m, "encrypt.format");
	size_t name_len = m->backing ? strlen(m->backing) : 0;
	uint64_t entries;

	*h = (struct qcow_header){ .size = m->size, .cluster_bits = m->backing ? 9 : 12,
				   .l2_bits = m->backing ? 12 : 9, .aes = format };
	if (format && strcmp(format, "aes")) {
		td_err(store, "bad encrypt.format '%s': qcow images have aes alone",
		       format);
		return -EINVAL;
	}
	if (name_len > QCOW_NAME_MAX) {
		td_err(store, "the backing file's name has more than %u bytes",
		       QCOW_NAME_MAX);
		return -EINVAL;
	}
	entries = qcow_l1_entries(h);
	if (!h->size || entries > QCOW_L1_MAX) {
		td_err(store, h->size ? "a qcow image cannot be so large" :
		       "a qcow image cannot be empty");
		return -EINVAL;
	}
	h->l1_entries = (uint32_t)entries;
	h->name_len = (uint32_t)name_len;
	h->name = name_len ? QCOW_HEADER : 0;
	h->l1 = align_up(QCOW_HEADER + name_len, 8);
	return 0;
}

static int qcow_create(struct td_node *store, const struct td_format_make *m)
{
	struct qcow_header h;
	uint8_t bytes[QCOW_HEADER];
	uint64_t end;
	int err = layout(store, m, &h);

	if (err)
		return err;
	end = align_up(h.l1 + h.l1_entries * 8ull, 512);
	qcow_header_write(&h, bytes);
	err = td_blocking_size(store, end);
	/* All of it: a device has other bytes there. */
	if (!err)
		err = td_blocking_zeroes(store, QCOW_HEADER, end - QCOW_HEADER);
	if (!err && h.name)
		err = td_blocking_write(store, h.name, m->backing, h.name_len);
	if (!err)
		err = td_blocking_write(store, 0, bytes, sizeof(bytes));
	if (!err)
		err = td_blocking_flush(store);
	if (err)
		td_err(store, "cannot write the image: %s", strerror(-err));
	return err;
}

static int qcow_info(struct td_node *store, json_t *o)
{
	uint8_t bytes[QCOW_HEADER_XEN];
	char name[QCOW_NAME_MAX + 1] = "";
	const char *why = NULL;
	struct qcow_header h;
	json_t *text;
	int err = td_blocking_read(store, 0, bytes, sizeof(bytes));

	if (!err)
		err = qcow_header_parse(&h, bytes, &why);
	if (!err && h.name)
		err = td_blocking_read(store, h.name, name, h.name_len);
	if (err) {
		td_err(store, "cannot read %s as qcow: %s", store->arg,
		       why ? why : strerror(-err));
		return err;
	}
	json_object_set_new(o, "virtual-size", json_integer((json_int_t)h.size));
	json_object_set_new(o, "cluster-size", json_integer(1 << h.cluster_bits));
	if (h.aes)
		json_object_set_new(o, "encrypted", json_true());
	text = h.name ? json_string(name) : NULL;	/* bytes that are no UTF-8: none */
	if (text)
		json_object_set_new(o, "backing-filename", text);
	return 0;
}

const struct td_format_tool td_qcow_tool = {
	.name	= "qcow",
	.driver	= &td_qcow,
	.opts	= opts,
	.pack	= TD_PACK_CLUSTERS,
	.below	= "",
	.probe	= qcow_probe,
	.create	= qcow_create,
	.info	= qcow_info,
};
