/* Fuzzes the opening of LUKS headers: any bytes, and JSON under a good checksum.
 * What opens is used; what does not has a reason of one printable line; no read
 * lies outside the file.  Derivation is capped so that a run is short. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "crypto/crypt.h"
#include "crypto/luks_priv.h"
#include "td_driver.h"

#define FILE_BYTES (20 * MiB)
#define HDR 16384u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Zeroes behind what is given. */
struct given {
	const unsigned char *bytes;
	size_t len;
	uint64_t end;
};

static int get(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct given *g = arg;

	ASSERT(range_ok(off, len, g->end));
	memset(buf, 0, len);
	if (off < g->len)
		memcpy(buf, g->bytes + off, min_u64(len, g->len - off));
	return 0;
}

static void open_it(const unsigned char *bytes, size_t len, bool detached)
{
	const struct luks_limits limits = { .iterations = 100, .memory_kib = 64,
					    .work_kib = 256 };
	const struct td_secret s = { (const unsigned char *)"sesame", 6 };
	struct td_env env = { .secrets = &s, .n_secrets = 1 };
	struct given g = { bytes, len, FILE_BYTES };
	const struct luks_io io = { .read = get, .arg = &g, .bytes = FILE_BYTES };
	struct luks_info info;
	char why[256] = "", buf[4096] = { 0 };
	struct crypt *c;
	int err = crypt_luks_open(&io, detached, &env, &limits, &info, &c, why,
				  sizeof(why));

	ASSERT(!err == !!c);
	if (err) {
		ASSERT(why[0]);
		for (const char *p = why; *p; p++)
			ASSERT(*p >= ' ' && *p <= '~');
		return;
	}
	ASSERT(detached || (info.payload && info.payload <= FILE_BYTES &&
			    info.length <= FILE_BYTES - info.payload));
	ASSERT(!crypt_sectors(c, true, buf, sizeof(buf), info.first_sector));
	crypt_free(c);
}

/* Both copies of a LUKS2 header with this JSON. */
static void open_json(const uint8_t *json, size_t len)
{
	static unsigned char b[2 * HDR];
	unsigned char sum[64];

	memset(b, 0, sizeof(b));
	for (unsigned at = 0; at <= HDR; at += HDR) {
		memcpy(b + at, at ? LUKS_MAGIC_SECOND : LUKS_MAGIC,
		       LUKS_MAGIC_BYTES);
		put_be16(b + at + LUKS2_VERSION, 2);
		put_be64(b + at + LUKS2_SIZE, HDR);
		put_be64(b + at + LUKS2_OFFSET, at);
		memcpy(b + at + LUKS2_CSUM_ALG, "sha256", 7);
		memcpy(b + at + LUKS2_BIN_BYTES, json,
		       min_u64(len, HDR - LUKS2_BIN_BYTES));
		ASSERT(!luks2_checksum(b + at, HDR, sum));
		memcpy(b + at + LUKS2_CSUM, sum, 32);
	}
	open_it(b, sizeof(b), false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == '{')
		open_json(data, size);
	else
		for (int detached = 0; detached < 2; detached++)
			open_it(data, size, detached);
	return 0;
}
