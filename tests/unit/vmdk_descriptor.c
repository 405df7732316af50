/* The text of a vmdk descriptor: read in all the spellings there are; what cannot be
 * is refused with its line; nothing is read or written outside it. */
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
#include "vmdk/descriptor.h"

static struct vmdk_descriptor d;
static char why[256];

static int parse_bytes(const char *s, size_t len)
{
	char *copy = malloc(len + 1);	/* a heap block of its length: for ASan */
	int err;

	assert_non_null(copy);
	memcpy(copy, s, len);
	why[0] = '\0';
	err = vmdk_descriptor_parse(&d, copy, len, why, sizeof(why));
	free(copy);
	if (err)
		assert_string_not_equal(why, "");
	return err;
}

static int parse(const char *s)
{
	return parse_bytes(s, strlen(s));
}

static const char qemu[] =
	"# Disk DescriptorFile\nversion=1\nCID=0a1b2c3d\nparentCID=ffffffff\n"
	"createType=\"twoGbMaxExtentSparse\"\n\n# Extent description\n"
	"RW 4194304 SPARSE \"a-s001.vmdk\"\nRW 2097152 SPARSE \"a-s002.vmdk\"\n\n"
	"# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\n"
	"ddb.geometry.cylinders = \"3120\"\n";

static void the_usual_is_read(void **state)
{
	(void)state;
	assert_true(vmdk_descriptor_magic(qemu, sizeof(qemu)));
	assert_int_equal(parse(qemu), 0);
	assert_string_equal(d.type, "twoGbMaxExtentSparse");
	assert_true(d.has_cid);
	assert_int_equal(d.cid, 0x0a1b2c3d);
	assert_int_equal(d.parent_cid, VMDK_NO_PARENT);
	assert_null(d.parent);
	assert_memory_equal(qemu + d.cid_at, "0a1b2c3d", 8);
	assert_int_equal(d.cid_digits, 8);
	assert_int_equal(d.n_lines, 2);
	assert_int_equal(d.sectors, 6291456);
	assert_string_equal(d.lines[0].name, "a-s001.vmdk");
	assert_string_equal(d.lines[1].name, "a-s002.vmdk");
	assert_int_equal(d.lines[1].sectors, 2097152);
	assert_int_equal(d.lines[1].type, VMDK_SPARSE);
	vmdk_descriptor_free(&d);
}

static void other_spellings_are_read(void **state)
{
	static const char text[] =
		"# DISK descriptorfile\r\n  VERSION = 1\r\n"
		"parentcid = \"11223344\"\r\n\tCid\t=\t\"ABC\"\r\n"
		"CreateType= 2gbmaxextentflat \r\nencoding=\"UTF-8\"\r\n"
		"PARENTFILENAMEHINT = \"dir/my = base.vmdk\"\r\n"
		"isNativeSnapshot=\"no\"\r\n"
		"rw 100 flat \"a b.img\" 7\r\n"
		"Rdonly  200\tVMFS  plain-name.vmdk \r\n"
		"NOACCESS 300 ZERO\r\n"
		"RW 1 FLAT \"x\" 0 uuid device\r\n"
		"garbage without sense\r\n"
		"ddb.rw = \"RW 5 FLAT\"\r\n\0\nRW 9 ZERO\n";

	(void)state;
	assert_true(vmdk_descriptor_magic(text, sizeof(text)));
	assert_int_equal(parse_bytes(text, sizeof(text) - 1), 0);
	assert_string_equal(d.type, "2GbMaxExtentFlat");
	assert_int_equal(d.cid, 0xabc);
	assert_int_equal(d.cid_digits, 3);
	assert_memory_equal(text + d.cid_at, "ABC\"", 4);
	assert_int_equal(d.parent_cid, 0x11223344);
	assert_string_equal(d.parent, "dir/my = base.vmdk");
	assert_int_equal(d.n_lines, 4);		/* a NUL ends it */
	assert_int_equal(d.sectors, 601);
	assert_string_equal(d.lines[0].name, "a b.img");
	assert_int_equal(d.lines[0].offset, 7);
	assert_string_equal(d.lines[1].name, "plain-name.vmdk");
	assert_int_equal(d.lines[1].access, VMDK_RDONLY);
	assert_int_equal(d.lines[1].type, VMDK_FLAT);
	assert_int_equal(d.lines[2].access, VMDK_NOACCESS);
	assert_int_equal(d.lines[2].type, VMDK_ZERO);
	assert_null(d.lines[2].name);
	vmdk_descriptor_free(&d);
	assert_false(vmdk_descriptor_magic("# Disk Descr", 12));
	assert_false(vmdk_descriptor_magic("version=1\n# Disk DescriptorFile", 31));
}

