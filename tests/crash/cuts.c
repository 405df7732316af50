/* cuts.c - the power cuts of one record: after each operation (or each so many,
 * when there are more than asked for), and just before a flush ends, when most is
 * in doubt, in every manner.
 */
#include <stdio.h>

#include "base/bytes.h"
#include "crash.h"

struct cuts {
	struct crash *c;
	struct power_cut cut;
	struct disk_model *model;
	unsigned left;		/* of the deep ones */
	uint64_t odds;		/* of a state to be looked at deeply: 1 in so many */
};

static void one(struct cuts *s, enum power_cut_how how, uint64_t which)
{
	struct mem_image files[MEM_FILES] = { { 0 } };
	bool deep = s->left && !crash_random(s->c, s->odds);
	char what[96];

	s->left -= deep;
	snprintf(what, sizeof(what), "cut at %llu, %s (%llu)",
		 (unsigned long long)s->cut.at, power_cut_name[how],
		 (unsigned long long)which);
	power_cut_build(&s->cut, how, which, files);
	inspect(s->c, files, s->model, s->cut.at, deep, what);
	for (unsigned i = 0; i < s->c->files; i++)
		mem_image_free(&files[i]);
}

static void all_manners(struct cuts *s, unsigned n)
{
	one(s, CUT_STABLE, 0);
	one(s, CUT_BEGUN, 0);
	for (unsigned i = 0; i < n; i++)
		one(s, CUT_SOME + crash_random(s->c, CUT_HOWS - CUT_SOME),
		    crash_random(s->c, 1000000));
}

void cuts_at(struct crash *c, struct power_cut *cut, struct disk_model *model,
	     uint64_t at, unsigned n)
{
	struct cuts s = { .c = c, .model = model, .left = 1, .odds = 100 };

	power_cut_go(cut, at);
	s.cut = *cut;
	one(&s, CUT_DONE, 0);
	all_manners(&s, n);
	*cut = s.cut;
}

void cuts_run(struct crash *c, const struct mem_store *m, struct disk_model *model)
{
	struct cuts s = { .c = c, .model = model, .left = c->judged };
	uint64_t ends = 0, flushes = 0, stride, each;

	for (size_t i = 0; i < m->n_ops; i++) {
		ends += m->ops[i].op != TD_OP_FLUSH;
		flushes += m->ops[i].op == TD_OP_FLUSH;
	}
	if (!m->n_ops)
		return;
	stride = 1 + 2 * ends / (c->cuts + 1);
	each = 1 + c->cuts / (2 * flushes + 1);
	s.odds = 1 + c->cuts / (c->judged + 1);
	power_cut_init(&s.cut, m, c->start);
	for (uint64_t t = m->ops[0].begin + 1; t <= m->clock && c->wrong < 20; t++) {
		size_t i = t < s.cut.to ? s.cut.event[t - s.cut.from] : SIZE_MAX;
		const struct mem_op *op = i == SIZE_MAX ? NULL : &m->ops[i];

		if (!op || op->end != t)
			continue;
		power_cut_go(&s.cut, t);
		if (op->op == TD_OP_FLUSH)
			all_manners(&s, (unsigned)each);
		power_cut_go(&s.cut, t + 1);
		if (op->op == TD_OP_FLUSH || !crash_random(c, stride))
			one(&s, CUT_DONE, 0);
		if (!crash_random(c, 8 * stride))
			all_manners(&s, 1);
	}
	power_cut_free(&s.cut);
}
