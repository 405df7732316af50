/* crash.h - power cuts and faults under a disk in an image: what the files of this
 * folder share.
 *
 *   main.c     options; the whole of a run
 *   load.c     random requests against a disk, with a model of it
 *   inspect.c  an image after a cut: opened, compared, checked, filled
 *   cuts.c     the cuts of a record
 *   faults.c   one fault after the other
 *   kills.c    the process dies, again and again
 */
#ifndef CRASH_H
#define CRASH_H

#include "disk_model.h"
#include "drv_rig.h"
#include "image_judge.h"
#include "mem_store.h"
#include "power_cut.h"

struct crash {
	/* As told. */
	const char *spec, *format, *image;
	uint64_t seed;
	unsigned ops, depth, cuts, judged, faults;
	unsigned kills, redo_bytes;
	bool lazy, pack, grow, shrink, cut_only, verbose;
	unsigned lose;			/* one flush of so many is not one */
	const struct td_secret *secret;
	const char *key_path, *crypt;

	struct rig g;
	struct mem_image start[MEM_FILES];	/* the files at first */
	const char *path[MEM_FILES];
	unsigned files;
	unsigned char *initial;		/* the disk at first */
	uint64_t bytes;

	uint64_t random;
	unsigned wrong;			/* faults found */
	unsigned states, opened, checked, filled, deepest;
	uint64_t *seen;			/* hashes of states looked at */
	size_t n_seen;
	uint64_t *judged_ok;		/* and of files that qemu-img saw */
	size_t n_judged;
};

uint64_t crash_random(struct crash *c, uint64_t n);	/* below n */
/* One more fault found: told with the seed and where. */
void crash_wrong(struct crash *c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* A store of these files, from now on under what is opened. */
void crash_store(struct crash *c, struct mem_store *m, const struct mem_image *files);

/* load.c */
struct load {
	struct crash *c;
	struct mem_store *m;		/* its clock */
	struct disk_model *model;
	unsigned ops;
	bool may_fail;			/* errors are no fault */
	bool no_read;			/* writes alone, of the whole disk once */
	bool no_flush;			/* and nothing that is durable at once */

	/* What came of it, and what load.c needs. */
	unsigned errors;		/* answers that were none of success */
	unsigned started, inflight;
	uint64_t at, hot;
	bool idle;
	struct list tickets;		/* not answered yet */
};
void load_run(struct load *l);
/* Whoever was to answer is gone. */
void load_abandon(struct load *l);

/* inspect.c */
/* Files after a cut at this time (MEM_NEVER: none, all of the model is there).
 * deep: also written all over and checked by qemu-img. */
void inspect(struct crash *c, const struct mem_image *files,
	     struct disk_model *model, uint64_t cut, bool deep, const char *what);

/* Files as they are, of a disk that is open: damaged they must not be. */
void inspect_files(struct crash *c, const struct mem_store *m, const char *what);
/* The open disk holds what the model says. */
void inspect_disk(struct crash *c, struct mem_store *m, struct disk_model *model,
		  const char *what);

/* The closed image by another program: it must read what the model holds. */
void inspect_as_qemu_reads(struct crash *c, const struct mem_image *files,
			   struct disk_model *model);

/* cuts.c */
void cuts_run(struct crash *c, const struct mem_store *m, struct disk_model *model);

/* A cut at this moment, or before (cut: forward only), in every manner. */
void cuts_at(struct crash *c, struct power_cut *cut, struct disk_model *model,
	     uint64_t at, unsigned n);

/* faults.c */
void faults_run(struct crash *c);

/* kills.c */
void kills_run(struct crash *c);

#endif
