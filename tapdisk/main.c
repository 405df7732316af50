/* main.c - one disk, one process: start-up, in the order that privileges allow.
 *
 *   1. open the pipes, the log and the event loop (needs root, names);
 *   2. sandbox_enter(): from here no file can be opened and no program run;
 *   3. the loop: messages, images, guests.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/keys.h"
#include "base/kill_point.h"
#include "base/log.h"
#include "base/opts.h"
#include "base/rundir.h"
#include "base/size.h"
#include "base/text.h"
#include "control.h"
#include "disk/disk.h"
#include "drivers.h"
#include "files.h"
#include "io/io.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "redo_file.h"
#include "ring/xen.h"
#include "sandbox.h"
#include "standalone.h"
#include "tap_proto.h"

#define WORKERS 4

enum {
	OPT_CONTROL = 300, OPT_FD, OPT_LOG, OPT_LOG_LEVEL, OPT_DEBUG, OPT_POLL,
	OPT_NO_SANDBOX, OPT_KILL_AT, OPT_FOREGROUND, OPT_FEATURES, OPT_BACKING,
	OPT_KEY_FILE, OPT_JOURNAL, OPT_REDO, OPT_RECOVER,
};

static const struct opt options[] = {
	{ OPT_CONTROL, "control", "N",
	  "serve blktapctrl through its pipes number N" },
	{ OPT_FD, "fd", "N", "with --control: the files socket, listening" },
	{ OPT_FOREGROUND, "foreground", NULL,
	  "serve one disk without blktapctrl; needs -m and -a" },
	{ 'm', "minor", "N", "with --foreground: the number of the sockets" },
	{ 'a', "image", "TYPE:/PATH", "with --foreground: the image" },
	{ OPT_BACKING, "backing", "SPEC", "with --foreground: what is below the "
	  "image, from the top down; none: nothing is" },
	{ OPT_KEY_FILE, "key-file", "FILE", "with --foreground: a key of the image "
	  "is in FILE (-: standard input)" },
	{ OPT_JOURNAL, "journal", "FILE", "with --foreground: record what ring clients "
	  "have in flight" },
	{ OPT_REDO, "redo", "FILE", "with --foreground: keep what an image's tables have "
	  "and its file has not" },
	{ OPT_RECOVER, "recover", NULL, "with --foreground: go on where a process that "
	  "died has left off" },
	{ 'R', "read-only", NULL, "with --foreground: read-only" },
	{ 'D', "no-direct", NULL, "with --foreground: through the page cache" },
	{ OPT_POLL, "poll-us", "N",
	  "poll for at most N us before sleeping (0: never; default 50)" },
	{ OPT_LOG, "log", "stderr|syslog", "where messages go (stderr)" },
	{ OPT_LOG_LEVEL, "log-level", "LEVEL", "err, warn, info or debug (info)" },
	{ OPT_DEBUG, "debug", "AREAS",
	  "debug messages of: loop io node disk ring nbd ctl all" },
	{ OPT_NO_SANDBOX, "no-sandbox", NULL,
	  "keep privileges and system calls (debuggers, sanitizers)" },
	{ OPT_KILL_AT, "kill-at", "POINT[:N]",
	  "for tests: die at the Nth pass of a kill point" },
	{ OPT_FEATURES, "features", NULL, "list drivers and features, and exit" },
	OPT_COMMON,
	OPT_END
};

struct config {
	const char *rundir, *image, *debug, *journal, *redo;
	char spec[TAP_TEXT_MAX + 1];	/* the image and what is below it */
	char below[TAP_TEXT_MAX + 1];
	uint64_t control, fd, minor, poll_us;
	bool has_control, has_fd, has_minor, foreground, no_sandbox, recover;
	unsigned flags;
	enum log_to log;
	enum log_level level;
};

struct tapdisk {
	struct loop *loop;
	struct io_queue *io;
	struct workers *workers;
	struct td_env env;
	struct disk *disk;
	struct keys keys;		/* with --foreground */
	struct control *control;	/* or: */
	struct standalone *alone;
	struct redo_file redo;		/* of that one */
	bool quitting;
	int status;
};

