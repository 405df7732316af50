/* Rings of Xen guests against a hypervisor of the test's own, in place of Xen's
 * libraries: for what a real one will not do when asked.  Real loop and disk; the
 * guest's memory is a memfd, so that what is unmapped is gone. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/bytes.h"
#include "disk/disk.h"
#include "drivers.h"
#include "loop/loop.h"
#include "node.h"
#include "blkif.h"
#include "ring/journal.h"
#include "ring/xen.h"
#include "ring/xen_host.h"

#define SIZE (4u << 20)
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

/* --- the driver: memory that can hold up requests */

static char image[SIZE];
static struct td_req *held[600];
static unsigned nr_held;
static bool hold;

static void fake_open(struct td_node *n, struct td_req *r)
{
	td_set_geometry(n, SIZE, 4096);
	td_complete(r, 0);
}

static void fake_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	td_complete(r, 0);
}

static void do_io(struct td_req *r)
{
	char *at = image + r->offset;

	for (unsigned i = 0; i < r->iovcnt && r->op <= TD_OP_WRITE; i++) {
		if (r->op == TD_OP_READ)
			memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
		else
			memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
		at += r->iov[i].iov_len;
	}
	td_complete(r, 0);
}

static void fake_submit(struct td_node *n, struct td_req *r)
{
	(void)n;
	if (hold)
		held[nr_held++] = r;
	else
		do_io(r);
}

static void let_go(void)
{
	hold = false;
	while (nr_held)
		do_io(held[--nr_held]);
}

