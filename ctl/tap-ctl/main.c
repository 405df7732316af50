/* main.c - tap-ctl: finds the verb, parses by its row, makes the exit code.
 *
 *   tap-ctl [--rundir DIR] VERB [OPTIONS]
 *
 * The exit code is 0 or the errno of the failure; misuse is EINVAL.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rundir.h"
#include "tap-ctl.h"

/* --debug is shown here and taken by strip_debug(). */
static const struct opt global_opts[] = {
	{ CTL_OPT_JSON, "json", NULL, "print JSON" },
	{ CTL_OPT_DEBUG, "debug", NULL, "show what is asked and answered" },
	OPT_COMMON, OPT_END
};

static void help_all(void)
{
	printf("usage: %s [--rundir DIR] VERB [OPTIONS]\n\n"
	       "Controls the disks of blktapctrl.\n\n", TAPCTL);
	for (const struct verb *v = ctl_verbs; v->name; v++)
		printf("  %-10s %s\n", v->name, v->help);
	printf("\n`%s VERB --help' shows a verb's options; all have:\n", TAPCTL);
	opts_help(global_opts, stdout);
}

static void help_verb(const struct verb *v)
{
	printf("usage: %s %s%s%s\n\n%s\n", TAPCTL, v->name, *v->args ? " " : "",
	       v->args, v->help);
	if (v->more)
		printf("\n%s", v->more);
	printf("\n");
	opts_help(v->opts, stdout);
}

static const struct verb *find_verb(const char *name)
{
	for (const struct verb *v = ctl_verbs; v->name; v++)
		if (!strcmp(v->name, name))
			return v;
	return NULL;
}

/* tapdisk3 takes --debug anywhere; so do we, and show what is said. */
static int strip_debug(int argc, char **argv)
{
	int n = 0;

	for (int i = 0; i < argc; i++) {
		if (i && !strcmp(argv[i], "--debug"))
			log_areas |= LOG_CTL;
		else
			argv[n++] = argv[i];
	}
	argv[n] = NULL;
	return n;
}

/* Options before the verb.  1: all is done. */
static int global_options(int *argc, char ***argv, bool *json)
{
	struct opts o;
	int id, err = 0;

	opts_init(&o, global_opts, TAPCTL, *argc, *argv);
	while (!err && (id = opts_next(&o)) != OPT_DONE) {
		switch (id) {
		case OPT_HELP:
			help_all();
			err = 1;
			break;
		case OPT_VERSION:
			printf("%s %s\n", TAPCTL, BLKTAP_VERSION);
			err = 1;
			break;
		case CTL_OPT_JSON:
			*json = true;
			break;
		case OPT_RUNDIR:
			err = rundir_set(o.value);
			if (err)
				fprintf(stderr, "%s: bad run directory '%s': want "
					"an absolute path of at most %d bytes\n",
					TAPCTL, o.value, RUNDIR_MAX);
			break;
		default:
			err = -EINVAL;
		}
	}
	*argc -= o.next;
	*argv += o.next;
	opts_free(&o);
	return err;
}

static int run(int argc, char **argv, bool json)
{
	struct call c = { .pid = -1, .minor = -1, .json = json };
	bool help = false;
	int err;

	c.verb = find_verb(argv[0]);
	if (!c.verb) {
		fprintf(stderr, "%s: unknown verb '%s'; see '%s --help'\n", TAPCTL,
			argv[0], TAPCTL);
		return -EINVAL;
	}
	err = call_parse(&c, argc, argv, &help);
	if (err)
		return err;
	if (help) {
		help_verb(c.verb);
		return 0;
	}
	if (c.value[OPT_VERSION]) {
		printf("%s %s\n", TAPCTL, BLKTAP_VERSION);
		return 0;
	}
	return c.verb->run(&c);
}

/* The socket must not become what stdout or stderr write to.  Read-only: what
 * is written to a closed stdout stays an error. */
static void fill_std_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	bool json = false;
	int err;

	fill_std_fds();
	signal(SIGPIPE, SIG_IGN);
	log_open(LOG_TO_STDERR, TAPCTL, LOG_LVL_INFO);
	if (rundir_set(NULL)) {
		fprintf(stderr, "%s: bad run directory in %s: want an absolute path "
			"of at most %d bytes\n", TAPCTL, RUNDIR_ENV, RUNDIR_MAX);
		return EINVAL;
	}
	argc = strip_debug(argc, argv);
	err = global_options(&argc, &argv, &json);
	if (!err && !argc)
		help_all();
	else if (!err)
		err = run(argc, argv, json);
	if (err > 0)
		err = 0;
	if ((fflush(stdout) || ferror(stdout)) && !err) {
		err = errno ? -errno : -EIO;
		fprintf(stderr, "%s: cannot write the answer: %s\n", TAPCTL,
			strerror(-err));
	}
	return -err;
}
