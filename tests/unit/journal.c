/* The journal of rings: a back end is killed at every instruction of a run (it is
 * stepped through, and what its memory holds is kept), and each time a successor
 * takes up, so that a front end sees every request answered once, rightly, and in
 * places that are its own.  Some successors are stepped through in their turn.
 * Also what the table of sections promises, and files that make no sense. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ring/journal.h"
#include "ring/ring.h"
#include "tap_proto.h"

#define TOTAL 48u	/* requests of a run */
#define FILE_LEN 12288u	/* of the file, that one section with one ring uses */
#define SLOTS 32u

enum seen { NOT_SENT, OPEN, ANSWERED };

/* What is in memory that outlives the back end, and what the front end knows. */
struct image {
	uint32_t page[1024];
	uint8_t seen[TOTAL];
	uint8_t executed[TOTAL];	/* by how many processes */
	uint32_t sent, prod, got;
	bool connected;			/* the front end was told */
	bool in_front;			/* the stores are the front end's */
	bool wrong;			/* an answer was */
};

struct world {
	struct image *im;
	int fd;
	char *file;
	struct journal *journal;
	struct journal_section *section;
	struct ring ring;
	unsigned held;			/* taken and not answered */
	struct { uint64_t id; unsigned ticket; } hold[SLOTS];
	uint64_t rng;
};

static const struct journal_key key = { "one" };
static const struct journal_shape shape = { TAPRING_ABI_X86_64, 0, 1 };

static unsigned rnd(struct world *w, unsigned below)
{
	w->rng = w->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(w->rng >> 33) % below;
}

static int16_t status_of(uint64_t id)
{
	return id % 5 ? BLKIF_RSP_OKAY : id % 2 ? BLKIF_RSP_ERROR :
						  BLKIF_RSP_EOPNOTSUPP;
}

/* The front end. */

static struct blkif_sring *sring(struct image *im)
{
	return (struct blkif_sring *)(void *)im->page;
}

static void *slot_at(struct image *im, uint32_t pos)
{
	return (char *)im->page + sizeof(struct blkif_sring) +
	       (size_t)(pos % SLOTS) * sizeof(struct blkif_rw64);
}

static void front_put(struct image *im, unsigned n)
{
	im->in_front = true;
	journal_order();
	for (; n && im->sent < TOTAL && im->prod - im->got < SLOTS; n--) {
		struct blkif_rw64 *s = slot_at(im, im->prod++);

		memset(s, 0xee, sizeof(*s));
		s->op = (uint8_t)(im->sent % 2);
		s->id = im->sent;
		im->seen[im->sent++] = OPEN;
	}
	sring(im)->req_prod = im->prod;
	journal_order();
	im->in_front = false;
	journal_order();
}

static void front_get(struct image *im)
{
	im->in_front = true;
	journal_order();
	while (im->got != sring(im)->rsp_prod) {
		struct blkif_rsp64 r = *(struct blkif_rsp64 *)
				       slot_at(im, im->got);

		if (im->got == im->prod || r.id >= TOTAL ||
		    im->seen[r.id] != OPEN || !im->executed[r.id] ||
		    r.op != r.id % 2 || r.status != status_of(r.id)) {
			im->wrong = true;
			break;
		}
		im->seen[r.id] = ANSWERED;
		im->got++;
	}
	journal_order();
	im->in_front = false;
	journal_order();
}

/* The back end. */

static int back_start(struct world *w, bool resume)
{
	const char *why;
	int err = journal_new(dup(w->fd), &w->journal);

	if (!err)
		err = journal_get(w->journal, JOURNAL_SHM, &key, &shape, resume,
				  &w->section, &why);
	if (err)
		return err;
	ring_init(&w->ring, shape.abi, shape.order, w->im->page);
	ring_journal(&w->ring, w->section, 0);
	w->im->connected = true;
	return 0;
}

static void back_end(struct world *w)
{
	journal_free(w->journal);
	w->journal = NULL;
	w->section = NULL;
	w->held = 0;
}

static void back_take(struct world *w, unsigned n)
{
	const uint8_t *slot;
	unsigned ticket;

	while (n-- && ring_consume(&w->ring, &slot, &ticket) > 0) {
		uint64_t id = ((const struct blkif_rw64 *)(const void *)slot)->id;

		if (id < TOTAL && w->im->executed[id] < 255)
			w->im->executed[id]++;
		w->hold[w->held].id = id;
		w->hold[w->held++].ticket = ticket;
	}
}

