/* disk: order of flush and barrier, draining, pause and resume, long requests,
 * resize, errors.  The driver below is the test's: it holds every request until
 * the test lets it go, and writes down what it was given. */
#include "disk/disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "loop/loop.h"
#include "node.h"
#include "only_driver.h"

static char trace[4096];	/* what the driver saw, in order */
static struct td_req *held[256];
static unsigned nr_held;
static bool hold, fail_flush, fail_open, fail_close, can_discard;
static uint64_t image_size;
static uint64_t bytes_seen;
static unsigned max_held;

static void note(const char *s)
{
	assert_true(strlen(trace) + strlen(s) < sizeof(trace));
	strcat(trace, s);
}

static void fake_open(struct td_node *n, struct td_req *r)
{
	note("O");
	if (fail_open) {
		td_err(n, "told to fail");
		td_complete(r, -EIO);
		return;
	}
	td_set_geometry(n, image_size, 4096);
	if (!can_discard)
		td_set_caps(n, n->driver->caps & ~(uint32_t)TD_CAP_DISCARD);
	td_complete(r, 0);
}

static void fake_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	note("C");
	td_complete(r, fail_close ? -EDQUOT : 0);
}

static void fake_resize(struct td_node *n, struct td_req *r)
{
	note("Z");
	if (r->length)
		image_size = r->length;
	td_set_geometry(n, image_size, 4096);
	td_complete(r, 0);
}

static void fake_submit(struct td_node *n, struct td_req *r)
{
	static const char names[] = "rwfdze";

	(void)n;
	note((char[]){ names[r->op], r->flags & TD_REQ_FUA ? '!' : '\0', '\0' });
	bytes_seen += r->length;
	if (r->op == TD_OP_FLUSH && fail_flush) {
		td_complete(r, -EIO);
	} else if (hold) {
		assert_true(nr_held < ARRAY_SIZE(held));
		held[nr_held++] = r;
		if (nr_held > max_held)
			max_held = nr_held;
	} else {
		td_complete(r, 0);
	}
}

static const struct td_driver fake = {
	.abi = TD_DRIVER_ABI, .kind = TD_STORE, .name = "fake", .help = "a test",
	.caps = TD_CAP_WRITE | TD_CAP_FLUSH | TD_CAP_FUA | TD_CAP_RESIZE |
		TD_CAP_DISCARD,
	.open = fake_open, .submit = fake_submit, .close = fake_close,
	.resize = fake_resize,
};

ONLY_DRIVER(fake)

/* A front that counts. */
static struct loop *loop;
static struct td_env env;
static struct disk *disk;
static struct disk_front front;
static unsigned quiesced, resumed, resizes, gone;
static int answers[64], nr_answers;
static int ctl_err;
static char ctl_why[256];
static bool ctl_done;

static void quiesce(struct disk_front *f) { (void)f; quiesced++; }
static void resized(struct disk_front *f) { (void)f; resizes++; }

static void resume(struct disk_front *f)
{
	resumed++;
	assert_int_equal(disk_front_bind(f), 0);
}

static void disconnect(struct disk_front *f)
{
	gone++;
	disk_front_del(f);
}

static const struct disk_front_ops ops = {
	.name = "test", .quiesce = quiesce, .resume = resume, .resized = resized,
	.disconnect = disconnect,
};

static bool stop_hook(struct loop_hook *h)
{
	(void)h;
	loop_stop(loop);
	return true;
}

/* Let everything happen that can. */
static void settle(void)
{
	static struct loop_hook h;

	loop_hook_add(loop, LOOP_SLEEP, &h, stop_hook);
	loop_run(loop);
	loop_hook_del(&h);
}

static void on_ctl(void *arg, int err, const char *why)
{
	(void)arg;
	ctl_done = true;
	ctl_err = err;
	snprintf(ctl_why, sizeof(ctl_why), "%s", why);
}

static void on_answer(struct td_req *r, int err)
{
	answers[nr_answers++] = err;
	note("=");
	assert_int_equal(r->iovcnt, 1);		/* as it was submitted */
	free(r->iov);
	td_pool_put(front.pool, r);
}

