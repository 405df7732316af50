/* nbd_request.c - the transmission phase: requests out of the receive buffer,
 * into the disk, and their replies onto c->out.
 *
 * The way of a request: request_take -> (a write: payload received) ->
 * request_start -> disk -> request_done -> request_answer -> sent
 * (nbd_client.c).  One that cannot be carried out goes straight to
 * request_answer, a write after its payload.  A long write goes to the disk in
 * pieces; it is answered when the last has come back.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/log.h"
#include "export/nbd/nbd_priv.h"
#include "export/nbd/nbd_proto.h"
#include "node.h"

int nbd_transmission_start(struct nbd_client *c)
{
	c->ops = calloc(NBD_OPS, sizeof(*c->ops));
	c->front.pool = td_pool_new(NBD_OPS + NBD_PIECES_OUT, 0);
	if (!c->ops || !c->front.pool)
		return -ENOMEM;
	return disk_front_bind(&c->front);
}

void nbd_transmission_end(struct nbd_client *c)
{
	ASSERT(!c->busy);
	if (c->front.pool)
		td_pool_free(c->front.pool);
	free(c->ops);
}

/* ---- ops ---- */

static struct nbd_op *op_get(struct nbd_client *c)
{
	struct nbd_op *op = c->spare;

	if (op) {
		c->spare = (struct nbd_op *)(void *)op->link.next;
	} else if (c->fresh < NBD_OPS) {
		op = &c->ops[c->fresh++];
		op->c = c;
	} else {
		return NULL;
	}
	c->busy++;
	return op;
}

static void op_free_buf(struct nbd_op *op)
{
	struct nbd_client *c = op->c;

	if (!op->buf)
		return;
	c->charged -= nbd_buf_size(op->room);
	nbd_buf_put(&c->s->bufs, op->buf, op->room);
	op->buf = NULL;
}

static void op_put(struct nbd_op *op)
{
	struct nbd_client *c = op->c;

	op_free_buf(op);
	op->link.next = (struct list *)(void *)c->spare;
	c->spare = op;
	c->busy--;
}

void nbd_op_sent(struct nbd_op *op)
{
	op_put(op);
}

void nbd_requests_drop(struct nbd_client *c)
{
	struct nbd_op *op;
	struct list *e;

	while ((e = list_pop(&c->out)))
		op_put(container_of(e, struct nbd_op, link));
	op = c->rx;
	c->rx = NULL;		/* request_done() answers then, to nobody */
	if (op && !op->inflight)
		op_put(op);
}

/* ---- answers ---- */

/* Extents become the protocol's pairs in place: those are smaller. */
static unsigned pack_extents(struct nbd_op *op)
{
	const struct td_extent *v = op->extents.v;
	uint64_t left = op->q.length;
	unsigned n = 0;

	while (n < op->extents.n && left) {
		uint64_t len = min_u64(v[n].length, left);
		uint32_t flags = v[n].flags;

		put_be32(op->buf + 8 * n, (uint32_t)len);
		put_be32(op->buf + 8 * n + 4,
			 (flags & TD_EXTENT_HOLE ? NBD_STATE_HOLE : 0) |
			 (flags & TD_EXTENT_ZERO ? NBD_STATE_ZERO : 0));
		left -= len;
		n++;
	}
	return n;
}

static void request_answer(struct nbd_op *op, int err)
{
	struct nbd_client *c = op->c;
	uint64_t cookie = op->q.cookie;
	bool chunk = c->neg.structured && op->q.type == NBD_CMD_READ;
	uint32_t data = 0;
	unsigned len;

	if (c->phase == NBD_DEAD) {
		op_put(op);
		return;
	}
	if (op->q.type == NBD_CMD_BLOCK_STATUS && c->neg.meta) {
		unsigned n = err ? 0 : pack_extents(op);

		data = 8 * n;
		len = n ? nbd_put_status(op->hdr, cookie, NBD_CONTEXT_ALLOCATION, n) :
			nbd_put_error(op->hdr, cookie, err ? err : -EIO);
	} else if (op->q.type == NBD_CMD_READ && !err && op->q.length) {
		data = op->q.length;
		len = chunk ? nbd_put_data(op->hdr, cookie, op->q.offset, data) :
			nbd_put_simple(op->hdr, cookie, 0);
	} else if (chunk) {
		len = err ? nbd_put_error(op->hdr, cookie, err) :
			nbd_put_none(op->hdr, cookie);
	} else {
		len = nbd_put_simple(op->hdr, cookie, err);
	}
	if (!data)
		op_free_buf(op);
	op->out[0] = (struct iovec){ op->hdr, len };
	op->out[1] = (struct iovec){ op->buf, data };
	list_add(&c->out, &op->link);
}

