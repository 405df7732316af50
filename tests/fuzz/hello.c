/* Fuzzes the check of a ring client's hello: what passes fits everything that is
 * sized and mapped by it. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/log.h"
#include "blkif.h"
#include "ring/hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tapring_hello h = { .magic = TAPRING_MAGIC,
				   .version = TAPRING_VERSION };
	const char *why = NULL;
	unsigned pages;

	/* The first byte says whether the input must find the magic itself. */
	if (size < 2)
		return 0;
	if (data[0] & 1)
		memcpy((char *)&h + 6, data + 1,
		       size - 1 < sizeof(h) - 6 ? size - 1 : sizeof(h) - 6);
	else
		memcpy(&h, data + 1, size - 1 < sizeof(h) ? size - 1 : sizeof(h));
	if (hello_check(&h, &why)) {
		ASSERT(why && *why);
		return 0;
	}
	ASSERT(h.magic == TAPRING_MAGIC && h.version == TAPRING_VERSION);
	ASSERT(h.abi >= 1 && h.abi <= 3);
	ASSERT(h.queues >= 1 && h.queues <= TAPRING_MAX_QUEUES);
	ASSERT(h.order <= TAPRING_MAX_ORDER && h.pages <= TAPRING_MAX_PAGES);
	pages = 1u << h.order;
	ASSERT(blkif_slots(h.abi, h.order) == 32u << h.order);
	for (unsigned i = 0; i < h.queues * pages; i++) {
		uint32_t ref = h.ring_ref[i / pages][i % pages];

		ASSERT(ref < h.pages);
		for (unsigned k = 0; k < i; k++)
			ASSERT(h.ring_ref[k / pages][k % pages] != ref);
	}
	for (unsigned q = 0; q < h.queues; q++)
		if (hello_ring_in_row(&h, q))
			ASSERT(h.ring_ref[q][0] + (uint64_t)pages <= h.pages);
	return 0;
}
