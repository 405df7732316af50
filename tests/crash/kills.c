/* kills.c - the process dies at any moment, and another one takes over: a kill, not a
 * power cut.  What it had given to the store lands, or some of it; all else that it
 * knew is gone, but for the redo log.
 *
 * Everything that was answered must be there, although nobody had asked for a flush,
 * and the image is whole.  Some successors die while they take over.  In the end come
 * power cuts, above all while somebody took over: then only what was flushed must be
 * there, whichever process it was written to.
 *
 * What died is never freed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "crash.h"
#include "redo_area.h"

#define WINDOWS 64u

struct kills {
	struct crash *c;
	struct mem_store m;
	struct td_redo redo;
	unsigned char *left;		/* the area, as it was at the moment of death */
	uint64_t growing;		/* to this size, when it died */
	struct { uint64_t from, to; } window[WINDOWS];	/* of taking over */
	unsigned windows, lives, died_opening;
};

static void died(void *arg)
{
	struct kills *k = arg;

	memcpy(k->left, k->redo.area, k->redo.bytes);
	k->c->g.gone = true;
	loop_stop(k->c->g.env.loop);
}

/* Dies after 1 .. n events. */
static void soon(struct kills *k, unsigned n)
{
	k->m.die_in = 1 + (unsigned)crash_random(k->c, n);
}

static void bury(struct kills *k, struct load *l)
{
	load_abandon(l);
	rig_abandon(&k->c->g);
	/* Not the same memory: a worker of the dead may still look at it. */
	k->redo.area = k->left;
	k->left = calloc(1, k->redo.bytes);
	if (!k->left)
		abort();
	mem_store_bury(&k->m, crash_random(k->c, 2) ?
		       0 : 1 + (unsigned)crash_random(k->c, 4));
}

/* False: it died, or could not be opened. */
static bool open_disk(struct kills *k, bool recover, const char *what)
{
	struct crash *c = k->c;
	uint64_t from = mem_store_tick(&k->m);
	struct redo_area *a = k->redo.area;
	int rc;

	k->redo.recover = recover;
	if (redo_area_prepare(&k->redo))
		crash_wrong(c, "%s: the redo log's head is damaged", what);
	if (!recover) {		/* its ring's end is near, or far */
		uint64_t pos = 8 * crash_random(c, k->redo.bytes / 4);

		atomic_store(&a->head, pos);
		atomic_store(&a->tail, pos);
	}
	rc = rig_open(&c->g, c->spec, 0);
	if (recover) {
		k->windows += k->windows < WINDOWS;
		k->window[k->windows - 1].from = from;
		k->window[k->windows - 1].to = mem_store_tick(&k->m);
	}
	if (rc && !c->g.gone)
		crash_wrong(c, "%s: cannot open: %s (%s)", what, strerror(-rc),
			    rig_why());
	return !rc;
}

/* It dies in the middle of it, perhaps; then it has the one or the other size. */
static void grow(struct kills *k, struct load *l)
{
	struct crash *c = k->c;
	uint64_t bytes = td_tree_root(c->g.tree)->size +
			 512 * (1 + crash_random(c, 4096));
	int rc;

	k->growing = bytes;
	rc = rig_resize(&c->g, bytes);
	if (c->g.gone)
		return;
	k->growing = 0;
	if (rc)
		crash_wrong(c, "cannot grow: %s", strerror(-rc));
	else
		disk_model_grow(l->model, bytes);
}

/* What others have written, too, is safe then. */
static void flush(struct kills *k, struct load *l)
{
	uint32_t id = disk_model_begin(l->model, TD_OP_FLUSH, 0, 0, 0,
				       mem_store_tick(&k->m));
	int rc = rig_io(&k->c->g, TD_OP_FLUSH, 0, 0, 0, NULL);

	disk_model_end(l->model, id, rc, mem_store_tick(&k->m));
	if (rc)
		crash_wrong(k->c, "cannot flush: %s", strerror(-rc));
	k->window[k->windows - 1].to = mem_store_tick(&k->m) + 1;
}

static void take_over(struct kills *k, struct load *l, const char *what)
{
	struct crash *c = k->c;
	uint64_t size = td_tree_root(c->g.tree)->size;

	if (k->growing && size == k->growing)
		disk_model_grow(l->model, size);
	k->growing = 0;
	inspect_files(c, &k->m, what);
	inspect_disk(c, &k->m, l->model, what);
	if (k->windows && crash_random(c, 2))
		flush(k, l);
}

