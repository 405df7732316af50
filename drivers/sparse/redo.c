/* redo.c - see redo.h.
 *
 * The log is a ring of records, each one range of bytes of one slice as it was at
 * the end of a slot.  `tail` is stored when all records of a slot are in their
 * place, so a slot that was interrupted has not happened; `head` when a round has
 * ended that had frozen what is before it.
 *
 * R1  From the end of the slot that changed it until a round has made it durable, a
 *     byte of a table is in the log.  So the file and the log together are all
 *     tables as they were at the end of a slot: a state that a round could have
 *     frozen.
 * R2  No slot that may change something is run without room for the most that one
 *     can change (sparse_room()): it waits for a round.  Rounds need no room.
 * R3  Replay writes the last bytes of each place, stage after stage, with syncs
 *     between, and one before all, for what was answered was not flushed: as a
 *     round would.  The log is emptied after the last sync.  Who dies in between
 *     leaves a log that says the same; a power cut in between leaves what one in a
 *     round leaves, and no log.
 *
 * What is not in the log, and why nothing of it is missed:
 *
 *  - Data.  A write is answered when the file has it, and a place is linked after
 *    that.  What was under way may be there in part: nobody was told.
 *  - New tables are zeroed or copied in the file before they are linked; a copy is
 *    taken from the file when no slice of the original is dirty, and nobody changes
 *    a table that is being copied.  Where nothing is written because the place reads
 *    as zeroes (behind what the file ever had, or punched), it does so for whoever
 *    comes next.
 *  - A place that is used anew has nothing older in the log: it became free by a
 *    round that began after all changes to what was there before (drop.c), and that
 *    round's end has retired them.
 *  - Blocking slots write tables only when there is nothing in the log (before the
 *    first change; in a resize, which waits for redo_empty()), each step durable
 *    before the next depends on it.  So a kill between them is a power cut that lost
 *    nothing.  What follows them is in the log, at places that the file's header
 *    names already.
 *  - A file has grown before anything points there, and keeps its length: it is cut
 *    off only in a close, when the log is empty.
 *  - What is known in memory alone (claimed runs, space in quarantine, the rest of a
 *    cluster of packed bytes) is space that nobody owns: lost to the image until it
 *    is checked, or with formats that do not count until it is copied.
 *
 * Where the locks have fallen since the death (td_redo.unlocked), the tables may be
 * others' by now: nothing is replayed unless it is sure that nobody was there
 * (redo_area.c), and an empty log asks for nothing.
 *
 * A failed sync: the successor knows of it (redo_area.h), so its syncs fail too.  If
 * something is in the log, it cannot be written in order, and the disk is refused.
 */
#include "sparse/redo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/kill_point.h"
#include "redo_area.h"

#define CHUNK (64u << 10)	/* of a file, written together in a replay */

struct record {
	uint32_t crc;		/* of what follows, and of what lies behind it */
	uint32_t epoch;		/* of the area */
	uint64_t pos;		/* its own, so that no older one is taken for it */
	uint64_t off;		/* in the file */
	uint32_t len;		/* of the bytes behind it, before zeroes; or FILLER */
	uint16_t file, class;
};
_Static_assert(sizeof(struct record) == 32, "no holes, and a multiple of 8");
#define FILLER 0u		/* to the end of the ring */

#define RECORD_MAX (sizeof(struct record) + SPARSE_SLICE)
/* What one slot may take, and what may be left over at the ring's end. */
#define SLOT_MAX ((SPARSE_HOLD + 1) * RECORD_MAX)

struct redo {
	struct redo_area *area;
	uint8_t *ring;
	uint64_t size;		/* of the ring */
	uint64_t head, tail;	/* ours: what the area says is not believed */
	uint64_t frozen;	/* tail, when the present round began */
	struct sparse_slice *put[SPARSE_HOLD];	/* changed in the slot that runs */
	unsigned n_put;
};

static uint64_t space_of(const struct record *r)
{
	return sizeof(*r) + align_up(r->len, 8);
}

