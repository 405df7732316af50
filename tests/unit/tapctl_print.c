/* What tap-ctl prints: tapdisk3's lines byte for byte, JSON of a disk, and
 * error lines that no name can break. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rundir.h"

#include "../../ctl/tap-ctl/print.c"

static char *out;
static size_t out_len;

static FILE *sink(void)
{
	FILE *f = open_memstream(&out, &out_len);

	assert_non_null(f);
	return f;
}

static void wrote(FILE *f, const char *want)
{
	fclose(f);
	assert_string_equal(out, want);
	free(out);
}

/* A disk as it comes off the wire. */
static int from_wire(struct disk *k, int pid, int minor, uint32_t state,
		     const char *spec)
{
	static struct msg_out o;
	struct tap_disk *d = (struct tap_disk *)o.body;
	struct msg m = { .hdr = &o.hdr, .body = o.body };

	*d = (struct tap_disk){ .pid = pid, .minor = minor, .state = state };
	memcpy(d->spec, spec, strlen(spec));
	msg_seal(&o, TAP_CTL_LIST + 1, 0, 1, 0,
		 (uint32_t)(sizeof(*d) + strlen(spec)));
	return disk_parse(k, &m);
}

struct line {
	int pid, minor;
	uint32_t state;
	const char *spec, *line, *row;
};

static const struct line lines[] = {
	{ 4711, 0, 0, "aio:/srv/a.img", "pid=4711 minor=0 state=0 args=aio:/srv/a.img\n",
	  "    4711    0    0        aio /srv/a.img\n" },
	{ 12, 16383, 0x20, "aio:/a b", "pid=12 minor=16383 state=0x20 args=aio:/a b\n",
	  "      12 16383 0x20        aio /a b\n" },
	{ 4711, -1, 0, "", "pid=4711\n", "    4711    -    -          - -\n" },
	{ -1, 7, 2, "", "minor=7\n", "       -    7    -          - -\n" },
	{ -1, 3, 1, "aio:/x", "minor=3 state=0x1 args=aio:/x\n",
	  "       -    3  0x1        aio /x\n" },
	{ 5, 3, 2, "", "pid=5 minor=3 state=0x2\n", "       5    3  0x2          - -\n" },
	{ 5, 3, 2, "aio:/was", "pid=5 minor=3 state=0x2\n",
	  "       5    3  0x2          - -\n" },
	{ 5, 3, 0x220, "log:x|delay:ms=1|aio:/d|e:f",
	  "pid=5 minor=3 state=0x220 args=log:x|delay:ms=1|aio:/d|e:f\n",
	  "       5    3 0x220        aio /d|e:f\n" },
	{ 5, 3, 0, "ram:1G", "pid=5 minor=3 state=0 args=ram:1G\n",
	  "       5    3    0        ram 1G\n" },
	{ 5, 3, 0, "qcow2:/a\nqcow2:/b\naio:/c",
	  "pid=5 minor=3 state=0 args=qcow2:/a\n",
	  "       5    3    0      qcow2 /a\n" },
	{ 5, 3, 0, "aio:/a\t\033[2Jb", "pid=5 minor=3 state=0 args=aio:/a??[2Jb\n",
	  "       5    3    0        aio /a??[2Jb\n" },
};

static void test_list_formats(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		const struct line *l = &lines[i];
		struct disk k;
		FILE *f;

		assert_int_equal(from_wire(&k, l->pid, l->minor, l->state, l->spec), 0);
		f = sink();
		disk_line(&k, f);
		wrote(f, l->line);
		f = sink();
		disk_row(&k, f);
		wrote(f, l->row);
	}
}

static void test_state_words(void **state)
{
	static const struct { int pid; uint32_t st; const char *word; } t[] = {
		{ 1, 0, "running" }, { 1, 0x1, "dead" }, { -1, 0x1, "dead" },
		{ 1, 0x2, "closed" }, { 1, 0x10, "pausing" }, { 1, 0x20, "paused" },
		{ 1, 0x220, "paused" }, { 1, 0x40, "closing" },
		{ 1, 0x80, "opening" }, { -1, 0, "allocated" }, { 1, 0x4000, "unknown" },
	};
	struct disk k = { .minor = -1, .pid = 3 };

	(void)state;
	assert_string_equal(disk_state(&k), "spawned");
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		k = (struct disk){ .pid = t[i].pid, .minor = 1, .state = t[i].st };
		assert_string_equal(disk_state(&k), t[i].word);
	}
}

static void test_broken_disk_is_refused(void **state)
{
	static struct msg_out o;
	struct msg m = { .hdr = &o.hdr, .body = o.body };
	struct disk k;

	(void)state;
	for (uint32_t len = 0; len < sizeof(struct tap_disk); len++) {
		msg_seal(&o, 1, 0, 1, 0, len);
		assert_int_equal(disk_parse(&k, &m), -EBADMSG);
	}
	/* a NUL inside the spec */
	msg_seal(&o, 1, 0, 1, 0, sizeof(struct tap_disk) + 1);
	assert_int_equal(disk_parse(&k, &m), -EBADMSG);
}

