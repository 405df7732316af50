/* luks_format.c - new LUKS headers: defaults, and what both versions need.
 *
 * The order of writing is: zeroes over all of it, the key material, the header.
 * Whoever is interrupted leaves no header.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/size.h"
#include "crypto/crypt.h"
#include "crypto/hash.h"
#include "crypto/kdf.h"
#include "crypto/luks_priv.h"
#include "crypto/secret.h"
#include "td_driver.h"

#define DEFAULT_MS 2000u

int luks_random(void *p, size_t len)
{
	unsigned char *c = p;

	while (len) {
		ssize_t n = getrandom(c, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		c += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A random one, version 4. */
int luks_uuid(char *uuid)
{
	unsigned char b[16];
	int err = luks_random(b, sizeof(b)), at = 0;

	if (err)
		return err;
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	for (unsigned i = 0; i < sizeof(b); i++)
		at += snprintf(uuid + at, LUKS_UUID_BYTES - (size_t)at, "%s%02x",
			       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
			       b[i]);
	return 0;
}

/* Of this thread: what others do meanwhile must not make the key weaker. */
static uint64_t cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Twice as many, until it takes long enough to be measured. */
int luks_iterations(const struct hash *h, size_t key_len, unsigned ms,
		    uint64_t *iterations)
{
	unsigned char key[CRYPT_KEY_MAX], salt[32] = { 0 };
	uint64_t n = LUKS_ITERATIONS_MIN, took;
	int err;

	for (;; n *= 2) {
		uint64_t start = cpu_ns();

		err = kdf_pbkdf2(h, "measure", 7, salt, sizeof(salt), n, key,
				 key_len);
		if (err)
			return err;
		took = cpu_ns() - start;
		if (took >= 10 * NS_PER_MS || n >= LUKS_ITERATIONS_MAX / 2)
			break;
	}
	/* n is small enough, and ms is 32 bits wide: no overflow. */
	n = n * ms / (took / NS_PER_MS + 1);
	*iterations = max_u64(LUKS_ITERATIONS_MIN,
			      min_u64(n, LUKS_ITERATIONS_MAX));
	return 0;
}

int luks_write_area(struct luks_new *n, const struct luks_io *io, uint64_t at)
{
	const struct luks_format *f = &n->f;
	size_t len = luks_area_bytes(f->key_len);
	struct crypt *c = NULL;
	char why[128];
	int err = luks_random(n->split, len);

	if (!err)
		err = kdf_split(n->hash, n->key, f->key_len, LUKS_STRIPES, n->split);
	if (!err)
		err = crypt_new(f->cipher, f->mode, n->derived, f->key_len, 512, &c,
				why, sizeof(why));
	if (!err)
		err = crypt_sectors(c, true, n->split, len, 0);
	crypt_free(c);
	return err ? err : io->write(io->arg, at, n->split, len);
}

static struct luks_format filled(const struct luks_format *given)
{
	struct luks_format f = *given;

	if (!f.version)
		f.version = 1;
	if (!f.cipher)
		f.cipher = "aes";
	if (!f.mode)
		f.mode = "xts-plain64";
	if (!f.hash)
		f.hash = "sha256";
	if (!f.key_len)
		f.key_len = strncmp(f.mode, "xts", 3) ? 32 : 64;
	if (!f.sector)
		f.sector = 512;
	if (!f.iter_ms)
		f.iter_ms = DEFAULT_MS;
	return f;
}

/* 0, or why such a header cannot be. */
static int check(const struct luks_format *f, char *why, size_t why_len)
{
	unsigned char key[CRYPT_KEY_MAX];
	struct crypt *c;
	int err;

	if (f->version != 1 && f->version != 2) {
		snprintf(why, why_len, "there is no LUKS version %u", f->version);
		return -EINVAL;
	}
	if (!hash_find(f->hash)) {
		snprintf(why, why_len, "hash '%s' is not supported (" HASH_NAMES
			 " are)", f->hash);
		return -EOPNOTSUPP;
	}
	if (!is_pow2(f->sector) || f->sector < 512 || f->sector > 4096 ||
	    (f->version == 1 && f->sector != 512)) {
		snprintf(why, why_len, "encrypted sectors of %u bytes are not "
			 "possible in LUKS version %u", f->sector, f->version);
		return -EINVAL;
	}
	if (f->key_len > sizeof(key)) {
		snprintf(why, why_len, "a key of %zu bytes is too long", f->key_len);
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)i;
	err = crypt_new(f->cipher, f->mode, key, f->key_len, f->sector, &c, why,
			why_len);
	crypt_free(c);
	return err;
}

static uint64_t payload(const struct luks_format *f)
{
	return f->version == 1 ? luks1_payload(f->key_len) : LUKS2_PAYLOAD;
}

uint64_t crypt_luks_header_bytes(const struct luks_format *given)
{
	struct luks_format f = filled(given);
	char why[128];

	return check(&f, why, sizeof(why)) ? 0 : payload(&f);
}

const char *crypt_luks_words(struct luks_words *w, struct luks_format *f)
{
	const char *alg = w->cipher_alg, *mode = w->cipher_mode ? w->cipher_mode : "xts";
	bool small = alg && !strcmp(alg, "aes-128"), xts = !strcmp(mode, "xts");
	uint64_t ms = 0;

	if (alg && !small && strcmp(alg, "aes-256"))
		return "cipher-alg is aes-256 or aes-128";
	if (w->iter_time && (uint_parse(w->iter_time, 3600000, &ms) || !ms))
		return "iter-time is a number of milliseconds";
	if (w->ivgen_alg && !strcmp(w->ivgen_alg, "essiv"))
		snprintf(w->mode, sizeof(w->mode), "%s-essiv:%s", mode,
			 w->ivgen_hash_alg ? w->ivgen_hash_alg : "sha256");
	else
		snprintf(w->mode, sizeof(w->mode), "%s-%s", mode,
			 w->ivgen_alg ? w->ivgen_alg : "plain64");
	*f = (struct luks_format){
		.version = 1, .cipher = "aes", .mode = w->mode, .hash = w->hash_alg,
		.key_len = (small ? 16u : 32u) * (xts ? 2 : 1), .iter_ms = (unsigned)ms,
	};
	return crypt_luks_header_bytes(f) ? NULL : "there is no such encryption";
}

static int write_zeroes(const struct luks_io *io, uint64_t len)
{
	static const char zeroes[65536];
	int err = 0;

	for (uint64_t at = 0, n; at < len && !err; at += n) {
		n = min_u64(len - at, sizeof(zeroes));
		err = io->write(io->arg, at, zeroes, n);
	}
	return err;
}

int crypt_luks_format(const struct luks_io *io, const struct luks_format *given,
		      const struct td_secret *pass, char *why, size_t why_len)
{
	struct luks_format f = filled(given);
	struct luks_new *n;
	size_t bytes;
	int err = check(&f, why, why_len);

	if (err)
		return err;
	bytes = sizeof(*n) + luks_area_bytes(f.key_len);
	n = secret_new(bytes);
	if (!n) {
		snprintf(why, why_len, "no memory");
		return -ENOMEM;
	}
	n->f = f;
	n->hash = hash_find(f.hash);
	err = luks_random(n->key, f.key_len);
	if (!err)
		err = write_zeroes(io, payload(&f));
	if (!err)
		err = f.version == 1 ? luks1_format(n, io, pass) :
				       luks2_format(n, io, pass);
	secret_free(n, bytes);
	if (err)
		snprintf(why, why_len, "cannot make the LUKS header: %s",
			 strerror(-err));
	return err;
}
