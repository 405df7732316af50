/* life.c - open, close and resize: lists of steps, each of which may wait for a
 * worker, for another file's tree, or for a round.
 *
 *   open    format's open -> other files -> parent -> format's opened
 *   close   round, drops, what is left over, round -> format's close -> trees
 *   resize  requests are held, drain, round -> format's resize -> zeroes over what
 *           the parent would show, round -> format's resized -> they go on
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypt.h"
#include "sparse/sparse_priv.h"

/* --- what blocking slots ask --- */

void sparse_geometry(struct sparse *s, uint64_t size, uint32_t cluster,
		     uint32_t unit)
{
	ASSERT(is_aligned(size, 512) && is_pow2(cluster) && is_pow2(unit) &&
	       unit >= 512 && unit <= cluster && cluster <= SPARSE_CLUSTER_MAX);
	ASSERT(!s->meta.blocks.live || cluster == s->cluster);
	s->size = size;
	s->cluster = cluster;
	s->unit = unit;
}

void sparse_packing(struct sparse *s, const struct sparse_packer *p)
{
	s->packer = p;
}

void sparse_cipher(struct sparse *s, struct crypt *c, bool by_host)
{
	s->crypt = c;
	s->crypt_by_host = by_host;
}

void sparse_appends(struct sparse *s, unsigned file, uint64_t end)
{
	struct space *sp = &s->files[file].space;

	sp->appends = true;
	sp->end = max_u64(sp->end, cluster_up(s, end));
}

struct td_node *sparse_parent(const struct sparse *s)
{
	return s->parent;
}

/* A name in the image, as an absolute path; NULL after td_err(). */
static char *path_of(struct sparse *s, const char *name)
{
	const char *own = s->node->arg, *slash = strrchr(own, '/');
	int dir = slash ? (int)(slash - own) + 1 : 0;
	char *path = NULL;

	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f) {
			td_err(s->node, "%s names a file with control characters",
			       own);
			return NULL;
		}
	}
	if (!*name || !strncmp(name, "json:", 5) || strstr(name, "://")) {
		td_err(s->node, "%s names '%.80s', which is not a path", own, name);
		return NULL;
	}
	if (asprintf(&path, "%.*s%s", *name == '/' ? 0 : dir, own, name) < 0) {
		td_err(s->node, "no memory for a file's name");
		return NULL;
	}
	return path;
}

int sparse_want_file(struct sparse *s, const char *name, bool rdonly, unsigned *file)
{
	struct sparse_file *f;

	if (s->n_files == SPARSE_FILES) {
		td_err(s->node, "%s has more than %u files", s->node->arg,
		       SPARSE_FILES);
		return -EMFILE;
	}
	f = realloc(s->files, (s->n_files + 1) * sizeof(*f));
	if (!f)
		return -ENOMEM;
	s->files = f;
	f += s->n_files;
	*f = (struct sparse_file){ .s = s, .rdonly = rdonly || s->rdonly };
	f->path = path_of(s, name);
	if (!f->path)
		return -EINVAL;
	*file = s->n_files++;
	return 0;
}

int sparse_want_parent(struct sparse *s, const char *type, const char *name)
{
	static const char *const types[][2] = {
		{ "raw", "aio" }, { "file", "aio" }, { "qcow2", "qcow2" },
		{ "qcow", "qcow" }, { "vmdk", "vmdk" }, { "luks", "luks" },
	};
	const char *chain = td_tree_chain(s->node->tree);
	char *path;

	if (chain && !*chain) {
		td_err(s->node, "%s has a backing file (%.80s), and none is given "
		       "for it", s->node->arg, name);
		return -EINVAL;
	}
	if (chain) {
		s->parent_spec = strdup(chain);
		return s->parent_spec ? 0 : -ENOMEM;
	}
	for (size_t i = 0; type && i < ARRAY_SIZE(types); i++) {
		if (strcmp(type, types[i][0]))
			continue;
		path = path_of(s, name);
		if (!path)
			return -EINVAL;
		if (asprintf(&s->parent_spec, "%s:%s", types[i][1], path) < 0)
			s->parent_spec = NULL;
		free(path);
		return s->parent_spec ? 0 : -ENOMEM;
	}
	td_err(s->node, "%s has a backing file (%.80s) %s%.20s: give the chain "
	       "explicitly (--backing TYPE:/path)", s->node->arg, name,
	       type ? "of the unknown type " : "and does not say of which type",
	       type ? type : "");
	return -EINVAL;
}

