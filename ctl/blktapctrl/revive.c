/* revive.c - see revive.h.
 *
 * Why R1 holds.  A pidfd is readable when the last thread of its process has gone
 * through exit_mm(), whoever is to reap it, we or init.  The last exit_mm() drops
 * the address space, which waits in exit_aio() until every request of libaio has
 * ended; a thread in a system call is not gone.  (It may not be the last to drop
 * it: who reads the smaps or the cmdline of a process in /proc as it dies holds its
 * address space for as long as that takes, and then it is the reader who waits in
 * exit_aio(), after the pidfd has fired.)  A pipe of an adopted tapdisk that has no
 * other end any more says the same: descriptors are closed behind exit_mm().  What is
 * written to a socket or by io_uring is another matter: no store does that.
 *
 * The disk of a tapdisk that died while no daemon lived has lost its locks for
 * that time: nobody held duplicates of its files.  The successor opens them by
 * name and locks them, or is refused; and it is told so (TAP_OPEN_UNLOCKED), and
 * refuses by itself to write its redo log into what others may have changed.
 */
#include "revive.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adopt.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "broker.h"
#include "ctl.h"
#include "launch.h"
#include "memo.h"
#include "minors.h"
#include "names.h"
#include "op.h"
#include "policy.h"
#include "proc.h"
#include "steps.h"
#include "vdisk.h"
#include "xen/xen.h"

#define QUICK_NS NS_PER_S
#define QUICK_MAX 5
#define ROWS_MAX 8	/* of them, one behind another */
#define BACKOFF_NS (100 * NS_PER_MS)
#define TROUBLE_MIN 5		/* minutes */
#define TROUBLE_DOUBLES 4
#define TROUBLE_PAUSE_NS NS_PER_S

/* Once; that it lasts is told as it is given up. */
#define TRIED_AGAIN "; that is tried again"

static void on_timer(struct loop_timer *t);

static struct vdisk *revival_disk(struct revival *r)
{
	return container_of(r, struct vdisk, revival);
}

void revive_init(struct vdisk *vd)
{
	loop_timer_init(&vd->revival.timer, on_timer);
}

void revive_free(struct vdisk *vd)
{
	loop_timer_clear(&vd->revival.timer);
}

/* --- former pids */

void revive_was(struct vdisk *vd, pid_t pid)
{
	struct revival *r = &vd->revival;

	for (unsigned i = 0; i < r->n_old; i++)
		if (r->old[i] == pid)
			return;
	if (pid <= 0)
		return;
	/* The first one is what most have written down. */
	if (r->n_old == REVIVE_PIDS) {
		memmove(r->old + 1, r->old + 2, (REVIVE_PIDS - 2) * sizeof(pid));
		r->n_old--;
	}
	r->old[r->n_old++] = pid;
}

bool revive_knows(const struct vdisk *vd, pid_t pid)
{
	if (pid == vd->pid)
		return true;
	for (unsigned i = 0; i < vd->revival.n_old; i++)
		if (vd->revival.old[i] == pid)
			return true;
	return false;
}

/* --- a death */

/* What is in no file was in its memory. */
bool revive_could(const char *spec)
{
	size_t len;

	return !*spec || policy_path(spec, &len);
}

/* It died before it had said what it is, as another daemon's: the memo knows. */
static bool from_memo(struct vdisk *vd)
{
	int n = vd->number, state;
	bool replaced;

	if (n < 0 || n >= TAP_MINOR_MAX || names_marker_creating(n) ||
	    !minor_taken(n) || (minor_disk(n) && minor_disk(n) != vd))
		return false;
	state = memo_read(vd, n, &replaced);
	if (state < 0 || state == VD_OPENING)	/* it has answered nothing yet */
		return false;
	if (vd->minor < 0)
		minor_bind(n, vd);
	vd->revival.was = state;
	vd->revival.again = state == VD_RESUMING ? TAP_RESUME : 0;
	return true;
}

static bool knows_what_it_was(struct vdisk *vd)
{
	struct revival *r = &vd->revival;

	switch (vd->state) {
	case VD_REVIVING:
		return true;
	case VD_RUNNING:
	case VD_PAUSING:
	case VD_PAUSED:
	case VD_RESUMING:
	case VD_CLOSING:
		r->was = vd->state;
		/* (By a daemon before us: it is still to be done.) */
		r->again = vd->calling ? vd->call.type :
			   vd->state == VD_RESUMING ? TAP_RESUME : 0;
		r->len = vd->asked_len;
		memcpy(r->body, vd->asked, sizeof(r->body));
		return true;
	case VD_STARTING:
	case VD_SILENT:
		return !vd->child && from_memo(vd);
	default:
		return false;
	}
}

