/* disk.c - the disk's life: open, pause, resume, resize, close (see disk.h).
 * Requests are in queue.c.
 *
 * One table says which state may follow which, one function moves.  A control
 * operation is a list of steps, each the completion of the one before:
 *
 *   open    tree_open -> running
 *   pause   quiesce, drain -> flush -> tree_close -> paused
 *   close   quiesce, drain -> flush -> tree_close -> disconnect -> closed
 *   resume  tree_open -> running, or paused again
 *   resize  tree_resize
 *   hold    paused at once: the image is another process's story
 *
 * A flush that fails stops a pause (the disk goes on as it was) but not a
 * close, which then answers with that error.
 */
#include "disk/disk.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "disk/disk_priv.h"

#define B(s) (1u << (s))
static const struct { const char *name; unsigned to; } fsm[DISK_STATES] = {
	[DISK_CLOSED]	= { "closed",	B(DISK_OPENING) | B(DISK_PAUSED) },
	[DISK_OPENING]	= { "opening",	B(DISK_RUNNING) | B(DISK_CLOSED) |
					B(DISK_PAUSED) },
	[DISK_RUNNING]	= { "running",	B(DISK_DRAINING) },
	[DISK_DRAINING]	= { "draining",	B(DISK_PAUSED) | B(DISK_CLOSING) |
					B(DISK_RUNNING) },
	[DISK_PAUSED]	= { "paused",	B(DISK_OPENING) | B(DISK_CLOSING) },
	[DISK_CLOSING]	= { "closing",	B(DISK_CLOSED) },
};

static bool invariant(const struct disk *d)
{
	switch (d->state) {
	case DISK_CLOSED:
	case DISK_PAUSED:
		return !d->tree && !d->inflight && !d->barrier;
	case DISK_RUNNING:
	case DISK_DRAINING:
		return d->tree;
	default:
		return true;
	}
}

static void enter(struct disk *d, enum disk_state next)
{
	ASSERT(fsm[d->state].to & B(next));
	log_dbg(LOG_DISK, "%s -> %s", fsm[d->state].name, fsm[next].name);
	d->state = next;
	ASSERT(invariant(d));
}

struct disk *disk_new(struct td_env *env)
{
	struct disk *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->env = env;
	list_init(&d->fronts);
	if (disk_queue_init(d)) {
		free(d);
		return NULL;
	}
	return d;
}

void disk_free(struct disk *d)
{
	ASSERT(d->state == DISK_CLOSED && list_empty(&d->fronts));
	disk_queue_free(d);
	free(d->spec);
	free(d);
}

/* Control operations: one at a time. */

static bool ctl_begin(struct disk *d, disk_ctl_fn *fn, void *arg)
{
	if (d->ctl_fn) {
		fn(arg, -EBUSY, "another operation on this disk is not done yet");
		return false;
	}
	d->ctl_fn = fn;
	d->ctl_arg = arg;
	return true;
}

static void ctl_end(struct disk *d, int err, const char *why)
{
	disk_ctl_fn *fn = d->ctl_fn;

	d->ctl_fn = NULL;
	fn(d->ctl_arg, err, why);
}

static bool ctl_refused(const struct disk *d, bool allowed, disk_ctl_fn *fn,
			void *arg)
{
	char why[32];

	if (allowed)
		return false;
	snprintf(why, sizeof(why), "it is %s", fsm[d->state].name);
	fn(arg, -EINVAL, why);
	return true;
}

/* Open and resume. */

static void resume_fronts(struct disk *d)
{
	list_for_each_safe(e, &d->fronts) {
		struct disk_front *f = container_of(e, struct disk_front, link);

		f->ops->resume(f);
	}
}

static void tell_size(struct disk *d)
{
	list_for_each_safe(e, &d->fronts) {
		struct disk_front *f = container_of(e, struct disk_front, link);

		f->ops->resized(f);
	}
}

