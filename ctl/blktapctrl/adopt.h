/* adopt.h - taking over the tapdisks of a daemon that is no more.
 *
 * Everything is rebuilt from what lies in the run directory and what the
 * tapdisks themselves answer; nothing else is kept anywhere.  Leftovers of the
 * dead are removed, what is foreign is left alone, and what was half made by a
 * create that nobody waits for is taken away.
 */
#ifndef CTL_ADOPT_H
#define CTL_ADOPT_H

struct tap_hello_rsp;
struct vdisk;
struct loop_timer;

/* ready() runs once, from the loop, when every tapdisk has answered, died or
 * been given up for now (it stays in the list). */
void adopt_start(void (*ready)(void));

/* For vdisk.c: a tapdisk has answered HELLO; has died; asks to be asked again. */
void adopt_hello(struct vdisk *vd, const struct tap_hello_rsp *h,
		 const char *spec);
void adopt_resolved(struct vdisk *vd);
void adopt_settle(struct loop_timer *t);

/* What a HELLO_RSP's state means, or -1: nothing that can be.  Pure. */
int adopt_state(const struct tap_hello_rsp *h);

#endif
