/* luks_priv.h - what the files about LUKS headers share.
 *
 *   luks.c         opens: checks what both versions have in common, tries the
 *                  passphrases
 *   luks1.c        version 1, parsed and made
 *   luks2.c        version 2: which of its two copies counts
 *   luks2_json.c   version 2: its JSON, parsed
 *   luks2_format.c version 2, made
 *   luks_format.c  makes new headers: what both versions have in common
 *
 * A parser turns a header of either version into a struct luks_header, and says
 * no to what no such header can be.
 */
#ifndef CRYPTO_LUKS_PRIV_H
#define CRYPTO_LUKS_PRIV_H

#include <stdbool.h>

#include "crypto/luks.h"

#define LUKS_MAGIC_BYTES 6u
#define LUKS_MAGIC "LUKS\xba\xbe"
#define LUKS_MAGIC_SECOND "SKUL\xba\xbe"	/* of version 2's other copy */
#define LUKS1_BYTES 592u
#define LUKS_STRIPES 4000u
#define LUKS_SLOTS_MAX 32u
#define LUKS_SALT_MAX 128u
#define LUKS_NAME_MAX 64u
#define LUKS_DIGEST_MAX 64u
#define LUKS_LANES_MAX 16u

enum luks_kdf_kind { LUKS_PBKDF2, LUKS_ARGON2I, LUKS_ARGON2ID };

struct hash;
struct luks_kdf {
	enum luks_kdf_kind kind;
	char hash[LUKS_NAME_MAX];		/* PBKDF2 */
	uint64_t iterations;
	uint32_t passes, memory_kib, lanes;	/* Argon2 */
	unsigned char salt[LUKS_SALT_MAX];
	size_t salt_len;
};

struct luks_cipher {
	char cipher[LUKS_NAME_MAX], mode[LUKS_NAME_MAX];
	size_t key_len;
};

struct luks_slot {
	unsigned number;
	bool active;
	char skip[96];			/* why it cannot be tried, or "" */
	struct luks_kdf kdf;
	struct luks_cipher cipher;	/* of the key material */
	uint64_t at, len;		/* where that is */
	char hash[LUKS_NAME_MAX];	/* of its splitter */
};

struct luks_header {
	unsigned version;
	uint64_t end;			/* of the header proper: areas follow */
	struct luks_slot slots[LUKS_SLOTS_MAX];
	unsigned n_slots;
	struct luks_kdf kdf;		/* of the digest that knows the right key */
	unsigned char digest[LUKS_DIGEST_MAX];
	size_t digest_len;
	struct luks_cipher data;
	uint32_t sector;
	struct luks_info info;
	char uuid[40];
	char *why;			/* the caller's */
	size_t why_len;
};

/* Say why (printable, whatever the header had) and return err. */
int luks_refuse(struct luks_header *h, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Key material of one slot, in whole sectors. */
uint64_t luks_area_bytes(size_t key_len);

/* first: the header's first LUKS1_BYTES. */
int luks1_parse(struct luks_header *h, const unsigned char *first);

/* Reads both copies. */
int luks2_read(struct luks_header *h, const struct luks_io *io);
int luks2_parse_json(struct luks_header *h, const char *text, size_t len);
/* The checksum of a copy: hdr_size bytes, of which it is left out itself. */
int luks2_checksum(unsigned char *copy, size_t hdr_size, unsigned char *sum);

#define LUKS2_BIN_BYTES 4096u
enum luks2_field {		/* offsets in the binary header */
	LUKS2_MAGIC = 0, LUKS2_VERSION = 6, LUKS2_SIZE = 8, LUKS2_SEQID = 16,
	LUKS2_LABEL = 24, LUKS2_CSUM_ALG = 72, LUKS2_SALT = 104,
	LUKS2_UUID = 168, LUKS2_SUBSYSTEM = 208, LUKS2_OFFSET = 256,
	LUKS2_CSUM = 448,
};
#define LUKS2_CSUM_BYTES 64u


/* What a new header is made of.  In memory of secret_new(). */
struct luks_new {
	struct luks_format f;		/* with all defaults filled in */
	const struct hash *hash;
	unsigned char key[64];		/* the disk's */
	unsigned char derived[64];	/* the passphrase's */
	unsigned char split[];		/* luks_area_bytes() */
};

/* Iterations of PBKDF2 that take so long here, at least LUKS_ITERATIONS_MIN. */
#define LUKS_ITERATIONS_MIN 1000u
int luks_iterations(const struct hash *h, size_t key_len, unsigned ms,
		    uint64_t *iterations);
/* n->key under n->derived, at `at`. */
int luks_write_area(struct luks_new *n, const struct luks_io *io, uint64_t at);
int luks_random(void *p, size_t len);
#define LUKS_UUID_BYTES 37u
int luks_uuid(char *uuid);

#define LUKS2_PAYLOAD (16u * 1024 * 1024)
int luks2_format(struct luks_new *n, const struct luks_io *io,
		 const struct td_secret *pass);
int luks1_format(struct luks_new *n, const struct luks_io *io,
		 const struct td_secret *pass);
uint64_t luks1_payload(size_t key_len);

#endif
