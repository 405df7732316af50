/* noise.h - what does not get smaller.  Pure; from any thread. */
#ifndef PACK_NOISE_H
#define PACK_NOISE_H

#include <stdbool.h>
#include <stddef.h>

/* Are these bytes compressed or encrypted already?  Then deflate with a window of
 * 4 KiB would save less than a fiftieth, in some twenty times the time that it takes
 * to find out; of other bytes it takes a hundredth to see that they are not. */
bool pack_is_noise(const void *in, size_t len);

#endif
