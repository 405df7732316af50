/* crypt.c - see crypt.h.
 *
 * OpenSSL does the work through EVP.  An EVP context holds the expanded key and
 * the vector of the sector at hand, so a thread needs one for itself: a crypt has
 * some, and whoever comes takes one that is free with one atomic exchange.  For
 * each sector only the vector is set; of 4 KiB in AES-256-XTS that is a third of
 * the time (40 ns a sector), and a key set again would be most of it.
 *
 * Expanded keys are OpenSSL's; nothing else of the key is kept.
 *
 * I1  A context is used by the thread that took it, until it is put back.
 */
#include "crypto/crypt.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"
#include "td_driver.h"

#define IV_BYTES 16u
#define SECTOR_MIN 512u
#define SECTOR_MAX 4096u

/* A disk's loop and its workers; more threads than this share. */
#define CONTEXTS 8u

enum iv_rule {
	IV_PLAIN,		/* 32 bits of the sector's number, little endian */
	IV_PLAIN64,		/* all of them */
	IV_ESSIV,		/* these encrypted with a hash of the key */
};

struct context {
	bool busy;
	EVP_CIPHER_CTX *encrypt, *decrypt;
	EVP_CIPHER_CTX *essiv;	/* or NULL */
} __attribute__((aligned(64)));

struct crypt {
	uint32_t sector;
	enum iv_rule rule;
	struct context contexts[CONTEXTS];
};

/* What a key of so many bytes is used with. */
struct variant {
	const char *chain;
	size_t key_len;
	const char *name;	/* OpenSSL's */
};

static const struct variant variants[] = {
	{ "xts", 32, "AES-128-XTS" },
	{ "xts", 64, "AES-256-XTS" },
	{ "cbc", 16, "AES-128-CBC" },
	{ "cbc", 24, "AES-192-CBC" },
	{ "cbc", 32, "AES-256-CBC" },
};

/* The mode, taken apart. */
struct mode {
	char chain[8];
	enum iv_rule rule;
	const char *hash;	/* ESSIV: the rest of the mode's name */
};

static int parse_mode(const char *name, struct mode *m, char *why, size_t why_len)
{
	const char *iv = strchr(name, '-');
	size_t len = iv ? (size_t)(iv - name) : strlen(name);

	m->hash = NULL;
	if (!iv || len >= sizeof(m->chain))
		goto unknown;
	memcpy(m->chain, name, len);
	m->chain[len] = '\0';
	iv++;
	if (!strcmp(iv, "plain64")) {
		m->rule = IV_PLAIN64;
	} else if (!strcmp(iv, "plain")) {
		m->rule = IV_PLAIN;
	} else if (!strncmp(iv, "essiv:", 6)) {
		m->rule = IV_ESSIV;
		m->hash = iv + 6;
	} else {
		goto unknown;
	}
	return 0;
unknown:
	snprintf(why, why_len, "encryption mode '%s' is not supported (xts or cbc "
		 "with plain, plain64 or essiv are)", name);
	return -EOPNOTSUPP;
}

static const struct variant *find_variant(const char *chain, size_t key_len,
					  bool *chain_known)
{
	*chain_known = false;
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		if (strcmp(variants[i].chain, chain))
			continue;
		*chain_known = true;
		if (variants[i].key_len == key_len)
			return &variants[i];
	}
	return NULL;
}

/* 0, -ENOMEM; -EINVAL: OpenSSL does not take this key. */
static int context_new(EVP_CIPHER_CTX **x, const EVP_CIPHER *cipher,
		       const void *key, int encrypt)
{
	static const unsigned char iv[IV_BYTES];

	*x = EVP_CIPHER_CTX_new();
	if (!*x)
		return -ENOMEM;
	if (EVP_CipherInit_ex(*x, cipher, NULL, key,
			      EVP_CIPHER_get_iv_length(cipher) ? iv : NULL,
			      encrypt) != 1)
		return -EINVAL;
	EVP_CIPHER_CTX_set_padding(*x, 0);
	return 0;
}

static int contexts_new(struct crypt *c, const EVP_CIPHER *cipher, const void *key,
			const EVP_CIPHER *essiv, const void *essiv_key)
{
	int err = 0;

	for (unsigned i = 0; i < CONTEXTS && !err; i++) {
		struct context *x = &c->contexts[i];

		err = context_new(&x->encrypt, cipher, key, 1);
		if (!err)
			err = context_new(&x->decrypt, cipher, key, 0);
		if (!err && essiv)
			err = context_new(&x->essiv, essiv, essiv_key, 1);
	}
	return err;
}

static const EVP_CIPHER *essiv_cipher(size_t key_len)
{
	switch (key_len) {
	case 16:
		return EVP_aes_128_ecb();
	case 24:
		return EVP_aes_192_ecb();
	case 32:
		return EVP_aes_256_ecb();
	default:
		return NULL;
	}
}

