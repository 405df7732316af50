/* Keys: what is taken for one, how it travels, and that nothing stays of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/keys.h"
#include "keyring.h"

static const char *why;
static char big[KEY_LEN_MAX + 2];

/* A file with these bytes, to be read from its beginning. */
static int file_of(const char *bytes, size_t len)
{
	char name[] = "/tmp/keys.XXXXXX";
	int fd = mkstemp(name);

	assert_true(fd >= 0);
	unlink(name);
	assert_int_equal(write(fd, bytes, len), len);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

/* What becomes of a key file: the length of the key, or -errno. */
static int key_of(const char *bytes, size_t len)
{
	int fd = file_of(bytes, len), n;
	struct keys k = { 0 };

	n = keys_add_fd(&k, fd, &why);
	close(fd);
	if (n) {
		assert_int_equal(k.n, 0);
		assert_non_null(why);
	} else {
		n = (int)k.v[0].len;
		assert_memory_equal(k.v[0].bytes, bytes, k.v[0].len);
	}
	keys_wipe(&k);
	return n;
}

static void test_what_a_file_gives(void **state)
{
	(void)state;
	memset(big, 'k', sizeof(big));
	assert_int_equal(key_of("secret", 6), 6);
	assert_int_equal(key_of("secret\n", 7), 6);
	assert_int_equal(key_of("secret\n\n", 8), 7);
	assert_int_equal(key_of("s\0e\n\xff", 5), 5);
	assert_int_equal(key_of("", 0), -EINVAL);
	assert_int_equal(key_of("\n", 1), -EINVAL);
	assert_int_equal(key_of(big, KEY_LEN_MAX), KEY_LEN_MAX);
	assert_int_equal(key_of(big, KEY_LEN_MAX + 1), -E2BIG);
	big[KEY_LEN_MAX] = '\n';
	assert_int_equal(key_of(big, KEY_LEN_MAX + 1), KEY_LEN_MAX);
	assert_int_equal(key_of(big, KEY_LEN_MAX + 2), -E2BIG);
}

static void test_files_that_are_none(void **state)
{
	struct keys k = { 0 };

	(void)state;
	assert_int_equal(keys_add_file(&k, "/nonexistent", &why), -ENOENT);
	assert_null(why);
	assert_int_equal(keys_add_file(&k, "/tmp", &why), -EISDIR);
	assert_int_equal(keys_add_file(&k, "/dev/zero", &why), -E2BIG);
	assert_int_equal(k.n, 0);
	keys_wipe(&k);
}

static void test_sixteen_and_no_more(void **state)
{
	struct keys k = { 0 };

	(void)state;
	for (char i = 'a'; i < 'a' + KEYS_MAX; i++) {
		int fd = file_of(&i, 1);

		assert_int_equal(keys_add_fd(&k, fd, &why), 0);
		close(fd);
	}
	for (unsigned i = 0; i < KEYS_MAX; i++)
		assert_int_equal(k.v[i].bytes[0], 'a' + i);
	assert_int_equal(keys_add_file(&k, "/etc/hostname", &why), -E2BIG);
	keys_wipe(&k);
	assert_int_equal(k.n, 0);
}

static void test_there_and_back(void **state)
{
	struct td_secret s = { (const unsigned char *)"a\0b\n", 4 };
	struct keys k = { 0 };
	int fd = keys_to_memfd(&s);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(keys_check_memfd(fd, &why), 0);
	/* Wherever its other holders have read to. */
	lseek(fd, 0, SEEK_END);
	assert_int_equal(keys_add_memfd(&k, fd, &why), 0);
	assert_int_equal(k.v[0].len, 4);
	assert_memory_equal(k.v[0].bytes, s.bytes, 4);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 0), -1);
	close(fd);
	keys_wipe(&k);
}

static int checked(int fd)
{
	int err = keys_check_memfd(fd, &why);

	assert_true(err && why);
	close(fd);
	return err;
}

static int memfd_of(size_t len, int seals)
{
	int fd = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void test_only_sealed_memory_is_taken(void **state)
{
	const int all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
	int p[2];

	(void)state;
	assert_int_equal(checked(memfd_of(6, 0)), -EPERM);
	assert_int_equal(checked(memfd_of(6, all & ~F_SEAL_WRITE)), -EPERM);
	assert_int_equal(checked(memfd_of(6, all & ~F_SEAL_SHRINK)), -EPERM);
	assert_int_equal(checked(memfd_of(6, all & ~F_SEAL_GROW)), -EPERM);
	assert_int_equal(checked(memfd_of(0, all)), -EINVAL);
	assert_int_equal(checked(memfd_of(KEY_LEN_MAX + 1, all)), -E2BIG);
	assert_int_equal(checked(file_of("secret", 6)), -EPERM);
	assert_int_equal(checked(open("/dev/shm", O_TMPFILE | O_RDWR, 0600)), -EPERM);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(checked(p[0]), -EPERM);
	close(p[1]);
}

/* The flags that the kernel shows for the mapping that p is in. */
static void flags_of(const void *p, char *flags, size_t len)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long a, b, at = (unsigned long)p;
	bool in = false;
	char line[512];

	flags[0] = '\0';
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = at >= a && at < b;
		if (in && !strncmp(line, "VmFlags:", 8))
			snprintf(flags, len, "%s", line + 8);
	}
	if (f)
		fclose(f);
}