static struct tapdisk self;	/* for signals, which carry no argument */

static void usage(FILE *to)
{
	fprintf(to, "usage: tapdisk --control N --fd N [OPTIONS]\n"
		"       tapdisk --foreground -m N -a TYPE:/PATH [OPTIONS]\n\n"
		"Serves one disk from an image; usually started by blktapctrl(8).\n\n");
	opts_help(options, to);
}

static void features(void)
{
	static const char *const caps[] = {
		"write", "flush", "fua", "discard", "zeroes", "fast-zero",
		"extents", "resize",
	};

	printf("version %s\n", BLKTAP_VERSION);
	printf("rings native x86_32 x86_64 indirect multi-page multi-queue\n");
	printf("exports ring nbd\n");
	printf("%s\n", xen_built_in ? "xen vbd" : "built without Xen");
	for (const struct td_driver *const *d = td_drivers; *d; d++) {
		printf("%s %s", (*d)->kind == TD_FILTER ? "filter" : "type",
		       (*d)->name);
		for (const char *const *a = (*d)->aliases; a && *a; a++)
			printf(",%s", *a);
		for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
			if ((*d)->caps & (1u << i))
				printf(" %s", caps[i]);
		printf("  # %s\n", (*d)->help);
	}
}

/* A number option; says what is wrong. */
static bool number(const struct opts *o, const char *name, uint64_t max,
		   uint64_t *v)
{
	if (!uint_parse(o->value, max, v))
		return true;
	fprintf(stderr, "tapdisk: --%s wants a number up to %llu, not '%s'\n", name,
		(unsigned long long)max, o->value);
	return false;
}

/* --key-file; -1 or the exit status, as below. */
static int add_key(const char *file)
{
	const char *why;
	int err = keys_add_file(&self.keys, file, &why);

	if (!err)
		return -1;
	fprintf(stderr, "tapdisk: no key in %s: %s\n", file,
		why ? why : strerror(-err));
	return 2;
}

/* --backing; -1 or the exit status, as below. */
static int add_below(struct config *c, const char *spec)
{
	size_t len = strlen(c->below), room = sizeof(c->below) - len;
	bool none = !strcmp(spec, "none");

	if (*spec && !strchr(spec, '\n') && (!none || !len) &&
	    (!len || c->below[len - 1] != '\n') &&
	    snprintf(c->below + len, room, "\n%s", none ? "" : spec) < (int)room)
		return -1;
	fprintf(stderr, "tapdisk: bad --backing '%s': want TYPE:/PATH, or none "
		"alone\n", spec);
	return 2;
}

/* -1: go on; otherwise the exit status. */
static int one_option(int id, const struct opts *o, struct config *c)
{
	switch (id) {
	case OPT_RUNDIR:
		c->rundir = o->value;
		return -1;
	case OPT_CONTROL:
		c->has_control = true;
		return number(o, "control", INT32_MAX, &c->control) ? -1 : 2;
	case OPT_FD:
		c->has_fd = true;
		return number(o, "fd", INT32_MAX, &c->fd) ? -1 : 2;
	case OPT_FOREGROUND:
		c->foreground = true;
		return -1;
	case 'm':
		c->has_minor = true;
		return number(o, "minor", INT32_MAX, &c->minor) ? -1 : 2;
	case 'a':
		c->image = o->value;
		return -1;
	case OPT_KEY_FILE:
		return add_key(o->value);
	case OPT_BACKING:
		return add_below(c, o->value);
	case OPT_JOURNAL:
		c->journal = o->value;
		return -1;
	case OPT_REDO:
		c->redo = o->value;
		return -1;
	case OPT_RECOVER:
		c->recover = true;
		return -1;
	case 'R':
		c->flags |= TD_NODE_RDONLY;
		return -1;
	case 'D':
		c->flags |= TD_NODE_NO_DIRECT;
		return -1;
	case OPT_POLL:
		return number(o, "poll-us", 1000000, &c->poll_us) ? -1 : 2;
	case OPT_LOG:
		if (log_parse_to(o->value, &c->log))
			return -1;
		break;
	case OPT_LOG_LEVEL:
		if (log_parse_level(o->value, &c->level))
			return -1;
		break;
	case OPT_DEBUG:
		if (!log_areas_set(o->value))
			return -1;
		break;
	case OPT_KILL_AT:
		if (!kill_point_arm(o->value))
			return -1;
		break;
	case OPT_NO_SANDBOX:
		c->no_sandbox = true;
		return -1;
	case OPT_FEATURES:
		features();
		return 0;
	case OPT_HELP:
		usage(stdout);
		return 0;
	case OPT_VERSION:
		printf("tapdisk %s\n", BLKTAP_VERSION);
		return 0;
	default:
		return 2;
	}
	fprintf(stderr, "tapdisk: bad value '%s'; see 'tapdisk --help'\n", o->value);
	return 2;
}

