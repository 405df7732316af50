/* get.c - see get.h. */
#include "io/get.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "io/open.h"
#include "loop/worker.h"

struct get_job {
	struct worker_job job;
	char *path;
	unsigned how;
	struct td_file file;
	td_file_fn *fn;
	void *arg;
};

static void get_run(struct worker_job *j)
{
	struct get_job *g = container_of(j, struct get_job, job);
	bool direct;
	int fd = image_open(g->path, g->how, &direct, &g->file.why);

	g->file.fd = fd < 0 ? -1 : fd;
	g->file.err = fd < 0 ? fd : 0;
}

static void get_done(struct worker_job *j)
{
	struct get_job *g = container_of(j, struct get_job, job);

	g->fn(g->arg, &g->file);
	free(g->path);
	free(g);
}

void image_get(struct td_env *e, const char *path, unsigned flags, unsigned how,
	       td_file_fn *fn, void *arg)
{
	struct get_job *g = calloc(1, sizeof(*g));

	ASSERT(g);
	*g = (struct get_job){
		.job = { .run = get_run, .done = get_done },
		.path = strdup(path), .fn = fn, .arg = arg,
		.how = how | (flags & TD_NODE_RDONLY ? IMAGE_RDONLY : 0) |
		       (flags & TD_NODE_NO_DIRECT ? IMAGE_NO_DIRECT : 0),
	};
	ASSERT(g->path);
	worker_submit(e->workers, &g->job);
}
