/* The filters error, delay and log over ram, and over a real file. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "drv_rig.h"
#include "loop/loop.h"

static char buf[8192];

static void finish(struct rig *g)
{
	assert_int_equal(rig_close(g), 0);
	rig_free(g);
}

static void open_spec(struct rig *g, const char *spec)
{
	rig_init(g);
	assert_int_equal(rig_open(g, spec, 0), 0);
}

static void error_fails_what_it_names_and_nothing_else(void **state)
{
	struct rig g;

	(void)state;
	open_spec(&g, "error:op=write,op=flush,errno=ENOSPC|ram:1M");
	assert_int_equal(rig_write(&g, 0, 512, buf), -ENOSPC);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), -ENOSPC);
	assert_int_equal(rig_read(&g, 0, 512, buf), 0);
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 0, 512, NULL), 0);
	finish(&g);
	open_spec(&g, "error:errno=28|ram:1M");
	assert_int_equal(rig_read(&g, 0, 512, buf), -ENOSPC);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, 512, NULL), -ENOSPC);
	finish(&g);
}

static void a_failed_write_has_not_happened(void **state)
{
	struct rig g;

	(void)state;
	open_spec(&g, "error:op=write,after=1,count=1|ram:1M");
	memset(buf, 'a', sizeof(buf));
	assert_int_equal(rig_write(&g, 0, 4096, buf), 0);
	memset(buf, 'b', sizeof(buf));
	assert_int_equal(rig_write(&g, 0, 4096, buf), -EIO);
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	assert_int_equal(buf[0], 'a');
	memset(buf, 'c', sizeof(buf));
	assert_int_equal(rig_write(&g, 0, 4096, buf), 0);	/* count=1 */
	finish(&g);
}

static unsigned failures(const char *spec, uint64_t *pattern)
{
	unsigned n = 0;
	struct rig g;

	open_spec(&g, spec);
	*pattern = 0;
	for (unsigned i = 0; i < 2000; i++) {
		bool bad = rig_read(&g, 0, 512, buf) != 0;

		n += bad;
		*pattern = *pattern * 31 + bad;
	}
	finish(&g);
	return n;
}

static void rate_is_kept_and_a_seed_repeats_itself(void **state)
{
	uint64_t a, b, c;
	unsigned n;

	(void)state;
	n = failures("error:rate=10%,seed=7|null:1M", &a);
	assert_in_range(n, 140, 260);
	failures("error:rate=10%,seed=7|null:1M", &b);
	failures("error:rate=10%,seed=8|null:1M", &c);
	assert_int_equal(a, b);
	assert_int_not_equal(a, c);
	assert_int_equal(failures("error:rate=0|null:1M", &a), 0);
	n = failures("error:rate=0.5%,seed=1|null:1M", &a);
	assert_in_range(n, 1, 30);
}

static void bad_options_are_refused_in_one_line(void **state)
{
	static const char *const bad[] = {
		"error:rate=101%|null:1M", "error:rate=x|null:1M",
		"error:errno=ENOSUCH|null:1M", "error:errno=0|null:1M",
		"error:op=reed|null:1M", "error:colour=red|null:1M",
		"error:rate|null:1M", "error:seed=-1|null:1M", "error:=|null:1M",
		"error:rate=1.|null:1M|",
		"delay:|null:1M", "delay:ms=0|null:1M", "delay:ms=60001|null:1M",
		"delay:ms=60000,us=1|null:1M", "delay:ms=1,op=x|null:1M",
		"log:level=loud|null:1M", "log:x|null:1M",
		"error:errno=EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE|null:1M",
	};
	struct rig g;

	(void)state;
	rig_init(&g);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (rig_open(&g, bad[i], 0) != -EINVAL)
			fail_msg("%s was not refused", bad[i]);
		if (!strstr(rig_why(), "|CHILD") && !strstr(rig_why(), "bad size"))
			fail_msg("%s: '%s' does not help", bad[i], rig_why());
	}
	rig_free(&g);
}

static void delays_do_not_add_up(void **state)
{
	struct iovec iov = { buf, 512 };
	uint64_t t, took, at_best = UINT64_MAX;
	struct rig g;

	(void)state;
	open_spec(&g, "delay:ms=40,us=10000,op=read|ram:1M");
	/* Neither takes longer than it should; on a busy machine, now and then. */
	for (int tries = 0; tries < 100 && at_best >= 40 * NS_PER_MS; tries++) {
		t = clock_ns();
		assert_int_equal(rig_write(&g, 0, 512, buf), 0);
		at_best = min_u64(at_best, clock_ns() - t);
	}
	assert_true(at_best < 40 * NS_PER_MS);
	at_best = UINT64_MAX;
	for (int tries = 0; tries < 20 && at_best >= 400 * NS_PER_MS; tries++) {
		struct rig_all all = { .g = &g };

		t = clock_ns();
		for (int i = 0; i < 16; i++)
			rig_all_add(&all, TD_OP_READ, 0, 0, 512, &iov, 1);
		rig_all_wait(&all);
		took = clock_ns() - t;
		assert_true(took >= 50 * NS_PER_MS);
		assert_int_equal(all.good, 16);
		at_best = min_u64(at_best, took);
	}
	assert_true(at_best < 400 * NS_PER_MS);
	finish(&g);
}