int sparse_pread(struct sparse *s, unsigned file, uint64_t off, void *buf, size_t len)
{
	return td_blocking_read(s->files[file].node, off, buf, len);
}

int sparse_pwrite(struct sparse *s, unsigned file, uint64_t off, const void *buf,
		  size_t len)
{
	struct td_node *n = s->files[file].node;
	int err = 0;

	if (len > UINT64_MAX - off)
		return -EFBIG;
	if (off + len > n->size)
		err = td_blocking_size(n, off + len);
	s->files[file].unsynced = true;
	return err ? err : td_blocking_write(n, off, buf, len);
}

int sparse_psync(struct sparse *s, unsigned file)
{
	return td_blocking_flush(s->files[file].node);
}

int sparse_psize(struct sparse *s, unsigned file, uint64_t size)
{
	return td_blocking_size(s->files[file].node, size);
}

/* --- open --- */

static void free_all(struct sparse *s)
{
	if (s->priv && s->format->free)
		s->format->free(s);
	for (unsigned i = 0; i < s->n_files; i++) {
		if (s->files[i].started)
			space_free(&s->files[i]);
		if (s->files[i].tree)
			td_tree_free(s->files[i].tree);
		free(s->files[i].path);
	}
	free(s->files);
	s->files = NULL;
	s->n_files = 0;
	if (s->parent_tree)
		td_tree_free(s->parent_tree);
	s->parent_tree = NULL;
	free(s->parent_spec);
	cache_free(s);
	child_free(s);
	fill_free(s);
	pack_free(s);
	meta_free(s);
	drop_free(s);
	round_free(s);
	crypt_free(s->crypt);
	free(s->priv);
	s->priv = NULL;
	loop_work_cancel(&s->work);
}

static void ctl_complete(struct sparse *s)
{
	struct td_req *r = s->ctl;
	int err = s->ctl_err;

	free_all(s);
	td_complete(r, err);
}

/* Close the trees that are open, from the last one on. */

static void close_trees(struct sparse *s);

static void tree_closed(struct td_req *r, int err)
{
	struct sparse *s = r->owner;

	if (err && !s->ctl_err)
		s->ctl_err = err;
	close_trees(s);
}

static void close_tree(struct sparse *s, struct td_tree *t)
{
	s->sub = (struct td_req){ .done = tree_closed, .owner = s };
	td_tree_close(t, &s->sub);
}

static void close_trees(struct sparse *s)
{
	if (s->parent) {
		s->parent = NULL;
		close_tree(s, s->parent_tree);
		return;
	}
	while (s->ctl_file > 1) {
		struct sparse_file *f = &s->files[--s->ctl_file];

		if (f->node) {
			f->node = NULL;
			close_tree(s, f->tree);
			return;
		}
	}
	ctl_complete(s);
}

static void open_failed(struct sparse *s, int err)
{
	s->ctl_err = err;
	s->ctl_file = s->n_files;
	close_trees(s);
}

static void run_job(struct sparse *s, void (*run)(struct worker_job *j),
		    void (*done)(struct worker_job *j))
{
	s->job.run = run;
	s->job.done = done;
	worker_submit(s->node->env->workers, &s->job);
}

/* The engine's parts, when all is known. */
static int start_engine(struct sparse *s)
{
	int err = cache_new(s);

	if (!err)
		err = child_new(s);
	if (!err)
		err = fill_new(s);
	if (!err)
		err = pack_new(s);
	return err;
}

