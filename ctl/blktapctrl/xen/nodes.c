/* nodes.c - reading and writing the nodes of a device (dev.h).
 *
 * A read takes both halves in one transaction, so that a state and what it
 * promises belong together.
 */
#include "xen/dev.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "ctl.h"

#define AGAIN_NS (50 * NS_PER_MS)
#define AGAIN_DOUBLES 6

const char *dev_node(const struct xen_dev *d, char buf[NAMES_NODE_MAX])
{
	snprintf(buf, NAMES_NODE_MAX, "%s/%u/%u", xen_kind_text(d->kind), d->domid,
		 d->devid);
	return buf;
}

static void dev_path(const struct xen_dev *d, char *buf)
{
	char node[NAMES_NODE_MAX];

	snprintf(buf, DEV_PATH_MAX, "backend/%s", dev_node(d, node));
}

/* Others always came between, or the store is full: once more, later. */
static void later(struct xen_dev *d)
{
	loop_timer_set(ctl.loop, &d->again, AGAIN_NS);
}

/* The same of what would change them: that may fail for good, and is tried less and
 * less often. */
static void changed_not(struct xen_dev *d)
{
	loop_timer_set(ctl.loop, &d->again, AGAIN_NS << d->changed_not);
	if (d->changed_not < AGAIN_DOUBLES)
		d->changed_not++;
}

/* --- reading --- */

struct nodes_read {
	struct store_job job;
	struct xen_dev *d;	/* not the thread's */
	char dir[DEV_PATH_MAX];
	uint32_t domid;
	struct xen_back back;
	struct xen_front front;
	bool domain;

	struct xen_reader reader;
	struct store *s;
	const char *at;
};

