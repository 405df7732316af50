/* The header of qcow2: what is refused, what is kept, what qemu-img says of it. */
#include "qcow2/header.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"
#include "qcow2/tables.h"

#define CS 65536u
#define FILE_LEN (64 * MiB)

static struct qcow2_header good(void)
{
	return (struct qcow2_header){
		.version = 3, .cluster_bits = 16, .size = 10 * GiB,
		.l1_entries = 20, .l1_offset = 3 * CS,
		.reft_offset = CS, .reft_clusters = 1, .ref_order = 4,
	};
}

static void encode(const struct qcow2_header *h, uint8_t *p)
{
	assert_int_equal(qcow2_header_encode(h, NULL, NULL, p), 0);
}

static int decode(const uint8_t *p, struct qcow2_header *h, char *text)
{
	struct qcow2_why why = { "" };
	int err = qcow2_header_decode(p, FILE_LEN, 0, h, &why);

	if (text)
		memcpy(text, why.text, sizeof(why.text));
	return err;
}

static void what_is_encoded_decodes_to_the_same(void **state)
{
	static uint8_t p[CS];
	struct qcow2_header h = good(), d;

	(void)state;
	h.size = 10 * GiB - 512;
	h.compat = QCOW2_LAZY;
	h.incompat = QCOW2_COMPRESSION | QCOW2_EXT_L2;
	h.compression = QCOW2_ZSTD;
	h.l1_entries = 40;
	h.crypt = QCOW2_CRYPT_LUKS;
	h.crypto_offset = 16 * CS;
	h.crypto_length = 0x1f9000;
	h.ref_order = 6;
	strcpy(h.backing, "../a base: file.raw");
	strcpy(h.backing_fmt, "raw");
	encode(&h, p);
	assert_int_equal(decode(p, &d, NULL), 0);
	assert_int_equal(d.length, QCOW2_V3_LENGTH);
	d.length = h.length;
	d.ext_start = d.ext_end = 0;
	assert_memory_equal(&h, &d, sizeof(h));
}

/* One field is changed, and the header is refused with words that name it. */
static const struct {
	const char *what;
	unsigned at, bytes;
	uint64_t value;
	int err;
	const char *says;
} pokes[] = {
	{ "magic", 0, 4, 0x514649fa, -EINVAL, "no qcow2 image" },
	{ "version 1", 4, 4, 1, -EINVAL, "older format qcow" },
	{ "version 4", 4, 4, 4, -ENOTSUP, "version 4" },
	{ "cluster_bits 8", 20, 4, 8, -EINVAL, "cluster_bits" },
	{ "cluster_bits 22", 20, 4, 22, -EINVAL, "cluster_bits" },
	{ "cluster_bits 64", 20, 4, 64, -EINVAL, "cluster_bits" },
	{ "header_length 96", 100, 4, 96, -EINVAL, "header of 96" },
	{ "header_length 108", 100, 4, 108, -EINVAL, "header of 108" },
	{ "header_length huge", 100, 4, 0xfffffff8, -EINVAL, "header of" },
	{ "incompatible bit 5", 72, 8, 1u << 5, -ENOTSUP, "bit 5" },
	{ "incompatible bit 63", 72, 8, 1ull << 63, -ENOTSUP, "bit 63" },
	{ "name behind the cluster", 8, 8, CS + 1, -EINVAL, "name" },
	{ "name in the header", 8, 8, 80, -EINVAL, "name" },
	{ "name at -1", 8, 8, UINT64_MAX, -EINVAL, "name" },
	{ "refcount_order 7", 96, 4, 7, -EINVAL, "refcount_order" },
	{ "no reftable", 56, 4, 0, -EINVAL, "refcount table" },
	{ "reftable of 8 MiB + 1", 56, 4, 129, -EINVAL, "refcount table" },
	{ "reftable huge", 56, 4, UINT32_MAX, -EINVAL, "refcount table" },
	{ "reftable at 0", 48, 8, 0, -EINVAL, "refcount table" },
	{ "reftable unaligned", 48, 8, CS + 512, -EINVAL, "refcount table" },
	{ "reftable behind the file", 48, 8, FILE_LEN, -EINVAL, "refcount table" },
	{ "reftable wraps", 48, 8, UINT64_MAX - CS + 1, -EINVAL, "refcount table" },
	{ "L1 too small", 36, 4, 19, -EINVAL, "L1 table" },
	{ "L1 huge", 36, 4, UINT32_MAX, -EINVAL, "L1 table" },
	{ "L1 32 MiB + 8", 36, 4, QCOW2_L1_MAX + 1, -EINVAL, "L1 table" },
	{ "L1 unaligned", 40, 8, 3 * CS + 8, -EINVAL, "L1 table" },
	{ "L1 behind the file", 40, 8, 1ull << 62, -EINVAL, "L1 table" },
	{ "L1 wraps", 40, 8, UINT64_MAX - CS + 1, -EINVAL, "L1 table" },
	{ "size 2^63", 24, 8, 1ull << 63, -EINVAL, "disk of" },
	{ "size -1", 24, 8, UINT64_MAX, -EINVAL, "disk of" },
	{ "too many snapshots", 60, 4, 65537, -EINVAL, "65537 snapshots" },
	{ "snapshots at 0", 60, 4, 1, -EINVAL, "table of snapshots" },
	{ "compression without its bit", 104, 1, 1, -EINVAL, "compression" },
	{ "compression bit alone", 72, 8, 8, -EINVAL, "compression" },
	{ "extended L2, needs more L1", 72, 8, 16, -EINVAL, "L1 table" },
	{ "encryption 3", 32, 4, 3, -ENOTSUP, "encryption method 3" },
	{ "LUKS without its header", 32, 4, 2, -EINVAL, "LUKS" },
	{ "raw data without file", 88, 8, 2, -EINVAL, "raw external" },
	{ "bitmaps without extension", 88, 8, 1, -EINVAL, "bitmaps" },
	{ "L1 over reftable", 40, 8, CS, -EINVAL, "lie over each other" },
	{ "reftable over L1", 48, 8, 3 * CS, -EINVAL, "lie over each other" },
	{ "extension too long", 116, 4, 0xfffffff0, -EINVAL, "extension" },
	{ "extension too long by 8", 116, 4, CS - 112, -EINVAL, "extension" },
};

