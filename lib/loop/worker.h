/* worker.h - threads for calls that block (fallocate, open, lseek) and for
 * heavy transforms.  Threads are made on demand, at most `max` at a time, and
 * leave when they have been idle for a second.
 *
 * A job's `run` is called in a worker and may touch only what the job owns; its
 * `done` is called from the loop.  Jobs start in the order given.
 */
#ifndef LOOP_WORKER_H
#define LOOP_WORKER_H

#include "base/list.h"

struct loop;
struct workers;

struct worker_job {
	struct list link;
	void (*run)(struct worker_job *j);
	void (*done)(struct worker_job *j);
};

struct workers *workers_new(struct loop *l, unsigned max); /* NULL and errno */
/* Waits for what runs; jobs must have completed. */
void workers_free(struct workers *w);
/* Always completes: if no thread can be had, `run` happens in the loop. */
void worker_submit(struct workers *w, struct worker_job *j);

#endif
