/* control.c - see control.h.
 *
 * A table maps message types to handlers and says how long a payload must be at
 * least.  Operations of the disk answer later: each has a small record with the
 * id to answer.  When blktapctrl dies, its pipe's end of file resets framing and
 * answers that are still due go nowhere; nothing counts again before a HELLO.
 * The end of file is not seen when the next daemon is quick or we are slow: a
 * HELLO of another epoch says the same.
 */
#include "control.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/kill_point.h"
#include "base/log.h"
#include "base/text.h"
#include "disk/disk.h"
#include "files.h"
#include "front.h"
#include "guests.h"
#include "keyring.h"
#include "loop/loop.h"
#include "msg.h"
#include "outbox.h"
#include "redo_file.h"
#include "ring/journal.h"
#include "td_driver.h"

/* PARAMS or RESUME. */
struct params {
	uint16_t type;
	uint32_t id;
	uint32_t flags;
	char spec[TAP_TEXT_MAX + 1];
};

struct control {
	struct loop *loop;
	struct disk *disk;
	struct files *files;
	struct loop_fd in;
	struct outbox out;
	struct msg_in msgs;
	bool greeted;		/* a HELLO has come since the last end of file */
	uint64_t epoch;		/* of the daemon that we obey */
	unsigned daemons;	/* how many there have been: of whom an op is */
	bool leaving;

	int minor;		/* -1: not attached */
	uint32_t created;
	uint32_t newdev_id;	/* NEWDEV that waits for its sockets; 0: none */
	struct tap_newdev newdev;
	int ring_fd, nbd_fd;	/* arrived, not used yet; -1 */
	struct ring_server *ring;
	struct nbd_server *nbd;
	struct guests guests;
	struct journal *journal;	/* or NULL */

	struct redo_file redo;
	struct keyring keys;
	struct params waiting;	/* for its keys; type 0: nothing waits */

	unsigned ops;		/* operations whose end is awaited */
	uint16_t busy;		/* the first of them, for our state's name */
};

/* An operation whose answer is due. */
struct op {
	struct control *c;
	uint32_t id;
	uint16_t type;		/* of the request */
	unsigned daemon;
	bool keyed;		/* the keyring waits for its end */
};

/* What the disk is. */

static struct tap_img image(const struct control *c)
{
	if (disk_state(c->disk) == DISK_CLOSED)
		return (struct tap_img){ 0 };
	return (struct tap_img){
		.bytes = disk_size(c->disk), .sector_size = disk_sector(c->disk),
		.phys_size = disk_phys(c->disk), .caps = disk_caps(c->disk),
	};
}

static uint32_t open_flags(const struct control *c)
{
	unsigned flags = disk_flags(c->disk);

	return (flags & TD_NODE_RDONLY ? TAP_OPEN_RDONLY : 0) |
	       (flags & TD_NODE_NO_DIRECT ? TAP_OPEN_NO_DIRECT : 0);
}

static unsigned node_flags(uint32_t flags)
{
	return (flags & TAP_OPEN_RDONLY ? TD_NODE_RDONLY : 0) |
	       (flags & TAP_OPEN_NO_DIRECT ? TD_NODE_NO_DIRECT : 0);
}

static uint32_t state(const struct control *c)
{
	switch (disk_state(c->disk)) {
	case DISK_CLOSED:
		return TAP_ST_CLOSED;
	case DISK_OPENING:
		return TAP_ST_OPENING;
	case DISK_RUNNING:
		return TAP_ST_RUNNING;
	case DISK_DRAINING:
		return c->busy == TAP_PAUSE ? TAP_ST_PAUSING : TAP_ST_CLOSING;
	case DISK_PAUSED:
		return TAP_ST_PAUSED | (disk_resume_failed(c->disk) ?
					TAP_ST_RESUME_FAILED : 0);
	default:
		return TAP_ST_CLOSING;
	}
}

static void set_name(const struct control *c)
{
	char title[16], text[TEXT_SHORT + 1];
	const char *spec = disk_spec(c->disk);

	if (c->minor < 0)
		return;
	log_name("%d%s%s", c->minor, *spec ? " " : "", text_spec(spec, text));
	snprintf(title, sizeof(title), "tapdisk/%d", c->minor);
	prctl(PR_SET_NAME, title, 0, 0, 0);
}

