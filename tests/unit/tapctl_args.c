/* tap-ctl's command lines: what each row of the table takes and refuses, and
 * that the table itself is sound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rundir.h"

#include "../../ctl/tap-ctl/args.c"
#include "../../ctl/tap-ctl/image.c"
#include "../../ctl/tap-ctl/print.c"
#include "../../ctl/tap-ctl/verbs.c"

static char text[TAP_TEXT_MAX + 1];

/* The table's functions: only their addresses are wanted here. */
#define STUB(f) int f(struct call *c) { (void)c; return 0; }
STUB(run_list) STUB(run_allocate) STUB(run_spawn) STUB(run_create)
STUB(run_plain) STUB(run_info) STUB(run_resize) STUB(run_stats)
STUB(run_check) STUB(run_version) STUB(run_debug) STUB(run_shutdown)
STUB(run_major) STUB(run_xen_attach) STUB(run_xen_detach) STUB(run_xen_list)

static struct call call;
static bool help;
static char err_text[8192];

/* Parse "VERB WORD WORD" and what it makes of an image; stderr goes to
 * err_text. */
static int parse(const char *line)
{
	static char buf[8192];	/* the call points into it */
	char *argv[16], *p = buf;
	FILE *was = stderr;
	int argc = 0, err;

	snprintf(buf, sizeof(buf), "%s", line);
	while ((argv[argc] = strtok(p, " "))) {
		p = NULL;
		argc++;
	}
	call = (struct call){ .pid = -1, .minor = -1 };
	help = false;
	for (call.verb = ctl_verbs; strcmp(call.verb->name, argv[0]); call.verb++)
		;
	memset(err_text, 0, sizeof(err_text));
	stderr = fmemopen(err_text, sizeof(err_text), "w");
	err = call_parse(&call, argc, argv, &help);
	if (!err && !help)
		err = image_text(&call, text);
	fclose(stderr);
	stderr = was;
	/* One line for a failure, none for success. */
	if (err)
		assert_ptr_equal(strchr(err_text, '\n'),
				 err_text + strlen(err_text) - 1);
	else
		assert_string_equal(err_text, "");
	return err;
}

static void test_values_reach_the_call(void **state)
{
	(void)state;
	assert_int_equal(parse("pause -m 16383 -p 77 -t 5 --json"), 0);
	assert_int_equal(call.minor, 16383);
	assert_int_equal(call.pid, 77);
	assert_int_equal(call.timeout, 5);
	assert_true(call.json);
	assert_int_equal(parse("pause --minor=0 --timeout 0"), 0);
	assert_int_equal(call.minor, 0);
	assert_int_equal(call.pid, -1);
	assert_int_equal(parse("create -a aio:/x -RD -d name"), 0);
	assert_true(call.value['R'] && call.value['D']);
	assert_string_equal(call.value['a'], "aio:/x");
	assert_int_equal(parse("list -t aio -f /x"), 0);	/* not seconds */
	assert_int_equal(call.timeout, 0);
	assert_string_equal(call.value['t'], "aio");
	assert_int_equal(parse("resize -m 1 2G"), 0);
	assert_string_equal(call.operand, "2G");
	assert_int_equal(parse("resize 2G --json -m 1"), 0);	/* or behind it */
	assert_string_equal(call.operand, "2G");
	assert_true(call.json && call.minor == 1);
	assert_int_equal(parse("pause --help"), 0);		/* without -m */
	assert_true(help);
}

