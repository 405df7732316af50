/* about.h - what a header of LUKS says of itself, in the members that qemu-img has for
 * it. */
#ifndef LUKS_ABOUT_H
#define LUKS_ABOUT_H

struct json_t;
struct luks_about;

/* format: of what has such a header inside ("luks"); NULL: it is all there is. */
struct json_t *luks_about_json(const struct luks_about *a, const char *format);

#endif
