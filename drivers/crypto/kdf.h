/* kdf.h - keys made of passphrases, and keys spread so that they can be erased. */
#ifndef CRYPTO_KDF_H
#define CRYPTO_KDF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hash;

#define KDF_ITERATIONS_MAX INT32_MAX

/* 1 <= iterations <= KDF_ITERATIONS_MAX.  0, -EIO. */
int kdf_pbkdf2(const struct hash *h, const void *pass, size_t pass_len,
	       const void *salt, size_t salt_len, uint64_t iterations, void *key,
	       size_t key_len);

/* Argon2id, or Argon2i.  Its memory is wiped before it is given back.
 * 0, -ENOMEM; -EINVAL: not what Argon2 allows. */
int kdf_argon2(bool id, const void *pass, size_t pass_len, const void *salt,
	       size_t salt_len, uint32_t passes, uint32_t memory_kib,
	       uint32_t lanes, void *key, size_t key_len);

/* LUKS' anti-forensic splitter: a key of len bytes spread over `stripes` times as
 * many, all of which are needed to get it back.  `split` of kdf_split(): all
 * stripes but the last hold random bytes already.  0, -EIO, -ENOMEM. */
int kdf_merge(const struct hash *h, const void *split, size_t len, unsigned stripes,
	      void *key);
int kdf_split(const struct hash *h, const void *key, size_t len, unsigned stripes,
	      void *split);

#endif