/* What was written to stderr while fn ran. */
static char *captured(void (*fn)(void))
{
	static char text[65536];
	FILE *f = tmpfile();
	int saved = dup(2);
	size_t n;

	assert_non_null(f);
	dup2(fileno(f), 2);
	fn();
	dup2(saved, 2);
	close(saved);
	rewind(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	fclose(f);
	return text;
}

static void log_two_requests(void)
{
	struct rig g;

	open_spec(&g, "log:level=info|error:op=flush|ram:1M");
	assert_int_equal(rig_io(&g, TD_OP_WRITE, TD_REQ_FUA, 4096, 512, buf), 0);
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), -EIO);
	finish(&g);
}

static void log_when_asked(void)
{
	struct rig g;

	open_spec(&g, "log:|ram:1M");
	assert_int_equal(rig_read(&g, 0, 512, buf), 0);
	assert_int_equal(log_areas_set("node"), 0);
	assert_int_equal(rig_read(&g, 8192, 512, buf), 0);
	assert_int_equal(log_areas_set("none"), 0);
	finish(&g);
}

static void log_names_operation_range_and_result(void **state)
{
	const char *text = captured(log_two_requests);

	(void)state;
	assert_non_null(strstr(text, "write 512 at 4096 fua: ok, "));
	assert_non_null(strstr(text, "flush 0 at 0: Input/output error, "));
	text = captured(log_when_asked);
	assert_null(strstr(text, "read 512 at 0"));
	assert_non_null(strstr(text, "read 512 at 8192: ok"));
}

static void filters_stack_on_a_file(void **state)
{
	const char *dir = rig_dir("/tmp");
	const char *path = rig_file(dir, "a|b,c=d", MiB);
	char spec[600];
	struct rig g;

	(void)state;
	snprintf(spec, sizeof(spec), "log:|delay:us=1|error:rate=0|file:%s", path);
	open_spec(&g, spec);
	memset(buf, 'q', sizeof(buf));
	assert_int_equal(rig_write(&g, 700, 3000, buf), 0);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(rig_read(&g, 0, 4096, buf), 0);
	assert_int_equal(buf[699], 0);
	assert_int_equal(buf[700], 'q');
	assert_int_equal(buf[3699], 'q');
	assert_int_equal(buf[3700], 0);
	assert_int_equal(rig_resize(&g, 2 * MiB), 0);
	assert_int_equal(td_tree_root(g.tree)->size, 2 * MiB);
	finish(&g);
	rig_dir_remove(dir);
}

static void ram_keeps_zeroes_and_forgets(void **state)
{
	static char zero[8192];
	struct rig g;

	(void)state;
	open_spec(&g, "ram:1M");
	memset(buf, 'q', sizeof(buf));
	assert_int_equal(rig_write(&g, 1000, 8192, buf), 0);
	assert_int_equal(rig_read(&g, 1000, 8192, buf), 0);
	assert_int_equal(buf[0] & buf[8191], 'q');
	assert_int_equal(rig_io(&g, TD_OP_ZEROES, 0, 1001, 8190, NULL), 0);
	assert_int_equal(rig_read(&g, 1000, 8192, buf), 0);
	assert_int_equal(buf[0] & buf[8191], 'q');
	assert_memory_equal(buf + 1, zero, 8190);
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, MiB, NULL), 0);
	assert_int_equal(rig_read(&g, 0, 8192, buf), 0);
	assert_memory_equal(buf, zero, 8192);
	finish(&g);
	open_spec(&g, "ram:1M");
	assert_int_equal(rig_read(&g, 0, 8192, buf), 0);
	assert_memory_equal(buf, zero, 8192);
	finish(&g);
	rig_init(&g);
	assert_true(rig_open(&g, "ram:0", 0) < 0);
	assert_true(rig_open(&g, "ram:1Z", 0) < 0);
	rig_free(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_fails_what_it_names_and_nothing_else),
		cmocka_unit_test(a_failed_write_has_not_happened),
		cmocka_unit_test(rate_is_kept_and_a_seed_repeats_itself),
		cmocka_unit_test(bad_options_are_refused_in_one_line),
		cmocka_unit_test(delays_do_not_add_up),
		cmocka_unit_test(log_names_operation_range_and_result),
		cmocka_unit_test(filters_stack_on_a_file),
		cmocka_unit_test(ram_keeps_zeroes_and_forgets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
