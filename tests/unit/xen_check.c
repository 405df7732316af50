/* What a guest or a toolstack may have written into xenstore, and what is taken
 * from it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "tapring_proto.h"

#include "xen/check.c"

struct table {
	struct xen_reader r;
	const char *kv[64][2];
	unsigned n;
};

static const char *look_up(const struct xen_reader *r, const char *key)
{
	const struct table *t = container_of(r, struct table, r);

	for (unsigned i = 0; i < t->n; i++)
		if (!strcmp(t->kv[i][0], key))
			return t->kv[i][1];
	return NULL;
}

static void set(struct table *t, const char *key, const char *value)
{
	t->r.get = look_up;
	for (unsigned i = 0; i < t->n; i++)
		if (!strcmp(t->kv[i][0], key)) {
			t->kv[i][1] = value;
			return;
		}
	t->kv[t->n][0] = key;
	t->kv[t->n++][1] = value;
}

static struct table plain(void)
{
	struct table t = { .n = 0 };

	set(&t, "state", "3");
	set(&t, "ring-ref", "8");
	set(&t, "event-channel", "9");
	return t;
}

static struct xen_front front_of(struct table *t)
{
	struct xen_front f;

	xen_check_front(&t->r, &f);
	return f;
}

static void test_one_ring(void **state)
{
	struct table t = plain();
	struct xen_front f = front_of(&t);

	(void)state;
	assert_int_equal(f.err, 0);
	assert_int_equal(f.state, XB_INITIALISED);
	assert_int_equal(f.c.queues, 1);
	assert_int_equal(f.c.order, 0);
	assert_int_equal(f.c.abi, TAPRING_ABI_NATIVE);	/* no protocol: native */
	assert_int_equal(f.c.ref[0][0], 8);
	assert_int_equal(f.c.evtchn[0], 9);
	assert_false(f.persistent);
}

static void test_numbered_ref_of_one_page(void **state)
{
	struct table t = plain();

	(void)state;
	t.kv[1][0] = "ring-ref0";
	set(&t, "ring-page-order", "0");
	assert_int_equal(front_of(&t).c.ref[0][0], 8);
}

static void test_queues_and_pages(void **state)
{
	static char key[2 * 8 + 2][32], val[2 * 8 + 2][16];
	struct table t = { .n = 0 };
	struct xen_front f;
	unsigned n = 0;

	(void)state;
	set(&t, "state", "4");
	set(&t, "ring-page-order", "3");
	set(&t, "multi-queue-num-queues", "2");
	set(&t, "protocol", "x86_32-abi");
	set(&t, "feature-persistent", "1");
	for (unsigned q = 0; q < 2; q++) {
		for (unsigned i = 0; i < 8; i++, n++) {
			sprintf(key[n], "queue-%u/ring-ref%u", q, i);
			sprintf(val[n], "%u", 100 * q + i);
			set(&t, key[n], val[n]);
		}
		sprintf(key[n], "queue-%u/event-channel", q);
		sprintf(val[n], "%u", 7 + q);
		set(&t, key[n], val[n]);
		n++;
	}
	f = front_of(&t);
	assert_int_equal(f.err, 0);
	assert_int_equal(f.c.abi, TAPRING_ABI_X86_32);
	assert_true(f.persistent);
	assert_int_equal(f.c.ref[1][7], 107);
	assert_int_equal(f.c.evtchn[1], 8);
	/* One of them is missing. */
	t.kv[t.n - 3][0] = "queue-1/other";
	assert_int_equal(front_of(&t).err, -EINVAL);
}

