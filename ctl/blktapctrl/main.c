/* main.c - blktapctrl: options, start and end.
 *
 * Order: the run directory and its lock; the tapdisks of a dead daemon are
 * adopted; only then ctl.sock, READY and, unless in the foreground, the end of
 * the process that was started: who starts it learns every failure by its exit
 * status.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "adopt.h"
#include "base/bytes.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/opts.h"
#include "base/rundir.h"
#include "base/size.h"
#include "client.h"
#include "ctl.h"
#include "daemon.h"
#include "loop/loop.h"
#include "loop/worker.h"
#include "names.h"
#include "shutdown.h"
#include "xen/xen.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_RUNS = 3 };

#define WORKERS 16

struct ctl ctl = { .vdisks = LIST_INIT(ctl.vdisks) };

static struct {
	bool foreground, to_set;
	enum log_to to;
	enum log_level level;
	const char *level_text;
	int lock;
	int status;
	enum xen_use xen;
	bool xen_vbd;
} opt = { .level = LOG_LVL_INFO, .level_text = "info", .lock = -1 };

enum { O_FOREGROUND = 'f', O_LOG = 300, O_LEVEL, O_DEBUG, O_TAPDISK, O_ARG,
       O_POLL, O_IMAGE_DIR, O_XENSTORE, O_XEN_VBD,
       O_NO_RESTART };

static const struct opt table[] = {
	{ O_FOREGROUND, "foreground", NULL, "stay in front; log to stderr" },
	{ O_LOG, "log", "TARGET", "stderr or syslog" },
	{ O_LEVEL, "log-level", "LEVEL", "err, warn, info (default) or debug" },
	{ O_DEBUG, "debug", "AREAS", "debug areas: loop,io,node,disk,ring,nbd,ctl" },
	{ O_TAPDISK, "tapdisk", "PATH", "the tapdisk to start (default: beside "
	  "this program)" },
	{ O_ARG, "tapdisk-arg", "ARG", "one more argument of every tapdisk; may be "
	  "repeated" },
	{ O_POLL, "poll-us", "N", "tapdisks may poll for up to N microseconds" },
	{ O_IMAGE_DIR, "image-dir", "DIR", "images may name files in DIR, to read; "
	  "may be repeated" },
	{ O_XENSTORE, "xenstore", "WHEN", "serve Xen's guests: auto (default: if this "
	  "is a Xen host), on or off" },
	{ O_XEN_VBD, "xen-vbd", NULL, "serve backend/vbd too, where block-tap or "
	  "block-blktap made it" },
	{ O_NO_RESTART, "no-restart", NULL, "a tapdisk that dies is not replaced" },
	OPT_COMMON,
	OPT_END
};

static void usage(void)
{
	printf("usage: blktapctrl [OPTION]...\n"
	       "Start tapdisks, watch them and pass on what tap-ctl asks.\n\n");
	opts_help(table, stdout);
	printf("\nExit status: 0 ended or started, 1 failure, 2 usage, "
	       "3 a blktapctrl runs already.\n");
}

/* Also on the stderr of whoever started us. */
static int fail(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
static int fail(int code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "blktapctrl: %s\n", text);
	if (log_target() == LOG_TO_SYSLOG)
		log_err("%s", text);
	return code;
}

static char *tapdisk_args[128];
static unsigned n_args;

static void add_arg(const char *a)
{
	if (n_args < 100)
		tapdisk_args[n_args++] = (char *)(uintptr_t)a;
}

static void add_option(const char *name, const char *value)
{
	add_arg(name);
	add_arg(value);
}

#define IMAGE_DIRS_MAX 64
static const char *image_dirs[IMAGE_DIRS_MAX + 1];

static bool add_image_dir(const char *dir)
{
	static unsigned n;

	if (dir[strspn(dir, "/")] == '\0' || dir[0] != '/' || n == IMAGE_DIRS_MAX)
		return false;
	image_dirs[n++] = dir;
	return true;
}

static bool parse_xen_use(const char *s)
{
	static const char *const words[] = {
		[XEN_AUTO] = "auto", [XEN_ON] = "on", [XEN_OFF] = "off",
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcmp(s, words[i])) {
			opt.xen = (enum xen_use)i;
			return true;
		}
	return false;
}

/* 0, or the exit code. */
static int parse_options(struct opts *o)
{
	const char *dir = NULL;
	uint64_t us;
	int c, err;

	while ((c = opts_next(o)) != OPT_DONE) {
		switch (c) {
		case O_FOREGROUND:
			opt.foreground = true;
			break;
		case O_LOG:
			opt.to_set = log_parse_to(o->value, &opt.to);
			if (!opt.to_set)
				goto bad;
			break;
		case O_LEVEL:
			if (!log_parse_level(o->value, &opt.level))
				goto bad;
			opt.level_text = o->value;
			break;
		case O_DEBUG:
			if (log_areas_set(o->value))
				goto bad;
			add_option("--debug", o->value);
			break;
		case O_TAPDISK:
			ctl.tapdisk = o->value;
			break;
		case O_ARG:
			add_arg(o->value);
			break;
		case O_POLL:
			if (uint_parse(o->value, 1000000, &us))
				goto bad;
			add_option("--poll-us", o->value);
			break;
		case O_IMAGE_DIR:
			if (!add_image_dir(o->value))
				goto bad;
			break;
		case O_XENSTORE:
			if (!parse_xen_use(o->value))
				goto bad;
			break;
		case O_XEN_VBD:
			opt.xen_vbd = true;
			break;
		case O_NO_RESTART:
			ctl.no_restart = true;
			break;
		case OPT_RUNDIR:
			dir = o->value;
			break;
		case OPT_HELP:
			usage();
			exit(EXIT_OK);
		case OPT_VERSION:
			printf("blktapctrl %s\n", BLKTAP_VERSION);
			exit(EXIT_OK);
		default:
			return EXIT_USAGE;
		}
		continue;
bad:
		return fail(EXIT_USAGE, "bad value '%s'; see 'blktapctrl --help'",
			    o->value);
	}
	if (o->next < o->argc)
		return fail(EXIT_USAGE, "unknown operand '%s'; see 'blktapctrl "
			    "--help'", o->argv[o->next]);
	err = rundir_set(dir);
	if (err)
		return fail(EXIT_USAGE, "the run directory's name is %s",
			    err == -ENAMETOOLONG ? "too long" : "not absolute");
	return 0;
}