/* What its tapdisk has noted; zeroes if it had no journal. */
static struct tap_journal_head noted(const struct vdisk *vd)
{
	struct tap_journal_head h = { 0 };
	int fd = names_store_open(RUN_JOURNAL, vd->minor);

	if (fd >= 0 && (pread(fd, &h, sizeof(h), 0) != sizeof(h) ||
			h.magic != TAP_JOURNAL_MAGIC ||
			h.version != TAP_JOURNAL_VERSION))
		memset(&h, 0, sizeof(h));
	if (fd >= 0)
		close(fd);
	return h;
}

/* Its tapdisk was ended in order, and not while it was still to take up what another
 * that died has left for the image: that would be thrown away. */
static bool left_in_order(const struct vdisk *vd)
{
	return vd->state != VD_REVIVING && !vd->revival.unclean && noted(vd).left;
}

static bool may(struct vdisk *vd)
{
	const char *why = NULL;
	int fd;

	if (ctl.no_restart || vd->killed || vd->doomed || !knows_what_it_was(vd) ||
	    vd->number != vd->minor || left_in_order(vd))
		return false;
	fd = names_store_open(RUN_REDO, vd->minor);
	if (vd->hearsay)
		why = "its own word was all that told what it is";
	else if (!revive_could(vd->spec))
		why = "it was in memory alone";
	else if (vd->revival.keyless && !vd->keys.n)
		why = "nobody has its keys any more (destroy it, and create it with them)";
	else if (fd == -ENOENT && policy_has_tables(vd->spec))
		why = "it has no redo log";
	if (fd >= 0)
		close(fd);
	if (why)
		log_err("%s: its tapdisk is not replaced: %s", vdisk_name(vd), why);
	return !why;
}

/* How long until the next try; 0 and *last: there is none. */
static uint64_t count_death(struct vdisk *vd, bool *last)
{
	struct revival *r = &vd->revival;
	uint32_t given_up = noted(vd).given_up;

	if (r->since_ns && loop_now(ctl.loop) - r->since_ns >= QUICK_NS) {
		r->quick = r->rows = 0;
	} else if (given_up != r->given_up && r->rows < ROWS_MAX) {
		r->quick = 0;
		r->rows++;
	} else {
		r->quick++;
	}
	r->given_up = given_up;
	r->since_ns = 0;
	*last = r->quick >= QUICK_MAX;
	return r->quick && !*last ? BACKOFF_NS << (r->quick - 1) : 0;
}

/* The same, where nothing has died (R5). */
static uint64_t count_trouble(struct vdisk *vd, bool *last)
{
	struct revival *r = &vd->revival;
	*last = r->final ||
		loop_now(ctl.loop) - r->trouble_ns >= TROUBLE_MIN * 60 * NS_PER_S;
	return r->tries < TROUBLE_DOUBLES ? BACKOFF_NS << r->tries++ :
					    TROUBLE_PAUSE_NS;
}

/* For all who ask what has become of it; and the next daemon. */
static void note_death(struct vdisk *vd, const char *how)
{
	struct revival *r = &vd->revival;

	revive_was(vd, vd->pid);
	snprintf(r->last, sizeof(r->last), "tapdisk %d %.100s",
		 r->n_old ? (int)r->old[r->n_old - 1] : -1, how);
	r->restarts++;
}

bool revive_begin(struct vdisk *vd, const char *how)
{
	struct revival *r = &vd->revival;
	uint64_t pause;
	bool last;

	loop_timer_clear(&r->timer);	/* of the one that has died */
	if (!may(vd))
		return false;
	pause = r->trouble ? count_trouble(vd, &last) : count_death(vd, &last);
	if (r->final)
		log_err("%s: given up: a tapdisk in the place of one that died %s; no other "
			"could", vdisk_name(vd), how);
	else if (last && r->trouble)
		log_err("%s: given up: for %d minutes no tapdisk could be started or "
			"open its image, the last %s", vdisk_name(vd), TROUBLE_MIN, how);
	else if (last)
		log_err("%s: given up: %d tapdisks in a row have not lasted a second, "
			"the last %s", vdisk_name(vd), QUICK_MAX, how);
	r->keep = last && r->trouble;
	if (last)
		return false;
	if (vd->state != VD_REVIVING) {
		r->held = r->was == VD_PAUSED || r->was == VD_RESUMING ||
			  (r->was == VD_CLOSING && vd->before == VD_PAUSED);
		if (r->was != VD_PAUSED && !(r->was == VD_CLOSING && r->held))
			r->unclean = true;
	}
	chan_close(&vd->chan);
	vd->calling = vd->doubt = false;
	broker_abandon(vd);
	broker_return(vd);
	names_remove_channel(vd->number);
	names_compat_nbd(vd->pid, vd->minor, false);
	if (!r->trouble)
		note_death(vd, how);
	vd->pid = -1;
	if (vd->state != VD_REVIVING)
		vdisk_enter(vd, VD_REVIVING);
	if (!r->trouble)
		memo_write(vd, true);
	loop_timer_set(ctl.loop, &r->timer, pause);
	return true;
}

