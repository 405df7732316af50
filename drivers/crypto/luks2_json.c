/* luks2_json.c - the JSON of a LUKS2 header: one segment, its digest, and the key
 * slots that open it.
 *
 * What is understood is what cryptsetup makes for a disk that is simply encrypted.
 * Everything else (integrity, reencryption under way, several segments) is refused
 * by name; a key slot of another kind is left out.
 */
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/size.h"
#include "crypto/luks_priv.h"

/* The parser below recurses, on the small stack of a worker. */
#define DEPTH_MAX 16u

static bool too_deep(const char *text, size_t len)
{
	unsigned depth = 0;
	bool string = false;

	for (size_t i = 0; i < len; i++) {
		if (string) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				string = false;
		} else if (text[i] == '"') {
			string = true;
		} else if (text[i] == '{' || text[i] == '[') {
			if (++depth > DEPTH_MAX)
				return true;
		} else if ((text[i] == '}' || text[i] == ']') && depth) {
			depth--;
		}
	}
	return false;
}

static int bad(struct luks_header *h, const char *where, const char *name)
{
	return luks_refuse(h, -EINVAL, "the LUKS2 header has no valid '%s' in its %s",
			   name, where);
}

/* Members.  All of them are required. */

static bool get_text(const json_t *o, const char *name, char *out, size_t len)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && *s && (size_t)snprintf(out, len, "%s", s) < len;
}

static bool is_text(const json_t *o, const char *name, const char *want)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && !strcmp(s, want);
}

/* Numbers that may be larger than a double can hold are strings. */
static bool get_u64(const json_t *o, const char *name, uint64_t *v)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && !uint_parse(s, UINT64_MAX, v);
}

static bool get_uint(const json_t *o, const char *name, uint64_t max, uint64_t *v)
{
	const json_t *j = json_object_get(o, name);

	if (!json_is_integer(j) || json_integer_value(j) < 0 ||
	    (uint64_t)json_integer_value(j) > max)
		return false;
	*v = (uint64_t)json_integer_value(j);
	return true;
}

static bool get_u32(const json_t *o, const char *name, uint32_t *v)
{
	uint64_t x;

	if (!get_uint(o, name, UINT32_MAX, &x))
		return false;
	*v = (uint32_t)x;
	return true;
}

static bool get_base64(const json_t *o, const char *name, unsigned char *out,
		       size_t max, size_t *len)
{
	const char *s = json_string_value(json_object_get(o, name));
	unsigned char buf[LUKS_SALT_MAX + 3];
	size_t n = s ? strlen(s) : 0, bytes = n / 4 * 3;

	if (!n || n % 4 || bytes > sizeof(buf) || memchr(s, '=', n - 2) ||
	    EVP_DecodeBlock(buf, (const unsigned char *)s, (int)n) != (int)bytes)
		return false;
	bytes -= (s[n - 1] == '=') + (size_t)(s[n - 2] == '=');
	if (bytes > max)
		return false;
	memcpy(out, buf, bytes);
	*len = bytes;
	return true;
}

/* "aes-xts-plain64" */
static bool get_cipher(const json_t *o, const char *name, struct luks_cipher *c)
{
	const char *s = json_string_value(json_object_get(o, name));
	size_t len = s ? strcspn(s, "-") : 0;

	if (!len || !s[len] || len >= sizeof(c->cipher))
		return false;
	memcpy(c->cipher, s, len);
	c->cipher[len] = '\0';
	return (size_t)snprintf(c->mode, sizeof(c->mode), "%s", s + len + 1) <
	       sizeof(c->mode);
}

static bool has(const json_t *array, const char *text)
{
	size_t i;
	json_t *j;

	json_array_foreach(array, i, j) {
		const char *s = json_string_value(j);

		if (s && !strcmp(s, text))
			return true;
	}
	return false;
}

static int get_pbkdf2(struct luks_header *h, const char *where, const json_t *o,
		      struct luks_kdf *k)
{
	k->kind = LUKS_PBKDF2;
	if (!get_text(o, "hash", k->hash, sizeof(k->hash)))
		return bad(h, where, "hash");
	if (!get_uint(o, "iterations", UINT32_MAX, &k->iterations))
		return bad(h, where, "iterations");
	return 0;
}

static int get_argon2(struct luks_header *h, const char *where, const json_t *o,
		      struct luks_kdf *k)
{
	if (!get_u32(o, "time", &k->passes))
		return bad(h, where, "time");
	if (!get_u32(o, "memory", &k->memory_kib))
		return bad(h, where, "memory");
	if (!get_u32(o, "cpus", &k->lanes))
		return bad(h, where, "cpus");
	return 0;
}

