/* image_judge.c - see image_judge.h.
 *
 * Each walks all tables and counts the references to every cluster.  A cluster
 * that is referred to from the active tables twice, or that is table and data at
 * once, is damage, whatever counts say.
 */
#include "image_judge.h"

#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define OFFSET_MASK 0x00fffffffffffe00ull
#define COPIED (1ull << 63)
#define PACKED (1ull << 62)

struct space {			/* of a host cluster */
	uint32_t refs;
	uint32_t data;		/* of them, by active data entries */
	bool meta, packed;
};

struct judge {
	const struct mem_image *m;
	struct judgement *j;
	uint64_t cluster, clusters;
	struct space *space;
	/* qcow2 */
	unsigned bits, order;
	uint64_t entry;		/* bytes of an L2 entry */
	uint64_t reftable, reftable_bytes;
	bool v3, extended, data_file;
};

__attribute__((format(printf, 2, 3)))
static void wrong(struct judge *g, const char *fmt, ...)
{
	va_list ap;

	if (g->j->errors++)
		return;
	va_start(ap, fmt);
	vsnprintf(g->j->first, sizeof(g->j->first), fmt, ap);
	va_end(ap);
}

static uint64_t be64_at(struct judge *g, uint64_t off)
{
	unsigned char b[8];

	mem_image_read(g->m, off, b, 8);
	return get_be64(b);
}

static uint32_t be32_at(struct judge *g, uint64_t off)
{
	unsigned char b[4];

	mem_image_read(g->m, off, b, 4);
	return get_be32(b);
}

static uint64_t le_at(struct judge *g, uint64_t off, unsigned bytes)
{
	unsigned char b[8];
	uint64_t v = 0;

	mem_image_read(g->m, off, b, bytes);
	while (bytes--)
		v = v << 8 | b[bytes];
	return v;
}

static void space_new(struct judge *g, uint64_t cluster)
{
	g->cluster = cluster;
	g->clusters = (g->m->size + cluster - 1) / cluster;
	g->space = calloc(g->clusters + 1, sizeof(g->space[0]));
	if (!g->space)
		err(1, "image_judge");
}

/* An image that is bad enough is not looked at to its end: it could be without. */
static bool enough(const struct judge *g)
{
	return g->j->errors > 20;
}

/* Whether a table lies in the file, or almost. */
static bool inside(struct judge *g, uint64_t off, uint64_t len, const char *what)
{
	if (range_ok(off, len, g->m->size + g->cluster))
		return true;
	wrong(g, "%s at %#llx does not lie in the file", what,
	      (unsigned long long)off);
	return false;
}

/* One more reference to the clusters of [off, off + len). */
static bool refer(struct judge *g, uint64_t off, uint64_t len, bool meta,
		  const char *what)
{
	if (!inside(g, off, len, what))
		return false;
	for (uint64_t i = off / g->cluster; i <= (off + len - 1) / g->cluster; i++) {
		struct space *s = &g->space[i];

		if (i >= g->clusters) {
			wrong(g, "%s at %#llx lies behind the end", what,
			      (unsigned long long)off);
			return false;
		}
		s->refs++;
		if (meta && (s->meta || s->refs > 1))
			wrong(g, "%s at %#llx is something else too", what,
			      (unsigned long long)off);
		if (!meta && s->meta)
			wrong(g, "%s at %#llx is a table too", what,
			      (unsigned long long)off);
		s->meta |= meta;
	}
	return true;
}

/* A data cluster of the active tables. */
static void refer_data(struct judge *g, uint64_t off)
{
	if (!refer(g, off, g->cluster, false, "data"))
		return;
	if (g->space[off / g->cluster].data++ || g->space[off / g->cluster].packed)
		wrong(g, "data at %#llx belongs to two places of the disk",
		      (unsigned long long)off);
}

/* qcow2 */

static uint64_t refcount(struct judge *g, uint64_t cluster)
{
	uint64_t per = (g->cluster * 8) >> g->order, block, v = 0;
	uint64_t at = cluster / per * 8, i = cluster % per;
	unsigned char b[8];

	if (at >= g->reftable_bytes)
		return 0;
	block = be64_at(g, g->reftable + at) & ~511ull;
	if (!block)
		return 0;
	if (g->order < 3) {
		unsigned width = 1u << g->order, in = 8 / width;

		mem_image_read(g->m, block + i / in, b, 1);
		return (b[0] >> (i % in * width)) & ((1u << width) - 1);
	}
	mem_image_read(g->m, block + (i << (g->order - 3)), b, 1u << (g->order - 3));
	for (unsigned k = 0; k < 1u << (g->order - 3); k++)
		v = v << 8 | b[k];
	return v;
}