static void run_opened(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	s->ctl_err = s->format->opened ? s->format->opened(s) : 0;
}

static uint32_t caps_of(const struct sparse *s)
{
	return SPARSE_CAPS & ~(s->format->resize ? 0u : TD_CAP_RESIZE);
}

static void opened(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);
	struct td_node *n = s->node;
	int err = s->ctl_err;

	if (!err)
		err = start_engine(s);
	if (err) {
		open_failed(s, err);
		return;
	}
	td_set_caps(n, caps_of(s));
	td_set_geometry(n, s->size, n->child->phys);
	td_complete(s->ctl, 0);
}

static void open_next(struct sparse *s);

static void parent_opened(struct td_req *r, int err)
{
	struct sparse *s = r->owner;

	if (err) {
		td_err(s->node, "backing file: %s", td_tree_why(s->parent_tree));
		open_failed(s, err);
		return;
	}
	s->parent = td_tree_root(s->parent_tree);
	s->parent_sparse = sparse_of(s->parent);
	open_next(s);
}

static void file_opened(struct td_req *r, int err)
{
	struct sparse *s = r->owner;
	struct sparse_file *f = &s->files[s->ctl_file];

	if (err) {
		td_err(s->node, "%s", td_tree_why(f->tree));
		open_failed(s, err);
		return;
	}
	f->node = td_tree_root(f->tree);
	s->ctl_file++;
	open_next(s);
}

static void open_tree(struct sparse *s, struct td_tree *t, td_done_fn *done)
{
	s->sub = (struct td_req){ .done = done, .owner = s };
	td_tree_open(t, &s->sub);
}

static void open_next(struct sparse *s)
{
	unsigned flags = s->node->flags;
	char why[160];
	int err;

	if (s->ctl_file < s->n_files) {
		struct sparse_file *f = &s->files[s->ctl_file];

		err = td_tree_store(s->node, f->path,
				    flags | (f->rdonly ? TD_NODE_RDONLY : 0), &f->tree);
		if (err)
			open_failed(s, err);
		else
			open_tree(s, f->tree, file_opened);
		return;
	}
	if (s->parent_spec && !s->parent_tree) {
		err = td_tree_below(s->node, s->parent_spec, flags | TD_NODE_RDONLY,
				    &s->parent_tree, why, sizeof(why));
		if (err) {
			td_err(s->node, "backing file: %s", why);
			s->parent_tree = NULL;
			open_failed(s, err);
		} else {
			open_tree(s, s->parent_tree, parent_opened);
		}
		return;
	}
	for (unsigned i = 0; i < s->n_files; i++) {
		space_init(&s->files[i]);
		s->files[i].started = true;
	}
	run_job(s, run_opened, opened);
}

static void run_open(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);
	const char *chain = td_tree_chain(s->node->tree);

	s->ctl_err = s->format->open(s);
	if (!s->ctl_err && chain && *chain && !s->parent_spec) {
		td_err(s->node, "%s has no backing file, but one is given for it",
		       s->node->arg);
		s->ctl_err = -EINVAL;
	}
}

static void header_read(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	s->ctl_file = 1;
	if (s->ctl_err)
		open_failed(s, s->ctl_err);
	else
		open_next(s);
}

void sparse_open(struct td_node *n, struct td_req *r, const struct sparse_format *f,
		 size_t priv_size)
{
	struct sparse *s = n->priv;

	s->node = n;
	s->format = f;
	s->rdonly = n->flags & TD_NODE_RDONLY;
	s->ctl = r;
	s->ctl_err = 0;
	engine_init(s);
	round_init(s);
	drop_init(s);
	s->priv = calloc(1, priv_size ? priv_size : 1);
	s->files = calloc(1, sizeof(*s->files));
	if (!s->priv || !s->files) {
		s->ctl_err = -ENOMEM;
		ctl_complete(s);
		return;
	}
	s->n_files = 1;
	s->files[0] = (struct sparse_file){ .s = s, .node = n->child,
					    .rdonly = s->rdonly };
	run_job(s, run_open, header_read);
}

