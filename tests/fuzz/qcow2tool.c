/* Fuzzes what tools do to images of qcow2: check, repair, snapshots, another backing
 * file.  Whatever is in one, they end, and what a repair calls good is good.
 */
#include "fuzz_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_tools("qcow2", data, size);
	return 0;
}
