/* Entries of qcow2's tables: by the format's words, and in images of qemu-img. */
#include "qcow2/tables.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "drv_rig.h"

static struct qcow2_dims dims(unsigned cluster_bits, uint64_t incompat,
			      unsigned version, unsigned order)
{
	struct qcow2_header h = {
		.version = version, .cluster_bits = cluster_bits,
		.incompat = incompat, .ref_order = order,
	};

	return qcow2_dims(&h);
}

static const char *entry(const struct qcow2_dims *d, uint64_t v, uint64_t map,
			 uint64_t off, struct qcow2_entry *e)
{
	uint8_t p[16], back[16] = { 0 };
	const char *wrong;

	put_be64(p, v);
	put_be64(p + 8, map);
	wrong = qcow2_l2_decode(d, p, off, e);
	if (!wrong) {
		qcow2_l2_encode(d, e, back);
		assert_memory_equal(p, back, d->entry);
	}
	return wrong;
}

static void standard_entries(void **state)
{
	struct qcow2_dims d = dims(16, 0, 3, 4), d2 = dims(16, 0, 2, 4);
	struct qcow2_entry e;

	(void)state;
	assert_null(entry(&d, 0, 0, 0, &e));
	assert_false(e.space || e.data || e.zero);
	assert_null(entry(&d, QCOW2_COPIED | 0x50000, 0, 0, &e));
	assert_true(e.space && e.copied && e.data == 1 && !e.zero);
	assert_int_equal(e.host, 0x50000);
	assert_null(entry(&d, 0x50000, 0, 0, &e));
	assert_true(e.space && !e.copied && e.data == 1);
	assert_null(entry(&d, 1, 0, 0, &e));
	assert_true(!e.space && e.zero == 1 && !e.data);
	assert_null(entry(&d, QCOW2_COPIED | 1, 0, 0, &e));
	assert_true(!e.space && e.zero == 1);
	assert_null(entry(&d, 0x50001, 0, 0, &e));
	assert_true(e.space && e.zero == 1 && !e.data);
	assert_null(entry(&d, QCOW2_COPIED, 0, 0, &e));
	assert_true(!e.space && !e.zero && !e.data);

	assert_non_null(entry(&d, 0x50002, 0, 0, &e));
	assert_non_null(entry(&d, 1ull << 61 | 0x50000, 0, 0, &e));
	assert_non_null(entry(&d, 0x50200, 0, 0, &e));
	assert_non_null(entry(&d2, 1, 0, 0, &e));
	assert_non_null(strstr(entry(&d2, 0x50001, 0, 0, &e), "version 2"));
	assert_null(entry(&d2, QCOW2_COPIED | 0x50000, 0, 0, &e));
}

static void compressed_entries_come_first(void **state)
{
	struct qcow2_dims d = dims(16, 0, 3, 4), small = dims(9, 0, 3, 4);
	struct qcow2_dims big = dims(21, 0, 2, 4);
	struct qcow2_dims out = dims(16, QCOW2_DATA_FILE, 3, 4);
	struct qcow2_entry e;

	(void)state;
	/* bit 0 is part of the offset here, in every version */
	assert_null(entry(&d, 0x40400000000521f1, 0, 0, &e));
	assert_int_equal(e.host, 0x521f1);
	assert_int_equal(e.packed, 1024 - 0x1f1);
	assert_false(e.copied || e.data || e.zero);
	assert_null(entry(&small, QCOW2_PACKED | 1ull << 61 | 0x2010, 0, 0, &e));
	assert_int_equal(e.host, 0x2010);
	assert_int_equal(e.packed, 1024 - 0x10);
	assert_null(entry(&big, QCOW2_PACKED | 8191ull << 49 | 0x200001, 0, 0, &e));
	assert_int_equal(e.host, 0x200001);
	assert_int_equal(e.packed, 4 * MiB - 1);
	assert_non_null(entry(&d, 0xc0400000000521f1, 0, 0, &e));
	assert_non_null(entry(&small, QCOW2_PACKED | 1ull << 58 | 512, 0, 0, &e));
	assert_non_null(entry(&out, QCOW2_PACKED | 512, 0, 0, &e));

	assert_true(qcow2_packed_fits(&small, 0x1ff, 511));
	assert_false(qcow2_packed_fits(&small, 0x1ff, 1024));
	assert_true(qcow2_packed_fits(&big, (1ull << 49) - 1, 512));
	assert_false(qcow2_packed_fits(&big, 1ull << 49, 512));
	assert_false(qcow2_packed_fits(&d, 512, 0));
}

