/* model.c - see model.h.
 *
 * A sector holds a list of the writes that may still be seen.  One leaves it
 * when no read in flight began before it was certainly overwritten.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seen {
	uint64_t id;
	uint64_t began, ended;		/* ended: UINT64_MAX: in flight */
	uint64_t dead_at;		/* certainly overwritten from then on, */
	uint32_t dead_epoch;		/* and behind the barriers after this */
	uint32_t epoch;
	bool zero;
};

struct sector {
	struct seen *v;
	unsigned n, room;
};

struct model {
	uint64_t seed, clock, last_id, sectors;
	struct sector *sector;
};

struct model *model_new(uint64_t seed, uint64_t sectors)
{
	struct model *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->seed = seed;
	m->sectors = sectors;
	m->sector = calloc(sectors, sizeof(*m->sector));
	if (!m->sector) {
		free(m);
		return NULL;
	}
	return m;
}

void model_free(struct model *m)
{
	if (!m)
		return;
	for (uint64_t i = 0; i < m->sectors; i++)
		free(m->sector[i].v);
	free(m->sector);
	free(m);
}

void model_begin(struct model *m, struct model_op *op)
{
	op->began = ++m->clock;
	op->id = ++m->last_id;
}

/* Was a certainly done before b began? */
static bool precedes(const struct seen *a, const struct model_op *b)
{
	return a->ended < b->began || a->epoch < b->epoch;
}

static void forget(struct sector *s, uint64_t oldest)
{
	unsigned n = 0;

	for (unsigned i = 0; i < s->n; i++)
		if (s->v[i].dead_at >= oldest)
			s->v[n++] = s->v[i];
	s->n = n;
}

static bool add(struct sector *s, const struct model_op *op)
{
	if (s->n == s->room) {
		unsigned room = s->room ? s->room * 2 : 4;
		struct seen *v = realloc(s->v, room * sizeof(*v));

		if (!v)
			return false;
		s->v = v;
		s->room = room;
	}
	s->v[s->n++] = (struct seen){
		.id = op->id, .began = op->began, .ended = UINT64_MAX,
		.dead_at = UINT64_MAX, .dead_epoch = UINT32_MAX,
		.epoch = op->epoch, .zero = op->discard,
	};
	return true;
}

bool model_write(struct model *m, const struct model_op *op, uint64_t oldest)
{
	for (uint64_t i = op->first; i < op->first + op->n; i++) {
		struct sector *s = &m->sector[i];

		forget(s, oldest);
		for (unsigned k = 0; !op->discard && k < s->n; k++)
			if (precedes(&s->v[k], op) &&
			    s->v[k].dead_epoch > op->epoch)
				s->v[k].dead_epoch = op->epoch;
		if (!add(s, op))
			return false;
	}
	return true;
}

void model_written(struct model *m, const struct model_op *op)
{
	uint64_t now = ++m->clock;

	for (uint64_t i = op->first; i < op->first + op->n; i++) {
		struct sector *s = &m->sector[i];

		for (unsigned k = 0; k < s->n; k++) {
			struct seen *v = &s->v[k];

			if (v->id == op->id)
				v->ended = now;
			else if (!op->discard && precedes(v, op) &&
				 v->dead_at > now)
				v->dead_at = now;
		}
	}
}

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

void model_stamp(const struct model *m, uint64_t id, uint64_t sector, void *buf)
{
	uint64_t w[MODEL_SECTOR / sizeof(uint64_t)] = { id, sector };
	uint64_t x = mix(m->seed ^ mix(id) ^ sector);

	for (unsigned i = 2; i < MODEL_SECTOR / sizeof(uint64_t); i++)
		w[i] = x += 0x9e3779b97f4a7c15ull;
	memcpy(buf, w, sizeof(w));
}

bool model_check(const struct model *m, const struct model_op *op,
		 uint64_t sector, const void *buf, char *why, size_t len)
{
	static const char zeroes[MODEL_SECTOR];
	const struct sector *s = &m->sector[sector];
	bool zero = !memcmp(buf, zeroes, sizeof(zeroes));
	char want[MODEL_SECTOR];
	uint64_t id;

	memcpy(&id, buf, sizeof(id));
	model_stamp(m, id, sector, want);
	if (!zero && memcmp(buf, want, sizeof(want))) {
		snprintf(why, len, "holds what was never written there");
		return false;
	}
	snprintf(why, len, zero ? "holds zeroes, and nothing was discarded" :
		 "holds an overwritten write");
	for (unsigned k = 0; k < s->n; k++) {
		const struct seen *v = &s->v[k];

		if (zero ? !v->zero : v->id != id || v->zero)
			continue;
		if (v->dead_at >= op->began && v->dead_epoch >= op->epoch &&
		    v->epoch <= op->epoch)
			return true;
	}
	return false;
}