/* --- close --- */

/* Each returns 0: on to the next; SPARSE_WAIT; -errno. */

static int settle(struct sparse *s, struct task *t)
{
	bool busy = s->n_running || s->first == FIRST_RUNS || s->marking;

	for (unsigned i = 0; i < s->n_files; i++) {
		struct space *sp = &s->files[i].space;

		if (sp->refilling) {
			task_wait(t, &sp->waiters);
			return SPARSE_WAIT;
		}
	}
	list_for_each(e, &s->making) {
		struct making *m = container_of(e, struct making, link);

		if (!m->ready && !m->err) {
			task_wait(t, &m->waiters);
			return SPARSE_WAIT;
		}
	}
	if (busy) {
		task_wait(t, s->first == FIRST_RUNS ? &s->first_wait :
			     &s->drain_wait);
		return SPARSE_WAIT;
	}
	return 0;
}

/* All is written, and all that was dropped is free. */
static int clean(struct sparse *s, struct task *t)
{
	int err = round_clean(s, t);

	if (err || drop_idle(s))
		return err;
	drop_check(s);
	if (!list_empty(&s->drop_task.link) || s->punching) {
		task_wait(t, &s->drain_wait);
	} else {
		round_start(s);		/* they wait for one more */
		task_wait(t, &s->round.waiters);
	}
	return SPARSE_WAIT;
}

static int give_back(struct sparse *s, struct task *t)
{
	while (s->ctl_file < s->n_files) {
		struct sparse_file *f = &s->files[s->ctl_file];
		uint64_t done = 0;
		int err;

		if (s->left.host == s->left.end && !space_leftover(f, &s->left)) {
			s->ctl_file++;
			continue;
		}
		done = s->left.end - s->left.host;
		if (s->format->claim && s->format->release) {
			slot_begin(s, t);
			err = slot_end(s, s->format->release(s, s->ctl_file,
							     s->left.host, done,
							     &done));
			if (err)
				return err;
		} else if (s->left.end == f->space.end) {
			f->space.end = s->left.host;
		}
		s->left.host += done;
	}
	return 0;
}

static int tables_left(struct sparse *s, struct task *t)
{
	(void)t;
	s->closing = true;
	table_free(s);
	s->ctl_file = 0;
	return 0;
}

static void run_close(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);
	int err = 0;

	for (unsigned i = 0; !err && i < s->n_files; i++) {
		struct sparse_file *f = &s->files[i];
		uint64_t end;

		if (!f->space.appends || f->rdonly || !sparse_grows(s, i))
			continue;
		end = space_trim(s, f);
		if (end < f->node->size)
			err = sparse_psize(s, i, end);
	}
	if (!err && s->format->close)
		err = s->format->close(s);
	for (unsigned i = 0; !err && i < s->n_files; i++)
		if (!s->files[i].rdonly)
			err = sparse_psync(s, i);
	if (err)
		s->ctl_err = err;
}

static void closed(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	s->ctl_file = s->n_files;
	close_trees(s);
}

/* Nothing of us is under way any more. */
static bool quiet(struct sparse *s, struct task *t)
{
	s->quitting = true;
	if (s->round.running) {
		task_wait(t, &s->round.waiters);
		return false;
	}
	if (!list_empty(&s->drop_task.link) || s->punching) {
		task_wait(t, &s->drain_wait);
		return false;
	}
	return true;
}

/* As it is: who opens it next finds space lost at worst. */
static void give_up(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);

	if (!quiet(s, t))
		return;
	s->ctl_file = s->n_files;
	close_trees(s);
}

static int (*const close_steps[])(struct sparse *s, struct task *t) = {
	clean, tables_left, give_back, clean,
};

