/* inspect.c - what became of an image: is it whole, what does the disk in it hold,
 * and can all of it be written?
 *
 * Filling the disk takes every free cluster: one that is free by the counts and
 * used by a table would now be used twice.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "crash.h"

#define CHUNK (256 * KiB)

extern char **environ;

static bool known(uint64_t **v, size_t *n, uint64_t hash)
{
	for (size_t i = 0; i < *n; i++)
		if ((*v)[i] == hash)
			return true;
	if (!(*n & (*n + 1)))
		*v = reallocarray(*v, 2 * *n + 2, sizeof(**v));
	if (!*v)
		abort();
	(*v)[(*n)++] = hash;
	return false;
}

static bool seen(struct crash *c, const struct mem_image *files, uint64_t salt)
{
	uint64_t h = salt;

	for (unsigned i = 0; i < c->files; i++)
		h = h * 0x9fb21c651e98df25ull + mem_image_hash(&files[i]);
	return known(&c->seen, &c->n_seen, h);
}

/* May find leaks alone; with `any`, also counts that are wrong (an image that says
 * so of itself). */
static void judge(struct crash *c, const struct mem_image *files, bool any,
		  const char *what, const char *when)
{
	struct judgement j;

	image_judge(c->format, &files[0], &j);
	if (j.marked)
		crash_wrong(c, "%s, %s: the image is marked as corrupt", what, when);
	if (j.errors && !(any && j.dirty))
		crash_wrong(c, "%s, %s: %u errors in the image: %s", what, when,
			    j.errors, j.first);
}

