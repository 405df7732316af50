/* luks1.c - the header of LUKS version 1: 592 bytes, big endian. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "crypto/hash.h"
#include "crypto/kdf.h"
#include "crypto/luks_priv.h"
#include "td_driver.h"

enum {
	AT_CIPHER = 8, AT_MODE = 40, AT_HASH = 72, AT_PAYLOAD = 104,
	AT_KEY_BYTES = 108, AT_DIGEST = 112, AT_SALT = 132, AT_ITERATIONS = 164,
	AT_UUID = 168, AT_SLOTS = 208,
	SLOT_BYTES = 48, SLOT_ITERATIONS = 4, SLOT_SALT = 8, SLOT_AREA = 40,
	SLOT_STRIPES = 44,
	SLOTS = 8, NAME = 32, DIGEST = 20, SALT = 32, UUID = 40,
};

#define SLOT_ON 0x00ac71f3u
#define SLOT_OFF 0x0000deadu

static int get_name(struct luks_header *h, const unsigned char *p, size_t len,
		    const char *what, char *out)
{
	if (!memchr(p, '\0', len))
		return luks_refuse(h, -EINVAL, "the header's %s has no end", what);
	memcpy(out, p, len);
	return 0;
}

static int parse_slot(struct luks_header *h, unsigned i, const unsigned char *p)
{
	struct luks_slot *s = &h->slots[i];
	uint32_t state = get_be32(p), stripes = get_be32(p + SLOT_STRIPES);

	s->number = i;
	if (state != SLOT_ON && state != SLOT_OFF)
		return luks_refuse(h, -EINVAL, "key slot %u is neither on nor off",
				   i);
	s->active = state == SLOT_ON;
	if (stripes != LUKS_STRIPES)
		return luks_refuse(h, -EINVAL, "key slot %u has %u stripes, not %u",
				   i, stripes, LUKS_STRIPES);
	s->kdf = h->kdf;
	s->kdf.iterations = get_be32(p + SLOT_ITERATIONS);
	memcpy(s->kdf.salt, p + SLOT_SALT, SALT);
	s->cipher = h->data;
	memcpy(s->hash, h->kdf.hash, sizeof(s->hash));
	s->at = (uint64_t)get_be32(p + SLOT_AREA) * 512;
	s->len = luks_area_bytes(h->data.key_len);
	return 0;
}

int luks1_parse(struct luks_header *h, const unsigned char *first)
{
	int err;

	h->end = LUKS1_BYTES;
	h->sector = 512;
	h->info.payload = (uint64_t)get_be32(first + AT_PAYLOAD) * 512;
	err = get_name(h, first + AT_CIPHER, NAME, "cipher name", h->data.cipher);
	if (!err)
		err = get_name(h, first + AT_MODE, NAME, "cipher mode",
			       h->data.mode);
	if (!err)
		err = get_name(h, first + AT_HASH, NAME, "hash name", h->kdf.hash);
	if (!err)
		err = get_name(h, first + AT_UUID, UUID, "uuid", h->uuid);
	if (err)
		return err;
	h->data.key_len = get_be32(first + AT_KEY_BYTES);
	h->kdf.kind = LUKS_PBKDF2;
	h->kdf.iterations = get_be32(first + AT_ITERATIONS);
	h->kdf.salt_len = SALT;
	memcpy(h->kdf.salt, first + AT_SALT, SALT);
	memcpy(h->digest, first + AT_DIGEST, DIGEST);
	h->digest_len = DIGEST;
	h->n_slots = SLOTS;
	for (unsigned i = 0; i < SLOTS && !err; i++)
		err = parse_slot(h, i, first + AT_SLOTS + i * SLOT_BYTES);
	return err;
}

/* A new one.  The first key slot begins at 4096, each at a multiple of it, and the
 * data behind the last. */

#define FIRST_AREA 4096u

static uint64_t area_stride(size_t key_len)
{
	return align_up(luks_area_bytes(key_len), 4096);
}

uint64_t luks1_payload(size_t key_len)
{
	return FIRST_AREA + SLOTS * area_stride(key_len);
}

static void put_slots(const struct luks_new *n, uint64_t iterations,
		      const unsigned char *salt, unsigned char *b)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		unsigned char *p = b + AT_SLOTS + i * SLOT_BYTES;
		uint64_t at = FIRST_AREA + i * area_stride(n->f.key_len);

		put_be32(p, i ? SLOT_OFF : SLOT_ON);
		put_be32(p + SLOT_AREA, (uint32_t)(at / 512));
		put_be32(p + SLOT_STRIPES, LUKS_STRIPES);
	}
	put_be32(b + AT_SLOTS + SLOT_ITERATIONS, (uint32_t)iterations);
	memcpy(b + AT_SLOTS + SLOT_SALT, salt, SALT);
}

/* The digest of the key gets an eighth of the time that the passphrase gets. */
static int put_digest(const struct luks_new *n, unsigned char *b)
{
	uint64_t iterations;
	int err = luks_iterations(n->hash, DIGEST, n->f.iter_ms / 8, &iterations);

	if (!err)
		err = luks_random(b + AT_SALT, SALT);
	if (err)
		return err;
	put_be32(b + AT_ITERATIONS, (uint32_t)iterations);
	return kdf_pbkdf2(n->hash, n->key, n->f.key_len, b + AT_SALT, SALT,
			  iterations, b + AT_DIGEST, DIGEST);
}

int luks1_format(struct luks_new *n, const struct luks_io *io,
		 const struct td_secret *pass)
{
	unsigned char b[LUKS1_BYTES] = { 0 }, salt[SALT];
	const struct luks_format *f = &n->f;
	uint64_t iterations;
	int err;

	memcpy(b, LUKS_MAGIC, LUKS_MAGIC_BYTES);
	put_be16(b + LUKS_MAGIC_BYTES, 1);
	snprintf((char *)b + AT_CIPHER, NAME, "%s", f->cipher);
	snprintf((char *)b + AT_MODE, NAME, "%s", f->mode);
	snprintf((char *)b + AT_HASH, NAME, "%s", f->hash);
	put_be32(b + AT_PAYLOAD, (uint32_t)(luks1_payload(f->key_len) / 512));
	put_be32(b + AT_KEY_BYTES, (uint32_t)f->key_len);
	err = luks_uuid((char *)b + AT_UUID);
	if (!err)
		err = put_digest(n, b);
	if (!err)
		err = luks_random(salt, sizeof(salt));
	if (!err)
		err = luks_iterations(n->hash, f->key_len, f->iter_ms, &iterations);
	if (!err)
		err = kdf_pbkdf2(n->hash, pass->bytes, pass->len, salt, SALT,
				 iterations, n->derived, f->key_len);
	if (!err)
		err = luks_write_area(n, io, FIRST_AREA);
	if (err)
		return err;
	put_slots(n, iterations, salt, b);
	return io->write(io->arg, 0, b, sizeof(b));
}