static int parse(int argc, char **argv, struct config *c)
{
	struct opts o;
	int id, status = -1, err;

	opts_init(&o, options, "tapdisk", argc, argv);
	while (status < 0 && (id = opts_next(&o)) != OPT_DONE)
		status = one_option(id, &o, c);
	if (status < 0 && o.next < argc) {
		fprintf(stderr, "tapdisk: what is '%s'? see 'tapdisk --help'\n",
			argv[o.next]);
		status = 2;
	}
	opts_free(&o);
	if (status >= 0)
		return status;
	err = rundir_set(c->rundir);
	if (err) {
		fprintf(stderr, "tapdisk: bad run directory: want an absolute path of "
			"at most %d bytes\n", RUNDIR_MAX);
		return 2;
	}
	if (c->foreground ? !(c->has_minor && c->image) :
	    !(c->has_control && c->has_fd)) {
		usage(stderr);
		return 2;
	}
	if (c->foreground && strchr(c->image, '\n')) {
		fprintf(stderr, "tapdisk: the name of an image has a newline in it\n");
		return 2;
	}
	if (c->foreground && snprintf(c->spec, sizeof(c->spec), "%s%s", c->image,
				      c->below) >= (int)sizeof(c->spec)) {
		fprintf(stderr, "tapdisk: the names of the image and of what is below "
			"it have more than %u bytes\n", TAP_TEXT_MAX);
		return 2;
	}
	return -1;
}

/* Signals. */

static void closed(void *arg, int err, const char *why)
{
	(void)arg;
	if (err) {
		log_err("closing failed: %s", *why ? why : strerror(-err));
		self.status = 1;
	}
	loop_stop(self.loop);
}

static void on_signal(struct loop *l, int signo)
{
	if (signo == SIGUSR1) {
		disk_dump(self.disk);
		return;
	}
	if (self.control) {
		control_quit(self.control);
	} else if (self.quitting || disk_state(self.disk) != DISK_RUNNING) {
		loop_stop(l);
	} else {
		self.quitting = true;
		disk_close(self.disk, closed, NULL);
	}
}

/* Start-up. */

static void control_file_get(struct td_env *e, const char *path, unsigned flags,
			     td_file_fn *fn, void *arg)
{
	(void)e;
	files_get(control_files(self.control), path, flags, fn, arg);
}

static void key_found(struct td_env *e, const struct td_secret *key)
{
	(void)e;
	control_key_found(self.control, key);
}

static int open_pipe(enum run_name what, int n, int flags)
{
	char path[256];
	struct stat st;
	int fd;

	run_path(what, n, path, sizeof(path));
	fd = open(path, flags | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		log_err("cannot open %s: %s", path, strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) || !S_ISFIFO(st.st_mode)) {
		log_err("%s is not a pipe", path);
		close(fd);
		return -1;
	}
	return fd;
}