static void back_answer(struct world *w, unsigned n)
{
	for (; n && w->held; n--) {
		unsigned k = rnd(w, w->held);
		uint64_t id = w->hold[k].id;

		ring_answer(&w->ring, w->hold[k].ticket, id, (uint8_t)(id % 2),
			    status_of(id));
		w->hold[k] = w->hold[--w->held];
	}
}

/* A life of a back end. */
static void run(struct world *w)
{
	/* One that is stuck ends, and is found out. */
	for (int i = 0; i < 2000 && w->im->got < TOTAL && !w->im->wrong; i++) {
		front_put(w->im, rnd(w, 8));
		back_take(w, rnd(w, 6));
		back_answer(w, rnd(w, 6));
		if (rnd(w, 2) && ring_unpushed(&w->ring))
			ring_push(&w->ring);
		front_get(w->im);
	}
}

static struct world world_new(void)
{
	struct world w = { .fd = memfd_create("journal", MFD_CLOEXEC) };

	assert_true(w.fd >= 0);
	assert_int_equal(ftruncate(w.fd, TAP_JOURNAL_BYTES), 0);
	w.file = mmap(NULL, FILE_LEN, PROT_READ | PROT_WRITE, MAP_SHARED, w.fd, 0);
	w.im = mmap(NULL, sizeof(*w.im), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(w.file != MAP_FAILED && w.im != MAP_FAILED);
	return w;
}

static void world_free(struct world *w)
{
	munmap(w->file, FILE_LEN);
	munmap(w->im, sizeof(*w->im));
	close(w->fd);
}

static void copy_to(struct world *to, const struct image *im, const char *file)
{
	*to->im = *im;
	memcpy(to->file, file, FILE_LEN);
}

/* A successor takes up `w` as it is, and ends well. */
static void succeed(struct world *w)
{
	struct image *im = w->im;
	uint8_t before[TOTAL];
	unsigned again;
	bool told = im->connected;
	int err = back_start(w, true);

	if (err == -ESTALE && !told) {
		back_end(w);
		return;
	}
	assert_int_equal(err, 0);
	assert_true(w->ring.kick);
	again = w->section ? journal_ring(w->section, 0)->nr_again : 0;
	memcpy(before, im->executed, sizeof(before));
	for (unsigned n = 0; n < again; n++) {	/* in order, and before others */
		back_take(w, 1);
		assert_true(w->held);
		assert_true(n == 0 || w->held == 1 ||
			    w->hold[w->held - 1].id > w->hold[w->held - 2].id);
		assert_int_equal(im->seen[w->hold[w->held - 1].id], OPEN);
		if (*journal_ring(w->section, 0)->alone)
			back_answer(w, w->held);
	}
	run(w);
	/* Those that were not answered, once each in this life; others never. */
	for (unsigned i = 0; i < TOTAL; i++)
		assert_true(im->executed[i] - before[i] <= 1);
	assert_false(im->wrong);
	assert_int_equal(im->got, TOTAL);
	for (unsigned i = 0; i < TOTAL; i++)
		assert_int_equal(im->seen[i], ANSWERED);
	back_end(w);
}

static void child(struct world *w, bool resume)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		_exit(77);
	raise(SIGSTOP);
	if (back_start(w, resume))
		_exit(1);
	run(w);
	_exit(w->im->wrong);
}

/* Step through a life that begins with *w; after every store, have a successor
 * go on.  deeper: every so many of them is stepped through too.  How many stores
 * there were. */
static unsigned step_through(struct world *w, bool resume, unsigned deeper)
{
	struct world next = world_new();
	static struct image im[2];
	static char file[2][FILE_LEN];
	unsigned level = deeper ? 0 : 1, stores = 0;
	pid_t pid = fork();
	int st;

	if (!pid)
		child(w, resume);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &st, 0), pid);
	if (WIFEXITED(st) && WEXITSTATUS(st) == 77)
		skip();
	im[level] = *w->im;
	memcpy(file[level], w->file, FILE_LEN);
	for (;;) {
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &st, 0), pid);
		if (WIFEXITED(st))
			break;
		assert_true(WIFSTOPPED(st));
		if (w->im->in_front ||
		    (!memcmp(w->im, &im[level], sizeof(im[0])) &&
		     !memcmp(w->file, file[level], FILE_LEN)))
			continue;
		im[level] = *w->im;
		memcpy(file[level], w->file, FILE_LEN);
		copy_to(&next, w->im, w->file);
		next.rng = stores;
		succeed(&next);
		if (deeper && ++stores % deeper == 0 && w->im->connected) {
			copy_to(&next, w->im, w->file);
			step_through(&next, true, 0);
		}
	}
	assert_int_equal(WEXITSTATUS(st), 0);
	assert_int_equal(w->im->got, TOTAL);
	world_free(&next);
	return stores;
}

