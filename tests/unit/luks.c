/* LUKS headers, ours, in memory: what opens them and what does not; headers that
 * lie are refused with a line that says in what. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "crypto/crypt.h"
#include "crypto/luks_priv.h"
#include "drv_rig.h"
#include "luks_rig.h"

static char why[256];

static struct luks_mem make(const struct luks_format *f, const char *pass)
{
	struct luks_mem m = { .len = crypt_luks_header_bytes(f) + 65536 };
	const struct td_secret s = luks_secret(pass);
	struct luks_io io;

	m.bytes = calloc(1, m.len);
	io = luks_mem_io(&m);
	assert_int_equal(crypt_luks_format(&io, f, &s, why, sizeof(why)), 0);
	return m;
}

/* What the last open has found. */
static struct {
	unsigned char key[64];
	size_t len;
} learned;

static void key_found(struct td_env *e, const struct td_secret *key)
{
	(void)e;
	assert_true(key->len <= sizeof(learned.key) && !learned.len);
	memcpy(learned.key, key->bytes, key->len);
	learned.len = key->len;
}

static int open_with(struct luks_mem *m, bool detached, const struct td_secret *s,
		     unsigned n, struct luks_info *info)
{
	/* What a fuzzed header may cost is what ours cost, and a little. */
	const struct luks_limits l = { .iterations = 20000, .memory_kib = 4096,
				       .work_kib = 65536 };
	struct luks_io io = luks_mem_io(m);
	struct td_env env = { .secrets = s, .n_secrets = n, .key_found = key_found };
	struct luks_info mine;
	struct crypt *c;
	int err;

	memset(why, 0, sizeof(why));
	learned.len = 0;
	err = crypt_luks_open(&io, detached, &env, &l, info ? info : &mine, &c, why,
			      sizeof(why));
	assert_true(!err == !!c);
	assert_true(!err || why[0]);
	crypt_free(c);
	return err;
}

static int open_mem(struct luks_mem *m)
{
	const struct td_secret s[] = { luks_secret("wrong"), luks_secret("right") };

	return open_with(m, false, s, 2, NULL);
}

static void says(const char *text)
{
	if (!strstr(why, text))
		fail_msg("'%s' lacks '%s'", why, text);
}

static const struct luks_format formats[] = {
	{ .iter_ms = 1 },
	{ .iter_ms = 1, .hash = "sha1", .mode = "cbc-essiv:sha256", .key_len = 16 },
	{ .iter_ms = 1, .hash = "sha512", .mode = "cbc-plain64", .key_len = 24 },
	{ .iter_ms = 1, .hash = "ripemd160", .key_len = 32 },
	{ .iter_ms = 1, .version = 2 },
	{ .iter_ms = 1, .version = 2, .sector = 4096, .hash = "sha384" },
};

static void what_was_made_opens(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		struct luks_mem m = make(&formats[i], "right");
		struct td_secret wrong = luks_secret("right ");
		struct td_secret right = luks_secret("right");
		struct luks_info info;

		assert_int_equal(open_mem(&m), 0);
		assert_int_equal(open_with(&m, false, &right, 1, &info), 0);
		assert_int_equal(info.version, i < 4 ? 1 : 2);
		assert_int_equal(info.payload, crypt_luks_header_bytes(&formats[i]));
		assert_int_equal(info.length, 0);
		assert_int_equal(info.first_sector, 0);
		assert_null(info.note);
		assert_int_equal(open_with(&m, false, &wrong, 1, NULL),
				 -EKEYREJECTED);
		says("no passphrase given opens it");
		assert_int_equal(open_with(&m, false, NULL, 0, NULL), -ENOKEY);
		says("no passphrase was given");
		free(m.bytes);
	}
}

/* It opens what a passphrase does, and nothing like it does. */
static void the_key_of_the_data_opens_by_itself(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		struct luks_mem m = make(&formats[i], "right");
		unsigned char data[64];
		struct td_secret s[] = { luks_secret("wrong"), { data, 0 } };
		struct luks_io io = luks_mem_io(&m);
		struct luks_about about;

		assert_int_equal(open_mem(&m), 0);
		s[1].len = learned.len;
		memcpy(data, learned.key, learned.len);
		/* No passphrase opens it any more. */
		assert_int_equal(crypt_luks_about(&io, false, &about, why,
						  sizeof(why)), 0);
		memset(m.bytes + about.slot[0].at, 0, 4096);
		assert_int_equal(open_mem(&m), -EKEYREJECTED);
		assert_int_equal(open_with(&m, false, s, 2, NULL), 0);
		assert_int_equal(learned.len, s[1].len);
		assert_memory_equal(learned.key, data, learned.len);
		data[s[1].len - 1] ^= 1;
		assert_int_equal(open_with(&m, false, s, 2, NULL), -EKEYREJECTED);
		assert_int_equal(learned.len, 0);
		free(m.bytes);
	}
}