/* Until it dies. */
static void live(struct kills *k, struct load *l)
{
	struct crash *c = k->c;

	/* Now and then right after the last answer; now and then the log is all that
	 * has it. */
	l->no_flush = crash_random(c, 2);
	soon(k, crash_random(c, 3) ? 4 * c->ops : 20);
	if (c->grow && !crash_random(c, 3))
		grow(k, l);
	if (!c->g.gone)
		load_run(l);
	if (!c->g.gone) {
		pthread_mutex_lock(&k->m.mutex);
		k->m.dead = true;
		died(k);
		pthread_mutex_unlock(&k->m.mutex);
	}
	bury(k, l);
	k->lives++;
}

static void cut_while_taking_over(struct kills *k, struct disk_model *model)
{
	struct crash *c = k->c;
	struct power_cut cut;
	unsigned left = c->cuts;

	if (!k->m.n_ops)
		return;
	power_cut_init(&cut, &k->m, c->start);
	for (unsigned w = 0; w < k->windows && c->wrong < 20; w++) {
		for (uint64_t t = k->window[w].from; t <= k->window[w].to && left &&
		     c->wrong < 20; t++) {
			if (t >= cut.to || t < cut.from ||
			    cut.event[t - cut.from] == SIZE_MAX)
				continue;
			left--;
			cuts_at(c, &cut, model, t + 1, 3);
		}
		cuts_at(c, &cut, model, k->window[w].to, 1);
	}
	power_cut_free(&cut);
}

static bool redo_dirty(const struct kills *k)
{
	const struct redo_area *a = k->redo.area;

	return atomic_load(&a->head) != atomic_load(&a->tail);
}

void kills_run(struct crash *c)
{
	struct mem_image files[MEM_FILES] = { { 0 } };
	struct kills k = { .c = c };
	struct load l = { .c = c, .m = &k.m, .ops = c->ops };
	char what[64] = "opened";
	int rc;

	alarm(600);
	k.redo.bytes = c->redo_bytes ? c->redo_bytes : REDO_AREA_MIN;
	k.redo.area = calloc(1, k.redo.bytes);
	k.left = calloc(1, k.redo.bytes);
	if (!k.redo.area || !k.left)
		abort();
	if (c->redo_bytes)
		c->g.env.redo = &k.redo;
	crash_store(c, &k.m, c->start);
	k.m.record = true;
	k.m.died = died;
	k.m.died_arg = &k;
	l.model = disk_model_new(c->initial, c->bytes);
	list_init(&l.tickets);
	for (unsigned i = 0; i <= c->kills && c->wrong < 20; i++) {
		if (i)
			snprintf(what, sizeof(what), "after %u kills", i);
		/* They may die before they have begun. */
		while (crash_random(c, 3) == 0) {
			soon(&k, 12);
			if (open_disk(&k, i, what)) {
				k.m.die_in = 1;
				load_run(&l);
			}
			if (!c->g.gone)
				break;
			k.died_opening++;
			bury(&k, &l);
		}
		k.m.die_in = 0;
		if (c->wrong || !open_disk(&k, i, what))
			break;
		take_over(&k, &l, what);
		if (i < c->kills)
			live(&k, &l);
	}
	if (c->g.tree && !c->wrong) {
		load_run(&l);
		rc = rig_close(&c->g);
		if (redo_dirty(&k))
			crash_wrong(c, "closed, and the redo log is not empty");
		c->g.env.redo = NULL;
		if (rc)
			crash_wrong(c, "cannot close: %s", strerror(-rc));
		for (unsigned i = 0; i < c->files; i++)
			mem_image_copy(&files[i], &k.m.file[i].image);
		inspect_as_qemu_reads(c, files, l.model);
		inspect(c, files, l.model, MEM_NEVER, true, "closed");
	}
	c->g.env.redo = NULL;
	printf("%u lives, %u died while they took over; %zu operations recorded\n",
	       k.lives, k.died_opening, k.m.n_ops);
	if (!c->wrong)
		cut_while_taking_over(&k, l.model);
	for (unsigned i = 0; i < c->files; i++)
		mem_image_free(&files[i]);
	disk_model_free(l.model);
}
