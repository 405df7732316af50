/* tap_proto.h - control messages: blktapctrl with tapdisk, tap-ctl with
 * blktapctrl.
 *
 * Three channels carry them:
 *
 *  pipes    RUNDIR/tapctrlwriteN (blktapctrl -> tapdisk) and
 *           RUNDIR/tapctrlreadN (tapdisk -> blktapctrl), one pair a tapdisk.
 *           N is the disk's minor; a tapdisk that has no minor yet (spawn) is
 *           numbered from TAP_TEMP_MINOR up and renamed when it is attached.
 *  control  RUNDIR/ctl.sock, SOCK_STREAM: tap-ctl asks, blktapctrl answers.
 *  files    RUNDIR/tapfdN.sock, SOCK_SEQPACKET: descriptors alone, one
 *           struct tap_fd_msg each, from blktapctrl to tapdisk; keys alone
 *           go back as well.
 *
 * A message is a struct tap_hdr and `len` bytes of payload, TAP_MSG_MAX in all,
 * so that a write to a pipe is atomic (PIPE_BUF).  Integers are in host order:
 * both ends are on one host.  A request's reply has type + 1 and its id.  A
 * failure is the reply with status < 0 (-errno) and a reason as text payload
 * (not NUL-terminated).  A long answer comes as several messages, all but the
 * last with TAP_MORE.  Unknown types are answered with -EOPNOTSUPP, unless they
 * are replies.
 *
 * Whoever dies in the middle of a message confuses nobody: `crc` covers header
 * and payload, and a reader that finds anything wrong looks for the next
 * header (lib/msg.h).
 */
#ifndef TAP_PROTO_H
#define TAP_PROTO_H

#include <stdint.h>

#define TAP_MAGIC	0x4b544c42u	/* "BLTK" in memory on little endian */
#define TAP_VERSION	1u
#define TAP_MSG_MAX	4096u		/* PIPE_BUF */
#define TAP_TEXT_MAX	3840u		/* bytes of text in any message */
#define TAP_MINOR_MAX	16384		/* minors are 0 .. 16383, as tapdisk3's */
#define TAP_CTL_ASKS	32u	/* of a connection to blktapctrl, under way; it is
				 * not read while there are so many */
#define TAP_TEMP_MINOR	1000000		/* first number of a tapdisk without one */

struct tap_hdr {
	uint32_t magic;		/* TAP_MAGIC */
	uint8_t version;	/* TAP_VERSION */
	uint8_t flags;		/* TAP_MORE */
	uint16_t type;		/* TAP_* */
	uint32_t id;		/* the requester's; copied into the reply */
	int32_t status;		/* replies: 0 or -errno; requests: 0 */
	uint32_t len;		/* payload bytes, <= TAP_MSG_MAX - header */
	uint32_t crc;		/* CRC-32 of header (crc = 0) and payload */
};
_Static_assert(sizeof(struct tap_hdr) == 24, "wire layout");

#define TAP_MORE	1u	/* flags: this reply goes on */

/* 1 to 10 are classic blktap's; its IMG_FAIL (3) and NEWDEV_FAIL (6) are now a
 * status.  blktapctrl asks and tapdisk answers, except where said. */
enum tap_type {
	TAP_PARAMS	= 1,	/* struct tap_params: open this -> TAP_IMG */
	TAP_IMG		= 2,	/* struct tap_img */
	TAP_NEWDEV	= 4,	/* struct tap_newdev: be this minor; its sockets
				 * come as TAP_FD_RING and TAP_FD_NBD, and before
				 * these TAP_FD_JOURNAL and TAP_FD_REDO */
	TAP_NEWDEV_RSP	= 5,
	TAP_CLOSE	= 7,	/* struct tap_close: drain, flush, close */
	TAP_CLOSE_RSP	= 8,
	TAP_PID		= 9,
	TAP_PID_RSP	= 10,	/* int32_t pid */

	TAP_HELLO	= 16,	/* struct tap_hello: nothing before it counts */
	TAP_HELLO_RSP	= 17,	/* struct tap_hello_rsp */
	TAP_PAUSE	= 18,	/* drain, flush, close the image, hold the guests */
	TAP_PAUSE_RSP	= 19,
	TAP_RESUME	= 20,	/* struct tap_params; empty spec = as before */
	TAP_RESUME_RSP	= 21,	/* struct tap_img */
	TAP_RESIZE	= 22,	/* uint64_t bytes, 0 = as large as the store */
	TAP_RESIZE_RSP	= 23,	/* struct tap_img */
	TAP_STATS	= 24,
	TAP_STATS_RSP	= 25,	/* JSON text, TAP_MORE */
	TAP_DEBUG	= 26,	/* text: debug areas, as of --debug */
	TAP_DEBUG_RSP	= 27,
	TAP_DETACH	= 28,	/* the disk is closed: leave */
	TAP_DETACH_RSP	= 29,
	TAP_FILE	= 30,	/* tapdisk asks: struct tap_file_ask.  A
				 * descriptor answers (TAP_FD_FILE), or: */
	TAP_FILE_RSP	= 31,	/* status < 0 and why */