static void l2_packed(struct judge *g, uint64_t e, bool active)
{
	unsigned x = 62 - (g->bits - 8);
	uint64_t off = e & ((1ull << x) - 1);
	uint64_t sectors = ((e & (PACKED - 1)) >> x) + 1;
	uint64_t end = align_down(off, 512) + sectors * 512;

	if (e & COPIED)
		wrong(g, "a packed cluster is marked as copied");
	if (off >= g->m->size || end >= g->m->size + g->cluster) {
		wrong(g, "a packed cluster reaches a cluster or more behind the end");
		return;
	}
	/* What the last sectors are said to be may lie there: it is counted too. */
	if (end > g->clusters * g->cluster) {
		end = g->clusters * g->cluster;
		g->space[g->clusters].refs++;
	}
	refer(g, off, end - off, false, "a packed cluster");
	for (uint64_t i = off / g->cluster; active && i <= (end - 1) / g->cluster;
	     i++) {
		if (i < g->clusters && g->space[i].data)
			wrong(g, "packed and other data share %#llx",
			      (unsigned long long)off);
		if (i < g->clusters)
			g->space[i].packed = true;
	}
}

static void l2_entry(struct judge *g, uint64_t at, bool active)
{
	uint64_t e = be64_at(g, at), host = e & OFFSET_MASK;
	uint64_t map = g->extended ? be64_at(g, at + 8) : 0;

	if (e & PACKED) {
		l2_packed(g, e, active);
		if (map)
			wrong(g, "a packed cluster has subclusters");
		return;
	}
	if (e & 0x3f000000000001feull)
		wrong(g, "reserved bits in %#llx", (unsigned long long)e);
	if ((e & 1) && (!g->v3 || g->extended))
		wrong(g, "zero bit in %#llx", (unsigned long long)e);
	if ((uint32_t)map & (uint32_t)(map >> 32))
		wrong(g, "a subcluster is zero and data");
	if (!host && (uint32_t)map && !g->data_file)
		wrong(g, "a subcluster of no cluster is data");
	if (g->data_file || !host)
		return;
	if (!is_aligned(host, g->cluster))
		wrong(g, "data at %#llx is not aligned", (unsigned long long)host);
	else if (active)
		refer_data(g, host);
	else
		refer(g, host, g->cluster, false, "a snapshot's data");
}

static void l1_table(struct judge *g, uint64_t l1, uint64_t n, bool active)
{
	if (!inside(g, l1, n * 8, "L1 table"))
		return;
	for (uint64_t i = 0; i < n && !enough(g); i++) {
		uint64_t l2 = be64_at(g, l1 + i * 8) & OFFSET_MASK;
		uint64_t c = l2 / g->cluster;

		if (!l2)
			continue;
		if (!is_aligned(l2, g->cluster) || c >= g->clusters) {
			wrong(g, "L2 table at %#llx", (unsigned long long)l2);
			continue;
		}
		if (g->space[c].data || g->space[c].packed)
			wrong(g, "L2 table at %#llx is data too",
			      (unsigned long long)l2);
		/* Snapshots share tables. */
		if (g->space[c].meta && active)
			wrong(g, "L2 table at %#llx is something else too",
			      (unsigned long long)l2);
		g->space[c].refs++;
		g->space[c].meta = true;
		for (uint64_t k = 0; k < g->cluster; k += g->entry)
			l2_entry(g, l2 + k, active);
	}
}

static void snapshots(struct judge *g, unsigned n, uint64_t at)
{
	uint64_t start = at;

	if (!inside(g, at, n * 40ull, "the snapshot table"))
		return;
	for (unsigned i = 0; i < n && !enough(g); i++) {
		unsigned char b[40];

		mem_image_read(g->m, at, b, sizeof(b));
		if (get_be32(b + 8))
			refer(g, get_be64(b), get_be32(b + 8) * 8ull, true,
			      "a snapshot's L1 table");
		l1_table(g, get_be64(b), get_be32(b + 8), false);
		at += 40 + get_be32(b + 36) + get_be16(b + 12) + get_be16(b + 14);
		at = align_up(at, 8);
	}
	if (n)
		refer(g, start, at - start, true, "the snapshot table");
}