static int parse(int argc, char **argv)
{
	struct opts o;
	int code;

	opts_init(&o, table, "blktapctrl", argc, argv);
	code = parse_options(&o);
	opts_free(&o);
	return code;
}

/* Beside us: in the build tree, and installed. */
static int find_tapdisk(void)
{
	static char path[PATH_MAX + 16];
	ssize_t n;

	if (!ctl.tapdisk) {
		n = readlink("/proc/self/exe", path, PATH_MAX);
		if (n < 0)
			return -errno;
		path[n] = '\0';
		strcpy(strrchr(path, '/') + 1, "tapdisk");
		ctl.tapdisk = path;
	} else if (!realpath(ctl.tapdisk, path)) {
		return -errno;
	} else {
		ctl.tapdisk = path;
	}
	return access(ctl.tapdisk, X_OK) ? -errno : 0;
}

/* 0 to 2 are somebody's: no descriptor of ours may be one. */
static int fill_std(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 3);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? -errno : 0;
}

/* 200 disks have a thousand descriptors, and one disk may have as many. */
static void raise_nofile(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l))
		return;
	l.rlim_cur = l.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &l))
		log_warn("cannot raise the limit of open files: %s",
			 strerror(errno));
}

static void on_signal(struct loop *l, int signo)
{
	if (signo == SIGHUP)
		return;
	log_info("signal %d: leaving; %u disks serve on", signo, ctl.n_vdisks);
	loop_stop(l);
}

static void ready(void)
{
	char status[64];
	int err = clients_start();

	if (err) {
		opt.status = fail(EXIT_FAILED, "cannot listen on %s/ctl.sock: %s",
				  rundir(), strerror(-err));
		loop_stop(ctl.loop);
		return;
	}
	err = xen_start(opt.xen, opt.xen_vbd);
	if (err)
		log_err("cannot serve guests of Xen: %s", xen_built_in ?
			strerror(-err) : "built without Xen");
	log_info("serving %s: %u disks adopted", rundir(), ctl.n_vdisks);
	snprintf(status, sizeof(status), "READY=1\nSTATUS=%u disks adopted",
		 ctl.n_vdisks);
	notify_send(status);
	daemon_ready();
}

static int run(void)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP };
	int err;

	ctl.loop = loop_new();
	if (!ctl.loop)
		return fail(EXIT_FAILED, "cannot start: %s", strerror(errno));
	err = loop_signals(ctl.loop, signals, 3, on_signal);
	if (err)
		return fail(EXIT_FAILED, "cannot watch signals: %s", strerror(-err));
	ctl.workers = workers_new(ctl.loop, WORKERS);
	if (!ctl.workers)
		return fail(EXIT_FAILED, "cannot start: %s", strerror(errno));
	adopt_start(ready);
	loop_run(ctl.loop);
	notify_send("STOPPING=1");
	clients_shut();
	return opt.status;
}

int main(int argc, char **argv)
{
	const char *why;
	int err, code;

	log_open(LOG_TO_STDERR, "blktapctrl", LOG_LVL_INFO);
	if (fill_std())
		return EXIT_FAILED;
	code = parse(argc, argv);
	if (code)
		return code;
	notify_init();
	err = find_tapdisk();
	if (err)
		return fail(EXIT_FAILED, "no tapdisk to start: %s: %s",
			    ctl.tapdisk ? ctl.tapdisk : "/proc/self/exe",
			    strerror(-err));
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	if (!opt.foreground) {
		code = daemon_fork();
		if (code >= 0)
			return code;
	}
	if (!opt.to_set)
		opt.to = opt.foreground ? LOG_TO_STDERR : LOG_TO_SYSLOG;
	log_open(opt.to, "blktapctrl", opt.level);
	add_option("--log", opt.to == LOG_TO_SYSLOG ? "syslog" : "stderr");
	add_option("--log-level", opt.level_text);
	ctl.tapdisk_args = tapdisk_args;
	ctl.image_dirs = image_dirs;
	raise_nofile();

	err = names_rundir(&why);
	if (err)
		return fail(EXIT_FAILED, "run directory %s %s: %s", rundir(), why,
			    strerror(-err));
	opt.lock = names_lock();
	if (opt.lock == -EEXIST)
		return fail(EXIT_RUNS, "a blktapctrl serves %s already", rundir());
	if (opt.lock < 0)
		return fail(EXIT_FAILED, "cannot lock %s/lock: %s", rundir(),
			    strerror(-opt.lock));
	if (getrandom(&ctl.epoch, sizeof(ctl.epoch), 0) != sizeof(ctl.epoch))
		return fail(EXIT_FAILED, "no random numbers: %s", strerror(errno));
	code = run();
	names_unlock(opt.lock);
	shutdown_answer();
	clients_stop();
	return code;
}
