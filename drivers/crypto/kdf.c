/* kdf.c - see kdf.h. */
#include "crypto/kdf.h"

#include <argon2.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "crypto/hash.h"
#include "crypto/secret.h"

int kdf_pbkdf2(const struct hash *h, const void *pass, size_t pass_len,
	       const void *salt, size_t salt_len, uint64_t iterations, void *key,
	       size_t key_len)
{
	ASSERT(iterations && iterations <= KDF_ITERATIONS_MAX);
	hash_init();
	return PKCS5_PBKDF2_HMAC(pass, (int)pass_len, salt, (int)salt_len,
				 (int)iterations, hash_evp(h), (int)key_len,
				 key) == 1 ? 0 : -EIO;
}

int kdf_argon2(bool id, const void *pass, size_t pass_len, const void *salt,
	       size_t salt_len, uint32_t passes, uint32_t memory_kib,
	       uint32_t lanes, void *key, size_t key_len)
{
	argon2_context x = {
		.out = key, .outlen = (uint32_t)key_len,
		.pwd = (uint8_t *)pass, .pwdlen = (uint32_t)pass_len,
		.salt = (uint8_t *)salt, .saltlen = (uint32_t)salt_len,
		.t_cost = passes, .m_cost = memory_kib, .lanes = lanes,
		.threads = lanes, .version = ARGON2_VERSION_13,
	};
	argon2_type type = id ? Argon2_id : Argon2_i;
	int rc = argon2_ctx(&x, type);

	if (rc == ARGON2_THREAD_FAIL) {
		x.threads = 1;
		rc = argon2_ctx(&x, type);
	}
	switch (rc) {
	case ARGON2_OK:
		return 0;
	case ARGON2_MEMORY_ALLOCATION_ERROR:
		return -ENOMEM;
	default:
		return -EINVAL;
	}
}

/* d is hashed in pieces of the hash's size, each with its number before it. */
static bool diffuse(EVP_MD_CTX *x, const struct hash *h, unsigned char *d,
		    size_t len)
{
	size_t step = hash_bytes(h);
	unsigned char digest[HASH_BYTES_MAX], number[4];
	bool ok = true;

	for (size_t at = 0; at < len && ok; at += step) {
		size_t n = min_u64(step, len - at);

		put_be32(number, (uint32_t)(at / step));
		ok = EVP_DigestInit_ex(x, hash_evp(h), NULL) == 1 &&
		     EVP_DigestUpdate(x, number, sizeof(number)) == 1 &&
		     EVP_DigestUpdate(x, d + at, n) == 1 &&
		     EVP_DigestFinal_ex(x, digest, NULL) == 1;
		if (ok)
			memcpy(d + at, digest, n);
	}
	secret_wipe(digest, sizeof(digest));
	return ok;
}

static void mix(unsigned char *d, const unsigned char *with, size_t len)
{
	for (size_t i = 0; i < len; i++)
		d[i] ^= with[i];
}

/* d: what all stripes but the last come to. */
static int gather(const struct hash *h, const unsigned char *split, size_t len,
		  unsigned stripes, unsigned char *d)
{
	EVP_MD_CTX *x;
	bool ok = true;

	hash_init();
	x = EVP_MD_CTX_new();
	if (!x)
		return -ENOMEM;
	memset(d, 0, len);
	for (unsigned i = 0; i + 1 < stripes && ok; i++) {
		mix(d, split + i * len, len);
		ok = diffuse(x, h, d, len);
	}
	EVP_MD_CTX_free(x);
	return ok ? 0 : -EIO;
}

int kdf_merge(const struct hash *h, const void *split, size_t len, unsigned stripes,
	      void *key)
{
	const unsigned char *s = split;
	int err = gather(h, s, len, stripes, key);

	if (!err)
		mix(key, s + (stripes - 1) * len, len);
	return err;
}

int kdf_split(const struct hash *h, const void *key, size_t len, unsigned stripes,
	      void *split)
{
	unsigned char *s = split, *last = s + (stripes - 1) * len;
	int err = gather(h, s, len, stripes, last);

	if (!err)
		mix(last, key, len);
	return err;
}
