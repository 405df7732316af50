/* Space that was given back and is used again shows none of its old bytes at its new
 * place, whatever a power cut leaves: on a store in memory, at every moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "image_rig.h"
#include "power_cut.h"

#define OLD 0xAA		/* what is discarded; nothing else has such bytes */
#define NEW_AT (8 * MiB)	/* written later: more than was discarded, as space that */
#define NEW_END (16 * MiB)	/* is at hand is used up first */

static const struct {
	const char *format, *options;
	uint64_t cluster;
} kinds[] = {
	{ "qcow2", "", 64 * KiB },
	{ "qcow", "", 4 * KiB },
	{ "vmdk", "", 64 * KiB },
};

static struct rig g;
static struct mem_store m;
static uint8_t buf[MiB];
static char path[4096], spec[32];

static void flush(void)
{
	assert_int_equal(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL), 0);
}

/* A record of small writes into space that was discarded before it began; their tables
 * are there already: nothing but the space has to come before what refers to it.
 * start: the file when it begins. */
static void record(size_t kind, struct mem_image *file, struct mem_image *start)
{
	memset(buf, OLD, sizeof(buf));
	for (uint64_t at = 0; at < 4 * MiB; at += sizeof(buf))
		assert_int_equal(rig_write(&g, at, sizeof(buf), buf), 0);
	memset(buf, 0x55, sizeof(buf));
	for (uint64_t at = NEW_AT; at < NEW_END; at += 2 * MiB)
		assert_int_equal(rig_write(&g, at, 512, buf), 0);
	flush();
	assert_int_equal(rig_io(&g, TD_OP_DISCARD, 0, 0, 4 * MiB, NULL), 0);
	mem_image_copy(start, file);
	m.record = true;
	flush();
	for (uint64_t at = NEW_AT; at < NEW_END; at += kinds[kind].cluster)
		assert_int_equal(rig_write(&g, at, 512, buf), 0);
	flush();
	m.record = false;
}

/* Clusters that show bytes of elsewhere. */
static unsigned stale(size_t kind)
{
	uint64_t cluster = kinds[kind].cluster;
	unsigned n = 0;

	assert_int_equal(rig_open(&g, spec, TD_NODE_RDONLY), 0);
	for (uint64_t at = NEW_AT; at < NEW_END; at += cluster) {
		assert_int_equal(rig_read(&g, at, cluster, buf), 0);
		n += memchr(buf, OLD, cluster) != NULL;
	}
	assert_int_equal(rig_close(&g), 0);
	return n;
}

static void cut_anywhere(size_t kind)
{
	struct mem_image *file, start[MEM_FILES] = { { 0 } };
	struct power_cut cut;
	unsigned cuts = 0, bad = 0;
	uint64_t end;

	assert_int_equal(image_make(kinds[kind].format, path, 64 * MiB, NULL,
				    kinds[kind].options), 0);
	file = image_in_memory(&g, &m);
	mem_image_load(file, path);
	m.at_once = true;
	snprintf(spec, sizeof(spec), "%s:a", kinds[kind].format);
	assert_int_equal(rig_open(&g, spec, 0), 0);
	record(kind, file, start);
	end = m.clock;
	assert_int_equal(rig_close(&g), 0);
	power_cut_init(&cut, &m, start);
	for (uint64_t t = m.ops[0].begin + 1; t <= end; t++) {
		/* The writes come one by one: each looks like the one before. */
		if (t % 128 && t + 32 < end)
			continue;
		power_cut_go(&cut, t);
		for (unsigned how = 0; how < CUT_HOWS; how++) {
			struct mem_image files[MEM_FILES] = { { 0 } };
			unsigned n;

			power_cut_build(&cut, how, rig_random(&group.seed), files);
			mem_image_free(file);
			*file = files[0];
			cuts++;
			n = stale(kind);
			if (n && !bad++)
				print_error("%s, cut at %llu, %s: %u clusters\n",
					    kinds[kind].format, (unsigned long long)t,
					    power_cut_name[how], n);
		}
	}
	power_cut_free(&cut);
	mem_image_free(&start[0]);
	image_memory_free(&g, &m);
	if (bad)
		fail_msg("%s: %u of %u cuts show what was discarded elsewhere",
			 kinds[kind].format, bad, cuts);
}

static void old_bytes_of_qcow2_are_gone(void **state)
{
	(void)state;
	cut_anywhere(0);
}

static void old_bytes_of_qcow_are_gone(void **state)
{
	(void)state;
	cut_anywhere(1);
}

static void old_bytes_of_vmdk_are_gone(void **state)
{
	(void)state;
	cut_anywhere(2);
}

static int begin(void **state)
{
	int err = rig_group_begin(state);

	snprintf(path, sizeof(path), "%s/a", group.dir);
	return err;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(old_bytes_of_qcow2_are_gone),
		cmocka_unit_test(old_bytes_of_qcow_are_gone),
		cmocka_unit_test(old_bytes_of_vmdk_are_gone),
	};

	return cmocka_run_group_tests(tests, begin, rig_group_end);
}