void revive_abandon(struct vdisk *vd)
{
	if (vd->state == VD_REVIVING && vd->pidfd.fd < 0)
		loop_timer_set(ctl.loop, &vd->revival.timer, 0);
}

/* --- the next one */

static void end_it(struct vdisk *vd, const char *what, const char *why, bool tell)
{
	struct revival *r = &vd->revival;

	snprintf(r->why, sizeof(r->why), "cannot %s: %.200s", what, why);
	if (tell)
		log_err("%s: tapdisk %d, in the place of one that died, %s%s",
			vdisk_name(vd), vd->pid, r->why, r->trouble ? TRIED_AGAIN : "");
	loop_timer_clear(&r->timer);
	proc_kill(vd);
}

/* It lives and is no use: it is ended, which counts as a death. */
static void no_use(struct vdisk *vd, const char *what, const char *why)
{
	end_it(vd, what, why, true);
}

/* This try fails as in R5.  True: that is new, and to be told. */
static bool in_trouble(struct revival *r)
{
	bool begins = !r->trouble_ns;

	r->trouble = true;
	if (begins) {
		r->trouble_ns = loop_now(ctl.loop);
		r->tries = 0;
	}
	return begins;
}

/* It lives, and the host does not let it go on. */
static void no_luck(struct vdisk *vd, const char *what, const char *why)
{
	end_it(vd, what, why, in_trouble(&vd->revival));
}

/* An open that no tapdisk could do, however often it is tried: others may have changed
 * the image, and its redo log is older; or that is damaged. */
static bool is_final(int err)
{
	return err == -ESTALE || err == -EBADMSG;
}

/* It lives, and cannot open the image. */
static void not_opened(struct vdisk *vd, int err, const char *why)
{
	struct revival *r = &vd->revival;

	if (err == -EPROTO) {		/* that is its own fault */
		no_use(vd, "open its image", why);
	} else if (is_final(err)) {	/* told as it is given up */
		in_trouble(r);
		r->final = true;
		end_it(vd, "open its image", why, false);
	} else {
		no_luck(vd, "open its image", why);
	}
}

/* What was not sent to it, or could not be made for it. */
static void not_asked(struct vdisk *vd, const char *what, int err)
{
	bool ended = err == -EPIPE || err == -ENOTCONN || err == -ECONNRESET;

	if (what && !ended)
		no_luck(vd, what, strerror(-err));
	else
		no_use(vd, what ? what : "be reached", strerror(-err));
}

void revive_useless(struct vdisk *vd, const char *why)
{
	no_use(vd, "take over", why);
}

static void try(struct vdisk *vd)
{
	struct revival *r = &vd->revival;
	const char *what;
	char how[128];
	int err;

	r->why[0] = '\0';
	r->trouble = false;
	chan_init(&vd->chan, &vdisk_chan_ops);
	err = launch_start(vd, &what);
	if (err) {
		snprintf(how, sizeof(how), "was not started: %.64s: %s", what,
			 strerror(-err));
		if (in_trouble(r))
			log_err("%s: a tapdisk in the place of one that died %s%s",
				vdisk_name(vd), how, TRIED_AGAIN);
		vdisk_died(vd, how);
		return;
	}
	loop_timer_set(ctl.loop, &r->timer, OP_CONTROL_NS);
}

static void on_timer(struct loop_timer *t)
{
	struct vdisk *vd = revival_disk(container_of(t, struct revival, timer));

	if (vd->pidfd.fd >= 0)
		no_use(vd, "take over", "it does not answer in time");
	else if (vd->killed)
		vdisk_died(vd, "was given up");
	else
		try(vd);
}