/* Operations of the disk. */

static struct op *op_begin(struct control *c, uint16_t type, uint32_t id)
{
	struct op *op;

	if (c->leaving) {	/* the end is on its way, and drains what there is */
		outbox_fail(&c->out, type, id, -ENXIO, "its tapdisk is ending");
		return NULL;
	}
	op = malloc(sizeof(*op));
	if (op) {
		*op = (struct op){ c, id, type, c->daemons, false };
		if (!c->ops++)	/* the disk refuses a second one */
			c->busy = type;
	} else {
		outbox_fail(&c->out, type, id, -ENOMEM, NULL);
	}
	return op;
}

static struct op *op_new(struct control *c, const struct msg *m)
{
	return op_begin(c, m->hdr->type, m->hdr->id);
}

static void quit(struct control *c);

static void op_done(void *arg, int err, const char *why)
{
	struct op *op = arg;
	struct control *c = op->c;
	struct tap_img img = image(c);
	bool opens = op->type != TAP_CLOSE && op->type != TAP_PAUSE;

	KILL_POINT("op-done");
	if (op->keyed)
		keyring_settle(&c->keys, !err);
	if (disk_state(c->disk) == DISK_CLOSED)
		keyring_wipe(&c->keys);
	if (!err && opens) {
		c->created = 0;		/* somebody will miss it now */
		set_name(c);
	}
	if (op->daemon != c->daemons)
		log_dbg(LOG_CTL, "who asked for %u is gone", op->type);
	else if (err)
		outbox_fail(&c->out, op->type, op->id, err, why);
	else
		outbox_reply(&c->out, op->type, op->id, &img, opens ? sizeof(img) : 0);
	free(op);
	if (!--c->ops && c->leaving)
		quit(c);
}

static void drop_sockets(struct control *c)
{
	if (c->ring_fd >= 0)
		close(c->ring_fd);
	if (c->nbd_fd >= 0)
		close(c->nbd_fd);
	c->ring_fd = c->nbd_fd = -1;
}

/* blktapctrl is gone: so is what it had begun, and whom we owe answers. */
static void forget_daemon(struct control *c)
{
	c->greeted = false;
	c->daemons++;
	guests_forget_daemon(&c->guests);
	c->newdev_id = 0;
	c->waiting.type = 0;
	if (!c->ops)		/* else they are being used */
		keyring_forget(&c->keys);
	drop_sockets(c);
	outbox_forget(&c->out);
	files_lost(c->files);
}

static void do_hello(struct control *c, const struct msg *m)
{
	const struct tap_hello *h = m->body;
	const char *spec = disk_spec(c->disk);
	size_t len = strnlen(spec, TAP_TEXT_MAX);
	struct msg_out o;
	struct tap_hello_rsp r = {
		.epoch = h->epoch, .pid = getpid(), .minor = c->minor,
		.state = state(c), .created = c->created, .img = image(c),
		.flags = open_flags(c) | c->keys.now.keys.n << TAP_OPEN_KEYS_SHIFT,
	};

	if (c->greeted && h->epoch != c->epoch)
		forget_daemon(c);
	c->greeted = true;
	c->epoch = h->epoch;
	memcpy(o.body, &r, sizeof(r));
	memcpy(o.body + sizeof(r), spec, len);
	msg_seal(&o, TAP_HELLO_RSP, 0, m->hdr->id, 0, (uint32_t)(sizeof(r) + len));
	outbox_send(&c->out, &o);
}

static void do_pid(struct control *c, const struct msg *m)
{
	int32_t pid = getpid();

	outbox_reply(&c->out, TAP_PID, m->hdr->id, &pid, sizeof(pid));
}

