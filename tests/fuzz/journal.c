/* Fuzzes a journal that somebody else has written: it is refused, or its rings run,
 * each request of theirs is answered once, and no more are open than they have
 * slots. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "ring/journal.h"
#include "ring/ring.h"
#include "tap_proto.h"

#define LEN (4096u + 4096u + 2 * 64 * 128u)	/* table, and a section of two rings */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(struct journal_section *s, const struct journal_shape *shape,
		uint8_t *page, const uint8_t *data, size_t size)
{
	for (unsigned q = 0; q < shape->queues; q++) {
		struct ring r;
		const uint8_t *slot;
		unsigned ticket, held[64], n = 0;
		size_t at = q;

		memcpy(page, data, min_u64(size, 8192));
		ring_init(&r, shape->abi, shape->order, page);
		ring_journal(&r, s, q);
		ASSERT(ring_open(&r) <= ring_slots(&r));
		ASSERT(ring_unpushed(&r));
		for (unsigned i = 0; i < 300; i++) {
			ring_waiting(&r);
			if (n < ring_slots(&r) &&
			    ring_consume(&r, &slot, &ticket) > 0)
				held[n++] = ticket;
			at = (at + 1) % size;
			while (n && data[at] & 3) {
				ring_answer(&r, held[--n], 7, 1, 0);
				at = (at + 1) % size;
			}
			if (data[at] & 4)
				ring_push(&r);
			ASSERT(ring_open(&r) <= ring_slots(&r));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* As journal.c has it: magic, version, pad; then rows. */
	static const uint32_t head[6] = { 0x4c4e524a, 1, 0, 0, JOURNAL_SHM, 0 };
	struct journal_key key = { { 0 } };
	struct journal_section *s;
	struct journal *j;
	const char *why;
	uint8_t *page, *file;
	int fd;

	if (size < 8)
		return 0;
	fd = memfd_create("journal", MFD_CLOEXEC);
	ASSERT(fd >= 0 && !ftruncate(fd, TAP_JOURNAL_BYTES));
	file = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	page = calloc(2, 4096);
	ASSERT(file != MAP_FAILED && page);
	if (data[0] & 1) {
		memcpy(file, data + 1, min_u64(size - 1, LEN));
	} else {
		/* A table that is right, so that the section is looked at. */
		struct journal_shape shape = { 1 + data[1] % 3, data[2] % 2,
					       1 + data[3] % 2 };

		memcpy(file, head, sizeof(head));
		memcpy(file + 20, &shape, sizeof(shape));
		memcpy(file + 4096, data + 4, min_u64(size - 4, LEN - 4096));
	}
	if (!journal_new(fd, &j)) {
		for (unsigned abi = 1; abi <= 3; abi++)
			for (unsigned k = 0; k < 4; k++) {
				struct journal_shape shape = { (uint16_t)abi, k % 2,
							       1 + k / 2 };

				if (journal_get(j, JOURNAL_SHM, &key, &shape, true,
						&s, &why))
					continue;
				run(s, &shape, page, data, size);
				journal_put(s, data[1] & 1);
			}
		journal_free(j);
	}
	munmap(file, LEN);
	free(page);
	return 0;
}
