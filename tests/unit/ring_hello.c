/* A client's hello, field by field, and the memory that comes with it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "ring/hello.h"

static const char *why;

static struct tapring_hello good(void)
{
	struct tapring_hello h = { .magic = TAPRING_MAGIC,
				   .version = TAPRING_VERSION, .abi = 1,
				   .order = 2, .queues = 3, .pages = 100 };

	for (unsigned q = 0; q < 3; q++)
		for (unsigned i = 0; i < 4; i++)
			h.ring_ref[q][i] = q * 4 + i;
	/* What is not used may hold anything. */
	h.ring_ref[0][4] = h.ring_ref[7][15] = UINT32_MAX;
	return h;
}

#define REFUSED(err, change)                                                 \
	do {                                                                 \
		struct tapring_hello h = good();                             \
		change;                                                      \
		why = NULL;                                                  \
		assert_int_equal(hello_check(&h, &why), err);                \
		assert_non_null(why);                                        \
	} while (0)

static void a_good_hello_passes(void **state)
{
	struct tapring_hello h = good();

	(void)state;
	assert_int_equal(hello_check(&h, &why), 0);
	for (uint16_t abi = 1; abi <= 3; abi++) {
		h.abi = abi;
		assert_int_equal(hello_check(&h, &why), 0);
	}
	h.pages = 12;
	assert_int_equal(hello_check(&h, &why), 0);
}

static void the_largest_hello_passes(void **state)
{
	struct tapring_hello h = good();

	(void)state;
	h.order = TAPRING_MAX_ORDER;
	h.queues = TAPRING_MAX_QUEUES;
	h.pages = TAPRING_MAX_PAGES;
	for (unsigned q = 0; q < TAPRING_MAX_QUEUES; q++)
		for (unsigned i = 0; i < 16; i++)
			h.ring_ref[q][i] = TAPRING_MAX_PAGES - 1 - (q * 16 + i);
	assert_int_equal(hello_check(&h, &why), 0);
}

static void each_field_that_lies_is_refused(void **state)
{
	(void)state;
	REFUSED(-EPROTO, h.magic = 0);
	REFUSED(-EPROTO, h.magic ^= 1u << 31);
	REFUSED(-EPROTO, h.version = 0);
	REFUSED(-EPROTO, h.version = TAPRING_VERSION + 1);
	REFUSED(-EINVAL, h.abi = 0);
	REFUSED(-EINVAL, h.abi = 4);
	REFUSED(-EINVAL, h.abi = UINT16_MAX);
	REFUSED(-E2BIG, h.order = TAPRING_MAX_ORDER + 1);
	REFUSED(-E2BIG, h.order = UINT16_MAX);
	REFUSED(-E2BIG, h.queues = 0);
	REFUSED(-E2BIG, h.queues = TAPRING_MAX_QUEUES + 1);
	REFUSED(-E2BIG, h.queues = UINT16_MAX);
	REFUSED(-E2BIG, h.pages = TAPRING_MAX_PAGES + 1);
	REFUSED(-E2BIG, h.pages = UINT32_MAX);
	REFUSED(-EINVAL, h.pages = 0);
	REFUSED(-EINVAL, h.pages = 11);
	REFUSED(-EINVAL, h.ring_ref[0][0] = 100);
	REFUSED(-EINVAL, h.ring_ref[2][3] = UINT32_MAX);
	REFUSED(-EINVAL, h.ring_ref[0][0] = h.ring_ref[0][1]);
	REFUSED(-EINVAL, h.ring_ref[2][3] = h.ring_ref[0][0]);
}

static void pages_in_a_row_are_told_from_scattered_ones(void **state)
{
	struct tapring_hello h = good();

	(void)state;
	assert_true(hello_ring_in_row(&h, 0));
	assert_true(hello_ring_in_row(&h, 2));
	h.ring_ref[2][3] = 50;
	assert_false(hello_ring_in_row(&h, 2));
	h.order = 0;
	assert_true(hello_ring_in_row(&h, 2));
}

static int memory(size_t size, int flags, int seals, size_t len)
{
	int fd = memfd_create("t", MFD_ALLOW_SEALING | flags), err;

	if (fd < 0)
		return -EINVAL;		/* no huge pages here: refused as well */
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	err = hello_check_memory(fd, len, &why);
	close(fd);
	return err;
}

static void memory_must_be_a_sealed_memfd_of_its_size(void **state)
{
	char path[] = "/dev/shm/ring_hello.XXXXXX";
	int fd, pair[2];

	(void)state;
	assert_int_equal(memory(8192, 0, F_SEAL_SHRINK, 8192), 0);
	assert_int_equal(memory(8192, 0, F_SEAL_SHRINK | F_SEAL_GROW, 4096), 0);
	assert_int_equal(memory(8191, 0, F_SEAL_SHRINK, 8192), -EINVAL);
	assert_int_equal(memory(0, 0, F_SEAL_SHRINK, 4096), -EINVAL);
	assert_int_equal(memory(8192, 0, F_SEAL_GROW, 8192), -EINVAL);
	assert_int_equal(memory(4 << 20, MFD_HUGETLB, F_SEAL_SHRINK, 8192),
			 -EINVAL);

	fd = mkstemp(path);
	if (fd >= 0) {
		assert_int_equal(ftruncate(fd, 8192), 0);
		assert_int_equal(hello_check_memory(fd, 8192, &why), -EINVAL);
		close(fd);
		unlink(path);
	}
	fd = open("/dev/zero", O_RDWR);
	assert_int_equal(hello_check_memory(fd, 8192, &why), -EINVAL);
	close(fd);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(hello_check_memory(pair[0], 8192, &why), -EINVAL);
	close(pair[0]);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_good_hello_passes),
		cmocka_unit_test(the_largest_hello_passes),
		cmocka_unit_test(each_field_that_lies_is_refused),
		cmocka_unit_test(pages_in_a_row_are_told_from_scattered_ones),
		cmocka_unit_test(memory_must_be_a_sealed_memfd_of_its_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
