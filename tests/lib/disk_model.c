/* disk_model.c - see disk_model.h.
 *
 * A sector may hold what change v puts there, as seen by somebody who looks from
 * time `since` to time `before`, if v had begun by then, and if no other change
 * replaced it for certain: one that began after v had ended, and ended well before
 * `since`.  After a power cut, `since` is the begin of the last flush that had
 * ended well; changes with FUA that have ended count as flushed by themselves.
 *
 * A failed change may have happened, in part or not at all: it is possible and
 * replaces nothing.  A discard is possible (as zeroes) and replaces nothing.
 */
#include "disk_model.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drv_rig.h"

#define SECTOR 512u
#define NEVER UINT64_MAX

struct change {
	enum td_op op;
	bool fua, failed;
	uint64_t off, len;
	uint64_t begin, end;
};

struct cell {
	uint32_t *v;		/* numbers of changes */
	uint32_t n, room;
};

struct disk_model {
	unsigned char *initial;
	uint64_t initial_bytes;
	struct cell *cells;
	uint64_t n_cells;
	struct change *v;	/* [0]: what was there at first */
	uint32_t n, room;
	unsigned told;
};

struct look {
	uint64_t since, before;
	bool cut;
};

static void *grown(void *p, size_t n, size_t size)
{
	p = reallocarray(p, n, size);
	if (!p)
		err(1, "disk_model");
	return p;
}

void disk_model_grow(struct disk_model *m, uint64_t bytes)
{
	uint64_t n = bytes / SECTOR;

	m->cells = grown(m->cells, n + 1, sizeof(m->cells[0]));
	if (n > m->n_cells)
		memset(m->cells + m->n_cells, 0,
		       (n - m->n_cells) * sizeof(m->cells[0]));
	m->n_cells = n;
}

struct disk_model *disk_model_new(const void *initial, uint64_t bytes)
{
	struct disk_model *m = calloc(1, sizeof(*m));

	if (!m)
		err(1, "disk_model");
	m->initial = grown(NULL, bytes + 1, 1);
	memcpy(m->initial, initial, bytes);
	m->initial_bytes = bytes;
	m->v = grown(NULL, 64, sizeof(m->v[0]));
	m->room = 64;
	m->n = 1;
	m->v[0] = (struct change){ .op = TD_OP_WRITE, .len = bytes };
	disk_model_grow(m, bytes);
	return m;
}

void disk_model_free(struct disk_model *m)
{
	for (uint64_t i = 0; i < m->n_cells; i++)
		free(m->cells[i].v);
	free(m->cells);
	free(m->v);
	free(m->initial);
	free(m);
}

uint32_t disk_model_begin(struct disk_model *m, enum td_op op, unsigned flags,
			  uint64_t off, uint64_t len, uint64_t now)
{
	uint32_t id = m->n++;

	ASSERT(is_aligned(off | len, SECTOR));
	if (m->n > m->room) {
		m->room *= 2;
		m->v = grown(m->v, m->room, sizeof(m->v[0]));
	}
	m->v[id] = (struct change){ .op = op, .fua = flags & TD_REQ_FUA,
				    .off = off, .len = len, .begin = now,
				    .end = NEVER };
	for (uint64_t i = off / SECTOR; i < (off + len) / SECTOR; i++) {
		struct cell *c = &m->cells[i];

		ASSERT(i < m->n_cells);
		if (c->n == c->room) {
			c->room = c->room ? 2 * c->room : 4;
			c->v = grown(c->v, c->room, sizeof(c->v[0]));
		}
		c->v[c->n++] = id;
	}
	return id;
}

void disk_model_end(struct disk_model *m, uint32_t id, int rc, uint64_t now)
{
	m->v[id].end = now;
	m->v[id].failed = rc != 0;
}

void disk_model_stamp(uint32_t id, uint64_t sector, void *bytes)
{
	struct { uint32_t magic, id; uint64_t sector; } s = {
		.magic = 0x504d5453, .id = id, .sector = sector,
	};
	uint64_t random = sector * 0x100000001b3ull + id;

	_Static_assert(sizeof(s) == 16, "a stamp fits a sector many times");
	for (unsigned i = 0; i < SECTOR; i += sizeof(s))
		memcpy((char *)bytes + i, &s, sizeof(s));
	if (id % 4 == 0)
		rig_fill(&random, (char *)bytes + sizeof(s), SECTOR - sizeof(s));
}