static struct td_req *request(enum td_op op, uint64_t offset, uint64_t length,
			      unsigned flags)
{
	struct td_req *r = td_pool_get(front.pool);

	assert_non_null(r);
	r->op = op;
	r->flags = flags;
	r->offset = offset;
	r->length = length;
	r->iov = malloc(sizeof(*r->iov));
	*r->iov = (struct iovec){ (void *)64, length };	/* nobody touches it */
	r->iovcnt = 1;
	r->done = on_answer;
	disk_submit(&front, r);
	return r;
}

static void release(unsigned i, int err)
{
	struct td_req *r = held[i];

	memmove(&held[i], &held[i + 1], (--nr_held - i) * sizeof(held[0]));
	td_complete(r, err);
	settle();
}

static int setup(void **s)
{
	(void)s;
	trace[0] = '\0';
	hold = fail_flush = fail_open = fail_close = can_discard = false;
	nr_held = max_held = 0;
	quiesced = resumed = resizes = gone = 0;
	nr_answers = 0;
	image_size = 64 * MiB;
	loop = loop_new();
	env = (struct td_env){ .loop = loop, .name = "test" };
	disk = disk_new(&env);
	disk_front_add(disk, &front);
	front.ops = &ops;
	front.disk = disk;
	front.pool = td_pool_new(64, 0);
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	assert_int_equal(resumed, 1);
	trace[0] = '\0';
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	hold = fail_flush = fail_open = fail_close = false;
	if (disk_state(disk) != DISK_CLOSED) {
		disk_close(disk, on_ctl, NULL);
		settle();
	}
	assert_int_equal(gone, 1);
	td_pool_free(front.pool);
	disk_free(disk);
	loop_free(loop);
	return 0;
}

static void test_barrier_waits_flushes_writes_durably_and_holds_others(void **s)
{
	(void)s;
	hold = true;
	request(TD_OP_WRITE, 0, 4096, 0);
	request(TD_OP_WRITE, 4096, 4096, TD_REQ_BARRIER);
	request(TD_OP_READ, 0, 4096, 0);
	settle();
	assert_string_equal(trace, "w");	/* the barrier waits, the read too */
	release(0, 0);
	assert_string_equal(trace, "w=f");
	release(0, 0);
	assert_string_equal(trace, "w=fw!");
	release(0, 0);
	assert_string_equal(trace, "w=fw!r=");	/* let go, then answered */
	release(0, 0);
	assert_int_equal(nr_answers, 3);
}

static void test_two_barriers_keep_their_order(void **s)
{
	(void)s;
	hold = true;
	request(TD_OP_WRITE, 0, 512, TD_REQ_BARRIER);
	request(TD_OP_READ, 0, 512, 0);
	request(TD_OP_WRITE, 512, 0, TD_REQ_BARRIER);	/* alone: no segments */
	request(TD_OP_READ, 512, 512, 0);
	settle();
	release(0, 0);
	release(0, 0);
	assert_string_equal(trace, "fw!r=");
	release(0, 0);
	assert_string_equal(trace, "fw!r==f");
	release(0, 0);
	assert_string_equal(trace, "fw!r==fr=");
	release(0, 0);
	assert_int_equal(nr_answers, 4);
}

static void test_failed_barrier_is_answered_with_its_error(void **s)
{
	(void)s;
	fail_flush = true;
	request(TD_OP_WRITE, 0, 4096, TD_REQ_BARRIER);
	settle();
	assert_string_equal(trace, "f=");
	assert_int_equal(answers[0], -EIO);
	fail_flush = false;
	hold = true;
	request(TD_OP_WRITE, 0, 4096, TD_REQ_BARRIER);
	settle();
	release(0, 0);
	release(0, -ENOSPC);
	assert_int_equal(answers[1], -ENOSPC);
}