static void close_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = settle(s, t);

	if (err)
		return;
	while (!err && s->ctl_step < ARRAY_SIZE(close_steps) &&
	       s->first == FIRST_DONE && !s->corrupt) {
		err = close_steps[s->ctl_step](s, t);
		s->ctl_step += !err;
	}
	if (err == SPARSE_WAIT)
		return;
	if (!err && s->ctl_step == ARRAY_SIZE(close_steps)) {
		run_job(s, run_close, closed);
		return;
	}
	if (err) {
		td_err(s->node, "cannot finish %s: %s", s->node->arg, strerror(-err));
		s->ctl_err = err;
	}
	t->run = give_up;
	give_up(t);
}

void sparse_close(struct td_node *n, struct td_req *r)
{
	struct sparse *s = n->priv;

	s->ctl = r;
	s->ctl_err = 0;
	s->ctl_step = 0;
	s->round.last_err = 0;		/* one more try */
	task_init(&s->ctl_task, close_run);
	close_run(&s->ctl_task);
}

/* --- resize --- */

static void run_resize(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	if (s->first != FIRST_DONE)
		s->ctl_err = first_write_now(s);
	if (s->ctl_err)
		return;
	s->first = FIRST_DONE;		/* all requests are held */
	s->ctl_err = s->format->resize(s, s->new_size);
}

static void resize_end(struct sparse *s, int err)
{
	struct td_req *r = s->ctl;

	if (err)
		td_err(s->node, "cannot resize %s: %s", s->node->arg,
		       err == -ERANGE ? "disks never shrink" : strerror(-err));
	engine_resume(s);
	td_complete(r, err);
}

static void resized(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	cache_forget(s);
	if (!s->ctl_err)
		td_set_geometry(s->node, s->size, s->node->phys);
	else if (s->size != s->old_size)
		s->size = s->old_size;
	resize_end(s, s->ctl_err);
}

static void run_resized(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	if (s->format->resized)
		s->ctl_err = s->format->resized(s);
}

static void grown_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = s->ctl_err ? s->ctl_err : clean(s, t);

	if (err == SPARSE_WAIT)
		return;
	s->ctl_err = err;
	if (err)
		resized(&s->job);
	else
		run_job(s, run_resized, resized);
}

static void zeroed(struct op *o, int err)
{
	struct sparse *s = o->s;

	s->ctl_err = err;
	s->ctl_task.run = grown_run;
	task_ready(s, &s->ctl_task);
}

/* The tables have room: what is behind the old end must not be the parent's. */
static void grown(struct worker_job *j)
{
	struct sparse *s = container_of(j, struct sparse, job);

	cache_forget(s);
	if (s->ctl_err || !s->parent || s->parent->size <= s->old_size) {
		s->ctl_task.run = grown_run;
		task_ready(s, &s->ctl_task);
		return;
	}
	s->own_req = (struct td_req){
		.op = TD_OP_ZEROES, .offset = s->old_size,
		.length = min_u64(s->size, s->parent->size) - s->old_size,
	};
	op_own(&s->own_op, s, &s->own_req, zeroed);
}

static void resize_run(struct task *t)
{
	struct sparse *s = container_of(t, struct sparse, ctl_task);
	int err = settle(s, t);

	if (!err)
		err = clean(s, t);
	if (err == SPARSE_WAIT)
		return;
	if (err) {
		resize_end(s, err);
		return;
	}
	s->ctl_err = 0;
	s->old_size = s->size;
	run_job(s, run_resize, grown);
}

void sparse_resize(struct td_node *n, struct td_req *r)
{
	struct sparse *s = n->priv;

	s->ctl = r;
	s->new_size = r->length;
	s->held = true;
	if (!r->length || r->length == s->size)
		resize_end(s, 0);
	else if (r->length < s->size)
		resize_end(s, -ERANGE);
	else if (!is_aligned(r->length, 512) || r->length > INT64_MAX)
		resize_end(s, -EINVAL);
	else if (s->rdonly || s->corrupt)
		resize_end(s, s->rdonly ? -EROFS : -EIO);
	else {
		task_init(&s->ctl_task, resize_run);
		resize_run(&s->ctl_task);
	}
}