static int get_kdf(struct luks_header *h, const char *where, const json_t *o,
		   struct luks_slot *s)
{
	struct luks_kdf *k = &s->kdf;
	char type[LUKS_NAME_MAX];
	int err = 0;

	if (!get_text(o, "type", type, sizeof(type)))
		return bad(h, where, "type");
	if (!get_base64(o, "salt", k->salt, sizeof(k->salt), &k->salt_len))
		return bad(h, where, "salt");
	if (!strcmp(type, "pbkdf2")) {
		err = get_pbkdf2(h, where, o, k);
	} else if (!strcmp(type, "argon2i") || !strcmp(type, "argon2id")) {
		k->kind = type[7] ? LUKS_ARGON2ID : LUKS_ARGON2I;
		err = get_argon2(h, where, o, k);
	} else {
		snprintf(s->skip, sizeof(s->skip), "'%.40s' of its passphrase is "
			 "not supported", type);
	}
	return err;
}

static int get_area(struct luks_header *h, const char *where, const json_t *o,
		    struct luks_slot *s)
{
	uint64_t key_len;

	if (!is_text(o, "type", "raw"))
		return bad(h, where, "area type");
	if (!get_u64(o, "offset", &s->at) || !get_u64(o, "size", &s->len))
		return bad(h, where, "area");
	if (!get_cipher(o, "encryption", &s->cipher))
		return bad(h, where, "encryption");
	if (!get_uint(o, "key_size", UINT32_MAX, &key_len))
		return bad(h, where, "key_size");
	s->cipher.key_len = key_len;
	return 0;
}

static int get_slot(struct luks_header *h, const char *name, const json_t *o,
		    struct luks_slot *s)
{
	const json_t *af = json_object_get(o, "af");
	uint64_t number, key_len;
	char where[32];
	uint32_t stripes;

	if (uint_parse(name, LUKS_SLOTS_MAX - 1, &number))
		return bad(h, "list of key slots", "number");
	s->number = (unsigned)number;
	snprintf(where, sizeof(where), "key slot %u", s->number);
	/* Its area is still the slot's own. */
	if (!get_u64(json_object_get(o, "area"), "offset", &s->at) ||
	    !get_u64(json_object_get(o, "area"), "size", &s->len))
		return bad(h, where, "area");
	if (!is_text(o, "type", "luks2")) {
		char type[40];

		if (!get_text(o, "type", type, sizeof(type)))
			return bad(h, where, "type");
		snprintf(s->skip, sizeof(s->skip), "its type '%s' is not supported",
			 type);
		return 0;
	}
	if (!get_uint(o, "key_size", UINT32_MAX, &key_len))
		return bad(h, where, "key_size");
	if (key_len != h->data.key_len && s->active)
		return luks_refuse(h, -EINVAL, "key slots of one segment have keys "
				   "of %zu and of %llu bytes", h->data.key_len,
				   (unsigned long long)key_len);
	if (!is_text(af, "type", "luks1") || !get_u32(af, "stripes", &stripes) ||
	    stripes != LUKS_STRIPES || !get_text(af, "hash", s->hash, sizeof(s->hash)))
		return bad(h, where, "af");
	return get_area(h, where, json_object_get(o, "area"), s) ? -EINVAL :
	       get_kdf(h, where, json_object_get(o, "kdf"), s);
}

/* The key's length is said by the slots that have it. */
static size_t key_bytes(const json_t *slots, const json_t *wanted)
{
	const char *name;
	uint64_t len;
	json_t *o;

	json_object_foreach((json_t *)slots, name, o)
		if (has(wanted, name) && is_text(o, "type", "luks2") &&
		    get_uint(o, "key_size", UINT32_MAX, &len))
			return len;
	return 0;
}

static int get_slots(struct luks_header *h, const json_t *slots, const json_t *wanted)
{
	const char *name;
	json_t *o;

	if (!json_is_object(slots) || json_object_size(slots) > LUKS_SLOTS_MAX)
		return bad(h, "top", "keyslots");
	h->data.key_len = key_bytes(slots, wanted);
	json_object_foreach((json_t *)slots, name, o) {
		struct luks_slot *s = &h->slots[h->n_slots++];
		int err;

		s->active = has(wanted, name);
		err = get_slot(h, name, o, s);
		if (err)
			return err;
	}
	return 0;
}