static void test_memory_of_keys(void **state)
{
	const char *san = getenv("SAN");
	struct keys k = { 0 };
	int fd = file_of("secret", 6);
	char flags[512];

	(void)state;
	assert_int_equal(keys_add_fd(&k, fd, &why), 0);
	close(fd);
	flags_of(k.v[0].bytes, flags, sizeof(flags));
	assert_non_null(strstr(flags, " dd"));	/* not dumped */
	if (!san || !*san)	/* sanitizers make nothing of mlock(2) */
		assert_non_null(strstr(flags, " lo"));
	assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
	keys_wipe(&k);
	assert_null(k.room);
}

/* --- a disk's, in its process */

static struct td_env env;
static struct keyring ring;

static void key_for(uint32_t id, const char *key)
{
	struct td_secret s = { (const unsigned char *)key, strlen(key) };
	int fd = keys_to_memfd(&s);

	assert_true(fd >= 0);
	keyring_take(&ring, id, fd);
}

/* What the open that is made now would see. */
static void seen(const char *keys)
{
	char all[64] = "";

	for (unsigned i = 0; i < env.n_secrets; i++)
		strncat(all, (const char *)env.secrets[i].bytes,
			env.secrets[i].len);
	assert_string_equal(all, keys);
}

static int ring_up(void **state)
{
	(void)state;
	ring = (struct keyring){ .env = &env };
	return 0;
}

static int ring_down(void **state)
{
	(void)state;
	keyring_wipe(&ring);
	seen("");
	return 0;
}

static void test_keys_come_before_their_open_or_after(void **state)
{
	(void)state;
	assert_true(keyring_complete(&ring, 5, 0));
	assert_false(keyring_complete(&ring, 5, 1));
	key_for(5, "a");
	assert_true(keyring_complete(&ring, 5, 1));
	assert_false(keyring_complete(&ring, 5, 2));
	key_for(5, "b");
	assert_true(keyring_complete(&ring, 5, 2));
	assert_false(keyring_complete(&ring, 6, 2));
	assert_int_equal(keyring_use(&ring, 5, 2, false), 0);
	seen("ab");
	keyring_settle(&ring, true);
	seen("ab");
}

static void test_what_was_sent_for_an_open_that_never_came(void **state)
{
	(void)state;
	key_for(5, "old");
	key_for(6, "new");
	assert_true(keyring_complete(&ring, 6, 1));
	assert_int_equal(keyring_use(&ring, 6, 1, false), 0);
	seen("new");
	keyring_settle(&ring, false);
	seen("");
	key_for(7, "stale");
	assert_int_equal(keyring_use(&ring, 8, 0, false), 0);
	seen("");
	keyring_settle(&ring, true);
	seen("");
}

static void test_a_paused_disk_goes_on_with_its_keys(void **state)
{
	(void)state;
	key_for(1, "mine");
	assert_int_equal(keyring_use(&ring, 1, 1, false), 0);
	keyring_settle(&ring, true);
	assert_int_equal(keyring_use(&ring, 2, 0, true), 0);
	seen("mine");
	keyring_settle(&ring, true);
	seen("mine");
	/* Wrong ones are forgotten, right ones stay. */
	key_for(3, "wrong");
	assert_int_equal(keyring_use(&ring, 3, 1, true), 0);
	seen("wrong");
	keyring_settle(&ring, false);
	seen("mine");
	key_for(4, "other");
	assert_int_equal(keyring_use(&ring, 4, 1, true), 0);
	keyring_settle(&ring, true);
	seen("other");
	/* A fresh open has none of them. */
	assert_int_equal(keyring_use(&ring, 5, 0, false), 0);
	seen("");
}

static void test_a_key_that_is_none_fails_its_open(void **state)
{
	int fd = file_of("", 0);

	(void)state;
	keyring_take(&ring, 1, fd);
	assert_true(keyring_complete(&ring, 1, 2));	/* nothing to wait for */
	assert_int_equal(keyring_use(&ring, 1, 2, false), -EINVAL);
	assert_string_equal(ring.why, "it is empty");
	key_for(2, "good");
	assert_int_equal(keyring_use(&ring, 2, 1, false), 0);
	seen("good");
}

int main(void)
{
#define RING_TEST(f) cmocka_unit_test_setup_teardown(f, ring_up, ring_down)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_a_file_gives),
		cmocka_unit_test(test_files_that_are_none),
		cmocka_unit_test(test_sixteen_and_no_more),
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_only_sealed_memory_is_taken),
		cmocka_unit_test(test_memory_of_keys),
		RING_TEST(test_keys_come_before_their_open_or_after),
		RING_TEST(test_what_was_sent_for_an_open_that_never_came),
		RING_TEST(test_a_paused_disk_goes_on_with_its_keys),
		RING_TEST(test_a_key_that_is_none_fails_its_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