static void extended_entries(void **state)
{
	struct qcow2_dims d = dims(17, QCOW2_EXT_L2, 3, 4);
	struct qcow2_entry e;

	(void)state;
	assert_int_equal(d.unit_bits, 12);
	assert_int_equal(d.l2_bits, 13);
	assert_null(entry(&d, QCOW2_COPIED | 0xa0000, 0x0000000400000001, 0, &e));
	assert_true(e.space && e.copied && e.data == 1 && e.zero == 4);
	assert_null(entry(&d, 0, 0xffffffff00000000, 0, &e));
	assert_true(!e.space && e.zero == UINT32_MAX && !e.data);
	assert_null(entry(&d, QCOW2_COPIED | 0xa0000, 0, 0, &e));
	assert_true(e.space && !e.data && !e.zero);
	assert_null(entry(&d, QCOW2_PACKED | 0xa0000, 0, 0, &e));
	assert_true(e.packed);

	assert_non_null(entry(&d, QCOW2_COPIED | 0xa0001, 0, 0, &e));
	assert_non_null(entry(&d, QCOW2_COPIED | 0xa0000, 0x100000001, 0, &e));
	assert_non_null(entry(&d, 0, 1, 0, &e));
	assert_non_null(entry(&d, QCOW2_PACKED | 0xa0000, 1, 0, &e));
}

static void entries_of_a_data_file_name_their_own_place(void **state)
{
	struct qcow2_dims d = dims(16, QCOW2_DATA_FILE, 3, 4);
	struct qcow2_entry e;

	(void)state;
	assert_null(entry(&d, QCOW2_COPIED, 0, 0, &e));
	assert_true(e.space && e.data == 1 && !e.host);
	assert_null(entry(&d, QCOW2_COPIED, 0, 0x10000, &e));
	assert_false(e.space || e.data);
	assert_null(entry(&d, QCOW2_COPIED | 0x10000, 0, 0x10000, &e));
	assert_true(e.space && e.data == 1);
	assert_non_null(entry(&d, QCOW2_COPIED | 0x20000, 0, 0x10000, &e));
}

static void l1_and_reftable_entries(void **state)
{
	struct qcow2_dims d = dims(12, 0, 3, 4);
	uint64_t host;
	bool copied;

	(void)state;
	assert_null(qcow2_l1_decode(&d, QCOW2_COPIED | 0x3000, &host, &copied));
	assert_true(host == 0x3000 && copied);
	assert_null(qcow2_l1_decode(&d, 0, &host, &copied));
	assert_true(host == 0 && !copied);
	assert_non_null(qcow2_l1_decode(&d, 0x3001, &host, &copied));
	assert_non_null(qcow2_l1_decode(&d, 1ull << 62, &host, &copied));
	assert_non_null(qcow2_l1_decode(&d, 0x3200, &host, &copied));
	assert_null(qcow2_reft_decode(&d, 1ull << 63 | 0x3000, &host));
	assert_int_equal(host, 1ull << 63 | 0x3000);
	assert_non_null(qcow2_reft_decode(&d, 0x3001, &host));
	assert_non_null(qcow2_reft_decode(&d, 0x3200, &host));
}

