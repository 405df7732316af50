/* files.c - see files.h.
 *
 * The peer is blktapctrl and nobody else (credentials are checked); a newer
 * connection replaces an older one, for a daemon that was restarted.  The first
 * byte that we send carries our credentials, so that it learns our true pid.
 */
#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "loop/accept.h"
#include "loop/loop.h"
#include "msg.h"

struct ask {
	struct list link;
	unsigned id;
	td_file_fn *fn;
	void *arg;
	struct td_file answer;
	char why[128];
};

struct files {
	struct loop *loop;
	uid_t uid;
	const struct files_ops *ops;
	void *arg;
	struct acceptor door;
	struct loop_fd conn;
	struct list asked;
	struct list answered;
	struct loop_work answer;
	unsigned next_id;
};

static void run_answers(struct loop_work *w)
{
	struct files *f = container_of(w, struct files, answer);
	struct list *e;

	while ((e = list_pop(&f->answered))) {
		struct ask *a = container_of(e, struct ask, link);

		a->fn(a->arg, &a->answer);
		free(a);
	}
}

static void answer(struct files *f, struct ask *a, int fd, int err,
		   const char *why)
{
	a->answer = (struct td_file){ .fd = fd, .err = err };
	if (why && *why) {
		strncpy(a->why, why, sizeof(a->why) - 1);
		a->answer.why = a->why;
	}
	list_del(&a->link);
	list_add(&f->answered, &a->link);
	loop_defer(f->loop, &f->answer);
}

static struct ask *find(struct files *f, unsigned id)
{
	list_for_each(e, &f->asked) {
		struct ask *a = container_of(e, struct ask, link);

		if (a->id == id)
			return a;
	}
	return NULL;
}

static void hang_up(struct files *f)
{
	if (f->conn.fd < 0)
		return;
	loop_fd_del(f->loop, &f->conn);
	close(f->conn.fd);
	f->conn.fd = -1;
	f->ops->key(f->arg, 0, -1);
}

static void take(struct files *f, const struct tap_fd_msg *m, int fd)
{
	struct ask *a;

	switch (m->kind) {
	case TAP_FD_FILE:
		a = find(f, m->id);
		if (a) {
			answer(f, a, fd, 0, NULL);
			return;
		}
		break;
	case TAP_FD_RING:
	case TAP_FD_NBD:
		f->ops->socket(f->arg, m->kind, fd);
		return;
	case TAP_FD_KEY:
		f->ops->key(f->arg, m->id, fd);
		return;
	case TAP_FD_XENSTAT:
		f->ops->xenstat(f->arg, m->domid, m->id, fd);
		return;
	case TAP_FD_JOURNAL:
	case TAP_FD_REDO:
		f->ops->record(f->arg, m->kind, fd);
		return;
	}
	log_warn("a descriptor that nobody asked for was closed");
	close(fd);
}

void files_drain(struct files *f)
{
	struct tap_fd_msg m;
	int fd, n = 0;

	while (f->conn.fd >= 0 && (n = msg_recv_fd(f->conn.fd, &m, &fd)) == 1)
		take(f, &m, fd);
	if (n < 0)
		hang_up(f);
}

static void conn_ready(struct loop_fd *lf, uint32_t events)
{
	(void)events;
	files_drain(container_of(lf, struct files, conn));
}

static void let_in(struct acceptor *door, int fd)
{
	struct files *f = container_of(door, struct files, door);
	struct ucred peer = { .uid = (uid_t)-1 };
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
	    (peer.uid != 0 && peer.uid != f->uid)) {
		log_warn("refused a connection of user %d to the files socket",
			 (int)peer.uid);
		close(fd);
		return;
	}
	/* SO_PASSCRED at the other end makes this byte carry who we are. */
	if (send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
		close(fd);
		return;
	}
	files_drain(f);		/* what a daemon has passed that died holds */
	hang_up(f);
	f->conn.fd = fd;
	f->conn.fn = conn_ready;
	if (loop_fd_add(f->loop, &f->conn, EPOLLIN)) {
		close(fd);
		f->conn.fd = -1;
	}
}

struct files *files_new(struct loop *l, int listen_fd, uid_t uid,
			const struct files_ops *ops, void *arg)
{
	struct files *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return NULL;
	f->loop = l;
	f->uid = uid;
	f->ops = ops;
	f->arg = arg;
	f->conn.fd = -1;
	list_init(&f->asked);
	list_init(&f->answered);
	loop_work_init(&f->answer, run_answers);
	f->door.whom = "blktapctrl";
	f->door.fn = let_in;
	err = acceptor_start(&f->door, l, listen_fd);
	if (err) {
		free(f);
		errno = -err;
		return NULL;
	}
	return f;
}

void files_free(struct files *f)
{
	hang_up(f);
	acceptor_stop(&f->door);
	files_lost(f);
	loop_work_cancel(&f->answer);
	run_answers(&f->answer);
	free(f);
}

void files_get(struct files *f, const char *path, unsigned flags,
	       td_file_fn *fn, void *arg)
{
	struct ask *a = calloc(1, sizeof(*a));
	int err;

	ASSERT(a);	/* a control operation: memory for a few bytes there is */
	a->id = ++f->next_id;
	a->fn = fn;
	a->arg = arg;
	list_add(&f->asked, &a->link);
	err = f->ops->ask(f->arg, a->id, path, flags);
	if (err)
		answer(f, a, -1, err, "cannot ask blktapctrl for the file");
}

int files_give(struct files *f, enum tap_fd_kind kind, uint32_t id, int fd)
{
	struct tap_fd_msg m = { .magic = TAP_MAGIC, .kind = kind, .id = id };

	return f->conn.fd < 0 ? -ENOTCONN : msg_send_fd(f->conn.fd, &m, fd);
}

void files_refused(struct files *f, unsigned id, int err, const char *why)
{
	struct ask *a = find(f, id);

	if (a)
		answer(f, a, -1, err < 0 ? err : -EIO, why);
}

void files_lost(struct files *f)
{
	while (!list_empty(&f->asked))
		answer(f, list_first(&f->asked, struct ask, link), -1, -EIO,
		       "blktapctrl ended before it passed the file");
}
