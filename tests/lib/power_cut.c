/* power_cut.c - see power_cut.h.
 *
 * Operations are applied in the order in which they took effect.  Where two that
 * overlap were under way together, this is one of the orders that were possible.
 */
#include "power_cut.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "drv_rig.h"

#define NO_EVENT SIZE_MAX

const char *const power_cut_name[CUT_HOWS] = {
	"done", "begun", "stable", "some", "torn", "one", "but-one",
};

static void *table(size_t n, size_t size)
{
	void *p = calloc(n + 1, size);

	if (!p)
		err(1, "power_cut");
	return p;
}

void power_cut_init(struct power_cut *c, const struct mem_store *m,
		    const struct mem_image *start)
{
	*c = (struct power_cut){ .m = m };
	for (unsigned i = 0; i < m->files; i++)
		mem_image_copy(&c->stable[i], &start[i]);
	c->from = m->n_ops ? m->ops[0].begin : 0;
	c->to = m->clock;
	c->at = c->from;
	c->event = table(c->to - c->from, sizeof(c->event[0]));
	c->pending = table(m->n_ops, sizeof(c->pending[0]));
	c->must = table(m->n_ops, sizeof(c->must[0]));
	for (uint64_t i = c->from; i < c->to; i++)
		c->event[i - c->from] = NO_EVENT;
	for (size_t i = 0; i < m->n_ops; i++) {
		c->event[m->ops[i].begin - c->from] = i;
		if (m->ops[i].end != MEM_NEVER)
			c->event[m->ops[i].end - c->from] = i;
	}
}

void power_cut_free(struct power_cut *c)
{
	for (unsigned i = 0; i < c->m->files; i++)
		mem_image_free(&c->stable[i]);
	free(c->event);
	free(c->pending);
	free(c->must);
}

/* All or some sectors of a write or of zeroes. */
static void land(const struct mem_op *op, struct mem_image *f, uint64_t len,
		 uint64_t *random)
{
	uint64_t end = op->off + len, n;

	/* What lies behind a file's end is not there: the file was not yet that
	 * long.  (In its last sector it may have become so by this write.) */
	end = min_u64(end, align_up(f->size, 512));
	for (uint64_t at = op->off; at < end; at += n) {
		n = random ? min_u64(end - at, 512 - at % 512) : end - at;
		if (random && rig_random(random) & 1)
			continue;
		if (op->op == TD_OP_WRITE)
			mem_image_write(f, at, op->data + (at - op->off), n);
		else
			mem_image_zero(f, at, n);
	}
}

static void apply(const struct mem_op *op, struct mem_image *f)
{
	if (op->op != TD_OP_RESIZE)
		land(op, f, op->landed, NULL);
	else if (op->landed)
		mem_image_resize(f, op->landed);
}

static const struct mem_op *sort_ops;

static int by_effect(const void *a, const void *b)
{
	uint64_t x = sort_ops[*(const size_t *)a].effect;
	uint64_t y = sort_ops[*(const size_t *)b].effect;

	return x < y ? -1 : x > y;
}

static void sort(const struct power_cut *c, size_t *v, size_t n)
{
	sort_ops = c->m->ops;
	qsort(v, n, sizeof(v[0]), by_effect);
}

/* What of a file had ended before this time becomes stable. */
static void settle(struct power_cut *c, unsigned file, uint64_t before)
{
	size_t *v = table(c->n, sizeof(v[0])), n = 0, left = 0;

	for (size_t i = 0; i < c->n; i++) {
		const struct mem_op *op = &c->m->ops[c->pending[i]];

		if (op->file == file && op->end < before)
			v[n++] = c->pending[i];
		else
			c->pending[left++] = c->pending[i];
	}
	c->n = left;
	sort(c, v, n);
	for (size_t i = 0; i < n; i++)
		apply(&c->m->ops[v[i]], &c->stable[file]);
	free(v);
}

/* This write is stable, and the file is as long as that needs; what was written to
 * the same place before it may no longer come after it. */
static void settle_one(struct power_cut *c, size_t fua)
{
	const struct mem_op *op = &c->m->ops[fua];

	c->must[fua] = true;
	for (size_t i = 0; i < c->n; i++) {
		const struct mem_op *o = &c->m->ops[c->pending[i]];

		if (o->op == TD_OP_RESIZE && o->file == op->file &&
		    o->end < op->begin)
			c->must[c->pending[i]] = true;
	}
}

void power_cut_go(struct power_cut *c, uint64_t at)
{
	for (; c->at < at && c->at < c->to; c->at++) {
		size_t i = c->event[c->at - c->from];
		const struct mem_op *op = i == NO_EVENT ? NULL : &c->m->ops[i];

		if (!op)
			continue;
		if (op->begin == c->at) {
			if (op->op != TD_OP_FLUSH)
				c->pending[c->n++] = i;
		} else if (op->err) {
			continue;
		} else if (op->op == TD_OP_FLUSH) {
			settle(c, op->file, op->begin);
		} else if (op->fua) {
			settle_one(c, i);
		}
	}
}

static bool chosen(const struct power_cut *c, enum power_cut_how how, size_t i,
		   size_t the_one, uint64_t *random)
{
	const struct mem_op *op = &c->m->ops[i];

	if (c->must[i])
		return true;
	switch (how) {
	case CUT_DONE:
		return op->end < c->at;
	case CUT_BEGUN:
		return true;
	case CUT_STABLE:
		return false;
	case CUT_SOME:
	case CUT_TORN:
		return rig_random(random) & 1;
	case CUT_ONE:
		return i == the_one || op->op == TD_OP_RESIZE;
	default:
		return i != the_one;
	}
}

void power_cut_build(const struct power_cut *c, enum power_cut_how how,
		     uint64_t which, struct mem_image *files)
{
	size_t *v = table(c->n, sizeof(v[0]));
	uint64_t random = which;
	size_t the_one = c->n ? c->pending[which % c->n] : 0;
	bool sized[MEM_FILES];		/* no change of its size was left out */

	for (unsigned i = 0; i < c->m->files; i++) {
		mem_image_copy(&files[i], &c->stable[i]);
		sized[i] = true;
	}
	memcpy(v, c->pending, c->n * sizeof(v[0]));
	sort(c, v, c->n);
	for (size_t i = 0; i < c->n; i++) {
		const struct mem_op *op = &c->m->ops[v[i]];
		struct mem_image *f = &files[op->file];
		bool yes = chosen(c, how, v[i], the_one, &random);
		uint64_t len = op->end < c->at && how == CUT_DONE ? op->landed :
								    op->len;

		if (op->op == TD_OP_RESIZE) {
			sized[op->file] &= yes;
			if (sized[op->file] && !op->err)
				mem_image_resize(f, op->len);
		} else if (yes) {
			land(op, f, len, how == CUT_TORN && !c->must[v[i]] ?
			     &random : NULL);
		}
	}
	free(v);
}
