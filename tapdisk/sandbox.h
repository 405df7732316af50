/* sandbox.h - give up what a disk process does not need. */
#ifndef SANDBOX_H
#define SANDBOX_H

/* An ioctl that is let through, of this descriptor alone. */
struct sandbox_ioctl {
	int fd;
	unsigned long request;
};

/* Root becomes nobody, no capability is left or can be gained, the process
 * cannot be traced or dumped, and only the system calls of the data path and
 * the control channel remain (the others answer EPERM): no file can be opened,
 * no socket made, no program run.  Call with every pipe, socket and device
 * open, before the first byte from a guest or an image.  extra: ioctls of those
 * devices.  0 or -errno. */
int sandbox_enter(const struct sandbox_ioctl *extra, unsigned n);

#endif