static const struct td_driver fake = {
	.abi = TD_DRIVER_ABI, .kind = TD_STORE, .name = "fake", .help = "a test",
	.caps = TD_CAP_WRITE | TD_CAP_FLUSH | TD_CAP_FUA,
	.open = fake_open, .submit = fake_submit, .close = fake_close,
};
/* In place of drivers/drivers.c. */
const struct td_driver *const td_drivers[] = { &fake, NULL };
const struct td_driver *td_driver_find(const char *name, size_t len)
{
	return len == 4 && !memcmp(name, "fake", 4) ? &fake : NULL;
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

static bool stop_hook(struct loop_hook *h)
{
	(void)h;
	loop_stop(loop);
	return true;
}

/* Let everything happen that can. */
static void settle(void)
{
	static struct loop_hook h;

	loop_hook_add(loop, LOOP_SLEEP, &h, stop_hook);
	loop_run(loop);
	loop_hook_del(&h);
}

static void timer_stop(struct loop_timer *t)
{
	(void)t;
	loop_stop(loop);
}

/* The same, with a look at descriptors and timers. */
static void wait_ms(unsigned ms)
{
	struct loop_timer t;

	loop_timer_init(&t, timer_stop);
	loop_timer_set(loop, &t, ms * 1000000ull);
	loop_run(loop);
}

static int ctl_err;
static void on_ctl(void *arg, int err, const char *why)
{
	(void)arg;
	(void)why;
	ctl_err = err;
}

static void on_broken(void *arg, const struct tap_xen_vbd *v, const char *why)
{
	assert_ptr_equal(arg, &broken);
	assert_memory_equal(v, &vbd, sizeof(vbd));
	assert_int_equal(nr_mapped, 0);		/* told when all is over */
	assert_int_equal(bound, 0);
	broken++;
	snprintf(why_broken, sizeof(why_broken), "%s", why);
}

static void on_gone(void *arg, int err)
{
	assert_ptr_equal(arg, &gone);
	if (!err) {
		assert_int_equal(nr_mapped, 0);
		assert_int_equal(bound, 0);
	}
	gone++;
	gone_err = err;
}

static void start(void)
{
	loop = loop_new();
	env = (struct td_env){ .loop = loop, .name = "test" };
	disk = disk_new(&env);
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
	assert_int_equal(ctl_err, 0);
	rings = xen_rings_new(loop, disk, on_broken, &broken);
}

static int make(void **state)
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
static int unmake(void **state)
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

static char *page(unsigned ref)
{
	return guest + ref * 4096ul;
}

static struct blkif_sring *sring(unsigned q)
{
	return (void *)page(RING(q));
}

static unsigned slots;

static struct blkif_rw64 *slot(unsigned q, uint32_t pos)
{
	return (struct blkif_rw64 *)(void *)(page(RING(q)) + 64) + pos % slots;
}

static struct tap_xen_connect hello(unsigned flags)
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

static void connect_it(unsigned flags)
{
	struct tap_xen_connect c = hello(flags);
	const char *why;

	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	assert_int_equal(nr_mapped, 4);
	assert_int_equal(bound, 2);
}

static struct blkif_rw64 *request(unsigned q, uint8_t op, uint64_t sector,
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

static struct blkif_segment *indirect(unsigned q, uint8_t op, uint64_t sector,
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

static int16_t last_answer(unsigned q)
{
	struct blkif_rsp64 r;

	settle();
	assert_int_equal(sring(q)->rsp_prod, sring(q)->req_prod);
	memcpy(&r, slot(q, sring(q)->rsp_prod - 1), sizeof(r));
	return r.status;
}

static long long stat_of(const char *key)
{
	json_t *all = disk_stats(disk);
	long long v = json_integer_value(json_object_get(json_array_get(
		json_object_get(all, "clients"), 0), key));

	json_decref(all);
	return v;
}

/* --- tests */

static void pages_are_copied_and_nothing_stays_mapped(void **state)
{
	struct blkif_rw64 *s;

	(void)state;
	connect_it(0);
	for (unsigned i = 0; i < 3 * 4096; i++)
		page(DATA)[i] = (char)(i * 7 + 1);
	request(0, BLKIF_OP_WRITE, 8, DATA, 3);
	assert_int_equal(last_answer(0), 0);
	assert_memory_equal(image + 4096, page(DATA), 3 * 4096);
	assert_int_equal(copies, 3);
	assert_int_equal(notes, 1);

	/* Parts of pages: what lies around them is the guest's. */
	memset(page(DATA), 0x11, 3 * 4096);
	s = request(1, BLKIF_OP_READ, 8, DATA, 2);
	s->seg[0].first = 7;
	s->seg[1].last = 1;
	assert_int_equal(last_answer(1), 0);
	assert_memory_equal(page(DATA) + 3584, image + 4096, 512);
	assert_memory_equal(page(DATA + 1), image + 4608, 1024);
	for (unsigned i = 0; i < 3584; i++)
		assert_int_equal(page(DATA)[i], 0x11);
	for (unsigned i = 1024; i < 4096; i++)
		assert_int_equal(page(DATA + 1)[i], 0x11);

	indirect(0, BLKIF_OP_READ, 8, LIST, DATA, 3);
	assert_int_equal(last_answer(0), 0);
	assert_memory_equal(image + 4096, page(DATA), 3 * 4096);
	assert_int_equal(nr_mapped, 4);
	assert_int_equal(map_calls, 2);
	assert_int_equal(stat_of("mapped"), 0);
}

static void grants_that_stay_are_mapped_once(void **state)
{
	struct blkif_rw64 *s;

	(void)state;
	connect_it(TAP_XEN_PERSISTENT);
	for (unsigned n = 0; n < 20; n++) {
		memset(page(DATA), (int)n + 1, 4 * 4096);
		request(n % 2, BLKIF_OP_WRITE, 0, DATA, 4);
		assert_int_equal(last_answer(n % 2), 0);
		assert_int_equal(image[4095 * 4], n + 1);
	}
	assert_int_equal(map_calls, 2 + 4);
	indirect(0, BLKIF_OP_READ, 0, LIST, DATA, 4);
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(map_calls, 2 + 5);
	assert_int_equal(copies, 0);

	/* One page, all over a request. */
	image[0] = 'a';
	image[512] = 'b';
	s = request(0, BLKIF_OP_READ, 0, DATA, 4);
	for (unsigned i = 0; i < 4; i++)
		s->seg[i] = (struct blkif_segment){ DATA, (uint8_t)(6 - i),
						    (uint8_t)(6 - i), 0 };
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(page(DATA)[6 * 512], 'a');
	assert_int_equal(page(DATA)[5 * 512], 'b');
	assert_int_equal(map_calls, 2 + 5);
	assert_int_equal(stat_of("mapped"), 5);
}

/* Also that an error leaves nothing behind: more often than there are pages. */
static void a_bad_grant_fails_its_request_alone(void **state)
{
	(void)state;
	for (unsigned persistent = 0; persistent < 2; persistent++) {
		connect_it(persistent);
		for (unsigned n = 0; n < 5000; n++) {
			bool first = n < 10, list = n % 3 == 1, write = n % 2;

			bad[DATA + 1] = bad[LIST + 1] = true;
			indirect(0, write, 0, LIST + list, DATA, 3);
			assert_int_equal(last_answer(0), -1);
			if (!first)
				continue;
			memset(page(DATA), (int)n, 4096);
			request(1, BLKIF_OP_WRITE, 64, DATA, 1);
			assert_int_equal(last_answer(1), 0);
			assert_int_equal(image[64 * 512], (char)n);
		}
		request(0, BLKIF_OP_READ, 0, GREFS + 5, 2);
		assert_int_equal(last_answer(0), -1);
		request(0, BLKIF_OP_READ, 0, UINT32_MAX, 1);
		assert_int_equal(last_answer(0), -1);
		assert_true(stat_of("bad_grants") >= 5000);
		assert_int_equal(broken, 0);
		assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
		settle();
		assert_int_equal(gone, persistent + 1);
	}
}

/* Over the limit: copied while those that are mapped are in use or fresh; then
 * the idle ones go, in batches, and none that a request holds. */
static void grants_over_the_limit(void **state)
{
	struct tap_xen_connect c = hello(TAP_XEN_PERSISTENT);
	const unsigned limit = 1056;
	const char *why;

	(void)state;
	c.queues = 1;
	c.order = 2;
	for (unsigned i = 0; i < 4; i++)
		c.ref[0][i] = RING(0) + i;
	slots = blkif_slots(TAPRING_ABI_X86_64, 2);
	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	hold = true;
	for (unsigned n = 0; n < limit; n += 11)
		request(0, BLKIF_OP_WRITE, 0, DATA + n, 11);
	request(0, BLKIF_OP_READ, 0, DATA + limit, 1);
	settle();
	assert_int_equal(nr_held, 97);
	assert_int_equal(stat_of("mapped"), limit);
	let_go();
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(copies, 1);
	assert_int_equal(stat_of("evicted"), 0);
	/* Eleven are held by one that is slow. */
	hold = true;
	memset(image, 0x77, 4096);
	request(0, BLKIF_OP_READ, 0, DATA, 11);
	settle();
	assert_int_equal(nr_held, 1);
	hold = false;
	wait_ms(150);
	memset(page(DATA + limit), 0x3d, 4096);
	request(0, BLKIF_OP_WRITE, 8, DATA + limit, 1);
	settle();
	assert_int_equal(image[4096], 0x3d);
	assert_int_equal(copies, 1);
	assert_int_equal(stat_of("evicted"), 64);
	assert_int_equal(stat_of("mapped"), limit - 63);
	for (unsigned i = 0; i < 11; i++)
		assert_int_equal(mapped[DATA + i], 1);
	let_go();
	settle();
	assert_int_equal(page(DATA)[0], 0x77);
	/* Those that went come back. */
	for (unsigned n = 0; n < limit; n += 11) {
		request(0, BLKIF_OP_READ, 0, DATA + n, 11);
		assert_int_equal(last_answer(0), 0);
		assert_int_equal(page(DATA + n)[5], 0x77);
	}
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(gone, 1);
}

static void a_connection_that_fails_leaves_nothing(void **state)
{
	const char *why;

	(void)state;
	for (unsigned n = 1; n <= 4; n++) {
		struct tap_xen_connect c = hello(0);

		fail_map_after = n <= 2 ? n : 0;
		bind_fails = n > 2 ? 8 + n : 0;
		assert_int_equal(xen_connect(rings, &c, journal, &why), -EINVAL);
		assert_string_equal(why, n <= 2 ? "cannot map its ring" :
				    "cannot bind its event channel");
		assert_int_equal(nr_mapped, 0);
		assert_int_equal(bound, 0);
	}
	fail_map_after = bind_fails = 0;
	disk_close(disk, on_ctl, NULL);
	settle();
	{
		struct tap_xen_connect c = hello(0);

		assert_int_equal(xen_connect(rings, &c, journal, &why), -ENODEV);
		assert_string_equal(why, "the disk is not open");
	}
	assert_int_equal(nr_mapped, 0);
	disk_open(disk, "fake:x", 0, on_ctl, NULL);
	settle();
	connect_it(0);
}

static void numbers_are_checked(void **state)
{
	struct tap_xen_connect good = hello(0), c;
	const char *why;

	(void)state;
#define BAD(field, value) do { \
	c = good; c.field = value; \
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EINVAL); \
	assert_non_null(why); \
} while (0)
	BAD(queues, 0);
	BAD(queues, 9);
	BAD(order, 5);
	BAD(abi, 0);
	BAD(abi, 4);
	BAD(flags, 8);
	BAD(max_indirect, 257);
	BAD(vbd.domid, 0x7ff0);
	assert_int_equal(map_calls, 0);
	xen_host.gnt = NULL;
	assert_int_equal(xen_connect(rings, &good, journal, &why), -ENODEV);
}

static void leaving_waits_for_what_is_in_flight(void **state)
{
	static const struct tap_xen_vbd other = { DOM, 51728 };
	struct tap_xen_connect c;
	const char *why;

	(void)state;
	connect_it(TAP_XEN_PERSISTENT);
	hold = true;
	request(0, BLKIF_OP_READ, 0, DATA, 11);
	settle();
	assert_int_equal(xen_disconnect(rings, &other, on_gone, &gone), -ENOENT);
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	request(0, BLKIF_OP_READ, 0, DATA, 1);		/* nobody looks */
	settle();
	assert_int_equal(gone, 0);
	assert_int_equal(nr_held, 1);
	assert_int_equal(nr_mapped, 4 + 11);
	c = hello(0);
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EEXIST);
	let_go();
	settle();
	assert_int_equal(gone, 2);
	assert_int_equal(gone_err, 0);
	assert_int_equal(broken, 0);
	connect_it(0);
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EEXIST);
}