/* Every order: what is set is got, and its neighbours stay. */
static void refcounts_of_every_order(void **state)
{
	uint64_t seed = rig_seed(), want[512], v;
	uint8_t block[4096];

	(void)state;
	for (unsigned order = 0; order <= 6; order++) {
		memset(block, 0, sizeof(block));
		memset(want, 0, sizeof(want));
		for (unsigned n = 0; n < 5000; n++) {
			unsigned i = rig_random(&seed) % 512;

			v = rig_random(&seed) & qcow2_ref_max(order);
			qcow2_ref_set(block + qcow2_ref_at(order, i), order, i, v);
			want[i] = v;
		}
		for (unsigned i = 0; i < 512; i++)
			assert_int_equal(qcow2_ref_get(block +
						qcow2_ref_at(order, i), order, i),
					 want[i]);
		assert_int_equal(qcow2_ref_at(order, 511) + qcow2_ref_bytes(order),
				 (512u << order) / 8);
	}
	/* entry 0 is in the least significant bits */
	block[0] = 0x1b;
	assert_int_equal(qcow2_ref_get(block, 0, 0), 1);
	assert_int_equal(qcow2_ref_get(block, 0, 2), 0);
	assert_int_equal(qcow2_ref_get(block, 1, 0), 3);
	assert_int_equal(qcow2_ref_get(block, 1, 3), 0);
	assert_int_equal(qcow2_ref_get(block, 2, 1), 1);
}

/* In a fresh image of qemu-img, with data, every cluster of the file has
 * refcount 1 and those behind it have 0: in all seven orders. */
static void refcounts_in_images_of_qemu(void **state)
{
	const char *dir = rig_dir("/tmp");
	char cmd[1024], path[256];
	static uint8_t p[65536], block[4096];

	(void)state;
	for (unsigned order = 0; order <= 6; order++) {
		struct qcow2_header h;
		struct qcow2_why why;
		struct qcow2_dims d;
		struct stat st;
		uint64_t n, host;
		int fd;

		snprintf(path, sizeof(path), "%s/i", dir);
		snprintf(cmd, sizeof(cmd),
			 "qemu-img create -q -f qcow2 -o cluster_size=4k,"
			 "refcount_bits=%u %s 1M && "
			 "qemu-io -f qcow2 -c 'write -q 64k 96k' %s",
			 1u << order, path, path);
		assert_int_equal(system(cmd), 0);
		fd = open(path, O_RDONLY);
		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		memset(p, 0, sizeof(p));
		assert_true(pread(fd, p, sizeof(p), 0) > 0);
		assert_int_equal(qcow2_header_decode(p, (uint64_t)st.st_size, 0,
						     &h, &why), 0);
		d = qcow2_dims(&h);
		assert_int_equal(h.ref_order, order);
		assert_null(qcow2_reft_decode(&d, get_be64(p + h.reft_offset),
					      &host));
		assert_int_equal(pread(fd, block, sizeof(block), (off_t)host),
				 sizeof(block));
		close(fd);
		n = ((uint64_t)st.st_size + 4095) / 4096;
		assert_true(n >= 24 + 5);
		for (uint64_t i = 0; i < 1ull << min_u64(d.block_bits, 9); i++)
			assert_int_equal(qcow2_ref_get(block +
						qcow2_ref_at(order, i), order, i),
					 i < n);
	}
	rig_dir_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(standard_entries),
		cmocka_unit_test(compressed_entries_come_first),
		cmocka_unit_test(extended_entries),
		cmocka_unit_test(entries_of_a_data_file_name_their_own_place),
		cmocka_unit_test(l1_and_reftable_entries),
		cmocka_unit_test(refcounts_of_every_order),
		cmocka_unit_test(refcounts_in_images_of_qemu),
	};

	if (system("qemu-img --version >/dev/null 2>&1") != 0) {
		printf("SKIP: no qemu-img to compare with\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