/* `behind`: what lies behind it in the ring. */
static uint32_t sum(const struct record *r, const uint8_t *behind)
{
	uLong c = crc32(0, (const uint8_t *)r + sizeof(r->crc),
			sizeof(*r) - sizeof(r->crc));

	return (uint32_t)crc32(c, behind, (uInt)(space_of(r) - sizeof(*r)));
}

/* Writing. */

bool redo_room(const struct sparse *s)
{
	const struct redo *d = s->redo;

	return !d || d->size - (d->tail - d->head) >= SLOT_MAX;
}

bool redo_empty(const struct sparse *s)
{
	const struct redo *d = s->redo;

	return !d || d->tail == d->head;
}

void redo_put(struct sparse *s, struct sparse_slice *sl, unsigned off, size_t n)
{
	struct redo *d = s->redo;
	unsigned end = off + (unsigned)n;

	if (!d || !n)
		return;
	if (!sl->put_end) {
		ASSERT(d->n_put < SPARSE_HOLD);
		d->put[d->n_put++] = sl;
		sl->put = (uint16_t)off;
		sl->put_end = (uint16_t)end;
		return;
	}
	/* What lies between is as it is in the cache anyway. */
	if (off < sl->put)
		sl->put = (uint16_t)off;
	if (end > sl->put_end)
		sl->put_end = (uint16_t)end;
}

void redo_forget(struct sparse *s, struct sparse_slice *sl)
{
	struct redo *d = s->redo;
	unsigned i = 0;

	if (!sl->put_end)
		return;
	sl->put_end = 0;
	while (d->put[i] != sl)
		i++;
	d->put[i] = d->put[--d->n_put];
}

static void append(struct redo *d, uint64_t *at, const struct sparse_slice *sl)
{
	struct record r = {
		.epoch = d->area->epoch, .off = sl->off + sl->put,
		.len = sl->put_end - sl->put, .file = sl->file, .class = sl->class,
	};
	uint64_t left = d->size - *at % d->size;
	uint8_t *to = d->ring + *at % d->size;

	if (left < space_of(&r)) {
		struct record f = { .epoch = r.epoch, .pos = *at };

		f.crc = sum(&f, to);
		if (left >= sizeof(f))
			memcpy(to, &f, sizeof(f));
		*at += left;
		to = d->ring;
	}
	r.pos = *at;
	memcpy(to + sizeof(r), sl->data + sl->put, r.len);
	memset(to + sizeof(r) + r.len, 0, align_up(r.len, 8) - r.len);
	r.crc = sum(&r, to + sizeof(r));
	memcpy(to, &r, sizeof(r));
	*at += space_of(&r);
	ASSERT(*at - d->head <= d->size);	/* R2 */
}

void redo_commit(struct sparse *s)
{
	struct redo *d = s->redo;
	uint64_t at;

	if (!d || !d->n_put)
		return;
	at = d->tail;
	while (d->n_put) {
		struct sparse_slice *sl = d->put[--d->n_put];

		append(d, &at, sl);
		sl->put_end = 0;
	}
	d->tail = at;
	atomic_store_explicit(&d->area->tail, at, memory_order_release);
	if (d->tail - d->head > d->size / 2 && !s->round.last_err)
		round_start(s);
}

void redo_freeze(struct sparse *s)
{
	if (s->redo)
		s->redo->frozen = s->redo->tail;
}

static void empty_to(struct redo *d, uint64_t pos)
{
	d->head = pos;
	atomic_store_explicit(&d->area->head, pos, memory_order_release);
}

void redo_retire(struct sparse *s)
{
	if (s->redo)
		empty_to(s->redo, s->redo->frozen);
}

void redo_end(struct sparse *s)
{
	if (!s->redo)
		return;
	empty_to(s->redo, s->redo->tail);
	free(s->redo);
	s->redo = NULL;
}

/* Replay. */

/* One record, where it is to go. */
struct found {
	uint64_t off, pos;
	const uint8_t *bytes;
	uint32_t len;
	uint16_t file, stage;
};

