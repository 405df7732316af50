/* fuzz_image.h - an image and requests from a fuzzer's bytes: opened, used, closed.
 *
 * The bytes: one of flags; pieces of the image (three bytes: offset in units of 64
 * bytes, little-endian; one: length in units of 8, and then so many bytes); a piece
 * of length 0; then requests, four bytes each.  So images of some megabytes are
 * inputs of some hundred bytes.
 */
#ifndef TESTS_FUZZ_IMAGE_H
#define TESTS_FUZZ_IMAGE_H

#include <stddef.h>
#include <stdint.h>

/* Whatever the image is, requests get their answers.  If it is clean by the judge
 * (image_judge.h), it stays so, and what is written is read back. */
void fuzz_image(const char *format, const uint8_t *data, size_t size);

/* The same bytes, but what follows the image are a tool's commands: check, repair,
 * snapshots, another backing file.  What a repair calls good is good. */
void fuzz_tools(const char *format, const uint8_t *data, size_t size);

/* libFuzzer calls it: now and then a number of the image becomes one that is
 * interesting; else what libFuzzer does. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max,
			       unsigned seed);

#endif
