/* open.c - opening an image, and giving back all that was opened: a list of steps,
 * each of which may wait for a worker or for another file's tree.
 *
 *   format's open -> other files -> parent -> redo log -> format's opened
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/crypt.h"
#include "sparse/redo.h"
#include "sparse/sparse_priv.h"

static void free_all(struct sparse *s)
{
	redo_end(s);
	if (s->priv && s->format->free)
		s->format->free(s);
	table_free(s);
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

static void tree_closed(struct td_req *r, int err)
{
	struct sparse *s = r->owner;

	if (err && !s->ctl_err)
		s->ctl_err = err;
	life_close_trees(s);
}

static void close_tree(struct sparse *s, struct td_tree *t)
{
	s->sub = (struct td_req){ .done = tree_closed, .owner = s };
	td_tree_close(t, &s->sub);
}

void life_close_trees(struct sparse *s)
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
	life_close_trees(s);
}

void life_run_job(struct sparse *s, void (*run)(struct worker_job *j),
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

	s->ctl_err = redo_start(s);
	if (!s->ctl_err && s->format->opened)
		s->ctl_err = s->format->opened(s);
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
	n->whole = s->unit;
	td_complete(s->ctl, 0);
}

static void open_next(struct sparse *s);

/* However deep it lies, it is one backing file that has failed. */
static void backing_failed(const struct td_node *n, const char *why)
{
	static const char prefix[] = "backing file: ";

	if (!strncmp(why, prefix, sizeof(prefix) - 1))
		td_err_told(n, why);
	else
		td_err(n, "%s%s", prefix, why);
}

static void parent_opened(struct td_req *r, int err)
{
	struct sparse *s = r->owner;

	if (err) {
		backing_failed(s->node, td_tree_why(s->parent_tree));
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
		td_err_told(s->node, td_tree_why(f->tree));
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
	life_run_job(s, run_opened, opened);
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
	life_run_job(s, run_open, header_read);
}