static void test_bad_command_lines(void **state)
{
	static const char *const bad[] = {
		"pause", "pause -m", "pause -m x", "pause -m -1", "pause -m 16384",
		"pause -m 1x", "pause -m +1", "pause -m 99999999999999999999",
		"pause -m 1 -p 0", "pause -m 1 -p 2147483648", "pause -m 1 -t 1s",
		"pause -m 1 -t 86401", "pause -m 1 extra", "pause -x",
		"pause --bogus", "attach -m 1", "attach -p 1", "open -m 1",
		"create", "create x", "resize -m 1 2 3", "check now",
		"list --rundir relative", "pause -m /x/tapdisk-1",
		"pause -m /tmp/r/tapdisk-01", "pause -m /tmp/r/tapdisk-",
	};

	(void)state;
	assert_int_equal(rundir_set("/tmp/r"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse(bad[i]) != -EINVAL)
			fail_msg("'%s' was taken", bad[i]);
}

static void test_what_is_below_follows_in_lines(void **state)
{
	char line[5000];
	int n;

	(void)state;
	assert_int_equal(parse("create -a aio:/x"), 0);
	assert_string_equal(text, "aio:/x");
	assert_int_equal(parse("open -m 1 --backing q:/b -a q:/a --backing r:/c"), 0);
	assert_string_equal(text, "q:/a\nq:/b\nr:/c");
	assert_int_equal(parse("unpause -m 1 -a q:/a --backing none"), 0);
	assert_string_equal(text, "q:/a\n");
	assert_int_equal(parse("unpause -m 1"), 0);
	assert_string_equal(text, "");
	assert_int_equal(parse("unpause -m 1 --backing q:/b"), -EINVAL);
	assert_int_equal(parse("create -a q:/a --backing none --backing q:/b"),
			 -EINVAL);
	assert_int_equal(parse("create -a q:/a --backing="), -EINVAL);
	/* A newline in a name would make it two. */
	assert_int_equal(parse("create -a q:/a\naio:/etc/shadow"), -EINVAL);
	assert_int_equal(parse("create -a q:/a --backing q:/b\nq:/c"), -EINVAL);

	/* As long as may be, and one more. */
	n = snprintf(line, sizeof(line), "create -a %03839d", 0);
	assert_int_equal(parse(line), 0);
	snprintf(line + n, sizeof(line) - (size_t)n, " --backing none");
	assert_int_equal(parse(line), 0);
	assert_int_equal(strlen(text), TAP_TEXT_MAX);
	snprintf(line + n, sizeof(line) - (size_t)n, " --backing x");
	assert_int_equal(parse(line), -ENAMETOOLONG);
	assert_non_null(strstr(err_text, "3841 bytes of names are too many"));
}

static void test_tapdisk3_options_without_support(void **state)
{
	static const char *const t[] = {
		"create -a aio:/x -r", "create -a aio:/x -e 1", "create -a aio:/x -2 y",
		"create -a aio:/x -s", "create -a aio:/x -C y", "create -a aio:/x -E",
		"create -c z -a aio:/x", "open -m 1 -a aio:/x -E", "spawn -c z",
		"unpause -m 1 -2 null", "unpause -m 1 -c y",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		assert_int_equal(parse(t[i]), -EOPNOTSUPP);
		assert_non_null(strstr(err_text, "is not supported"));
	}
}

/* A script that strips another prefix than ours hands the path back whole. */
static void test_a_marker_names_the_disk(void **state)
{
	(void)state;
	assert_int_equal(rundir_set("/tmp/r"), 0);
	assert_int_equal(parse("pause -m /tmp/r/tapdisk-31"), 0);
	assert_int_equal(call.minor, 31);
	assert_int_equal(rundir_set(RUNDIR_DEFAULT), 0);
	assert_int_equal(parse("pause -m /run/blktap-control/tapdisk/tapdisk-31"), 0);
	assert_int_equal(call.minor, 31);
	assert_int_equal(parse("pause -m /var/run/tap/tapdisk-31"), 0);
}

static void test_the_table_is_sound(void **state)
{
	(void)state;
	for (const struct verb *v = ctl_verbs; v->name; v++) {
		assert_non_null(v->args);
		assert_non_null(v->help);
		assert_non_null(v->run);
		for (const struct verb *w = ctl_verbs; w != v; w++)
			assert_string_not_equal(w->name, v->name);
		for (const struct opt *o = v->opts; o->id; o++) {
			assert_true(o->id < CTL_OPT_NR);
			for (const struct opt *q = v->opts; q != o; q++)
				assert_int_not_equal(q->id, o->id);
		}
		for (const char *n = v->need; n && *n; n++) {
			char opt[3] = { '-', *n, 0 };

			/* it takes a value, and the usage line shows it */
			assert_non_null(find_opt(v->opts, *n)->arg);
			assert_non_null(strstr(v->args, opt));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_reach_the_call),
		cmocka_unit_test(test_bad_command_lines),
		cmocka_unit_test(test_what_is_below_follows_in_lines),
		cmocka_unit_test(test_tapdisk3_options_without_support),
		cmocka_unit_test(test_a_marker_names_the_disk),
		cmocka_unit_test(test_the_table_is_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