static void test_json_of_a_disk(void **state)
{
	struct disk k;
	json_t *j;

	(void)state;
	assert_int_equal(rundir_set("/run/x"), 0);
	assert_int_equal(from_wire(&k, 9, 4, 0, "error:op=read|aio:/a"), 0);
	k.flags = TAP_OPEN_RDONLY;
	k.img = (struct tap_img){ .bytes = 1ull << 42, .sector_size = 512,
				  .phys_size = 4096 };
	j = disk_json(&k);
	assert_int_equal(json_integer_value(json_object_get(j, "pid")), 9);
	assert_int_equal(json_integer_value(json_object_get(j, "minor")), 4);
	assert_string_equal(json_string_value(json_object_get(j, "state")), "running");
	assert_string_equal(json_string_value(json_object_get(j, "type")), "aio");
	assert_string_equal(json_string_value(json_object_get(j, "path")), "/a");
	assert_string_equal(json_string_value(json_object_get(j, "args")),
			    "error:op=read|aio:/a");
	assert_string_equal(json_string_value(json_object_get(j, "nbd")),
			    "/run/x/nbd4.sock");
	assert_string_equal(json_string_value(json_object_get(j, "ring")),
			    "/run/x/ring4.sock");
	assert_string_equal(json_string_value(json_object_get(j, "marker")),
			    "/run/x/tapdisk-4");
	assert_true(json_integer_value(json_object_get(j, "size")) == 1ll << 42);
	assert_int_equal(json_integer_value(json_object_get(j, "sector_size")), 512);
	assert_true(json_is_true(json_object_get(j, "read_only")));
	json_decref(j);

	assert_int_equal(from_wire(&k, 9, -1, 0, ""), 0);
	j = disk_json(&k);
	assert_true(json_is_null(json_object_get(j, "minor")));
	assert_true(json_is_null(json_object_get(j, "nbd")));
	assert_true(json_is_null(json_object_get(j, "type")));
	assert_true(json_is_null(json_object_get(j, "size")));
	json_decref(j);
}

static void test_json_of_what_is_below(void **state)
{
	static const struct { const char *spec, *want; } t[] = {
		{ "qcow2:/a", "null" },
		{ "qcow2:/a\n", "[]" },
		{ "qcow2:/a\nqcow2:/b", "[\"qcow2:/b\"]" },
		{ "qcow2:/a\nqcow2:/b\naio:/c", "[\"qcow2:/b\",\"aio:/c\"]" },
	};
	struct disk k;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		json_t *j;
		char *got;

		assert_int_equal(from_wire(&k, 9, 4, 0, t[i].spec), 0);
		j = disk_json(&k);
		got = json_dumps(json_object_get(j, "backing"),
				 JSON_COMPACT | JSON_ENCODE_ANY);
		assert_string_equal(got, t[i].want);
		assert_string_equal(json_string_value(json_object_get(j, "args")),
				    "qcow2:/a");
		assert_string_equal(json_string_value(json_object_get(j, "type")),
				    "qcow2");
		assert_string_equal(json_string_value(json_object_get(j, "path")),
				    "/a");
		free(got);
		json_decref(j);
	}
}

static void test_json_of_a_name_that_is_not_utf8(void **state)
{
	json_t *j = text_json("/\xff\xc3z");

	(void)state;
	assert_non_null(j);
	assert_string_equal(json_string_value(j), "/\xc3\xbf\xc3\x83z");
	json_decref(j);
}

/* What Xen's block-tap strips off in front of the minor. */
static void test_marker_of_the_default_run_directory(void **state)
{
	char buf[128];

	(void)state;
	assert_int_equal(rundir_set(RUNDIR_DEFAULT), 0);
	assert_string_equal(marker_path(12, buf, sizeof(buf)),
			    "/run/blktap-control/tapdisk/tapdisk-12");
	assert_int_equal(rundir_set("/tmp/r"), 0);
	assert_string_equal(marker_path(12, buf, sizeof(buf)), "/tmp/r/tapdisk-12");
}

static void test_error_lines_name_disk_act_and_reason(void **state)
{
	static const struct verb pause = { .name = "pause" };
	static const struct verb stats = { .name = "stats", .act = "read statistics" };
	struct call c = { .verb = &pause, .minor = 3, .pid = 9 };
	FILE *was = stderr;

	(void)state;
	stderr = sink();
	assert_int_equal(call_fail(&c, -EBUSY, "a\nb\033"), -EBUSY);
	wrote(stderr, "tap-ctl: disk 3: cannot pause: a?b?\n");
	stderr = sink();
	c.minor = -1;
	c.verb = &stats;
	call_fail(&c, -EBUSY, "x");
	wrote(stderr, "tap-ctl: tapdisk 9: cannot read statistics: x\n");
	stderr = sink();
	c.value['a'] = "aio:/\n";
	call_fail(&c, -EBUSY, "x");
	wrote(stderr, "tap-ctl: aio:/?: cannot read statistics: x\n");
	stderr = sink();
	c.quiet = true;
	assert_int_equal(call_fail(&c, -EBUSY, "x"), -EBUSY);
	wrote(stderr, "");
	stderr = sink();
	assert_int_equal(call_usage(&c, "bad '%s'", "y"), -EINVAL);
	wrote(stderr, "tap-ctl stats: bad 'y'; see 'tap-ctl stats --help'\n");
	stderr = was;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list_formats),
		cmocka_unit_test(test_state_words),
		cmocka_unit_test(test_broken_disk_is_refused),
		cmocka_unit_test(test_json_of_a_disk),
		cmocka_unit_test(test_json_of_what_is_below),
		cmocka_unit_test(test_json_of_a_name_that_is_not_utf8),
		cmocka_unit_test(test_marker_of_the_default_run_directory),
		cmocka_unit_test(test_error_lines_name_disk_act_and_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
