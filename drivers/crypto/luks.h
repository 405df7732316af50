/* luks.h - LUKS headers, versions 1 and 2: a passphrase becomes a struct crypt.
 *
 * Blocking code for workers and tools: deriving a key takes seconds by design.
 * Headers are hostile; what they may cost is bounded below.
 */
#ifndef CRYPTO_LUKS_H
#define CRYPTO_LUKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crypt;
struct td_env;
struct td_secret;

/* Where a header is: offsets are of the header's own start.  Slots are 0 or
 * -errno. */
struct luks_io {
	int (*read)(void *arg, uint64_t off, void *buf, size_t len);
	int (*write)(void *arg, uint64_t off, const void *buf, size_t len);
	void *arg;
	uint64_t bytes;		/* how many there are: a header must not name more */
};

/* What one key slot may cost whoever opens it.  A slot that wants more is not
 * tried; 0: the default. */
struct luks_limits {
	uint64_t iterations;	/* of PBKDF2 */
	uint64_t memory_kib;	/* of Argon2 */
	uint64_t work_kib;	/* of Argon2: memory times passes */
};
#define LUKS_ITERATIONS_MAX 50000000u
#define LUKS_MEMORY_KIB_MAX (1024u * 1024)
#define LUKS_WORK_KIB_MAX (64u * 1024 * 1024)

struct luks_info {
	unsigned version;	/* 1, 2 */
	uint64_t payload;	/* where data begins; means nothing in qcow2 */
	uint64_t length;	/* of the data; 0: up to the end of the file */
	uint64_t first_sector;	/* number of its first 512 bytes, for the vector */
	const char *note;	/* what the owner should hear of, or NULL */
};

/* Read and check the header; try every secret of env as the key of the data, then as a
 * passphrase on every slot; env->key_found() is told the key of the data.  A header may
 * be without a payload of its own (qcow2): `detached`.
 * 0; -EKEYREJECTED: no passphrase opens a slot; -ENOKEY: there are none to try;
 * -EINVAL, -EOPNOTSUPP, -EIO, -ENOMEM: `why` then says what is wrong. */
int crypt_luks_open(const struct luks_io *io, bool detached, struct td_env *env,
		    const struct luks_limits *limits, struct luks_info *info,
		    struct crypt **c, char *why, size_t why_len);

/* What a header says of itself to who has no passphrase. */
struct luks_about {
	struct luks_info info;
	char cipher[64], mode[64], hash[64];	/* as in the header */
	size_t key_len;
	uint32_t sector;
	char uuid[40];
	uint64_t iterations;		/* of the digest of the key */
	unsigned n_slots;
	struct {
		bool active;
		uint64_t iterations, at;
	} slot[32];
};
/* 0, or as crypt_luks_open(). */
int crypt_luks_about(const struct luks_io *io, bool detached, struct luks_about *a,
		     char *why, size_t why_len);

/* A new header with one slot; what is NULL or 0 has the default of qemu-img. */
struct luks_format {
	unsigned version;	/* 1 (default), 2 */
	const char *cipher;	/* "aes" */
	const char *mode;	/* "xts-plain64" */
	const char *hash;	/* "sha256" */
	size_t key_len;		/* bytes of the key; 64 for xts, else 32 */
	uint32_t sector;	/* version 2: bytes of an encrypted sector; 512 */
	unsigned iter_ms;	/* how long trying a passphrase takes; 2000 */
};

/* The options of qemu-img, NULL where they are not given: "aes-256", "xts", "plain64",
 * ... in the words of a header.  NULL, or what is wrong with them. */
struct luks_words {
	const char *cipher_alg, *cipher_mode, *ivgen_alg, *ivgen_hash_alg, *hash_alg,
		*iter_time;
	char mode[64];			/* room that f->mode points to */
};
const char *crypt_luks_words(struct luks_words *w, struct luks_format *f);

/* How many bytes the header takes, payload excluded: where data begins.  0 if
 * that is no format (crypt_luks_format() says why). */
uint64_t crypt_luks_header_bytes(const struct luks_format *f);

/* Write it: all of crypt_luks_header_bytes(), what makes it valid last.  0, or
 * -errno and `why`. */
int crypt_luks_format(const struct luks_io *io, const struct luks_format *f,
		      const struct td_secret *passphrase, char *why,
		      size_t why_len);

#endif
