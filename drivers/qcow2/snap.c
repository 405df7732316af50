/* snap.c - see snap.h.
 *
 * Counts are changed in memory (k.have) and written block by block.  All are known
 * before anything is written: what is refused leaves the file as it is.  Order, with
 * a flush at each bar:
 *
 *   more references: counts and new tables | refcount table | flags | header
 *   fewer: header | counts | flags
 *
 * The header's fields that change lie in one sector, so the step from the old state
 * to the new one is one write.
 */
#include "qcow2/snap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bytes.h"
#include "qcow2/check.h"

#define EXTRA 24u	/* bytes of extra data in the entries that we write */
#define ROOM 64u	/* clusters behind the file's end, for blocks and the like */

struct snap {
	struct qcow2_check k;
	struct td_check c;
	uint32_t *old;		/* k.have as it is in the file */
	uint32_t *other;	/* k.have with more references, or with fewer again */
	bool *fresh;		/* refcount blocks that are not there yet */
	uint64_t blocks;	/* of k.clusters */
	bool reft_changed;
	struct td_node *store;
	const char *what;	/* for messages */
	bool told;
};

static int refuse(struct snap *s, int err, const char *why)
{
	td_err(s->store, "cannot %s of %s: %s", s->what, s->store->arg, why);
	s->told = true;
	return err;
}

static void nothing_said(void *arg, const char *line)
{
	(void)arg;
	(void)line;
}

/* Setting up. */

static int check_image(struct snap *s)
{
	const struct qcow2_header *h = &s->k.im.h;

	if (h->incompat & QCOW2_CORRUPT)
		return refuse(s, -EIO, "it is marked as damaged (tap-img check -r all)");
	if (h->incompat & QCOW2_DIRTY)
		return refuse(s, -EIO, "it was not closed cleanly (tap-img check -r all)");
	if (h->incompat & QCOW2_DATA_FILE)
		return refuse(s, -EOPNOTSUPP, "its data is in a file of its own");
	return 0;
}

/* room: clusters that may be needed behind the end of the file. */
static int load_counts(struct snap *s, uint64_t room)
{
	struct qcow2_check *k = &s->k;
	const struct qcow2_dims *d = &k->im.d;
	int err;

	k->bytes = k->im.store->size;
	k->clusters = (align_up(k->bytes, qcow2_cluster(d)) >> d->cluster_bits) + room;
	s->blocks = (k->clusters >> d->block_bits) + 1;
	k->have = calloc(k->clusters + 1, sizeof(*k->have));	/* as check.h says */
	s->old = calloc(k->clusters, sizeof(*s->old));
	s->fresh = calloc(s->blocks, sizeof(*s->fresh));
	k->fixed = calloc(1, k->clusters / 8 + 1);
	k->l2 = malloc(qcow2_cluster(d));
	if (!k->have || !s->old || !s->fresh || !k->fixed || !k->l2)
		return -ENOMEM;
	err = qcow2_check_load(k);
	if (!err && (k->c->failures || k->rebuild))
		return refuse(s, -EIO, "its refcounts are damaged (tap-img check)");
	memcpy(s->old, k->have, k->clusters * sizeof(*k->have));
	if (err)
		return err;
	k->read_max = 2 * k->bytes + qcow2_cluster(d);	/* as the check does */
	err = qcow2_check_tables(k);
	k->read_max = UINT64_MAX;	/* what comes is bounded for itself */
	return err == -EFBIG ? refuse(s, err, "its header names more tables than "
				      "its file can hold (tap-img check)") : err;
}

static void unload(struct snap *s)
{
	free(s->k.have);
	free(s->k.want);
	free(s->k.fixed);
	free(s->k.reft);
	free(s->k.l2);
	free(s->old);
	free(s->other);
	free(s->fresh);
	qcow2_image_free(&s->k.im);
	s->k = (struct qcow2_check){ .c = &s->c, .read_max = UINT64_MAX };
	s->old = s->other = NULL;
	s->fresh = NULL;
}

/* Counting. */

