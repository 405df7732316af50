/* pack.c - compressed clusters: read, unpacked by a worker, and kept for a while,
 * for whoever reads one part of a cluster mostly reads the next one too.
 *
 * I1  An entry belongs to a place in a file.  Who finds it being unpacked waits for
 *     it, and looks again.  When the place is dropped it is found no more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sparse/sparse_priv.h"

#define KEPT_BYTES (8u << 20)
#define KEPT_MIN 8u
#define KEPT_MAX 64u

enum kept_state { KEPT_FREE, KEPT_LOADING, KEPT_READY };

struct kept {
	struct list link;		/* pack_cache.all: the latest used last */
	struct sparse *s;
	enum kept_state state;
	bool dead;			/* not to be found */
	unsigned file;
	uint64_t host;
	uint32_t packed, there;		/* bytes: there are, in the file */
	uint32_t need;			/* bytes of the cluster that the disk has */
	int err;
	uint8_t *out, *in;
	struct list waiters;
	struct worker_job job;
};

struct pack_cache {
	struct list all;
	struct list waiters;		/* none is free */
	struct kept v[KEPT_MAX];
	unsigned n;
};

int pack_new(struct sparse *s)
{
	struct pack_cache *p = calloc(1, sizeof(*p));

	s->packs = p;
	if (!p)
		return -ENOMEM;
	list_init(&p->all);
	list_init(&p->waiters);
	p->n = (unsigned)min_u64(max_u64(KEPT_BYTES / s->cluster, KEPT_MIN), KEPT_MAX);
	for (unsigned i = 0; i < p->n; i++) {
		p->v[i].s = s;
		list_init(&p->v[i].waiters);
		list_add(&p->all, &p->v[i].link);
	}
	return 0;
}

void pack_free(struct sparse *s)
{
	if (!s->packs)
		return;
	for (unsigned i = 0; i < s->packs->n; i++) {
		free(s->packs->v[i].out);
		free(s->packs->v[i].in);
	}
	free(s->packs);
	s->packs = NULL;
}

void pack_forget(struct sparse *s, unsigned file, uint64_t host)
{
	struct pack_cache *p = s->packs;

	for (unsigned i = 0; i < p->n; i++) {
		struct kept *k = &p->v[i];

		if (k->state == KEPT_FREE || k->file != file || k->host != host)
			continue;
		if (k->state == KEPT_READY)
			k->state = KEPT_FREE;
		else
			k->dead = true;
	}
}

static struct kept *find(struct pack_cache *p, unsigned file, uint64_t host)
{
	for (unsigned i = 0; i < p->n; i++) {
		struct kept *k = &p->v[i];

		if (k->state != KEPT_FREE && !k->dead && k->host == host &&
		    k->file == file)
			return k;
	}
	return NULL;
}

static void unpacked(struct kept *k)
{
	struct sparse *s = k->s;

	free(k->in);
	k->in = NULL;
	/* An error is told to those who wait now. */
	k->state = k->dead ? KEPT_FREE : KEPT_READY;
	k->dead = false;
	tasks_wake(s, &k->waiters);
	tasks_wake(s, &s->packs->waiters);
}

static void unpack(struct worker_job *j)
{
	struct kept *k = container_of(j, struct kept, job);

	k->err = k->s->packer->unpack(k->in, k->there, k->out, k->s->cluster,
					 k->need);
}

static void unpack_done(struct worker_job *j)
{
	struct kept *k = container_of(j, struct kept, job);
	struct sparse *s = k->s;

	if (k->err && log_allowed(&s->limit))
		td_err(s->node, "the compressed cluster at %llu of %s cannot be unpacked: %s",
		       (unsigned long long)k->host, s->files[k->file].node->arg,
		       k->err == -EIO ? "it is damaged" : strerror(-k->err));
	unpacked(k);
}

static void read_done(struct child *c, int err)
{
	struct kept *k = c->owner;

	child_put(c);
	k->err = err;
	if (err) {
		unpacked(k);
		return;
	}
	k->job = (struct worker_job){ .run = unpack, .done = unpack_done };
	worker_submit(k->s->node->env->workers, &k->job);
}

/* 0: begun; SPARSE_WAIT: t waits; -errno. */
static int load(struct sparse *l, const struct sparse_extent *x, uint64_t pos,
		struct task *t)
{
	struct sparse_file *f = &l->files[x->file];
	struct kept *k = NULL;
	struct child *c;

	if (x->host >= f->node->size || !x->packed || x->packed > 2 * l->cluster + 1024)
		return sparse_corrupt(l, "compressed bytes at %llu of %s are not there",
				      (unsigned long long)x->host, f->node->arg);
	list_for_each(e, &l->packs->all) {
		k = container_of(e, struct kept, link);
		if (k->state != KEPT_LOADING)
			break;
		k = NULL;
	}
	if (!k) {
		task_wait(t, &l->packs->waiters);
		return SPARSE_WAIT;
	}
	c = child_get(l, t);
	if (!c)
		return SPARSE_WAIT;
	k->packed = x->packed;
	k->there = (uint32_t)min_u64(x->packed, f->node->size - x->host);
	k->need = (uint32_t)min_u64(l->cluster, l->size - cluster_down(l, pos));
	k->state = KEPT_FREE;
	if (!k->out)
		k->out = malloc(l->cluster);
	k->in = malloc(x->packed);
	if (!k->out || !k->in) {
		free(k->in);
		k->in = NULL;
		c->file = f;
		child_put(c);
		return -ENOMEM;
	}
	k->state = KEPT_LOADING;
	k->dead = false;
	k->file = x->file;
	k->host = x->host;
	k->err = 0;
	list_del(&k->link);
	list_add(&l->packs->all, &k->link);
	c->iov[0] = (struct iovec){ k->in, k->there };
	c->r->iovcnt = 1;
	child_submit(c, f, TD_OP_READ, x->host, k->there, read_done, k);
	task_wait(t, &k->waiters);
	return SPARSE_WAIT;
}

int pack_read(struct rd *q, struct sparse *l, const struct sparse_extent *x)
{
	struct kept *k = find(l->packs, x->file, x->host);
	uint64_t off = q->pos & (l->cluster - 1);

	if (!l->packer)
		return sparse_corrupt(l, "a compressed cluster where there can be none");
	if (!k)
		return load(l, x, q->pos, &q->task);
	if (k->state == KEPT_LOADING) {
		task_wait(&q->task, &k->waiters);
		return SPARSE_WAIT;
	}
	if (k->err) {
		int err = k->err;

		k->state = KEPT_FREE;
		return err;
	}
	ASSERT(off + x->length <= l->cluster);
	list_del(&k->link);
	list_add(&l->packs->all, &k->link);
	iov_fill(q->iov, q->iovcnt, q->pos - q->base, k->out + off, x->length);
	q->pos += x->length;
	q->layer = q->s;
	q->limit = q->end - q->pos;
	return 0;
}
