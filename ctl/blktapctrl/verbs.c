/* verbs.c - see verbs.h.
 *
 * What changes a disk becomes an operation (op.h); list, info, allocate and
 * check are answered at once; stats and debug go through to the tapdisk beside
 * whatever else it does (forward.c).
 */
#include "verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "client.h"
#include "ctl.h"
#include "forward.h"
#include "minors.h"
#include "msg.h"
#include "names.h"
#include "policy.h"
#include "shutdown.h"
#include "steps.h"
#include "vdisk.h"
#include "xen/xen.h"

#define TIMEOUT_MAX (24u * 3600)
#define XENBUS_MAX 256

struct request {
	struct client *client;
	const struct verb *verb;
	uint32_t id;
	char *node;		/* in text; NULL: no TAP_VERB_XENBUS */
	char text[TAP_TEXT_MAX + 1];
	struct tap_verb v;
};

struct verb {
	uint16_t type;
	const char *act;
	void (*fn)(struct request *r);
	const struct op_kind *kind;	/* of an operation */
	enum { TEXT_NONE, TEXT_SPEC, TEXT_MAYBE_SPEC, TEXT_AREAS, TEXT_XEN } text;
};

/* Answer now. */
static void reply(struct request *r, int status, const void *body, size_t len)
{
	struct ask a;

	ask_init(&a, r->client, r->id, r->verb->type);
	ask_reply(&a, 0, status, body, len);
}