static int start_control(const struct config *c)
{
	struct control_fds fds = {
		.pipe_in = open_pipe(RUN_PIPE_WRITE, (int)c->control, O_RDONLY),
		.pipe_out = open_pipe(RUN_PIPE_READ, (int)c->control, O_WRONLY),
		.files = (int)c->fd,
	};

	if (fds.pipe_in < 0 || fds.pipe_out < 0)
		return -1;
	fcntl(fds.files, F_SETFD, FD_CLOEXEC);
	self.control = control_new(self.loop, self.disk, &fds, geteuid());
	if (!self.control) {
		log_err("cannot serve blktapctrl: %s", strerror(errno));
		return -1;
	}
	self.env.file_get = control_file_get;
	self.env.key_found = key_found;
	/* From here on a daemon that comes later finds us. */
	return prctl(PR_SET_PDEATHSIG, 0) ? -1 : 0;
}

static void opened(void *arg, int err, const char *why)
{
	const struct config *c = arg;
	char text[TEXT_SHORT + 1];

	text_spec(c->spec, text);
	if (err) {
		log_err("cannot open %s: %s", text, *why ? why : strerror(-err));
		self.status = 1;
		loop_stop(self.loop);
		return;
	}
	log_name("%llu %s", (unsigned long long)c->minor, text);
	log_info("serving %llu bytes", (unsigned long long)disk_size(self.disk));
}

static int start(struct config *c)
{
	static const int signos[] = { SIGTERM, SIGINT, SIGUSR1 };
	int err;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* a full quota is an error of a write */
	self.loop = loop_new();
	if (!self.loop || loop_signals(self.loop, signos, ARRAY_SIZE(signos),
				       on_signal)) {
		log_err("cannot make the event loop: %s", strerror(errno));
		return -1;
	}
	loop_poll_max(self.loop, c->poll_us * NS_PER_US);
	err = io_queue_new(self.loop, io_depth_fair(), &self.io);
	if (err) {
		log_err("cannot set up asynchronous I/O: %s (raise fs.aio-max-nr?)",
			strerror(-err));
		return -1;
	}
	self.workers = workers_new(self.loop, WORKERS);
	if (!self.workers)
		return -1;
	self.env = (struct td_env){
		.loop = self.loop, .io = self.io, .workers = self.workers,
		.name = "tapdisk", .secrets = self.keys.v, .n_secrets = self.keys.n,
		.file_get = standalone_file_get,
	};
	self.disk = disk_new(&self.env);
	if (!self.disk)
		return -1;
	if (!c->foreground)
		return start_control(c);
	redo_file_init(&self.redo, &self.env);
	if (c->redo && redo_file_open(&self.redo, c->redo, c->recover))
		return -1;
	if (standalone_new(self.loop, self.disk, (unsigned)c->minor, c->journal,
			   c->recover, &self.alone))
		return -1;
	disk_open(self.disk, c->spec, c->flags, opened, c);
	return 0;
}

/* What is closed is freed; a disk that was cut short ends with the process. */
static void finish(void)
{
	if (disk_state(self.disk) != DISK_CLOSED)
		return;
	if (self.control)
		control_free(self.control);
	if (self.alone) {
		standalone_free(self.alone);
		redo_file_free(&self.redo);
	}
	disk_free(self.disk);
	keys_wipe(&self.keys);
	workers_free(self.workers);
	io_queue_free(self.io);
	xen_host_close();
	loop_free(self.loop);
}

int main(int argc, char **argv)
{
	struct config c = { .poll_us = 50, .log = LOG_TO_STDERR,
			    .level = LOG_LVL_INFO };
	struct sandbox_ioctl xen[XEN_IOCTLS];
	int status, err;

	status = parse(argc, argv, &c);
	if (status >= 0)
		return status;
	log_open(c.log, "tapdisk", c.level);
	for (const struct td_driver *const *d = td_drivers; *d; d++)
		ASSERT(!td_driver_check(*d));
	if (!c.foreground)
		xen_host_open();
	if (start(&c))
		return 1;
	/* A disk without blktapctrl opens its files itself. */
	if (!c.no_sandbox && !c.foreground) {
		err = sandbox_enter(xen, xen_host_ioctls(xen));
		if (err) {
			log_err("cannot give up privileges: %s", strerror(-err));
			return 1;
		}
	}
	if (!self.status)	/* an image that could not be opened at once */
		loop_run(self.loop);
	finish();
	return self.status;
}
