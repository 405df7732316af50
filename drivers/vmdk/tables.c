/* tables.c - the grain directories of a sparse extent, when it is opened: are they
 * there, where are their tables, and which of the two is to be believed.  Blocking.
 *
 * A directory is damaged when it, or a table that it names, is not inside the file, or
 * lies over the header or the descriptor.  Then the other one is used alone.  Before
 * the first write it takes the place of the damaged one: from then on both lead to
 * the same tables, and whichever of them another program reads, it sees the same
 * disk.  But not if that place is no directory's: where grains are, or other tables.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "vmdk/vmdk_priv.h"

#define CHUNK (64 * KiB)

/* A walk through a directory. */
struct walk {
	struct sparse *s;
	const struct vmdk_extent *e;
	uint64_t end;			/* tables are below */
	bool add;			/* to the metadata; else they are checked */
	uint64_t run, run_end;		/* tables that lie side by side */
};

uint32_t vmdk_gt_len(const struct vmdk_extent *e)
{
	return e->h.gtes * VMDK_ENTRY;
}

uint32_t vmdk_gt_stride(const struct vmdk_extent *e)
{
	return (uint32_t)align_up(vmdk_gt_len(e), VMDK_SECTOR);
}

static uint64_t gd_len(const struct vmdk_extent *e)
{
	return (uint64_t)e->h.gts * VMDK_ENTRY;
}

static int add_run(struct walk *w, uint64_t host, uint64_t end)
{
	int err = 0;

	if (host == w->run_end) {
		w->run_end = end;
		return 0;
	}
	if (w->run_end)
		err = sparse_meta_add(w->s, w->e->file, w->run, w->run_end - w->run);
	w->run = host;
	w->run_end = end;
	return err;
}

/* In the file, and neither in its header nor in the descriptor. */
static bool place_ok(const struct walk *w, uint64_t host, uint64_t len)
{
	const struct vmdk_header *h = &w->e->h;

	return host >= VMDK_HEADER && range_ok(host, len, w->end) &&
	       (!h->desc || host >= h->desc + h->desc_len || host + len <= h->desc);
}

static int one_table(struct walk *w, uint32_t sector)
{
	uint64_t host = (uint64_t)sector * VMDK_SECTOR;

	if (!sector)
		return 0;
	if (!w->add)
		return place_ok(w, host, vmdk_gt_len(w->e)) ? 0 : -EINVAL;
	return add_run(w, host, host + vmdk_gt_stride(w->e));
}

static int walk(struct walk *w, uint64_t gd, uint8_t *buf)
{
	uint64_t len = gd_len(w->e), n;
	int err = 0;

	for (uint64_t at = 0; !err && at < len; at += n) {
		n = min_u64(len - at, CHUNK);
		err = sparse_pread(w->s, w->e->file, gd + at, buf, n);
		for (uint64_t i = 0; !err && i < n; i += VMDK_ENTRY)
			err = one_table(w, get_le32(buf + i));
	}
	return err ? err : add_run(w, 0, 0);
}

/* Which of the directories are good?  The first of gd[] is the one that is believed
 * when both have something to say. */
static int choose(struct walk *w, struct vmdk_extent *e, uint8_t *buf)
{
	const uint64_t place[VMDK_SETS] = { e->h.gd, e->h.rgd };

	for (unsigned k = 0; k < VMDK_SETS; k++) {
		int err;

		if (!place[k])
			continue;
		err = place_ok(w, place[k], gd_len(e)) ? walk(w, place[k], buf) : -EINVAL;
		if (!err)
			e->gd[e->sets++] = place[k];
		else if (err != -EINVAL)
			return err;
		else if (place_ok(w, place[k], gd_len(e)))
			e->damaged = place[k];
	}
	return e->sets ? 0 : -EINVAL;
}

static int add_metadata(struct walk *w, struct vmdk_extent *e, uint8_t *buf)
{
	uint64_t len = align_up(gd_len(e), VMDK_SECTOR);
	int err = sparse_meta_add(w->s, e->file, 0, VMDK_HEADER);

	if (!err && e->h.desc)
		err = sparse_meta_add(w->s, e->file, e->h.desc, e->h.desc_len);
	w->add = true;
	for (unsigned k = 0; !err && k < e->sets; k++) {
		err = sparse_meta_add(w->s, e->file, e->gd[k], len);
		if (!err)
			err = walk(w, e->gd[k], buf);
	}
	if (err || !e->damaged)
		return err;
	if (!range_ok(e->damaged, len, e->h.overhead) ||
	    sparse_meta_has(w->s, e->file, e->damaged, len)) {
		e->damaged = 0;
		return 0;
	}
	return sparse_meta_add(w->s, e->file, e->damaged, len);
}

int vmdk_tables_check(struct sparse *s, struct vmdk_extent *e)
{
	uint64_t bytes = sparse_bytes(s, e->file);
	struct walk w = { .s = s, .e = e, .end = align_up(bytes, e->h.grain) };
	unsigned told = 1 + (e->h.rgd && e->h.gd);
	uint8_t *buf = malloc(CHUNK);
	int err = buf ? choose(&w, e, buf) : -ENOMEM;

	if (!err && e->sets < told)
		td_warn(sparse_node(s), "%s: one of the two grain directories is "
			"damaged; the one at %llu is used", e->name,
			(unsigned long long)e->gd[0]);
	if (!err && !sparse_rdonly(s))
		err = add_metadata(&w, e, buf);
	if (err)
		td_err(sparse_node(s), "%s: cannot use the grain directory: %s", e->name,
		       err == -EINVAL ? "its tables are not in the file" :
		       strerror(-err));
	free(buf);
	return err;
}

int vmdk_tables_repair(struct sparse *s, struct vmdk_extent *e)
{
	uint64_t len = gd_len(e), n;
	uint8_t *buf;
	int err = 0;

	if (!e->damaged)
		return 0;
	buf = malloc(CHUNK);
	if (!buf)
		return -ENOMEM;
	for (uint64_t at = 0; !err && at < len; at += n) {
		n = min_u64(len - at, CHUNK);
		err = sparse_pread(s, e->file, e->gd[0] + at, buf, n);
		if (!err)
			err = sparse_pwrite(s, e->file, e->damaged + at, buf, n);
	}
	free(buf);
	if (!err)
		err = sparse_psync(s, e->file);
	if (err)
		return err;
	e->gd[e->sets++] = e->damaged;
	e->damaged = 0;
	return 0;
}
