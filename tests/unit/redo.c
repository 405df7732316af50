/* The redo log of an image: what the file lacks is taken over from it, once; from one
 * that is damaged, of another image, of one that others have changed, or of a disk whose
 * flush has failed nothing is, and neither it nor the image is changed.  (What it must
 * have in it at any moment is tests/crash/kills.sh's.)
 *
 * A kill is a copy: of the image and of the log, while the disk is still open. */
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

#include "base/bytes.h"
#include "base/clock.h"
#include "drv_rig.h"
#include "redo_area.h"

#define WRITES 40u

static const char *dir;
static char image[300], spec[310], copy[300], copy_spec[310], before[300];
static unsigned char *left;		/* by the dead */
static unsigned char area[REDO_AREA_MIN] __attribute__((aligned(4096)));
static struct td_redo redo = { .area = area, .bytes = sizeof(area) };
static char buf[64 * KiB], got[64 * KiB];

static void __attribute__((format(printf, 1, 2))) run(const char *fmt, ...)
{
	char cmd[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	assert_int_equal(system(cmd), 0);
}

static struct redo_area *head(void)
{
	return (struct redo_area *)area;
}

static uint64_t place(unsigned i)
{
	return i * 7ull * 64 * KiB % (16 * MiB);
}

/* Random writes, and then a kill. */
static void live_and_die(void)
{
	struct rig g;

	rig_init(&g);
	g.env.redo = &redo;
	redo.recover = false;
	assert_int_equal(redo_area_prepare(&redo), 0);
	assert_int_equal(rig_open(&g, spec, TD_NODE_NO_DIRECT), 0);
	for (unsigned i = 0; i < WRITES; i++) {
		memset(buf, 1 + (int)i, sizeof(buf));
		assert_int_equal(rig_write(&g, place(i), sizeof(buf), buf), 0);
	}
	assert_true(head()->tail > head()->head);
	run("cp --sparse=always %s %s", image, copy);
	memcpy(left, area, sizeof(area));
	assert_int_equal(rig_close(&g), 0);
	assert_true(head()->tail == head()->head);
	assert_int_equal(head()->writing, 0);
	rig_free(&g);
}

/* The log that was left, as if it were the copy's. */
static void take_area(void)
{
	struct stat st;

	memcpy(area, left, sizeof(area));
	assert_int_equal(stat(copy, &st), 0);
	head()->dev = st.st_dev;
	head()->ino = st.st_ino;
}

static int open_copy(struct rig *g, unsigned flags)
{
	int err;

	rig_init(g);
	g->env.redo = &redo;
	redo.recover = true;
	err = redo_area_prepare(&redo);
	if (!err)
		err = rig_open(g, copy_spec, flags | TD_NODE_NO_DIRECT);
	return err;
}

static uint64_t copy_changed(void)
{
	struct stat st;

	assert_int_equal(stat(copy, &st), 0);
	return (uint64_t)st.st_ctim.tv_sec * NS_PER_S + (uint64_t)st.st_ctim.tv_nsec;
}

/* It must not open, and nothing has changed. */
static void refused(int want)
{
	static unsigned char was[sizeof(area)];
	struct rig g;
	uint64_t ns;

	memcpy(was, area, sizeof(area));
	run("cp --sparse=always %s %s", copy, before);
	ns = copy_changed();
	assert_int_equal(open_copy(&g, 0), want);
	rig_free(&g);
	assert_true(copy_changed() == ns);
	assert_memory_equal(was, area, sizeof(area));
	run("cmp %s %s", copy, before);
}

static void read_all(struct rig *g)
{
	for (unsigned i = 0; i < WRITES; i++) {
		memset(buf, 1 + (int)i, sizeof(buf));
		assert_int_equal(rig_read(g, place(i), sizeof(got), got), 0);
		assert_memory_equal(buf, got, sizeof(got));
	}
}

static void what_was_answered_is_there(void **state)
{
	struct rig g;

	(void)state;
	live_and_die();
	take_area();
	assert_int_equal(open_copy(&g, 0), 0);
	assert_true(head()->head == head()->tail);
	read_all(&g);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	run("qemu-img check -q %s >%s 2>&1 || [ $? = 3 ]", copy, before);
	/* Again: there is nothing left to do. */
	assert_int_equal(open_copy(&g, 0), 0);
	read_all(&g);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

static void who_only_reads_leaves_it(void **state)
{
	struct rig g;

	(void)state;
	live_and_die();
	take_area();
	assert_int_equal(open_copy(&g, TD_NODE_RDONLY), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	assert_true(head()->tail > head()->head);
	assert_int_equal(open_copy(&g, 0), 0);
	read_all(&g);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

static void a_damaged_one_is_refused(void **state)
{
	uint64_t random = rig_seed(), len;

	(void)state;
	live_and_die();
	for (unsigned i = 0; i < 40; i++) {
		take_area();
		len = head()->tail;
		area[REDO_AREA_HEAD + rig_random(&random) % len] ^=
			(unsigned char)(1u << rig_random(&random) % 8);
		refused(-EBADMSG);
	}
	take_area();
	head()->tail += 8;
	refused(-EBADMSG);
	take_area();
	head()->tail = head()->head + 2 * sizeof(area);
	refused(-EBADMSG);
	take_area();
	head()->head += 8;
	refused(-EBADMSG);
	take_area();
	head()->epoch++;
	refused(-EBADMSG);
	take_area();
	head()->magic ^= 1;
	refused(-EBADMSG);
}

static void one_of_another_image_is_refused(void **state)
{
	(void)state;
	live_and_die();
	memcpy(area, left, sizeof(area));
	refused(-ESTALE);
}

/* No lock has kept others off: all that tells of them is when the copy was changed. */
static void one_that_others_have_changed_is_refused(void **state)
{
	struct rig g;
	uint64_t ns;

	(void)state;
	live_and_die();
	redo.unlocked = true;
	take_area();
	ns = copy_changed();
	assert_true(head()->wrote_ns > ns - 60 * NS_PER_S && head()->wrote_ns < ns);
	head()->writing = 0;
	head()->wrote_ns = ns - 50 * NS_PER_MS;
	refused(-ESTALE);
	refused(-ESTALE);
	head()->wrote_ns = 0;
	refused(-ESTALE);
	/* Of one that was under way nobody knows when exactly it began. */
	head()->wrote_ns = ns - 2 * NS_PER_S;
	head()->writing = 1;
	refused(-ESTALE);
	head()->wrote_ns = ns - 50 * NS_PER_MS;
	assert_int_equal(open_copy(&g, 0), 0);
	assert_true(head()->wrote_ns > ns);
	assert_int_equal(head()->writing, 0);
	read_all(&g);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	/* With nothing in it there is nothing to be afraid of. */
	head()->wrote_ns = 0;
	assert_int_equal(open_copy(&g, 0), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	take_area();
	head()->wrote_ns = copy_changed();
	head()->writing = 0;
	assert_int_equal(open_copy(&g, 0), 0);
	read_all(&g);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	redo.unlocked = false;
}

static void it_is_not_trusted_after_a_failed_flush(void **state)
{
	struct rig g;

	(void)state;
	live_and_die();
	take_area();
	redo_sync_failed(&(struct td_env){ .redo = &redo });
	refused(-EIO);
	/* With nothing in it the disk may be read, but no flush is believed. */
	head()->head = head()->tail;
	assert_int_equal(open_copy(&g, 0), 0);
	assert_true(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL) < 0);
	assert_int_equal(rig_read(&g, 0, sizeof(got), got), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
}

static void without_room_nothing_is_written(void **state)
{
	struct rig g;

	(void)state;
	live_and_die();
	take_area();
	redo.bytes = REDO_AREA_HEAD;
	refused(-ENOSPC);
	assert_int_equal(open_copy(&g, TD_NODE_RDONLY), 0);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	redo.bytes = sizeof(area);
}

/* Nobody opens an image for writing that is marked: what was answered before has to be
 * in it by then. */
static void damage_is_marked_when_it_is_empty(void **state)
{
	unsigned char entry[8] = { 0x80, 0, 0, 0, 0, 3, 0, 0 };	/* of the L1 table */
	unsigned char incompat[8] = { 0 };
	uint64_t end = clock_ns() + 60 * NS_PER_S;
	struct rig g;
	int fd;

	(void)state;
	run("qemu-io -f qcow2 -c 'write -q 0 64k' %s", image);
	fd = open(image, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, entry, 8, 0x40000 + 8), 8);
	rig_init(&g);
	g.env.redo = &redo;
	redo.recover = false;
	assert_int_equal(redo_area_prepare(&redo), 0);
	assert_int_equal(rig_open(&g, spec, TD_NODE_NO_DIRECT), 0);
	assert_int_equal(rig_write(&g, 1 * MiB, sizeof(buf), buf), 0);
	assert_true(head()->tail > head()->head);
	assert_int_equal(rig_write(&g, 64 * KiB, 512, buf), -EIO);
	while (!(incompat[7] & 2) && clock_ns() < end) {
		assert_int_equal(rig_read(&g, 0, 512, got), 0);
		assert_int_equal(pread(fd, incompat, 8, 72), 8);
		if (incompat[7] & 2)
			assert_true(head()->tail == head()->head);
	}
	assert_true(incompat[7] & 2);
	assert_int_equal(rig_close(&g), 0);
	rig_free(&g);
	close(fd);
}

static int start(void **state)
{
	(void)state;
	dir = rig_dir(getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	snprintf(image, sizeof(image), "%s/image", dir);
	snprintf(copy, sizeof(copy), "%s/copy", dir);
	snprintf(before, sizeof(before), "%s/before", dir);
	snprintf(spec, sizeof(spec), "qcow2:%s", image);
	snprintf(copy_spec, sizeof(copy_spec), "qcow2:%s", copy);
	left = malloc(sizeof(area));
	return left ? 0 : -1;
}

static int stop(void **state)
{
	(void)state;
	rig_dir_remove(dir);
	free(left);
	return 0;
}

/* A fresh image each time. */
static int fresh(void **state)
{
	(void)state;
	run("qemu-img create -q -f qcow2 %s 16M", image);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_was_answered_is_there, fresh),
		cmocka_unit_test_setup(who_only_reads_leaves_it, fresh),
		cmocka_unit_test_setup(a_damaged_one_is_refused, fresh),
		cmocka_unit_test_setup(one_of_another_image_is_refused, fresh),
		cmocka_unit_test_setup(one_that_others_have_changed_is_refused, fresh),
		cmocka_unit_test_setup(it_is_not_trusted_after_a_failed_flush, fresh),
		cmocka_unit_test_setup(damage_is_marked_when_it_is_empty, fresh),
		cmocka_unit_test_setup(without_room_nothing_is_written, fresh),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