static void poke(uint8_t *p, unsigned at, unsigned bytes, uint64_t value)
{
	for (unsigned i = 0; i < bytes; i++)
		p[at + i] = (uint8_t)(value >> 8 * (bytes - 1 - i));
}

static void each_bad_field_is_refused_and_named(void **state)
{
	static uint8_t p[CS];
	struct qcow2_header h = good(), d;
	char text[256];

	(void)state;
	strcpy(h.backing, "base");
	for (size_t i = 0; i < ARRAY_SIZE(pokes); i++) {
		encode(&h, p);
		/* names of features would name the unknown bits */
		poke(p, 112, 4, 0x12345678);
		poke(p, pokes[i].at, pokes[i].bytes, pokes[i].value);
		if (decode(p, &d, text) != pokes[i].err ||
		    !strstr(text, pokes[i].says))
			fail_msg("%s: %s", pokes[i].what, text);
	}
}

static void an_extension_is_a_fixed_length_or_fits(void **state)
{
	static uint8_t p[CS];
	static const struct {
		uint32_t type, len;
		int err;
	} t[] = {
		{ QCOW2_X_BITMAPS, 24, 0 },	{ QCOW2_X_BITMAPS, 23, -EINVAL },
		{ QCOW2_X_CRYPTO, 24, -EINVAL },
		{ QCOW2_X_BACKING_FMT, 15, 0 },	{ QCOW2_X_BACKING_FMT, 16, -EINVAL },
		{ QCOW2_X_DATA_FILE, 1023, 0 },	{ QCOW2_X_DATA_FILE, 1024, -EINVAL },
		{ 0x1234, 5000, 0 },
	};
	struct qcow2_header h = good(), d;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		encode(&h, p);
		memset(p + 112, 0, CS - 112);
		put_be32(p + 112, t[i].type);
		put_be32(p + 116, t[i].len);
		memset(p + 120, 'x', t[i].len);
		if (decode(p, &d, NULL) != t[i].err)
			fail_msg("extension %x of %u bytes", t[i].type, t[i].len);
	}
	/* no end marker: the area's end will do */
	encode(&h, p);
	memset(p + 112, 0xff, CS - 112);
	put_be32(p + 116, CS - 120);
	assert_int_equal(decode(p, &d, NULL), 0);
}

static void version_2_has_no_features(void **state)
{
	static uint8_t p[CS];
	struct qcow2_header h = good(), d;

	(void)state;
	h.version = 2;
	encode(&h, p);
	memset(p + 80, 0xff, 40);	/* behind the end marker */
	assert_int_equal(decode(p, &d, NULL), 0);
	assert_int_equal(d.length, QCOW2_V2_LENGTH);
	assert_int_equal(d.ref_order, 4);
	assert_int_equal(d.incompat | d.compat | d.autoclear, 0);
}

