/* fake_disk.h - the only driver of a test of what lies above drivers, "fake:x": memory
 * that can hold up requests.
 *
 * Include it in one .c file of a program.
 */
#ifndef TESTS_FAKE_DISK_H
#define TESTS_FAKE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "node.h"
#include "only_driver.h"

#define SIZE (4u << 20)

static char image[SIZE];
static uint64_t image_size = SIZE;
static struct td_req *held[600];
static unsigned nr_held, last_iovcnt;
static bool hold;

static inline void fake_open(struct td_node *n, struct td_req *r)
{
	td_set_geometry(n, image_size, 4096);
	td_complete(r, 0);
}

static inline void fake_close(struct td_node *n, struct td_req *r)
{
	(void)n;
	td_complete(r, 0);
}

static inline void fake_resize(struct td_node *n, struct td_req *r)
{
	image_size = r->length;
	fake_open(n, r);
}

static inline void do_io(struct td_req *r)
{
	char *at = image + r->offset;

	for (unsigned i = 0; i < r->iovcnt && r->op <= TD_OP_WRITE; i++) {
		if (r->op == TD_OP_READ)
			memcpy(r->iov[i].iov_base, at, r->iov[i].iov_len);
		else
			memcpy(at, r->iov[i].iov_base, r->iov[i].iov_len);
		at += r->iov[i].iov_len;
	}
	last_iovcnt = r->iovcnt;
	td_complete(r, 0);
}

static inline void fake_submit(struct td_node *n, struct td_req *r)
{
	(void)n;
	if (hold)
		held[nr_held++] = r;
	else
		do_io(r);
}

static inline void let_go(void)
{
	hold = false;
	while (nr_held)
		do_io(held[--nr_held]);
}

static const struct td_driver fake = {
	.abi = TD_DRIVER_ABI, .kind = TD_STORE, .name = "fake", .help = "a test",
	.caps = TD_CAP_WRITE | TD_CAP_FLUSH | TD_CAP_FUA | TD_CAP_RESIZE,
	.open = fake_open, .submit = fake_submit, .close = fake_close,
	.resize = fake_resize,
};
ONLY_DRIVER(fake)

#endif
