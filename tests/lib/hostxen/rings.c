/* rings.c - tapdisk/ring/xen.c's place in a tapdisk of a host without Xen: it
 * believes what blktapctrl says, writes it into the log, and remembers which
 * devices are connected.  All else of that tapdisk is the real one.
 *
 * Grant 666 of a first ring cannot be mapped; port 776 breaks at once, 777 after a
 * while; for 775 nonsense is said until nobody listens; of port
 * 778 nothing is known to a successor, for 779 it has no memory twice, for 780 never.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "loop/loop.h"
#include "ring/xen.h"

const bool xen_built_in = true;

struct xen_rings {
	struct loop *loop;
	xen_broken_fn *broken;
	void *arg;
	unsigned n;
	struct tap_xen_vbd v[TAP_XEN_DEVICES];
	struct loop_timer timer;
	struct tap_xen_vbd breaking;
	bool babbles;
};

void xen_host_open(void)
{
}

unsigned xen_host_ioctls(struct sandbox_ioctl *v)
{
	(void)v;
	return 0;
}

void xen_host_close(void)
{
}

static void drop(struct xen_rings *x, unsigned i)
{
	x->v[i] = x->v[--x->n];
}

static int find(const struct xen_rings *x, const struct tap_xen_vbd *v)
{
	for (unsigned i = 0; i < x->n; i++)
		if (x->v[i].domid == v->domid && x->v[i].devid == v->devid)
			return (int)i;
	return -1;
}

static void breaks(struct loop_timer *t)
{
	struct xen_rings *x = container_of(t, struct xen_rings, timer);
	const struct tap_xen_vbd nobody = { 0 };
	int i = find(x, &x->breaking);

	if (x->babbles) {
		for (int n = 0; n < 100; n++)
			x->broken(x->arg, &nobody, "nonsense");
		loop_timer_set(x->loop, t, 10 * NS_PER_MS);
		return;
	}
	if (i < 0)
		return;
	drop(x, (unsigned)i);
	x->broken(x->arg, &x->breaking, "more requests than slots");
}

struct xen_rings *xen_rings_new(struct loop *l, struct disk *d,
				xen_broken_fn *broken, void *arg)
{
	struct xen_rings *x = calloc(1, sizeof(*x));

	(void)d;
	if (!x)
		return NULL;
	x->loop = l;
	x->broken = broken;
	x->arg = arg;
	loop_timer_init(&x->timer, breaks);
	return x;
}

void xen_rings_free(struct xen_rings *x)
{
	loop_timer_clear(&x->timer);
	free(x);
}

int xen_connect(struct xen_rings *x, const struct tap_xen_connect *c,
		struct journal *j, const char **why)
{
	static unsigned tries;
	bool again = c->flags & TAP_XEN_RECONNECT;

	(void)j;
	*why = "no such grant";
	if (c->ref[0][0] == 666)
		return -EINVAL;
	*why = "nothing is known of its rings";
	if (again && c->evtchn[0] == 778)
		return -ESTALE;
	*why = "out of memory";
	if (again && (c->evtchn[0] == 780 || (c->evtchn[0] == 779 && tries++ < 2)))
		return -ENOMEM;
	*why = "it is connected already";
	if (find(x, &c->vbd) >= 0)
		return -EEXIST;
	*why = "too many";
	if (x->n == TAP_XEN_DEVICES)
		return -EBUSY;
	x->v[x->n++] = c->vbd;
	log_info("hostxen: connect %u/%u queues=%u order=%u abi=%u flags=%u "
		 "indirect=%u port=%u ref=%u last=%u,%u", c->vbd.domid, c->vbd.devid,
		 c->queues, c->order, c->abi, c->flags, c->max_indirect,
		 c->evtchn[0], c->ref[0][0], c->evtchn[c->queues - 1],
		 c->ref[c->queues - 1][(1u << c->order) - 1]);
	if (c->evtchn[0] >= 775 && c->evtchn[0] <= 777) {
		x->breaking = c->vbd;
		x->babbles = c->evtchn[0] == 775;
		loop_timer_set(x->loop, &x->timer,
			       c->evtchn[0] == 777 ? 300 * NS_PER_MS : 0);
	}
	return 0;
}

int xen_disconnect(struct xen_rings *x, const struct tap_xen_vbd *vbd,
		   xen_gone_fn *fn, void *arg)
{
	int i = find(x, vbd);

	if (i < 0)
		return -ENOENT;
	drop(x, (unsigned)i);
	log_info("hostxen: disconnect %u/%u", vbd->domid, vbd->devid);
	fn(arg, 0);
	return 0;
}

void xen_stats_to(struct xen_rings *x, const struct tap_xen_vbd *vbd, int fd)
{
	(void)x;
	log_info("hostxen: statistics %u/%u", vbd->domid, vbd->devid);
	close(fd);
}