static const struct {
	const char *text;
	int err;
	const char *why;
} refused[] = {
	{ "version=4\n", -EOPNOTSUPP, "line 1" },
	{ "\n\nversion=x\n", -EOPNOTSUPP, "line 3" },
	{ "CID=123456789\n", -EINVAL, "bad CID" },
	{ "CID=\n", -EINVAL, "bad CID" },
	{ "CID=0x12\n", -EINVAL, "bad CID" },
	{ "CID=\"12\n", -EINVAL, "no closing quote" },
	{ "CID=1\nCID=2\n", -EINVAL, "a second CID" },
	{ "parentCID=1\nparentCID=2\n", -EINVAL, "a second parentCID" },
	{ "createType=\"seSparse\"\n", -EOPNOTSUPP, "'seSparse'" },
	{ "createType=\"fullDevice\"\n", -EOPNOTSUPP, "'fullDevice'" },
	{ "RW 1 VMFSSPARSE \"x\"\n", -EOPNOTSUPP, "VMFSSPARSE" },
	{ "RW 1 SESPARSE \"x\"\n", -EOPNOTSUPP, "SESPARSE" },
	{ "RW 1 VMFSRDM \"x\"\n", -EOPNOTSUPP, "VMFSRDM" },
	{ "RW 1 SPARS \"x\"\n", -EINVAL, "type" },
	{ "RW 1\n", -EINVAL, "type" },
	{ "RW \n", -EINVAL, "sectors" },
	{ "RW 0 FLAT \"x\"\n", -EINVAL, "sectors" },
	{ "RW -1 FLAT \"x\"\n", -EINVAL, "sectors" },
	{ "RW 99999999999999999999 FLAT \"x\"\n", -EINVAL, "sectors" },
	{ "RW 18014398509481984 ZERO\n", -EINVAL, "sectors" },
	{ "RW 18014398509481983 ZERO\nRW 1 ZERO\n", -EINVAL, "line 2" },
	{ "RW 1 FLAT\n", -EINVAL, "no name" },
	{ "RW 1 FLAT \"\"\n", -EINVAL, "no name" },
	{ "RW 1 FLAT \"x\n", -EINVAL, "no name" },
	{ "RW 1 FLAT \"x\" y\n", -EINVAL, "offset" },
	{ "RW 2 FLAT \"x\" 18014398509481983\n", -EINVAL, "offset" },
};

static void what_cannot_be_is_refused(void **state)
{
	static char many[VMDK_DESCRIPTOR_MAX + 2];
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		if (parse(refused[i].text) != refused[i].err)
			fail_msg("not refused: %s", refused[i].text);
		if (!strstr(why, refused[i].why))
			fail_msg("%s: %s", refused[i].text, why);
		assert_null(d.text);
	}
	for (unsigned i = 0; i < VMDK_EXTENTS_MAX; i++)
		len += (size_t)sprintf(many + len, "RW 1 ZERO\n");
	assert_int_equal(parse(many), 0);
	assert_int_equal(d.n_lines, VMDK_EXTENTS_MAX);
	vmdk_descriptor_free(&d);
	sprintf(many + len, "RW 1 ZERO\n");
	assert_int_equal(parse(many), -EINVAL);
	assert_non_null(strstr(why, "1024 extents"));
	memset(many, '#', sizeof(many));
	assert_int_equal(parse_bytes(many, VMDK_DESCRIPTOR_MAX), 0);
	vmdk_descriptor_free(&d);
	assert_int_equal(parse_bytes(many, VMDK_DESCRIPTOR_MAX + 1), -EINVAL);
}

/* A new CID takes exactly the digits that are there. */
static void a_new_cid_fits_in_place(void **state)
{
	char text[] = "CID=fffffffd\n", digits[8];

	(void)state;
	assert_int_equal(parse(text), 0);
	vmdk_descriptor_cid(&d, 0xfffffffd, digits);	/* not the same again, ... */
	memcpy(text + d.cid_at, digits, d.cid_digits);
	assert_string_equal(text, "CID=00000000\n");	/* ... and no special one */
	assert_int_equal(d.cid, 0);
	vmdk_descriptor_free(&d);

	assert_int_equal(parse("CID=7\n"), 0);
	vmdk_descriptor_cid(&d, 0x12345678, digits);
	assert_int_equal(digits[0], '8');
	vmdk_descriptor_cid(&d, 0x12345678, digits);
	assert_int_equal(digits[0], '9');
	vmdk_descriptor_free(&d);
}

static void random_texts_do_no_harm(void **state)
{
	static const char *const words[] = { "RW", "RDONLY", " ", " ", "\"", "\n",
		"\r\n", "=", "CID", "parentCID", "FLAT", "SPARSE", "ZERO", "1",
		"18014398509481983", "x", "#", "createType", "vmfs", "\t", "ddb." };
	uint64_t seed = rig_seed();
	char text[600];
	unsigned ok = 0;

	(void)state;
	for (unsigned i = 0; i < 50000; i++) {
		size_t len = 0;

		for (unsigned n = rig_random(&seed) % 40; n--;) {
			const char *w = words[rig_random(&seed) % ARRAY_SIZE(words)];

			memcpy(text + len, w, strlen(w));
			len += strlen(w);
		}
		if (len && rig_random(&seed) % 2)
			text[rig_random(&seed) % len] = (char)rig_random(&seed);
		if (parse_bytes(text, len))
			continue;
		ok++;
		if (d.has_cid)
			assert_true(d.cid_at + d.cid_digits <= len);
		vmdk_descriptor_free(&d);
	}
	assert_true(ok > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_usual_is_read),
		cmocka_unit_test(other_spellings_are_read),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(a_new_cid_fits_in_place),
		cmocka_unit_test(random_texts_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