/* Each of these alone makes it refused, with a reason that names the key. */
static void test_bad_values(void **state)
{
	static const char *const bad[][2] = {
		{ "ring-ref", "" }, { "ring-ref", "-1" }, { "ring-ref", "4294967296" },
		{ "ring-ref", " 8" }, { "ring-ref", "8 " }, { "ring-ref", "0x8" },
		{ "event-channel", "0" }, { "event-channel", "131072" },
		{ "event-channel", "-9" }, { "event-channel", "99999999999999999999" },
		{ "ring-page-order", "5" }, { "ring-page-order", "-1" },
		{ "ring-page-order", "31" }, { "ring-page-order", "4294967295" },
		{ "ring-page-order", "" },
		{ "multi-queue-num-queues", "0" }, { "multi-queue-num-queues", "9" },
		{ "multi-queue-num-queues", "-1" },
		{ "multi-queue-num-queues", "4294967297" },
		{ "protocol", "" }, { "protocol", "x86_64" }, { "protocol", "?" },
		{ "feature-persistent", "2" }, { "feature-persistent", "yes" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct table t = plain();
		struct xen_front f;

		set(&t, bad[i][0], bad[i][1]);
		f = front_of(&t);
		assert_int_equal(f.err, -EINVAL);
		assert_non_null(strstr(f.why, bad[i][0]));
	}
}

static void test_reason_moves_no_cursor(void **state)
{
	struct table t = plain();
	struct xen_front f;

	(void)state;
	set(&t, "protocol", "\033[2J\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
			    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
	f = front_of(&t);
	assert_int_equal(f.err, -EINVAL);
	for (const char *s = f.why; *s; s++)
		assert_true(*s >= ' ' && *s <= '~');
}

static void test_states(void **state)
{
	(void)state;
	assert_int_equal(xen_check_state("6"), XB_CLOSED);
	assert_int_equal(xen_check_state("8"), XB_RECONFIGURED);
	assert_int_equal(xen_check_state("9"), XB_NONE);
	assert_int_equal(xen_check_state("-1"), XB_NONE);
	assert_int_equal(xen_check_state("4294967299"), XB_NONE);
	assert_int_equal(xen_check_state(""), XB_NONE);
	assert_int_equal(xen_check_state(NULL), XB_NONE);
}

static struct xen_back back_of(struct table *t)
{
	struct xen_back b;

	xen_check_back(&t->r, &b);
	return b;
}

static void test_backend(void **state)
{
	struct table t = { .n = 0 };
	struct xen_back b;

	(void)state;
	set(&t, "state", "1");
	assert_false(back_of(&t).exists);	/* no frontend */
	set(&t, "frontend", "/local/domain/1/device/vbd/51712");
	b = back_of(&t);
	assert_true(b.exists && b.online && b.readonly && !b.scripted);
	assert_int_equal(b.minor, -1);
	set(&t, "mode", "w");
	set(&t, "script", "/etc/xen/scripts/block-tap");
	set(&t, "online", "0");
	set(&t, "physical-device-path", "/run/blktap-control/nbd4711.12");
	set(&t, "hotplug-status", "connected");
	b = back_of(&t);
	assert_true(!b.online && !b.readonly && b.scripted && b.ours && b.hotplug);
	assert_int_equal(b.pid, 4711);
	assert_int_equal(b.minor, 12);
	/* A path that says nothing: the other keys do. */
	set(&t, "physical-device-path", "/dev/xen/nbd99999999999999999999.1");
	set(&t, "pid", "5");
	set(&t, "minor", "6");
	b = back_of(&t);
	assert_int_equal(b.pid, 5);
	assert_int_equal(b.minor, 6);
	set(&t, "script", "/etc/xen/scripts/block-tap-of-mine");
	assert_false(back_of(&t).ours);
}

static void test_spec(void **state)
{
	static const char *const good[][2] = {
		{ "aio:/srv/a", "aio:/srv/a" },
		{ "tap:qcow2:/srv/a", "qcow2:/srv/a" },
		{ "tap2:tapdisk:aio:/srv/a b:c", "aio:/srv/a b:c" },
		{ "aio:qcow2:/srv/a:b", "qcow2:/srv/a:b" },
		{ "vhd:vmdk:/srv/a", "vmdk:/srv/a" },
		{ "aio:aio:/srv/a", "aio:/srv/a" },
		{ "tap:cdrom:/srv/a.iso", "aio:/srv/a.iso" },
		{ "cdrom:qcow2:/srv/a", "qcow2:/srv/a" },
		{ "/dev/sdb", "aio:/dev/sdb" },
		{ "delay:ms=5|aio:/srv/a", "delay:ms=5|aio:/srv/a" },
		{ "ram:1G", "ram:1G" },
	};
	static const char *const bad[] = { "", "tap:", "aio:", "nonsense", "a b:/c", "tap:cdrom:" };
	char spec[TAP_TEXT_MAX + 1], big[TAP_TEXT_MAX + 2];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(xen_spec(good[i][0], spec));
		assert_string_equal(spec, good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(xen_spec(bad[i], spec));
	assert_true(xen_spec_is_cdrom("tap2:tapdisk:cdrom:aio:/srv/a.iso"));
	assert_true(xen_spec_is_cdrom("cdrom:/srv/a.iso"));
	assert_true(xen_spec_is_cdrom("tap:aio:cdrom:/srv/a.iso"));
	assert_false(xen_spec_is_cdrom("aio:qcow2:/srv/a"));
	assert_false(xen_spec_is_cdrom("tap:aio:/srv/cdrom:/a"));
	assert_false(xen_spec_is_cdrom("/srv/cdrom"));
	/* xenstore has room for more than a message. */
	memset(big, 'x', sizeof(big));
	memcpy(big, "aio:/", 5);
	big[TAP_TEXT_MAX + 1] = '\0';
	assert_false(xen_spec(big, spec));
	assert_false(xen_spec(big + 4, spec));
	big[TAP_TEXT_MAX] = '\0';
	assert_true(xen_spec(big, spec));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_ring),
		cmocka_unit_test(test_numbered_ref_of_one_page),
		cmocka_unit_test(test_queues_and_pages),
		cmocka_unit_test(test_bad_values),
		cmocka_unit_test(test_reason_moves_no_cursor),
		cmocka_unit_test(test_states),
		cmocka_unit_test(test_backend),
		cmocka_unit_test(test_spec),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