	TAP_XEN_CONNECT	= 32,	/* struct tap_xen_connect: serve a guest's vbd */
	TAP_XEN_CONNECT_RSP = 33, /* -EEXIST: it is connected already */
	TAP_XEN_DISCONNECT = 34, /* struct tap_xen_vbd: let go of it */
	TAP_XEN_DISCONNECT_RSP = 35, /* nothing is in flight, mapped or bound;
				 * -ENOENT: it is not connected */
	TAP_XEN_BROKEN	= 36,	/* tapdisk tells, nobody answers: struct
				 * tap_xen_broken.  As after a DISCONNECT */

	TAP_HOLD	= 38,	/* struct tap_hold: be what a paused disk is, without
				 * an image yet; before NEWDEV, so that its clients
				 * find a disk.  A RESUME opens it */
	TAP_HOLD_RSP	= 39,

	TAP_KEYS	= 40,	/* give the keys of the image that is open or paused:
				 * each comes as TAP_FD_KEY of this id, before or
				 * after the answer: those it was given, in order,
				 * then what its open has found behind them */
	TAP_KEYS_RSP	= 41,	/* uint32_t: how many */

	/* tap-ctl asks, blktapctrl answers.  Payload: struct tap_verb; answer
	 * as said, and after failure the whole line: who, act and reason. */
	TAP_CTL_LIST	= 64,	/* pid: that one's disk alone -> struct tap_disk
				 * each, TAP_MORE; an empty payload ends it */
	TAP_CTL_ALLOCATE = 66,	/* -> struct tap_disk (minor; path = marker) */
	TAP_CTL_FREE	= 68,
	TAP_CTL_SPAWN	= 70,	/* -> struct tap_disk (pid) */
	TAP_CTL_ATTACH	= 72,
	TAP_CTL_DETACH	= 74,
	TAP_CTL_OPEN	= 76,	/* text: spec */
	TAP_CTL_CLOSE	= 78,
	TAP_CTL_PAUSE	= 80,
	TAP_CTL_UNPAUSE	= 82,	/* text: spec or empty */
	TAP_CTL_STATS	= 84,	/* -> JSON text, TAP_MORE */
	TAP_CTL_INFO	= 86,	/* -> struct tap_disk */
	TAP_CTL_RESIZE	= 88,	/* size -> struct tap_disk */
	TAP_CTL_CREATE	= 90,	/* text: spec -> struct tap_disk */
	TAP_CTL_DESTROY	= 92,
	TAP_CTL_SHUTDOWN = 94,	/* drain and close every disk, then exit */
	TAP_CTL_CHECK	= 96,	/* -> text: version of the daemon */
	TAP_CTL_DEBUG	= 98,	/* text: areas; minor -1 = the daemon's own */
	TAP_CTL_KEY	= 100,	/* no payload, and with its first byte a sealed
				 * memfd: a key for what the next request of this
				 * connection opens (CREATE, OPEN, UNPAUSE) */
	TAP_CTL_XEN_ATTACH = 102, /* text: lines: guest, device, r or w, and the
				 * spec; keys as of CREATE -> struct tap_disk */
	TAP_CTL_XEN_DETACH = 104, /* text: lines: guest, device */
	TAP_CTL_XEN_LIST = 106,	/* -> struct tap_xen_dev each, TAP_MORE; an empty
				 * payload ends it */
};

/* Open flags of PARAMS, RESUME, HOLD, HELLO_RSP, tap_verb and tap_disk. */
enum tap_open_flag {
	TAP_OPEN_RDONLY		= 1u << 0,
	TAP_OPEN_NO_DIRECT	= 1u << 1,
	TAP_OPEN_RECOVER	= 1u << 2,	/* of PARAMS and RESUME alone: the disk
						 * was another tapdisk's, which has
						 * died; what it left in the journal and
						 * the redo log holds */
	TAP_OPEN_UNLOCKED	= 1u << 3,	/* with RECOVER: no lock has kept
						 * others off its files since then */
	TAP_OPEN_KEYS		= 31u << 16,	/* of PARAMS, RESUME, HOLD: how many
						 * TAP_FD_KEY belong to it; of
						 * HELLO_RSP: how many it has */
	TAP_VERB_FORCE		= 1u << 8,	/* close: do not wait for the guest */
	TAP_VERB_XENBUS		= 1u << 9,	/* open, create: the text's first line
						 * is the node (XENBUS_PATH) whose
						 * params and mode count */
};