/* Whether "copied" of the active tables says what the counts say. */
static void copied(struct judge *g, uint64_t l1, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t e = be64_at(g, l1 + i * 8), l2 = e & OFFSET_MASK;

		if (!l2 || l2 / g->cluster >= g->clusters)
			continue;
		if (!(e & COPIED) != (refcount(g, l2 / g->cluster) != 1))
			wrong(g, "L1 entry %#llx: count %llu",
			      (unsigned long long)e, (unsigned long long)
			      refcount(g, l2 / g->cluster));
		for (uint64_t k = 0; k < g->cluster && !g->data_file;
		     k += g->entry) {
			uint64_t d = be64_at(g, l2 + k), host = d & OFFSET_MASK;

			if (!host || (d & PACKED))
				continue;
			if (!(d & COPIED) != (refcount(g, host / g->cluster) != 1))
				wrong(g, "L2 entry %#llx: count %llu",
				      (unsigned long long)d, (unsigned long long)
				      refcount(g, host / g->cluster));
		}
	}
}

static void counts(struct judge *g)
{
	for (uint64_t i = 0; i < g->clusters + !!g->space[g->clusters].refs; i++) {
		uint64_t have = refcount(g, i);

		if (have > g->space[i].refs)
			g->j->leaks++;
		else if (have < g->space[i].refs)
			wrong(g, "cluster %#llx: count %llu, %u references",
			      (unsigned long long)(i * g->cluster),
			      (unsigned long long)have, g->space[i].refs);
	}
}

/* The header of LUKS has clusters of its own; those of bitmaps are not followed. */
static void extensions(struct judge *g)
{
	uint64_t at = g->v3 ? be32_at(g, 100) : 72, end = be64_at(g, 8);

	if (!end)
		end = g->cluster;
	while (at + 8 <= end && be32_at(g, at) && !enough(g)) {
		uint64_t len = be32_at(g, at + 4);

		if (be32_at(g, at) == 0x0537be77 && be64_at(g, at + 16))
			refer(g, be64_at(g, at + 8), be64_at(g, at + 16), true,
			      "the header of LUKS");
		at += 8 + align_up(len, 8);
	}
}

static void judge_qcow2(struct judge *g)
{
	uint64_t l1 = be64_at(g, 40), n = be32_at(g, 36), incompat = 0;

	g->bits = be32_at(g, 20);
	g->v3 = be32_at(g, 4) == 3;
	g->order = g->v3 ? be32_at(g, 96) : 4;
	if (g->v3)
		incompat = be64_at(g, 72);
	if (g->bits < 9 || g->bits > 21 || g->order > 6 || n > 1u << 22) {
		wrong(g, "header");
		return;
	}
	g->j->dirty = incompat & 1;
	g->j->marked = incompat & 2;
	g->data_file = incompat & 4;
	g->extended = incompat & 16;
	g->entry = g->extended ? 16 : 8;
	space_new(g, 1ull << g->bits);
	g->reftable = be64_at(g, 48);
	g->reftable_bytes = be32_at(g, 56) * g->cluster;
	refer(g, 0, g->cluster, true, "the header");
	if (n)
		refer(g, l1, n * 8, true, "the L1 table");
	if (!refer(g, g->reftable, g->reftable_bytes, true, "the refcount table"))
		return;
	for (uint64_t i = 0; i < g->reftable_bytes && !enough(g); i += 8) {
		uint64_t e = be64_at(g, g->reftable + i);

		if (e & (g->cluster - 1))
			wrong(g, "refcount block at %#llx", (unsigned long long)e);
		else if (e)
			refer(g, e, g->cluster, true, "a refcount block");
	}
	l1_table(g, l1, n, true);
	snapshots(g, be32_at(g, 60), be64_at(g, 64));
	extensions(g);
	if (enough(g))
		return;
	counts(g);
	copied(g, l1, n);
}

/* qcow */

