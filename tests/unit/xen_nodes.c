/* What is written into a device's nodes: whole or not at all, never to a node that is
 * not there any more, and never over the toolstack's wish to end, which may have come
 * since they were read last.  A store of a few keys is in the place of store.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/list.h"
#include "tapring_proto.h"

#include "xen/check.c"
#include "xen/nodes.c"

struct ctl ctl;

/* --- the store */

#define KEYS 64
#define BACK "backend/tap/3/51712"
#define FRONT "/local/domain/3/device/vbd/51712"

static struct {
	char key[96], value[96];
} kv[KEYS];
static struct store_job *submitted;
static int refuses;		/* what the n-th write of a job fails with ... */
static unsigned refuses_at;
static int no_store;		/* what every transaction fails with */
static unsigned steps;
static bool down;		/* the connection, as the loop knows */

static unsigned slot_of(const char *key)
{
	unsigned i = 0;

	while (i < KEYS && strcmp(kv[i].key, key))
		i++;
	return i;
}

const char *store_read(struct store *s, const char *path)
{
	unsigned i = slot_of(path);

	(void)s;
	return i < KEYS ? kv[i].value : NULL;
}

int store_write(struct store *s, const char *path, const char *value)
{
	unsigned i = slot_of(path);

	(void)s;
	if (refuses && !--refuses_at)
		return refuses;
	if (i == KEYS)
		i = slot_of("");
	assert_true(i < KEYS);
	snprintf(kv[i].key, sizeof(kv[i].key), "%s", path);
	snprintf(kv[i].value, sizeof(kv[i].value), "%s", value);
	return 0;
}

int store_remove(struct store *s, const char *path)
{
	size_t len = strlen(path);

	(void)s;
	for (unsigned i = 0; i < KEYS; i++)
		if (!strncmp(kv[i].key, path, len) &&
		    (!kv[i].key[len] || kv[i].key[len] == '/'))
			memset(&kv[i], 0, sizeof(kv[i]));
	return 0;
}

int store_list(struct store *s, const char *path,
	       void (*fn)(void *arg, const char *name), void *arg)
{
	size_t len = strlen(path);
	bool any = slot_of(path) < KEYS;

	(void)s;
	for (unsigned i = 0; i < KEYS; i++)
		if (!strncmp(kv[i].key, path, len) && kv[i].key[len] == '/') {
			fn(arg, kv[i].key + len + 1);
			any = true;
		}
	return any ? 0 : -ENOENT;
}

/* What it has changed is undone if it fails. */
int store_transaction(struct store *s, int (*fn)(struct store *s, void *arg),
		      void *arg)
{
	static char before[sizeof(kv)];
	int err;

	if (no_store)
		return no_store;
	memcpy(before, kv, sizeof(kv));
	err = fn(s, arg);
	if (err)
		memcpy(kv, before, sizeof(kv));
	return err;
}

bool store_is_up(void)
{
	return !down;
}

void store_submit(struct store_job *j)
{
	assert_null(submitted);
	submitted = j;
}

int store_watch(struct store *s, const char *path, const char *token)
{
	(void)s;
	(void)path;
	(void)token;
	return no_store;
}

void store_unwatch(struct store *s, const char *path, const char *token)
{
	(void)s;
	(void)path;
	(void)token;
}

/* --- the rest of the folder */

const char *xen_kind_text(enum xen_kind k)
{
	assert_int_equal(k, XK_TAP);
	return "tap";
}

const char *dev_name(const struct xen_dev *d)
{
	(void)d;
	return "a device";
}

void dev_enter(struct xen_dev *d, enum dev_state next)
{
	d->state = next;
}

void dev_step(struct xen_dev *d)
{
	assert_false(d->busy);
	steps++;
}

void dev_touch(struct xen_dev *d)
{
	d->dirty = true;
	dev_step(d);
}

/* --- the tests */

static struct xen_dev dev;

static const char *node(const char *key)
{
	char path[96];
	const char *v;

	snprintf(path, sizeof(path), BACK "/%s", key);
	v = store_read(NULL, path);
	return v ? v : "";
}

static void set(const char *key, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), BACK "/%s", key);
	assert_int_equal(store_write(NULL, path, value), 0);
}

static void again(struct loop_timer *t)
{
	(void)t;
}