/* NEWDEV is done when it and both sockets are here, in whatever order. */
static void newdev_try(struct control *c)
{
	uint32_t id = c->newdev_id;

	if (!id || c->ring_fd < 0 || c->nbd_fd < 0)
		return;
	c->newdev_id = 0;
	c->ring = ring_server_new(c->loop, c->disk, c->ring_fd, c->newdev.minor);
	if (!c->ring) {
		outbox_fail(&c->out, TAP_NEWDEV, id, -errno, "cannot serve rings");
		return;
	}
	c->ring_fd = -1;
	ring_server_journal(c->ring, c->journal);
	c->nbd = nbd_server_new(c->loop, c->disk, c->nbd_fd, c->newdev.minor);
	if (!c->nbd) {
		int err = -errno;

		ring_server_free(c->ring);
		c->ring = NULL;
		outbox_fail(&c->out, TAP_NEWDEV, id, err, "cannot serve NBD");
		return;
	}
	c->nbd_fd = -1;
	c->minor = (int)c->newdev.minor;
	c->created = c->newdev.created;
	set_name(c);
	outbox_reply(&c->out, TAP_NEWDEV, id, NULL, 0);
}

static void do_newdev(struct control *c, const struct msg *m)
{
	if (c->minor >= 0 || c->newdev_id) {
		outbox_fail(&c->out, TAP_NEWDEV, m->hdr->id, -EEXIST,
			  "this tapdisk is attached already");
		return;
	}
	memcpy(&c->newdev, m->body, sizeof(c->newdev));
	c->newdev_id = m->hdr->id;
	/* If the daemon has died since, the HELLO of the next one may stand behind this
	 * in the pipe, and would find an attach cut in half. */
	files_drain(c->files);
	newdev_try(c);
}

static void got_socket(void *arg, unsigned kind, int fd)
{
	struct control *c = arg;
	int *slot = kind == TAP_FD_RING ? &c->ring_fd : &c->nbd_fd;

	if (c->minor >= 0) {
		close(fd);
		return;
	}
	if (*slot >= 0)
		close(*slot);	/* of an attach that failed */
	*slot = fd;
	newdev_try(c);
}

/* The first of a kind that comes is kept: fronts may use it. */
static void got_record(void *arg, unsigned kind, int fd)
{
	struct control *c = arg;
	int err;

	if (kind == TAP_FD_REDO) {
		redo_file_take(&c->redo, fd);
		return;
	}
	if (c->journal) {
		close(fd);
		return;
	}
	err = journal_new(fd, &c->journal);
	if (err)
		log_warn("no journal, rings will not outlive this process: %s",
			 strerror(-err));
	else if (c->ring)
		ring_server_journal(c->ring, c->journal);
}

static void do_hold(struct control *c, const struct msg *m)
{
	char spec[TAP_TEXT_MAX + 1];
	struct tap_hold h;
	struct disk_shape shape;
	uint32_t id = m->hdr->id;
	const char *why = NULL;
	unsigned n;
	int err = -EINVAL;

	memcpy(&h, m->body, sizeof(h));
	n = (h.flags & TAP_OPEN_KEYS) >> TAP_OPEN_KEYS_SHIFT;
	shape = (struct disk_shape){ h.img.bytes, h.img.phys_size, h.img.caps };
	files_drain(c->files);
	if (!keyring_complete(&c->keys, id, n)) {
		err = -EIO;
		why = "its keys have not come";
	} else if (!msg_text(m, sizeof(h), spec, sizeof(spec)) && c->minor < 0) {
		err = keyring_use(&c->keys, id, n, false);
		why = c->keys.why;
		if (!err)
			err = disk_hold(c->disk, spec, node_flags(h.flags), &shape);
		keyring_settle(&c->keys, !err);
	}
	if (err)
		outbox_fail(&c->out, TAP_HOLD, id, err, why);
	else
		outbox_reply(&c->out, TAP_HOLD, id, NULL, 0);
}

static unsigned keys_of(const struct params *p)
{
	return (p->flags & TAP_OPEN_KEYS) >> TAP_OPEN_KEYS_SHIFT;
}