static int count(struct snap *s, uint64_t host, uint64_t len, int by)
{
	const struct qcow2_dims *d = &s->k.im.d;
	uint64_t max = min_u64(qcow2_ref_max(d->ref_order), UINT32_MAX - 1);

	if (!range_ok(host, len, s->k.clusters << d->cluster_bits) || !host)
		return refuse(s, -EIO, "a table points behind the end of the file "
			      "(tap-img check)");
	for (uint64_t i = host >> d->cluster_bits;
	     i <= (host + len - 1) >> d->cluster_bits; i++) {
		uint32_t *n = &s->k.have[i];

		if (by > 0 && *n >= max)
			return refuse(s, -ENOSPC, "a refcount can be no larger "
				      "(refcount_bits)");
		if (!*n)
			return refuse(s, -EIO, "a cluster in use has no refcount "
				      "(tap-img check)");
		*n = by > 0 ? *n + 1 : *n - 1;
	}
	return 0;
}

/* Of data, and of L2 tables: no count of another table changes for an entry that is
 * wrong. */
static int count_free(struct snap *s, uint64_t host, uint64_t len, int by)
{
	if (qcow2_check_fixed(&s->k, host, len))
		return refuse(s, -EIO, "an entry points to where another table is");
	return count(s, host, len, by);
}

static int count_l2(struct snap *s, uint64_t host, uint64_t off, int by)
{
	const struct qcow2_dims *d = &s->k.im.d;
	int err = td_blocking_read(s->k.im.store, host, s->k.l2, qcow2_cluster(d));

	for (uint64_t i = 0; i < 1ull << d->l2_bits && !err; i++) {
		struct qcow2_entry e;
		const char *why = qcow2_l2_decode(d, s->k.l2 + i * d->entry,
						  off + (i << d->cluster_bits), &e);

		if (why)
			return refuse(s, -EIO, why);
		if (e.packed)
			err = count_free(s, e.host, e.packed, by);
		else if (e.space)
			err = count_free(s, e.host, qcow2_cluster(d), by);
	}
	return err;
}

/* All that an L1 table leads to, but not itself. */
static int count_tree(struct snap *s, const uint64_t *l1, uint64_t entries, int by)
{
	const struct qcow2_dims *d = &s->k.im.d;
	uint64_t left = align_up(s->k.bytes, qcow2_cluster(d)) >> d->cluster_bits;
	int err = 0;

	for (uint64_t i = 0; i < entries && !err; i++) {
		const char *why;
		uint64_t host;
		bool copied;

		why = qcow2_l1_decode(d, l1[i], &host, &copied);
		if (why)
			return refuse(s, -EIO, why);
		if (!host)
			continue;
		if (!left--)	/* else the work would have no end that is near */
			return refuse(s, -EIO, "an L1 table names more L2 tables than the "
				      "file has clusters (tap-img check)");
		err = count_free(s, host, qcow2_cluster(d), by);
		if (!err)
			err = count_l2(s, host, i << qcow2_l1_shift(d), by);
	}
	return err;
}

static bool is_free(const struct snap *s, uint64_t i)
{
	unsigned bits = s->k.im.d.cluster_bits;

	return !s->k.have[i] && !s->old[i] &&
	       !qcow2_check_fixed(&s->k, i << bits, 1ull << bits);
}

/* Clusters for `len` bytes in a row: *host.  What is free in the file, and in the old
 * state: neither may be written over, nor a table whose count says that it is not
 * there. */
static int alloc(struct snap *s, uint64_t len, uint64_t *host)
{
	unsigned bits = s->k.im.d.cluster_bits;
	uint64_t n = align_up(len, 1ull << bits) >> bits, run = 0;

	*host = 0;
	for (uint64_t i = 1; n && i < s->k.clusters; i++) {
		run = is_free(s, i) ? run + 1 : 0;
		if (run < n)
			continue;
		*host = (i + 1 - n) << bits;
		for (uint64_t c = i + 1 - n; c <= i; c++)
			s->k.have[c] = 1;
		qcow2_check_fix(&s->k, *host, n << bits);
		return 0;
	}
	return n ? -ENOSPC : 0;
}

