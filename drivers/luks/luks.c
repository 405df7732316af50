/* luks.c - an encrypted disk in a raw file: a LUKS header, then the data.
 *
 * Image name: luks:/path
 *
 * Reads are decrypted where they have arrived.  Writes are encrypted in buffers of
 * our own, for what the guest writes must stay what it is; there are so many
 * buffers and no more, and requests wait for them in the order they came.  What is
 * large is encrypted by workers.
 *
 * The file has no notion of zeroes: what was never written, or was discarded, reads
 * as what its bytes decrypt to.  So zeroes are written out, encrypted (the core
 * does it), and every range is data.
 *
 * I1  A write is in `ranges` from before its first byte is read or written until
 *     its last has been written; one that has a part of an encrypted sector is
 *     there exclusively.
 * I2  Who holds a buffer gets a request of `pool`: there are as many.
 */
#include "luks/luks_priv.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "td_driver.h"

static struct luks_req *request(struct td_node *n, struct td_req *r)
{
	struct luks_req *q = td_ctx(n, r);

	q->l = n->priv;
	q->r = r;
	q->err = 0;
	return q;
}

/* Reads, where they are. */

static void decrypt(struct worker_job *j)
{
	struct luks_req *q = container_of(j, struct luks_req, job);
	const struct td_req *r = q->r;
	uint64_t off = r->offset;

	for (unsigned i = 0; i < r->iovcnt && !q->err; i++) {
		q->err = crypt_sectors(q->l->crypt, false, r->iov[i].iov_base,
				       r->iov[i].iov_len, luks_number(q->l, off));
		off += r->iov[i].iov_len;
	}
}

static void decrypted(struct worker_job *j)
{
	struct luks_req *q = container_of(j, struct luks_req, job);

	td_complete(q->r, q->err);
}

static void read_done(struct td_req *r, int err)
{
	struct luks_req *q = td_ctx(r->node, r);

	r->offset -= q->l->info.payload;
	if (err) {
		td_complete(r, err);
		return;
	}
	q->job.run = decrypt;
	q->job.done = decrypted;
	if (r->length > LUKS_INLINE) {
		q->l->by_worker++;
		worker_submit(q->l->node->env->workers, &q->job);
	} else {
		decrypt(&q->job);
		td_complete(r, q->err);
	}
}

static bool whole_sectors(const struct luks *l, const struct td_req *r)
{
	uint64_t all = r->offset;

	for (unsigned i = 0; i < r->iovcnt; i++)
		all |= r->iov[i].iov_len;
	return is_aligned(all, l->sector);
}

static void start_read(struct td_node *n, struct td_req *r)
{
	struct luks *l = n->priv;

	if (!whole_sectors(l, r)) {
		luks_chunks(l, r);
		return;
	}
	request(n, r);
	r->offset += l->info.payload;
	td_pass(n, r, read_done);
}

/* Discard: whole encrypted sectors alone, for a part of one would take the rest
 * of it along. */

static void discard_done(struct td_req *r, int err)
{
	struct td_node *n = r->node;
	struct luks_req *q = td_ctx(n, r);

	r->offset = q->pos;
	r->length = q->end;
	if (err == -EOPNOTSUPP)
		td_set_caps(n, n->caps & ~(uint32_t)TD_CAP_DISCARD);
	td_complete(r, err);
}

static void start_discard(struct td_node *n, struct td_req *r)
{
	struct luks_req *q = request(n, r);
	struct luks *l = q->l;
	uint64_t from = align_up(r->offset, l->sector);
	uint64_t to = align_down(r->offset + r->length, l->sector);

	if (from >= to) {
		td_complete(r, 0);
		return;
	}
	q->pos = r->offset;
	q->end = r->length;
	r->offset = from + l->info.payload;
	r->length = to - from;
	td_pass(n, r, discard_done);
}

static void luks_submit(struct td_node *n, struct td_req *r)
{
	switch (r->op) {
	case TD_OP_READ:
		start_read(n, r);
		break;
	case TD_OP_WRITE:
		luks_chunks(n->priv, r);
		break;
	case TD_OP_FLUSH:
		td_pass(n, r, td_complete);
		break;
	case TD_OP_DISCARD:
		start_discard(n, r);
		break;
	default:
		ASSERT(!"nothing else was declared");
	}
}

/* Open: the header and its keys, in a worker. */

static int header_read(void *arg, uint64_t off, void *buf, size_t len)
{
	return td_blocking_read(arg, off, buf, len);
}

static void run_open(struct worker_job *j)
{
	struct luks_req *q = container_of(j, struct luks_req, job);
	struct luks *l = q->l;
	const struct luks_io io = {
		.read = header_read, .arg = l->node->child,
		.bytes = l->node->child->size,
	};

	q->err = crypt_luks_open(&io, false, l->node->env, NULL, &l->info, &l->crypt,
				 l->why, sizeof(l->why));
}

