/* hash.c - see hash.h. */
#include "crypto/hash.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/bytes.h"

struct hash {
	const char *name;
	size_t bytes;
	const EVP_MD *(*evp)(void);
};

static const struct hash hashes[] = {
	{ "sha1", 20, EVP_sha1 },
	{ "sha224", 28, EVP_sha224 },
	{ "sha256", 32, EVP_sha256 },
	{ "sha384", 48, EVP_sha384 },
	{ "sha512", 64, EVP_sha512 },
	{ "ripemd160", 20, EVP_ripemd160 },
};

void hash_init(void)
{
	OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
}

const struct hash *hash_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(hashes); i++)
		if (!strcmp(hashes[i].name, name))
			return &hashes[i];
	return NULL;
}

const char *hash_name(const struct hash *h)
{
	return h->name;
}

size_t hash_bytes(const struct hash *h)
{
	return h->bytes;
}

const struct evp_md_st *hash_evp(const struct hash *h)
{
	return h->evp();
}

int hash_of(const struct hash *h, const void *in, size_t len, void *out)
{
	hash_init();
	return EVP_Digest(in, len, out, NULL, h->evp(), NULL) == 1 ? 0 : -EIO;
}
