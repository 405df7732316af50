/* main.c - crash: an image in memory, random requests, and then what a power cut
 * at any moment could have left of it; or one fault after the other.
 *
 *   crash --spec SPEC --format FORMAT --file FILE [--file FILE...] [OPTION...]
 *
 * The first FILE is the image; all are read into memory under their names.
 *   --initial RAW   what the disk holds (else: zeroes)
 *   --bytes N       the disk's size, without --initial
 *   --seed N  --ops N  --depth N
 *   --cuts N        states to look at, about
 *   --judge N       of them: written all over, and seen by qemu-img
 *   --faults N      faults instead of cuts: N runs of each kind and more
 *   --kills N       the process dies N times, and the next one takes over
 *   --redo BYTES    of the redo log; 0: none, and something must be found
 *   --pack          compressed writes too
 *   --grow          the disk is made larger on the way
 *   --shrink        smaller, and then larger
 *   --lazy          until it is repaired its counts may be wrong
 *   --key FILE      passphrase, and --crypt aes or luks
 *   --lose N        one flush of so many is none: something must be found
 *
 * Status: 0 all is well, 1 not.
 */
#include <err.h>
#include <getopt.h>
#include <libgen.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "crash.h"
#include "redo_area.h"

uint64_t crash_random(struct crash *c, uint64_t n)
{
	return rig_random(&c->random) % n;
}

void crash_wrong(struct crash *c, const char *fmt, ...)
{
	va_list ap;

	if (c->wrong++ >= 20)
		return;
	va_start(ap, fmt);
	printf("WRONG: ");
	vprintf(fmt, ap);
	printf(" [seed %llu]\n", (unsigned long long)c->seed);
	va_end(ap);
	fflush(stdout);
}

void crash_store(struct crash *c, struct mem_store *m, const struct mem_image *files)
{
	mem_store_init(m, crash_random(c, UINT32_MAX));
	for (unsigned i = 0; i < c->files; i++) {
		unsigned k = mem_store_file(m, c->path[i]);

		mem_image_copy(&m->file[k].image, &files[i]);
	}
}

static void lose(struct crash *c, struct mem_store *m)
{
	for (size_t i = 0; c->lose && i < m->n_ops; i++)
		if (m->ops[i].op == TD_OP_FLUSH && !crash_random(c, c->lose))
			m->ops[i].err = -1;
}

/* What a smaller size hides the model keeps: it is discarded, and zeroes when a larger
 * size shows it again. */
static uint32_t hidden(struct load *l, enum td_op op, uint64_t from)
{
	uint64_t end = disk_model_bytes(l->model);

	return from < end ? disk_model_begin(l->model, op, 0, from, end - from,
					     mem_store_tick(l->m)) : 0;
}

static void seen_again(struct load *l, uint32_t id, int rc)
{
	if (id)
		disk_model_end(l->model, id, rc, mem_store_tick(l->m));
}

static void grow(struct crash *c, struct load *l)
{
	uint64_t bytes = td_tree_root(c->g.tree)->size;
	uint32_t id = hidden(l, TD_OP_ZEROES, bytes);
	int rc;

	bytes = max_u64(bytes, disk_model_bytes(l->model));
	bytes += 512 * (1 + crash_random(c, 4096));
	rc = rig_resize(&c->g, bytes);
	seen_again(l, id, rc);
	if (rc)
		crash_wrong(c, "cannot grow: %s (%s)", strerror(-rc), rig_why());
	else
		disk_model_grow(l->model, bytes);
}

static void shrink(struct crash *c, struct load *l)
{
	uint64_t bytes = td_tree_root(c->g.tree)->size;
	uint32_t id;
	int rc;

	bytes = 512 * (1 + crash_random(c, bytes / 512 - 1));
	id = hidden(l, TD_OP_DISCARD, bytes);
	rc = rig_shrink(&c->g, bytes);
	seen_again(l, id, rc);
	if (rc)
		crash_wrong(c, "cannot shrink: %s (%s)", strerror(-rc), rig_why());
}

static void cut_run(struct crash *c)
{
	struct mem_image files[MEM_FILES] = { { 0 } };
	struct mem_store m;
	struct load l = { .c = c, .m = &m, .ops = c->ops / 3 };
	struct judgement j;
	int rc;

	alarm(600);
	crash_store(c, &m, c->start);
	m.record = true;
	l.model = disk_model_new(c->initial, c->bytes);
	rc = rig_open(&c->g, c->spec, 0);
	if (rc)
		errx(1, "cannot open %s: %s (%s)", c->spec, strerror(-rc),
		     rig_why());
	for (unsigned i = 0; i < 3 && !c->wrong; i++) {
		load_run(&l);
		if (c->shrink && !i)
			shrink(c, &l);
		else if ((c->grow || c->shrink) && i < 2)
			grow(c, &l);
	}
	rc = rig_close(&c->g);
	if (rc)
		crash_wrong(c, "cannot close: %s", strerror(-rc));
	c->deepest = m.depth;
	for (unsigned i = 0; i < c->files; i++)
		mem_image_copy(&files[i], &m.file[i].image);
	image_judge(c->format, &files[0], &j);
	if (j.leaks || j.dirty)
		crash_wrong(c, "closed, but %u clusters are lost%s", j.leaks,
			    j.dirty ? ", and marked as dirty" : "");
	inspect_as_qemu_reads(c, files, l.model);
	inspect(c, files, l.model, MEM_NEVER, true, "closed");
	lose(c, &m);
	printf("%zu operations recorded, %u together at most\n", m.n_ops, m.depth);
	cuts_run(c, &m, l.model);
	for (unsigned i = 0; i < c->files; i++)
		mem_image_free(&files[i]);
	disk_model_free(l.model);
	mem_store_free(&m);
}