static void params_do(struct control *c, const struct params *p)
{
	bool resume = p->type == TAP_RESUME, first = !c->ops;
	struct op *op = op_begin(c, p->type, p->id);
	const char *why = NULL;
	int err = 0;

	if (!op)
		return;
	if (first) {	/* else the disk refuses it */
		err = keyring_use(&c->keys, p->id, keys_of(p), resume);
		why = c->keys.why;
		op->keyed = true;
	}
	if (!err && first &&
	    disk_state(c->disk) == (resume ? DISK_PAUSED : DISK_CLOSED))
		err = redo_file_prepare(&c->redo, p->flags & TAP_OPEN_RECOVER,
					p->flags & TAP_OPEN_UNLOCKED, &why);
	if (err) {
		op_done(op, err, why ? why : "");
	} else if (resume) {
		KILL_POINT("resume");
		disk_resume(c->disk, p->spec, node_flags(p->flags), op_done, op);
	} else {
		KILL_POINT("open");
		if (first && c->journal && !(p->flags & TAP_OPEN_RECOVER))
			journal_reset(c->journal);
		disk_open(c->disk, p->spec, node_flags(p->flags), op_done, op);
	}
}

/* Keys come by another way than what needs them, before or after it. */
static void got_key(void *arg, uint32_t id, int fd)
{
	struct control *c = arg;
	struct params *p = &c->waiting;

	if (fd >= 0)
		keyring_take(&c->keys, id, fd);
	if (!p->type)
		return;
	if (fd < 0)
		outbox_fail(&c->out, p->type, p->id, -EIO, "its keys have not come");
	else if (keyring_complete(&c->keys, p->id, keys_of(p)))
		params_do(c, p);
	else
		return;
	p->type = 0;
}

static void params(struct control *c, const struct msg *m)
{
	struct params *p = &c->waiting;
	struct tap_params fixed;

	files_drain(c->files);
	if (p->type) {
		outbox_fail(&c->out, m->hdr->type, m->hdr->id, -EBUSY,
			  "another open waits for its keys");
		return;
	}
	memcpy(&fixed, m->body, sizeof(fixed));
	p->flags = fixed.flags;
	p->id = m->hdr->id;
	if (msg_text(m, sizeof(fixed), p->spec, sizeof(p->spec))) {
		outbox_fail(&c->out, m->hdr->type, m->hdr->id, -EINVAL,
			  "the image's name is too long or no text");
		return;
	}
	if (keyring_complete(&c->keys, p->id, keys_of(p))) {
		p->type = m->hdr->type;
		params_do(c, p);
		p->type = 0;
	} else {
		p->type = m->hdr->type;
	}
}

/* Nothing of it is secret to who asks: whoever may be our daemon is root, or we. */
static void do_keys(struct control *c, const struct msg *m)
{
	const struct key_set *set = &c->keys.now;
	uint32_t n = set->keys.n;

	for (uint32_t i = 0; i < n; i++) {
		int err = files_give(c->files, TAP_FD_KEY, m->hdr->id, set->fd[i]);

		if (err) {
			outbox_fail(&c->out, TAP_KEYS, m->hdr->id, err, NULL);
			return;
		}
	}
	outbox_reply(&c->out, TAP_KEYS, m->hdr->id, &n, sizeof(n));
}

static void do_params(struct control *c, const struct msg *m)
{
	if (c->minor < 0)
		outbox_fail(&c->out, TAP_PARAMS, m->hdr->id, -EINVAL,
			  "cannot open: it is not attached to a minor");
	else
		params(c, m);
}

static void do_resume(struct control *c, const struct msg *m)
{
	params(c, m);
}

static void do_pause(struct control *c, const struct msg *m)
{
	struct op *op = op_new(c, m);

	if (op)
		disk_pause(c->disk, op_done, op);
}

static void do_close(struct control *c, const struct msg *m)
{
	struct op *op;

	/* A close that told of a flush that failed has closed all the same;
	 * who did not take it for one asks again. */
	if (disk_state(c->disk) == DISK_CLOSED) {
		outbox_reply(&c->out, TAP_CLOSE, m->hdr->id, NULL, 0);
		return;
	}
	op = op_new(c, m);
	if (op)
		disk_close(c->disk, op_done, op);
}

static void do_resize(struct control *c, const struct msg *m)
{
	struct op *op = op_new(c, m);
	uint64_t bytes;

	memcpy(&bytes, m->body, sizeof(bytes));
	if (op)
		disk_resize(c->disk, bytes, op_done, op);
}