static int get_segment(struct luks_header *h, const json_t *o)
{
	const json_t *size = json_object_get(o, "size");
	struct luks_info *i = &h->info;

	if (!is_text(o, "type", "crypt"))
		return luks_refuse(h, -EOPNOTSUPP, "its segment is not of type "
				   "'crypt'");
	if (json_object_get(o, "integrity"))
		return luks_refuse(h, -EOPNOTSUPP, "integrity protection is not "
				   "supported");
	if (json_array_size(json_object_get(o, "flags")))
		return luks_refuse(h, -EOPNOTSUPP, "its segment has flags, which "
				   "are not supported");
	if (!get_cipher(o, "encryption", &h->data))
		return bad(h, "segment", "encryption");
	if (!get_u32(o, "sector_size", &h->sector) || !is_pow2(h->sector) ||
	    h->sector < 512 || h->sector > 4096)
		return bad(h, "segment", "sector_size");
	if (!get_u64(o, "offset", &i->payload) || !is_aligned(i->payload, 512))
		return bad(h, "segment", "offset");
	if (!get_u64(o, "iv_tweak", &i->first_sector) ||
	    !is_aligned(i->first_sector, h->sector / 512))
		return bad(h, "segment", "iv_tweak");
	if (!json_is_string(size) || !strcmp(json_string_value(size), "dynamic"))
		return json_is_string(size) ? 0 : bad(h, "segment", "size");
	if (!get_u64(o, "size", &i->length) || !i->length ||
	    !is_aligned(i->length, h->sector))
		return bad(h, "segment", "size");
	return 0;
}

/* The digest of segment `name`.  It is as long as its hash: a short one would let a
 * wrong key pass. */
static int get_digest(struct luks_header *h, const json_t *digests, const char *name,
		      const json_t **slots)
{
	const char *key;
	json_t *o;

	json_object_foreach((json_t *)digests, key, o) {
		if (!has(json_object_get(o, "segments"), name))
			continue;
		if (!is_text(o, "type", "pbkdf2"))
			return luks_refuse(h, -EOPNOTSUPP, "its digest is not of "
					   "type 'pbkdf2'");
		if (!get_base64(o, "salt", h->kdf.salt, sizeof(h->kdf.salt),
				&h->kdf.salt_len))
			return bad(h, "digest", "salt");
		if (!get_base64(o, "digest", h->digest, sizeof(h->digest),
				&h->digest_len))
			return bad(h, "digest", "digest");
		*slots = json_object_get(o, "keyslots");
		return get_pbkdf2(h, "digest", o, &h->kdf);
	}
	return luks_refuse(h, -EINVAL, "the LUKS2 header has no digest for its "
			   "segment");
}

static int check_requirements(struct luks_header *h, const json_t *config)
{
	const json_t *r = json_object_get(config, "requirements");
	const json_t *must = json_object_get(r, "mandatory");
	const char *first = json_string_value(json_array_get(must, 0));

	if (r && !json_is_object(r))
		return bad(h, "config", "requirements");
	if (must && (!json_is_array(must) || json_array_size(must)))
		return luks_refuse(h, -EOPNOTSUPP, "it requires '%.64s', which is "
				   "not supported", first ? first : "something");
	return 0;
}

static int parse(struct luks_header *h, const json_t *top)
{
	const json_t *segments = json_object_get(top, "segments"), *slots = NULL;
	void *it = json_object_iter((json_t *)segments);
	int err = check_requirements(h, json_object_get(top, "config"));

	if (err)
		return err;
	if (json_object_size(segments) != 1)
		return luks_refuse(h, -EOPNOTSUPP, "it has %zu segments; only one is "
				   "supported", json_object_size(segments));
	err = get_segment(h, json_object_iter_value(it));
	if (!err)
		err = get_digest(h, json_object_get(top, "digests"),
				 json_object_iter_key(it), &slots);
	if (!err)
		err = get_slots(h, json_object_get(top, "keyslots"), slots);
	return err;
}

int luks2_parse_json(struct luks_header *h, const char *text, size_t len)
{
	size_t n = strnlen(text, len);
	json_error_t e;
	json_t *top;
	int err;

	if (too_deep(text, n))
		return luks_refuse(h, -EINVAL, "the LUKS2 header is nested too deeply");
	top = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
	if (!top)
		return luks_refuse(h, -EINVAL, "the LUKS2 header is no JSON: %s",
				   e.text);
	err = parse(h, top);
	json_decref(top);
	return err;
}
