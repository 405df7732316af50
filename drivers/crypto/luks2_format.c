/* luks2_format.c - a new LUKS2 header: one segment up to the end of the file, one
 * key slot with Argon2id, laid out as cryptsetup does. */
#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "crypto/hash.h"
#include "crypto/kdf.h"
#include "crypto/luks_priv.h"
#include "td_driver.h"

#define HDR_BYTES 16384u
#define AREA (2 * HDR_BYTES)
#define SALT 32u
#define PASSES_MIN 4u
#define LANES 4u
#define MEMORY_MIN_KIB 64u
#define MEASURE_KIB (16u * 1024)

struct salts {
	unsigned char slot[SALT], digest_salt[SALT], digest[HASH_BYTES_MAX];
	uint64_t iterations;
	uint32_t memory_kib, passes;
};

/* As much memory as makes PASSES_MIN passes take so long, at most half of what
 * there is and of what we would open; more passes when that is not enough. */
static int measure(unsigned ms, struct salts *s)
{
	static const char pass[] = "measure";
	uint64_t start = clock_ns(), took, kib, most;
	unsigned char key[32];
	int err = kdf_argon2(true, pass, sizeof(pass), s->slot, SALT, PASSES_MIN,
			     MEASURE_KIB, LANES, key, sizeof(key));
	long pages = sysconf(_SC_PHYS_PAGES);

	if (err)
		return err;
	took = clock_ns() - start;
	kib = MEASURE_KIB * (uint64_t)ms / (took / NS_PER_MS + 1);
	most = min_u64(LUKS_MEMORY_KIB_MAX,
		       pages > 0 ? (uint64_t)pages * 4 / 2 : UINT64_MAX);
	s->passes = PASSES_MIN;
	if (kib > most) {
		s->passes = (uint32_t)min_u64(PASSES_MIN * kib / most,
					      LUKS_WORK_KIB_MAX / most);
		kib = most;
	}
	s->memory_kib = (uint32_t)max_u64(kib, MEMORY_MIN_KIB);
	return 0;
}

static json_t *base64(const unsigned char *p, size_t len)
{
	unsigned char text[(HASH_BYTES_MAX + 2) / 3 * 4 + 1];

	EVP_EncodeBlock(text, p, (int)len);
	return json_string((const char *)text);
}

static json_t *number(uint64_t v)
{
	return json_sprintf("%llu", (unsigned long long)v);
}

static json_t *make_json(const struct luks_new *n, const struct salts *s)
{
	const struct luks_format *f = &n->f;
	json_int_t key = (json_int_t)f->key_len;

	return json_pack(
	    "{s:{s:{s:s,s:I,s:{s:s,s:i,s:s},"
		   "s:{s:s,s:o,s:o,s:o,s:I},"
		   "s:{s:s,s:I,s:I,s:i,s:o}}},"
	    "s:{},"
	    "s:{s:{s:s,s:o,s:s,s:s,s:o,s:I}},"
	    "s:{s:{s:s,s:[s],s:[s],s:s,s:I,s:o,s:o}},"
	    "s:{s:o,s:o}}",
	    "keyslots", "0", "type", "luks2", "key_size", key,
	    "af", "type", "luks1", "stripes", (int)LUKS_STRIPES, "hash", f->hash,
	    "area", "type", "raw", "offset", number(AREA),
		"size", number(align_up(luks_area_bytes(f->key_len), 4096)),
		"encryption", json_sprintf("%s-%s", f->cipher, f->mode),
		"key_size", key,
	    "kdf", "type", "argon2id", "time", (json_int_t)s->passes,
		"memory", (json_int_t)s->memory_kib, "cpus", (int)LANES,
		"salt", base64(s->slot, SALT),
	    "tokens",
	    "segments", "0", "type", "crypt", "offset", number(LUKS2_PAYLOAD),
		"size", "dynamic", "iv_tweak", "0",
		"encryption", json_sprintf("%s-%s", f->cipher, f->mode),
		"sector_size", (json_int_t)f->sector,
	    "digests", "0", "type", "pbkdf2", "keyslots", "0", "segments", "0",
		"hash", f->hash, "iterations", (json_int_t)s->iterations,
		"salt", base64(s->digest_salt, SALT),
		"digest", base64(s->digest, hash_bytes(n->hash)),
	    "config", "json_size", number(HDR_BYTES - LUKS2_BIN_BYTES),
		"keyslots_size", number(LUKS2_PAYLOAD - AREA));
}

static int write_copy(const struct luks_io *io, unsigned char *b, const char *magic,
		      uint64_t at)
{
	unsigned char sum[HASH_BYTES_MAX];
	int err;

	memcpy(b, magic, LUKS_MAGIC_BYTES);
	put_be64(b + LUKS2_OFFSET, at);
	memset(b + LUKS2_CSUM, 0, LUKS2_CSUM_BYTES);
	err = luks_random(b + LUKS2_SALT, 64);
	if (!err)
		err = luks2_checksum(b, HDR_BYTES, sum);
	if (err)
		return err;
	memcpy(b + LUKS2_CSUM, sum, 32);
	return io->write(io->arg, at, b, HDR_BYTES);
}

static int write_header(const struct luks_io *io, const char *text)
{
	unsigned char *b = calloc(1, HDR_BYTES);
	int err = b ? 0 : -ENOMEM;

	if (!err && strlen(text) >= HDR_BYTES - LUKS2_BIN_BYTES)
		err = -E2BIG;
	if (!err) {
		put_be16(b + LUKS2_VERSION, 2);
		put_be64(b + LUKS2_SIZE, HDR_BYTES);
		put_be64(b + LUKS2_SEQID, 1);
		strcpy((char *)b + LUKS2_CSUM_ALG, "sha256");
		strcpy((char *)b + LUKS2_BIN_BYTES, text);
		err = luks_uuid((char *)b + LUKS2_UUID);
	}
	if (!err)
		err = write_copy(io, b, LUKS_MAGIC_SECOND, HDR_BYTES);
	if (!err)
		err = write_copy(io, b, LUKS_MAGIC, 0);
	free(b);
	return err;
}

/* As long as the hash, and no other length: that cryptsetup 2.6 takes any key for
 * a digest that is shorter must not be our header's fault. */
static int make_digest(struct luks_new *n, struct salts *s)
{
	size_t len = hash_bytes(n->hash);
	int err = luks_random(s->digest_salt, SALT);

	if (!err)
		err = luks_iterations(n->hash, len, n->f.iter_ms / 8,
				      &s->iterations);
	if (!err)
		err = kdf_pbkdf2(n->hash, n->key, n->f.key_len, s->digest_salt, SALT,
				 s->iterations, s->digest, len);
	return err;
}

int luks2_format(struct luks_new *n, const struct luks_io *io,
		 const struct td_secret *pass)
{
	struct salts s;
	json_t *top;
	char *text;
	int err = luks_random(s.slot, SALT);

	if (!err)
		err = measure(n->f.iter_ms, &s);
	if (!err)
		err = kdf_argon2(true, pass->bytes, pass->len, s.slot, SALT, s.passes,
				 s.memory_kib, LANES, n->derived, n->f.key_len);
	if (!err)
		err = luks_write_area(n, io, AREA);
	if (!err)
		err = make_digest(n, &s);
	if (err)
		return err;
	top = make_json(n, &s);
	text = top ? json_dumps(top, JSON_COMPACT) : NULL;
	err = text ? write_header(io, text) : -ENOMEM;
	free(text);
	json_decref(top);
	return err;
}