static void what_is_not_known_stays(void **state)
{
	static uint8_t p[CS], q[CS];
	struct qcow2_header h = good(), d, n;
	struct qcow2_ext x;
	uint32_t at = 0;
	bool seen = false;

	(void)state;
	h.compat = 1ull << 40;
	encode(&h, p);
	put_be32(p + 100, 128);		/* a header that is longer */
	memset(p + 105, 0xab, 128 - 105);
	memset(p + 128, 0, CS - 128);
	put_be32(p + 128, 0xcafe);
	put_be32(p + 132, 5);
	memcpy(p + 136, "hello", 5);
	assert_int_equal(decode(p, &d, NULL), 0);
	n = d;
	strcpy(n.backing, "/new/base");
	strcpy(n.backing_fmt, "qcow2");
	assert_int_equal(qcow2_header_encode(&n, p, &d, q), 0);
	assert_int_equal(decode(q, &n, NULL), 0);
	assert_string_equal(n.backing, "/new/base");
	assert_string_equal(n.backing_fmt, "qcow2");
	assert_int_equal(n.length, 128);
	assert_int_equal(n.compat, 1ull << 40);
	assert_memory_equal(p + 105, q + 105, 128 - 105);
	while (qcow2_ext_next(&n, q, &at, &x))
		if (x.type == 0xcafe) {
			assert_int_equal(x.length, 5);
			assert_memory_equal(x.data, "hello", 5);
			seen = true;
		}
	assert_true(seen);
}

static void an_unknown_feature_has_the_name_that_the_image_gives(void **state)
{
	static uint8_t p[CS];
	struct qcow2_header h = good(), d;
	char text[256];

	(void)state;
	encode(&h, p);
	assert_int_equal(get_be32(p + 112), QCOW2_X_FEATURES);
	p[120] = 0;
	p[121] = 7;
	memset(p + 122, 0, 46);
	memcpy(p + 122, "time\033travel", 11);
	poke(p, 72, 8, 1u << 7);
	assert_int_equal(decode(p, &d, text), -ENOTSUP);
	assert_non_null(strstr(text, "time?travel"));
}

static void what_does_not_fit_is_refused(void **state)
{
	uint8_t p[512];
	struct qcow2_header h = good();

	(void)state;
	h.cluster_bits = 9;
	memset(h.backing, 'b', 384);
	assert_int_equal(qcow2_header_encode(&h, NULL, NULL, p), 0);
	memset(h.backing, 'b', 400);
	assert_int_equal(qcow2_header_encode(&h, NULL, NULL, p), -ENOSPC);
}

static void a_repair_may_do_without_the_refcount_table(void **state)
{
	static uint8_t p[CS];
	struct qcow2_header h = good(), d;
	struct qcow2_why why;

	(void)state;
	encode(&h, p);
	poke(p, 48, 8, 12345);
	assert_int_equal(qcow2_header_decode(p, FILE_LEN, 0, &d, &why), -EINVAL);
	assert_int_equal(qcow2_header_decode(p, FILE_LEN, QCOW2_FOR_REPAIR, &d,
					     &why), 0);
	assert_int_equal(d.reft_clusters, 0);
}

static void random_bytes_never_get_through_half_checked(void **state)
{
	static uint8_t p[CS];
	struct qcow2_header h = good(), d;
	uint64_t seed = rig_seed(), ok = 0;

	(void)state;
	strcpy(h.backing, "base");
	for (unsigned i = 0; i < 200000; i++) {
		if (i % 64 == 0)
			encode(&h, p);
		poke(p, rig_random(&seed) % 160, 1, rig_random(&seed));
		if (decode(p, &d, NULL))
			continue;
		ok++;
		assert_in_range(d.cluster_bits, 9, 21);
		assert_in_range(d.ref_order, 0, 6);
		assert_true(d.l1_entries <= QCOW2_L1_MAX);
		assert_true(d.reft_offset && d.reft_clusters);
		assert_true(d.reft_offset + ((uint64_t)d.reft_clusters <<
					     d.cluster_bits) <= FILE_LEN + 2 * MiB);
		assert_true(d.l1_entries >=
			    qcow2_l1_needed(d.size, d.cluster_bits,
					    d.incompat & QCOW2_EXT_L2));
	}
	assert_true(ok > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_encoded_decodes_to_the_same),
		cmocka_unit_test(each_bad_field_is_refused_and_named),
		cmocka_unit_test(an_extension_is_a_fixed_length_or_fits),
		cmocka_unit_test(version_2_has_no_features),
		cmocka_unit_test(what_is_not_known_stays),
		cmocka_unit_test(an_unknown_feature_has_the_name_that_the_image_gives),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(a_repair_may_do_without_the_refcount_table),
		cmocka_unit_test(random_bytes_never_get_through_half_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
