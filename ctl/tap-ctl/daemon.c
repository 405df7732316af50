/* daemon.c - tap-ctl check, version, debug, shutdown, major: what is not about
 * a single disk. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/rundir.h"
#include "tap-ctl.h"

struct version {
	char text[TAP_TEXT_MAX + 1];
};

static int take_version(void *arg, const struct msg *m)
{
	struct version *v = arg;

	return msg_text(m, 0, v->text, sizeof(v->text));
}

int run_check(struct call *c)
{
	struct version v;
	json_t *j;
	int err = ask(c, "", 0, take_version, &v);

	if (err)
		return err;
	if (c->json) {
		j = json_object();
		json_object_set_new(j, "blktapctrl", text_json(v.text));
		json_object_set_new(j, "rundir", text_json(rundir()));
		return print_json(j);
	}
	printf("blktapctrl ");
	print_clean(v.text, stdout);
	printf(" answers in %s\n", rundir());
	return 0;
}

int run_version(struct call *c)
{
	struct version v = { "" };
	bool up;
	json_t *j;

	c->quiet = true;
	up = !ask(c, "", 0, take_version, &v);
	if (c->json) {
		j = json_object();
		json_object_set_new(j, TAPCTL, text_json(BLKTAP_VERSION));
		json_object_set_new(j, "blktapctrl",
				    up ? text_json(v.text) : json_null());
		return print_json(j);
	}
	printf("%s %s\n", TAPCTL, BLKTAP_VERSION);
	if (up) {
		printf("blktapctrl ");
		print_clean(v.text, stdout);
		putchar('\n');
	}
	return 0;
}

int run_debug(struct call *c)
{
	int err;

	if (!c->operand)
		return call_usage(c, "AREAS is missing");
	err = ask(c, c->operand, 0, NULL, NULL);
	return err ? err : print_done(c);
}

int run_shutdown(struct call *c)
{
	int err = ask(c, "", 0, NULL, NULL);

	return err ? err : print_done(c);
}

/* tapdisk3 prints the block major of its kernel driver. */
int run_major(struct call *c)
{
	return call_fail(c, -ENODEV, "there is no kernel driver and so no %s "
			 "device: a disk is a ring and an NBD socket, see "
			 "`tap-ctl info'", c->value['c'] ? "character" : "block");
}
