/* xen.c - vbds of Xen guests: their rings mapped, their event channels bound,
 * a port of the disk each.  See xen.h; the pages of data are xen_pages.c's.
 *
 * X1  A vbd is connected, or it is dying: its port is stopped and its memory
 *     goes, some pages a pass of the loop.  A dying one is still found, so that
 *     it cannot be connected anew before its grants are unmapped.
 * X2  Whoever waits for a dying one is told when nothing of it is left; if
 *     nobody does, blktapctrl is.
 * X3  An event says that the loop is awake, no more: the rings are looked at by
 *     the port.  It is unmasked at once; what a guest sends in excess wakes its
 *     own disk's process.
 * X4  What was in flight when a predecessor died is in the journal, by domain and
 *     number; without it nobody can go on with rings that have been served: where
 *     they were is not known.
 */
#include "ring/xen.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "loop/loop.h"
#include "ring/journal.h"
#include "ring/port.h"
#include "ring/xen_host.h"
#include "ring/xen_pages.h"

#define EVENTS_MAX 64u		/* looked at in one go */
#define STATS_NS 1000000000ull

/* What xentop reads: libxenstat's, of version 1. */
struct vbd3_stats {
	uint32_t version, pad;
	uint64_t oo_reqs;
	uint64_t read_reqs_submitted, read_reqs_completed, read_sectors;
	uint64_t read_total_ticks;	/* microseconds */
	uint64_t write_reqs_submitted, write_reqs_completed, write_sectors;
	uint64_t write_total_ticks;
	uint64_t io_errors, flags;
};

struct wait {
	struct list link;
	xen_gone_fn *fn;
	void *arg;
};

struct vbd {
	struct xen_rings *owner;	/* NULL: has gone before us */
	struct loop *loop;
	struct list link;
	struct tap_xen_vbd name;
	struct ring_port port;
	struct xen_pages *pages;
	unsigned queues, order;
	void *ring[TAP_XEN_QUEUES];
	int event[TAP_XEN_QUEUES];	/* our ports; -1 */
	const char *why;		/* it was stopped */
	struct list waits;
	struct loop_work unmap;
	struct journal_section *journal; /* or NULL */
	bool keep;			/* the section, for another try */
	uint64_t waited;		/* for room */
	struct vbd3_stats *stats;
};

struct xen_rings {
	struct loop *loop;
	struct disk *disk;
	xen_broken_fn *broken;
	void *arg;
	struct list vbds;
	unsigned nr;
	struct loop_fd events;
	bool listening;
	struct loop_timer tick;
};

_Static_assert(TAP_XEN_QUEUES == TAPRING_MAX_QUEUES, "rings of a port");
_Static_assert(TAP_XEN_ORDER == TAPRING_MAX_ORDER, "rings of a port");

/* For all guests: each can come and go as often as it likes. */
static struct log_limit comings, goings, without;

static struct vbd *vbd_of(struct ring_port *p)
{
	return container_of(p, struct vbd, port);
}

static struct vbd *find(struct xen_rings *x, const struct tap_xen_vbd *name)
{
	list_for_each(e, &x->vbds) {
		struct vbd *v = container_of(e, struct vbd, link);

		if (v->name.domid == name->domid && v->name.devid == name->devid)
			return v;
	}
	return NULL;
}

/* The end of one. */

static void vbd_free(struct vbd *v)
{
	if (v->pages)
		xen_pages_free(v->pages);
	for (unsigned q = 0; q < v->queues; q++) {
		if (v->ring[q])
			xengnttab_unmap(xen_host.gnt, v->ring[q], 1u << v->order);
		if (v->event[q] >= 0)
			xenevtchn_unbind(xen_host.evt, (evtchn_port_t)v->event[q]);
	}
	if (v->journal)
		journal_put(v->journal, v->keep);
	if (v->stats)
		munmap(v->stats, TAP_XENSTAT_BYTES);
	free(v);
}

static void tell(struct list *waits, int err)
{
	struct list *e;

	while ((e = list_pop(waits))) {
		struct wait *w = container_of(e, struct wait, link);

		w->fn(w->arg, err);
		free(w);
	}
}

static void vbd_gone(struct vbd *v)
{
	struct xen_rings *x = v->owner;
	struct tap_xen_vbd name = v->name;
	const char *why = v->why;
	struct list waits, *e;
	bool awaited = !list_empty(&v->waits);

	log_dbg(LOG_RING, "vbd %u of domain %u is gone", name.devid, name.domid);
	list_init(&waits);
	if (x) {
		list_del(&v->link);
		x->nr--;
	}
	while ((e = list_pop(&v->waits)))
		list_add(&waits, e);
	vbd_free(v);
	tell(&waits, 0);
	if (x && !awaited)						/* X2 */
		x->broken(x->arg, &name, why);
}

