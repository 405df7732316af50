/* imgtry - does with a disk in an image what a guest might, in memory, and says what
 * came of it.  For images that nobody should trust.
 *
 *   imgtry [--ro] [--save FILE] [--key FILE] SPEC FILE...
 *
 * The FILEs are read into memory under their names; SPEC sees nothing else.  Reads
 * all of the disk (of a large one the ends), and unless --ro writes here and there,
 * flushes, discards, reads again.  One line each:
 *	refused: WHY
 *	size BYTES
 *	read OK FAILED
 *	write OK FAILED
 *	changed OFFSET+LENGTH ...	what is not as in the first FILE, by 512 bytes
 *	memory KIB
 * Status: 0 opened, 3 refused; whatever else is a fault of ours.
 */
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drv_rig.h"
#include "mem_store.h"

#define PART (1 * MiB)
#define STEP (64 * KiB)

static struct rig g;
static struct mem_store m;
static unsigned ok, failed;
static char buf[STEP] __attribute__((aligned(4096)));

static void count(int rc)
{
	*(rc ? &failed : &ok) += 1;
}

static void read_part(uint64_t off, uint64_t end)
{
	for (; off < end; off += STEP)
		count(rig_read(&g, off, min_u64(STEP, end - off), buf));
}

static void each_part(uint64_t size, void (*fn)(uint64_t off, uint64_t end))
{
	if (size <= 16 * PART) {
		fn(0, size);
		return;
	}
	fn(0, 8 * PART);
	fn(align_down(size / 2, STEP), align_down(size / 2, STEP) + PART);
	fn(size - PART, size);
}

static void write_part(uint64_t off, uint64_t end)
{
	for (; off < end; off += STEP) {
		uint64_t n = min_u64(STEP, end - off);

		memset(buf, 'W', sizeof(buf));
		count(rig_write(&g, off, min_u64(4096, n), buf));
		if (off % (4 * STEP) == 0)
			count(rig_write(&g, off, n, buf));
	}
}

static void drop_part(uint64_t off, uint64_t end)
{
	for (; off < end; off += 3 * STEP) {
		uint64_t n = min_u64(STEP, end - off);

		rig_io(&g, TD_OP_DISCARD, 0, off, n, NULL);
		rig_io(&g, TD_OP_ZEROES, 0, off, min_u64(n, 8192), NULL);
	}
}

static void extents_part(uint64_t off, uint64_t end)
{
	struct td_extent v[4];
	struct td_extents x = { .v = v, .max = 4 };

	for (unsigned i = 0; off < end && i < 1000; i++) {
		if (rig_extents(&g, off, end - off, &x) || !x.n)
			break;
		for (unsigned k = 0; k < x.n; k++)
			off += v[k].length;
	}
}

static void say(const char *what)
{
	printf("%s %u %u\n", what, ok, failed);
	ok = failed = 0;
}

static void use(bool ro)
{
	uint64_t size = td_tree_root(g.tree)->size;

	printf("size %llu\n", (unsigned long long)size);
	each_part(size, extents_part);
	each_part(size, read_part);
	say("read");
	if (ro)
		return;
	each_part(size, write_part);
	count(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL));
	each_part(size, drop_part);
	rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL);
	each_part(size, write_part);
	count(rig_io(&g, TD_OP_FLUSH, 0, 0, 0, NULL));
	say("write");
	each_part(size, read_part);
	say("read");
}

static void changed(const char *path)
{
	struct mem_image was = { 0 };
	uint64_t from = UINT64_MAX;
	char a[512], b[512];

	mem_image_load(&was, path);
	printf("changed");
	for (uint64_t off = 0; off < was.size + 512; off += 512) {
		bool same = off >= was.size;

		mem_image_read(&was, off, a, 512);
		mem_image_read(&m.file[0].image, off, b, 512);
		same |= !memcmp(a, b, 512);
		if (!same && from == UINT64_MAX)
			from = off;
		if (same && from != UINT64_MAX) {
			printf(" %llu+%llu", (unsigned long long)from,
			       (unsigned long long)(off - from));
			from = UINT64_MAX;
		}
	}
	printf("\n");
	mem_image_free(&was);
}

static void load_files(char **names)
{
	mem_store_init(&m, 1);
	m.max_bytes = UINT64_MAX / 4;
	for (; *names; names++) {
		unsigned i = mem_store_file(&m, *names);

		mem_image_load(&m.file[i].image, *names);
	}
}

static struct td_secret *secret(const char *path)
{
	static unsigned char bytes[256];
	static struct td_secret s = { .bytes = bytes };
	struct mem_image k = { 0 };

	mem_image_load(&k, path);
	s.len = min_u64(k.size, sizeof(bytes));
	mem_image_read(&k, 0, bytes, s.len);
	mem_image_free(&k);
	return &s;
}

int main(int argc, char **argv)
{
	static const struct option known[] = {
		{ "ro", 0, NULL, 'r' }, { "save", 1, NULL, 's' },
		{ "key", 1, NULL, 'k' }, { 0 }
	};
	const char *save = NULL;
	struct td_secret *key = NULL;
	struct rusage u;
	bool ro = false;
	int o, rc;

	while ((o = getopt_long(argc, argv, "", known, NULL)) >= 0) {
		if (o == 'r')
			ro = true;
		else if (o == 's')
			save = optarg;
		else if (o == 'k')
			key = secret(optarg);
		else
			return 2;
	}
	if (argc - optind < 2)
		errx(2, "SPEC FILE...");
	alarm(60);
	log_open(LOG_TO_STDERR, "imgtry", LOG_LVL_WARN);
	load_files(argv + optind + 1);
	rig_init(&g);
	g.env.store = &mem_store_driver;
	g.env.secrets = key;
	g.env.n_secrets = key ? 1 : 0;
	rc = rig_open(&g, argv[optind], ro ? TD_NODE_RDONLY : 0);
	if (rc) {
		printf("refused: %s\n", rig_why());
	} else {
		use(ro);
		rig_close(&g);
	}
	changed(argv[optind + 1]);
	if (save)
		mem_image_save(&m.file[0].image, save);
	getrusage(RUSAGE_SELF, &u);
	printf("memory %ld\n", u.ru_maxrss);
	mem_store_free(&m);
	rig_free(&g);
	return rc ? 3 : 0;
}