/* As in qcow2: the end of the header's own space is all the end there is. */
static void a_header_without_data_opens(void **state)
{
	const struct td_secret right = luks_secret("right");
	struct luks_mem m = make(&formats[0], "right");

	(void)state;
	m.len -= 65536;
	assert_int_equal(open_with(&m, true, &right, 1, NULL), 0);
	put_be32(m.bytes + 104, UINT32_MAX);	/* its payload counts for nothing */
	assert_int_equal(open_with(&m, true, &right, 1, NULL), 0);
	m.len = 4096 + 256000 - 1;
	assert_int_equal(open_with(&m, true, &right, 1, NULL), -EINVAL);
	says("outside the header");
	free(m.bytes);
}

static void impossible_formats_are_refused(void **state)
{
	static const struct {
		struct luks_format f;
		const char *says;
	} bad[] = {
		{ { .cipher = "twofish" }, "twofish" },
		{ { .mode = "xts-random" }, "xts-random" },
		{ { .hash = "md4" }, "md4" },
		{ { .key_len = 48 }, "48" },
		{ { .key_len = 4096 }, "4096" },
		{ { .sector = 4096 }, "4096" },
		{ { .version = 2, .sector = 8192 }, "8192" },
		{ { .version = 2, .sector = 1000 }, "1000" },
		{ { .version = 3 }, "version 3" },
	};
	struct luks_mem m = { .bytes = calloc(1, 4096), .len = 4096 };
	struct luks_io io = luks_mem_io(&m);
	const struct td_secret s = luks_secret("x");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(crypt_luks_header_bytes(&bad[i].f), 0);
		assert_int_not_equal(crypt_luks_format(&io, &bad[i].f, &s, why,
						       sizeof(why)), 0);
		says(bad[i].says);
	}
	/* No room: the reason comes through. */
	assert_int_equal(crypt_luks_format(&io, &formats[0], &s, why, sizeof(why)),
			 -ERANGE);
	free(m.bytes);
}

/* Fields of version 1 that lie. */

enum { SLOT0 = 208, SLOT1 = 256, SLOT2 = 304 };

static void lie(unsigned at, uint32_t value, int want, const char *text)
{
	struct luks_mem m = make(&formats[0], "right");

	put_be32(m.bytes + at, value);
	assert_int_equal(open_mem(&m), want);
	says(text);
	free(m.bytes);
}

static void headers_of_version_1_that_lie_are_refused(void **state)
{
	(void)state;
	lie(0, 0, -EINVAL, "no LUKS header");
	lie(6, 3 << 16, -EOPNOTSUPP, "LUKS version 3");
	lie(8, 0x73657200, -EOPNOTSUPP, "'ser'");		/* cipher */
	lie(40, 0x65636200, -EOPNOTSUPP, "'ecb'");		/* mode */
	lie(72, 0x6d643400, -EOPNOTSUPP, "'md4'");		/* hash */
	lie(104, 0, -EINVAL, "outside the header");		/* payload */
	lie(104, 4035, -EINVAL, "key slot 7 lies outside");
	lie(104, UINT32_MAX, -EINVAL, "behind the end");
	lie(108, 0, -EINVAL, "0 bytes");			/* key bytes */
	lie(108, 63, -EINVAL, "63 bytes");
	lie(108, UINT32_MAX, -EINVAL, "4294967295 bytes");
	lie(112, 1, -EKEYREJECTED, "no passphrase");		/* digest */
	lie(132, 1, -EKEYREJECTED, "no passphrase");		/* its salt */
	lie(164, 0, -EINVAL, "0 iterations");
	lie(164, 20001, -EINVAL, "20001 iterations");
	lie(SLOT0, 0xdead, -EINVAL, "no key slot is in use");
	lie(SLOT1, 1, -EINVAL, "neither on nor off");
	lie(SLOT0 + 4, 0, -EKEYREJECTED, "0 iterations");
	lie(SLOT0 + 4, UINT32_MAX, -EKEYREJECTED, "wants 4294967295 iterations");
	lie(SLOT0 + 8, 1, -EKEYREJECTED, "no passphrase");	/* salt */
	lie(SLOT0 + 40, 0, -EINVAL, "outside the header");	/* material */
	lie(SLOT0 + 40, 1, -EINVAL, "outside the header");
	lie(SLOT0 + 40, 3540, -EINVAL, "slots 0 and 7 overlap");
	lie(SLOT2 + 40, UINT32_MAX, -EINVAL, "slot 2 lies outside");
	lie(SLOT1 + 40, 8, -EINVAL, "slots 0 and 1 overlap");
	lie(SLOT0 + 44, 4001, -EINVAL, "4001 stripes");
	lie(SLOT2 + 44, 0, -EINVAL, "0 stripes");
}

