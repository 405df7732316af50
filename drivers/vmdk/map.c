/* map.c - the tables of sparse extents at work.
 *
 * A grain directory leads to grain tables, whose entries are sectors of grains.  0:
 * nothing; 1, in extents that say so: zeroes, whatever the parent has.  Most extents
 * have two sets of both.  Both are changed together, in the same round, and after the
 * grains that they name; a cut between the two leaves an entry in one set alone,
 * and so an entry that is there goes before one that is not.
 *
 * Nothing counts references: space is taken at the end of the file.  What is given
 * back is punched and used again in this session; after it its place is known to
 * nobody.
 */
#include <errno.h>

#include "base/bytes.h"
#include "base/log.h"
#include "vmdk/vmdk_priv.h"

#define ZEROED 1u		/* the entry of a grain of zeroes */

/* Entries of a grain table, in one set or in both. */
struct look {
	unsigned sets;
	struct sparse_at at[VMDK_SETS];	/* of the first; p NULL: there is no table */
	uint64_t n;			/* as many can be looked at, at least 1 */
	uint64_t table;			/* which of the directory */
};

static const struct vmdk_extent *extent_at(const struct vmdk *v, uint64_t off)
{
	unsigned a = 0, b = v->n_extents;

	while (b - a > 1) {
		unsigned m = a + (b - a) / 2;

		if (v->extents[m].start <= off)
			a = m;
		else
			b = m;
	}
	return &v->extents[a];
}

/* The directory's entry for a table in one set. */
static int gd_at(struct sparse *s, const struct vmdk_extent *e, unsigned set,
		 uint64_t table, struct sparse_at *a)
{
	return sparse_get(s, VMDK_GD, e->file, e->gd[set],
			  (uint64_t)e->h.gts * VMDK_ENTRY, table * VMDK_ENTRY, a);
}

static int gt_at(struct sparse *s, const struct vmdk_extent *e, unsigned set,
		 uint64_t table, uint64_t i, struct sparse_at *a)
{
	uint64_t host;
	int err = gd_at(s, e, set, table, a);

	if (err)
		return err;
	host = (uint64_t)get_le32(a->p) * VMDK_SECTOR;
	if (host)
		return sparse_get(s, VMDK_GT, e->file, host, vmdk_gt_len(e),
				  i * VMDK_ENTRY, a);
	*a = (struct sparse_at){ .p = NULL };
	return 0;
}

/* The entries of the grain at `off` of the extent and of those behind it. */
static int look_at(struct sparse *s, const struct vmdk_extent *e, uint64_t off,
		   unsigned sets, struct look *l)
{
	uint64_t grain = off / e->h.grain, i = grain % e->h.gtes;

	l->sets = sets;
	l->table = grain / e->h.gtes;
	l->n = e->h.gtes - i;
	for (unsigned k = 0; k < sets; k++) {
		int err = gt_at(s, e, k, l->table, i, &l->at[k]);

		if (err)
			return err;
		if (l->at[k].p)
			l->n = min_u64(l->n, l->at[k].left / VMDK_ENTRY);
	}
	return 0;
}

static uint32_t entry(const struct look *l, uint64_t i)
{
	uint32_t v = 0;

	for (unsigned k = 0; !v && k < l->sets; k++)
		if (l->at[k].p)
			v = get_le32(l->at[k].p + i * VMDK_ENTRY);
	return v;
}

static bool zeroed(const struct vmdk_extent *e, uint32_t v)
{
	return v == ZEROED && e->h.zeroed;
}

/* A grain's marker says how long it is; before it is read, the next grain does, for
 * streams have them in order, or what is the most. */
static uint32_t packed_most(const struct vmdk_extent *e, const struct look *l,
			    uint64_t host, uint64_t bytes)
{
	uint64_t most = min_u64(2ull * e->h.grain + VMDK_SECTOR, bytes - host);
	uint32_t next = l->n > 1 ? entry(l, 1) : 0;

	if ((uint64_t)next * VMDK_SECTOR > host)
		most = min_u64(most, (uint64_t)next * VMDK_SECTOR - host);
	return (uint32_t)most;
}

