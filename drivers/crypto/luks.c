/* luks.c - see luks.h: opening.
 *
 * All that a header says is checked before the first passphrase is tried, for a
 * try may cost seconds.  The checks here are those that both versions share; what
 * concerns the bytes of one is in its parser.
 */
#include "crypto/luks.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "crypto/crypt.h"
#include "crypto/hash.h"
#include "crypto/kdf.h"
#include "crypto/luks_priv.h"
#include "crypto/secret.h"
#include "td_driver.h"

int luks_refuse(struct luks_header *h, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(h->why, h->why_len, fmt, ap);
	va_end(ap);
	for (char *p = h->why; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return err;
}

uint64_t luks_area_bytes(size_t key_len)
{
	return align_up((uint64_t)key_len * LUKS_STRIPES, 512);
}

/* Is there such a cipher?  Asked with a key that is like any other. */
static int check_cipher(struct luks_header *h, const struct luks_cipher *x,
			uint32_t sector)
{
	unsigned char key[CRYPT_KEY_MAX];
	struct crypt *c;
	char why[128];
	int err;

	if (!x->key_len || x->key_len > sizeof(key))
		return luks_refuse(h, -EINVAL, "it has a key of %zu bytes; %u are "
				   "the most", x->key_len, CRYPT_KEY_MAX);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)i;
	err = crypt_new(x->cipher, x->mode, key, x->key_len, sector, &c, why,
			sizeof(why));
	crypt_free(c);
	return err ? luks_refuse(h, err, "%s", why) : 0;
}