static void names_of_version_1_need_an_end(void **state)
{
	static const struct { unsigned at, len; const char *says; } names[] = {
		{ 8, 32, "cipher name" }, { 40, 32, "cipher mode" },
		{ 72, 32, "hash name" }, { 168, 40, "uuid" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct luks_mem m = make(&formats[0], "right");

		memset(m.bytes + names[i].at, 'a', names[i].len);
		assert_int_equal(open_mem(&m), -EINVAL);
		says(names[i].says);
		free(m.bytes);
	}
}

/* A line of the log stays one line. */
static void what_is_shown_of_a_header_is_printable(void **state)
{
	struct luks_mem m = make(&formats[0], "right");

	(void)state;
	memcpy(m.bytes + 8, "a\nb\033\xff", 6);
	assert_int_equal(open_mem(&m), -EOPNOTSUPP);
	says("'a?b?");
	free(m.bytes);
}

/* Version 2. */

#define HDR 16384u

static void sign(struct luks_mem *m, unsigned at)
{
	unsigned char sum[64];

	assert_int_equal(luks2_checksum(m->bytes + at, HDR, sum), 0);
	memcpy(m->bytes + at + LUKS2_CSUM, sum, 32);
}

/* The JSON of both copies with `from` replaced by `to`; NULL: the whole of it. */
static struct luks_mem edited(const struct luks_format *f, const char *from,
			      const char *to)
{
	struct luks_mem m = make(f, "right");

	for (unsigned at = 0; at <= HDR; at += HDR) {
		char *json = (char *)m.bytes + at + LUKS2_BIN_BYTES, *rest;
		char *found = from ? strstr(json, from) : json;
		size_t len = strlen(to);

		assert_non_null(found);
		rest = strdup(from ? found + strlen(from) : "");
		assert_true((size_t)(found - json) + len + strlen(rest) <
			    HDR - LUKS2_BIN_BYTES);
		memcpy(found, to, len);
		strcpy(found + len, rest);
		free(rest);
		sign(&m, at);
	}
	return m;
}

static void edit(const char *from, const char *to, int want, const char *text)
{
	struct luks_mem m = edited(&formats[4], from, to);

	assert_int_equal(open_mem(&m), want);
	if (want)
		says(text);
	free(m.bytes);
}

static void json_that_lies_is_refused(void **state)
{
	(void)state;
	edit(NULL, "", -EINVAL, "no JSON");
	edit(NULL, "[]", -EOPNOTSUPP, "0 segments");
	edit(NULL, "{}", -EOPNOTSUPP, "0 segments");
	edit("{", "{{", -EINVAL, "no JSON");
	edit("\"type\":\"crypt\"", "\"type\":\"linear\"", -EOPNOTSUPP, "'crypt'");
	edit("\"segments\":{", "\"segments\":{\"7\":{},", -EOPNOTSUPP, "2 segments");
	edit("\"size\":\"dynamic\"", "\"size\":\"0\"", -EINVAL, "'size'");
	edit("\"size\":\"dynamic\"", "\"size\":5", -EINVAL, "'size'");
	edit("\"size\":\"dynamic\"", "\"size\":\"511\"", -EINVAL, "'size'");
	edit("\"size\":\"dynamic\"", "\"size\":\"66048\"", -EINVAL, "behind the end");
	edit("\"size\":\"dynamic\"", "\"size\":\"65536\"", 0, NULL);
	edit("\"iv_tweak\":\"0\"", "\"iv_tweak\":0", -EINVAL, "iv_tweak");
	edit("\"iv_tweak\":\"0\"", "\"iv_tweak\":\"-1\"", -EINVAL, "iv_tweak");
	edit("\"iv_tweak\":\"0\"", "\"iv_tweak\":\"18446744073709551615\"", 0, NULL);
	edit("\"sector_size\":512", "\"sector_size\":256", -EINVAL, "sector_size");
	edit("\"sector_size\":512", "\"sector_size\":8192", -EINVAL, "sector_size");
	edit("\"sector_size\":512", "\"sector_size\":1000", -EINVAL, "sector_size");
	edit("\"sector_size\":512", "\"sector_size\":512,\"integrity\":{}",
	     -EOPNOTSUPP, "integrity");
	edit("\"sector_size\":512", "\"sector_size\":512,\"flags\":[\"x\"]",
	     -EOPNOTSUPP, "flags");
	edit("\"offset\":\"16777216\"", "\"offset\":\"0\"", -EINVAL, "outside");
	edit("\"offset\":\"16777216\"", "\"offset\":\"16777217\"", -EINVAL, "offset");
	edit("\"offset\":\"16777216\"", "\"offset\":\"18446744073709551104\"",
	     -EINVAL, "behind the end");
	edit("\"offset\":\"32768\"", "\"offset\":\"16384\"", -EINVAL, "outside");
	edit("\"offset\":\"32768\"", "\"offset\":\"16776704\"", -EINVAL, "outside");
	edit("\"offset\":\"32768\"", "\"offset\":\"18446744073709551615\"", -EINVAL,
	     "outside");
	edit("\"size\":\"258048\"", "\"size\":\"255999\"", -EINVAL, "too small");
	edit("\"size\":\"258048\"", "\"size\":\"18446744073709551615\"", -EINVAL,
	     "outside");
	edit("\"stripes\":4000", "\"stripes\":1", -EINVAL, "'af'");
	edit("\"type\":\"raw\"", "\"type\":\"none\"", -EINVAL, "area type");
	edit("\"type\":\"argon2id\"", "\"type\":\"scrypt\"", -EKEYREJECTED,
	     "'scrypt'");
	edit("\"cpus\":4", "\"cpus\":17", -EKEYREJECTED, "17 threads");
	edit("\"cpus\":4", "\"cpus\":0", -EKEYREJECTED, "Invalid");
	edit("\"memory\":", "\"memory\":99", -EKEYREJECTED, "MiB of memory");
	edit("\"time\":", "\"time\":4294967295,\"x\":", -EKEYREJECTED, "too long");
	edit("\"time\":", "\"time\":4294967296,\"x\":", -EINVAL, "'time'");
	edit("\"time\":", "\"time\":-1,\"x\":", -EINVAL, "'time'");
	edit("\"time\":", "\"time\":1.5,\"x\":", -EINVAL, "'time'");
	edit("\"iterations\":", "\"iterations\":20001,\"x\":", -EINVAL, "20001");
	edit("\"iterations\":", "\"iterations\":0,\"x\":", -EINVAL, "0 iterations");
	edit("\"digest\":\"", "\"digest\":\"====", -EINVAL, "'digest'");
	edit("\"digest\":\"", "\"digest\":\"AAAA\",\"x\":\"", -EINVAL, "3 bytes");
	edit("\"digest\":\"", "\"digest\":\"*", -EINVAL, "'digest'");
	edit("\"keyslots\":[\"0\"]", "\"keyslots\":[]", -EINVAL, "0 bytes");
	edit("\"keyslots\":[\"0\"]", "\"keyslots\":[\"1\"]", -EINVAL, "0 bytes");
	edit("\"segments\":[\"0\"]", "\"segments\":[\"1\"]", -EINVAL, "no digest");
	edit("\"key_size\":64", "\"key_size\":4096", -EINVAL, "4096 bytes");
	edit("\"key_size\":64", "\"key_size\":-64", -EINVAL, "'key_size'");
	edit("\"keyslots\":{\"0\"", "\"keyslots\":{\"32\"", -EINVAL, "");
	edit("\"keyslots\":{\"0\"", "\"keyslots\":{\"0\":{},\"0\"", -EINVAL,
	     "no JSON: duplicate");
	edit("\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":[\"later\"]},",
	     -EOPNOTSUPP, "'later'");
	edit("aes-xts-plain64", "serpent-xts-plain64", -EKEYREJECTED, "serpent");
}

/* The parser must not be led down further than a worker's stack is deep. */
static void deep_json_is_refused(void **state)
{
	char deep[8192];

	(void)state;
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	edit(NULL, deep, -EINVAL, "nested");
	/* Brackets in a text are none. */
	edit("\"tokens\":{", "\"tokens\":{\"0\":\"[[[[[[[[[[[[[[[[[[[\\\"[[\"", 0,
	     NULL);
}

static void the_newest_whole_copy_counts(void **state)
{
	const struct td_secret right = luks_secret("right");
	struct luks_mem m = make(&formats[4], "right");
	struct luks_info info;

	(void)state;
	/* The second is newer, and has no slot that anybody could open. */
	put_be64(m.bytes + HDR + LUKS2_SEQID, 2);
	memcpy(strstr((char *)m.bytes + HDR + LUKS2_BIN_BYTES, "argon2id"),
	       "scrypt98", 8);
	sign(&m, HDR);
	assert_int_equal(open_mem(&m), -EKEYREJECTED);
	says("scrypt98");
	/* Damaged, it does not count. */
	m.bytes[HDR + LUKS2_BIN_BYTES + 5] ^= 1;
	assert_int_equal(open_with(&m, false, &right, 1, &info), 0);
	assert_non_null(strstr(info.note, "second copy"));
	/* And the other way. */
	free(m.bytes);
	m = make(&formats[4], "right");
	memset(m.bytes, 0, LUKS2_BIN_BYTES);
	assert_int_equal(open_with(&m, false, &right, 1, &info), 0);
	assert_non_null(strstr(info.note, "first copy"));
	memset(m.bytes + HDR, 0, LUKS2_BIN_BYTES);
	assert_int_equal(open_mem(&m), -EINVAL);
	says("no LUKS header");
	free(m.bytes);
}

static void binary_headers_that_lie_are_refused(void **state)
{
	static const struct { unsigned at; const char *bytes; const char *says; } l[] = {
		{ LUKS2_SIZE, "\0\0\0\0\0\0\0\0", "impossible size" },
		{ LUKS2_SIZE, "\xff\xff\xff\xff\xff\xff\xff\xff", "impossible size" },
		{ LUKS2_SIZE, "\0\0\0\0\0\x80\0\0", "impossible size" },
		{ LUKS2_SIZE, "\0\0\0\0\0\0\x60\0", "impossible size" },
		{ LUKS2_SIZE, "\0\0\0\0\0\0\x80\0", "checksum" },
		{ LUKS2_OFFSET, "\0\0\0\0\0\0\x40\0", "belongs elsewhere" },
		{ LUKS2_CSUM_ALG, "sha512\0\0", "not supported" },
		{ LUKS2_CSUM, "\1\2\3\4\5\6\7\10", "checksum" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(l); i++) {
		struct luks_mem m = make(&formats[4], "right");

		memcpy(m.bytes + l[i].at, l[i].bytes, 8);
		memset(m.bytes + HDR, 0, 8);
		assert_true(open_mem(&m) < 0);
		says(l[i].says);
		says("no second");
		free(m.bytes);
	}
}

/* One byte or one run of bytes is anything, everywhere: never a crash, never a
 * wait, and always a reason. */
static void headers_changed_at_random_are_refused_or_opened(void **state)
{
	uint64_t random = rig_seed();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		struct luks_mem m = make(&formats[i], "right");
		size_t head = formats[i].version == 2 ? 6144 : LUKS1_BYTES;
		unsigned char *good = malloc(head);

		memcpy(good, m.bytes, head);
		for (unsigned k = 0; k < 40; k++) {
			size_t at = rig_random(&random) % head;
			size_t n = 1 + rig_random(&random) % 8;

			for (; n-- && at < head; at++)
				m.bytes[at] = (unsigned char)rig_random(&random);
			if (formats[i].version == 2) {
				sign(&m, 0);
				memset(m.bytes + HDR, 0, 8);
			}
			open_mem(&m);
			memcpy(m.bytes, good, head);
		}
		free(good);
		free(m.bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_made_opens),
		cmocka_unit_test(the_key_of_the_data_opens_by_itself),
		cmocka_unit_test(a_header_without_data_opens),
		cmocka_unit_test(impossible_formats_are_refused),
		cmocka_unit_test(headers_of_version_1_that_lie_are_refused),
		cmocka_unit_test(names_of_version_1_need_an_end),
		cmocka_unit_test(what_is_shown_of_a_header_is_printable),
		cmocka_unit_test(json_that_lies_is_refused),
		cmocka_unit_test(deep_json_is_refused),
		cmocka_unit_test(the_newest_whole_copy_counts),
		cmocka_unit_test(binary_headers_that_lie_are_refused),
		cmocka_unit_test(headers_changed_at_random_are_refused_or_opened),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
