/* nbd_priv.h - a server, its clients, and their requests.
 *
 * nbd_server.c  accepts clients, sends their replies once a pass, gives memory
 *               back when nothing happens
 * nbd_client.c  one client's life: socket, phases, front of the disk
 * nbd_request.c the transmission phase: parse, submit, answer
 *
 * I1  A request (struct nbd_op) is in exactly one place: on its client's free
 *     list, its payload being received (c->rx) and perhaps pieces of it in the
 *     disk, in the disk (op->inflight), or on c->out with its reply.
 * I2  c->inflight counts what is in the disk, of all ops.  A client is freed
 *     only when it is dead and inflight is 0, and never from inside a call that
 *     may still use it: from deferred work.
 * I3  c->charged counts the bytes of payload buffers of all its ops, and is at
 *     most NBD_CHARGE_MAX: over that nothing more is read from the client.
 * I4  Replies leave in the order of c->out; only its head may be half sent.
 */
#ifndef NBD_PRIV_H
#define NBD_PRIV_H

#include "base/list.h"
#include "disk/disk.h"
#include "export/nbd/nbd_buf.h"
#include "export/nbd/nbd_option.h"
#include "export/nbd/nbd_wire.h"
#include "loop/accept.h"
#include "loop/loop.h"
#include "td_req.h"

#define NBD_CLIENTS_MAX	64u
#define NBD_OPS		256u			/* of a client, at a time */
#define NBD_CHARGE_MAX	((size_t)64 << 20)	/* payload bytes of a client */
#define NBD_RBUF	((size_t)256 << 10)	/* one receive */
#define NBD_RBUF_BULK	((size_t)4 << 10)	/* beside a big payload */
#define NBD_BULK	(64u << 10)		/* a big payload */
#define NBD_PASS	(512u << 10)		/* payload bytes taken up in a pass */
/* A long write goes to the disk piece by piece, as its payload arrives: the
 * client fills the socket meanwhile, and a piece is still in the processor's
 * cache.  Pieces end at multiples of this, or of a cluster if that is larger. */
#define NBD_PIECE	(128u << 10)
#define NBD_PIECES	8u			/* of a write */
#define NBD_PIECES_OUT	64u			/* of a client, at a time */
#define NBD_STATUS_MAX	512u			/* extents in one answer */

#define NBD_HANDSHAKE_NS (10 * 1000000000ull)	/* to reach transmission */
#define NBD_LINGER_NS	(5 * 1000000000ull)	/* to take the last replies */
#define NBD_LEAVE_NS	(1 * 1000000000ull)	/* to see why we leave */
#define NBD_TICK_NS	(1 * 1000000000ull)	/* idle: memory goes back */

enum nbd_phase {
	NBD_FLAGS,		/* greeted; four bytes of flags are due */
	NBD_OPTIONS,
	NBD_TRANSMISSION,
	NBD_LEAVING,		/* the disk has closed: all is answered ESHUTDOWN */
	NBD_CLOSING,		/* nothing more is read; answers still go out */
	NBD_DEAD,		/* no socket */
	NBD_PHASES
};

struct nbd_server;
struct nbd_client;

struct nbd_op {
	struct list link;	/* on c->out */
	struct nbd_client *c;
	struct nbd_request q;
	int err;		/* the first; it is not submitted then */
	uint32_t got;		/* of a write's payload */
	uint32_t begun;		/* of that, given to the disk */
	unsigned pieces;	/* that it went in, so far: iov[] */
	unsigned inflight;	/* requests in the disk */
	uint8_t *buf;		/* payload, page-aligned; or NULL */
	size_t room;		/* as asked of nbd_buf_get() */
	struct iovec iov[NBD_PIECES];	/* the disk's */
	struct td_extents extents;
	struct iovec out[2];	/* what is left to send: header, payload */
	uint8_t hdr[NBD_REPLY_MAX];
};

struct nbd_client {
	struct disk_front front;
	struct nbd_server *s;
	struct list link;	/* on s->clients */
	struct list push;	/* on s->dirty: something to send, or paced */
	struct loop_fd fd;
	uint32_t events;	/* that the loop watches for */
	struct loop_timer timer; /* handshake; or the last replies */
	struct loop_work reap;
	unsigned number;	/* for messages */

	enum nbd_phase phase;
	bool attached;		/* a front of the disk */
	bool held;		/* the disk is quiet: take nothing */
	bool choked;		/* no op, memory or room for a reply */
	bool blocked;		/* the socket takes nothing more now */
	bool paced;		/* NBD_PASS is used up: goes on after the push */
	struct nbd_neg neg;

	uint8_t *rbuf;		/* NBD_RBUF; kept only while it holds something */
	size_t rpos, rend;
	uint32_t skip;		/* bytes of an option's data to drop */
	struct nbd_op *rx;	/* a write whose payload is coming */
	bool bulk;		/* the last write was big: more will be */

	struct nbd_op *ops;	/* NBD_OPS; from transmission on */
	unsigned fresh;		/* ops[fresh..] were never used */
	struct nbd_op *spare;	/* used before, free now; by op->link.next */
	unsigned busy;		/* ops not free */
	unsigned inflight;	/* ops in the disk (I2) */
	size_t charged;		/* I3 */
	struct list out;	/* I4 */
	uint64_t requests;
};

struct nbd_server {
	struct loop *loop;
	struct disk *disk;
	struct acceptor door;
	unsigned minor;
	bool dying;		/* freed with its last client */
	struct list clients;
	struct list dirty;
	unsigned nclients;
	unsigned numbers;	/* given to clients so far */
	struct nbd_bufs bufs;
	uint64_t gets_seen;	/* bufs.gets at the last tick */
	struct loop_hook push;
	struct loop_timer tick;	/* while memory is cached */
};

/* nbd_server.c */
void nbd_export_now(const struct nbd_server *s, struct nbd_export *x);
void nbd_server_left(struct nbd_server *s);	/* a client is gone */

/* nbd_client.c */
int nbd_client_new(struct nbd_server *s, int fd);	/* fd is ours, always */
void nbd_client_send(struct nbd_client *c);	/* all that the socket takes */
/* Consume what the receive buffer holds, as far as the phase allows. */
void nbd_client_parse(struct nbd_client *c);
void nbd_client_enter(struct nbd_client *c, enum nbd_phase next);
void nbd_client_drop(struct nbd_client *c, const char *why);	/* NULL: normal */
void nbd_client_free(struct nbd_client *c);	/* dead, nothing in flight */
/* Last call of every entrance into a client: what follows from its new state.
 * The client may be gone, or on its way, when this returns. */
void nbd_client_settle(struct nbd_client *c);

/* nbd_request.c */
int nbd_transmission_start(struct nbd_client *c);	/* 0 or -ENOMEM */
void nbd_transmission_end(struct nbd_client *c);	/* inflight is 0 */
/* Take requests out of the receive buffer while that is possible. */
void nbd_requests(struct nbd_client *c);
/* Where a payload that is on its way belongs: false if none is. */
bool nbd_payload_room(struct nbd_client *c, struct iovec *iov);
void nbd_payload_got(struct nbd_client *c, size_t n);
void nbd_op_sent(struct nbd_op *op);
/* No more answers can be given: forget what waits and what is half received. */
void nbd_requests_drop(struct nbd_client *c);

#endif
