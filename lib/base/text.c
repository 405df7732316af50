/* text.c - see text.h. */
#include "base/text.h"

#include <stdbool.h>
#include <string.h>

/* A byte that goes on with a character of UTF-8. */
static bool inside(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

const char *text_short(const char *s, char *buf)
{
	static const char gap[] = "...";
	size_t len = strlen(s), head = TEXT_SHORT / 2, tail = TEXT_SHORT - head - 3;

	if (len <= TEXT_SHORT)
		return strcpy(buf, s);
	while (head && inside(s[head]))
		head--;
	while (tail && inside(s[len - tail]))
		tail--;
	memcpy(buf, s, head);
	memcpy(buf + head, gap, 3);
	memcpy(buf + head + 3, s + len - tail, tail + 1);
	return buf;
}
