/* main.c - a fuzz target without a fuzzer: runs it on each file named, as for a
 * finding under a debugger or with a compiler that has no libFuzzer.
 *
 *	cc ... tests/fuzz/X.c tests/fuzz/lib/main.c ... -o X && ./X crash-...
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
	uint8_t *buf = malloc(INPUT_MAX);

	if (!buf)
		return 1;
	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "rb");
		size_t n;

		if (!f) {
			perror(argv[i]);
			return 1;
		}
		n = fread(buf, 1, INPUT_MAX, f);
		fclose(f);
		LLVMFuzzerTestOneInput(buf, n);
	}
	free(buf);
	return 0;
}