struct replay {
	struct sparse *s;
	const struct redo *d;
	struct found *v;
	size_t n, room;
	uint64_t written;
	uint8_t *buf;
};

static int add(struct replay *p, const struct record *r, const uint8_t *bytes)
{
	const struct sparse *s = p->s;
	uint64_t off = r->off, end = off + r->len;

	if (p->n + 2 > p->room) {
		size_t room = 2 * p->room + 1024;
		struct found *v = reallocarray(p->v, room, sizeof(*v));

		if (!v)
			return -ENOMEM;
		p->v = v;
		p->room = room;
	}
	while (off < end) {	/* in two chunks, perhaps */
		uint64_t to = min_u64(end, align_down(off, CHUNK) + CHUNK);

		p->v[p->n++] = (struct found){
			.off = off, .pos = r->pos, .bytes = bytes + (off - r->off),
			.len = (uint32_t)(to - off), .file = r->file,
			.stage = (uint16_t)s->format->classes[r->class].stage,
		};
		off = to;
	}
	return 0;
}

/* The record at *pos; moves on. */
static int take(struct replay *p, uint64_t *pos, uint64_t end)
{
	const struct redo *d = p->d;
	const struct sparse *s = p->s;
	uint64_t left = d->size - *pos % d->size;
	const uint8_t *at = d->ring + *pos % d->size;
	struct record r;

	if (left < sizeof(r)) {
		*pos += left;
		return 0;
	}
	memcpy(&r, at, sizeof(r));
	if (r.pos != *pos || r.epoch != d->area->epoch || r.len > SPARSE_SLICE ||
	    space_of(&r) > left || *pos + space_of(&r) > end ||
	    sum(&r, at + sizeof(r)) != r.crc)
		return -EBADMSG;
	*pos += r.len == FILLER ? left : space_of(&r);
	if (r.len == FILLER)
		return 0;
	if (r.file >= s->n_files || s->files[r.file].rdonly ||
	    r.class >= s->format->n_classes ||
	    !range_ok(r.off, r.len, s->files[r.file].node->size))
		return -EBADMSG;
	return add(p, &r, at + sizeof(r));
}

static uint64_t chunk_of(const struct found *f)
{
	return f->off / CHUNK;
}

static int by_place(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->stage != y->stage)
		return x->stage < y->stage ? -1 : 1;
	if (x->file != y->file)
		return x->file < y->file ? -1 : 1;
	if (chunk_of(x) != chunk_of(y))
		return chunk_of(x) < chunk_of(y) ? -1 : 1;
	if (x->pos != y->pos)
		return x->pos < y->pos ? -1 : 1;
	return 0;
}

/* All files, also those that only data was written to. */
static int sync_files(struct sparse *s)
{
	int err = 0;

	for (unsigned i = 0; !err && i < s->n_files; i++)
		if (!s->files[i].rdonly)
			err = sparse_psync(s, i);
	return err;
}

/* v[0 .. n) are of one chunk and stage. */
static int write_chunk(struct replay *p, const struct found *v, size_t n)
{
	uint64_t from = v[0].off, to = from + v[0].len;
	int err;

	for (size_t i = 1; i < n; i++) {
		from = min_u64(from, v[i].off);
		to = max_u64(to, v[i].off + v[i].len);
	}
	err = sparse_pread(p->s, v[0].file, from, p->buf, to - from);
	if (err)
		return err;
	for (size_t i = 0; i < n; i++)
		memcpy(p->buf + (v[i].off - from), v[i].bytes, v[i].len);
	p->written += to - from;
	return sparse_pwrite(p->s, v[0].file, from, p->buf, to - from);
}