/* The digest that tells the right key. */
static int check_digest(struct luks_header *h, const struct luks_limits *l)
{
	const struct luks_kdf *k = &h->kdf;
	const struct hash *hash = hash_find(k->hash);

	if (!hash)
		return luks_refuse(h, -EOPNOTSUPP, "hash '%s' is not supported ("
				   HASH_NAMES " are)", k->hash);
	if (h->version == 2 && h->digest_len != hash_bytes(hash))
		return luks_refuse(h, -EINVAL, "the key's digest has %zu bytes, not "
				   "%zu", h->digest_len, hash_bytes(hash));
	if (!k->iterations || k->iterations > l->iterations)
		return luks_refuse(h, -EINVAL, "the key's digest has %llu iterations; "
				   "1 to %llu are possible",
				   (unsigned long long)k->iterations,
				   (unsigned long long)l->iterations);
	return 0;
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* Areas lie behind the header, before the data, and not on each other. */
static int check_areas(struct luks_header *h, uint64_t bytes, bool detached)
{
	uint64_t end = detached ? bytes : min_u64(h->info.payload, bytes);

	for (unsigned i = 0; i < h->n_slots; i++) {
		const struct luks_slot *s = &h->slots[i];

		if (s->at < h->end || !range_ok(s->at, s->len, end))
			return luks_refuse(h, -EINVAL, "key slot %u lies outside "
					   "the header", s->number);
		if (s->active && s->len < luks_area_bytes(h->data.key_len))
			return luks_refuse(h, -EINVAL, "key slot %u is too small",
					   s->number);
		for (unsigned k = 0; k < i; k++)
			if (overlap(s->at, s->len, h->slots[k].at,
				    h->slots[k].len))
				return luks_refuse(h, -EINVAL, "key slots %u and "
					"%u overlap", h->slots[k].number, s->number);
	}
	return 0;
}

static int check_payload(struct luks_header *h, uint64_t bytes)
{
	const struct luks_info *i = &h->info;

	if (i->payload < h->end)
		return luks_refuse(h, -EINVAL, "its data begin inside the header "
				   "(a header of its own file is not supported)");
	if (i->payload > bytes || (i->length && i->length > bytes - i->payload))
		return luks_refuse(h, -EINVAL, "its data would end behind the end "
				   "of the file");
	return 0;
}

static void check_slot_hashes(struct luks_slot *s)
{
	const char *missing = !hash_find(s->hash) ? s->hash :
			      s->kdf.kind == LUKS_PBKDF2 &&
			      !hash_find(s->kdf.hash) ? s->kdf.hash : NULL;

	if (missing)
		snprintf(s->skip, sizeof(s->skip), "hash '%s' is not supported",
			 missing);
}

static void check_slot_cost(struct luks_slot *s, const struct luks_limits *l)
{
	const struct luks_kdf *k = &s->kdf;

	if (k->kind == LUKS_PBKDF2) {
		if (k->iterations > l->iterations)
			snprintf(s->skip, sizeof(s->skip), "it wants %llu "
				 "iterations, more than %llu",
				 (unsigned long long)k->iterations,
				 (unsigned long long)l->iterations);
		return;
	}
	if (k->memory_kib > l->memory_kib)
		snprintf(s->skip, sizeof(s->skip), "it wants %u MiB of memory, "
			 "more than %llu", k->memory_kib / 1024,
			 (unsigned long long)l->memory_kib / 1024);
	else if ((uint64_t)k->memory_kib * k->passes > l->work_kib)
		snprintf(s->skip, sizeof(s->skip), "it wants %u passes over %u MiB "
			 "of memory, which takes too long", k->passes,
			 k->memory_kib / 1024);
	else if (k->lanes > LUKS_LANES_MAX)
		snprintf(s->skip, sizeof(s->skip), "it wants %u threads, more than "
			 "%u", k->lanes, LUKS_LANES_MAX);
}

static void check_slot(struct luks_header *h, struct luks_slot *s,
		       const struct luks_limits *l)
{
	if (!s->skip[0])
		check_slot_hashes(s);
	if (!s->skip[0] && s->kdf.kind == LUKS_PBKDF2 && !s->kdf.iterations)
		snprintf(s->skip, sizeof(s->skip), "it has 0 iterations");
	if (!s->skip[0])
		check_slot_cost(s, l);
	if (!s->skip[0] && check_cipher(h, &s->cipher, 512))
		snprintf(s->skip, sizeof(s->skip), "%.*s",
			 (int)sizeof(s->skip) - 1, h->why);
}

static int check(struct luks_header *h, uint64_t bytes, bool detached,
		 const struct luks_limits *l)
{
	unsigned active = 0;
	int err = check_cipher(h, &h->data, h->sector);

	if (!err)
		err = check_digest(h, l);
	if (!err)
		err = check_areas(h, bytes, detached);
	if (!err && !detached)
		err = check_payload(h, bytes);
	for (unsigned i = 0; i < h->n_slots && !err; i++) {
		if (h->slots[i].active)
			check_slot(h, &h->slots[i], l);
		active += h->slots[i].active;
	}
	if (!err && !active)
		err = luks_refuse(h, -EINVAL, "no key slot is in use: nobody can "
				  "open it any more");
	return err;
}

/* Trying a passphrase.  All of it is wiped. */
struct attempt {
	unsigned char derived[CRYPT_KEY_MAX];
	unsigned char key[CRYPT_KEY_MAX];
	unsigned char digest[LUKS_DIGEST_MAX];
	unsigned char split[];
};

static size_t attempt_bytes(size_t key_len)
{
	return sizeof(struct attempt) + luks_area_bytes(key_len);
}

static int derive(const struct luks_kdf *k, const struct td_secret *pass,
		  unsigned char *key, size_t key_len)
{
	if (k->kind == LUKS_PBKDF2)
		return kdf_pbkdf2(hash_find(k->hash), pass->bytes, pass->len,
				  k->salt, k->salt_len, k->iterations, key, key_len);
	return kdf_argon2(k->kind == LUKS_ARGON2ID, pass->bytes, pass->len, k->salt,
			  k->salt_len, k->passes, k->memory_kib, k->lanes, key,
			  key_len);
}

/* Is a->key the key of the data?  0, -EKEYREJECTED, -EIO. */
static int verify(const struct luks_header *h, struct attempt *a)
{
	const struct luks_kdf *k = &h->kdf;
	int err = kdf_pbkdf2(hash_find(k->hash), a->key, h->data.key_len, k->salt,
			     k->salt_len, k->iterations, a->digest, h->digest_len);

	if (!err && memcmp(a->digest, h->digest, h->digest_len))
		err = -EKEYREJECTED;
	return err;
}

/* The key of slot s, if this is its passphrase: in a->key. */
static int try_slot(struct luks_header *h, const struct luks_io *io,
		    struct luks_slot *s, const struct td_secret *pass,
		    struct attempt *a)
{
	size_t len = luks_area_bytes(h->data.key_len);
	struct crypt *c = NULL;
	char why[128];
	int err = io->read(io->arg, s->at, a->split, len);

	if (err)
		return luks_refuse(h, err, "cannot read key slot %u: %s", s->number,
				   strerror(-err));
	err = derive(&s->kdf, pass, a->derived, s->cipher.key_len);
	if (!err)
		err = crypt_new(s->cipher.cipher, s->cipher.mode, a->derived,
				s->cipher.key_len, 512, &c, why, sizeof(why));
	if (!err)
		err = crypt_sectors(c, false, a->split, len, 0);
	crypt_free(c);
	if (!err)
		err = kdf_merge(hash_find(s->hash), a->split, h->data.key_len,
				LUKS_STRIPES, a->key);
	if (!err)
		return verify(h, a);
	snprintf(s->skip, sizeof(s->skip), "%s", strerror(-err));
	return -EKEYREJECTED;
}

static int no_key(struct luks_header *h)
{
	for (unsigned i = 0; i < h->n_slots; i++)
		if (h->slots[i].active && h->slots[i].skip[0])
			return luks_refuse(h, -EKEYREJECTED, "no passphrase given "
				"opens it; key slot %u could not be tried: %s",
				h->slots[i].number, h->slots[i].skip);
	return luks_refuse(h, -EKEYREJECTED, "no passphrase given opens it");
}

/* Is one of the secrets the key of the data: in a->key. */
static int try_data_keys(const struct luks_header *h, const struct td_env *env,
			 struct attempt *a)
{
	int err = -EKEYREJECTED;

	for (unsigned k = 0; k < env->n_secrets && err == -EKEYREJECTED; k++) {
		if (env->secrets[k].len != h->data.key_len)
			continue;
		memcpy(a->key, env->secrets[k].bytes, h->data.key_len);
		err = verify(h, a);
	}
	return err;
}

static int try_slots(struct luks_header *h, const struct luks_io *io,
		     const struct td_env *env, struct attempt *a)
{
	int err = -EKEYREJECTED;

	for (unsigned i = 0; i < h->n_slots; i++) {
		struct luks_slot *s = &h->slots[i];

		for (unsigned k = 0; k < env->n_secrets && err == -EKEYREJECTED; k++)
			if (s->active && !s->skip[0])
				err = try_slot(h, io, s, &env->secrets[k], a);
	}
	return err;
}

static int unlock(struct luks_header *h, const struct luks_io *io,
		  struct td_env *env, struct crypt **c)
{
	size_t bytes = attempt_bytes(h->data.key_len);
	struct attempt *a = secret_new(bytes);
	struct td_secret key;
	int err;

	if (!a)
		return luks_refuse(h, -ENOMEM, "no memory");
	err = try_data_keys(h, env, a);
	if (err == -EKEYREJECTED)
		err = try_slots(h, io, env, a);
	key = (struct td_secret){ a->key, h->data.key_len };
	if (!err && env->key_found)
		env->key_found(env, &key);
	if (err == -EKEYREJECTED)
		err = no_key(h);
	else if (!err)
		err = crypt_new(h->data.cipher, h->data.mode, a->key,
				h->data.key_len, h->sector, c, h->why, h->why_len);
	secret_free(a, bytes);
	return err;
}

static int read_header(struct luks_header *h, const struct luks_io *io,
		       bool detached)
{
	unsigned char first[LUKS1_BYTES];
	int err = io->read(io->arg, 0, first, sizeof(first));
	bool luks;

	if (err)
		return luks_refuse(h, err, "cannot read the header: %s",
				   strerror(-err));
	luks = !memcmp(first, LUKS_MAGIC, LUKS_MAGIC_BYTES);
	h->version = luks ? get_be16(first + LUKS_MAGIC_BYTES) : 0;
	if (h->version == 1)
		return luks1_parse(h, first);
	if (detached)
		return luks_refuse(h, luks ? -EOPNOTSUPP : -EINVAL, luks ?
				   "LUKS version %u is not supported here" :
				   "it has no LUKS header", h->version);
	if (luks && h->version != 2)
		return luks_refuse(h, -EOPNOTSUPP, "LUKS version %u is not "
				   "supported (1 and 2 are)", h->version);
	/* Of version 2 the first copy may be lost. */
	return luks2_read(h, io);
}

static struct luks_limits limits_of(const struct luks_limits *given)
{
	struct luks_limits l = given ? *given : (struct luks_limits){ 0 };

	if (!l.iterations)
		l.iterations = LUKS_ITERATIONS_MAX;
	if (!l.memory_kib)
		l.memory_kib = LUKS_MEMORY_KIB_MAX;
	if (!l.work_kib)
		l.work_kib = LUKS_WORK_KIB_MAX;
	return l;
}

static void tell(const struct luks_header *h, struct luks_about *a)
{
	*a = (struct luks_about){
		.info = h->info, .key_len = h->data.key_len, .sector = h->sector,
		.iterations = h->kdf.iterations, .n_slots = h->n_slots,
	};
	a->info.version = h->version;
	snprintf(a->cipher, sizeof(a->cipher), "%s", h->data.cipher);
	snprintf(a->mode, sizeof(a->mode), "%s", h->data.mode);
	snprintf(a->hash, sizeof(a->hash), "%s", h->kdf.hash);
	snprintf(a->uuid, sizeof(a->uuid), "%s", h->uuid);
	for (unsigned i = 0; i < h->n_slots; i++) {
		a->slot[i].active = h->slots[i].active;
		a->slot[i].iterations = h->slots[i].kdf.iterations;
		a->slot[i].at = h->slots[i].at;
	}
}

/* Read and check a header.  *h is the caller's to free, also after a failure; NULL:
 * no memory. */
static int load(const struct luks_io *io, bool detached, const struct luks_limits *l,
		char *why, size_t why_len, struct luks_header **h)
{
	int err;

	*h = calloc(1, sizeof(**h));
	if (!*h) {
		snprintf(why, why_len, "no memory");
		return -ENOMEM;
	}
	(*h)->why = why;
	(*h)->why_len = why_len;
	err = read_header(*h, io, detached);
	return err ? err : check(*h, io->bytes, detached, l);
}

int crypt_luks_about(const struct luks_io *io, bool detached, struct luks_about *a,
		     char *why, size_t why_len)
{
	struct luks_limits l = limits_of(NULL);
	struct luks_header *h;
	int err = load(io, detached, &l, why, why_len, &h);

	if (!err)
		tell(h, a);
	free(h);
	return err;
}

int crypt_luks_open(const struct luks_io *io, bool detached, struct td_env *env,
		    const struct luks_limits *limits, struct luks_info *info,
		    struct crypt **c, char *why, size_t why_len)
{
	struct luks_limits l = limits_of(limits);
	struct luks_header *h;
	int err = load(io, detached, &l, why, why_len, &h);

	*c = NULL;
	if (!h)
		return err;
	if (!err && !env->n_secrets)
		err = luks_refuse(h, -ENOKEY, "it is encrypted, and no passphrase "
				  "was given");
	if (!err)
		err = unlock(h, io, env, c);
	h->info.version = h->version;
	*info = h->info;
	free(h);
	return err;
}