/* ---- the disk ---- */

static void request_done(struct td_req *r, int err);

static struct td_req *request_new(struct nbd_op *op, enum td_op what)
{
	struct td_req *r = td_pool_get(op->c->front.pool);

	ASSERT(r);		/* the pool has as many as there can be */
	r->op = what;
	r->flags = 0;
	r->offset = 0;
	r->length = 0;
	r->iov = NULL;
	r->iovcnt = 0;
	r->extents = NULL;
	r->owner = op;
	r->done = request_done;
	return r;
}

static void request_submit(struct nbd_op *op, struct td_req *r)
{
	op->inflight++;
	op->c->inflight++;
	disk_submit(&op->c->front, r);
}

static void request_done(struct td_req *r, int err)
{
	struct nbd_op *op = r->owner;
	struct nbd_client *c = op->c;

	td_pool_put(c->front.pool, r);
	op->inflight--;
	c->inflight--;
	if (err && !op->err)
		op->err = err;
	if (!op->inflight && c->rx != op)
		request_answer(op, op->err);
	nbd_client_settle(c);
}

/* Give the disk what has not been given to it of the payload before `end`. */
static void data_submit(struct nbd_op *op, struct td_req *r, uint32_t end)
{
	struct iovec *iov = &op->iov[op->pieces++];

	ASSERT(op->pieces <= NBD_PIECES);	/* none is shorter than length / it */
	*iov = (struct iovec){ op->buf + op->begun, end - op->begun };
	r->offset = op->q.offset + op->begun;
	r->length = end - op->begun;
	r->iov = iov;
	r->iovcnt = 1;
	op->begun = end;
	request_submit(op, r);
}

static void request_start(struct nbd_op *op)
{
	static const enum td_op ops[] = {
		[NBD_CMD_READ]		= TD_OP_READ,
		[NBD_CMD_WRITE]		= TD_OP_WRITE,
		[NBD_CMD_FLUSH]		= TD_OP_FLUSH,
		[NBD_CMD_TRIM]		= TD_OP_DISCARD,
		[NBD_CMD_ZEROES]	= TD_OP_ZEROES,
		[NBD_CMD_BLOCK_STATUS]	= TD_OP_EXTENTS,
	};
	const struct nbd_request *q = &op->q;
	struct td_req *r;

	/* There is no cache of ours to warm: checked, and done. */
	if (q->type == NBD_CMD_CACHE || (!q->length && q->type != NBD_CMD_FLUSH)) {
		request_answer(op, 0);
		return;
	}
	r = request_new(op, ops[q->type]);
	r->offset = q->offset;
	r->length = q->length;
	switch (q->type) {
	case NBD_CMD_BLOCK_STATUS:
		op->extents = (struct td_extents){
			.v = (struct td_extent *)(void *)op->buf,
			.max = q->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : NBD_STATUS_MAX,
		};
		r->extents = &op->extents;
		break;
	}
	/* A client may ask it of any command; it means something to these. */
	if ((q->flags & NBD_CMD_FLAG_FUA) &&
	    (r->op == TD_OP_WRITE || r->op == TD_OP_ZEROES ||
	     r->op == TD_OP_DISCARD))
		r->flags |= TD_REQ_FUA;
	if (q->type == NBD_CMD_ZEROES) {
		r->flags |= q->flags & NBD_CMD_FLAG_NO_HOLE ? TD_REQ_NO_HOLE : 0;
		r->flags |= q->flags & NBD_CMD_FLAG_FAST_ZERO ? TD_REQ_FAST : 0;
	}
	if (q->type == NBD_CMD_READ || q->type == NBD_CMD_WRITE)
		data_submit(op, r, q->length);
	else
		request_submit(op, r);
}

/* A piece of a long write, if one has arrived and more is to come.  Not of one
 * with FUA: each piece would go to stable storage for itself.  (Of the pool's
 * requests the pieces take no more than NBD_PIECES_OUT: each op finds one.) */
static void piece_start(struct nbd_op *op)
{
	const struct nbd_request *q = &op->q;
	uint64_t cut = max_u64(NBD_PIECE, disk_whole(op->c->s->disk));
	uint64_t piece = align_up((q->length + NBD_PIECES - 1ull) / NBD_PIECES, cut);
	uint64_t end = align_down(q->offset + op->got, cut);

	if (end < q->offset + op->begun + piece || op->err ||
	    q->flags & NBD_CMD_FLAG_FUA || op->c->inflight >= NBD_PIECES_OUT)
		return;
	data_submit(op, request_new(op, TD_OP_WRITE), (uint32_t)(end - q->offset));
}

