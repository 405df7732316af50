/* about.c - see about.h. */
#include "luks/about.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "crypto/luks.h"

static void set_int(json_t *o, const char *name, uint64_t v)
{
	json_object_set_new(o, name, json_integer((json_int_t)v));
}

static void set_text(json_t *o, const char *name, const char *v, size_t len)
{
	json_t *s = json_stringn(v, len);

	json_object_set_new(o, name, s ? s : json_string("?"));
}

/* "xts-plain64", "cbc-essiv:sha256" in the words of qemu-img. */
static void add_cipher(json_t *o, const struct luks_about *a, const char *format)
{
	const char *iv = strchr(a->mode, '-'), *hash = strchr(a->mode, ':');
	bool xts = !strncmp(a->mode, "xts-", 4);
	char name[96];

	if (iv)
		set_text(o, "ivgen-alg", iv + 1, hash && hash > iv ?
			 (size_t)(hash - iv - 1) : strlen(iv + 1));
	if (hash)
		set_text(o, "ivgen-hash-alg", hash + 1, strlen(hash + 1));
	set_text(o, "hash-alg", a->hash, strlen(a->hash));
	snprintf(name, sizeof(name), "%s-%zu", a->cipher, a->key_len * 8 / (xts ? 2 : 1));
	set_text(o, "cipher-alg", name, strlen(name));
	set_text(o, "uuid", a->uuid, strlen(a->uuid));
	if (format)
		set_text(o, "format", format, strlen(format));
	set_text(o, "cipher-mode", a->mode, iv ? (size_t)(iv - a->mode) :
		 strlen(a->mode));
}

static json_t *slots(const struct luks_about *a)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < a->n_slots; i++) {
		json_t *s = json_object();

		json_object_set_new(s, "active", json_boolean(a->slot[i].active));
		if (a->slot[i].active) {
			set_int(s, "iters", a->slot[i].iterations);
			set_int(s, "key-offset", a->slot[i].at);
			set_int(s, "stripes", 4000);
		} else {
			set_int(s, "key-offset", a->slot[i].at);
		}
		json_array_append_new(list, s);
	}
	return list;
}

json_t *luks_about_json(const struct luks_about *a, const char *format)
{
	json_t *data = json_object();

	add_cipher(data, a, format);
	if (a->info.version != 1) {
		set_int(data, "version", a->info.version);
		set_int(data, "sector", a->sector);
	}
	json_object_set_new(data, "slots", slots(a));
	set_int(data, "payload-offset", a->info.payload);
	set_int(data, "master-key-iters", a->iterations);
	return data;
}