static int set_up(void **state)
{
	(void)state;
	memset(kv, 0, sizeof(kv));
	refuses = no_store = 0;
	steps = 0;
	down = false;
	ctl.loop = loop_new();
	dev = (struct xen_dev){ .kind = XK_TAP, .domid = 3, .devid = 51712 };
	loop_timer_init(&dev.again, again);
	set("frontend", FRONT);
	set("online", "1");
	set("state", "2");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	loop_timer_clear(&dev.again);
	loop_free(ctl.loop);
	return 0;
}

/* The thread has its turn, and the loop. */
static void run_job(void)
{
	struct store_job *j = submitted;

	assert_non_null(j);
	submitted = NULL;
	j->err = j->run(j, NULL);
	j->done(j);
}

static void begin(enum xenbus_state s, enum dev_state next)
{
	struct nodes_write *w = nodes_begin(&dev);

	dev.state = DEV_NEW;
	nodes_add(w, "sectors", "%d", 8);
	nodes_add(w, "sector-size", "%d", 512);
	nodes_send(w, s, next);
	assert_true(dev.busy);
}

static void assert_written(bool was, const char *state)
{
	run_job();
	assert_string_equal(node("sectors"), was ? "8" : "");
	assert_string_equal(node("sector-size"), was ? "512" : "");
	assert_string_equal(node("state"), state);
	assert_true(dev.dirty && !dev.busy && steps == 1);
	assert_int_equal(dev.state, was ? DEV_WAIT : DEV_NEW);
	assert_false(loop_timer_is_set(&dev.again));
}

static void what_is_there_is_written(void **state)
{
	(void)state;
	begin(XB_INIT_WAIT, DEV_WAIT);
	assert_written(true, "2");
}

static void a_node_that_has_gone_stays_away(void **state)
{
	(void)state;
	begin(XB_CONNECTED, DEV_WAIT);
	store_remove(NULL, BACK);
	assert_written(false, "");
}

/* The wish came after the node was read. */
static void the_wish_to_end_is_not_written_over(void **state)
{
	static const struct { enum xenbus_state s; const char *online, *now, *then; } v[] = {
		{ XB_INIT_WAIT, "0", "1", NULL }, { XB_INIT_WAIT, "1", "5", "2" },
		{ XB_CONNECTED, "0", "2", NULL }, { XB_CONNECTED, "1", "5", NULL },
		{ XB_CONNECTED, "0", "5", NULL }, { XB_CONNECTED, "1", "2", "4" },
		{ XB_CLOSING, "0", "4", "5" }, { XB_CLOSED, "0", "5", "6" },
		{ XB_NONE, "0", "5", "5" }, { XB_CONNECTED, NULL, "2", "4" },
	};

	for (size_t i = 0; i < sizeof(v) / sizeof(*v); i++) {
		tear_down(state);
		set_up(state);
		begin(v[i].s, DEV_WAIT);
		if (v[i].online)
			set("online", v[i].online);
		else
			store_remove(NULL, BACK "/online");
		set("state", v[i].now);
		assert_written(v[i].then, v[i].then ? v[i].then : v[i].now);
	}
}

static void what_cannot_be_written_whole_is_tried_again(void **state)
{
	for (unsigned at = 1; at <= 3; at++) {
		tear_down(state);
		set_up(state);
		begin(XB_CONNECTED, DEV_WAIT);
		refuses = -ENOSPC;
		refuses_at = at;
		run_job();
		assert_string_equal(node("sectors"), "");
		assert_string_equal(node("state"), "2");
		assert_true(loop_timer_is_set(&dev.again) && !dev.busy && !steps);
		assert_int_equal(dev.state, DEV_NEW);
	}
	/* Without a connection the next one reads it again. */
	tear_down(state);
	set_up(state);
	begin(XB_CONNECTED, DEV_WAIT);
	refuses = -ENOTCONN;
	refuses_at = 1;
	run_job();
	assert_true(!loop_timer_is_set(&dev.again) && dev.dirty && steps == 1);
}

static uint64_t due_ms(void)
{
	uint64_t now = clock_ns();

	return dev.again.at > now ? (dev.again.at - now) / NS_PER_MS : 0;
}

