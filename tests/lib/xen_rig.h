/* xen_rig.h - rings of Xen guests against a hypervisor of the test's own, in place of
 * Xen's libraries: for what a real one will not do when asked.  Real loop and disk;
 * the guest's memory is a memfd, so that what is unmapped is gone.
 *
 * Include it in one .c file of a program alone.
 */
#ifndef TESTS_XEN_RIG_H
#define TESTS_XEN_RIG_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "disk/disk.h"
#include "fake_disk.h"
#include "loop/loop.h"
#include "blkif.h"
#include "ring/journal.h"
#include "ring/xen.h"
#include "ring/xen_host.h"

#define GREFS 2000u
#define RING(q) ((q) * 16u)	/* grants of ring q, and of */
#define DATA 300u		/* data, */
#define LIST 200u		/* lists of segments */
#define DOM 7u

/* --- the hypervisor */

static int guest_fd;
static char *guest;		/* its own view */
static unsigned mapped[GREFS], nr_mapped, map_calls, unmap_calls;
static unsigned fail_map_after;	/* so many succeed; 0: all */
static bool bad[GREFS], dead;
static struct { void *at; unsigned n; uint32_t ref[16]; } maps[GREFS];
static unsigned bound, bind_fails, notes, unmasked, copies, copy_calls;
static int events_fd, pending[8];
static unsigned nr_pending;

