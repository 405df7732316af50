/* Fuzzes images of qcow2: whatever is in one, opening it, using it and closing it is
 * answered, nothing is touched that is not ours, and an image that was clean before
 * is clean after.
 */
#include "fuzz_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_image("qcow2", data, size);
	return 0;
}