static void do_stats(struct control *c, const struct msg *m)
{
	json_t *all = disk_stats(c->disk);
	char *text;

	json_object_set_new(all, "pid", json_integer(getpid()));
	json_object_set_new(all, "minor", json_integer(c->minor));
	json_object_set_new(all, "restarts", json_integer(c->newdev.restarts));
	text = json_dumps(all, JSON_COMPACT | JSON_PRESERVE_ORDER);
	json_decref(all);
	if (text)
		outbox_text(&c->out, TAP_STATS, m->hdr->id, text);
	else
		outbox_fail(&c->out, TAP_STATS, m->hdr->id, -ENOMEM, NULL);
	free(text);
}

static void do_debug(struct control *c, const struct msg *m)
{
	char areas[256];

	if (msg_text(m, 0, areas, sizeof(areas)) || log_areas_set(areas)) {
		char why[128];

		snprintf(why, sizeof(why), "debug areas are: %s", log_areas_help());
		outbox_fail(&c->out, TAP_DEBUG, m->hdr->id, -EINVAL, why);
		return;
	}
	outbox_reply(&c->out, TAP_DEBUG, m->hdr->id, NULL, 0);
}

static void do_xen_connect(struct control *c, const struct msg *m)
{
	guests_connect(&c->guests, m, c->journal);
}

static void do_xen_disconnect(struct control *c, const struct msg *m)
{
	guests_disconnect(&c->guests, m);
}

static void got_xenstat(void *arg, uint32_t domid, uint32_t devid, int fd)
{
	struct control *c = arg;

	guests_stats_to(&c->guests, domid, devid, fd);
}

/* The loop ends; what still runs (a second SIGTERM) ends with the process. */
static void leave(struct control *c)
{
	if (disk_state(c->disk) == DISK_CLOSED) {
		if (c->ring)
			ring_server_free(c->ring);
		if (c->nbd)
			nbd_server_free(c->nbd);
		c->ring = NULL;
		c->nbd = NULL;
	}
	loop_stop(c->loop);
}

static void quit_closed(void *arg, int err, const char *why)
{
	struct control *c = arg;

	if (err)
		log_err("closing for the end failed: %s",
			*why ? why : strerror(-err));
	else
		journal_left(c->journal);
	leave(c);
}

/* No operation is in hand: close and leave. */
static void quit(struct control *c)
{
	if (disk_state(c->disk) == DISK_CLOSED)
		leave(c);
	else
		disk_close(c->disk, quit_closed, c);
}

static void do_detach(struct control *c, const struct msg *m)
{
	if (disk_state(c->disk) != DISK_CLOSED) {
		outbox_fail(&c->out, TAP_DETACH, m->hdr->id, -EBUSY,
			  "cannot detach: the image is still open");
		return;
	}
	outbox_reply(&c->out, TAP_DETACH, m->hdr->id, NULL, 0);
	leave(c);
}

static void do_file_rsp(struct control *c, const struct msg *m)
{
	char why[128];

	if (msg_text(m, 0, why, sizeof(why)))
		why[0] = '\0';
	files_refused(c->files, m->hdr->id, m->hdr->status, why);
}

static const struct {
	uint16_t type;
	uint16_t min_len;
	void (*fn)(struct control *c, const struct msg *m);
} handlers[] = {
	{ TAP_HELLO, sizeof(struct tap_hello), do_hello },
	{ TAP_PID, 0, do_pid },
	{ TAP_NEWDEV, sizeof(struct tap_newdev), do_newdev },
	{ TAP_PARAMS, sizeof(struct tap_params), do_params },
	{ TAP_RESUME, sizeof(struct tap_params), do_resume },
	{ TAP_PAUSE, 0, do_pause },
	{ TAP_CLOSE, 0, do_close },
	{ TAP_RESIZE, sizeof(uint64_t), do_resize },
	{ TAP_STATS, 0, do_stats },
	{ TAP_DEBUG, 0, do_debug },
	{ TAP_DETACH, 0, do_detach },
	{ TAP_FILE_RSP, 0, do_file_rsp },
	{ TAP_HOLD, sizeof(struct tap_hold), do_hold },
	{ TAP_KEYS, 0, do_keys },
	{ TAP_XEN_CONNECT, sizeof(struct tap_xen_connect), do_xen_connect },
	{ TAP_XEN_DISCONNECT, sizeof(struct tap_xen_vbd), do_xen_disconnect },
};

