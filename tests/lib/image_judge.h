/* image_judge.h - checkers of images, written for tests alone and apart from the
 * drivers, which they judge: quick enough to look at every state of thousands.
 */
#ifndef TESTS_IMAGE_JUDGE_H
#define TESTS_IMAGE_JUDGE_H

#include <stdbool.h>

#include "mem_image.h"

struct judgement {
	unsigned errors;	/* damage: what could lose or mix up data */
	unsigned leaks;		/* space that nobody uses */
	bool dirty;		/* the image says that counts may be wrong */
	bool marked;		/* it says that it is corrupt */
	char first[160];	/* the first error */
};

/* "qcow2", "qcow" and "vmdk" (one sparse file); others have nothing to judge. */
void image_judge(const char *format, const struct mem_image *m,
		 struct judgement *j);

#endif
