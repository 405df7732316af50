/* text.c - see text.h. */
#include "base/text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* A byte that goes on with a character of UTF-8. */
static bool inside(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* At most max bytes of the len at s; returns how many. */
static size_t shorten(const char *s, size_t len, size_t max, char *buf)
{
	static const char gap[] = "...";
	size_t head = max / 2, tail = max - head - 3;

	if (len <= max) {
		memcpy(buf, s, len);
		buf[len] = '\0';
		return len;
	}
	while (head && inside(s[head]))
		head--;
	while (tail && inside(s[len - tail]))
		tail--;
	memcpy(buf, s, head);
	memcpy(buf + head, gap, 3);
	memcpy(buf + head + 3, s + len - tail, tail);
	buf[head + 3 + tail] = '\0';
	return head + 3 + tail;
}

const char *text_short(const char *s, char *buf)
{
	shorten(s, strlen(s), TEXT_SHORT, buf);
	return buf;
}

const char *text_spec(const char *spec, char *buf)
{
	const char *end = strchr(spec, '\n');
	char below[32];
	unsigned n = 0;

	if (!end)
		return text_short(spec, buf);
	for (const char *s = end; s && s[1]; s = strchr(s + 1, '\n'))
		n++;
	if (n)
		snprintf(below, sizeof(below), " (%u below)", n);
	else
		snprintf(below, sizeof(below), " (none below)");
	strcpy(buf + shorten(spec, (size_t)(end - spec),
			     TEXT_SHORT - strlen(below), buf), below);
	return buf;
}