/* ... and less and less often, until it can. */
static void what_never_can_be_is_tried_seldom(void **state)
{
	uint64_t all = 0;

	(void)state;
	strcpy(dev.back.frontend, FRONT);
	for (unsigned i = 0; i < 20; i++) {
		if (i % 2) {
			begin(XB_CONNECTED, DEV_WAIT);
			refuses = -ENOSPC;
			refuses_at = 1;
		} else {
			nodes_remove(&dev);
			no_store = -EACCES;
		}
		run_job();
		refuses = no_store = 0;
		assert_true(loop_timer_is_set(&dev.again) && !dev.busy && !steps);
		all += due_ms();
	}
	assert_in_range(all, 20000, 100000);
	begin(XB_CONNECTED, DEV_WAIT);
	run_job();
	nodes_remove(&dev);
	no_store = -EAGAIN;
	run_job();
	assert_in_range(due_ms(), 0, 50);
}

/* Of several devices of a guest the last one takes the folder along. */
static void both_halves_go_and_no_more(void **state)
{
	(void)state;
	strcpy(dev.back.frontend, FRONT);
	assert_int_equal(store_write(NULL, FRONT "/state", "6"), 0);
	assert_int_equal(store_write(NULL, "backend/tap/3/51728/state", "4"), 0);
	nodes_remove(&dev);
	run_job();
	assert_string_equal(node("frontend"), "");
	assert_null(store_read(NULL, FRONT "/state"));
	assert_non_null(store_read(NULL, "backend/tap/3/51728/state"));
	assert_true(steps == 1 && dev.dirty);
	assert_int_equal(store_remove(NULL, "backend/tap/3/51728"), 0);
	set("frontend", FRONT);
	assert_int_equal(store_write(NULL, "backend/tap/3", ""), 0);
	nodes_remove(&dev);
	run_job();
	assert_null(store_read(NULL, "backend/tap/3"));
	set("frontend", FRONT);		/* and without a folder */
	nodes_remove(&dev);
	run_job();
	assert_string_equal(node("frontend"), "");
}

static void a_read_tells_both_halves(void **state)
{
	(void)state;
	assert_int_equal(store_write(NULL, "/state", "4"), 0);
	assert_int_equal(store_write(NULL, "/local/domain/3", ""), 0);
	nodes_read(&dev);
	run_job();
	assert_true(dev.seen && !dev.met && dev.back.exists);
	assert_int_equal(store_write(NULL, FRONT "/state", "3"), 0);
	nodes_read(&dev);
	run_job();
	assert_true(dev.seen && dev.met && dev.domain && dev.back.exists);
	assert_int_equal(dev.front.state, XB_INITIALISED);
	/* A node that is not there has no frontend, whatever was known of one. */
	store_remove(NULL, BACK);
	store_remove(NULL, "/local/domain/3");
	nodes_read(&dev);
	run_job();
	assert_true(dev.seen && dev.met && !dev.domain && !dev.back.exists);
	assert_int_equal(dev.front.state, XB_NONE);
}

static void a_read_that_fails_is_made_again(void **state)
{
	static const int errs[] = { -EAGAIN, -ENOSPC, -ENOTCONN };

	for (size_t i = 0; i < sizeof(errs) / sizeof(*errs); i++) {
		tear_down(state);
		set_up(state);
		no_store = errs[i];
		nodes_read(&dev);
		run_job();
		assert_true(dev.dirty && !dev.busy && !dev.seen && !steps);
		/* (A connection that comes up has all looked at.) */
		assert_int_equal(loop_timer_is_set(&dev.again), errs[i] != -ENOTCONN);
	}
}

/* There are steps that need no store: they wait for nothing else. */
static void what_ends_without_a_store_is_a_step(void **state)
{
	(void)state;
	down = true;
	no_store = -ENOTCONN;
	nodes_read(&dev);
	run_job();
	assert_true(dev.dirty && !dev.busy && !dev.seen && steps == 1);
	nodes_watch(&dev);
	run_job();
	assert_true(dev.dirty && !dev.busy && !dev.watched && steps == 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	static const struct CMUnitTest tests[] = {
		T(what_is_there_is_written),
		T(a_node_that_has_gone_stays_away),
		T(the_wish_to_end_is_not_written_over),
		T(what_cannot_be_written_whole_is_tried_again),
		T(what_never_can_be_is_tried_seldom),
		T(both_halves_go_and_no_more),
		T(a_read_tells_both_halves),
		T(a_read_that_fails_is_made_again),
		T(what_ends_without_a_store_is_a_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