/* The tree's geometry is the disk's; true if the size has changed. */
static bool take_geometry(struct disk *d)
{
	const struct td_node *root = td_tree_root(d->tree);
	uint64_t before = d->size;

	d->size = root->size;
	d->phys = root->phys;
	d->whole = root->whole;
	d->caps = root->caps;
	return before != d->size;
}

/* The new tree is not wanted after all, or it did not open. */
static void open_failed(struct disk *d, int err, const char *why)
{
	char text[256];

	snprintf(text, sizeof(text), "%s", why);
	if (d->tree) {
		td_tree_free(d->tree);
		d->tree = NULL;
	}
	free(d->new_spec);
	d->new_spec = NULL;
	d->resume_failed = d->goal == DISK_PAUSED;
	enter(d, d->goal);
	ctl_end(d, err, text);
}

static void too_small_closed(struct td_req *r, int err)
{
	struct disk *d = r->owner;

	(void)err;
	open_failed(d, -EMEDIUMTYPE,
		    "the new image is smaller than the disk: a disk never shrinks");
}

static void no_memory_closed(struct td_req *r, int err)
{
	(void)err;
	open_failed(r->owner, -ENOMEM, "");
}

static void opened(struct td_req *r, int err)
{
	struct disk *d = r->owner;
	bool resumed = d->goal == DISK_PAUSED;

	if (!err && resumed && td_tree_root(d->tree)->size < d->size) {
		d->ctl.done = too_small_closed;
		td_tree_close(d->tree, &d->ctl);
		return;
	}
	if (err) {
		open_failed(d, err, td_tree_why(d->tree));
		return;
	}
	if (split_pool_bind(d->split, d->tree)) {
		d->ctl.done = no_memory_closed;
		td_tree_close(d->tree, &d->ctl);
		return;
	}
	free(d->spec);
	d->spec = d->new_spec;
	d->flags = d->new_flags;
	d->new_spec = NULL;
	d->resume_failed = false;
	enter(d, DISK_RUNNING);
	if (take_geometry(d) && resumed)
		tell_size(d);
	resume_fronts(d);
	ctl_end(d, 0, "");
}

/* goal: where a failure leads. */
static void start_open(struct disk *d, const char *spec, unsigned flags,
		       enum disk_state goal)
{
	char why[256] = "";
	int err;

	enter(d, DISK_OPENING);
	d->goal = goal;
	d->new_flags = flags;
	d->new_spec = strdup(spec);
	err = d->new_spec ? td_tree_new(d->env, spec, flags, &d->tree, why,
					sizeof(why)) : -ENOMEM;
	if (err) {
		d->tree = NULL;
		open_failed(d, err, why);
		return;
	}
	d->ctl.done = opened;
	d->ctl.owner = d;
	td_tree_open(d->tree, &d->ctl);
}

void disk_open(struct disk *d, const char *spec, unsigned flags,
	       disk_ctl_fn *fn, void *arg)
{
	if (ctl_refused(d, d->state == DISK_CLOSED, fn, arg) ||
	    !ctl_begin(d, fn, arg))
		return;
	d->size = 0;
	start_open(d, spec, flags, DISK_CLOSED);
}

int disk_hold(struct disk *d, const char *spec, unsigned flags,
	      const struct disk_shape *shape)
{
	char *own;

	if (d->state != DISK_CLOSED || d->ctl_fn || shape->size % 512)
		return -EINVAL;
	own = strdup(spec);
	if (!own)
		return -ENOMEM;
	free(d->spec);
	d->spec = own;
	d->flags = flags;
	d->size = shape->size;
	d->phys = shape->phys;
	d->caps = shape->caps;
	d->resume_failed = false;
	enter(d, DISK_PAUSED);
	return 0;
}