/* From entry 0 of l on: what the grain at x->host's place holds, in how many grains. */
static int map_grains(struct sparse *s, const struct vmdk_extent *e,
		      const struct look *l, uint64_t most, struct sparse_extent *x,
		      uint64_t *n)
{
	uint32_t first = entry(l, 0), step = e->h.grain / VMDK_SECTOR;
	uint64_t bytes = sparse_bytes(s, e->file);

	*n = 1;
	if (!first || zeroed(e, first)) {
		x->kind = first ? SPARSE_ZERO : SPARSE_HOLE;
		while (*n < most && entry(l, *n) == first)
			++*n;
		return 0;
	}
	x->host = (uint64_t)first * VMDK_SECTOR;
	if (x->host >= bytes)
		return sparse_corrupt(s, "a grain at sector %u, behind the end of its "
				      "file", first);
	if (e->h.packed) {
		x->kind = SPARSE_PACKED;
		x->packed = packed_most(e, l, x->host, bytes);
		return 0;
	}
	x->kind = SPARSE_DATA;
	x->space = x->own = true;
	while (*n < most && entry(l, *n) == first + *n * step)
		++*n;
	return 0;
}

static int map_sparse(struct sparse *s, const struct vmdk_extent *e, uint64_t off,
		      uint64_t len, struct sparse_extent *x)
{
	uint64_t in = off & (e->h.grain - 1), n;
	struct look l;
	int err = look_at(s, e, off, 1, &l);

	if (!err && e->sets > 1 && !entry(&l, 0))
		err = look_at(s, e, off, e->sets, &l);
	if (err)
		return err;
	err = map_grains(s, e, &l, min_u64(l.n, (in + len - 1) / e->h.grain + 1), x,
			 &n);
	if (err)
		return err;
	if (x->kind == SPARSE_DATA)
		x->host += in;
	x->length = min_u64(len, n * e->h.grain - in);
	return 0;
}

int vmdk_map(struct sparse *s, uint64_t off, uint64_t len, struct sparse_extent *x)
{
	const struct vmdk *v = sparse_priv(s);
	const struct vmdk_extent *e = extent_at(v, off);

	off -= e->start;
	len = min_u64(len, e->end - e->start - off);
	*x = (struct sparse_extent){ .length = len, .file = e->file,
				     .fixed = e->access != VMDK_RW };
	if (e->access == VMDK_NOACCESS)
		return -EIO;
	switch (e->type) {
	case VMDK_ZERO:
		x->kind = SPARSE_ZERO;
		x->fixed = true;
		return 0;
	case VMDK_FLAT:
		x->kind = SPARSE_DATA;
		x->space = x->own = true;
		x->host = e->host + off;
		return 0;
	default:
		return map_sparse(s, e, off, len, x);
	}
}

/* Changing. */

static void put_sector(struct sparse *s, const struct sparse_at *a, uint64_t i,
		       uint32_t sector)
{
	struct sparse_at at = *a;
	uint8_t bytes[VMDK_ENTRY];

	put_le32(bytes, sector);
	at.p += i * VMDK_ENTRY;
	at.off += i * VMDK_ENTRY;
	at.left -= i * VMDK_ENTRY;
	sparse_put(s, &at, bytes, VMDK_ENTRY);
}

/* Entry i in all sets. */
static void put_entry(struct sparse *s, const struct vmdk_extent *e,
		      const struct look *l, uint64_t i, uint32_t value)
{
	uint32_t old = entry(l, i);

	for (unsigned k = 0; k < l->sets; k++)
		if (l->at[k].p && get_le32(l->at[k].p + i * VMDK_ENTRY) != value)
			put_sector(s, &l->at[k], i, value);
	if (old && old != value && !zeroed(e, old))
		sparse_drop(s, e->file, (uint64_t)old * VMDK_SECTOR, e->h.grain);
}

/* Where a grain or table at host is, as an entry: sectors in 32 bits. */
static int sector_of(uint64_t host, uint32_t *sector)
{
	*sector = (uint32_t)(host / VMDK_SECTOR);
	return host / VMDK_SECTOR > UINT32_MAX ? -ENOSPC : 0;
}

/* A table is made where a set has none: for all sets at once, side by side, or as a
 * copy of the one that is there. */
static int make_tables(struct sparse *s, const struct vmdk_extent *e, uint64_t table)
{
	struct sparse_at gd[VMDK_SETS];
	unsigned missing = 0;
	uint64_t there = 0, host, len = vmdk_gt_len(e);
	uint32_t sector;
	int err;

	for (unsigned k = 0; k < e->sets; k++) {
		err = gd_at(s, e, k, table, &gd[k]);
		if (err)
			return err;
		if (get_le32(gd[k].p))
			there = (uint64_t)get_le32(gd[k].p) * VMDK_SECTOR;
		else
			missing++;
	}
	if (!missing)
		return 0;
	if (!there)
		len += (missing - 1) * vmdk_gt_stride(e);
	err = sparse_room(s, missing);
	if (!err)
		err = sparse_table(s, e->file, table, len, there, &host);
	if (!err)
		err = sector_of(host + len, &sector);
	if (err)
		return err;
	for (unsigned k = 0; k < e->sets; k++) {
		if (get_le32(gd[k].p))
			continue;
		put_sector(s, &gd[k], 0, (uint32_t)(host / VMDK_SECTOR));
		host += vmdk_gt_stride(e);
	}
	sparse_table_done(s, e->file, table);
	return 0;
}