static int with_key(struct crypt *c, const EVP_CIPHER *cipher, const struct mode *m,
		    const void *key, size_t key_len, char *why, size_t why_len)
{
	unsigned char digest[HASH_BYTES_MAX];
	const EVP_CIPHER *essiv = NULL;
	const struct hash *h;
	int err = 0;

	if (m->rule == IV_ESSIV) {
		h = hash_find(m->hash);
		essiv = h ? essiv_cipher(hash_bytes(h)) : NULL;
		if (!essiv) {
			snprintf(why, why_len, "hash '%s' cannot be used for essiv",
				 m->hash);
			return -EOPNOTSUPP;
		}
		err = hash_of(h, key, key_len, digest);
	}
	if (!err)
		err = contexts_new(c, cipher, key, essiv, digest);
	secret_wipe(digest, sizeof(digest));
	if (err == -EINVAL)	/* both keys of XTS are the same */
		snprintf(why, why_len, "the key is not fit for use");
	return err;
}

int crypt_new(const char *cipher, const char *mode, const void *key,
	      size_t key_len, uint32_t sector, struct crypt **out, char *why,
	      size_t why_len)
{
	const struct variant *v;
	EVP_CIPHER *evp;
	struct crypt *c;
	struct mode m;
	bool known;
	int err;

	ASSERT(is_pow2(sector) && sector >= SECTOR_MIN && sector <= SECTOR_MAX);
	*out = NULL;
	snprintf(why, why_len, "no memory");
	if (strcmp(cipher, "aes")) {
		snprintf(why, why_len, "cipher '%s' is not supported (aes is)",
			 cipher);
		return -EOPNOTSUPP;
	}
	err = parse_mode(mode, &m, why, why_len);
	if (err)
		return err;
	v = find_variant(m.chain, key_len, &known);
	if (!v) {
		snprintf(why, why_len, known ? "a key of %zu bytes does not fit %s-%s" :
			 "a key of %zu bytes: %s-%s is not supported (xts and cbc "
			 "are)", key_len, cipher, m.chain);
		return known ? -EINVAL : -EOPNOTSUPP;
	}
	hash_init();
	evp = EVP_CIPHER_fetch(NULL, v->name, NULL);
	if (!evp) {
		snprintf(why, why_len, "OpenSSL here has no %s", v->name);
		return -EOPNOTSUPP;
	}
	c = aligned_alloc(_Alignof(struct crypt), sizeof(*c));
	if (!c) {
		EVP_CIPHER_free(evp);
		return -ENOMEM;
	}
	memset(c, 0, sizeof(*c));
	c->sector = sector;
	c->rule = m.rule;
	err = with_key(c, evp, &m, key, key_len, why, why_len);
	EVP_CIPHER_free(evp);
	if (err)
		crypt_free(c);
	else
		*out = c;
	return err;
}

int crypt_new_aes(const struct td_secret *passphrase, struct crypt **c)
{
	unsigned char key[16] = { 0 };
	char why[64];
	int err;

	memcpy(key, passphrase->bytes, min_u64(passphrase->len, sizeof(key)));
	err = crypt_new("aes", "cbc-plain64", key, sizeof(key), SECTOR_MIN, c, why,
			sizeof(why));
	secret_wipe(key, sizeof(key));
	return err;
}

/* I1.  Pairs with the release in context_put(): what the thread before us left in
 * the context is there. */
static struct context *context_get(struct crypt *c)
{
	for (;;) {
		for (unsigned i = 0; i < CONTEXTS; i++) {
			struct context *x = &c->contexts[i];

			if (!__atomic_load_n(&x->busy, __ATOMIC_RELAXED) &&
			    !__atomic_exchange_n(&x->busy, true, __ATOMIC_ACQUIRE))
				return x;
		}
		sched_yield();
	}
}

static void context_put(struct context *x)
{
	__atomic_store_n(&x->busy, false, __ATOMIC_RELEASE);
}

static bool make_iv(const struct crypt *c, struct context *x, uint64_t sector,
		    unsigned char *iv)
{
	uint64_t number = htole64(c->rule == IV_PLAIN ? (uint32_t)sector : sector);
	int n;

	memset(iv, 0, IV_BYTES);
	memcpy(iv, &number, sizeof(number));
	return c->rule != IV_ESSIV ||
	       EVP_CipherUpdate(x->essiv, iv, &n, iv, IV_BYTES) == 1;
}

int crypt_sectors(struct crypt *c, bool encrypt, void *buf, size_t len,
		  uint64_t sector)
{
	struct context *x = context_get(c);
	EVP_CIPHER_CTX *e = encrypt ? x->encrypt : x->decrypt;
	unsigned char iv[IV_BYTES], *p = buf, *end = p + len;
	int n, err = 0;

	ASSERT(is_aligned(len | sector * 512, c->sector));
	for (; p < end && !err; p += c->sector, sector += c->sector / 512)
		if (!make_iv(c, x, sector, iv) ||
		    EVP_CipherInit_ex(e, NULL, NULL, NULL, iv, -1) != 1 ||
		    EVP_CipherUpdate(e, p, &n, p, (int)c->sector) != 1 ||
		    (uint32_t)n != c->sector)
			err = -EIO;
	context_put(x);
	return err;
}

uint32_t crypt_sector(const struct crypt *c)
{
	return c->sector;
}

/* OpenSSL wipes what it frees of keys. */
void crypt_free(struct crypt *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < CONTEXTS; i++) {
		EVP_CIPHER_CTX_free(c->contexts[i].encrypt);
		EVP_CIPHER_CTX_free(c->contexts[i].decrypt);
		EVP_CIPHER_CTX_free(c->contexts[i].essiv);
	}
	free(c);
}
