/* text.h - names in messages. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

/* s, or its beginning and its end with "..." between them: at most TEXT_SHORT
 * bytes, in buf, which has one more. */
#define TEXT_SHORT 255
const char *text_short(const char *s, char *buf);

/* The same of a spec: its first line, and of the others their number, as
 * "qcow2:/srv/a (2 below)"; " (none below)" if what follows is nothing. */
const char *text_spec(const char *spec, char *buf);

#endif