static void a_kill_at_any_instruction_is_not_noticed(void **state)
{
	const char *preload = getenv("LD_PRELOAD"), *rounds = getenv("ROUNDS");
	unsigned n = rounds ? 20 : 1, stores = 0;

	(void)state;
#ifdef __SANITIZE_THREAD__
	skip();			/* it takes minutes */
#endif
	if (preload && strstr(preload, "vgpreload"))
		skip();		/* valgrind's own instructions would be stepped */
	for (unsigned i = 0; i < n; i++) {
		struct world w = world_new();

		w.rng = i;
		stores += step_through(&w, false, rounds ? 31 : 61);
		world_free(&w);
	}
	print_message("%u stores\n", stores);
	assert_true(stores > 400 * n);
}

/* A request that ends every process that touches it. */
static void a_request_that_kills_is_answered_with_an_error(void **state)
{
	struct world w = world_new();
	struct journal_ring *j;
	const uint8_t *slot;
	unsigned ticket, deaths = 0;
	const struct blkif_rsp64 *rsp;

	(void)state;
	assert_int_equal(back_start(&w, false), 0);
	front_put(w.im, 8);
	back_take(&w, 8);	/* the fifth is it: the first life ends */
	assert_int_equal(w.held, 8);
	for (;;) {
		bool died = false;

		back_end(&w);
		assert_int_equal(back_start(&w, true), 0);
		j = journal_ring(w.section, 0);
		assert_true(ring_waiting(&w.ring));
		while (!died && ring_consume(&w.ring, &slot, &ticket) > 0) {
			uint64_t id = *(const uint64_t *)(const void *)(slot + 8);

			died = id == 4;
			if (died)
				continue;
			ring_answer(&w.ring, ticket, id, (uint8_t)(id % 2), 0);
			ring_push(&w.ring);
		}
		if (!died)
			break;
		deaths++;
	}
	/* 4 has its error, and nobody else. */
	assert_int_equal(deaths, JOURNAL_ATTEMPTS);
	ring_push(&w.ring);
	assert_int_equal(sring(w.im)->rsp_prod, 8);
	for (uint32_t i = 0; i < 8; i++) {
		rsp = slot_at(w.im, i);
		assert_int_equal(rsp->status, rsp->id == 4 ? BLKIF_RSP_ERROR : 0);
	}
	assert_int_equal(j->nr_free, SLOTS);
	back_end(&w);
	world_free(&w);
}

/* From the second attempt on, a process has one request at a time. */
static void suspects_are_executed_alone(void **state)
{
	struct world w = world_new();

	(void)state;
	assert_int_equal(back_start(&w, false), 0);
	front_put(w.im, 6);
	back_take(&w, 3);
	back_end(&w);
	assert_int_equal(back_start(&w, true), 0);
	back_take(&w, 6);
	assert_int_equal(w.held, 6);	/* three again, and three new ones */
	back_end(&w);
	assert_int_equal(back_start(&w, true), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(ring_waiting(&w.ring));
		back_take(&w, 6);
		assert_int_equal(w.held, 1);
		assert_false(ring_waiting(&w.ring));
		back_answer(&w, 1);
	}
	back_take(&w, 6);
	assert_int_equal(w.held, 3);	/* not suspected: these were new */
	back_end(&w);
	world_free(&w);
}

/* Two front ends: whose request it is that kills is not known either. */
static void two_start(struct world *w, struct world *w2, bool resume)
{
	static const struct journal_key two = { "two" };
	const char *why;

	assert_int_equal(back_start(w, resume), 0);
	assert_int_equal(journal_get(w->journal, JOURNAL_SHM, &two, &shape, resume,
				     &w2->section, &why), 0);
	ring_init(&w2->ring, shape.abi, shape.order, w2->im->page);
	ring_journal(&w2->ring, w2->section, 0);
	w2->held = 0;
}

