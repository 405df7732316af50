/* bad_rings.c - indices and events.  A ring whose producer is nowhere is stopped, and
 * the device connects anew; all else that is written beside it does not matter. */
#include "hostfront.h"

#include <stdio.h>
#include <string.h>

#define QUIET_MS 300u
#define STOP_MS 2000u	/* until it is stopped, and that has been told */

static struct setup one_ring(enum abi abi)
{
	return (struct setup){ abi, 0, 1, false };
}

/* A request that nobody answers any more. */
static void must_be_stopped(struct front *f)
{
	struct req r = { .op = FLUSH };
	struct answer a;
	struct queue *q = &f->q[0];

	q->req = q->s->req_prod;
	q->rsp = q->s->rsp_prod;
	queue_put(q, &r);
	queue_push(q, true);
	if (queue_get(q, &a, QUIET_MS))
		die("the ring goes on");
}

static void far_away(struct front *f, enum abi abi)
{
	const struct setup s = one_ring(abi);
	struct { const char *what; uint32_t by; } const leaps[] = {
		{ "a slot too many", 33 }, { "half way round", 0x80000000u },
		{ "almost half way round", 0x7fffffffu }, { "one back", UINT32_MAX },
		{ "a ring back", (uint32_t)-32 },
	};

	for (unsigned i = 0; i < sizeof(leaps) / sizeof(leaps[0]); i++) {
		doing("producer: %s, %s", leaps[i].what, abi_name[abi]);
		front_connect(f, &s);
		if (i == 0)
			model_write(f);
		model_run(f, 1);
		__atomic_store_n(&f->q[0].s->req_prod, f->q[0].req + leaps[i].by,
				 __ATOMIC_RELEASE);
		port_kick(f->q[0].port);
		sleep_ms(STOP_MS);
		must_be_stopped(f);
		front_leave(f);
	}
	doing("after the producers, %s", abi_name[abi]);
	model_control(f, &s);
}

/* The back end's half of the header is overwritten all the time. */
static void others_half(struct front *f)
{
	const struct setup s = one_ring(NATIVE);
	struct queue *q = &f->q[0];

	doing("a consumer that is overwritten");
	front_connect(f, &s);
	for (unsigned i = 0; i < 40; i++) {
		struct req r = { .op = FLUSH, .id = i };
		uint64_t end = now_ms() + 30000;

		q->s->rsp_prod = rnd32();
		q->s->req_event = rnd32();
		q->s->rsp_event = rnd32();
		memset(q->s->pad, (int)i, sizeof(q->s->pad));
		queue_put(q, &r);
		queue_push(q, true);
		while (__atomic_load_n(&q->s->rsp_prod, __ATOMIC_ACQUIRE) != q->req)
			if (now_ms() > end)
				die("no answer %u", i);
		q->rsp = q->req;
	}
	model_run(f, 64);
	model_check(f);
	front_leave(f);
}

/* Before it is told that it is connected: once, and not again by itself. */
static void too_early(struct front *f)
{
	const struct setup s = one_ring(NATIVE);
	int state;

	doing("a producer that is nowhere before 3");
	front_reset(f);
	front_make(f, &s);
	__atomic_store_n(&f->q[0].s->req_prod, 1000, __ATOMIC_RELEASE);
	front_tell(f);
	front_set(f, "state", "3");
	state = front_await(f, CONNECTED | CLOSED, 30000);
	sleep_ms(STOP_MS);
	if (front_back_state(f) != state)
		die("the back end goes on from state %d to %d", state,
		    front_back_state(f));
	if (state == 4) {	/* it was told first */
		front_set(f, "state", "4");
		must_be_stopped(f);
		front_leave(f);
	} else {
		front_set(f, "state", "6");
		front_drop(f);
	}
}

void bad_indices(struct front *f, enum abi abi)
{
	far_away(f, abi);
	too_early(f);
	others_half(f);
}

void bad_loop(struct front *f, unsigned n)
{
	const struct setup s = one_ring(X86_64);

	while (n--) {
		front_connect(f, &s);
		f->q[0].s->req_prod = 1000;
		port_kick(f->q[0].port);
		front_leave(f);
	}
	model_control(f, &s);
}

/* --- events --- */

static void storm(struct front *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (port_kick(f->q[i % f->s.queues].port))
			die("event %u cannot be sent", i);
}

void bad_events(struct front *f)
{
	const struct setup s = { NATIVE, 0, 2, true };

	doing("a storm of events");
	front_connect(f, &s);
	model_write(f);
	storm(f, 20000);
	model_run(f, 64);
	for (unsigned i = 0; i < 20; i++) {
		storm(f, 200);
		model_run(f, 16);
	}
	model_check(f);
	front_leave(f);

	/* Nobody hears its answers; what it sends is not heard. */
	doing("event channels that are closed under way");
	front_connect(f, &s);
	model_run(f, 64);
	for (unsigned i = 0; i < 2; i++) {
		struct req r = { .op = FLUSH };

		queue_put(&f->q[i], &r);
		queue_push(&f->q[i], true);
		port_free(f->q[i].port);
		f->q[i].port = 0;
	}
	sleep_ms(QUIET_MS);
	front_leave(f);
	doing("after the events");
	model_control(f, &s);
}
