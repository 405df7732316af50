/* Sectors are encrypted as IEEE 1619 and the openssl program say, whoever asks
 * and however many ask at once; what is not ours is refused by name. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "crypto/crypt.h"
#include "td_driver.h"

static char why[256];

static void unhex(const char *hex, unsigned char *out)
{
	for (; *hex; hex += 2, out++) {
		unsigned v;

		assert_int_equal(sscanf(hex, "%2x", &v), 1);
		*out = (unsigned char)v;
	}
}

static void assert_hex(const unsigned char *p, const char *hex)
{
	unsigned char want[64];
	size_t n = strlen(hex) / 2;

	assert_true(n <= sizeof(want));
	unhex(hex, want);
	assert_memory_equal(p, want, n);
}

/* 0, 1, 2, ... 255, and again. */
static void count(unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (unsigned char)i;
}

static struct crypt *make(const char *mode, const void *key, size_t key_len,
			  uint32_t sector)
{
	struct crypt *c;

	assert_int_equal(crypt_new("aes", mode, key, key_len, sector, &c, why,
				   sizeof(why)), 0);
	assert_int_equal(crypt_sector(c), sector);
	return c;
}

/* One sector there and back; its first and last bytes when encrypted. */
static void check(struct crypt *c, uint64_t sector, const char *head,
		  const char *tail)
{
	unsigned char buf[512], plain[512];

	count(plain, sizeof(plain));
	memcpy(buf, plain, sizeof(buf));
	assert_int_equal(crypt_sectors(c, true, buf, sizeof(buf), sector), 0);
	assert_hex(buf, head);
	assert_hex(buf + sizeof(buf) - strlen(tail) / 2, tail);
	assert_int_equal(crypt_sectors(c, false, buf, sizeof(buf), sector), 0);
	assert_memory_equal(buf, plain, sizeof(buf));
	crypt_free(c);
}

/* Vectors 4 and 10 of IEEE 1619, which NIST's suite took over. */
static void xts_is_that_of_the_standard(void **state)
{
	unsigned char key[64];

	(void)state;
	unhex("27182818284590452353602874713526"
	      "31415926535897932384626433832795", key);
	check(make("xts-plain64", key, 32, 512), 0,
	      "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c",
	      "eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568");
	unhex("2718281828459045235360287471352662497757247093699959574966967627"
	      "3141592653589793238462643383279502884197169399375105820974944592",
	      key);
	check(make("xts-plain64", key, 64, 512), 0xff,
	      "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
	      "773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151");
}

static void cbc_is_that_of_openssl(void **state)
{
	const uint64_t far = (1ull << 32) + 7;
	unsigned char key[32];

	(void)state;
	count(key, sizeof(key));
	check(make("cbc-plain", key, 32, 512), far, "",
	      "e0dd5dac9438472e5e262283387cc8f5");
	check(make("cbc-plain64", key, 32, 512), far, "",
	      "c9c72bccb9beebcb14feec2e29c9a053");
	check(make("cbc-essiv:sha256", key, 32, 512), far, "",
	      "650b5026ca3f0abc5bae29eb00750b1f");
	check(make("cbc-plain64", key, 24, 512), 7, "",
	      "afbbba822064e880736fce8e856b207c");
}

static void aes_of_qcow_takes_the_passphrase_for_its_key(void **state)
{
	struct td_secret s = { (const unsigned char *)"sesame", 6 };
	struct td_secret longer = { (const unsigned char *)
				    "sesame\0\0\0\0\0\0\0\0\0\0, open", 22 };
	struct crypt *c;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(crypt_new_aes(i ? &longer : &s, &c), 0);
		check(c, 5, "70445a3851dc574f3fd9083d45d60837",
		      "7c827eaa6b2face72d0d9c0f0fdbde1a");
	}
}

/* Sectors in one call are numbered on; larger ones count in units of 512. */
static void each_sector_has_its_own_number(void **state)
{
	unsigned char key[64], many[16384], one[4096];

	(void)state;
	count(key, sizeof(key));
	for (uint32_t ss = 512; ss <= 4096; ss *= 2) {
		struct crypt *c = make("xts-plain64", key, 64, ss);

		memset(many, 'x', sizeof(many));
		assert_int_equal(crypt_sectors(c, true, many, sizeof(many), 64), 0);
		for (uint32_t at = 0; at < sizeof(many); at += ss) {
			memset(one, 'x', ss);
			assert_int_equal(crypt_sectors(c, true, one, ss,
						       64 + at / 512), 0);
			assert_memory_equal(one, many + at, ss);
			if (at)
				assert_memory_not_equal(one, many, ss);
		}
		crypt_free(c);
	}
}