static int write_all(struct replay *p)
{
	const struct found *v = p->v;
	int err = sync_files(p->s);

	if (!err)
		redo_writes_are_ours(p->d->area);
	for (size_t i = 0, n; !err && i < p->n; i += n) {
		for (n = 1; i + n < p->n && v[i + n].stage == v[i].stage &&
		     v[i + n].file == v[i].file &&
		     chunk_of(&v[i + n]) == chunk_of(&v[i]); n++)
			;
		err = write_chunk(p, v + i, n);
		KILL_POINT("redo-replay");
		if (!err && (i + n == p->n || v[i + n].stage != v[i].stage))
			err = sync_files(p->s);
	}
	return err;
}

static int replay(struct sparse *s, const struct redo *d)
{
	struct replay p = { .s = s, .d = d, .buf = malloc(CHUNK) };
	uint64_t pos = d->head;
	int err = p.buf ? 0 : -ENOMEM;

	if (d->tail - d->head > d->size)
		err = -EBADMSG;
	while (!err && pos != d->tail)
		err = take(&p, &pos, d->tail);
	if (!err && p.n)
		qsort(p.v, p.n, sizeof(p.v[0]), by_place);
	if (!err)
		err = write_all(&p);
	if (err)
		td_err(s->node, "cannot open %s: what a process that died had changed in "
		       "its tables cannot be written: %s", s->node->arg,
		       err == -EBADMSG ? "its redo log is damaged" : strerror(-err));
	else
		td_warn(s->node, "%s: %zu changes of tables were taken over from a "
			"process that died (%llu bytes)", s->node->arg, p.n,
			(unsigned long long)p.written);
	free(p.v);
	free(p.buf);
	return err;
}

/* What that process has answered may be on no stable storage. */
static void all_unsynced(struct sparse *s)
{
	for (unsigned i = 0; i < s->n_files; i++)
		s->files[i].unsynced |= !s->files[i].rdonly;
	s->dep = true;
}

/* One of the files, by another. */
static bool changed_since(const struct sparse *s, const struct redo_area *a)
{
	for (unsigned i = 0; i < s->n_files; i++)
		if (!s->files[i].rdonly &&
		    redo_changed_since(a, s->files[i].node->changed_ns))
			return true;
	return false;
}

/* The area is as redo_area_prepare() left it: in use, and ours to take over. */
static int take_over(struct sparse *s, struct redo *d, const struct td_redo *r)
{
	const struct redo_area *a = d->area;
	const struct td_node *n = s->node->child;

	d->head = atomic_load(&a->head);
	d->tail = atomic_load(&a->tail);
	if (d->head == d->tail)
		return 0;
	if (a->bytes != r->bytes || a->dev != n->dev || a->ino != n->ino) {
		td_err(s->node, "cannot open %s: its redo log is of another image",
		       s->node->arg);
		return -ESTALE;
	}
	if (r->unlocked && changed_since(s, a)) {
		td_err(s->node, "cannot open %s: others may have changed it since the "
		       "process that served it died; what that had yet to write to its "
		       "tables would damage it now.  Check the image, and open it as a "
		       "new disk", s->node->arg);
		return -ESTALE;
	}
	return replay(s, d);
}

static int begin(struct sparse *s, struct td_redo *r)
{
	struct redo_area *a = r->area;
	struct redo *d;
	int err;

	if (r->bytes < REDO_AREA_MIN) {
		td_err(s->node, "cannot open %s: there is no room for its redo log",
		       s->node->arg);
		return -ENOSPC;
	}
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->area = a;
	d->ring = (uint8_t *)a + REDO_AREA_HEAD;
	d->size = align_down(r->bytes - REDO_AREA_HEAD, 8);
	err = take_over(s, d, r);
	if (err) {
		free(d);
		return err;
	}
	redo_writes_are_ours(a);
	empty_to(d, d->tail);
	a->bytes = r->bytes;
	a->dev = s->node->child->dev;
	a->ino = s->node->child->ino;
	s->redo = d;
	return 0;
}

int redo_start(struct sparse *s)
{
	struct td_redo *r = s->node->env->redo;
	int err;

	if (s->rdonly || !r)
		return 0;
	err = begin(s, r);
	if (!err && r->recover)
		all_unsynced(s);
	return err;
}