/* ---- requests ---- */

static uint32_t buffer_for(const struct nbd_request *q)
{
	switch (q->type) {
	case NBD_CMD_READ:
	case NBD_CMD_WRITE:
		return q->length;
	case NBD_CMD_BLOCK_STATUS:
		return q->flags & NBD_CMD_FLAG_REQ_ONE ? sizeof(struct td_extent) :
			NBD_STATUS_MAX * sizeof(struct td_extent);
	default:
		return 0;
	}
}

/* The whole of a write's payload is here. */
static void payload_done(struct nbd_client *c)
{
	struct nbd_op *op = c->rx;

	c->rx = NULL;
	if (c->phase == NBD_LEAVING && !op->err)
		op->err = -ESHUTDOWN;
	if (!op->err)
		request_start(op);
	else if (!op->inflight)
		request_answer(op, op->err);
}

bool nbd_payload_room(struct nbd_client *c, struct iovec *iov)
{
	struct nbd_op *op = c->rx;

	if (!op || !op->buf)
		return false;	/* none, or one that is skipped */
	*iov = (struct iovec){ op->buf + op->got, op->q.length - op->got };
	return true;
}

void nbd_payload_got(struct nbd_client *c, size_t n)
{
	ASSERT(n <= c->rx->q.length - c->rx->got);
	c->rx->got += (uint32_t)n;
	if (c->rx->got == c->rx->q.length)
		payload_done(c);
	else if (c->phase == NBD_TRANSMISSION)
		piece_start(c->rx);
}

/* Take payload out of the receive buffer: into the op's own, or nowhere. */
static void payload_copy(struct nbd_client *c)
{
	struct nbd_op *op = c->rx;
	size_t n = min_u64(c->rend - c->rpos, op->q.length - op->got);

	if (op->buf)
		memcpy(op->buf + op->got, c->rbuf + c->rpos, n);
	c->rpos += n;
	nbd_payload_got(c, n);
}

/* The next request of the receive buffer, which is whole: true if it was taken,
 * and its payload counted. */
static bool request_take(struct nbd_client *c, const struct nbd_export *x,
			 uint64_t *taken)
{
	struct nbd_request q;
	struct nbd_op *op;
	uint32_t room = 0;
	int err;

	if (!nbd_request_get(&q, c->rbuf + c->rpos)) {
		nbd_client_drop(c, "that is no request of the protocol");
		return false;
	}
	if (nbd_request_payload(&q) > NBD_PAYLOAD_CUT) {
		nbd_client_drop(c, "a write of more than 64 MiB");
		return false;
	}
	if (q.type == NBD_CMD_DISC) {
		nbd_client_enter(c, NBD_CLOSING);
		return false;
	}
	err = c->phase == NBD_LEAVING ? -ESHUTDOWN :
		nbd_request_check(&q, x, c->neg.structured, c->neg.meta);
	if (!err)
		room = buffer_for(&q);
	if (room && c->charged + nbd_buf_size(room) > NBD_CHARGE_MAX)
		c->choked = true;	/* I3 */
	op = c->choked ? NULL : op_get(c);
	if (!op) {
		c->choked = true;
		return false;
	}

	op->q = q;
	op->got = op->begun = 0;
	op->inflight = op->pieces = 0;
	op->room = room;
	op->buf = room ? nbd_buf_get(&c->s->bufs, room) : NULL;
	if (room && !op->buf)
		err = -ENOMEM;
	else if (room)
		c->charged += nbd_buf_size(room);
	op->err = err;
	c->rpos += NBD_REQUEST_LEN;
	c->requests++;
	*taken += room;
	if (nbd_request_payload(&q)) {
		c->bulk = q.length >= NBD_BULK;
		c->rx = op;
	} else if (err) {
		request_answer(op, err);
	} else {
		request_start(op);
	}
	return true;
}

void nbd_requests(struct nbd_client *c)
{
	struct nbd_export x;
	uint64_t taken = 0;

	nbd_export_now(c->s, &x);
	c->choked = false;
	while (c->phase == NBD_LEAVING ||
	       (c->phase == NBD_TRANSMISSION && !c->held)) {
		if (c->rx && c->rpos < c->rend) {
			payload_copy(c);
			continue;
		}
		if (c->rx || c->rend - c->rpos < NBD_REQUEST_LEN)
			break;
		/* Big requests go by a few at a time: the client takes the first
		 * answer while we work on the next. */
		c->paced = taken >= NBD_PASS;
		if (c->paced || !request_take(c, &x, &taken))
			break;
	}
}
