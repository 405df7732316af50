/* tapring-example.c - the whole use of libtapring in one page: read a disk from
 * its start to its end with a full queue, and print a checksum.
 *
 *	cc tapring-example.c $(pkg-config --cflags --libs tapring)
 *	./a.out /var/run/tap/ring0.sock
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tapring.h"

#define CHUNK (64u << 10)
#define DEPTH 16u

static int die(const char *what, int err)
{
	fprintf(stderr, "tapring-example: %s: %s\n", what, strerror(-err));
	return 1;
}

/* Order does not matter to it: pieces are answered as they come. */
static uint64_t sum(const char *buf, size_t len, uint64_t offset)
{
	uint64_t h = 0, w;

	for (size_t i = 0; i < len; i += sizeof(w)) {
		memcpy(&w, buf + i, sizeof(w));
		h += w * (offset + i + 1);
	}
	return h;
}

int main(int argc, char **argv)
{
	struct tapring_opts opts = { .data = (uint64_t)DEPTH * CHUNK };
	struct tapring_answer a[DEPTH];
	uint64_t next = 0, done = 0, size, total = 0, at[DEPTH];
	struct tapring_queue *q;
	struct tapring *r;
	unsigned used = 0;
	size_t len[DEPTH];
	char *mem;
	int n;

	if (argc != 2) {
		fprintf(stderr, "usage: tapring-example SOCKET\n");
		return 2;
	}
	n = tapring_connect(argv[1], &opts, &r);
	if (n)
		return die(argv[1], n);
	q = tapring_get_queue(r, 0);
	mem = tapring_data(r, NULL);
	size = tapring_size(r);

	/* The cookie is the number of a piece of the shared memory.  At first
	 * all are free, later those whose answers have come. */
	for (unsigned i = 0; i < DEPTH; i++)
		a[used++] = (struct tapring_answer){ .cookie = i };
	while (done < size) {
		for (; used && next < size; used--) {
			uint64_t i = a[used - 1].cookie;

			at[i] = next;
			len[i] = size - next < CHUNK ? (size_t)(size - next) : CHUNK;
			n = tapring_read(q, mem + i * CHUNK, len[i], next, i);
			if (n)
				return die("read", n);
			next += len[i];
		}
		n = tapring_submit(q);
		if (n)
			return die("submit", n);
		n = tapring_wait(q, 1, -1);
		if (n < 0)
			return die("wait", n);
		n = tapring_reap(q, a + used, DEPTH - used);
		if (n < 0)
			return die("reap", n);
		for (int k = 0; k < n; k++) {
			uint64_t i = a[used + (unsigned)k].cookie;

			if (a[used + (unsigned)k].result)
				return die("read", a[used + (unsigned)k].result);
			total += sum(mem + i * CHUNK, len[i], at[i]);
			done += len[i];
		}
		used += (unsigned)n;
	}
	printf("%" PRIu64 " bytes, sum %016" PRIx64 "\n", done, total);
	tapring_close(r);
	return 0;
}