static void vbd_unmap(struct loop_work *w)
{
	struct vbd *v = container_of(w, struct vbd, unmap);

	if (xen_pages_shrink(v->pages))
		loop_defer(v->loop, &v->unmap);
	else
		vbd_gone(v);
}

/* What the port asks of us. */

static int vbd_resolve(struct ring_port *p, const struct blkif_req *b,
		       void **page, void **hold)
{
	struct vbd *v = vbd_of(p);

	*hold = xen_pages_hold(v->pages, b, loop_now(p->loop), page);
	p->full = xen_pages_full(v->pages);
	v->waited += p->full;
	return 0;
}

static void vbd_load(struct ring_port *p, void **hold, int *err, unsigned n)
{
	xen_pages_load(vbd_of(p)->pages, hold, err, n);
}

static void vbd_release(struct ring_port *p, void **hold, int *err, unsigned n)
{
	struct vbd *v = vbd_of(p);

	xen_pages_release(v->pages, hold, err, n, loop_now(p->loop));
	p->full = xen_pages_full(v->pages);
}

static int vbd_fetch(struct ring_port *p, const uint32_t *gref, void *to, size_t len)
{
	return xen_pages_fetch(vbd_of(p)->pages, gref, to, len, loop_now(p->loop));
}

static void vbd_notify(struct ring_port *p, unsigned queue)
{
	/* It fails when the guest has died: then nobody wants to know. */
	(void)xenevtchn_notify(xen_host.evt,
			       (evtchn_port_t)vbd_of(p)->event[queue]);
}

static void vbd_arming(struct ring_port *p, unsigned queue)
{
	(void)p;
	(void)queue;
}

/* Guests learn it from xenstore. */
static void vbd_resized(struct ring_port *p, uint64_t sectors)
{
	(void)p;
	(void)sectors;
}

static void vbd_hang_up(struct ring_port *p, const char *why)
{
	struct vbd *v = vbd_of(p);

	if (log_allowed(&goings))
		log_warn("vbd %u of domain %u was disconnected: %s", v->name.devid,
			 v->name.domid, why);
	v->why = why;
	ring_port_stop(p);
}

/* A front end that was taken away from its users waits for what was in flight. */
static void vbd_stopped(struct ring_port *p)
{
	struct vbd *v = vbd_of(p);

	for (unsigned q = 0; q < v->queues; q++)
		if (ring_unpushed(&p->ring[q]) && ring_push(&p->ring[q]))
			vbd_notify(p, q);
	loop_defer(v->loop, &v->unmap);
}

static void vbd_stats(struct ring_port *p, json_t *into)
{
	const struct vbd *v = vbd_of(p);
	const struct xen_pages_counts *c = xen_pages_counts(v->pages);

	json_object_set_new(into, "domid", json_integer(v->name.domid));
	json_object_set_new(into, "devid", json_integer(v->name.devid));
	json_object_set_new(into, "mapped", json_integer(c->mapped));
	json_object_set_new(into, "evicted", json_integer((json_int_t)c->evicted));
	json_object_set_new(into, "copied", json_integer((json_int_t)c->copied));
	json_object_set_new(into, "bad_grants", json_integer((json_int_t)c->failed));
	json_object_set_new(into, "waited", json_integer((json_int_t)v->waited));
}

static const struct ring_port_ops vbd_port_ops = {
	.name		= "xen",
	.resolve	= vbd_resolve,
	.load		= vbd_load,
	.release	= vbd_release,
	.fetch		= vbd_fetch,
	.notify		= vbd_notify,
	.arming		= vbd_arming,
	.resized	= vbd_resized,
	.hang_up	= vbd_hang_up,
	.stopped	= vbd_stopped,
	.stats		= vbd_stats,
};

/* Events. */

static void events_ready(struct loop_fd *f, uint32_t events)
{
	(void)f;
	(void)events;
	for (unsigned n = 0; n < EVENTS_MAX; n++) {
		int port = xenevtchn_pending(xen_host.evt);

		if (port < 0)
			return;
		(void)xenevtchn_unmask(xen_host.evt, (evtchn_port_t)port); /* X3 */
	}
}

static int listen_events(struct xen_rings *x)
{
	int err;

	if (x->listening)
		return 0;
	x->events.fd = xenevtchn_fd(xen_host.evt);
	x->events.fn = events_ready;
	err = loop_fd_add(x->loop, &x->events, EPOLLIN);
	x->listening = !err;
	return err;
}

