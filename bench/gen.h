/* gen.h - a lean load generator: what its back ends give it.
 *
 * A slot is a request that can be in flight, with a buffer of its own.  All
 * back ends are driven alike, so that a ratio of two of them compares what lies
 * behind them and not their clients.
 */
#ifndef GEN_H
#define GEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GEN_DEPTH_MAX 512u

struct gen_opts {
	const char *path;
	bool write;
	size_t bs;
	unsigned depth;
	uint64_t poll_ns;	/* the client spins so long before it sleeps */
	unsigned abi;		/* ring */
};

struct gen_backend {
	const char *name;
	/* size: bytes of the disk.  0 or -errno. */
	int (*open)(const struct gen_opts *o, uint64_t *size);
	/* Queue a request for a slot; a slot is queued again only after wait()
	 * has returned it. */
	int (*queue)(unsigned slot, uint64_t offset);
	/* The same for a flush. */
	int (*flush)(unsigned slot);
	int (*submit)(void);
	/* At least one finished slot: how many are in slots[], or -errno. */
	int (*wait)(unsigned *slots, unsigned max);
	void (*close)(void);	/* nothing in flight */
};

extern const struct gen_backend gen_ring, gen_aio, gen_nbd;

/* One turn of a spin that began at `start`: like libtapring's, it yields after 20
 * us and then every 5, for the awaited may need this processor.  The time. */
uint64_t gen_spin(uint64_t start, uint64_t *yielded);

/* Memory for the slots' buffers, of bytes that do not compress. */
char *gen_buffers(const struct gen_opts *o);

#endif