void disk_resume(struct disk *d, const char *spec, unsigned flags,
		 disk_ctl_fn *fn, void *arg)
{
	bool same = !spec || !*spec;

	if (ctl_refused(d, d->state == DISK_PAUSED, fn, arg) ||
	    !ctl_begin(d, fn, arg))
		return;
	start_open(d, same ? d->spec : spec, same ? d->flags : flags, DISK_PAUSED);
}

/* Pause and close. */

static void disconnect_fronts(struct disk *d)
{
	list_for_each_safe(e, &d->fronts) {
		struct disk_front *f = container_of(e, struct disk_front, link);

		f->ops->disconnect(f);
	}
}

static void closed(struct disk *d, int err)
{
	if (d->goal == DISK_PAUSED) {
		/* Paused it is, and all that was written is safe: an error
		 * would say that it goes on. */
		if (err)
			log_warn("closing the image: %s; it had been flushed",
				 strerror(-err));
		enter(d, DISK_PAUSED);
		ctl_end(d, 0, "");
		return;
	}
	if (d->state == DISK_DRAINING)
		enter(d, DISK_CLOSING);
	disconnect_fronts(d);
	enter(d, DISK_CLOSED);
	if (d->flush_err)
		ctl_end(d, d->flush_err, "closed, but its last flush failed: what was "
			"written since the flush before may be lost");
	else
		ctl_end(d, err, err ? "closed, with an error" : "");
}

static void tree_closed(struct td_req *r, int err)
{
	struct disk *d = r->owner;

	td_tree_free(d->tree);
	d->tree = NULL;
	closed(d, err);
}

static void flushed(struct td_req *r, int err)
{
	struct disk *d = r->owner;

	if (err && d->goal == DISK_PAUSED) {
		enter(d, DISK_RUNNING);
		resume_fronts(d);
		ctl_end(d, err, "cannot flush, so it goes on");
		return;
	}
	d->flush_err = err;
	d->ctl.done = tree_closed;
	td_tree_close(d->tree, &d->ctl);
}

/* queue.c: the last request of a draining disk has been answered. */
void disk_drained(struct disk *d)
{
	ASSERT(d->state == DISK_DRAINING && !d->inflight);	/* I2 */
	d->flush_err = 0;
	d->ctl.done = flushed;
	d->ctl.owner = d;
	td_tree_flush(d->tree, &d->ctl);
}

static void drain(struct disk *d, enum disk_state goal)
{
	enter(d, DISK_DRAINING);
	d->goal = goal;
	list_for_each_safe(e, &d->fronts) {
		struct disk_front *f = container_of(e, struct disk_front, link);

		f->ops->quiesce(f);
	}
	if (!d->inflight)
		disk_drained(d);
}

void disk_pause(struct disk *d, disk_ctl_fn *fn, void *arg)
{
	if (ctl_refused(d, d->state == DISK_RUNNING, fn, arg) ||
	    !ctl_begin(d, fn, arg))
		return;
	drain(d, DISK_PAUSED);
}

void disk_close(struct disk *d, disk_ctl_fn *fn, void *arg)
{
	if (ctl_refused(d, d->state == DISK_RUNNING || d->state == DISK_PAUSED,
			fn, arg) || !ctl_begin(d, fn, arg))
		return;
	d->flush_err = 0;
	if (d->state == DISK_RUNNING) {
		drain(d, DISK_CLOSING);
		return;
	}
	d->goal = DISK_CLOSING;
	enter(d, DISK_CLOSING);
	closed(d, 0);
}

/* Resize. */

static void resized(struct td_req *r, int err)
{
	struct disk *d = r->owner;

	if (!err && take_geometry(d)) {
		log_info("size is now %llu bytes", (unsigned long long)d->size);
		tell_size(d);
	}
	ctl_end(d, err, err ? td_tree_why(d->tree) : "");
}