void *xengnttab_map_domain_grant_refs(xengnttab_handle *h, uint32_t n,
				      uint32_t domid, uint32_t *refs, int prot)
{
	unsigned slot = 0;
	char *at;

	(void)h;
	assert_int_equal(domid, DOM);
	assert_true(n <= 16);
	errno = EINVAL;
	map_calls++;
	if (dead || (fail_map_after && !--fail_map_after))
		return NULL;
	for (uint32_t i = 0; i < n; i++)
		if (refs[i] >= GREFS || bad[refs[i]])
			return NULL;
	at = mmap(NULL, n * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	while (maps[slot].at)
		slot++;
	maps[slot].at = at;
	maps[slot].n = n;
	for (uint32_t i = 0; i < n; i++) {
		assert_ptr_equal(mmap(at + i * 4096, 4096, prot,
				      MAP_SHARED | MAP_FIXED, guest_fd,
				      refs[i] * 4096ll), at + i * 4096);
		maps[slot].ref[i] = refs[i];
		mapped[refs[i]]++;
		nr_mapped++;
	}
	return at;
}

void *xengnttab_map_grant_ref(xengnttab_handle *h, uint32_t domid, uint32_t ref,
			      int prot)
{
	return xengnttab_map_domain_grant_refs(h, 1, domid, &ref, prot);
}

int xengnttab_unmap(xengnttab_handle *h, void *at, uint32_t n)
{
	unsigned slot = 0;

	(void)h;
	while (maps[slot].at != at) {
		assert_true(slot < GREFS - 1);
		slot++;
	}
	assert_int_equal(maps[slot].n, n);
	for (uint32_t i = 0; i < n; i++)
		mapped[maps[slot].ref[i]]--;
	nr_mapped -= n;
	maps[slot].at = NULL;
	unmap_calls++;
	return munmap(at, n * 4096);
}

int xengnttab_grant_copy(xengnttab_handle *h, uint32_t n,
			 xengnttab_grant_copy_segment_t *c)
{
	(void)h;
	copy_calls++;
	for (uint32_t i = 0; i < n; i++) {
		bool out = c[i].flags == GNTCOPY_dest_gref;
		uint32_t ref = out ? c[i].dest.foreign.ref :
				     c[i].source.foreign.ref;
		unsigned off = out ? c[i].dest.foreign.offset :
				     c[i].source.foreign.offset;

		assert_true(off + c[i].len <= 4096);
		c[i].status = dead || ref >= GREFS || bad[ref] ?
			      GNTST_bad_gntref : GNTST_okay;
		if (c[i].status)
			continue;
		copies++;
		if (out)
			memcpy(guest + ref * 4096ul + off, c[i].source.virt, c[i].len);
		else
			memcpy(c[i].dest.virt, guest + ref * 4096ul + off, c[i].len);
	}
	return 0;
}

int xenevtchn_fd(xenevtchn_handle *h)
{
	(void)h;
	return events_fd;
}

int xenevtchn_bind_interdomain(xenevtchn_handle *h, uint32_t domid, evtchn_port_t p)
{
	(void)h;
	assert_int_equal(domid, DOM);
	if (p == bind_fails) {
		errno = EINVAL;
		return -1;
	}
	bound++;
	return (int)p + 1000;
}

int xenevtchn_unbind(xenevtchn_handle *h, evtchn_port_t p)
{
	(void)h;
	assert_true(p >= 1000);
	bound--;
	return 0;
}

int xenevtchn_notify(xenevtchn_handle *h, evtchn_port_t p)
{
	(void)h;
	assert_true(p >= 1000);
	notes++;
	errno = EINVAL;
	return dead ? -1 : 0;
}

int xenevtchn_pending(xenevtchn_handle *h)
{
	uint64_t n;

	(void)h;
	if (nr_pending)
		return pending[--nr_pending];
	(void)!read(events_fd, &n, sizeof(n));
	errno = EAGAIN;
	return -1;
}

int xenevtchn_unmask(xenevtchn_handle *h, evtchn_port_t p)
{
	(void)h;
	(void)p;
	unmasked++;
	return 0;
}

/* --- the process */

static struct loop *loop;
static struct td_env env;
static struct disk *disk;
static struct xen_rings *rings;
static struct journal *journal;
static unsigned broken, gone;
static int gone_err;
static char why_broken[100];
static const struct tap_xen_vbd vbd = { DOM, 51712 };

static inline bool stop_hook(struct loop_hook *h)
{
	(void)h;
	loop_stop(loop);
	return true;
}

/* Let everything happen that can. */
static inline void settle(void)
{
	static struct loop_hook h;

	loop_hook_add(loop, LOOP_SLEEP, &h, stop_hook);
	loop_run(loop);
	loop_hook_del(&h);
}

static inline void timer_stop(struct loop_timer *t)
{
	(void)t;
	loop_stop(loop);
}

/* The same, with a look at descriptors and timers. */
static inline void wait_ms(unsigned ms)
{
	struct loop_timer t;

	loop_timer_init(&t, timer_stop);
	loop_timer_set(loop, &t, ms * 1000000ull);
	loop_run(loop);
}

static int ctl_err;
static inline void on_ctl(void *arg, int err, const char *why)
{
	(void)arg;
	(void)why;
	ctl_err = err;
}

static inline void on_broken(void *arg, const struct tap_xen_vbd *v, const char *why)
{
	assert_ptr_equal(arg, &broken);
	assert_memory_equal(v, &vbd, sizeof(vbd));
	assert_int_equal(nr_mapped, 0);		/* told when all is over */
	assert_int_equal(bound, 0);
	broken++;
	snprintf(why_broken, sizeof(why_broken), "%s", why);
}

static inline void on_gone(void *arg, int err)
{
	assert_ptr_equal(arg, &gone);
	if (!err) {
		assert_int_equal(nr_mapped, 0);
		assert_int_equal(bound, 0);
	}
	gone++;
	gone_err = err;
}

static inline void start(void)
{
	loop = loop_new();
	env = (struct td_env){ .loop = loop, .name = "test" };
	disk = disk_new(&env);
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	rings = xen_rings_new(loop, disk, on_broken, &broken);
}

static inline int make(void **state)
{
	(void)state;
	guest_fd = memfd_create("guest", 0);
	assert_int_equal(ftruncate(guest_fd, GREFS * 4096), 0);
	guest = mmap(NULL, GREFS * 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
		     guest_fd, 0);
	events_fd = eventfd(0, EFD_NONBLOCK);
	memset(bad, 0, sizeof(bad));
	memset(image, 0, sizeof(image));
	dead = hold = false;
	broken = gone = notes = unmasked = copies = map_calls = unmap_calls = 0;
	fail_map_after = bind_fails = 0;
	xen_host.gnt = (void *)&guest;
	xen_host.evt = (void *)&guest;
	journal = NULL;
	start();
	return 0;
}

/* Whatever happened, nothing stays. */
static inline int unmake(void **state)
{
	(void)state;
	let_go();
	settle();
	xen_rings_free(rings);
	settle();
	assert_int_equal(nr_mapped, 0);
	assert_int_equal(bound, 0);
	disk_close(disk, on_ctl, NULL);
	settle();
	disk_free(disk);
	loop_free(loop);
	journal_free(journal);
	munmap(guest, GREFS * 4096);
	close(guest_fd);
	close(events_fd);
	return 0;
}

/* --- the guest */

static inline char *page(unsigned ref)
{
	return guest + ref * 4096ul;
}

static inline struct blkif_sring *sring(unsigned q)
{
	return (void *)page(RING(q));
}

static unsigned slots;

static inline struct blkif_rw64 *slot(unsigned q, uint32_t pos)
{
	return (struct blkif_rw64 *)(void *)(page(RING(q)) + 64) + pos % slots;
}

static inline struct tap_xen_connect hello(unsigned flags)
{
	struct tap_xen_connect c = {
		.vbd = vbd, .queues = 2, .order = 1, .abi = TAPRING_ABI_X86_64,
		.flags = (uint16_t)flags, .max_indirect = 256,
		.evtchn = { 11, 12 },
	};

	for (unsigned q = 0; q < 2; q++) {
		memset(page(RING(q)), 0, 4096);
		sring(q)->req_event = sring(q)->rsp_event = 1;
		for (unsigned i = 0; i < 2; i++)
			c.ref[q][i] = RING(q) + i;
	}
	slots = blkif_slots(TAPRING_ABI_X86_64, 1);
	return c;
}

static inline void connect_it(unsigned flags)
{
	struct tap_xen_connect c = hello(flags);
	const char *why;

	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	assert_int_equal(nr_mapped, 4);
	assert_int_equal(bound, 2);
}

static inline struct blkif_rw64 *request(unsigned q, uint8_t op, uint64_t sector,
				  unsigned ref, unsigned segs)
{
	uint32_t pos = sring(q)->req_prod++;
	struct blkif_rw64 *s = slot(q, pos);

	*s = (struct blkif_rw64){ .op = op, .nr_segs = (uint8_t)segs, .id = pos,
				  .sector = sector };
	for (unsigned i = 0; i < segs; i++)
		s->seg[i] = (struct blkif_segment){ ref + i, 0, 7, 0 };
	return s;
}

static inline struct blkif_segment *indirect(unsigned q, uint8_t op, uint64_t sector,
				      unsigned list, unsigned ref, unsigned segs)
{
	uint32_t pos = sring(q)->req_prod++;
	struct blkif_indirect64 *s = (void *)slot(q, pos);
	struct blkif_segment *seg = (void *)page(list);

	*s = (struct blkif_indirect64){ .op = BLKIF_OP_INDIRECT, .inner = op,
		.nr_segs = (uint16_t)segs, .id = pos, .sector = sector,
		.gref = { list } };
	for (unsigned i = 0; i < segs; i++)
		seg[i] = (struct blkif_segment){ ref + i, 0, 7, 0 };
	return seg;
}

static inline int16_t last_answer(unsigned q)
{
	struct blkif_rsp64 r;

	settle();
	assert_int_equal(sring(q)->rsp_prod, sring(q)->req_prod);
	memcpy(&r, slot(q, sring(q)->rsp_prod - 1), sizeof(r));
	return r.status;
}

static inline long long stat_of(const char *key)
{
	json_t *all = disk_stats(disk);
	long long v = json_integer_value(json_object_get(json_array_get(
		json_object_get(all, "clients"), 0), key));

	json_decref(all);
	return v;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

#endif