#define TAP_OPEN_KEYS_SHIFT 16
#define TAP_KEYS_MAX	16
#define TAP_KEY_LEN_MAX	4096	/* bytes of one */

/* spec: TYPE:/path, or FILTER:OPTIONS|TYPE:/path; on further lines the specs of
 * the backing files, from the top down.  A newline at its end: there is none. */
struct tap_params {
	uint32_t flags;		/* TAP_OPEN_* */
	char spec[];		/* to the end of the payload, <= TAP_TEXT_MAX */
};

struct tap_img {
	uint64_t bytes;		/* size, a multiple of 512 */
	uint32_t sector_size;	/* the guest's logical sector, bytes */
	uint32_t phys_size;	/* physical block, bytes */
	uint32_t caps;		/* TD_CAP_* */
	uint32_t pad;
};

struct tap_newdev {
	uint32_t minor;
	uint32_t created;	/* 1: half of a `create`; if its maker dies before
				 * it is open, nobody will miss it */
	uint32_t restarts;	/* tapdisks that this disk has had before */
	uint32_t pad;
};

/* What a disk is whose tapdisk has died. */
struct tap_hold {
	struct tap_img img;
	uint32_t flags;		/* TAP_OPEN_RDONLY, TAP_OPEN_NO_DIRECT, TAP_OPEN_KEYS */
	uint32_t pad;
	char spec[];		/* to the end of the payload, <= TAP_TEXT_MAX */
};

struct tap_close {
	uint32_t flags;		/* TAP_VERB_FORCE */
};

/* States as tapdisk3 prints them (`state=0x..` of tap-ctl list). */
enum tap_state {
	TAP_ST_RUNNING		= 0x0,
	TAP_ST_DEAD		= 0x1,	/* its process ended */
	TAP_ST_CLOSED		= 0x2,	/* attached or closed: no image */
	TAP_ST_PAUSING		= 0x10,
	TAP_ST_PAUSED		= 0x20,
	TAP_ST_CLOSING		= 0x40,
	TAP_ST_OPENING		= 0x80,
	TAP_ST_RESUME_FAILED	= 0x200, /* with PAUSED: unpause failed */
};

struct tap_hello {
	uint64_t epoch;		/* random, one a life of a daemon */
};

struct tap_hello_rsp {
	uint64_t epoch;		/* the asker's */
	int32_t pid;
	int32_t minor;		/* -1: none */
	uint32_t state;		/* TAP_ST_* */
	uint32_t flags;		/* TAP_OPEN_* of the disk, TAP_OPEN_KEYS */
	uint32_t created;	/* of tap_newdev */
	uint32_t pad;
	struct tap_img img;	/* zeroes unless open */
	char spec[];		/* to the end of the payload */
};

/* A guest's block device, by its numbers in xenstore. */
struct tap_xen_vbd {
	uint32_t domid, devid;
};
_Static_assert(sizeof(struct tap_xen_vbd) == 8, "wire layout");

enum tap_xen_flag {
	TAP_XEN_PERSISTENT	= 1u << 0, /* grants stay valid: both ends said
					    * feature-persistent */
	TAP_XEN_READONLY	= 1u << 1, /* this guest may not write */
	TAP_XEN_RECONNECT	= 1u << 2, /* the rings were served before: go on */
};

#define TAP_XEN_QUEUES	8u
#define TAP_XEN_ORDER	4u		/* 1 << order pages a ring */
#define TAP_XEN_DEVICES	16u		/* connected to one disk at a time */
#define TAP_XEN_DOMID_MAX 0x7fefu	/* the others are Xen's own */

/* What a guest wrote into xenstore, all of it hostile. */
struct tap_xen_connect {
	struct tap_xen_vbd vbd;
	uint16_t queues;	/* 1 .. TAP_XEN_QUEUES */
	uint16_t order;		/* 0 .. TAP_XEN_ORDER */
	uint16_t abi;		/* enum tapring_abi */
	uint16_t flags;		/* TAP_XEN_* */
	uint16_t max_indirect;	/* segments that we offered; 0: none */
	uint16_t pad;
	uint32_t evtchn[TAP_XEN_QUEUES];
	uint32_t ref[TAP_XEN_QUEUES][1u << TAP_XEN_ORDER];
};
_Static_assert(sizeof(struct tap_xen_connect) == 564, "wire layout");