static bool legal(const struct disk_model *m, const struct cell *c, uint32_t id,
		  const struct look *l)
{
	const struct change *v = &m->v[id];

	if (v->begin >= l->before)
		return false;
	for (uint32_t i = 0; i < c->n; i++) {
		const struct change *o = &m->v[c->v[i]];

		if (c->v[i] == id || o->failed || o->op == TD_OP_DISCARD ||
		    o->begin <= v->end)
			continue;
		if (o->end < l->since || (l->cut && o->fua && o->end < l->before))
			return false;
	}
	return true;
}

static bool is_zero(const unsigned char *p)
{
	return !p[0] && !memcmp(p, p + 1, SECTOR - 1);
}

/* What change `id` leaves in the sector. */
static void expected(const struct disk_model *m, uint32_t id, uint64_t sector,
		     unsigned char *bytes)
{
	uint64_t off = sector * SECTOR;

	if (!id && off < m->initial_bytes)
		memcpy(bytes, m->initial + off, SECTOR);
	else if (id && m->v[id].op == TD_OP_WRITE)
		disk_model_stamp(id, sector, bytes);
	else
		memset(bytes, 0, SECTOR);
}

static bool sector_ok(const struct disk_model *m, uint64_t sector,
		      const unsigned char *p, const struct look *l)
{
	const struct cell *c = &m->cells[sector];
	unsigned char want[SECTOR];

	for (uint32_t i = c->n + 1; i-- > 0;) {
		uint32_t id = i ? c->v[i - 1] : 0;

		expected(m, id, sector, want);
		if (!memcmp(p, want, SECTOR) && legal(m, c, id, l))
			return true;
	}
	return false;
}

static void tell(const struct disk_model *m, uint64_t sector,
		 const unsigned char *p, const struct look *l)
{
	const struct cell *c = &m->cells[sector];
	unsigned char want[SECTOR];
	uint32_t id;
	uint64_t at;

	memcpy(&id, p + 4, 4);
	memcpy(&at, p + 8, 8);
	if (id < m->n)
		disk_model_stamp(id, at, want);
	printf("wrong: sector %llu holds ", (unsigned long long)sector);
	if (is_zero(p))
		printf("zeroes");
	else if (id < m->n && !memcmp(p, want, SECTOR))
		printf("write %u of sector %llu", id, (unsigned long long)at);
	else if (!memcmp(p, want, 16))
		printf("what begins like write %u of sector %llu", id,
		       (unsigned long long)at);
	else
		printf("%02x %02x %02x %02x %02x %02x %02x %02x ...", p[0], p[1],
		       p[2], p[3], p[4], p[5], p[6], p[7]);
	printf("%s; possible:", l->cut ? " after the cut" : "");
	for (uint32_t i = 0; i <= c->n; i++) {
		uint32_t v = i ? c->v[i - 1] : 0;

		if (legal(m, c, v, l))
			printf(" %s%u", m->v[v].op == TD_OP_WRITE ? "" : "zero ",
			       v);
	}
	printf("\n");
}

static unsigned check(struct disk_model *m, uint64_t off, const void *buf,
		      uint64_t len, const struct look *l)
{
	unsigned wrong = 0;

	for (uint64_t i = 0; i < len; i += SECTOR) {
		const unsigned char *p = (const unsigned char *)buf + i;
		uint64_t sector = (off + i) / SECTOR;

		if (sector_ok(m, sector, p, l))
			continue;
		if (m->told++ < 8)
			tell(m, sector, p, l);
		wrong++;
	}
	return wrong;
}

unsigned disk_model_read(struct disk_model *m, uint64_t off, const void *buf,
			 uint64_t len, uint64_t since, uint64_t now)
{
	struct look l = { .since = since, .before = now };

	return check(m, off, buf, len, &l);
}

uint64_t disk_model_bytes(const struct disk_model *m)
{
	return m->n_cells * SECTOR;
}

uint32_t disk_model_flushes(const struct disk_model *m, uint64_t cut)
{
	uint32_t n = 0;

	for (uint32_t i = 1; i < m->n; i++) {
		const struct change *v = &m->v[i];

		n += (v->op == TD_OP_FLUSH || v->fua) && !v->failed && v->end < cut;
	}
	return n;
}

unsigned disk_model_cut(struct disk_model *m, uint64_t off, const void *buf,
			uint64_t len, uint64_t cut)
{
	struct look l = { .before = cut, .cut = true };

	for (uint32_t i = 1; i < m->n; i++) {
		const struct change *v = &m->v[i];

		if (v->op == TD_OP_FLUSH && !v->failed && v->end < cut)
			l.since = max_u64(l.since, v->begin);
	}
	return check(m, off, buf, len, &l);
}
