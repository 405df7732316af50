/* The I/O queue: batches, refusals, a full queue, both ways of reaping.
 * Includes the source to choose between the two ways. */
#include "io/aio.c"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "drv_rig.h"

static char mem[64 * 4096] __attribute__((aligned(4096)));

struct fixture {
	struct loop *loop;
	struct io_queue *q;
	const char *dir;
	int fd;
	unsigned left;
};

struct one {
	struct io_op op;
	struct iovec iov;
	struct fixture *f;
	int64_t res;
	unsigned calls;
};

static void one_done(struct io_op *op, int64_t res)
{
	struct one *o = container_of(op, struct one, op);

	assert_int_equal(op->res, res);
	o->res = res;
	o->calls++;
	assert_true(o->f->left > 0);
	if (!--o->f->left)
		loop_stop(o->f->loop);
}

static void set_up(struct fixture *f, unsigned depth, bool ring, bool direct)
{
	*f = (struct fixture){ .dir = rig_dir("/tmp") };
	f->loop = loop_new();
	assert_non_null(f->loop);
	assert_int_equal(io_queue_new(f->loop, depth, &f->q), 0);
	assert_true(f->q->ring || RUNNING_ON_VALGRIND);
	if (!ring)
		f->q->ring = NULL;
	f->fd = open(rig_file(f->dir, "f", MiB),
		     O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
	assert_true(f->fd >= 0);
}

static void tear_down(struct fixture *f)
{
	close(f->fd);
	io_queue_free(f->q);
	loop_free(f->loop);
	rig_dir_remove(f->dir);
}

static void put_at(struct fixture *f, struct one *o, unsigned i, bool writes, int fd,
		   uint64_t at)
{
	*o = (struct one){ .f = f };
	o->iov = (struct iovec){ mem + (i % 64) * 4096, 4096 };
	f->left++;
	if (writes)
		io_writev(f->q, &o->op, fd, &o->iov, 1, at, 0, one_done);
	else
		io_readv(f->q, &o->op, fd, &o->iov, 1, at, one_done);
}

/* None follows another in the file. */
static void put(struct fixture *f, struct one *o, unsigned i, bool writes, int fd)
{
	put_at(f, o, i, writes, fd, i * 7 % 256 * 4096);
}

static void a_pass_in_few_io_submits(void **state)
{
	static struct one ops[64];
	struct fixture f;

	(void)state;
	for (int ring = 0; ring < 2; ring++) {
		set_up(&f, 64, ring, true);
		for (unsigned i = 0; i < 64; i++) {
			memset(mem + i * 4096, (int)i + 1, 4096);
			put(&f, &ops[i], i, true, f.fd);
		}
		loop_run(f.loop);
		/* 1, 3, 6, 12, 24 and the rest, if the disk is not that fast. */
		assert_in_range(io_stats(f.q)->submits, 1, 6);
		assert_int_equal(io_stats(f.q)->ops, 64);
		for (unsigned i = 0; i < 64; i++)
			assert_true(ops[i].res == 4096 && ops[i].calls == 1);
		memset(mem, 0, sizeof(mem));
		for (unsigned i = 0; i < 64; i++)
			put(&f, &ops[i], i, false, f.fd);
		loop_run(f.loop);
		for (unsigned i = 0; i < 64; i++)
			assert_true(mem[i * 4096] == (char)(i + 1) &&
				    mem[i * 4096 + 4095] == (char)(i + 1));
		assert_in_range(io_stats(f.q)->submits, 2, 12);
		tear_down(&f);
	}
}

/* The page cache completes inside io_submit(2): found out with the first
 * operation, remembered for the next pass, and only while it is so. */
static void one_io_submit_where_it_does_the_work(void **state)
{
	static struct one ops[64];
	struct fixture f;

	(void)state;
	set_up(&f, 64, true, false);
	if (f.q->ring) {
		for (unsigned pass = 1; pass <= 2; pass++) {
			for (unsigned i = 0; i < 64; i++)
				put(&f, &ops[i], i, true, f.fd);
			loop_run(f.loop);
			assert_int_equal(io_stats(f.q)->submits, pass + 1);
			assert_true(f.q->immediate);
		}
		/* The same operation again, as it comes out of a pool: what the
		 * ring says of its last life does not count. */
		assert_true(completed_since(f.q, f.q->ring->tail - 1,
					    &ops[63].op));
		assert_false(completed_since(f.q, f.q->ring->tail,
					     &ops[63].op));
	}
	tear_down(&f);
}

/* How many came since it was last asked.  The kernel shows an end before it signals
 * it: those that are due are waited for. */
static uint64_t signals(struct fixture *f, uint64_t due)
{
	uint64_t n, all = 0;

	for (unsigned i = 0; i < 10000; i++) {
		if (read(f->q->wake.fd, &n, sizeof(n)) == sizeof(n))
			all += n;
		if (all >= due)
			break;
		usleep(1000);
	}
	return all;
}

/* ... and once that has been so for long, without the eventfd; but a flush is
 * never done inside io_submit(2). */
static void not_signalled_where_it_does_the_work(void **state)
{
	static struct one ops[64], sync;
	struct fixture f;

	(void)state;
	set_up(&f, 64, true, false);
	for (unsigned n = 0; f.q->ring && n <= TRUST_AFTER; n += 64) {
		bool trusted = n == TRUST_AFTER;
		uint64_t due = trusted ? 1 : 65;

		for (unsigned i = 0; i < 64; i++)
			put(&f, &ops[i], i, true, f.fd);
		sync = (struct one){ .f = &f };
		f.left++;
		io_datasync(f.q, &sync.op, f.fd, one_done);
		loop_run(f.loop);
		for (unsigned i = 0; i < 64; i++) {
			assert_int_equal(ops[i].res, 4096);
			assert_int_equal(ops[i].op.unsignalled, trusted);
		}
		assert_false(sync.op.unsignalled);
		assert_int_equal(f.q->unsignalled, 0);
		assert_int_equal(signals(&f, due), due);
	}
	tear_down(&f);
}

/* Trusted wrongly: the disk is at work when io_submit(2) returns. */
static void an_unsignalled_end_is_found(void **state)
{
	static struct one ops[64];
	struct fixture f;

	(void)state;
	set_up(&f, 64, true, true);
	for (unsigned pass = 0; f.q->ring && pass < 8; pass++) {
		f.q->row = TRUST_AFTER;
		f.q->immediate = true;	/* in one call, all of them */
		for (unsigned i = 0; i < 64; i++)
			put(&f, &ops[i], i, true, f.fd);
		alarm(60);	/* it would sleep for ever */
		loop_run(f.loop);
		alarm(0);
		for (unsigned i = 0; i < 64; i++)
			assert_true(ops[i].res == 4096 && ops[i].calls == 1);
		assert_int_equal(f.q->unsignalled, 0);
	}
	tear_down(&f);
}

static void what_is_refused_fails_alone(void **state)
{
	struct one ops[6];
	struct fixture f;

	(void)state;
	for (int ring = 0; ring < 2; ring++) {
		set_up(&f, 8, ring, false);
		for (unsigned i = 0; i < 6; i++)
			put(&f, &ops[i], i, true, i == 0 || i == 3 ? -1 : f.fd);
		loop_run(f.loop);
		for (unsigned i = 0; i < 6; i++)
			assert_int_equal(ops[i].res,
					 i == 0 || i == 3 ? -EBADF : 4096);
		/* Flags that no kernel knows. */
		f.left = 1;
		io_writev(f.q, &ops[0].op, f.fd, &ops[0].iov, 1, 0, 1 << 30,
			  one_done);
		loop_run(f.loop);
		assert_int_equal(ops[0].res, -EOPNOTSUPP);
		tear_down(&f);
	}
}

/* Not where valgrind looks at what the kernel was given after it has taken it. */
#define JOINED(n) (RUNNING_ON_VALGRIND ? 0u : (n))

/* 64 pages in a row: two operations of 128 KiB. */
static void neighbours_are_joined(void **state)
{
	static struct one ops[64];
	struct fixture f;

	(void)state;
	for (int ring = 0; ring < 2; ring++) {
		set_up(&f, 64, ring, true);
		for (unsigned i = 0; i < 64; i++) {
			memset(mem + i * 4096, (int)i + 1, 4096);
			put_at(&f, &ops[i], i, true, f.fd, i * 4096);
		}
		loop_run(f.loop);
		assert_int_equal(io_stats(f.q)->joined, JOINED(62));
		assert_int_equal(io_stats(f.q)->ops, 64);
		memset(mem, 0, sizeof(mem));
		for (unsigned i = 0; i < 64; i++)
			put_at(&f, &ops[i], i, false, f.fd, i * 4096);
		loop_run(f.loop);
		assert_int_equal(io_stats(f.q)->joined, JOINED(124));
		for (unsigned i = 0; i < 64; i++) {
			assert_true(ops[i].res == 4096 && ops[i].calls == 1);
			assert_true(mem[i * 4096] == (char)(i + 1) &&
				    mem[i * 4096 + 4095] == (char)(i + 1));
		}
		tear_down(&f);
	}
}

/* Vectors of any number, in the order of the file. */
static void vectors_are_joined(void **state)
{
	static const unsigned cut[] = { 1, 3, 8, 2 };	/* in pieces */
	struct one ops[4];
	struct iovec iov[4][8];
	struct fixture f;

	(void)state;
	set_up(&f, 8, true, true);
	for (unsigned i = 0; i < sizeof(mem); i += 512)
		memset(mem + i, (int)(i / 512) + 1, 512);
	assert_int_equal(pwrite(f.fd, mem, 32 * 512, 4096), 32 * 512);
	memset(mem, 0, sizeof(mem));
	for (unsigned i = 0, from = 0; i < 4; i++) {
		for (unsigned k = 0; k < cut[i]; k++)	/* scattered */
			iov[i][k] = (struct iovec){ mem + (from + k) * 1024, 512 };
		ops[i] = (struct one){ .f = &f };
		f.left++;
		io_readv(f.q, &ops[i].op, f.fd, iov[i], cut[i], 4096 + from * 512,
			 one_done);
		from += cut[i];
	}
	loop_run(f.loop);
	assert_int_equal(io_stats(f.q)->joined, JOINED(3));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(ops[i].res, cut[i] * 512);
	for (unsigned k = 0; k < 14; k++)
		assert_true(mem[k * 1024] == (char)(k + 1) && !mem[k * 1024 + 512]);
	tear_down(&f);
}

static void strangers_are_not_joined(void **state)
{
	struct one ops[9];
	struct fixture f;
	int fd;

	(void)state;
	set_up(&f, 8, true, true);
	fd = dup(f.fd);
	put_at(&f, &ops[0], 0, true, f.fd, 0);
	put_at(&f, &ops[1], 1, false, f.fd, 4096);	/* reads */
	put_at(&f, &ops[2], 2, false, f.fd, 3 * 4096);	/* a gap */
	put_at(&f, &ops[3], 3, false, fd, 4 * 4096);	/* elsewhere */
	ops[4] = (struct one){ .f = &f, .iov = { mem, 64 << 10 } };
	io_readv(f.q, &ops[4].op, fd, &ops[4].iov, 1, 5 * 4096, one_done);
	put_at(&f, &ops[5], 5, false, fd, 21 * 4096);	/* large, and after it */
	put_at(&f, &ops[6], 6, true, fd, 22 * 4096);
	for (unsigned i = 7; i < 9; i++) {		/* reach the disk */
		ops[i] = (struct one){ .f = &f, .iov = { mem, 4096 } };
		io_writev(f.q, &ops[i].op, fd, &ops[i].iov, 1, (16 + i) * 4096,
			  RWF_DSYNC, one_done);
	}
	f.left += 3;
	loop_run(f.loop);
	assert_int_equal(io_stats(f.q)->joined, 0);
	for (unsigned i = 0; i < 9; i++)
		assert_int_equal(ops[i].res, i == 4 ? 64 << 10 : 4096);
	close(fd);
	tear_down(&f);
}

/* The end of the file; what the kernel finds out at once, and what it finds later:
 * each is told of its own. */
static void joined_and_failed_each_by_itself(void **state)
{
	char *none = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *const bad[] = { (void *)-4096l, none };
	static struct one ops[16];
	struct fixture f;

	(void)state;
	for (int ring = 0; ring < 2; ring++) {
		set_up(&f, 8, ring, true);
		for (unsigned i = 0; i < 16; i++)
			put_at(&f, &ops[i], i, false, f.fd, MiB - 10 * 4096 + i * 4096);
		loop_run(f.loop);
		for (unsigned i = 0; i < 16; i++) {
			assert_int_equal(ops[i].res, i < 10 ? 4096 : 0);
			assert_int_equal(ops[i].calls, 1);
		}
		assert_in_range(io_stats(f.q)->joined, JOINED(1), 15);
		for (unsigned k = 0; k < 2 && !RUNNING_ON_VALGRIND; k++) {
			for (unsigned i = 0; i < 16; i++) {
				put_at(&f, &ops[i], i, i & 8, f.fd, i * 4096);
				if (i % 8 == 5)
					ops[i].op.cb.u.c.buf = bad[k];
			}
			loop_run(f.loop);
			for (unsigned i = 0; i < 16; i++) {
				assert_int_equal(ops[i].res,
						 i % 8 == 5 ? -EFAULT : 4096);
				assert_int_equal(ops[i].calls, 1);
			}
		}
		tear_down(&f);
	}
	munmap(none, 4096);
}

/* A limit within a page ends what is joined early: who is before it has written, who is
 * cut has written a part, the others nothing. */
static void joined_and_out_of_space_each_by_itself(void **state)
{
	const uint64_t end = 10 * 4096 + 512;
	static struct one ops[16];
	struct rlimit was, less;
	struct fixture f;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	less = (struct rlimit){ end, was.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	for (int ring = 0; ring < 2; ring++) {
		set_up(&f, 8, ring, true);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
		for (unsigned i = 0; i < 16; i++)
			put_at(&f, &ops[i], i, true, f.fd, i * 4096);
		loop_run(f.loop);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
		for (unsigned i = 0; i < 16; i++) {
			assert_int_equal(ops[i].res, i < 10 ? 4096 : i > 10 ? -EFBIG :
						     512);
			assert_int_equal(ops[i].calls, 1);
		}
		assert_in_range(io_stats(f.q)->joined, JOINED(1), 15);
		tear_down(&f);
	}
	signal(SIGXFSZ, SIG_DFL);
}

static void more_than_fits_waits(void **state)
{
	static const unsigned depths[] = { IO_DEPTH_MIN, 100, IO_DEPTH_MAX };
	static struct one ops[1000];
	struct fixture f;

	(void)state;
	for (unsigned k = 0; k < 6; k++) {
		unsigned depth = depths[k / 2];

		set_up(&f, depth, k % 2, true);
		assert_int_equal(io_queue_depth(f.q), depth);
		for (unsigned i = 0; i < 1000; i++)
			put(&f, &ops[i], i, i & 1, f.fd);
		loop_run(f.loop);
		for (unsigned i = 0; i < 1000; i++)
			assert_true(ops[i].res == 4096 && ops[i].calls == 1);
		assert_int_equal(io_stats(f.q)->waited, 1000 - depth);
		assert_int_equal(io_stats(f.q)->ops, 1000);
		tear_down(&f);
	}
}

static void datasync_and_dsync_complete(void **state)
{
	struct one o;
	struct fixture f;

	(void)state;
	set_up(&f, 8, true, true);
	o = (struct one){ .f = &f, .iov = { mem, 4096 } };
	f.left = 1;
	io_writev(f.q, &o.op, f.fd, &o.iov, 1, 0, RWF_DSYNC, one_done);
	loop_run(f.loop);
	assert_int_equal(o.res, 4096);
	f.left = 1;
	io_datasync(f.q, &o.op, f.fd, one_done);
	loop_run(f.loop);
	assert_int_equal(o.res, 0);
	tear_down(&f);
}

/* Ops that each callback queues again: the ring wraps many times. */
static unsigned rounds;

static void again_done(struct io_op *op, int64_t res)
{
	struct one *o = container_of(op, struct one, op);

	assert_int_equal(res, 4096);
	if (++rounds < 20000) {
		io_readv(o->f->q, op, o->f->fd, &o->iov, 1,
			 rounds * 7 % 256 * 4096, again_done);
		return;
	}
	if (!--o->f->left)
		loop_stop(o->f->loop);
}

static void callbacks_queue_more(void **state)
{
	struct one ops[8];
	struct fixture f;

	(void)state;
	for (int ring = 0; ring < 2; ring++) {
		set_up(&f, 8, ring, false);
		rounds = 0;
		f.left = 8;
		for (unsigned i = 0; i < 8; i++) {
			ops[i] = (struct one){ .f = &f,
					       .iov = { mem + i * 4096, 4096 } };
			io_readv(f.q, &ops[i].op, f.fd, &ops[i].iov, 1, 0,
				 again_done);
		}
		loop_run(f.loop);
		assert_int_equal(rounds, 20007);
		tear_down(&f);
	}
}

static void a_disk_takes_a_share_of_what_is_left(void **state)
{
	uint64_t used = 0;
	unsigned disks = 0;

	(void)state;
	assert_int_equal(io_depth_share(0, 65536), IO_DEPTH_MAX);
	assert_int_equal(io_depth_share(65536, 65536), IO_DEPTH_MIN);
	assert_int_equal(io_depth_share(70000, 65536), IO_DEPTH_MIN);
	assert_int_equal(io_depth_share(0, UINT64_MAX), IO_DEPTH_MAX);
	while (used + io_depth_share(used, 65536) <= 65536) {
		used += io_depth_share(used, 65536);
		disks++;
	}
	assert_true(disks >= 300);	/* 256 each would be 256 disks */
	assert_in_range(io_depth_fair(), IO_DEPTH_MIN, IO_DEPTH_MAX);
}

struct late {
	struct loop_hook hook;
	struct loop_timer limit;
	struct fixture *f;
	struct one *op;
	bool queued, too_late;
};

static bool queue_late(struct loop_hook *h)
{
	struct late *l = container_of(h, struct late, hook);

	if (!l->queued)
		put(l->f, l->op, 0, false, l->f->fd);
	l->queued = true;
	return false;		/* nothing that the hook itself waits for */
}

static void limit_reached(struct loop_timer *t)
{
	struct late *l = container_of(t, struct late, limit);

	l->too_late = true;
	loop_stop(l->f->loop);
}

/* As a server does whose answer has made room for the next request. */
static void what_is_queued_while_answers_are_pushed_is_submitted(void **state)
{
	struct fixture f;
	struct one op;
	struct late l = { .f = &f, .op = &op };

	(void)state;
	set_up(&f, 8, true, true);
	loop_hook_add(f.loop, LOOP_PUSH, &l.hook, queue_late);
	loop_timer_init(&l.limit, limit_reached);
	loop_timer_set(f.loop, &l.limit, 20 * NS_PER_S);
	loop_run(f.loop);
	loop_timer_clear(&l.limit);
	loop_hook_del(&l.hook);
	assert_false(l.too_late);
	assert_int_equal(op.res, 4096);
	tear_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_takes_a_share_of_what_is_left),
		cmocka_unit_test(what_is_queued_while_answers_are_pushed_is_submitted),
		cmocka_unit_test(a_pass_in_few_io_submits),
		cmocka_unit_test(one_io_submit_where_it_does_the_work),
		cmocka_unit_test(not_signalled_where_it_does_the_work),
		cmocka_unit_test(an_unsignalled_end_is_found),
		cmocka_unit_test(what_is_refused_fails_alone),
		cmocka_unit_test(neighbours_are_joined),
		cmocka_unit_test(vectors_are_joined),
		cmocka_unit_test(strangers_are_not_joined),
		cmocka_unit_test(joined_and_failed_each_by_itself),
		cmocka_unit_test(joined_and_out_of_space_each_by_itself),
		cmocka_unit_test(more_than_fits_waits),
		cmocka_unit_test(datasync_and_dsync_complete),
		cmocka_unit_test(callbacks_queue_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
