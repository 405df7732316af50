/* shutdown.h - close every disk, then end the daemon. */
#ifndef CTL_SHUTDOWN_H
#define CTL_SHUTDOWN_H

struct ask;
struct tap_verb;

/* Destroys all disks at once; when the last is gone frees the minors and stops
 * the loop.  If any stays, says which, and the daemon stays too.  a is copied. */
void shutdown_begin(struct ask *a, const struct tap_verb *v);

/* The last word, when nothing of us is left in the run directory: who hears it
 * may start another daemon there at once. */
void shutdown_answer(void);

#endif