/* Run qemu-img: its status. */
static int qemu_img(const char *const *argv)
{
	posix_spawn_file_actions_t quiet;
	int status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_adddup2(&quiet, 1, 2);
	if (posix_spawnp(&pid, argv[0], &quiet, NULL, (char **)argv, environ) ||
	    waitpid(pid, &status, 0) != pid)
		abort();
	posix_spawn_file_actions_destroy(&quiet);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* How it is told of an image: with its key, if there is one. */
static void image_options(const struct crash *c, const char *path, char *opts,
			  char *object)
{
	const char *crypt = c->crypt ? c->crypt : "";

	snprintf(opts, 5000, "driver=%s,file.filename=%s%s%s", c->format, path,
		 *crypt ? ",encrypt.key-secret=s,encrypt.format=" : "", crypt);
	snprintf(object, 5000, "secret,id=s,file=%s",
		 c->key_path ? c->key_path : "/dev/null");
}

/* The program's opinion, of a file beside the image (its names are relative). */
static void ask_qemu(struct crash *c, const struct mem_image *files, bool any,
		     const char *what, const char *when)
{
	char path[4096], opts[5000], object[5000];
	const char *argv[] = { "qemu-img", "check", "-q", "--object", object,
			       "--image-opts", opts, NULL };
	struct judgement j;
	int rc;

	if (!c->judged || !strcmp(c->format, "raw"))
		return;
	if (!strcmp(c->format, "qcow"))		/* it has no check for these */
		return;
	if (known(&c->judged_ok, &c->n_judged, mem_image_hash(&files[0])))
		return;
	image_judge(c->format, &files[0], &j);
	if (any && j.dirty)
		return;
	snprintf(path, sizeof(path), "%s.cut", c->path[0]);
	image_options(c, path, opts, object);
	mem_image_save(&files[0], path);
	c->checked++;
	rc = qemu_img(argv);
	if (rc != 0 && rc != 3)
		crash_wrong(c, "%s, %s: qemu-img check: status %d", what, when, rc);
	unlink(path);
}

void inspect_as_qemu_reads(struct crash *c, const struct mem_image *files,
			   struct disk_model *model)
{
	char out[4096], opts[5000], object[5000];
	const char *argv[] = { "qemu-img", "convert", "-q", "--object", object,
			       "--image-opts", "-O", "raw", opts, out, NULL };
	struct mem_image disk = { 0 };
	uint64_t bytes = disk_model_bytes(model);
	unsigned char *buf = malloc(bytes + 1);
	int rc;

	if (!c->judged || !buf) {
		free(buf);
		return;
	}
	for (unsigned i = 0; i < c->files; i++)
		mem_image_save(&files[i], c->path[i]);
	snprintf(out, sizeof(out), "%s.out", c->path[0]);
	image_options(c, c->path[0], opts, object);
	rc = qemu_img(argv);
	if (rc) {
		crash_wrong(c, "closed: qemu-img convert: status %d", rc);
	} else {
		mem_image_load(&disk, out);
		mem_image_read(&disk, 0, buf, bytes);
		rc = (int)disk_model_read(model, 0, buf, bytes, MEM_NEVER / 2,
					  MEM_NEVER / 2 + 1);
		if (rc)
			crash_wrong(c, "closed: qemu-img reads %d wrong sectors",
				    rc);
	}
	unlink(out);
	mem_image_free(&disk);
	free(buf);
	for (unsigned i = 0; i < c->files; i++)
		mem_image_save(&c->start[i], c->path[i]);
}

static int open_disk(struct crash *c, const char *what)
{
	int rc = rig_open(&c->g, c->spec, 0);

	if (rc)
		crash_wrong(c, "%s: cannot open: %s (%s)", what, strerror(-rc),
			    rig_why());
	return rc;
}

static void close_disk(struct crash *c, const char *what)
{
	int rc = rig_close(&c->g);

	if (rc)
		crash_wrong(c, "%s: cannot close: %s", what, strerror(-rc));
}

static void compare(struct crash *c, struct mem_store *m,
		    struct disk_model *model, uint64_t cut, const char *what)
{
	static char buf[CHUNK] __attribute__((aligned(4096)));
	uint64_t size = td_tree_root(c->g.tree)->size;
	unsigned wrong = 0;

	if (cut == MEM_NEVER && size != disk_model_bytes(model))
		crash_wrong(c, "%s: the disk has %llu bytes", what,
			    (unsigned long long)size);
	size = min_u64(size, disk_model_bytes(model));
	for (uint64_t off = 0; off < size; off += CHUNK) {
		uint64_t n = min_u64(CHUNK, size - off);
		uint64_t now = mem_store_tick(m);
		int rc = rig_read(&c->g, off, n, buf);

		if (rc)
			crash_wrong(c, "%s: read of %llu: %s", what,
				    (unsigned long long)off, strerror(-rc));
		else if (cut == MEM_NEVER)
			wrong += disk_model_read(model, off, buf, n, now, now + 1);
		else
			wrong += disk_model_cut(model, off, buf, n, cut);
	}
	if (wrong)
		crash_wrong(c, "%s: %u sectors hold what they may not", what,
			    wrong);
}

void inspect_disk(struct crash *c, struct mem_store *m, struct disk_model *model,
		  const char *what)
{
	compare(c, m, model, MEM_NEVER, what);
}

static void fill(struct crash *c, struct mem_store *m, const char *what)
{
	uint64_t size;
	unsigned char *none;
	struct load l = { .c = c, .m = m, .no_read = true };

	if (open_disk(c, what))
		return;
	size = td_tree_root(c->g.tree)->size;
	none = calloc(1, size + 1);
	if (!none)
		abort();
	l.model = disk_model_new(none, size);
	free(none);
	load_run(&l);
	compare(c, m, l.model, MEM_NEVER, what);
	close_disk(c, what);
	if (!open_disk(c, what)) {
		compare(c, m, l.model, MEM_NEVER, what);
		close_disk(c, what);
	}
	disk_model_free(l.model);
	c->filled++;
}

static void copy_out(struct crash *c, const struct mem_store *m,
		     struct mem_image *files)
{
	for (unsigned i = 0; i < c->files; i++)
		mem_image_copy(&files[i], &m->file[i].image);
}

void inspect_files(struct crash *c, const struct mem_store *m, const char *what)
{
	struct mem_image files[MEM_FILES] = { { 0 } };

	copy_out(c, m, files);
	judge(c, files, false, what, "as it was taken over");
	ask_qemu(c, files, false, what, "as it was taken over");
	for (unsigned i = 0; i < c->files; i++)
		mem_image_free(&files[i]);
}

void inspect(struct crash *c, const struct mem_image *files,
	     struct disk_model *model, uint64_t cut, bool deep, const char *what)
{
	struct mem_image after[MEM_FILES] = { { 0 } };
	struct mem_store m;

	c->states++;
	if (seen(c, files, cut == MEM_NEVER ? 0 : disk_model_flushes(model, cut)))
		return;
	c->opened++;
	judge(c, files, c->lazy, what, "as it was left");
	if (deep)
		ask_qemu(c, files, c->lazy, what, "as it was left");
	crash_store(c, &m, files);
	m.at_once = true;
	/* The model's clock goes on in this store. */
	m.clock = cut == MEM_NEVER ? MEM_NEVER / 2 : cut + 1;
	if (!open_disk(c, what)) {
		compare(c, &m, model, cut, what);
		close_disk(c, what);
		copy_out(c, &m, after);
		judge(c, after, false, what, "after it was opened");
		if (deep)
			ask_qemu(c, after, false, what, "after it was opened");
		if (deep) {
			m.at_once = false;
			fill(c, &m, what);
			copy_out(c, &m, after);
			judge(c, after, false, what, "written all over");
			ask_qemu(c, after, false, what, "written all over");
		}
	}
	mem_store_free(&m);
	for (unsigned i = 0; i < c->files; i++)
		mem_image_free(&after[i]);
}