static void refuse(struct request *r, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void refuse(struct request *r, int err, const char *fmt, ...)
{
	char why[1024], who[32] = "", text[sizeof(why) + 128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	if (r->v.minor >= 0)
		snprintf(who, sizeof(who), "disk %d: ", r->v.minor);
	else if (r->v.pid >= 0)
		snprintf(who, sizeof(who), "tapdisk %d: ", r->v.pid);
	snprintf(text, sizeof(text), "%scannot %s: %s", who, r->verb->act, why);
	log_dbg(LOG_CTL, "%s", text);
	reply(r, err, text, strlen(text));
}

/* The disk that pid and minor name; NULL, and the client has its answer. */
static struct vdisk *find(struct request *r)
{
	int pid = r->v.pid, minor = r->v.minor;
	struct vdisk *vd;

	if (pid < 0 && minor < 0) {
		refuse(r, -EINVAL, "neither minor nor pid was given");
		return NULL;
	}
	if (minor < 0) {
		vd = vdisk_by_pid(pid);
		if (!vd)
			refuse(r, -ENODEV, "there is no such tapdisk");
		return vd;
	}
	vd = minor_disk(minor);
	if (!minor_taken(minor))
		refuse(r, -ENODEV, "there is no such disk");
	else if (!vd)
		refuse(r, -ENODEV, "no tapdisk serves it");
	else if (pid >= 0 && !revive_knows(vd, pid))
		refuse(r, -ENODEV, "tapdisk %d serves it, not %d", vd->pid, pid);
	else
		return vd;
	return NULL;
}

static void begin(struct request *r, struct vdisk *vd)
{
	struct op *op = op_new(r->verb->kind, &r->v, r->text);

	if (!op) {
		refuse(r, -ENOMEM, "%s", strerror(ENOMEM));
		return;
	}
	key_fds_move(&op->keys, client_keys(r->client));
	if (op_start(op, vd)) {
		op_free(op);
		refuse(r, -EBUSY, "too much waits for it already");
		return;
	}
	ask_init(&op->ask, r->client, r->id, r->verb->type);
}

/* --- the verbs --- */

static void do_op(struct request *r)
{
	struct vdisk *vd = find(r);

	if (vd)
		begin(r, vd);
}

/* An open or create that waits for what xenstore says of it. */
struct node_open {
	const struct verb *verb;
	struct ask ask;
	struct key_fds keys;
	struct tap_verb v;
};

static void node_open_begin(void *arg, const char *spec, uint32_t flags,
			    const char *of)
{
	struct node_open *n = arg;
	bool opens = n->verb->type == TAP_CTL_OPEN;
	struct vdisk *vd = opens ? minor_disk(n->v.minor) : NULL;
	struct op *op;

	n->v.flags = flags;
	if (opens && (!vd || (n->v.pid >= 0 && vd != vdisk_by_pid(n->v.pid))))
		ask_fail(&n->ask, -ENODEV, "disk %d: cannot open %.256s: there is no "
			 "such disk", n->v.minor, spec);
	else if (!opens && ctl.leaving)
		ask_fail(&n->ask, -ESHUTDOWN, "cannot create: the daemon is shutting "
			 "down");
	else if (policy_spec(spec))
		ask_fail(&n->ask, -EINVAL, "cannot %s: '%.256s' is not TYPE:/path",
			 n->verb->act, spec);
	else if (!(op = op_new(n->verb->kind, &n->v, spec)))
		ask_fail(&n->ask, -ENOMEM, "%s", strerror(ENOMEM));
	else if (key_fds_move(&op->keys, &n->keys), strcpy(op->node, of),
		 op_start(op, vd)) {
		op_free(op);
		ask_fail(&n->ask, -EBUSY, "disk %d: cannot open: too much waits for it "
			 "already", n->v.minor);
	} else if (n->ask.client) {
		ask_init(&op->ask, n->ask.client, n->ask.id, n->ask.type);
	}
	ask_drop(&n->ask);
	key_fds_close(&n->keys);
	free(n);
}

/* For a hotplug script; vd NULL: it makes its own. */
static void begin_by_node(struct request *r, struct vdisk *vd)
{
	struct node_open *n = r->node ? calloc(1, sizeof(*n)) : NULL;

	if (!n) {
		begin(r, vd);
		return;
	}
	n->verb = r->verb;
	n->v = r->v;
	if (vd)
		n->v.minor = vd->minor;
	key_fds_move(&n->keys, client_keys(r->client));
	ask_init(&n->ask, r->client, r->id, r->verb->type);
	xen_node_ask(r->node, r->text, r->v.flags & ~(uint32_t)TAP_VERB_XENBUS,
		     node_open_begin, n);
}

static void do_open(struct request *r)
{
	struct vdisk *vd = find(r);

	if (vd)
		begin_by_node(r, vd);
}

static void do_new(struct request *r)
{
	if (ctl.leaving)
		refuse(r, -ESHUTDOWN, "the daemon is shutting down");
	else
		begin_by_node(r, NULL);
}

/* The minor is what it shall get. */
static void do_attach(struct request *r)
{
	struct vdisk *vd;

	if (r->v.pid < 0 || r->v.minor < 0) {
		refuse(r, -EINVAL, "both minor and pid are needed");
		return;
	}
	vd = vdisk_by_pid(r->v.pid);
	if (vd)
		begin(r, vd);
	else
		refuse(r, -ENODEV, "there is no tapdisk %d", r->v.pid);
}

/* free and destroy: a minor that no tapdisk serves is simply freed. */
static void do_free(struct request *r)
{
	struct vdisk *vd;

	if (r->v.minor < 0 || !minor_taken(r->v.minor) ||
	    minor_disk(r->v.minor) || r->v.pid >= 0) {
		vd = find(r);
		if (vd)
			begin(r, vd);
		return;
	}
	minor_free(r->v.minor);
	log_info("disk %d: %s: done", r->v.minor, r->verb->act);
	reply(r, 0, NULL, 0);
}

/* A minor without a disk. */
static size_t tell_bare(int minor, const char *spec, struct tap_disk *d)
{
	size_t len = strlen(spec);

	*d = (struct tap_disk){ .pid = -1, .minor = minor, .state = TAP_ST_CLOSED };
	memcpy(d->spec, spec, len);
	return sizeof(*d) + len;
}

union disk_body {
	struct tap_disk d;
	char room[TAP_MSG_MAX - sizeof(struct tap_hdr)];
};

static void do_allocate(struct request *r)
{
	int n = ctl.leaving ? -ESHUTDOWN : minor_take(r->v.minor, false);
	char path[RUNDIR_MAX + 32];
	union disk_body body;
	size_t len;

	if (n < 0) {
		refuse(r, n == -EUSERS ? -ENOSPC : n, "%s",
		       n == -EUSERS ? "all minors are taken" :
		       n == -EEXIST ? "that minor is taken" : strerror(-n));
		return;
	}
	log_info("disk %d: allocate: done", n);
	len = tell_bare(n, run_path(RUN_MARKER, n, path, sizeof(path)), &body.d);
	reply(r, 0, &body, len);
}

static void do_info(struct request *r)
{
	union disk_body body;
	struct vdisk *vd = find(r);

	if (vd)
		reply(r, 0, &body, vdisk_tell(vd, &body.d, sizeof(body)));
}

static void do_list(struct request *r)
{
	client_list(r->client, r->id, r->v.pid);
}

static void do_check(struct request *r)
{
	reply(r, 0, BLKTAP_VERSION, strlen(BLKTAP_VERSION));
}

static void do_shutdown(struct request *r)
{
	struct ask a;

	ask_init(&a, r->client, r->id, r->verb->type);
	shutdown_begin(&a, &r->v);
}

static void do_forward(struct request *r)
{
	struct vdisk *vd;
	struct ask a;

	if (r->verb->type == TAP_CTL_DEBUG && r->v.minor < 0 && r->v.pid < 0) {
		if (log_areas_set(r->text))
			refuse(r, -EINVAL, "%.64s: want some of %s", r->text,
			       log_areas_help());
		else
			reply(r, 0, NULL, 0);
		return;
	}
	vd = find(r);
	if (!vd)
		return;
	ask_init(&a, r->client, r->id, r->verb->type);
	forward(vd, &a, r->verb->type == TAP_CTL_STATS ? TAP_STATS : TAP_DEBUG,
		r->text);
}

static void do_xen(struct request *r)
{
	struct ask a;

	ask_init(&a, r->client, r->id, r->verb->type);
	if (r->verb->type == TAP_CTL_XEN_ATTACH && ctl.leaving)
		ask_fail(&a, -ESHUTDOWN, "the daemon is shutting down");
	else if (r->verb->type == TAP_CTL_XEN_ATTACH)
		xen_attach(&a, &r->v, r->text, client_keys(r->client));
	else if (r->verb->type == TAP_CTL_XEN_DETACH)
		xen_detach(&a, &r->v, r->text);
	else
		xen_list(&a);
}

static const struct verb verbs[] = {
	{ TAP_CTL_LIST, "list", do_list, NULL, TEXT_NONE },
	{ TAP_CTL_ALLOCATE, "allocate", do_allocate, NULL, TEXT_NONE },
	{ TAP_CTL_FREE, "free", do_free, &op_free_minor, TEXT_NONE },
	{ TAP_CTL_SPAWN, "spawn", do_new, &op_spawn, TEXT_NONE },
	{ TAP_CTL_ATTACH, "attach", do_attach, &op_attach, TEXT_NONE },
	{ TAP_CTL_DETACH, "detach", do_op, &op_detach, TEXT_NONE },
	{ TAP_CTL_OPEN, "open", do_open, &op_open, TEXT_SPEC },
	{ TAP_CTL_CLOSE, "close", do_op, &op_close, TEXT_NONE },
	{ TAP_CTL_PAUSE, "pause", do_op, &op_pause, TEXT_NONE },
	{ TAP_CTL_UNPAUSE, "unpause", do_op, &op_unpause, TEXT_MAYBE_SPEC },
	{ TAP_CTL_STATS, "tell statistics", do_forward, NULL, TEXT_NONE },
	{ TAP_CTL_INFO, "tell", do_info, NULL, TEXT_NONE },
	{ TAP_CTL_RESIZE, "resize", do_op, &op_resize, TEXT_NONE },
	{ TAP_CTL_CREATE, "create", do_new, &op_create, TEXT_SPEC },
	{ TAP_CTL_DESTROY, "destroy", do_free, &op_destroy, TEXT_NONE },
	{ TAP_CTL_SHUTDOWN, "shut down", do_shutdown, NULL, TEXT_NONE },
	{ TAP_CTL_CHECK, "check", do_check, NULL, TEXT_NONE },
	{ TAP_CTL_DEBUG, "debug", do_forward, NULL, TEXT_AREAS },
	{ TAP_CTL_XEN_ATTACH, "attach", do_xen, NULL, TEXT_XEN },
	{ TAP_CTL_XEN_DETACH, "detach", do_xen, NULL, TEXT_XEN },
	{ TAP_CTL_XEN_LIST, "list", do_xen, NULL, TEXT_NONE },
};

/* Take the payload apart; false: answered. */
static bool parse(struct request *r, const struct msg *m)
{
	static char node[XENBUS_MAX];
	const struct verb *v = r->verb;

	if (m->hdr->len < sizeof(r->v) || m->hdr->status ||
	    msg_text(m, sizeof(r->v), r->text, sizeof(r->text))) {
		refuse(r, -EBADMSG, "bad message");
		return false;
	}
	memcpy(&r->v, m->body, sizeof(r->v));
	if (r->v.timeout > TIMEOUT_MAX)
		r->v.timeout = TIMEOUT_MAX;
	if ((v->type == TAP_CTL_OPEN || v->type == TAP_CTL_CREATE) &&
	    (r->v.flags & TAP_VERB_XENBUS)) {
		char *nl = strchr(r->text, '\n');

		if (!nl || nl - r->text >= (ptrdiff_t)sizeof(node)) {
			refuse(r, -EBADMSG, "bad message");
			return false;
		}
		*nl = '\0';
		strcpy(node, r->text);
		memmove(r->text, nl + 1, strlen(nl + 1) + 1);
		r->node = node;
	}
	if (v->text == TEXT_NONE) {
		r->text[0] = '\0';
	} else if (v->text == TEXT_SPEC ||
		   (v->text == TEXT_MAYBE_SPEC && r->text[0])) {
		if (policy_spec(r->text)) {
			refuse(r, -EINVAL, "'%.256s' is not TYPE:/path, or lines of "
			       "that", r->text);
			return false;
		}
	}
	return true;
}

void verbs_do(struct client *c, const struct msg *m)
{
	static struct request r;	/* one at a time: the loop's */
	static struct verb unknown = { .act = "answer" };

	r.client = c;
	r.id = m->hdr->id;
	r.verb = NULL;
	r.node = NULL;
	r.v = (struct tap_verb){ .pid = -1, .minor = -1 };
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (verbs[i].type == m->hdr->type)
			r.verb = &verbs[i];
	if (!r.verb) {
		if (m->hdr->type & 1)	/* a reply, to nothing that we ask */
			return;
		unknown.type = m->hdr->type;
		r.verb = &unknown;
		refuse(&r, -EOPNOTSUPP, "unknown request %u", m->hdr->type);
		return;
	}
	if (parse(&r, m))
		r.verb->fn(&r);
}

/* --- list --- */

size_t verbs_list_next(struct list_pos *p, struct tap_disk *d, size_t room)
{
	struct vdisk *next = NULL, *only = p->only < 0 ? NULL : vdisk_by_pid(p->only);

	for (; p->minor < TAP_MINOR_MAX; p->minor++) {
		struct vdisk *vd = minor_disk(p->minor);

		if (p->only >= 0 && (!vd || vd != only))
			continue;
		if (vd)
			return p->minor++, vdisk_tell(vd, d, room);
		if (minor_taken(p->minor))
			return tell_bare(p->minor++, "", d);
	}
	list_for_each(e, &ctl.vdisks) {
		struct vdisk *vd = container_of(e, struct vdisk, link);

		if (vd->minor < 0 && vd->state != VD_DEAD && vd->pid > p->pid &&
		    (p->only < 0 || vd == only) &&
		    (!next || vd->pid < next->pid))
			next = vd;
	}
	if (!next)
		return 0;
	p->pid = next->pid;
	return vdisk_tell(next, d, room);
}