static void refused(const char *cipher, const char *mode, size_t key_len, int want,
		    const char *says)
{
	unsigned char key[64];
	struct crypt *c;

	count(key, sizeof(key));
	assert_int_equal(crypt_new(cipher, mode, key, key_len, 512, &c, why,
				   sizeof(why)), want);
	assert_null(c);
	if (!strstr(why, says))
		fail_msg("'%s' lacks '%s'", why, says);
}

static void what_is_not_ours_is_refused_by_name(void **state)
{
	static const unsigned char zeroes[32];
	struct crypt *c;

	(void)state;
	refused("serpent", "xts-plain64", 64, -EOPNOTSUPP, "cipher 'serpent'");
	refused("aes", "ctr-plain64", 32, -EOPNOTSUPP, "aes-ctr");
	refused("aes", "ecb", 32, -EOPNOTSUPP, "mode 'ecb'");
	refused("aes", "xts-benbi", 64, -EOPNOTSUPP, "mode 'xts-benbi'");
	refused("aes", "", 64, -EOPNOTSUPP, "mode ''");
	refused("aes", "xts-plain64", 48, -EINVAL, "48 bytes");
	refused("aes", "cbc-plain64", 64, -EINVAL, "64 bytes");
	refused("aes", "cbc-essiv:sha1", 32, -EOPNOTSUPP, "'sha1'");
	refused("aes", "cbc-essiv:no", 32, -EOPNOTSUPP, "'no'");
	/* Two keys that are the same are one key too few. */
	assert_int_equal(crypt_new("aes", "xts-plain64", zeroes, 32, 512, &c, why,
				   sizeof(why)), -EINVAL);
}

struct load {
	struct crypt *c;
	const unsigned char *want;
	unsigned wrong;
};

#define LOAD_BYTES 16384u

static void *load(void *arg)
{
	struct load *l = arg;
	unsigned char buf[LOAD_BYTES];

	for (unsigned i = 0; i < 300; i++) {
		memset(buf, 'x', sizeof(buf));
		l->wrong += crypt_sectors(l->c, true, buf, sizeof(buf), 9) ||
			    memcmp(buf, l->want, sizeof(buf));
		l->wrong += crypt_sectors(l->c, false, buf, sizeof(buf), 9) ||
			    buf[0] != 'x' || memcmp(buf, buf + 1, sizeof(buf) - 1);
	}
	return NULL;
}

/* More threads than there are contexts for. */
static void threads_do_not_disturb_each_other(void **state)
{
	unsigned char key[64], want[LOAD_BYTES];
	struct load l[12];
	pthread_t t[12];
	struct crypt *c;

	(void)state;
	count(key, sizeof(key));
	c = make("xts-plain64", key, 64, 512);
	memset(want, 'x', sizeof(want));
	assert_int_equal(crypt_sectors(c, true, want, sizeof(want), 9), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		l[i] = (struct load){ .c = c, .want = want };
		assert_int_equal(pthread_create(&t[i], NULL, load, &l[i]), 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
		pthread_join(t[i], NULL);
		assert_int_equal(l[i].wrong, 0);
	}
	crypt_free(c);
}

static void speed_is_reported(void **state)
{
	static unsigned char buf[4096];
	unsigned char key[64];
	struct crypt *c;
	uint64_t start;

	(void)state;
	count(key, sizeof(key));
	c = make("xts-plain64", key, 64, 512);
	start = clock_ns();
	for (unsigned i = 0; i < 10000; i++)
		assert_int_equal(crypt_sectors(c, true, buf, sizeof(buf), i), 0);
	printf("aes-256-xts: %llu ns for 4 KiB\n",
	       (unsigned long long)(clock_ns() - start) / 10000);
	crypt_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(xts_is_that_of_the_standard),
		cmocka_unit_test(cbc_is_that_of_openssl),
		cmocka_unit_test(aes_of_qcow_takes_the_passphrase_for_its_key),
		cmocka_unit_test(each_sector_has_its_own_number),
		cmocka_unit_test(what_is_not_ours_is_refused_by_name),
		cmocka_unit_test(threads_do_not_disturb_each_other),
		cmocka_unit_test(speed_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