void disk_resize(struct disk *d, uint64_t bytes, disk_ctl_fn *fn, void *arg)
{
	if (ctl_refused(d, d->state == DISK_RUNNING, fn, arg))
		return;
	if (!(d->caps & TD_CAP_RESIZE)) {
		fn(arg, -EOPNOTSUPP, "this type of disk has a fixed size");
		return;
	}
	if (bytes && disk_rdonly(d)) {
		fn(arg, -EROFS, "it is read-only (without a size, it takes up what "
		   "its file has grown to)");
		return;
	}
	if (bytes % 512) {
		fn(arg, -EINVAL, "a size is a multiple of 512 bytes");
		return;
	}
	if (bytes && bytes < d->size) {
		fn(arg, -ERANGE, "a disk never shrinks");
		return;
	}
	if (!ctl_begin(d, fn, arg))
		return;
	d->ctl.done = resized;
	d->ctl.owner = d;
	d->ctl.length = bytes;
	td_tree_resize(d->tree, &d->ctl);
}

/* What it is. */

enum disk_state disk_state(const struct disk *d)
{
	return d->state;
}

const char *disk_state_name(enum disk_state s)
{
	return fsm[s].name;
}

bool disk_resume_failed(const struct disk *d)
{
	return d->resume_failed;
}

const char *disk_spec(const struct disk *d)
{
	return d->spec ? d->spec : "";
}

unsigned disk_flags(const struct disk *d)
{
	return d->flags;
}

bool disk_rdonly(const struct disk *d)
{
	return !(d->caps & TD_CAP_WRITE);
}

uint64_t disk_size(const struct disk *d)
{
	return d->size;
}

uint32_t disk_sector(const struct disk *d)
{
	(void)d;
	return 512;
}

uint32_t disk_phys(const struct disk *d)
{
	return d->phys;
}

uint32_t disk_whole(const struct disk *d)
{
	return d->whole;
}

uint32_t disk_caps(const struct disk *d)
{
	return d->caps;
}

struct td_env *disk_env(const struct disk *d)
{
	return d->env;
}

bool disk_running(const struct disk *d)
{
	return d->state == DISK_RUNNING;
}

json_t *disk_stats(const struct disk *d)
{
	json_t *all = json_pack("{s:s, s:s, s:I, s:i, s:o}",
				"state", fsm[d->state].name,
				"image", disk_spec(d),
				"size", (json_int_t)d->size,
				"inflight", (int)d->inflight,
				"ops", stats_json(&d->stats));
	json_t *fronts = json_array(), *nodes = json_array();

	list_for_each(e, &d->fronts) {
		struct disk_front *f = container_of(e, struct disk_front, link);
		json_t *o = json_pack("{s:s, s:i}", "type", f->ops->name,
				      "inflight", (int)f->inflight);

		if (f->ops->stats)
			f->ops->stats(f, o);
		json_array_append_new(fronts, o);
	}
	for (struct td_node *n = d->tree ? td_tree_root(d->tree) : NULL; n;
	     n = n->child) {
		json_t *o = json_pack("{s:s}", "type", n->driver->name);

		if (n->driver->stats)
			n->driver->stats(n, o);
		json_array_append_new(nodes, o);
	}
	json_object_set_new(all, "clients", fronts);
	json_object_set_new(all, "nodes", nodes);
	return all;
}

void disk_dump(const struct disk *d)
{
	json_t *all = disk_stats(d);
	char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;

	/* Lines of a log are short; what is long goes out in pieces. */
	for (size_t at = 0, len = text ? strlen(text) : 0; at < len; at += 900)
		log_info("state: %.900s", text + at);
	free(text);
	json_decref(all);
}

/* Fronts. */

void disk_front_add(struct disk *d, struct disk_front *f)
{
	f->disk = d;
	f->inflight = 0;
	list_add(&d->fronts, &f->link);
}

void disk_front_del(struct disk_front *f)
{
	ASSERT(!f->inflight);
	list_del(&f->link);
}

int disk_front_bind(struct disk_front *f)
{
	ASSERT(disk_running(f->disk) && !f->inflight);
	return td_pool_bind(f->pool, f->disk->tree);
}
