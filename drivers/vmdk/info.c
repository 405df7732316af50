/* info.c - what a vmdk disk says of itself, for tools.  The file that names the disk
 * is read, and no other that it names. */
#include <jansson.h>
#include <string.h>

#include "formats.h"
#include "vmdk/vmdk_priv.h"

static void set_int(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

/* Names in images are bytes; JSON is UTF-8. */
static void set_text(json_t *o, const char *name, const char *v)
{
	json_t *s = json_string(v);

	json_object_set_new(o, name, s ? s : json_string("?"));
}

/* The disk in one sparse file, whatever name its line has for that file. */
static bool in_one(const struct vmdk_head *head)
{
	return head->sparse && head->h.capacity;
}

static const char *type_name(enum vmdk_type t)
{
	return t == VMDK_FLAT ? "FLAT" : t == VMDK_SPARSE ? "SPARSE" : "ZERO";
}

static json_t *extents(const struct td_node *store, const struct vmdk_head *head)
{
	json_t *list = json_array(), *o;

	if (in_one(head)) {
		o = json_object();
		set_int(o, "virtual-size", head->h.capacity);
		set_text(o, "filename", store->arg);
		set_text(o, "format", "");
		set_int(o, "cluster-size", head->h.grain);
		if (head->h.packed)
			json_object_set_new(o, "compressed", json_true());
		json_array_append_new(list, o);
		return list;
	}
	for (unsigned i = 0; i < head->d.n_lines; i++) {
		const struct vmdk_line *l = &head->d.lines[i];

		o = json_object();
		set_int(o, "virtual-size", l->sectors * VMDK_SECTOR);
		set_text(o, "filename", l->name ? l->name : "");
		set_text(o, "format", type_name(l->type));
		json_array_append_new(list, o);
	}
	return list;
}

static void describe(const struct td_node *store, const struct vmdk_head *head,
		     json_t *o)
{
	json_t *data = json_object();

	set_int(o, "virtual-size", in_one(head) ? head->h.capacity :
		head->d.sectors * VMDK_SECTOR);
	if (in_one(head))
		set_int(o, "cluster-size", head->h.grain);
	if (head->described) {
		set_int(data, "cid", head->d.cid);
		set_int(data, "parent-cid", head->d.parent_cid);
		set_text(data, "create-type", head->d.type ? head->d.type : "");
		if (head->d.parent && head->d.parent_cid != UINT32_MAX) {
			set_text(o, "backing-filename", head->d.parent);
			set_text(o, "backing-filename-format", "vmdk");
		}
	}
	json_object_set_new(data, "extents", extents(store, head));
	json_object_set_new(o, "format-specific",
			    json_pack("{s:s, s:o}", "type", "vmdk", "data", data));
}

int vmdk_info(struct td_node *store, json_t *o)
{
	struct vmdk_source f = { .n = store, .name = store->arg, .bytes = store->size,
				 .store = store };
	struct vmdk_head head;
	int err = vmdk_head_load(&f, &head);

	if (!err)
		describe(store, &head, o);
	vmdk_head_free(&head);
	return err;
}
