/* crypt.h - encryption of a disk's sectors with one key.
 *
 * A struct crypt is a key, a cipher and the rule that makes a sector's number its
 * initialisation vector.  It knows nothing of headers and passphrases: those are
 * crypto/luks.h.
 *
 * Ciphers are those of OpenSSL: AES.  Serpent and twofish are refused by name.
 * The key is wiped when it is freed, and while it lives its memory is kept out of
 * core dumps and, where the system lets us, out of swap.
 */
#ifndef CRYPTO_CRYPT_H
#define CRYPTO_CRYPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crypt;
struct td_secret;

/* The longest key: AES-256 in XTS mode has two. */
#define CRYPT_KEY_MAX 64u

/* cipher and mode as LUKS names them: "aes" with "xts-plain64", "xts-plain",
 * "cbc-plain64", "cbc-plain", "cbc-essiv:HASH"; key_len is of all keys together
 * (16 and 32, xts: 32 and 64).  sector: how many bytes are encrypted under one
 * vector, a power of two, 512 to 4096.  The key is copied.
 * 0; -EOPNOTSUPP, -EINVAL, -ENOMEM, and `why` then says what is wrong. */
int crypt_new(const char *cipher, const char *mode, const void *key,
	      size_t key_len, uint32_t sector, struct crypt **c, char *why,
	      size_t why_len);

/* "AES" of qcow and qcow2 images (crypt_method 1): AES-128-CBC with the first 16
 * bytes of the passphrase as its key.  Whether it is the right one nobody can
 * tell.  0, -ENOMEM. */
int crypt_new_aes(const struct td_secret *passphrase, struct crypt **c);

/* Encrypt or decrypt len bytes in place; len is a multiple of crypt_sector().
 * `sector` is the number of the first 512 bytes, a multiple of crypt_sector() /
 * 512.  From any thread, several at a time.  0; -EIO: OpenSSL has failed. */
int crypt_sectors(struct crypt *c, bool encrypt, void *buf, size_t len,
		  uint64_t sector);

uint32_t crypt_sector(const struct crypt *c);

/* NULL is nothing. */
void crypt_free(struct crypt *c);

#endif