/* Every cluster that is counted needs a refcount block. */
static int add_blocks(struct snap *s)
{
	struct qcow2_check *k = &s->k;
	uint64_t host;

	for (uint64_t i = 0; i < k->clusters; i++) {
		uint64_t b = i >> k->im.d.block_bits;

		if (!k->have[i] || (b < k->reft_entries && k->reft[b]))
			continue;
		if (b >= k->reft_entries)
			return -ENOSPC;
		if (alloc(s, qcow2_cluster(&k->im.d), &host))
			return -ENOSPC;
		k->reft[b] = host;
		s->fresh[b] = true;
		s->reft_changed = true;
		i = 0;			/* the block may be in need of one too */
	}
	return 0;
}

/* All references are counted that come; those that go are counted from here on, to
 * be written later. */
static int counted_more(struct snap *s)
{
	size_t bytes = (s->k.clusters + 1) * sizeof(*s->other);

	s->other = malloc(bytes);
	if (!s->other)
		return -ENOMEM;
	memcpy(s->other, s->k.have, bytes);
	return 0;
}

static void other_counts(struct snap *s)
{
	uint32_t *t = s->k.have;

	s->k.have = s->other;
	s->other = t;
}

/* Writing. */

static int write_counts(struct snap *s)
{
	struct qcow2_check *k = &s->k;
	uint64_t per = 1ull << k->im.d.block_bits;
	int err = 0;

	for (uint64_t b = 0; b < s->blocks && !err; b++) {
		uint64_t from = b * per, n;

		if (from >= k->clusters)
			break;
		n = min_u64(per, k->clusters - from);
		if (memcmp(k->have + from, s->old + from, n * sizeof(*s->old)) ||
		    s->fresh[b])
			err = qcow2_check_mend(k, b, s->fresh[b]);
		s->fresh[b] = false;
	}
	if (!err)
		err = td_blocking_flush(k->im.store);
	for (uint64_t i = 0; i < k->reft_entries && s->reft_changed && !err; i++) {
		uint64_t be = htobe64(k->reft[i]);

		err = qcow2_image_write(&k->im, k->im.h.reft_offset + i * 8, &be, 8);
	}
	if (!err && s->reft_changed)
		err = td_blocking_flush(k->im.store);
	s->reft_changed = false;
	memcpy(s->old, k->have, k->clusters * sizeof(*s->old));
	return err;
}

/* The file reaches as far as what is in use. */
static int write_length(struct snap *s)
{
	unsigned bits = s->k.im.d.cluster_bits;
	uint64_t end = s->k.clusters;

	while (end && !s->k.have[end - 1])
		end--;
	if (end << bits <= s->k.im.store->size)
		return 0;
	return td_blocking_size(s->k.im.store, end << bits);
}

static int write_flags(struct snap *s)
{
	int err;

	s->c = (struct td_check){ .fix_errors = true, .say = nothing_said };
	s->k.bytes = s->k.im.store->size;
	err = qcow2_check_copied(&s->k);
	if (!err && s->c.failures)
		err = -EIO;
	return err ? err : td_blocking_flush(s->k.im.store);
}

static int write_l1(struct snap *s, uint64_t host, const uint64_t *l1, uint64_t n)
{
	unsigned bits = s->k.im.d.cluster_bits;
	uint64_t bytes = align_up(n * 8, 1ull << bits);
	uint8_t *p = calloc(1, bytes ? bytes : 1);
	int err = p ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < n && !err; i++)
		put_be64(p + i * 8, l1[i] & ~QCOW2_COPIED);
	if (!err && bytes)
		err = qcow2_image_write(&s->k.im, host, p, bytes);
	free(p);
	return err;
}

/* The table of snapshots. */

static const struct qcow2_snapshot *find(const struct snap *s, const char *name)
{
	const struct qcow2_image *im = &s->k.im;

	for (int by_name = 0; by_name < 2; by_name++) {
		for (unsigned i = 0; i < im->h.snapshots; i++) {
			const struct qcow2_snapshot *t = &im->snap[i];
			const uint8_t *p = by_name ? t->name : t->id;
			size_t len = by_name ? t->name_len : t->id_len;

			if (len == strlen(name) && !memcmp(p, name, len))
				return t;
		}
	}
	return NULL;
}

static const uint8_t *entry_of(const struct qcow2_snapshot *t)
{
	return t->extra - QCOW2_SNAPSHOT_FIXED;
}

