/* split.c - long requests in pieces.
 *
 * A request over DISK_PIECE bytes is cut into pieces of at most that (and of at
 * most DISK_PIECE_IOV vectors), of which DISK_PIECES are in flight for the disk.
 * Waiting requests get free pieces in the order of their coming.  The first
 * error ends the cutting; the request is answered when its last piece is back.
 *
 * I1  pos counts bytes of the request that were given to pieces; pending, the
 *     pieces that are out.  A request is answered when pending is 0 and pos has
 *     reached its end or an error has come.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/list.h"
#include "base/log.h"
#include "disk/disk_priv.h"

struct piece {
	struct split *split;
	struct iovec iov[DISK_PIECE_IOV];
};

struct split {
	struct list link;	/* waiting for pieces */
	struct disk *disk;
	struct td_req *whole;
	uint64_t pos;
	unsigned vec;		/* where the next piece starts: in iov[vec] */
	size_t vec_off;
	unsigned pending;
	int err;
};

struct split_pool {
	struct td_pool *pieces;
	struct list waiting;
	struct split slots[64];
	struct list idle;
	struct td_req *queue, **queue_tail;	/* requests without a slot */
};

struct split_pool *split_pool_new(void)
{
	struct split_pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->pieces = td_pool_new(DISK_PIECES, sizeof(struct piece));
	if (!p->pieces) {
		free(p);
		return NULL;
	}
	list_init(&p->waiting);
	list_init(&p->idle);
	for (size_t i = 0; i < ARRAY_SIZE(p->slots); i++)
		list_add(&p->idle, &p->slots[i].link);
	p->queue_tail = &p->queue;
	return p;
}

int split_pool_bind(struct split_pool *p, const struct td_tree *t)
{
	return td_pool_bind(p->pieces, t);
}

void split_pool_free(struct split_pool *p)
{
	td_pool_free(p->pieces);
	free(p);
}

static bool has_data(const struct td_req *r)
{
	return r->op == TD_OP_READ || r->op == TD_OP_WRITE;
}

/* Vectors of the next piece into p->iov; returns its length. */
static uint64_t cut_iov(struct split *s, struct piece *p, unsigned *n)
{
	const struct td_req *w = s->whole;
	uint64_t len = 0;

	*n = 0;
	while (*n < DISK_PIECE_IOV && s->vec < w->iovcnt && len < DISK_PIECE) {
		const struct iovec *v = &w->iov[s->vec];
		size_t take = min_u64(v->iov_len - s->vec_off, DISK_PIECE - len);

		p->iov[(*n)++] = (struct iovec){
			.iov_base = (char *)v->iov_base + s->vec_off,
			.iov_len = take,
		};
		len += take;
		s->vec_off += take;
		if (s->vec_off == v->iov_len) {
			s->vec++;
			s->vec_off = 0;
		}
	}
	return len;
}

static void go(struct disk *d);

static void piece_done(struct td_req *r, int err)
{
	struct piece *p = r->owner;
	struct split *s = p->split;
	struct disk *d = s->disk;

	td_pool_put(d->split->pieces, r);
	s->pending--;
	if (err && !s->err)
		s->err = err;
	go(d);
	if (!s->pending && (s->err || s->pos == s->whole->length)) {	/* I1 */
		struct td_req *whole = s->whole;

		list_del(&s->link);
		list_add(&d->split->idle, &s->link);
		err = s->err;
		if (d->split->queue) {
			struct td_req *next = d->split->queue;

			d->split->queue = next->next;
			if (!d->split->queue)
				d->split->queue_tail = &d->split->queue;
			split_start(d, next);
		}
		disk_answer(whole, err);
	}
}

static void start_piece(struct split *s, struct td_req *r)
{
	struct td_req *w = s->whole;
	struct piece *p = td_pool_extra(s->disk->split->pieces, r);
	uint64_t len;

	p->split = s;
	r->op = w->op;
	r->flags = w->flags;
	r->offset = w->offset + s->pos;
	r->iov = NULL;
	r->iovcnt = 0;
	if (has_data(w)) {
		len = cut_iov(s, p, &r->iovcnt);
		r->iov = p->iov;
	} else {
		/* What carries no data is cut coarsely: 1 GiB at a time. */
		len = min_u64(w->length - s->pos, GiB);
	}
	r->length = len;
	r->extents = NULL;
	r->done = piece_done;
	r->owner = p;
	s->pos += len;
	s->pending++;
	td_submit(td_tree_root(s->disk->tree), r);
}

/* Hand out free pieces. */
static void go(struct disk *d)
{
	struct split_pool *p = d->split;

	while (!list_empty(&p->waiting)) {
		struct split *s = list_first(&p->waiting, struct split, link);
		struct td_req *r;

		if (s->err || s->pos == s->whole->length) {
			list_del(&s->link);	/* only its pieces are awaited */
			continue;
		}
		r = td_pool_get(p->pieces);
		if (!r)
			return;
		start_piece(s, r);
	}
}

void split_start(struct disk *d, struct td_req *r)
{
	struct split_pool *p = d->split;
	struct list *e = list_pop(&p->idle);
	struct split *s;

	if (!e) {
		r->next = NULL;
		*p->queue_tail = r;
		p->queue_tail = &r->next;
		return;
	}
	s = container_of(e, struct split, link);
	*s = (struct split){ .disk = d, .whole = r };
	list_init(&s->link);
	list_add(&p->waiting, &s->link);
	go(d);
}
