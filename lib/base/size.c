/* size.c - see size.h. */
#include "base/size.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define FRACTION_DIGITS 18	/* those behind them are less than a byte */

/* Digits from *s on, which is moved behind them. */
static int digits(const char **s, uint64_t max, uint64_t *v)
{
	const char *p = *s;
	uint64_t n = 0;
	bool over = false;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++) {
		unsigned d = *p - '0';

		if (n > (max - d) / 10 || max < d)
			over = true;
		n = n * 10 + d;
	}
	*s = p;
	*v = n;
	return over ? -ERANGE : 0;
}

int uint_parse(const char *s, uint64_t max, uint64_t *v)
{
	uint64_t n = 0;
	int err = digits(&s, max, &n);

	if (err == -EINVAL || *s)
		return -EINVAL;
	if (!err)
		*v = n;
	return err;
}

/* What is behind the point, as *num / *den. */
static void fraction(const char **s, uint64_t *num, uint64_t *den)
{
	const char *p = *s;

	for (*num = 0, *den = 1; *p >= '0' && *p <= '9'; p++) {
		if (p - *s >= FRACTION_DIGITS)
			continue;
		*num = *num * 10 + (unsigned)(*p - '0');
		*den *= 10;
	}
	*s = p;
}

/* num / den of 1 << shift, to the nearest. */
static uint64_t part_of(uint64_t num, uint64_t den, unsigned shift)
{
	return (uint64_t)((((unsigned __int128)num << shift) + den / 2) / den);
}

int size_parse(const char *s, uint64_t *bytes)
{
	static const char units[] = "kmgtpe";
	unsigned shift = 0;
	uint64_t n = 0, num = 0, den = 1;
	int err = digits(&s, UINT64_MAX, &n);

	if (err == -EINVAL)
		return err;
	if (*s == '.') {
		s++;
		fraction(&s, &num, &den);
	}
	if (*s && *s != 'B' && *s != 'b') {
		const char *u = strchr(units, *s | 0x20);

		if (!u)
			return -EINVAL;
		shift = 10 * (unsigned)(u - units + 1);
		s++;
		if (*s == 'i' && s[1] == 'B')
			s++;
	}
	if (*s == 'B' || *s == 'b')
		s++;
	if (*s || (num && !shift))	/* there is no half byte */
		return -EINVAL;
	if (err || n > UINT64_MAX >> shift)
		return -ERANGE;
	num = part_of(num, den, shift);
	if (num > UINT64_MAX - (n << shift))
		return -ERANGE;
	*bytes = (n << shift) + num;
	return 0;
}

const char *size_text(uint64_t bytes, char *buf)
{
	static const char *const units[] = {
		"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
	};
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	snprintf(buf, 16, v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v,
		 units[u]);
	return buf;
}