/* The table without `leave`, and with `more` bytes of room behind it; allocated. */
static uint8_t *table_copy(const struct snap *s, const struct qcow2_snapshot *leave,
			   uint64_t more, uint64_t *len)
{
	const struct qcow2_image *im = &s->k.im;
	uint8_t *p = calloc(1, im->snap_len + more + 1);

	*len = 0;
	for (unsigned i = 0; p && i < im->h.snapshots; i++) {
		const struct qcow2_snapshot *t = &im->snap[i];

		if (t == leave)
			continue;
		memcpy(p + *len, entry_of(t), t->length);
		*len += t->length;
	}
	return p;
}

/* Ids are numbers: one more than the largest. */
static unsigned long long next_id(const struct snap *s)
{
	unsigned long long max = 0;

	for (unsigned i = 0; i < s->k.im.h.snapshots; i++) {
		const struct qcow2_snapshot *t = &s->k.im.snap[i];
		char id[20] = "";

		memcpy(id, t->id, min_u64(t->id_len, sizeof(id) - 1));
		max = max_u64(max, strtoull(id, NULL, 10) & (UINT64_MAX >> 1));
	}
	return max + 1;
}

static uint64_t put_entry(const struct snap *s, uint8_t *p, const char *name,
			  uint64_t l1_host)
{
	const struct qcow2_header *h = &s->k.im.h;
	struct timespec now;
	char id[24];
	size_t id_len = (size_t)snprintf(id, sizeof(id), "%llu", next_id(s));

	clock_gettime(CLOCK_REALTIME, &now);
	put_be64(p, l1_host);
	put_be32(p + 8, h->l1_entries);
	put_be16(p + 12, (uint16_t)id_len);
	put_be16(p + 14, (uint16_t)strlen(name));
	put_be32(p + 16, (uint32_t)now.tv_sec);
	put_be32(p + 20, (uint32_t)now.tv_nsec);
	put_be32(p + 36, EXTRA);
	p += QCOW2_SNAPSHOT_FIXED;
	put_be64(p + 8, h->size);
	put_be64(p + 16, UINT64_MAX);	/* no count of instructions */
	memcpy(p + EXTRA, id, id_len);
	memcpy(p + EXTRA + id_len, name, strlen(name));
	return align_up(QCOW2_SNAPSHOT_FIXED + EXTRA + id_len + strlen(name), 8);
}

static int point_to_table(struct snap *s, uint32_t n, uint64_t host)
{
	uint8_t field[12];

	put_be32(field, n);
	put_be64(field + 4, n ? host : 0);
	return qcow2_image_header(&s->k.im, QCOW2_AT_SNAPSHOTS, field, sizeof(field));
}

/* The old table of snapshots is nobody's any more. */
static int drop_table(struct snap *s)
{
	const struct qcow2_header *h = &s->k.im.h;

	return h->snapshots ? count(s, h->snapshots_offset, s->k.im.snap_len, -1) : 0;
}

/* The operations.  Each is given the disk's L1 table. */

static int create(struct snap *s, const char *name, const uint64_t *l1)
{
	const struct qcow2_header *h = &s->k.im.h;
	uint64_t entry = QCOW2_SNAPSHOT_FIXED + EXTRA + 32 + strlen(name);
	uint64_t len, table_at, l1_at;
	uint8_t *table = table_copy(s, NULL, entry, &len);
	int err = table ? count_tree(s, l1, h->l1_entries, 1) : -ENOMEM;

	if (!err)
		err = alloc(s, h->l1_entries * 8ull, &l1_at);
	if (!err) {
		len += put_entry(s, table + len, name, l1_at);
		err = alloc(s, len, &table_at);
	}
	if (!err)
		err = add_blocks(s);
	if (!err)
		err = counted_more(s);
	if (!err)
		err = drop_table(s);
	if (err)
		goto out;
	other_counts(s);
	err = write_length(s);
	if (!err)
		err = write_l1(s, l1_at, l1, h->l1_entries);
	if (!err)
		err = qcow2_image_write(&s->k.im, table_at, table, len);
	if (!err)
		err = write_counts(s);
	if (!err)
		err = write_flags(s);
	if (!err)
		err = point_to_table(s, h->snapshots + 1, table_at);
	other_counts(s);
	if (!err)
		err = write_counts(s);
out:
	free(table);
	return err;
}

