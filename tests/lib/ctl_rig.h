/* ctl_rig.h - the daemon without its processes: all of ctl/blktapctrl but main
 * and proc.c, in one unit with a test, which plays the tapdisk and the client at
 * the other ends of real pipes and sockets.
 *
 * Include it in one .c file alone: it is the daemon's code.
 */
#ifndef CTL_RIG_H
#define CTL_RIG_H

#include "adopt.c"
#include "broker.c"
#include "chan.c"
#include "client.c"
#include "forward.c"
#include "keys.c"
#include "keys_back.c"
#include "launch.c"
#include "memo.c"
#include "minors.c"
#include "names.c"
#include "names_scan.c"
#include "op.c"
#include "policy.c"
#include "revive.c"
#include "shutdown.c"
#include "steps_image.c"
#include "steps_life.c"
#include "vdisk.c"
#include "verbs.c"
#include "xen/none.c"

#include <sys/eventfd.h>

static const char *const rig_no_dirs[] = { NULL };
struct ctl ctl = { .image_dirs = rig_no_dirs, .no_restart = true, .vdisks = LIST_INIT(ctl.vdisks) };

/* --- proc.c's place: nothing starts, and what is killed dies in the next turn */

static struct vdisk *rig_killed;

int proc_start(struct vdisk *vd, int listen_fd)
{
	(void)vd;
	(void)listen_fd;
	return -ENOENT;
}

int proc_watch(struct vdisk *vd, pid_t pid)
{
	vd->pidfd.fd = eventfd(0, EFD_CLOEXEC);
	vd->pid = pid;
	return 0;
}

void proc_unwatch(struct vdisk *vd)
{
	if (vd->pidfd.fd >= 0)
		close(vd->pidfd.fd);
	vd->pidfd.fd = -1;
}

void proc_kill(struct vdisk *vd)
{
	rig_killed = vd;
}

/* --- turns of the loop */

/* Always ready: a pass that has looked at descriptors is the last one. */
static void rig_stop(struct loop_fd *f, uint32_t events)
{
	(void)f;
	(void)events;
	loop_stop(ctl.loop);
}

static struct loop_fd rig_bell = { .fn = rig_stop };

/* Some passes: whatever is there has been handled. */
static void rig_turn(void)
{
	for (int i = 0; i < 4; i++) {
		loop_run(ctl.loop);
		if (rig_killed) {
			struct vdisk *vd = rig_killed;

			rig_killed = NULL;
			vdisk_died(vd, "was killed");
		}
	}
}

/* --- the ends that a test holds */

struct rig {
	struct vdisk *vd;
	struct client *client;
	int tap_rd, tap_wr, tap_sock;	/* the tapdisk's */
	int ctl_sock;			/* tap-ctl's */
	struct msg_in tap_in, ctl_in;
};

static void rig_new(struct rig *r, enum vdisk_state state, const char *spec)
{
	int p[2], q[2], s[2], t[2];

	memset(r, 0, sizeof(*r));
	if (pipe2(p, O_NONBLOCK | O_CLOEXEC) || pipe2(q, O_NONBLOCK | O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, t))
		abort();
	minor_take(0, false);
	r->vd = vdisk_new(0);
	minor_bind(0, r->vd);
	proc_watch(r->vd, 1234);
	r->vd->child = true;
	r->vd->state = state;
	strcpy(r->vd->spec, spec);
	r->vd->chan.rd.fd = p[0];
	r->vd->chan.wr.fd = q[1];
	r->vd->chan.fd.fd = t[0];
	r->vd->chan.greeted = true;
	r->vd->chan.peer = 1234;
	r->tap_wr = p[1];
	r->tap_rd = q[0];
	r->tap_sock = t[1];
	r->ctl_sock = s[1];
	loop_fd_add(ctl.loop, &r->vd->chan.rd, EPOLLIN);
	loop_fd_add(ctl.loop, &r->vd->chan.wr, 0);
	loop_fd_add(ctl.loop, &r->vd->chan.fd, EPOLLIN);
	r->client = client_new(s[0]);
}

/* Everything goes, whatever has happened; abort if something stays. */
static void rig_free(struct rig *r)
{
	close(r->ctl_sock);
	rig_turn();
	for (int i = 0; i < 20 && ctl.n_vdisks; i++) {
		struct vdisk *vd = list_first(&ctl.vdisks, struct vdisk, link);

		if (vd->state != VD_DEAD)
			vdisk_died(vd, "has ended");
		rig_turn();
		if (ctl.n_vdisks && list_first(&ctl.vdisks, struct vdisk, link) == vd &&
		    list_empty(&vd->ops)) {
			vdisk_forget(vd);
			vdisk_free(vd);
			rig_turn();
		}
	}
	for (int n = 0; n < TAP_MINOR_MAX; n++)
		if (minor_taken(n))
			minor_free(n);
	close(r->tap_rd);
	close(r->tap_wr);
	close(r->tap_sock);
	ctl.leaving = false;
	if (ctl.n_vdisks || clients.n)
		abort();
}

/* Once: a run directory of our own, a loop, workers. */
static void rig_start(void)
{
	static char dir[] = "/tmp/ctl.XXXXXX";

	signal(SIGPIPE, SIG_IGN);
	if (!mkdtemp(dir) || rundir_set(dir))
		abort();
	ctl.loop = loop_new();
	ctl.workers = workers_new(ctl.loop, 2);
	ctl.epoch = 42;
	ctl.tapdisk = "/nonexistent";
	loop_work_init(&clients.clean, clean_up);
	rig_bell.fd = eventfd(1, EFD_CLOEXEC);
	if (!ctl.loop || !ctl.workers || loop_fd_add(ctl.loop, &rig_bell, EPOLLIN))
		abort();
}

static void rig_end(void)
{
	workers_free(ctl.workers);
	rig_turn();
	loop_fd_del(ctl.loop, &rig_bell);
	close(rig_bell.fd);
	loop_free(ctl.loop);
	rmdir(rundir());
}

#endif
