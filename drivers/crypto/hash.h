/* hash.h - hashes by the names that headers use. */
#ifndef CRYPTO_HASH_H
#define CRYPTO_HASH_H

#include <stddef.h>

#define HASH_BYTES_MAX 64u
#define HASH_NAMES "sha1, sha224, sha256, sha384, sha512, ripemd160"

struct hash;

/* OpenSSL without its configuration file, which a tapdisk in its sandbox could
 * not read.  Before anything else of OpenSSL; again: no effect. */
void hash_init(void);

const struct hash *hash_find(const char *name);	/* NULL: none of HASH_NAMES */
const char *hash_name(const struct hash *h);
size_t hash_bytes(const struct hash *h);

/* out: hash_bytes().  0, -EIO. */
int hash_of(const struct hash *h, const void *in, size_t len, void *out);

/* OpenSSL's, for HMAC and for hashing in pieces. */
const struct evp_md_st *hash_evp(const struct hash *h);

#endif
