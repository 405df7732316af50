/* text.h - names in messages. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

/* s, or its beginning and its end with "..." between them: at most TEXT_SHORT
 * bytes, in buf, which has one more. */
#define TEXT_SHORT 255
const char *text_short(const char *s, char *buf);

#endif