/* The disk is what of the file is behind the header, or less if that says so. */
static void take_size(struct luks *l)
{
	const struct td_node *file = l->node->child;
	uint64_t bytes = l->info.length ? l->info.length :
			 file->size - l->info.payload;

	td_set_geometry(l->node, align_down(bytes, l->sector),
			file->phys > l->sector ? file->phys : l->sector);
}

static int make_ready(struct luks *l)
{
	const struct td_node *file = l->node->child;
	uint32_t caps = l->node->driver->caps & (file->caps | TD_CAP_FUA);

	l->sector = crypt_sector(l->crypt);
	l->pool = td_pool_new(BOUNCE_MAX + 1, luks_chunk_bytes());
	if (!l->pool || td_pool_bind(l->pool, l->node->tree)) {
		td_err(l->node, "cannot open %s: no memory", l->node->arg);
		return -ENOMEM;
	}
	l->grow = td_pool_get(l->pool);
	ranges_init(&l->ranges);
	bounce_init(&l->bounce, l->node->env->loop);
	take_size(l);
	if (l->info.length)
		caps &= ~(uint32_t)TD_CAP_RESIZE;
	td_set_caps(l->node, caps);
	return 0;
}

static void give_back(struct luks *l)
{
	if (l->grow)
		td_pool_put(l->pool, l->grow);
	if (l->pool)
		td_pool_free(l->pool);
	crypt_free(l->crypt);
}

static void opened(struct worker_job *j)
{
	struct luks_req *q = container_of(j, struct luks_req, job);
	struct luks *l = q->l;
	struct td_node *n = l->node;
	int err = q->err;

	if (err)
		td_err(n, "cannot open %s: %s", n->arg, l->why);
	else
		err = make_ready(l);
	if (err) {
		give_back(l);
	} else {
		if (l->info.note)
			td_warn(n, "%s: %s", n->arg, l->info.note);
		if (!is_aligned(l->info.payload, n->child->phys))
			td_warn(n, "%s: its data begin at %llu, in the middle of a "
				"block of %u bytes: writing is slow", n->arg,
				(unsigned long long)l->info.payload,
				n->child->phys);
	}
	td_complete(q->r, err);
}

static void luks_open(struct td_node *n, struct td_req *r)
{
	struct luks *l = n->priv;
	struct luks_req *q = request(n, r);

	*l = (struct luks){ .node = n };
	q->job.run = run_open;
	q->job.done = opened;
	worker_submit(n->env->workers, &q->job);
}

static void luks_close(struct td_node *n, struct td_req *r)
{
	struct luks *l = n->priv;

	ASSERT(list_empty(&l->ranges.all));
	bounce_free(&l->bounce);
	give_back(l);
	td_complete(r, 0);
}

/* Resize: the file is made longer.  What comes new is not zeroes. */

static void grown(struct td_req *grow, int err)
{
	struct td_req *r = grow->owner;
	struct luks *l = r->node->priv;

	if (!err)
		take_size(l);
	td_complete(r, err);
}

static void luks_resize(struct td_node *n, struct td_req *r)
{
	struct luks *l = n->priv;

	if (!is_aligned(r->length, l->sector) ||
	    r->length > INT64_MAX - l->info.payload) {
		td_err(n, "cannot resize %s: the size must be a multiple of %u",
		       n->arg, l->sector);
		td_complete(r, -EINVAL);
		return;
	}
	l->grow->length = r->length ? r->length + l->info.payload : 0;
	l->grow->done = grown;
	l->grow->owner = r;
	td_grow(n->child, l->grow);
}

static void luks_stats(struct td_node *n, struct json_t *into)
{
	const struct luks *l = n->priv;

	json_object_set_new(into, "luks_version", json_integer(l->info.version));
	json_object_set_new(into, "sector", json_integer(l->sector));
	json_object_set_new(into, "payload",
			    json_integer((json_int_t)l->info.payload));
	json_object_set_new(into, "by_worker",
			    json_integer((json_int_t)l->by_worker));
	json_object_set_new(into, "rmw", json_integer((json_int_t)l->rmw));
	json_object_set_new(into, "buffers", json_integer(l->bounce.made));
}

const struct td_driver td_luks = {
	.abi		= TD_DRIVER_ABI,
	.kind		= TD_FORMAT,
	.name		= "luks",
	.help		= "luks:/path  an encrypted raw file (LUKS1, LUKS2)",
	.caps		= TD_CAP_WRITE | TD_CAP_FLUSH | TD_CAP_FUA |
			  TD_CAP_DISCARD | TD_CAP_RESIZE,
	.node_ctx	= sizeof(struct luks),
	.req_ctx	= sizeof(struct luks_req),
	.exact_end	= true,
	.open		= luks_open,
	.submit		= luks_submit,
	.close		= luks_close,
	.resize		= luks_resize,
	.stats		= luks_stats,
};