static void ask(struct vdisk *vd, uint16_t type, const void *body, size_t len)
{
	int err = vdisk_call(vd, type, body, len, VD_REVIVING);

	if (err)
		no_use(vd, "be reached", strerror(-err));
}

static void ask_hold(struct vdisk *vd)
{
	static union {
		struct tap_hold h;
		char room[sizeof(struct tap_hold) + TAP_TEXT_MAX];
	} body;
	size_t len = strlen(vd->spec);
	int err = key_fds_send(&vd->keys, &vd->chan);

	if (err) {
		not_asked(vd, "pass its keys", err);
		return;
	}
	body.h = (struct tap_hold){
		.img = vd->img,
		.flags = vd->flags | vd->keys.n << TAP_OPEN_KEYS_SHIFT,
	};
	memcpy(body.h.spec, vd->spec, len);
	ask(vd, TAP_HOLD, &body, sizeof(body.h) + len);
}

static void ask_newdev(struct vdisk *vd)
{
	struct tap_newdev nd = { .minor = (uint32_t)vd->minor,
				 .restarts = vd->revival.restarts };
	const char *what;
	int err = launch_equip_again(vd, &what);

	if (err)
		not_asked(vd, what, err);
	else
		ask(vd, TAP_NEWDEV, &nd, sizeof(nd));
}

/* The image, as it was; how long that takes is its storage's affair. */
static void ask_open(struct vdisk *vd)
{
	const char *what = NULL;
	int err;

	loop_timer_clear(&vd->revival.timer);
	strcpy(vd->new_spec, vd->spec);
	vd->new_flags = vd->flags;
	err = image_ask(vd, TAP_RESUME, "", VD_REVIVING, &what);
	if (err)
		not_asked(vd, what, err);
}

void revive_hello(struct vdisk *vd, const struct tap_hello_rsp *h)
{
	if (vd->calling)
		return;
	if (h->pid != vd->pid || vd->chan.peer != vd->pid ||
	    adopt_state(h) != VD_IDLE)
		no_use(vd, "be trusted", "it lies about itself");
	else
		ask_hold(vd);
}

/* What had no answer is done (again); it may have been done before. */
static void ask_again(struct vdisk *vd)
{
	struct revival *r = &vd->revival;
	uint16_t type = r->again;
	const char *what = NULL;
	int err = 0;

	r->again = 0;
	switch (type) {
	case TAP_RESUME:
		err = image_ask(vd, TAP_RESUME, vd->new_spec, VD_RESUMING, &what);
		break;
	case TAP_PAUSE:
		err = vdisk_call(vd, type, NULL, 0, VD_PAUSING);
		break;
	case TAP_CLOSE:
		err = vdisk_call(vd, type, r->body, r->len, VD_CLOSING);
		break;
	case TAP_RESIZE:
		err = vdisk_call(vd, type, r->body, r->len, VD_RUNNING);
		break;
	}
	if (err)
		op_event(vd, WAIT_CALL, err, what ? strerror(-err) :
			 "its tapdisk is not reached");
}

/* It is what it was: vd->state says so. */
static void revived(struct vdisk *vd)
{
	struct revival *r = &vd->revival;

	loop_timer_clear(&r->timer);
	r->since_ns = loop_now(ctl.loop);
	r->trouble_ns = 0;
	memo_write(vd, false);
	log_warn("%s: tapdisk %d has taken over", vdisk_name(vd), vd->pid);
	xen_revived(vd);
	adopt_resolved(vd);
	ask_again(vd);
	op_event(vd, WAIT_REVIVED, 0, "");
}

void revive_answered(struct vdisk *vd, int err, const char *why,
		     const struct msg *m)
{
	struct revival *r = &vd->revival;

	if (*r->why)	/* it is being ended */
		return;
	if (err && vd->call.type == TAP_RESUME)
		not_opened(vd, err, why);
	else if (err)
		no_use(vd, "take over", why);
	if (err)
		return;
	switch (vd->call.type) {
	case TAP_HOLD:
		ask_newdev(vd);
		break;
	case TAP_NEWDEV:
		names_compat_nbd(vd->pid, vd->minor, true);
		if (!r->held) {
			ask_open(vd);
			break;
		}
		vdisk_enter(vd, VD_PAUSED);
		revived(vd);
		break;
	case TAP_RESUME:
		if (vdisk_opened(vd, m))
			no_use(vd, "open its image", "its tapdisk answers nonsense");
		else
			revived(vd);
		break;
	}
}