static void a_broken_ring_is_told_when_it_is_unmapped(void **state)
{
	(void)state;
	connect_it(0);
	hold = true;
	request(0, BLKIF_OP_WRITE, 0, DATA, 1);
	settle();
	sring(1)->req_prod += 1000;
	settle();
	assert_int_equal(broken, 0);
	let_go();
	settle();
	assert_int_equal(broken, 1);
	assert_string_equal(why_broken, "its request producer ran over the ring");
	connect_it(0);
	/* So is the end of the disk. */
	disk_close(disk, on_ctl, NULL);
	settle();
	assert_int_equal(disk_state(disk), DISK_CLOSED);
	assert_int_equal(broken, 2);
	assert_string_equal(why_broken, "the disk is closing");
}

/* Its memory stays until we let go of it; nothing else of it does. */
static void a_domain_that_dies(void **state)
{
	(void)state;
	connect_it(TAP_XEN_PERSISTENT);
	hold = true;
	request(0, BLKIF_OP_READ, 0, DATA, 2);
	settle();
	dead = true;
	request(0, BLKIF_OP_READ, 0, DATA + 5, 1);
	let_go();
	assert_int_equal(last_answer(0), -1);
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(gone, 1);
}

/* One call for many, and a bad one among them is its own. */
static void what_is_due_together_is_copied_together(void **state)
{
	struct blkif_rsp64 r;

	(void)state;
	connect_it(0);
	bad[DATA + 40] = true;
	for (unsigned round = 0; round < 2; round++) {
		copy_calls = 0;
		for (unsigned i = 0; i < 32; i++) {
			memset(page(DATA + 2 * i), round ? 0 : (int)i + 1, 8192);
			request(0, round ? BLKIF_OP_READ : BLKIF_OP_WRITE, i * 16,
				DATA + 2 * i, 2);
		}
		last_answer(0);
		assert_int_equal(copy_calls, 1);
		for (unsigned i = 0; i < 32; i++) {
			memcpy(&r, slot(0, round * 32 + i), sizeof(r));
			assert_int_equal(r.status, r.id % 32 == 20 ? -1 : 0);
			if (i != 20)
				assert_int_equal(page(DATA + 2 * i)[8191], i + 1);
			assert_int_equal(image[i * 8192 + 8191],
					 i == 20 ? 0 : i + 1);
		}
	}
	/* More than one call takes. */
	copy_calls = 0;
	for (unsigned i = 0; i < 5; i++)
		indirect(0, BLKIF_OP_READ, i * 8, LIST + i, DATA + 50, 100);
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(copy_calls, 5 + 3);
}

