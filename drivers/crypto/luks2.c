/* luks2.c - LUKS version 2: a binary header of 4096 bytes and JSON behind it, both
 * twice in the file.  Each copy has a checksum and a number that grows with every
 * change; the newest that is whole counts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "crypto/hash.h"
#include "crypto/luks_priv.h"

#define SIZE_MIN (16u * 1024)
#define SIZE_MAX_BYTES (4u * 1024 * 1024)

struct copy {
	unsigned char *bytes;	/* binary header and JSON, or NULL */
	size_t size;
	uint64_t seqid;
};

static int refuse_copy(struct luks_header *h, uint64_t at, int err, const char *what)
{
	return luks_refuse(h, err, "the LUKS2 header at %llu %s",
			   (unsigned long long)at, what);
}

int luks2_checksum(unsigned char *copy, size_t hdr_size, unsigned char *sum)
{
	unsigned char kept[LUKS2_CSUM_BYTES];
	int err;

	memcpy(kept, copy + LUKS2_CSUM, sizeof(kept));
	memset(copy + LUKS2_CSUM, 0, sizeof(kept));
	err = hash_of(hash_find("sha256"), copy, hdr_size, sum);
	memcpy(copy + LUKS2_CSUM, kept, sizeof(kept));
	return err;
}

/* 16 KiB, 32 KiB, ... 4 MiB. */
static bool size_ok(uint64_t size)
{
	return is_pow2(size) && size >= SIZE_MIN && size <= SIZE_MAX_BYTES;
}

static bool ended(const unsigned char *p, size_t len)
{
	return memchr(p, '\0', len);
}

static int check_binary(struct luks_header *h, const unsigned char *b, uint64_t at,
			const char *magic)
{
	if (memcmp(b, magic, LUKS_MAGIC_BYTES))
		return refuse_copy(h, at, -EINVAL, "is not there");
	if (get_be16(b + LUKS2_VERSION) != 2)
		return refuse_copy(h, at, -EOPNOTSUPP, "has another version");
	if (!size_ok(get_be64(b + LUKS2_SIZE)))
		return refuse_copy(h, at, -EINVAL, "has an impossible size");
	if (get_be64(b + LUKS2_OFFSET) != at)
		return refuse_copy(h, at, -EINVAL, "belongs elsewhere");
	if (!ended(b + LUKS2_LABEL, 48) || !ended(b + LUKS2_UUID, 40) ||
	    !ended(b + LUKS2_SUBSYSTEM, 48) || !ended(b + LUKS2_CSUM_ALG, 32))
		return refuse_copy(h, at, -EINVAL, "has a name without an end");
	if (strcmp((const char *)b + LUKS2_CSUM_ALG, "sha256"))
		return refuse_copy(h, at, -EOPNOTSUPP, "has a checksum that is not "
				   "supported (sha256 is)");
	return 0;
}

static int read_whole(struct luks_header *h, const struct luks_io *io, uint64_t at,
		      struct copy *c)
{
	unsigned char sum[HASH_BYTES_MAX];
	int err = io->read(io->arg, at, c->bytes, c->size);

	if (err)
		return refuse_copy(h, at, err, "cannot be read");
	err = luks2_checksum(c->bytes, c->size, sum);
	if (err)
		return refuse_copy(h, at, err, "cannot be checked");
	if (memcmp(sum, c->bytes + LUKS2_CSUM, 32))
		return refuse_copy(h, at, -EINVAL, "is damaged: its checksum is "
				   "wrong");
	return 0;
}

/* The copy at `at`; c->bytes stays NULL if it is none. */
static int read_copy(struct luks_header *h, const struct luks_io *io, uint64_t at,
		     const char *magic, struct copy *c)
{
	unsigned char b[LUKS2_BIN_BYTES];
	int err = range_ok(at, sizeof(b), io->bytes) ?
		  io->read(io->arg, at, b, sizeof(b)) : -EINVAL;

	if (err)
		return refuse_copy(h, at, err, "cannot be read");
	err = check_binary(h, b, at, magic);
	if (err)
		return err;
	c->size = get_be64(b + LUKS2_SIZE);
	c->seqid = get_be64(b + LUKS2_SEQID);
	if (!range_ok(at, c->size, io->bytes))
		return refuse_copy(h, at, -EINVAL, "is longer than the file");
	c->bytes = malloc(c->size);
	if (!c->bytes)
		return refuse_copy(h, at, -ENOMEM, "is too large for our memory");
	err = read_whole(h, io, at, c);
	/* It was read twice: what was checked is what counts. */
	if (!err && memcmp(b, c->bytes, sizeof(b)))
		err = refuse_copy(h, at, -EINVAL, "changes while it is read");
	if (err) {
		free(c->bytes);
		c->bytes = NULL;
	}
	return err;
}

/* Behind the first, or, when that is lost, where it may be. */
static void read_second(struct luks_header *h, const struct luks_io *io,
			const struct copy *first, struct copy *second)
{
	if (first->bytes) {
		read_copy(h, io, first->size, LUKS_MAGIC_SECOND, second);
		return;
	}
	for (uint64_t at = SIZE_MIN; at <= SIZE_MAX_BYTES && !second->bytes; at *= 2)
		read_copy(h, io, at, LUKS_MAGIC_SECOND, second);
}

static const struct copy *newest(struct luks_header *h, const struct copy *a,
				 const struct copy *b)
{
	if (!a->bytes || !b->bytes) {
		h->info.note = a->bytes ? "the second copy of its LUKS2 header is "
				"damaged; the first is used (cryptsetup repair "
				"mends it)" : "the first copy of its LUKS2 header "
				"is damaged; the second is used (cryptsetup repair "
				"mends it)";
		return a->bytes ? a : b;
	}
	return b->seqid > a->seqid ? b : a;
}

int luks2_read(struct luks_header *h, const struct luks_io *io)
{
	struct copy first = { 0 }, second = { 0 };
	const struct copy *c;
	char why[256];
	int err;

	err = read_copy(h, io, 0, LUKS_MAGIC, &first);
	snprintf(why, sizeof(why), "%s", h->why);
	read_second(h, io, &first, &second);
	if (!first.bytes && !second.bytes) {
		if (h->version != 2)
			return luks_refuse(h, -EINVAL, "it has no LUKS header");
		return luks_refuse(h, err, "%s, and there is no second", why);
	}
	h->version = 2;
	c = newest(h, &first, &second);
	h->end = 2 * (uint64_t)c->size;
	memcpy(h->uuid, c->bytes + LUKS2_UUID, sizeof(h->uuid));
	err = luks2_parse_json(h, (const char *)c->bytes + LUKS2_BIN_BYTES,
			       c->size - LUKS2_BIN_BYTES);
	free(first.bytes);
	free(second.bytes);
	return err;
}