static void suspects_of_two_are_executed_alone(void **state)
{
	struct world w = world_new(), w2 = world_new();

	(void)state;
	two_start(&w, &w2, false);
	front_put(w.im, 1);
	front_put(w2.im, 2);
	back_take(&w, 1);
	back_take(&w2, 1);
	back_end(&w);
	two_start(&w, &w2, true);
	back_take(&w, 6);
	back_take(&w2, 1);
	assert_int_equal(w.held + w2.held, 2);
	back_end(&w);
	for (unsigned i = 0; i < 2; i++) {
		two_start(&w, &w2, true);
		back_take(&w, 6);
		assert_int_equal(w.held, 1);
		assert_false(ring_waiting(&w2.ring));
		back_take(&w2, 6);
		assert_int_equal(w2.held, 0);
		if (i == 0) {		/* this one kills, and no other is blamed */
			back_end(&w);
			continue;
		}
		journal_put(w.section, true);	/* cut off */
		assert_true(ring_waiting(&w2.ring));
		back_take(&w2, 6);
		assert_int_equal(w2.held, 1);
		back_answer(&w2, 1);
		back_take(&w2, 6);
		assert_int_equal(w2.held, 1);	/* a new one */
		back_end(&w);
	}
	w2.journal = NULL;
	world_free(&w);
	world_free(&w2);
}

static void a_page_that_lies_moves_nothing(void **state)
{
	static const uint32_t lies[] = { 0, 1, 3, 5, 1000, UINT32_MAX };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		struct world w = world_new();

		assert_int_equal(back_start(&w, false), 0);
		front_put(w.im, 6);
		back_take(&w, 6);
		back_answer(&w, 4);
		ring_push(&w.ring);
		back_answer(&w, 1);
		back_end(&w);
		sring(w.im)->rsp_prod = lies[i];
		assert_int_equal(back_start(&w, true), 0);
		assert_int_equal(w.ring.rsp_pub, 4);
		assert_int_equal(w.ring.rsp_pvt, 5);
		assert_int_equal(w.ring.cons, 6);
		assert_true(ring_unpushed(&w.ring));
		assert_true(ring_push(&w.ring));
		assert_false(ring_unpushed(&w.ring));
		assert_int_equal(sring(w.im)->rsp_prod, 5);
		back_end(&w);
		world_free(&w);
	}
}

/* Sections. */

static int get(struct journal *j, const char *name, bool resume,
	       struct journal_section **s)
{
	struct journal_key k = { "" };
	const char *why = NULL;
	int err;

	snprintf((char *)k.b, sizeof(k.b), "%s", name);
	err = journal_get(j, JOURNAL_SHM, &k, &shape, resume, s, &why);
	assert_true(!err == !why);
	return err;
}

static void sections_are_given_and_given_back(void **state)
{
	struct world w = world_new();
	struct journal_shape other[] = { { 2, 0, 1 }, { 3, 1, 1 }, { 3, 0, 2 } };
	struct journal_section *s, *s2;
	struct journal *j;
	const char *why;

	(void)state;
	assert_int_equal(journal_new(dup(w.fd), &j), 0);
	assert_int_equal(get(j, "a", true, &s), -ESTALE);
	assert_int_equal(get(j, "a", false, &s), 0);
	assert_int_equal(get(j, "a", true, &s2), -EBUSY);
	assert_int_equal(get(j, "a", false, &s2), -EBUSY);
	journal_put(s, true);
	for (unsigned i = 0; i < ARRAY_SIZE(other); i++)
		assert_int_equal(journal_get(j, JOURNAL_SHM,
				 &(struct journal_key){ "a" }, &other[i], true, &s,
				 &why), -EINVAL);
	assert_int_equal(journal_get(j, JOURNAL_XEN, &(struct journal_key){ "a" },
				     &shape, true, &s, &why), -ESTALE);
	assert_int_equal(get(j, "a", true, &s), 0);
	journal_put(s, false);
	assert_int_equal(get(j, "a", true, &s), -ESTALE);
	assert_int_equal(get(j, "a", false, &s), 0);
	assert_int_equal(get(j, "b", false, &s2), 0);
	journal_put(s2, true);
	journal_reset(j);	/* what is in use stays */
	journal_put(s, true);
	assert_int_equal(get(j, "b", true, &s), -ESTALE);
	assert_int_equal(get(j, "a", true, &s), 0);
	journal_free(j);
	world_free(&w);
}

