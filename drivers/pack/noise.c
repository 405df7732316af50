/* noise.c - see noise.h.
 *
 * Deflate has two ways to save: codes for bytes that are frequent, and references to
 * bytes that were there before, within the window.  Where all byte values are equally
 * frequent the first saves nothing; where hardly any four bytes are repeated, nor does
 * the second.
 */
#include "pack/noise.h"

#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

#define SAMPLE 4096u
#define WINDOW 4096u
#define SLOTS_LOG 12

/* The sum of the squares of the counts is n * n / 256 where all are the same, and n
 * more where bytes are thrown at random.  A sixteenth more, and a code saves one
 * byte in a hundred. */
static bool is_flat(const uint8_t *p, size_t n)
{
	uint32_t count[4][256] = { 0 };	/* an increment does not wait for the last */
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i + 4 <= n; i += 4)
		for (unsigned k = 0; k < 4; k++)
			count[k][p[i + k]]++;
	for (; i < n; i++)
		count[0][p[i]]++;
	for (unsigned b = 0; b < 256; b++) {
		uint64_t c = (uint64_t)count[0][b] + count[1][b] + count[2][b] +
			     count[3][b];

		sum += c * c;
	}
	return sum < (uint64_t)n * n / 256 + n + (uint64_t)n * n / 4096;
}

static bool repeats(const uint8_t *p, size_t n)
{
	uint32_t last[1u << SLOTS_LOG] = { 0 };	/* place + 1 */
	size_t found = 0;

	for (size_t i = 0; i + 4 <= n; i++) {
		uint32_t v, w, *slot;

		memcpy(&v, p + i, 4);
		slot = &last[v * 2654435761u >> (32 - SLOTS_LOG)];
		if (*slot && i + 1 - *slot <= WINDOW) {
			memcpy(&w, p + *slot - 1, 4);
			found += v == w;
		}
		*slot = (uint32_t)i + 1;
	}
	/* Each saves four bytes at most. */
	return found > n / 256;
}

bool pack_is_noise(const void *in, size_t len)
{
	const uint8_t *p = in;

	return len >= SAMPLE && len < UINT32_MAX && is_flat(p, SAMPLE) &&
	       is_flat(p, len) && !repeats(p, len);
}
