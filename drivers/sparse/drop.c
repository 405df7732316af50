/* drop.c - space that the tables no longer refer to, on its way to being free.
 *
 *   dropped   the pointer to it is gone from the cache
 *     | a round has made that durable, and every operation that was under way when
 *     | it was dropped has ended: nobody reads or writes there any more
 *   released  the format has counted down; if nobody refers to it any more:
 *     | its hole is punched
 *   free      space.c may hand it out
 *
 * In this order a power cut leaves at worst space that nobody owns, and nothing is
 * ever written over bytes that a table on stable storage, or a request under way,
 * still means.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sparse/sparse_priv.h"

#define STEPS 64u	/* releases of one turn */

static void release_run(struct task *t);
static void punch_run(struct task *t);

void drop_init(struct sparse *s)
{
	list_init(&s->drops);
	list_init(&s->punches);
	task_init(&s->drop_task, release_run);
	task_init(&s->punch_task, punch_run);
}

static void free_all(struct list *l)
{
	struct list *e;

	while ((e = list_pop(l)))
		free(container_of(e, struct dropped, link));
}

void drop_free(struct sparse *s)
{
	free_all(&s->drops);
	free_all(&s->punches);
}

bool drop_pending(const struct sparse *s)
{
	return !list_empty(&s->drops);
}

bool drop_idle(const struct sparse *s)
{
	return list_empty(&s->drops) && !s->punching;
}

/* The table of a range is gone. */
static void table_gone(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	if (!meta_hit(s, file, host, len))
		return;
	cache_forget_range(s, file, host, len);
	sparse_meta_del(s, file, host, len);
}

static void drop(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	struct dropped *d;
	bool whole = is_aligned(host | len, s->cluster);

	pack_forget(s, file, host);
	if (!s->format->release)
		return;
	if (!list_empty(&s->drops)) {
		d = container_of(s->drops.prev, struct dropped, link);
		if (whole && d->whole && d->file == file &&
		    d->host + d->len == host && d->round == s->round.nr + 1) {
			d->len += len;
			d->seq = s->seq;
			return;
		}
	}
	d = malloc(sizeof(*d));
	if (!d)		/* the space is lost to the image until it is checked */
		return;
	*d = (struct dropped){ .file = file, .host = host, .len = len,
			       .whole = whole, .round = s->round.nr + 1,
			       .seq = s->seq };
	list_add(&s->drops, &d->link);
}

void sparse_drop(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	/* A crafted entry: tables are not the disk's to give back, and compressed
	 * clusters of no bytes are nothing. */
	if (len && !meta_hit(s, file, host, len))
		drop(s, file, host, len);
}

void sparse_drop_table(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	table_gone(s, file, host, len);
	drop(s, file, host, len);
}

static bool may_release(const struct sparse *s, const struct dropped *d)
{
	return d->round <= s->round.done &&
	       (list_empty(&s->running) ||
		list_first(&s->running, struct op, running)->seq > d->seq);
}

void drop_check(struct sparse *s)
{
	if (s->quitting || list_empty(&s->drops) || !list_empty(&s->drop_task.link) ||
	    !may_release(s, list_first(&s->drops, struct dropped, link)))
		return;
	task_ready(s, &s->drop_task);
}

static void release_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, drop_task);

	for (unsigned i = 0; i < STEPS && !list_empty(&s->drops); i++) {
		struct dropped *d = list_first(&s->drops, struct dropped, link);
		uint64_t done = d->len;
		int err;

		if (s->quitting || !may_release(s, d)) {
			cache_release(t);
			break;
		}
		slot_begin(s, t);
		err = slot_end(s, s->format->release(s, d->file, d->host, d->len,
						     &done));
		if (err == SPARSE_WAIT)
			return;
		if (err && log_allowed(&s->limit))
			td_warn(s->node, "%llu bytes at %llu of %s are lost until it "
				"is checked: %s", (unsigned long long)d->len,
				(unsigned long long)d->host,
				s->files[d->file].node->arg, strerror(-err));
		ASSERT(err || (done && done <= d->len));
		d->host += done;
		d->len -= done;
		if (err || !d->len) {
			list_del(&d->link);
			free(d);
		}
	}
	drop_check(s);
	tasks_wake(s, &s->drain_wait);
}

/* Free. */

static void is_free(struct sparse *s, struct dropped *d, bool zero)
{
	struct run r = { d->host, d->host + d->len, zero };

	s->given_back += d->len;
	space_freed(s, d->file, &r);
	free(d);
	if (!--s->punching)
		tasks_wake(s, &s->drain_wait);
}

void sparse_freed(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	struct space *sp = &s->files[file].space;
	struct dropped *d;

	table_gone(s, file, host, len);
	if (sp->pack_at > host && sp->pack_at <= host + len)
		sp->pack_at = sp->pack_end = 0;
	for (uint64_t at = host; at < host + len; at += s->cluster)
		if (blockset_has(&sp->known, at / s->cluster + 1) ||
		    blockset_add(&sp->known, at / s->cluster + 1))
			return;	/* free already (a crafted image referred to it
				 * twice), or no memory: it is not handed out */
	d = malloc(sizeof(*d));
	if (!d)
		return;
	*d = (struct dropped){ .file = file, .host = host, .len = len };
	s->punching++;
	list_add(&s->punches, &d->link);
	if (list_empty(&s->punch_task.link))
		task_ready(s, &s->punch_task);
}

static void punched(struct child *c, int err)
{
	struct dropped *d = c->owner;
	struct sparse *s = c->s;

	child_put(c);
	/* It is zero for good once that is synced: a table that refers to it must not
	 * come before, though no data is written there. */
	s->dep = true;
	is_free(s, d, !err && sparse_grows(s, d->file));
}

static void punch_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, punch_task);

	while (!list_empty(&s->punches)) {
		struct dropped *d = list_first(&s->punches, struct dropped, link);
		struct sparse_file *f = &s->files[d->file];
		struct child *c;

		/* At the close: what was never written, but perhaps allocated. */
		if ((s->closing && d->host >= f->space.ahead) || s->quitting ||
		    d->host >= f->node->size ||
		    !(f->node->caps & TD_CAP_FAST_ZERO)) {
			list_del(&d->link);
			is_free(s, d, false);
			continue;
		}
		c = child_get(s, t);
		if (!c)
			return;
		list_del(&d->link);
		c->r->flags = TD_REQ_FAST;
		child_submit(c, f, TD_OP_ZEROES, d->host,
			     min_u64(d->len, f->node->size - d->host), punched, d);
	}
}
