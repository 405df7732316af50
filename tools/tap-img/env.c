/* env.c - what drivers stand on in this program: one loop, one queue, workers. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/keys.h"
#include "base/log.h"
#include "io/get.h"
#include "io/io.h"
#include "io/open.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "tap_img.h"

#define QUEUE 128u
#define WORKERS_MIN 4u		/* some of them sleep in system calls */

struct env_opts env_opts;
static struct td_env env;
static struct keys keys;

static void file_get(struct td_env *e, const char *path, unsigned flags,
		     td_file_fn *fn, void *arg)
{
	bool look = env_opts.share && (flags & TD_NODE_RDONLY);

	image_get(e, path, flags, look ? IMAGE_NO_LOCK : 0, fn, arg);
}

static void on_signal(struct loop *l, int signo)
{
	(void)l;
	(void)signo;
	progress_signal();
}

int env_init(void)
{
	static const int signos[] = { SIGUSR1 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int err;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	env.loop = loop_new();
	if (!env.loop ||
	    loop_signals(env.loop, signos, ARRAY_SIZE(signos), on_signal)) {
		log_err("cannot make the event loop: %s", strerror(errno));
		return ST_FAILED;
	}
	loop_poll_max(env.loop, 0);
	err = io_queue_new(env.loop, QUEUE, &env.io);
	if (err) {
		log_err("cannot set up asynchronous I/O: %s (raise fs.aio-max-nr?)",
			strerror(-err));
		return ST_FAILED;
	}
	env.workers = workers_new(env.loop, cpus > (long)WORKERS_MIN ?
				  (unsigned)cpus : WORKERS_MIN);
	if (!env.workers) {
		log_err("cannot make workers: %s", strerror(errno));
		return ST_FAILED;
	}
	env.name = TAP_IMG;
	env.file_get = file_get;
	return ST_OK;
}

int env_key(const char *file, int fd)
{
	const char *why = NULL;
	int err = file ? keys_add_file(&keys, file, &why) : keys_add_fd(&keys, fd, &why);

	if (err && file)
		log_err("no key in %s: %s", file, why ? why : strerror(-err));
	else if (err)
		log_err("no key in descriptor %d: %s", fd, why ? why : strerror(-err));
	env.secrets = keys.v;
	env.n_secrets = keys.n;
	return err ? ST_FAILED : ST_OK;
}

int env_secret(const char *file, const void *data, size_t len)
{
	const char *why = NULL;
	int err, fd;

	if (file) {
		err = keys_add_exact(&keys, file, &why);
	} else {
		fd = memfd_create("key", MFD_CLOEXEC);
		err = fd < 0 ? -errno : write(fd, data, len) != (ssize_t)len ? -EIO :
		      keys_add_memfd(&keys, fd, &why);
		if (fd >= 0)
			close(fd);
	}
	if (err)
		log_err("no key in %s: %s", file ? file : "data=", why ? why :
			strerror(-err));
	env.secrets = keys.v;
	env.n_secrets = keys.n;
	return err ? ST_FAILED : ST_OK;
}

void env_swap_key(unsigned n)
{
	struct td_secret s = keys.v[0];

	ASSERT(n < KEYS_MAX);
	keys.v[0] = keys.v[n];
	keys.v[n] = s;
}

void env_free(void)
{
	keys_wipe(&keys);
	if (env.workers)
		workers_free(env.workers);
	if (env.io)
		io_queue_free(env.io);
	if (env.loop)
		loop_free(env.loop);
}

struct td_env *env_get(void)
{
	return &env;
}

void env_snapshot(const char *id)
{
	env.snapshot = id;
}

void env_wait(void)
{
	loop_run(env.loop);
}

static void slept(struct loop_timer *t)
{
	(void)t;
	env_wake();
}

void env_sleep(uint64_t ns)
{
	uint64_t end = clock_ns() + ns;
	struct loop_timer t;

	loop_timer_init(&t, slept);
	loop_timer_set(env.loop, &t, ns);
	while (loop_timer_is_set(&t) && clock_ns() < end)
		env_wait();
	loop_timer_clear(&t);
}

void env_wake(void)
{
	loop_stop(env.loop);
}
