/* table.c - places for new tables: claimed, and made to read as zeroes, or as the
 * table that they replace, before anything points to them.
 *
 * Each has a record under the key that the format gave, so that all who need the
 * same missing table wait for one and the same.  Steps: place -> (copy, a piece
 * after the other | zero) -> ready, until the format has linked it.
 */
#include <errno.h>
#include <stdlib.h>

#include "sparse/sparse_priv.h"

#define COPY_MAX (256u << 10)

static struct making *find(struct sparse *s, unsigned file, uint64_t key, bool at)
{
	list_for_each(e, &s->making) {
		struct making *m = container_of(e, struct making, link);

		if (m->file == file && m->key == key && m->at == at)
			return m;
	}
	return NULL;
}

static void drop(struct making *m)
{
	list_del(&m->link);
	buf_put(m->s, m->buf, m->buf_len);
	tasks_wake(m->s, &m->waiters);
	free(m);
}

static void end(struct making *m, int err)
{
	m->err = err;
	m->ready = !err;
	buf_put(m->s, m->buf, m->buf_len);
	m->buf = NULL;
	tasks_wake(m->s, &m->waiters);
}

static void wrote(struct child *c, int err)
{
	struct making *m = c->owner;

	child_put(c);
	m->s->dep = true;
	m->pos += m->buf_len;
	if (err || m->pos >= m->len)
		end(m, err);
	else
		m->task.run(&m->task);
}

static void read_piece(struct child *c, int err)
{
	struct making *m = c->owner;

	if (err) {
		child_put(c);
		end(m, err);
		return;
	}
	c->iov[0] = (struct iovec){ m->buf, m->buf_len };
	c->r->iovcnt = 1;
	child_submit(c, &m->s->files[m->file], TD_OP_WRITE, m->host + m->pos,
		     m->buf_len, wrote, m);
}

static void zeroed(struct child *c, int err)
{
	struct making *m = c->owner;

	child_put(c);
	m->s->dep = true;
	end(m, err);
}

static void copy_piece(struct making *m)
{
	struct sparse *s = m->s;
	struct child *c;

	if (cache_dirty_in(s, m->file, m->copy_of, m->len)) {
		if (s->round.last_err && !s->round.running) {
			end(m, s->round.last_err);
			return;
		}
		round_start(s);
		task_wait(&m->task, &s->round.waiters);
		return;
	}
	if (!m->buf) {
		m->buf_len = min_u64(m->len, COPY_MAX);
		m->buf = buf_get(s, m->buf_len, &m->task);
		if (!m->buf)
			return;
	}
	c = child_get(s, &m->task);
	if (!c)
		return;
	m->buf_len = min_u64(m->buf_len, m->len - m->pos);
	c->iov[0] = (struct iovec){ m->buf, m->buf_len };
	c->r->iovcnt = 1;
	child_submit(c, &s->files[m->file], TD_OP_READ, m->copy_of + m->pos,
		     m->buf_len, read_piece, m);
}

static void make(struct task *t)
{
	struct making *m = container_of(t, struct making, task);
	struct sparse *s = m->s;
	struct run r = { 0 };
	struct child *c;
	int err = 0;

	if (!m->placed) {
		err = space_take_whole(s, m->file, m->len, t, &r);
		if (err == SPARSE_WAIT)
			return;
		if (err) {
			end(m, err);
			return;
		}
		m->placed = true;
		m->host = r.host;
		m->len = r.end - r.host;
		err = sparse_meta_add(s, m->file, m->host, m->len);
		cache_forget_range(s, m->file, m->host, m->len);
		if (err || (r.zero && !m->copy_of)) {
			end(m, err);
			return;
		}
	}
	if (m->copy_of) {
		copy_piece(m);
		return;
	}
	c = child_get(s, t);
	if (c)
		child_submit(c, &s->files[m->file], TD_OP_ZEROES, m->host, m->len,
			     zeroed, m);
}

static struct making *begin(struct sparse *s, unsigned file, uint64_t key,
			    uint64_t len, bool at)
{
	struct making *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->s = s;
	m->file = file;
	m->key = key;
	m->len = len;
	m->at = at;
	list_init(&m->waiters);
	task_init(&m->task, make);
	list_add(&s->making, &m->link);
	return m;
}

static int answer(struct making *m)
{
	int err = m->err;

	if (m->ready)
		return 0;
	if (err) {
		if (m->placed && !m->at) {
			struct run r = { m->host, m->host + m->len, false };

			sparse_meta_del(m->s, m->file, m->host, m->len);
			space_give(m->s, m->file, &r);
		}
		drop(m);
		return err;
	}
	/* Making it takes tickets: who waits for it must not have the last ones. */
	cache_release(m->s->now);
	task_wait(m->s->now, &m->waiters);
	return SPARSE_WAIT;
}

int sparse_table(struct sparse *s, unsigned file, uint64_t key, uint64_t len,
		 uint64_t copy_of, uint64_t *host)
{
	struct making *m = find(s, file, key, false);
	int err;

	if (s->corrupt)
		return -EIO;
	if (!m) {
		m = begin(s, file, key, len, false);
		if (!m)
			return -ENOMEM;
		m->copy_of = copy_of;
		task_ready(s, &m->task);
	}
	err = answer(m);
	if (!err)
		*host = m->host;
	return err;
}

void sparse_table_done(struct sparse *s, unsigned file, uint64_t key)
{
	struct making *m = find(s, file, key, false);

	ASSERT(m && m->ready);
	drop(m);
}

int sparse_table_at(struct sparse *s, unsigned file, uint64_t host, uint64_t len)
{
	const struct run *run = &s->files[file].space.want;
	struct making *m = find(s, file, host, true);
	int err;

	ASSERT(host >= run->host && host + len <= run->end);
	if (m)
		return answer(m);
	if (run->zero && meta_hit(s, file, host, len))
		return 0;		/* asked again: its slices are in the cache */
	err = sparse_meta_add(s, file, host, len);
	if (err)
		return err;
	/* Once: what the slot has read there in the meantime is to stay. */
	cache_forget_range(s, file, host, len);
	m = begin(s, file, host, len, true);
	if (!m)
		return -ENOMEM;
	m->placed = true;
	m->host = host;
	if (run->zero)
		m->ready = true;
	else
		task_ready(s, &m->task);
	return answer(m);
}

/* The claim is over: what it made is linked, or free space again. */
void table_forget(struct sparse *s, unsigned file)
{
	list_for_each_safe(e, &s->making) {
		struct making *m = container_of(e, struct making, link);

		if (m->at && m->file == file && (m->ready || m->err))
			drop(m);
	}
}

/* At the end: tables that nobody linked are claimed space. */
void table_free(struct sparse *s)
{
	list_for_each_safe(e, &s->making) {
		struct making *m = container_of(e, struct making, link);
		struct run r = { m->host, m->host + m->len, false };

		if (m->placed && !m->at) {
			sparse_meta_del(s, m->file, m->host, m->len);
			space_give(s, m->file, &r);
		}
		drop(m);
	}
}
