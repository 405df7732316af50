/* faults.c - the same requests again and again, and each time something else of
 * what they need fails.
 *
 * While it fails, requests may be answered with errors.  When space is there again
 * the disk must work as if nothing had been; after other faults it may refuse what
 * it can no longer promise.  In no case is the image damaged, or anything gone
 * that was flushed.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "crash.h"

#define BIT(op) (1u << (op))

static const struct kind {
	const char *name;
	struct mem_fault fault;
	bool heals;		/* all is well when it is over */
} kinds[] = {
	{ "no space for one operation",
	  { BIT(TD_OP_WRITE) | BIT(TD_OP_RESIZE) | BIT(TD_OP_ZEROES), 1, 1,
	    -ENOSPC, 0 }, true },
	{ "no space for a while",
	  { BIT(TD_OP_WRITE) | BIT(TD_OP_RESIZE), 1, 30, -ENOSPC, 0 }, true },
	{ "no space to grow",
	  { BIT(TD_OP_RESIZE), 1, 3, -ENOSPC, 0 }, true },
	{ "no space within a write",
	  { BIT(TD_OP_WRITE), 1, 2, -ENOSPC, 1 }, true },
	{ "a write fails",
	  { BIT(TD_OP_WRITE), 1, 1, -EIO, 0 }, false },
	{ "a write fails half-way",
	  { BIT(TD_OP_WRITE), 1, 1, -EIO, 2 }, false },
	{ "zeroes and holes fail",
	  { BIT(TD_OP_ZEROES) | BIT(TD_OP_DISCARD), 1, 2, -EIO, 0 }, false },
	{ "a read fails",
	  { BIT(TD_OP_READ), 1, 1, -EIO, 0 }, false },
	{ "a flush fails",
	  { BIT(TD_OP_FLUSH), 1, 1, -EIO, 0 }, false },
	{ "everything fails from then on",
	  { BIT(TD_OP_READ) | BIT(TD_OP_WRITE) | BIT(TD_OP_ZEROES) |
	    BIT(TD_OP_DISCARD) | BIT(TD_OP_RESIZE) | BIT(TD_OP_FLUSH), 1, 0,
	    -EIO, 0 }, false },
};

static void cut_here(struct crash *c, const struct mem_store *m,
		     struct disk_model *model, const char *what)
{
	struct mem_image files[MEM_FILES] = { { 0 } };
	struct power_cut cut;

	if (!m->n_ops)
		return;
	power_cut_init(&cut, m, c->start);
	power_cut_go(&cut, m->clock);
	for (unsigned i = 0; i < 3; i++) {
		enum power_cut_how how = CUT_STABLE + crash_random(c, 5);

		power_cut_build(&cut, how, crash_random(c, 1000), files);
		inspect(c, files, model, cut.at, false, what);
	}
	for (unsigned i = 0; i < c->files; i++)
		mem_image_free(&files[i]);
	power_cut_free(&cut);
}

/* What has failed just now may be refused for a moment: it works in the end, if the
 * fault heals. */
static void load_again(struct load *l, bool heals)
{
	unsigned before, tries = 0;

	do {
		if (tries)
			usleep(100000);
		l->may_fail = !heals || tries < 20;
		before = l->errors;
		load_run(l);
	} while (heals && l->errors > before && tries++ < 20);
}

/* False: the fault lies behind the end of the run. */
static bool one(struct crash *c, const struct kind *k, unsigned nth)
{
	struct mem_fault f = k->fault;
	struct mem_image files[MEM_FILES] = { { 0 } };
	struct mem_store m;
	struct load l = { .c = c, .m = &m, .ops = c->ops, .may_fail = true };
	char what[128];
	bool hit;
	int rc;

	snprintf(what, sizeof(what), "%s (operation %u)", k->name, nth);
	if (c->verbose)
		printf("%s\n", what);
	alarm(300);
	c->random = c->seed;
	crash_store(c, &m, c->start);
	m.record = true;
	l.model = disk_model_new(c->initial, c->bytes);
	f.nth = nth;
	mem_store_fail(&m, &f);
	rc = rig_open(&c->g, c->spec, 0);
	if (!rc) {
		load_run(&l);
		hit = m.hits;
		mem_store_fail(&m, NULL);
		l.ops = c->ops / 4;
		load_run(&l);
		load_again(&l, k->heals);
		rc = rig_close(&c->g);
		if (rc && (k->heals || !hit))
			crash_wrong(c, "%s: cannot close: %s", what,
				    strerror(-rc));
	} else {
		hit = m.hits;
		mem_store_fail(&m, NULL);
	}
	if (!hit && (l.errors || rc))
		crash_wrong(c, "%u errors, none of them ours (%s)", l.errors,
			    rc ? rig_why() : "");
	for (unsigned i = 0; i < c->files; i++)
		mem_image_copy(&files[i], &m.file[i].image);
	cut_here(c, &m, l.model, what);
	inspect(c, files, l.model, hit && !k->heals ? m.clock : MEM_NEVER,
		nth % 8 == 3, what);
	for (unsigned i = 0; i < c->files; i++)
		mem_image_free(&files[i]);
	disk_model_free(l.model);
	mem_store_free(&m);
	return hit;
}

void faults_run(struct crash *c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(kinds) && c->wrong < 20; i++) {
		unsigned nth = 1, runs = 0;

		/* All of them, or so many of them, near and far. */
		while (c->wrong < 20 && one(c, &kinds[i], nth)) {
			runs++;
			nth += c->faults > runs * 2 ? 1 : 1 + nth / 8;
		}
		printf("%s: %u runs, up to operation %u\n", kinds[i].name, runs,
		       nth);
	}
}