/* Connecting, in the order of its steps.  What is made is kept in v. */

static const char *bad_numbers(const struct tap_xen_connect *c)
{
	const unsigned known = TAP_XEN_PERSISTENT | TAP_XEN_READONLY |
			       TAP_XEN_RECONNECT;

	if (c->vbd.domid > TAP_XEN_DOMID_MAX)
		return "there is no such domain";
	if (!c->queues || c->queues > TAP_XEN_QUEUES)
		return "bad number of queues";
	if (c->order > TAP_XEN_ORDER)
		return "its rings are too large";
	if (c->abi < TAPRING_ABI_NATIVE || c->abi > TAPRING_ABI_X86_64)
		return "unknown ring protocol";
	if (c->max_indirect > TAPRING_MAX_INDIRECT)
		return "too many indirect segments";
	if (c->flags & ~known)
		return "unknown flags";
	return NULL;
}

/* X4.  A new guest is served without a journal too, as long as we live. */
static int get_journal(struct vbd *v, const struct tap_xen_connect *c,
		       struct journal *j, const char **why)
{
	bool resume = c->flags & TAP_XEN_RECONNECT;
	struct journal_shape shape = { c->abi, c->order, c->queues };
	struct journal_key key = { { 0 } };
	int err;

	*why = "nothing is known of its rings";
	if (!j)
		return resume ? -ESTALE : 0;
	memcpy(&key, &c->vbd, sizeof(c->vbd));
	err = journal_get(j, JOURNAL_XEN, &key, &shape, resume, &v->journal, why);
	if (err && resume)
		return err;
	v->keep = resume;
	if (err && log_allowed(&without))
		log_warn("vbd %u of domain %u has no journal: %s (%s)", c->vbd.devid,
			 c->vbd.domid, *why, strerror(-err));
	return 0;
}

/* gntdev says EINVAL of whatever the hypervisor says, want of room too: it is not taken
 * for a refusal for good.  (An event channel's is not told apart either.) */
static int host_error(void)
{
	return errno && errno != EINVAL ? -errno : -EIO;
}

static int map_ring(struct vbd *v, const struct tap_xen_connect *c, unsigned q)
{
	uint32_t ref[1u << TAP_XEN_ORDER];

	memcpy(ref, c->ref[q], sizeof(ref));
	v->ring[q] = xengnttab_map_domain_grant_refs(xen_host.gnt, 1u << c->order,
						     c->vbd.domid, ref,
						     PROT_READ | PROT_WRITE);
	if (!v->ring[q])
		return host_error();
	ring_init(&v->port.ring[q], c->abi, c->order, v->ring[q]);
	if (v->journal)
		ring_journal(&v->port.ring[q], v->journal, q);
	return 0;
}

static int bind_event(struct vbd *v, const struct tap_xen_connect *c, unsigned q)
{
	v->event[q] = xenevtchn_bind_interdomain(xen_host.evt, c->vbd.domid,
						 c->evtchn[q]);
	return v->event[q] < 0 ? host_error() : 0;
}

static int start(struct xen_rings *x, struct vbd *v,
		 const struct tap_xen_connect *c, struct journal *j,
		 const char **why)
{
	unsigned segs = c->max_indirect > BLKIF_SEGS ? c->max_indirect : BLKIF_SEGS;
	int err = get_journal(v, c, j, why);

	if (err)
		return err;
	*why = "cannot map its ring";
	for (unsigned q = 0; q < c->queues && !err; q++)
		err = map_ring(v, c, q);
	if (err)
		return err;
	*why = "cannot bind its event channel";
	for (unsigned q = 0; q < c->queues && !err; q++)
		err = bind_event(v, c, q);
	if (err)
		return err;
	*why = NULL;
	v->pages = xen_pages_new(c->vbd.domid, c->flags & TAP_XEN_PERSISTENT,
				 c->queues, c->queues * ring_slots(&v->port.ring[0]),
				 segs);
	err = v->pages ? listen_events(x) : -ENOMEM;
	if (err)
		return err;
	v->port.rdonly = c->flags & TAP_XEN_READONLY;
	err = ring_port_start(&v->port, &vbd_port_ops, x->loop, x->disk, c->queues,
			      c->max_indirect);
	if (err == -ENODEV)
		*why = "the disk is not open";
	else if (!err)
		v->keep = false;
	return err;
}

int xen_connect(struct xen_rings *x, const struct tap_xen_connect *c,
		struct journal *j, const char **why)
{
	struct vbd *v;
	int err;

