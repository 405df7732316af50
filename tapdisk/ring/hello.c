/* hello.c - checks of a client's hello and its memory.  See hello.h.
 *
 * H1  After hello_check() every ring page lies below `pages` and belongs to one
 *     ring only, and sizes computed from the hello fit what they are put in.
 * H2  Memory that passes cannot raise SIGBUS: it is tmpfs' own (huge pages may
 *     run out), long enough, and sealed so that it stays so.
 */
#include "ring/hello.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static int no(int err, const char **why, const char *text)
{
	*why = text;
	return err;
}

int hello_check(const struct tapring_hello *h, const char **why)
{
	uint32_t ref[TAPRING_MAX_QUEUES << TAPRING_MAX_ORDER];
	unsigned n = 0;

	if (h->magic != TAPRING_MAGIC)
		return no(-EPROTO, why, "no ring client: bad magic number");
	if (h->version != TAPRING_VERSION)
		return no(-EPROTO, why, "speaks another version");
	if (h->abi < TAPRING_ABI_NATIVE || h->abi > TAPRING_ABI_X86_64)
		return no(-EINVAL, why, "unknown slot layout");
	if (h->order > TAPRING_MAX_ORDER)
		return no(-E2BIG, why, "too many pages a ring");
	if (!h->queues || h->queues > TAPRING_MAX_QUEUES)
		return no(-E2BIG, why, "no queues, or too many");
	if (h->pages > TAPRING_MAX_PAGES)
		return no(-E2BIG, why, "too much memory");
	for (unsigned q = 0; q < h->queues; q++) {
		for (unsigned i = 0; i < 1u << h->order; i++) {
			uint32_t r = h->ring_ref[q][i];

			if (r >= h->pages)
				return no(-EINVAL, why, "ring page out of range");
			for (unsigned k = 0; k < n; k++)
				if (ref[k] == r)
					return no(-EINVAL, why,
						  "a page is used twice in rings");
			ref[n++] = r;
		}
	}
	return 0;
}

bool hello_ring_in_row(const struct tapring_hello *h, unsigned q)
{
	for (unsigned i = 1; i < 1u << h->order; i++)
		if (h->ring_ref[q][i] != h->ring_ref[q][0] + i)
			return false;
	return true;
}

int hello_check_memory(int fd, size_t len, const char **why)
{
	struct stat st;
	struct statfs fs;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return no(-EINVAL, why, "its memory is not a memfd");
	if (!(seals & F_SEAL_SHRINK))
		return no(-EINVAL, why, "its memory is not sealed against shrinking");
	if (fstatfs(fd, &fs))
		return no(-errno, why, "cannot examine its memory");
	if (fs.f_type != TMPFS_MAGIC)
		return no(-EINVAL, why, "its memory is not of ordinary pages");
	if (fstat(fd, &st))
		return no(-errno, why, "cannot examine its memory");
	if (st.st_size < 0 || (uint64_t)st.st_size < len)
		return no(-EINVAL, why, "its memory is shorter than it says");
	return 0;
}