struct tap_xen_broken {
	struct tap_xen_vbd vbd;
	char why[];		/* to the end of the payload */
};

struct tap_file_ask {
	uint32_t flags;		/* TAP_OPEN_* */
	char path[];		/* to the end of the payload */
};

/* On the files socket, with exactly one SCM_RIGHTS descriptor. */
enum tap_fd_kind {
	TAP_FD_FILE	= 1,	/* answers TAP_FILE of that id */
	TAP_FD_RING	= 2,	/* listening socket of ring clients */
	TAP_FD_NBD	= 3,	/* listening socket of NBD clients */
	TAP_FD_KEY	= 4,	/* a key for the PARAMS, RESUME, HOLD of that id; a
				 * RESUME without keys has those of before.  From
				 * tapdisk: one that the KEYS of that id asked for */
	TAP_FD_JOURNAL	= 5,	/* before PARAMS: RUNDIR/journalN, for reading and
				 * writing, TAP_JOURNAL_BYTES long, zeroes at first;
				 * what rings have in flight.  It may have holes */
	TAP_FD_REDO	= 6,	/* before PARAMS: RUNDIR/redoN, the same of
				 * TAP_REDO_BYTES: changes of an image's tables
				 * that are not safe yet.  It has no holes when a
				 * PARAMS or RESUME opens such an image for writing */
	TAP_FD_XENSTAT	= 7,	/* a file of TAP_XENSTAT_BYTES for the counters
				 * of vbd `id` of domain `domid`, which is
				 * connected: struct vbd3_stats at its start */
};

#define TAP_XENSTAT_BYTES 4096u
#define TAP_JOURNAL_BYTES (4096u + 16u * (4096u + 8u * 512u * 128u))
#define TAP_REDO_BYTES	(8u << 20)

/* At the start of the journal, by tapdisk, for blktapctrl when that has ended.  With
 * another magic or version nothing is said. */
#define TAP_JOURNAL_MAGIC	0x4c4e524au	/* "JRNL" in memory on little endian */
#define TAP_JOURNAL_VERSION	1u
struct tap_journal_head {
	uint32_t magic, version;
	uint32_t left;		/* 1: a signal ends it, its image is closed in order:
				 * nobody shall take its place */
	uint32_t given_up;	/* requests that have ended one after another, and were
				 * answered with an error instead of a further try */
};

struct tap_fd_msg {
	uint32_t magic;		/* TAP_MAGIC */
	uint32_t kind;		/* enum tap_fd_kind */
	uint32_t id;		/* of TAP_FILE, PARAMS, RESUME, HOLD, KEYS; else 0 */
	uint32_t domid;		/* of XENSTAT; else 0 */
};

/* What tap-ctl sends; fields that a verb does not use are -1 or 0. */
struct tap_verb {
	int32_t pid;		/* -1: any */
	int32_t minor;		/* -1: any */
	uint32_t flags;		/* TAP_OPEN_*, TAP_VERB_* */
	uint32_t timeout;	/* seconds, 0 = the default */
	uint64_t size;		/* bytes; resize: 0 = take up what has grown */
	char text[];		/* to the end of the payload */
};

/* One disk, as list, info and create tell it. */
struct tap_disk {
	int32_t pid;		/* -1: no process */
	int32_t minor;		/* -1: no minor */
	uint32_t state;		/* TAP_ST_* */
	uint32_t flags;		/* TAP_OPEN_* */
	struct tap_img img;	/* zeroes unless open */
	uint32_t restarts;	/* tapdisks that took the place of one that died */
	char last[124];		/* how the last one that was replaced ended; text */
	char spec[];		/* as it was opened; to the end of the payload */
};

/* A guest's disk, as xen-list tells it. */
enum tap_xen_dev_flag {
	TAP_XEN_DEV_READONLY	= 1u << 0,
	TAP_XEN_DEV_SERVED	= 1u << 1,	/* its rings are mapped */
	TAP_XEN_DEV_BROKEN	= 1u << 2,	/* they were stopped: see the log */
};

struct tap_xen_dev {
	struct tap_xen_vbd vbd;
	int32_t minor, pid;	/* -1: none (yet) */
	uint8_t back, front;	/* states of xenbus.h; 0: none */
	uint16_t flags;		/* TAP_XEN_DEV_* */
	char kind[8];		/* of backend/KIND */
	char params[];		/* to the end of the payload */
};

#endif
