/* nbd_rig.h - an NBD export without blktapctrl: the real loop, disk, drivers
 * and server, in a child process of the test, which is its hostile client.
 */
#ifndef NBD_RIG_H
#define NBD_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RIG_MINOR 7

struct nbd_rig {
	pid_t pid;
	int ctl;		/* control socket to the child */
	char dir[64];
	char sock[96];		/* the export */
};

/* Serve `spec` (flags: TD_NODE_*) from a child.  Ends the test on failure. */
void nbd_rig_start(struct nbd_rig *r, const char *spec, unsigned flags);
/* Orders: 'p' pause, 'P' pause without waiting for it, 'w' wait for that,
 * 'r' resume, 'c' close, 'o' open again, 'z' resize to arg.  0 or -errno. */
int nbd_rig_order(struct nbd_rig *r, char order, uint64_t arg);
/* Bytes of buffers that the server has for its clients now (private memory
 * that it would not have without them), in KiB. */
long nbd_rig_private_kib(const struct nbd_rig *r);
/* End the child in good order; true if it ended well (and leaked nothing,
 * where a sanitizer looks). */
bool nbd_rig_stop(struct nbd_rig *r);

/* The server's part, for programs that serve by themselves: until ctl_fd says
 * 'q' or ends. */
int nbd_rig_serve(const char *spec, unsigned flags, int listen_fd, int ctl_fd,
	      uint64_t poll_ns);
int nbd_rig_listen(const char *path);

/* A client: blocking, with a time limit on every wait. */
int nbd_rig_connect(const struct nbd_rig *r);
void nbd_rig_send(int fd, const void *p, size_t len);	/* all of it */
void nbd_rig_recv(int fd, void *p, size_t len);		/* all of it */
bool nbd_rig_ended(int fd);		/* the server has closed; nothing came before */

/* Handshake pieces.  nbd_rig_opt() sends an option; nbd_rig_rep() takes one reply: its
 * type, payload into buf (at most len), *n its length. */
void nbd_rig_greeting(int fd, uint32_t flags);
void nbd_rig_opt(int fd, uint32_t opt, const void *data, uint32_t len);
uint32_t nbd_rig_rep(int fd, uint32_t opt, void *buf, size_t len, uint32_t *n);
/* Connect, greet, negotiate (structured: and base:allocation), GO. */
int nbd_rig_go(const struct nbd_rig *r, bool structured);
void nbd_rig_req(int fd, uint16_t type, uint16_t flags, uint64_t cookie,
	     uint64_t offset, uint32_t length);
/* One simple reply: its error. */
uint32_t nbd_rig_simple(int fd, uint64_t cookie);

#endif
