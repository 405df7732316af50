/* main.c - tap-img: makes, examines, copies and changes images that no disk uses,
 * with qemu-img's command lines.  tap-img(1). */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "drivers.h"
#include "tap_img.h"

static const struct command *const commands[] = {
	&cmd_check, &cmd_compare, &cmd_convert, &cmd_create, &cmd_info, &cmd_map,
	&cmd_measure, &cmd_rebase, &cmd_resize, &cmd_snapshot,
};

static const struct opt table[] = {
	{ OPT_HELP, "help", NULL, "show this text and exit" },
	{ 'V', "version", NULL, "show the version and exit" },
	OPT_END
};

static void help(void)
{
	printf("usage: %s COMMAND [OPTIONS] ...\n\n"
	       "Makes, examines, copies and changes disk images that are not in "
	       "use.\n\n", TAP_IMG);
	opts_help(table, stdout);
	printf("\nCommands ('%s COMMAND --help' says more):\n\n", TAP_IMG);
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %-10s %s\n", commands[i]->name, commands[i]->help);
	printf("\nFormats: ");
	for (unsigned i = 0; td_format_tools[i]; i++)
		printf("%s ", td_format_tools[i]->name);
	for (unsigned i = 0; td_drivers[i]; i++)
		if (td_drivers[i]->kind == TD_STORE &&
		    !td_format_find(td_drivers[i]->name))
			printf("%s ", td_drivers[i]->name);
	printf("\n\nThe exit code is 0, or 1 if something failed; check and compare "
	       "have more.\n");
}

static int command(int argc, char **argv)
{
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		const struct command *c = commands[i];

		if (!strcmp(c->name, argv[0])) {
			int st = env_init();

			if (st == ST_OK)
				st = c->run(c, argc, argv);
			env_free();
			return st;
		}
	}
	log_err("no command '%s'; see '%s --help'", argv[0], TAP_IMG);
	return ST_FAILED;
}

static int named(const struct classic *k, int argc, char **argv)
{
	int st = env_init();

	if (st == ST_OK)
		st = k->run(argc, argv);
	env_free();
	return st;
}

static int parse(int argc, char **argv)
{
	struct opts o;
	int id, st;

	opts_init(&o, table, TAP_IMG, argc, argv);
	id = opts_next(&o);
	if (id == OPT_HELP) {
		help();
		st = ST_OK;
	} else if (id == 'V') {
		printf("%s %s\n", TAP_IMG, BLKTAP_VERSION);
		st = ST_OK;
	} else if (id == OPT_BAD) {
		st = ST_FAILED;
	} else if (o.next >= argc) {
		log_err("wants a command; see '%s --help'", TAP_IMG);
		st = ST_FAILED;
	} else {
		st = command(argc - o.next, argv + o.next);
	}
	opts_free(&o);
	return st;
}

int main(int argc, char **argv)
{
	const struct classic *k = classic_find(argv[0]);
	int st;

	objects_hide(argc, argv);
	log_open(LOG_TO_STDERR, k ? k->name : TAP_IMG, LOG_LVL_WARN);
	st = k ? named(k, argc, argv) : parse(argc, argv);
	if (fflush(stdout) || ferror(stdout)) {
		log_err("cannot write the output");
		st = ST_FAILED;
	}
	return st;
}