static int delete(struct snap *s, const struct qcow2_snapshot *t)
{
	uint64_t len, table_at, *l1 = NULL;
	uint8_t *table = table_copy(s, t, 0, &len);
	int err = table ? alloc(s, len, &table_at) : -ENOMEM;

	if (!err)
		err = qcow2_image_table(&s->k.im, t->l1_offset, t->l1_entries, &l1);
	if (!err)
		err = add_blocks(s);
	if (!err)
		err = counted_more(s);
	if (!err)
		err = drop_table(s);
	if (!err)
		err = count_tree(s, l1, t->l1_entries, -1);
	if (!err && t->l1_entries)
		err = count(s, t->l1_offset, t->l1_entries * 8ull, -1);
	if (err)
		goto out;
	other_counts(s);
	err = write_length(s);
	if (!err && len)
		err = qcow2_image_write(&s->k.im, table_at, table, len);
	if (!err)
		err = write_counts(s);
	if (!err)
		err = point_to_table(s, s->k.im.h.snapshots - 1, table_at);
	other_counts(s);
	if (!err)
		err = write_counts(s);
	if (!err)
		err = write_flags(s);
out:
	free(l1);
	free(table);
	return err;
}

/* Size of the disk, entries and place of the L1 table: bytes 24 to 47. */
static int point_to_l1(struct snap *s, uint64_t size, uint32_t n, uint64_t host)
{
	struct qcow2_header *h = &s->k.im.h;
	uint8_t field[24];
	int err;

	memcpy(field, s->k.im.first + QCOW2_AT_SIZE, sizeof(field));
	put_be64(field, size);
	put_be32(field + (QCOW2_AT_L1 - QCOW2_AT_SIZE), n);
	put_be64(field + (QCOW2_AT_L1 - QCOW2_AT_SIZE) + 4, host);
	err = qcow2_image_header(&s->k.im, QCOW2_AT_SIZE, field, sizeof(field));
	if (!err) {
		h->size = size;
		h->l1_entries = n;
		h->l1_offset = host;
	}
	return err;
}

static int apply(struct snap *s, const struct qcow2_snapshot *t, const uint64_t *l1)
{
	const struct qcow2_header was = s->k.im.h;
	uint64_t size = t->disk_size ? t->disk_size : was.size;
	uint64_t need = qcow2_l1_needed(size, was.cluster_bits, s->k.im.d.ext);
	uint64_t n = max_u64(need, t->l1_entries), host, *new = NULL, *grown;
	int err;

	if (was.autoclear & QCOW2_BITMAPS)
		return refuse(s, -EBUSY, "it has bitmaps, which would no longer be true "
			      "(qemu-img bitmap --remove)");
	if (size > INT64_MAX || n > QCOW2_L1_MAX)
		return refuse(s, -EINVAL, "the snapshot's disk is too large");
	err = qcow2_image_table(&s->k.im, t->l1_offset, t->l1_entries, &new);
	if (err)
		return err;
	grown = realloc(new, (n ? n : 1) * sizeof(*new));
	if (!grown) {
		free(new);
		return -ENOMEM;
	}
	new = grown;
	memset(new + t->l1_entries, 0, (n - t->l1_entries) * sizeof(*new));
	err = count_tree(s, new, n, 1);
	if (!err)
		err = alloc(s, n * 8, &host);
	if (!err)
		err = add_blocks(s);
	if (!err)
		err = counted_more(s);
	if (!err)
		err = count_tree(s, l1, was.l1_entries, -1);
	if (!err && was.l1_entries)
		err = count(s, was.l1_offset, was.l1_entries * 8ull, -1);
	if (err)
		goto out;
	other_counts(s);
	err = write_length(s);
	if (!err)
		err = write_l1(s, host, new, n);
	if (!err)
		err = write_counts(s);
	if (!err)
		err = point_to_l1(s, size, (uint32_t)n, host);
	other_counts(s);
	if (!err)
		err = write_counts(s);
	if (!err)
		err = write_flags(s);
out:
	free(new);
	return err;
}

