/* scan.c - walking through what is allocated in an image, from its start on. */
#include "base/bytes.h"
#include "base/log.h"
#include "tap_img.h"

void scan_begin(struct scan *s, struct img *im, unsigned flags)
{
	*s = (struct scan){ .im = im, .flags = flags };
	s->x = (struct td_extents){ .v = s->v, .max = SCAN_RUNS };
}

int scan_at(struct scan *s, uint64_t off, uint64_t max, struct td_extent *e)
{
	uint64_t size = img_size(s->im), skip;

	ASSERT(max);
	if (off >= size) {
		*e = (struct td_extent){ .length = max, .flags = TD_EXTENT_HOLE |
					 TD_EXTENT_ZERO | TD_EXTENT_ABSENT };
		return 0;
	}
	while (s->at < s->x.n && off >= s->from + s->v[s->at].length)
		s->from += s->v[s->at++].length;
	if (s->at == s->x.n) {
		int err;

		s->at = 0;
		err = img_extents(s->im, s->flags, off,
				  min_u64(size - off, SCAN_SPAN), &s->x);
		if (err) {
			s->x.n = 0;	/* what came before it was of `off`, not `from` */
			return err;
		}
		s->from = off;
	}
	ASSERT(off >= s->from);
	skip = off - s->from;
	*e = s->v[s->at];
	e->length = min_u64(e->length - skip, max);
	e->host += e->flags & TD_EXTENT_AT ? skip : 0;
	return 0;
}