static const char *read_key(const struct xen_reader *r, const char *key)
{
	const struct nodes_read *n = container_of(r, struct nodes_read, reader);
	char path[XEN_PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", n->at, key);
	return store_read(n->s, path);
}

static int read_both(struct store *s, void *arg)
{
	struct nodes_read *n = arg;
	char domain[32];

	n->s = s;
	n->reader.get = read_key;
	n->at = n->dir;
	xen_check_back(&n->reader, &n->back);
	if (n->back.exists) {
		n->at = n->back.frontend;
		xen_check_front(&n->reader, &n->front);
	} else {
		memset(&n->front, 0, sizeof(n->front));
	}
	snprintf(domain, sizeof(domain), "/local/domain/%u", n->domid);
	n->domain = store_read(s, domain) != NULL;
	return 0;
}

static int read_run(struct store_job *j, struct store *s)
{
	return store_transaction(s, read_both,
				 container_of(j, struct nodes_read, job));
}

static void read_done(struct store_job *j)
{
	struct nodes_read *n = container_of(j, struct nodes_read, job);
	struct xen_dev *d = n->d;
	int err;

	d->busy = false;
	if (j->err) {
		d->dirty = true;
		if (j->err != -ENOTCONN)
			later(d);
	} else {
		d->back = n->back;
		d->front = n->front;
		d->domain = n->domain;
		d->seen = true;
		d->ours = d->ours || n->back.ours;
		if (n->front.state != XB_NONE)
			d->met = true;
	}
	err = j->err;
	free(n);
	/* Until the end of the connection is told of, reading again is of no use. */
	if (!err || !store_is_up())
		dev_step(d);
}

void nodes_read(struct xen_dev *d)
{
	struct nodes_read *n = calloc(1, sizeof(*n));

	if (!n) {
		later(d);
		return;
	}
	n->job.run = read_run;
	n->job.done = read_done;
	n->d = d;
	n->domid = d->domid;
	dev_path(d, n->dir);
	d->busy = true;
	d->dirty = false;
	store_submit(&n->job);
}

/* --- writing --- */

#define KEYS_MAX 24
#define VALUE_MAX 384

struct nodes_write {
	struct store_job job;
	struct xen_dev *d;	/* not the thread's */
	char dir[DEV_PATH_MAX];
	unsigned n;
	enum xenbus_state state;
	enum dev_state next;
	bool tells, told;	/* tells: what xen_dev.told is when it stands there */
	struct {
		char key[40];
		char value[VALUE_MAX];
	} kv[KEYS_MAX];
};

static int write_all(struct store *s, void *arg)
{
	const struct nodes_write *w = arg;
	char path[DEV_PATH_MAX + 48];
	enum xenbus_state now;
	const char *v;
	bool online;
	int err = 0;

	snprintf(path, sizeof(path), "%s/frontend", w->dir);
	if (!store_read(s, path))			/* I3 */
		return -ENOENT;
	snprintf(path, sizeof(path), "%s/online", w->dir);
	v = store_read(s, path);
	online = !v || strcmp(v, "0");
	snprintf(path, sizeof(path), "%s/state", w->dir);
	now = xen_check_state(store_read(s, path));
	/* The toolstack's wish to end is not written over. */
	if ((w->state == XB_INIT_WAIT && !online) ||
	    (w->state == XB_CONNECTED && (!online || now == XB_CLOSING)))
		return -ECANCELED;
	for (unsigned i = 0; i < w->n && !err; i++) {
		snprintf(path, sizeof(path), "%s/%s", w->dir, w->kv[i].key);
		err = store_write(s, path, w->kv[i].value);
	}
	if (!err && w->state != XB_NONE) {
		char text[8];

		snprintf(path, sizeof(path), "%s/state", w->dir);
		snprintf(text, sizeof(text), "%d", (int)w->state);
		err = store_write(s, path, text);
	}
	return err;
}

static int write_run(struct store_job *j, struct store *s)
{
	return store_transaction(s, write_all,
				 container_of(j, struct nodes_write, job));
}

static void write_done(struct store_job *j)
{
	struct nodes_write *w = container_of(j, struct nodes_write, job);
	struct xen_dev *d = w->d;

	d->busy = false;
	/* The watch on it tells as well, but later. */
	d->dirty = true;
	if (!j->err) {
		d->changed_not = 0;
		if (w->tells)
			d->told = w->told;
		dev_enter(d, w->next);
	} else if (j->err == -ENOENT || j->err == -ECANCELED) {
		log_dbg(LOG_CTL, "%s: not written: %s", dev_name(d),
			strerror(-j->err));
	} else if (j->err != -ENOTCONN) {
		if (log_allowed(&d->limit))
			log_warn("%s: cannot write its nodes: %s", dev_name(d),
				 strerror(-j->err));
		changed_not(d);
		free(w);
		return;
	}
	free(w);
	dev_step(d);
}

struct nodes_write *nodes_begin(struct xen_dev *d)
{
	struct nodes_write *w = calloc(1, sizeof(*w));

	ASSERT(w && !d->busy);
	w->job.run = write_run;
	w->job.done = write_done;
	w->d = d;
	dev_path(d, w->dir);
	return w;
}

void nodes_add(struct nodes_write *w, const char *key, const char *fmt, ...)
{
	va_list ap;

	ASSERT(w->n < KEYS_MAX && strlen(key) < sizeof(w->kv[0].key));
	strcpy(w->kv[w->n].key, key);
	va_start(ap, fmt);
	vsnprintf(w->kv[w->n].value, VALUE_MAX, fmt, ap);
	va_end(ap);
	w->n++;
}

void nodes_tells(struct nodes_write *w, bool told)
{
	w->tells = true;
	w->told = told;
}

void nodes_send(struct nodes_write *w, enum xenbus_state state,
		enum dev_state next)
{
	w->state = state;
	w->next = next;
	w->d->busy = true;
	store_submit(&w->job);
}

void nodes_forget(struct xen_dev *d)
{
	struct nodes_write *w = nodes_begin(d);

	nodes_tells(w, false);
	nodes_add(w, "blktap-minor", " ");
	nodes_send(w, XB_NONE, d->state);
}

/* --- both nodes away --- */

struct nodes_job {
	struct store_job job;
	struct xen_dev *d;
	char dir[DEV_PATH_MAX];
	char front[XEN_PATH_MAX];
};

static void job_start(struct xen_dev *d, const char *front,
		      int (*run)(struct store_job *, struct store *),
		      void (*done)(struct store_job *))
{
	struct nodes_job *n = calloc(1, sizeof(*n));

	ASSERT(n && !d->busy);
	n->job.run = run;
	n->job.done = done;
	n->d = d;
	dev_path(d, n->dir);
	strcpy(n->front, front);
	d->busy = true;
	store_submit(&n->job);
}

static void remove_done(struct store_job *j)
{
	struct nodes_job *n = container_of(j, struct nodes_job, job);
	struct xen_dev *d = n->d;
	int err;

	d->busy = false;
	err = j->err;
	free(n);
	if (err && err != -ENOTCONN) {
		if (log_allowed(&d->limit))
			log_warn("%s: cannot remove its nodes: %s", dev_name(d),
				 strerror(-err));
		changed_not(d);
		return;
	}
	dev_touch(d);
}

static void count(void *arg, const char *name)
{
	(void)name;
	++*(unsigned *)arg;
}

static int remove_both(struct store *s, void *arg)
{
	const struct nodes_job *n = arg;
	char guest[DEV_PATH_MAX];
	unsigned left = 0;
	int err = *n->front ? store_remove(s, n->front) : 0;

	if (!err)
		err = store_remove(s, n->dir);
	if (err)
		return err;
	/* The guest's folder, if this was its last device. */
	strcpy(guest, n->dir);
	*strrchr(guest, '/') = '\0';
	err = store_list(s, guest, count, &left);
	if (err == -ENOENT)
		return 0;
	return err || left ? err : store_remove(s, guest);
}

static int remove_run(struct store_job *j, struct store *s)
{
	return store_transaction(s, remove_both,
				 container_of(j, struct nodes_job, job));
}

void nodes_remove(struct xen_dev *d)
{
	job_start(d, d->back.frontend, remove_run, remove_done);
}

/* --- the watch on the frontend --- */

static void watch_done(struct store_job *j)
{
	struct nodes_job *n = container_of(j, struct nodes_job, job);
	struct xen_dev *d = n->d;

	d->busy = false;
	d->dirty = true;
	if (!j->err)
		d->watched = true;
	else if (j->err != -ENOTCONN)
		later(d);
	free(n);
	if (d->watched || !store_is_up())
		dev_step(d);
}

static int watch_run(struct store_job *j, struct store *s)
{
	struct nodes_job *n = container_of(j, struct nodes_job, job);
	char path[XEN_PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/state", n->front);
	return store_watch(s, path, n->dir);
}

void nodes_watch(struct xen_dev *d)
{
	strcpy(d->watching, d->back.frontend);
	job_start(d, d->watching, watch_run, watch_done);
}

static int unwatch_run(struct store_job *j, struct store *s)
{
	struct nodes_job *n = container_of(j, struct nodes_job, job);
	char path[XEN_PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/state", n->front);
	store_unwatch(s, path, n->dir);
	return 0;
}

static void unwatch_done(struct store_job *j)
{
	struct nodes_job *n = container_of(j, struct nodes_job, job);
	struct xen_dev *d = n->d;

	d->busy = d->watched = false;
	free(n);
	dev_step(d);
}

void nodes_unwatch(struct xen_dev *d)
{
	job_start(d, d->watching, unwatch_run, unwatch_done);
}
