/* xen.c - tap-ctl xen-attach, xen-detach, xen-list: disks of Xen's guests. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/vdev.h"
#include "tap-ctl.h"

/* "GUEST\nVDEV\n" into text. */
static int guest_text(const struct call *c, char *text)
{
	const char *vdev = c->n_more ? c->more[0] : NULL;

	if (!c->operand || !vdev)
		return call_usage(c, "a guest and a virtual device are needed");
	if (strpbrk(c->operand, "\n") || strpbrk(vdev, "\n") ||
	    strlen(c->operand) + strlen(vdev) > 256)
		return call_usage(c, "that is no guest or no virtual device");
	sprintf(text, "%s\n%s\n", c->operand, vdev);
	return 0;
}

static int take_attached(void *arg, const struct msg *m)
{
	return disk_parse(arg, m);
}

int run_xen_attach(struct call *c)
{
	char text[TAP_TEXT_MAX + 512], spec[TAP_TEXT_MAX + 1], path[128];
	const char *mode = c->n_more > 2 ? c->more[2] : c->value['R'] ? "r" : "w";
	struct disk k = { .pid = -1, .minor = -1 };
	int err = guest_text(c, text);

	if (!err && c->n_more < 2)
		err = call_usage(c, "an image is needed: tap:TYPE:/path");
	if (!err && strcmp(mode, "r") && strcmp(mode, "w"))
		err = call_usage(c, "'%s' is neither r nor w", mode);
	if (!err && c->value['R'] && *mode == 'w')
		err = call_usage(c, "both w and --read-only");
	if (!err)
		err = image_text_of(c, c->more[1], spec);
	if (err)
		return err;
	strcat(text, mode);
	strcat(text, "\n");
	strcat(text, spec);
	err = ask(c, text, 0, take_attached, &k);
	if (err)
		return err;
	if (c->json)
		return print_json(disk_json(&k));
	puts(marker_path(k.minor, path, sizeof(path)));
	return 0;
}

int run_xen_detach(struct call *c)
{
	char text[512];
	int err = guest_text(c, text);

	if (!err)
		err = ask(c, text, 0, NULL, NULL);
	return err ? err : print_done(c);
}

/* --- list --- */

struct xen_out {
	bool tty, any;
	json_t *array;
};

static const char *state_word(unsigned s)
{
	static const char *const words[] = {
		"none", "initialising", "waiting", "initialised", "connected",
		"closing", "closed", "reconfiguring", "reconfigured",
	};

	return s < sizeof(words) / sizeof(words[0]) ? words[s] : "?";
}

static void xen_row(struct xen_out *o, const struct tap_xen_dev *x,
		    const char *vdev, const char *params)
{
	if (o->tty && !o->any)
		printf("%5s %-8s %-5s %-12s %-12s %5s %8s %s %s\n", "guest", "device",
		       "kind", "backend", "frontend", "minor", "pid", "m", "image");
	o->any = true;
	printf(o->tty ? "%5u %-8s %-5.8s %-12s %-12s %5d %8d %c " :
	       "guest=%u device=%s kind=%.8s backend=%s frontend=%s minor=%d pid=%d "
	       "mode=%c image=", x->vbd.domid, vdev, x->kind,
	       state_word(x->back), state_word(x->front), x->minor, x->pid,
	       x->flags & TAP_XEN_DEV_READONLY ? 'r' : 'w');
	print_clean(params, stdout);
	putchar('\n');
}

static int list_one(void *arg, const struct msg *m)
{
	struct xen_out *o = arg;
	char params[TAP_TEXT_MAX + 1], vdev[VDEV_NAME_MAX];
	struct tap_xen_dev x;
	json_t *j;

	if (!m->hdr->len)	/* the end */
		return 0;
	if (m->hdr->len < sizeof(x) ||
	    msg_text(m, sizeof(x), params, sizeof(params)))
		return -EBADMSG;
	memcpy(&x, m->body, sizeof(x));
	x.kind[sizeof(x.kind) - 1] = '\0';
	vdev_name(x.vbd.devid, vdev);
	if (!o->array) {
		xen_row(o, &x, vdev, params);
		return 0;
	}
	j = json_object();
	json_object_set_new(j, "guest", json_integer(x.vbd.domid));
	json_object_set_new(j, "device", text_json(vdev));
	json_object_set_new(j, "devid", json_integer(x.vbd.devid));
	json_object_set_new(j, "kind", text_json(x.kind));
	json_object_set_new(j, "backend", text_json(state_word(x.back)));
	json_object_set_new(j, "frontend", text_json(state_word(x.front)));
	json_object_set_new(j, "minor", x.minor < 0 ? json_null() :
					json_integer(x.minor));
	json_object_set_new(j, "pid", x.pid < 0 ? json_null() :
				      json_integer(x.pid));
	json_object_set_new(j, "read_only",
			    json_boolean(x.flags & TAP_XEN_DEV_READONLY));
	json_object_set_new(j, "served",
			    json_boolean(x.flags & TAP_XEN_DEV_SERVED));
	json_object_set_new(j, "broken",
			    json_boolean(x.flags & TAP_XEN_DEV_BROKEN));
	json_object_set_new(j, "params", text_json(params));
	json_array_append_new(o->array, j);
	return 0;
}

int run_xen_list(struct call *c)
{
	struct xen_out o = {
		.tty = isatty(STDOUT_FILENO),
		.array = c->json ? json_array() : NULL,
	};
	int err = ask(c, "", 0, list_one, &o);

	if (!o.array)
		return err;
	if (!err)
		return print_json(o.array);
	json_decref(o.array);
	return err;
}