static void test_flush_waits_for_nobody(void **s)
{
	(void)s;
	hold = true;
	request(TD_OP_WRITE, 0, 4096, 0);
	request(TD_OP_FLUSH, 0, 0, 0);
	settle();
	assert_string_equal(trace, "wf");
	release(1, 0);
	assert_int_equal(nr_answers, 1);
	release(0, 0);
}

static void test_pause_drains_flushes_closes_and_resumes(void **s)
{
	(void)s;
	hold = true;
	ctl_done = false;
	request(TD_OP_WRITE, 0, 4096, 0);
	disk_pause(disk, on_ctl, NULL);
	settle();
	assert_int_equal(quiesced, 1);
	assert_int_equal(disk_state(disk), DISK_DRAINING);
	assert_false(ctl_done);
	release(0, 0);
	assert_string_equal(trace, "w=f");
	release(0, 0);
	assert_string_equal(trace, "w=fC");
	assert_true(ctl_done);
	assert_int_equal(disk_state(disk), DISK_PAUSED);
	assert_int_equal(disk_size(disk), 64 * MiB);
	disk_resume(disk, NULL, 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	assert_int_equal(resumed, 2);
	assert_int_equal(resizes, 0);
}

static void test_pause_whose_flush_fails_goes_on(void **s)
{
	(void)s;
	fail_flush = true;
	disk_pause(disk, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, -EIO);
	assert_int_equal(disk_state(disk), DISK_RUNNING);
	assert_int_equal(resumed, 2);
	fail_flush = false;
	request(TD_OP_WRITE, 0, 512, 0);
	settle();
	assert_int_equal(answers[0], 0);
}

/* Its owner takes an error for "it goes on". */
static void test_pause_whose_close_fails_is_a_pause(void **s)
{
	(void)s;
	fail_close = true;
	disk_pause(disk, on_ctl, NULL);
	settle();
	assert_int_equal(disk_state(disk), DISK_PAUSED);
	assert_int_equal(ctl_err, 0);
	fail_close = false;
	disk_resume(disk, NULL, 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
}

static void test_close_whose_flush_fails_closes_and_says_so(void **s)
{
	(void)s;
	fail_flush = true;
	disk_close(disk, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, -EIO);
	assert_non_null(strstr(ctl_why, "flush failed"));
	assert_int_equal(disk_state(disk), DISK_CLOSED);
}

static void test_failed_resume_stays_paused(void **s)
{
	(void)s;
	disk_pause(disk, on_ctl, NULL);
	settle();
	fail_open = true;
	disk_resume(disk, "fake:y", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, -EIO);
	assert_string_equal(ctl_why, "told to fail");
	assert_int_equal(disk_state(disk), DISK_PAUSED);
	assert_true(disk_resume_failed(disk));
	assert_string_equal(disk_spec(disk), "fake:x");
	disk_resume(disk, "none:y", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, -ENOENT);
	fail_open = false;
	image_size = 32 * MiB;
	disk_resume(disk, "fake:z", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, -EMEDIUMTYPE);
	assert_int_equal(disk_state(disk), DISK_PAUSED);
	image_size = 128 * MiB;
	disk_resume(disk, "fake:z", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	assert_int_equal(resizes, 1);
	assert_int_equal(disk_size(disk), 128 * MiB);
	assert_string_equal(disk_spec(disk), "fake:z");
}

static void test_control_refuses_what_the_state_does_not_allow(void **s)
{
	(void)s;
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	assert_int_equal(ctl_err, -EINVAL);
	assert_string_equal(ctl_why, "it is running");
	disk_resume(disk, NULL, 0, on_ctl, NULL);
	assert_int_equal(ctl_err, -EINVAL);
	hold = true;
	request(TD_OP_WRITE, 0, 512, 0);
	disk_pause(disk, on_ctl, NULL);
	ctl_err = 0;
	disk_close(disk, on_ctl, NULL);
	assert_int_equal(ctl_err, -EINVAL);
	release(0, 0);
	release(0, 0);
}

static void test_resize_grows_and_never_shrinks(void **s)
{
	(void)s;
	disk_resize(disk, MiB, on_ctl, NULL);
	assert_int_equal(ctl_err, -ERANGE);
	disk_resize(disk, 64 * MiB + 1, on_ctl, NULL);
	assert_int_equal(ctl_err, -EINVAL);
	disk_resize(disk, 65 * MiB, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	assert_int_equal(resizes, 1);
	request(TD_OP_READ, 64 * MiB, MiB, 0);
	settle();
	assert_int_equal(answers[0], 0);
}

static void test_what_leaves_the_disk_is_refused_and_reaches_nobody(void **s)
{
	(void)s;
	request(TD_OP_READ, 64 * MiB, 512, 0);
	request(TD_OP_WRITE, UINT64_MAX - 511, 1024, 0);
	request(TD_OP_READ, 0, 64 * MiB + 512, 0);
	request(TD_OP_DISCARD, 0, 4096, 0);	/* not offered by the driver */
	settle();
	for (int i = 0; i < 3; i++)
		assert_int_equal(answers[i], -EINVAL);
	assert_int_equal(answers[3], -EOPNOTSUPP);
	assert_string_equal(trace, "====");
}

static void test_long_requests_go_in_pieces_and_are_answered_once(void **s)
{
	(void)s;
	hold = true;
	bytes_seen = 0;
	request(TD_OP_READ, 0, 63 * MiB, 0);
	request(TD_OP_READ, MiB, 33 * MiB + 512, 0);
	settle();
	assert_true(max_held > 1 && max_held <= 8);
	while (nr_held)
		release(nr_held > 2 ? 1 : 0, 0);
	assert_int_equal(nr_answers, 2);
	assert_int_equal(bytes_seen, 96 * MiB + 512);
	request(TD_OP_READ, 0, 63 * MiB, 0);
	settle();
	release(1, -EIO);
	while (nr_held)
		release(0, 0);
	assert_int_equal(nr_answers, 3);
	assert_int_equal(answers[2], -EIO);
}

static void test_zeroes_are_emulated_by_writes_and_flushed(void **s)
{
	(void)s;
	bytes_seen = 0;
	request(TD_OP_ZEROES, 512, MiB, TD_REQ_FUA);
	settle();
	assert_int_equal(answers[0], 0);
	assert_string_equal(trace, "wwwwf=");
	assert_int_equal(bytes_seen, MiB);
	request(TD_OP_ZEROES, 0, MiB, TD_REQ_FAST);
	settle();
	assert_int_equal(answers[1], -EOPNOTSUPP);
}

static void test_a_durable_discard_is_flushed(void **s)
{
	(void)s;
	can_discard = true;
	disk_pause(disk, on_ctl, NULL);
	settle();
	disk_resume(disk, NULL, 0, on_ctl, NULL);
	settle();
	trace[0] = '\0';
	request(TD_OP_DISCARD, 0, 4096, TD_REQ_FUA);
	settle();
	assert_string_equal(trace, "df=");
	fail_flush = true;
	request(TD_OP_DISCARD, 0, 4096, TD_REQ_FUA);
	settle();
	assert_int_equal(answers[1], -EIO);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_barrier_waits_flushes_writes_durably_and_holds_others),
		T(test_two_barriers_keep_their_order),
		T(test_failed_barrier_is_answered_with_its_error),
		T(test_flush_waits_for_nobody),
		T(test_pause_drains_flushes_closes_and_resumes),
		T(test_pause_whose_flush_fails_goes_on),
		T(test_pause_whose_close_fails_is_a_pause),
		T(test_close_whose_flush_fails_closes_and_says_so),
		T(test_failed_resume_stays_paused),
		T(test_control_refuses_what_the_state_does_not_allow),
		T(test_resize_grows_and_never_shrinks),
		T(test_what_leaves_the_disk_is_refused_and_reaches_nobody),
		T(test_long_requests_go_in_pieces_and_are_answered_once),
		T(test_zeroes_are_emulated_by_writes_and_flushed),
		T(test_a_durable_discard_is_flushed),
	};

	return cmocka_run_group_tests_name("disk", tests, NULL, NULL);
}