/* A larger refcount table, by making all of it anew behind the end of the file. */
static int grow(struct snap *s)
{
	struct qcow2_check *k = &s->k;
	unsigned bits = k->im.d.cluster_bits;

	k->clusters = align_up(k->bytes, 1ull << bits) >> bits;
	memcpy(k->have, s->old, k->clusters * sizeof(*k->have));
	for (uint64_t i = 0; i < k->im.h.reft_clusters; i++)
		k->have[(k->im.h.reft_offset >> bits) + i] = 0;
	for (uint64_t i = 0; i < k->reft_entries; i++)
		if (k->reft[i] && k->reft[i] >> bits < k->clusters &&
		    !(i < s->blocks && s->fresh[i]))
			k->have[k->reft[i] >> bits] = 0;
	k->want = k->have;
	k->have = NULL;
	return qcow2_check_rebuild(k);
}

/* When the flags are written, after all else, the disk's L2 tables are read where its L1
 * table says: each cluster of the file once at most, if all of them are at a cluster's
 * start. */
static int check_l1(struct snap *s, const uint64_t *l1)
{
	for (uint64_t i = 0; i < s->k.im.h.l1_entries; i++) {
		uint64_t host;
		bool copied;
		const char *why = qcow2_l1_decode(&s->k.im.d, l1[i], &host, &copied);

		if (why)
			return refuse(s, -EIO, why);
	}
	return 0;
}

static int run(struct snap *s, enum td_snap_op op, const char *name)
{
	const struct qcow2_header *h = &s->k.im.h;
	const struct qcow2_snapshot *t;
	struct qcow2_why why;
	uint64_t *l1 = NULL, room;
	int err = check_image(s);

	if (!err)
		err = qcow2_image_snapshots(&s->k.im, &why);
	if (err)
		return err == -EINVAL ? refuse(s, err, why.text) : err;
	t = op == TD_SNAP_CREATE ? NULL : find(s, name);
	if (op != TD_SNAP_CREATE && !t)
		return refuse(s, -ENOENT, "there is no such snapshot");
	if (op == TD_SNAP_CREATE && h->snapshots == QCOW2_SNAPSHOTS_MAX)
		return refuse(s, -EMFILE, "it has too many");
	room = (max_u64(h->l1_entries, t ? t->l1_entries : 0) * 8ull + s->k.im.snap_len +
		QCOW2_NAME_MAX) >> s->k.im.d.cluster_bits;
	err = load_counts(s, room + ROOM);
	if (!err)
		err = qcow2_image_table(&s->k.im, h->l1_offset, h->l1_entries, &l1);
	if (err)
		return err;
	err = check_l1(s, l1);
	if (!err)
		err = op == TD_SNAP_CREATE ? create(s, name, l1) :
		      op == TD_SNAP_APPLY ? apply(s, t, l1) : delete(s, t);
	free(l1);
	return err;
}

int qcow2_snap(struct td_node *store, enum td_snap_op op, const char *name)
{
	static const char *const what[] = {
		[TD_SNAP_CREATE] = "make a snapshot",
		[TD_SNAP_APPLY] = "go back to a snapshot",
		[TD_SNAP_DELETE] = "delete a snapshot",
	};
	struct snap s = { .store = store, .what = what[op],
			  .c.say = nothing_said };
	int err = 0;

	s.k.c = &s.c;
	s.k.read_max = UINT64_MAX;
	if (op == TD_SNAP_CREATE && (!*name || strlen(name) > QCOW2_NAME_MAX)) {
		td_err(store, "a snapshot's name has 1 to %u bytes", QCOW2_NAME_MAX);
		return -EINVAL;
	}
	/* The second time with a larger refcount table, if nothing was written the
	 * first time. */
	for (int i = 0; i < 2; i++) {
		err = qcow2_image_load(store, 0, &s.k.im);
		if (err)
			return err;
		err = run(&s, op, name);
		if (err != -ENOSPC || s.told || s.other || i || !s.k.reft)
			break;
		err = grow(&s);
		if (err)
			break;
		unload(&s);
	}
	if (err && !s.told)
		refuse(&s, err, strerror(-err));
	unload(&s);
	return err;
}