static void handle(struct control *c, const struct msg *m)
{
	const struct tap_hdr *h = m->hdr;

	log_dbg(LOG_CTL, "message %u id %u, %u bytes", h->type, h->id, h->len);
	if (!c->greeted && h->type != TAP_HELLO)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++) {
		if (handlers[i].type != h->type)
			continue;
		if (h->len < handlers[i].min_len)
			outbox_fail(&c->out, h->type, h->id, -EBADMSG, "the message is short");
		else
			handlers[i].fn(c, m);
		return;
	}
	if (!(h->type & 1))	/* requests from 16 on are even */
		outbox_fail(&c->out, h->type, h->id, -EOPNOTSUPP, "unknown message");
}

static void in_ready(struct loop_fd *f, uint32_t events)
{
	struct control *c = container_of(f, struct control, in);
	struct msg m;
	int r;

	(void)events;
	while ((r = read_msg(f->fd, &c->msgs, &m)) == 1)
		handle(c, &m);
	if (r == -EPIPE) {
		log_dbg(LOG_CTL, "blktapctrl closed its pipe");
		msg_in_reset(&c->msgs);
		forget_daemon(c);
	} else if (r < 0) {
		log_err("cannot read from blktapctrl: %s", strerror(-r));
	}
}

static int ask_file(void *arg, unsigned id, const char *path, unsigned flags)
{
	struct control *c = arg;
	size_t len = strlen(path);
	struct tap_file_ask a = {
		.flags = (flags & TD_NODE_RDONLY ? TAP_OPEN_RDONLY : 0) |
			 (flags & TD_NODE_NO_DIRECT ? TAP_OPEN_NO_DIRECT : 0),
	};
	struct msg_out o;

	if (len > TAP_TEXT_MAX)
		return -ENAMETOOLONG;
	memcpy(o.body, &a, sizeof(a));
	memcpy(o.body + sizeof(a), path, len);
	msg_seal(&o, TAP_FILE, 0, id, 0, (uint32_t)(sizeof(a) + len));
	return outbox_send(&c->out, &o);
}

static const struct files_ops files_ops = {
	ask_file, got_socket, got_record, got_key, got_xenstat,
};

struct control *control_new(struct loop *l, struct disk *d,
			    const struct control_fds *fds, uid_t uid)
{
	struct control *c = calloc(1, sizeof(*c));
	int err;

	if (!c)
		return NULL;
	c->loop = l;
	c->disk = d;
	c->minor = c->ring_fd = c->nbd_fd = -1;
	c->keys.env = disk_env(d);
	redo_file_init(&c->redo, disk_env(d));
	outbox_init(&c->out, l, fds->pipe_out);
	c->in.fd = fds->pipe_in;
	c->in.fn = in_ready;
	err = guests_init(&c->guests, l, d, &c->out);
	if (err) {
		errno = -err;
		goto fail;
	}
	c->files = files_new(l, fds->files, uid, &files_ops, c);
	if (!c->files)
		goto fail_guests;
	/* Edge-triggered: a pipe without a writer is ready (hung up) for ever. */
	err = loop_fd_add(l, &c->in, EPOLLIN | EPOLLET);
	if (err) {
		errno = -err;
		goto fail_files;
	}
	return c;
fail_files:
	files_free(c->files);
fail_guests:
	guests_free(&c->guests);
fail:
	free(c);
	return NULL;
}

void control_free(struct control *c)
{
	loop_fd_del(c->loop, &c->in);
	guests_free(&c->guests);
	files_free(c->files);
	close(c->in.fd);
	outbox_close(&c->out);
	drop_sockets(c);
	journal_free(c->journal);
	keyring_wipe(&c->keys);
	redo_file_free(&c->redo);
	free(c);
}

struct journal *control_journal(struct control *c)
{
	return c->journal;
}

struct files *control_files(struct control *c)
{
	return c->files;
}

void control_key_found(struct control *c, const struct td_secret *key)
{
	keyring_found(&c->keys, key);
}

void control_quit(struct control *c)
{
	bool again = c->leaving;

	c->leaving = true;
	if (again)
		leave(c);	/* a second signal does not wait */
	else if (!c->ops)
		quit(c);	/* else when what is being done is done */
}