static void read_initial(struct crash *c, const char *path)
{
	struct mem_image m = { 0 };

	if (path) {
		mem_image_load(&m, path);
		c->bytes = align_up(m.size, 512);
	}
	c->initial = malloc(c->bytes + 1);
	if (!c->initial)
		err(1, "malloc");
	mem_image_read(&m, 0, c->initial, c->bytes);
	mem_image_free(&m);
}

static void read_key(struct crash *c, const char *path)
{
	static unsigned char bytes[512];
	static struct td_secret s = { .bytes = bytes };
	struct mem_image m = { 0 };

	mem_image_load(&m, path);
	s.len = min_u64(m.size, sizeof(bytes));
	mem_image_read(&m, 0, bytes, s.len);
	mem_image_free(&m);
	c->secret = &s;
	c->key_path = path;
}

static void options(struct crash *c, int argc, char **argv, const char **initial)
{
	static const struct option known[] = {
		{ "spec", 1, NULL, 's' }, { "format", 1, NULL, 'f' },
		{ "file", 1, NULL, 'i' }, { "initial", 1, NULL, 'I' },
		{ "bytes", 1, NULL, 'b' }, { "seed", 1, NULL, 'S' },
		{ "ops", 1, NULL, 'o' }, { "depth", 1, NULL, 'd' },
		{ "cuts", 1, NULL, 'c' }, { "judge", 1, NULL, 'j' },
		{ "faults", 1, NULL, 'F' }, { "kills", 1, NULL, 'K' },
		{ "redo", 1, NULL, 'R' }, { "pack", 0, NULL, 'p' },
		{ "grow", 0, NULL, 'g' }, { "shrink", 0, NULL, 's' + 256 },
		{ "lazy", 0, NULL, 'l' },
		{ "key", 1, NULL, 'k' }, { "crypt", 1, NULL, 'C' },
		{ "lose", 1, NULL, 'L' },
		{ "verbose", 0, NULL, 'v' }, { 0 }
	};
	int o;

	while ((o = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		unsigned long long n = optarg ? strtoull(optarg, NULL, 0) : 0;

		switch (o) {
		case 's': c->spec = optarg; break;
		case 'f': c->format = optarg; break;
		case 'i':
			if (c->files == MEM_FILES)
				errx(2, "too many files");
			c->path[c->files++] = optarg;
			break;
		case 'I': *initial = optarg; break;
		case 'b': c->bytes = n; break;
		case 'S': c->seed = n; break;
		case 'o': c->ops = (unsigned)n; break;
		case 'd': c->depth = (unsigned)n; break;
		case 'c': c->cuts = (unsigned)n; break;
		case 'j': c->judged = (unsigned)n; break;
		case 'F': c->faults = (unsigned)n; break;
		case 'K': c->kills = (unsigned)n; break;
		case 'R': c->redo_bytes = (unsigned)n; break;
		case 'p': c->pack = true; break;
		case 'g': c->grow = true; break;
		case 's' + 256: c->shrink = true; break;
		case 'l': c->lazy = true; break;
		case 'k': read_key(c, optarg); break;
		case 'C': c->crypt = optarg; break;
		case 'L': c->lose = (unsigned)n; break;
		case 'v': c->verbose = true; break;
		default: exit(2);
		}
	}
	if (!c->spec || !c->format || !c->files || c->depth > RIG_DEPTH ||
	    !c->depth)
		errx(2, "see the top of tests/crash/main.c");
}


static void too_long(int sig)
{
	static const char text[] = "WRONG: no end in sight, see the seed above\n";

	(void)sig;
	if (write(1, text, sizeof(text) - 1) < 0)
		_exit(3);
	_exit(1);
}

/* qemu-img looks for a data file in its own folder. */
static void to_folder(const char *image)
{
	char *copy = strdup(image);

	if (!copy || chdir(dirname(copy)))
		err(1, "%s", image);
	free(copy);
}

int main(int argc, char **argv)
{
	static struct crash c = { .ops = 200, .depth = 16, .cuts = 400,
				  .judged = 20, .redo_bytes = REDO_AREA_MIN };
	const char *initial = NULL;

	c.seed = 1;
	options(&c, argc, argv, &initial);
	log_open(LOG_TO_STDERR, "crash", c.verbose ? LOG_LVL_WARN : LOG_LVL_ERR);
	c.random = c.seed;
	printf("seed %llu: %s\n", (unsigned long long)c.seed, c.spec);
	fflush(stdout);
	signal(SIGALRM, too_long);
	for (unsigned i = 0; i < c.files; i++)
		mem_image_load(&c.start[i], c.path[i]);
	to_folder(c.path[0]);
	read_initial(&c, initial);
	rig_init(&c.g);
	c.g.env.store = &mem_store_driver;
	c.g.env.secrets = c.secret;
	c.g.env.n_secrets = c.secret ? 1 : 0;
	if (c.faults)
		faults_run(&c);
	else if (c.kills)
		kills_run(&c);
	else
		cut_run(&c);
	rig_free(&c.g);
	printf("%u states, %u of them different, %u filled, %u seen by qemu-img; "
	       "%u wrong\n", c.states, c.opened, c.filled, c.checked, c.wrong);
	for (unsigned i = 0; i < c.files; i++)
		mem_image_free(&c.start[i]);
	free(c.initial);
	free(c.seen);
	free(c.judged_ok);
	return c.wrong != 0;
}