static void judge_qcow(struct judge *g)
{
	unsigned char h[48];
	uint64_t l1, n, entries;

	mem_image_read(g->m, 0, h, sizeof(h));
	if (h[32] < 9 || h[32] > 16 || h[33] < 6 || h[33] > 13) {
		wrong(g, "header");
		return;
	}
	l1 = get_be64(h + 40);
	entries = 1ull << h[33];
	n = (get_be64(h + 24) + (entries << h[32]) - 1) / (entries << h[32]);
	/* Tables may lie anywhere, so by sectors. */
	space_new(g, 512);
	refer(g, 0, 48, false, "the header");
	if (n > g->m->size) {
		wrong(g, "header");
		return;
	}
	if (!refer(g, l1, n * 8, false, "the L1 table"))
		return;
	for (uint64_t i = 0; i <= (l1 + n * 8 - 1) / 512 && i < g->clusters; i++)
		g->space[i].meta = true;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t l2 = be64_at(g, l1 + i * 8);

		/* A table behind the end is one of zeroes. */
		if (!l2 || l2 >= g->m->size)
			continue;
		refer(g, l2, min_u64(entries * 8, g->m->size - l2), true,
		      "an L2 table");
	}
	for (uint64_t i = 0; i < n && !enough(g); i++) {
		uint64_t l2 = be64_at(g, l1 + i * 8);

		for (uint64_t k = 0; l2 && k < entries; k++) {
			uint64_t e = be64_at(g, l2 + k * 8), len = 1ull << h[32];
			uint64_t host = e;

			if (!e)
				continue;
			if (e & COPIED) {
				host = e & ((1ull << (63 - h[32])) - 1);
				len = (e & (COPIED - 1)) >> (63 - h[32]);
			}
			if (!len || host >= g->m->size ||
			    (!(e & COPIED) && host % len &&
			     g->m->size - host < len))
				wrong(g, "data at %#llx lies behind the end",
				      (unsigned long long)host);
			else
				refer(g, host, min_u64(len, g->m->size - host),
				      false, "data");
			/* Packed clusters may share a sector, plain ones nothing. */
			for (uint64_t at = host / 512; len && host < g->m->size &&
			     at <= (host + len - 1) / 512 && at < g->clusters;
			     at++) {
				struct space *p = &g->space[at];

				if (p->data || (p->packed && !(e & COPIED)))
					wrong(g, "data at %#llx belongs to two "
					      "places", (unsigned long long)host);
				if (e & COPIED)
					p->packed = true;
				else
					p->data++;
			}
		}
	}
}

/* vmdk: the grain directory of one sparse file, and the redundant one. */

static void vmdk_grain(struct judge *g, uint64_t sector, uint64_t grain)
{
	if (sector > 1 && refer(g, sector * 512, grain * 512, false, "a grain") &&
	    g->space[sector].data++)
		wrong(g, "the grain at %#llx belongs to two places",
		      (unsigned long long)(sector * 512));
}

static void judge_vmdk(struct judge *g)
{
	uint64_t capacity = le_at(g, 12, 8), grain = le_at(g, 20, 8);
	uint64_t per = le_at(g, 44, 4), n;
	uint64_t desc = le_at(g, 28, 8), desc_len = le_at(g, 36, 8);
	uint64_t dirs[2] = { le_at(g, 56, 8), 0 };

	if (le_at(g, 0, 4) != 0x564d444b)
		return;
	if (le_at(g, 8, 4) & 2)
		dirs[1] = le_at(g, 48, 8);
	if (!is_pow2(grain) || grain > 1u << 21 || !per || per > 512 || !dirs[0] ||
	    capacity > 1ull << 40) {
		wrong(g, "header");
		return;
	}
	space_new(g, 512);
	n = (capacity + grain * per - 1) / (grain * per);
	if (n > g->m->size || dirs[0] > g->m->size || dirs[1] > g->m->size ||
	    desc > g->m->size || desc_len > g->m->size) {
		wrong(g, "header");
		return;
	}
	refer(g, 0, 512, true, "the header");
	if (desc && desc_len)
		refer(g, desc * 512, desc_len * 512, true, "the descriptor");
	for (unsigned d = 0; d < 2; d++) {
		if (dirs[d] && !refer(g, dirs[d] * 512, n * 4, true,
				      "a grain directory"))
			return;
		for (uint64_t i = 0; dirs[d] && i < n && !enough(g); i++) {
			uint64_t t = le_at(g, dirs[d] * 512 + i * 4, 4);

			if (t)
				refer(g, t * 512, per * 4, true, "a grain table");
		}
	}
	for (uint64_t i = 0; i < n && !enough(g); i++) {
		uint64_t t = le_at(g, dirs[0] * 512 + i * 4, 4);
		uint64_t u = dirs[1] ? le_at(g, dirs[1] * 512 + i * 4, 4) : 0;

		for (uint64_t k = 0; (t || u) && k < per; k++) {
			uint64_t e = t ? le_at(g, t * 512 + k * 4, 4) : 0;
			uint64_t f = u ? le_at(g, u * 512 + k * 4, 4) : 0;

			/* After a crash one set may lag behind the other: with
			 * nothing, or with where the grain was before it was
			 * given back and written again.  Nobody else is there. */
			vmdk_grain(g, e, grain);
			if (f != e)
				vmdk_grain(g, f, grain);
		}
	}
}

void image_judge(const char *format, const struct mem_image *m,
		 struct judgement *j)
{
	struct judge g = { .m = m, .j = j };

	*j = (struct judgement){ 0 };
	if (!strcmp(format, "qcow2"))
		judge_qcow2(&g);
	else if (!strcmp(format, "qcow"))
		judge_qcow(&g);
	else if (!strcmp(format, "vmdk"))
		judge_vmdk(&g);
	free(g.space);
}