static void more_than_there_is_room_for_waits(void **state)
{
	(void)state;
	connect_it(0);
	hold = true;
	for (unsigned i = 0; i < 20; i++)
		indirect(0, BLKIF_OP_READ, i * 8, LIST + i, DATA, 256);
	settle();
	assert_int_equal(nr_held, 16);		/* 4096 pages */
	assert_int_equal(stat_of("waited"), 1);
	let_go();
	assert_int_equal(last_answer(0), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct blkif_rsp64 r;

		memcpy(&r, slot(0, i), sizeof(r));
		assert_int_equal(r.status, 0);
	}
}

static void a_guest_that_may_not_write(void **state)
{
	(void)state;
	connect_it(TAP_XEN_READONLY);
	memset(page(DATA), 1, 4096);
	request(0, BLKIF_OP_WRITE, 0, DATA, 1);
	assert_int_equal(last_answer(0), -1);
	assert_int_equal(image[0], 0);
	request(0, BLKIF_OP_READ, 0, DATA, 1);
	assert_int_equal(last_answer(0), 0);
	assert_int_equal(page(DATA)[0], 0);
}

static void events_wake_and_counters_are_shown(void **state)
{
	int fd = memfd_create("stats", 0);
	static const struct tap_xen_vbd other = { DOM, 1 };
	uint64_t *page_of;

	(void)state;
	connect_it(0);
	assert_int_equal(ftruncate(fd, TAP_XENSTAT_BYTES), 0);
	page_of = mmap(NULL, TAP_XENSTAT_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	xen_stats_to(rings, &other, dup(fd));
	assert_int_equal(page_of[0], 0);
	request(0, BLKIF_OP_READ, 0, DATA, 2);
	request(0, BLKIF_OP_WRITE, 0, DATA, 1);
	assert_int_equal(last_answer(0), 0);
	pending[nr_pending++] = 1011;
	pending[nr_pending++] = 1012;
	assert_int_equal(write(events_fd, &(uint64_t){ 1 }, 8), 8);
	wait_ms(20);
	assert_int_equal(nr_pending, 0);
	assert_int_equal(unmasked, 2);
	xen_stats_to(rings, &vbd, fd);
	assert_int_equal(page_of[0], 1);		/* version */
	assert_int_equal(page_of[2], 1);		/* reads */
	assert_int_equal(page_of[3], 1);
	assert_int_equal(page_of[4], 16);
	assert_int_equal(page_of[6], 1);		/* writes */
	assert_int_equal(page_of[8], 8);
	assert_int_equal(page_of[10], 0);		/* errors */
	request(0, BLKIF_OP_READ, 0, UINT32_MAX, 1);
	assert_int_equal(last_answer(0), -1);
	wait_ms(1050);
	assert_int_equal(page_of[10], 1);
	assert_int_equal(stat_of("domid"), DOM);
	assert_int_equal(stat_of("devid"), 51712);
	munmap(page_of, TAP_XENSTAT_BYTES);
}

/* The predecessor: three in flight when it is killed, the last one answered. */
static void live_and_die(int fd)
{
	struct tap_xen_connect c = hello(0);
	const char *why;

	start();
	assert_int_equal(journal_new(dup(fd), &journal), 0);
	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	for (unsigned i = 0; i < 70; i++) {
		request(0, BLKIF_OP_WRITE, 0, DATA, 1);
		assert_int_equal(last_answer(0), 0);
	}
	hold = true;
	for (unsigned i = 0; i < 3; i++) {
		memset(page(DATA + i), 0x40 + (int)i, 4096);
		request(0, BLKIF_OP_WRITE, 8 * i, DATA + i, 1);
	}
	settle();
	assert_int_equal(nr_held, 3);
	do_io(held[2]);
	settle();
	assert_int_equal(sring(0)->rsp_prod, 71);
	raise(SIGKILL);
}

static void a_successor_goes_on(void **state)
{
	struct tap_xen_connect c = hello(TAP_XEN_RECONNECT);
	int fd = memfd_create("journal", 0), status;
	struct blkif_rsp64 r;
	const char *why;
	pid_t pid;

	(void)state;
	assert_int_equal(ftruncate(fd, TAP_JOURNAL_BYTES), 0);
	assert_int_equal(xen_connect(rings, &c, NULL, &why), -ESTALE);
	pid = fork();
	if (!pid)
		live_and_die(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

	assert_int_equal(journal_new(fd, &journal), 0);
	c.vbd.devid++;
	assert_int_equal(xen_connect(rings, &c, journal, &why), -ESTALE);
	c.vbd.devid--;
	c.queues = 1;
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EINVAL);
	c.queues = 2;
	fail_map_after = 1;
	assert_int_equal(xen_connect(rings, &c, journal, &why), -EINVAL);
	assert_int_equal(xen_connect(rings, &c, journal, &why), 0);
	settle();
	assert_int_equal(sring(0)->rsp_prod, 73);
	for (unsigned i = 0; i < 2; i++) {
		memcpy(&r, slot(0, 71 + i), sizeof(r));
		assert_int_equal(r.id, 70 + i);
		assert_int_equal(r.status, 0);
		assert_int_equal(image[4096 * i], 0x40 + i);
	}
	assert_int_equal(image[8192], 0);	/* that was answered */
	assert_int_equal(notes, 2);		/* both rings, in any case */
	request(0, BLKIF_OP_READ, 8, DATA, 1);
	assert_int_equal(last_answer(0), 0);

	/* Whoever is disconnected is not taken up. */
	assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
	settle();
	assert_int_equal(gone, 1);
	assert_int_equal(xen_connect(rings, &c, journal, &why), -ESTALE);
}

/* Random slots, grants that come and go, I/O that ends late and in any order:
 * each request is answered once, by its id, and nothing stays held. */
static void whatever_a_guest_sends_is_answered(void **state)
{
	const char *given = getenv("SEED");
	unsigned seed = given && *given ? (unsigned)atoi(given) : (unsigned)getpid();
	static bool waiting[2][64];

	(void)state;
	print_message("SEED=%u\n", seed);
	for (unsigned life = 0; life < 4; life++) {
		uint32_t seen[2] = { 0, 0 };

		connect_it(life % 2 ? TAP_XEN_PERSISTENT : 0);
		memset(waiting, 0, sizeof(waiting));
		for (unsigned n = 0; n < 20000; n++) {
			unsigned q = rand_r(&seed) % 2, pos = sring(q)->req_prod;
			unsigned ref = (unsigned)rand_r(&seed) % 1500 + DATA;
			uint64_t sector = (uint64_t)rand_r(&seed) % 8000;
			struct blkif_rw64 *s;

			if (rand_r(&seed) % 16 == 0)
				bad[rand_r(&seed) % 1500 + LIST] ^= true;
			if (pos - seen[q] >= slots || rand_r(&seed) % 8 == 0) {
				hold = rand_r(&seed) % 2;
				while (nr_held && rand_r(&seed) % 8) {
					struct td_req *r = held[0];

					held[0] = held[--nr_held];
					do_io(r);
				}
				if (nr_held > 500)
					let_go();
				settle();
				for (; seen[q] != sring(q)->rsp_prod; seen[q]++) {
					struct blkif_rsp64 r;

					memcpy(&r, slot(q, seen[q]), sizeof(r));
					assert_true(r.id < 64 && waiting[q][r.id]);
					waiting[q][r.id] = false;
				}
				continue;
			}
			for (unsigned id = 0; ; id++) {
				if (waiting[q][id])
					continue;
				waiting[q][id] = true;
				pos = id;
				break;
			}
			if (rand_r(&seed) % 2) {
				struct blkif_segment *seg = indirect(q,
					rand_r(&seed) % 4, sector, LIST + pos, ref,
					(unsigned)rand_r(&seed) % 40);

				for (unsigned i = 0; i < 40; i++)
					seg[i].gref = DATA + (unsigned)rand_r(&seed) % 1800;
			} else {
				request(q, rand_r(&seed) % 7, sector, ref,
					(unsigned)rand_r(&seed) % 11);
			}
			s = slot(q, sring(q)->req_prod - 1);
			s->id = pos;
			if (s->op != BLKIF_OP_INDIRECT && rand_r(&seed) % 8 == 0)
				s->seg[0].last = (uint8_t)rand_r(&seed);
		}
		assert_int_equal(xen_disconnect(rings, &vbd, on_gone, &gone), 0);
		let_go();
		settle();
		assert_int_equal(gone, life + 1);
		assert_int_equal(broken, 0);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make, unmake)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pages_are_copied_and_nothing_stays_mapped),
		TEST(grants_that_stay_are_mapped_once),
		TEST(a_bad_grant_fails_its_request_alone),
		TEST(grants_over_the_limit),
		TEST(a_connection_that_fails_leaves_nothing),
		TEST(numbers_are_checked),
		TEST(leaving_waits_for_what_is_in_flight),
		TEST(a_broken_ring_is_told_when_it_is_unmapped),
		TEST(a_domain_that_dies),
		TEST(what_is_due_together_is_copied_together),
		TEST(more_than_there_is_room_for_waits),
		TEST(a_guest_that_may_not_write),
		TEST(events_wake_and_counters_are_shown),
		TEST(a_successor_goes_on),
		TEST(whatever_a_guest_sends_is_answered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
