/* notify.h - tell the service manager how we do (sd_notify(3)'s protocol,
 * without its library).  Does nothing when nobody asked for it.
 */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

/* Takes NOTIFY_SOCKET out of the environment, so that children do not speak for
 * us.  Call once, early. */
void notify_init(void);

/* E.g. "READY=1\nSTATUS=serving 3 disks".  0, or -errno that hurts nobody. */
int notify_send(const char *state);

#endif