static void the_oldest_that_nobody_uses_makes_room(void **state)
{
	struct world w = world_new();
	struct journal_section *s[JOURNAL_SECTIONS + 1];
	struct journal *j;
	char name[2] = "A";
	const char *why;

	(void)state;
	assert_int_equal(journal_new(dup(w.fd), &j), 0);
	for (unsigned i = 0; i < JOURNAL_SECTIONS; i++, name[0]++)
		assert_int_equal(get(j, name, false, &s[i]), 0);
	assert_int_equal(get(j, "x", false, &s[JOURNAL_SECTIONS]), -ENOSPC);
	/* D is put away last and is younger than none but A, B, C. */
	journal_put(s[4], true);
	journal_put(s[3], true);
	journal_free(j);
	assert_int_equal(journal_new(dup(w.fd), &j), 0);
	/* All are without an owner now; two come back. */
	assert_int_equal(get(j, "A", true, &s[0]), 0);
	assert_int_equal(get(j, "B", true, &s[1]), 0);
	assert_int_equal(get(j, "x", false, &s[2]), 0);
	assert_int_equal(get(j, "C", true, &s[3]), -ESTALE);
	assert_int_equal(get(j, "D", true, &s[3]), 0);
	assert_int_equal(get(j, "y", false, &s[4]), 0);
	assert_int_equal(get(j, "E", true, &s[5]), -ESTALE);
	journal_free(j);
	/* Guests of Xen, though they are older than all, stay. */
	memset(w.file, 0, FILE_LEN);
	assert_int_equal(journal_new(dup(w.fd), &j), 0);
	assert_int_equal(journal_get(j, JOURNAL_XEN, &key, &shape, false, &s[0],
				     &why), 0);
	for (unsigned i = 1; i < JOURNAL_SECTIONS; i++, name[0]++)
		assert_int_equal(get(j, name, false, &s[i]), 0);
	for (unsigned i = 0; i < JOURNAL_SECTIONS; i++)
		journal_put(s[i], true);
	name[0] = 'a';
	for (unsigned i = 0; i < 3 * JOURNAL_SECTIONS; i++, name[0]++) {
		assert_int_equal(get(j, name, false, &s[0]), 0);
		journal_put(s[0], true);
	}
	assert_int_equal(journal_get(j, JOURNAL_XEN, &key, &shape, true, &s[0],
				     &why), 0);
	journal_free(j);
	world_free(&w);
}

static void files_that_are_none_are_refused(void **state)
{
	struct journal *j;
	int fd = memfd_create("short", MFD_CLOEXEC), pipes[2];

	(void)state;
	assert_int_equal(ftruncate(fd, TAP_JOURNAL_BYTES - 1), 0);
	assert_int_equal(journal_new(fd, &j), -EINVAL);
	assert_int_equal(pipe(pipes), 0);
	close(pipes[1]);
	assert_int_equal(journal_new(pipes[0], &j), -EINVAL);
}

/* Somebody has written into the file: refused or taken, never followed. */
static void nonsense_in_the_file_is_harmless(void **state)
{
	struct world w = world_new(), x = world_new();
	unsigned refused = 0, taken = 0;

	(void)state;
	assert_int_equal(back_start(&w, false), 0);
	front_put(w.im, 20);
	back_take(&w, 20);
	back_answer(&w, 12);
	ring_push(&w.ring);
	back_answer(&w, 4);
	for (unsigned i = 0; i < 4000; i++) {
		unsigned n = 1 + rnd(&x, 4);

		copy_to(&x, w.im, w.file);
		while (n--) {
			/* the row, the position, or an entry's first 16 bytes */
			unsigned k = rnd(&x, 8), at =
				k == 0 ? 16 + rnd(&x, 40) : k == 1 ?
				4096 + rnd(&x, 4) :
				8192 + rnd(&x, SLOTS) * 128 + rnd(&x, 16);

			x.file[at] = rnd(&x, 2) ? (char)rnd(&x, 256) :
						  (char)(x.file[at] + 1);
		}
		x.im->got = 0;
		if (back_start(&x, true)) {
			refused++;
		} else {
			taken++;
			for (unsigned k = 0; k < 40; k++) {
				back_take(&x, SLOTS - x.held);
				back_answer(&x, 3);
				ring_push(&x.ring);
			}
			assert_true(ring_open(&x.ring) <= SLOTS);
		}
		back_end(&x);
	}
	print_message("%u refused, %u taken up\n", refused, taken);
	assert_true(refused > 400 && taken > 400);
	back_end(&w);
	world_free(&w);
	world_free(&x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_kill_at_any_instruction_is_not_noticed),
		cmocka_unit_test(a_request_that_kills_is_answered_with_an_error),
		cmocka_unit_test(suspects_are_executed_alone),
		cmocka_unit_test(suspects_of_two_are_executed_alone),
		cmocka_unit_test(a_page_that_lies_moves_nothing),
		cmocka_unit_test(sections_are_given_and_given_back),
		cmocka_unit_test(the_oldest_that_nobody_uses_makes_room),
		cmocka_unit_test(files_that_are_none_are_refused),
		cmocka_unit_test(nonsense_in_the_file_is_harmless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