	*why = "this host has no Xen";
	if (!xen_host.gnt)
		return -ENODEV;
	*why = bad_numbers(c);
	if (*why)
		return -EINVAL;
	*why = "it is connected already";
	if (find(x, &c->vbd))
		return -EEXIST;
	*why = "too many guests";
	if (x->nr >= TAP_XEN_DEVICES)
		return -EBUSY;
	*why = NULL;
	v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->owner = x;
	v->loop = x->loop;
	v->name = c->vbd;
	v->queues = c->queues;
	v->order = c->order;
	memset(v->event, -1, sizeof(v->event));
	list_init(&v->waits);
	loop_work_init(&v->unmap, vbd_unmap);
	err = start(x, v, c, j, why);
	if (err) {
		vbd_free(v);
		return err;
	}
	list_add(&x->vbds, &v->link);
	x->nr++;
	if (log_allowed(&comings))
		log_info("vbd %u of domain %u: %u queues of %u slots%s%s%s",
			 v->name.devid, v->name.domid, v->queues,
			 ring_slots(&v->port.ring[0]),
			 c->flags & TAP_XEN_RECONNECT ? ", taken up" : "",
			 c->flags & TAP_XEN_PERSISTENT ? ", persistent grants" : "",
			 c->flags & TAP_XEN_READONLY ? ", read-only" : "");
	return 0;
}

int xen_disconnect(struct xen_rings *x, const struct tap_xen_vbd *vbd,
		   xen_gone_fn *fn, void *arg)
{
	struct vbd *v = find(x, vbd);
	struct wait *w;

	if (!v)
		return -ENOENT;
	w = malloc(sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->fn = fn;
	w->arg = arg;
	list_add(&v->waits, &w->link);
	if (!v->port.stopping)
		ring_port_stop(&v->port);
	return 0;
}

/* Statistics of xentop. */

static void publish(struct vbd *v)
{
	const struct ring_port_io *r = &v->port.io[TD_OP_READ];
	const struct ring_port_io *w = &v->port.io[TD_OP_WRITE];

	*v->stats = (struct vbd3_stats){
		.version = 1, .oo_reqs = v->waited,
		.read_reqs_submitted = r->taken, .read_reqs_completed = r->done,
		.read_sectors = r->sectors, .read_total_ticks = r->us,
		.write_reqs_submitted = w->taken, .write_reqs_completed = w->done,
		.write_sectors = w->sectors, .write_total_ticks = w->us,
		.io_errors = v->port.failed + v->port.bad,
	};
}

static void tick(struct loop_timer *t)
{
	struct xen_rings *x = container_of(t, struct xen_rings, tick);
	bool any = false;

	list_for_each(e, &x->vbds) {
		struct vbd *v = container_of(e, struct vbd, link);

		if (!v->stats)
			continue;
		publish(v);
		any = true;
	}
	if (any)
		loop_timer_set(x->loop, &x->tick, STATS_NS);
}

void xen_stats_to(struct xen_rings *x, const struct tap_xen_vbd *vbd, int fd)
{
	struct vbd *v = find(x, vbd);
	struct stat st;
	void *page = MAP_FAILED;

	if (v && !fstat(fd, &st) && st.st_size >= TAP_XENSTAT_BYTES)
		page = mmap(NULL, TAP_XENSTAT_BYTES, PROT_READ | PROT_WRITE,
			    MAP_SHARED, fd, 0);
	close(fd);
	if (page == MAP_FAILED) {
		log_warn("no statistics for vbd %u of domain %u", vbd->devid,
			 vbd->domid);
		return;
	}
	if (v->stats)
		munmap(v->stats, TAP_XENSTAT_BYTES);
	v->stats = page;
	publish(v);
	if (!loop_timer_is_set(&x->tick))
		loop_timer_set(x->loop, &x->tick, STATS_NS);
}

/* All of them. */

struct xen_rings *xen_rings_new(struct loop *l, struct disk *d,
				xen_broken_fn *broken, void *arg)
{
	struct xen_rings *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->loop = l;
	x->disk = d;
	x->broken = broken;
	x->arg = arg;
	list_init(&x->vbds);
	loop_timer_init(&x->tick, tick);
	return x;
}

void xen_rings_free(struct xen_rings *x)
{
	struct list *e;

	while ((e = list_pop(&x->vbds))) {
		struct vbd *v = container_of(e, struct vbd, link);

		v->owner = NULL;
		tell(&v->waits, -ECANCELED);
		if (!v->port.stopping)
			ring_port_stop(&v->port);
	}
	loop_timer_clear(&x->tick);
	if (x->listening)
		loop_fd_del(x->loop, &x->events);
	free(x);
}