int vmdk_link(struct sparse *s, const struct sparse_link *ln)
{
	const struct vmdk *v = sparse_priv(s);
	const struct vmdk_extent *e = extent_at(v, ln->offset);
	uint64_t off = ln->offset - e->start, n = (ln->length - 1) / e->h.grain + 1;
	uint32_t sector;
	struct look l;
	int err;

	ASSERT(e->type == VMDK_SPARSE && !ln->packed && ln->file == e->file);
	err = sector_of(ln->host + ln->length, &sector);
	if (!err)
		err = make_tables(s, e, off / e->h.grain / e->h.gtes);
	if (!err)
		err = look_at(s, e, off, e->sets, &l);
	if (!err)
		err = sparse_room(s, e->sets);
	if (err)
		return err;
	ASSERT(n <= l.n);
	sector = (uint32_t)(ln->host / VMDK_SECTOR);
	for (uint64_t i = 0; i < n; i++)
		put_entry(s, e, &l, i,
			  sector + (uint32_t)i * (e->h.grain / VMDK_SECTOR));
	return 0;
}

/* One set alone has this table. */
static int is_half(struct sparse *s, const struct vmdk_extent *e, uint64_t table,
		   bool *half)
{
	unsigned there = 0;

	for (unsigned k = 0; k < e->sets; k++) {
		struct sparse_at gd;
		int err = gd_at(s, e, k, table, &gd);

		if (err)
			return err;
		there += get_le32(gd.p) != 0;
	}
	*half = there && there < e->sets;
	return 0;
}

/* Whole grains that become holes, or with a parent grains of zeroes. */
static int unmap_sparse(struct sparse *s, const struct vmdk *v,
			const struct vmdk_extent *e, uint64_t off, uint64_t len,
			enum sparse_unmap how, uint64_t *done)
{
	uint32_t value = v->parent ? ZEROED : 0;
	uint64_t n = (len - 1) / e->h.grain + 1, i;
	uint64_t table = off / e->h.grain / e->h.gtes;
	struct look l;
	bool half;
	int err;

	if (v->parent && !e->h.zeroed)
		return -EOPNOTSUPP;
	err = is_half(s, e, table, &half);
	/* Of a table that somebody else is copying the copy must not be older. */
	if (!err && (value || half))
		err = make_tables(s, e, table);
	if (!err)
		err = look_at(s, e, off, e->sets, &l);
	if (!err)
		err = sparse_room(s, e->sets);
	if (err)
		return err;
	n = min_u64(n, l.n);
	/* Space can be kept only by writing zeroes into it. */
	for (i = 0; i < n; i++) {
		uint32_t old = entry(&l, i);

		if (how == SPARSE_ZEROES_KEEP && old && !zeroed(e, old))
			break;
		put_entry(s, e, &l, i, value);
	}
	*done = min_u64(len, i * e->h.grain);
	return i ? 0 : -EOPNOTSUPP;
}

int vmdk_unmap(struct sparse *s, uint64_t off, uint64_t len, enum sparse_unmap how,
	       uint64_t *done)
{
	const struct vmdk *v = sparse_priv(s);
	const struct vmdk_extent *e = extent_at(v, off);

	off -= e->start;
	len = min_u64(len, e->end - e->start - off);
	if (e->access == VMDK_NOACCESS)
		return -EIO;
	if (e->type == VMDK_ZERO) {
		*done = len;
		return 0;
	}
	if (e->type != VMDK_SPARSE || e->access != VMDK_RW)
		return -EOPNOTSUPP;
	return unmap_sparse(s, v, e, off, len, how, done);
}

int vmdk_release(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		 uint64_t *done)
{
	const struct vmdk *v = sparse_priv(s);
	const struct vmdk_extent *e = v->extents;

	while (e->file != file || e->type != VMDK_SPARSE)
		e++;
	/* Grains of others may lie anywhere: only whole places of ours are known. */
	if (is_aligned(host, e->h.grain) && is_aligned(len, e->h.grain))
		sparse_freed(s, file, host, len);
	*done = len;
	return 0;
}
