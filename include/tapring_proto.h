/* tapring_proto.h - how a plain process connects to a disk's ring.
 *
 * The ring itself is Xen's blkif (xen/include/public/io/blkif.h, ring.h) in
 * memory that the client makes: a memfd, sealed against shrinking.  A grant
 * reference is the index of a 4096-byte page of that memfd.  The client talks
 * over RUNDIR/ring<minor>.sock (SOCK_STREAM), integers in host order:
 *
 *   server -> client   struct tapring_greeting
 *   client -> server   struct tapring_hello, with SCM_RIGHTS: the memfd
 *   server -> client   struct tapring_status: 0 and the rings run, with
 *                      SCM_RIGHTS: one end of a socket pair for each queue; or
 *                      an error, and the connection is closed
 *   server -> client   struct tapring_status with TAPRING_RESIZED whenever the
 *                      disk's size has changed
 *   server -> client   struct tapring_status with TAPRING_CLOSED before the server
 *                      ends a connection: the disk closes, or the client is no good
 *
 * The disk is the client's until the connection closes.
 *
 * A connection that ends without TAPRING_CLOSED has lost its server, which may
 * have a successor.  If the first status brought a token that is not all zeroes,
 * the client connects again (trying for a while: nobody may listen yet, or the
 * disk not be open: -ENODEV), and sends the same hello, with that token and the
 * same memory.  The successor goes on with the rings as they are: requests that
 * were not answered are executed again and answered once, and one doorbell for
 * each ring comes in any case.  New doorbells come with the status; the client
 * rings each once, for what it has put on the rings meanwhile.  -ESTALE: it
 * knows nothing of that token; -EBUSY: that connection still lives, or there are
 * too many clients; -EINVAL: the rings had another shape.
 *
 * A doorbell is one
 * byte on the queue's socket, either way, when the ring's event index asks for
 * it; both ends send with MSG_DONTWAIT and take a full socket for a doorbell
 * that is already there.  The server makes the pairs: a client that shared the
 * server's end could hold its lock, in the kernel, for as long as it liked.
 */
#ifndef TAPRING_PROTO_H
#define TAPRING_PROTO_H

#include <assert.h>
#include <stdint.h>

#define TAPRING_MAGIC		0x474e5254u	/* "TRNG" in memory, little endian */
#define TAPRING_VERSION		2u
#define TAPRING_PAGE		4096u		/* a blkif page, whatever the CPU's */
#define TAPRING_MAX_ORDER	4u		/* 16 ring pages, 512 slots */
#define TAPRING_MAX_QUEUES	8u
#define TAPRING_MAX_INDIRECT	256u		/* segments: 1 MiB a request */
#define TAPRING_MAX_PAGES	(1u << 20)	/* of a client's memfd: 4 GiB */

/* The three slot layouts of blkif.h. */
enum tapring_abi {
	TAPRING_ABI_NATIVE	= 1,
	TAPRING_ABI_X86_32	= 2,
	TAPRING_ABI_X86_64	= 3,
};

enum tapring_feature {
	TAPRING_F_FLUSH		= 1u << 0,
	TAPRING_F_BARRIER	= 1u << 1,
	TAPRING_F_DISCARD	= 1u << 2,
	TAPRING_F_RDONLY	= 1u << 3,
};

/* Whose rings these are: a secret between one client and the server. */
struct tapring_token {
	uint8_t b[16];
};

struct tapring_greeting {
	uint32_t magic;		/* TAPRING_MAGIC */
	uint16_t version;	/* TAPRING_VERSION */
	uint16_t max_order;
	uint16_t max_queues;
	uint16_t max_indirect;	/* segments; 0 = no indirect requests */
	uint32_t features;	/* TAPRING_F_* */
	uint32_t minor;
	uint32_t sector_size;	/* logical, bytes */
	uint32_t phys_size;	/* physical block, bytes */
	uint32_t discard_granularity;	/* bytes */
	uint64_t sectors;	/* of 512 bytes, always */
};
static_assert(sizeof(struct tapring_greeting) == 40, "wire layout");

struct tapring_hello {
	uint32_t magic;		/* TAPRING_MAGIC */
	uint16_t version;	/* TAPRING_VERSION */
	uint16_t abi;		/* enum tapring_abi */
	uint16_t order;		/* each ring has 1 << order pages */
	uint16_t queues;	/* 1 .. max_queues */
	uint32_t pages;		/* of the memfd that grants may name */
	uint32_t ring_ref[TAPRING_MAX_QUEUES][1u << TAPRING_MAX_ORDER];
	struct tapring_token token;	/* zeroes: new rings, all zeroes but events */
};
static_assert(sizeof(struct tapring_hello) == 544, "wire layout");

enum tapring_event {
	TAPRING_CONNECTED	= 1,
	TAPRING_RESIZED		= 2,
	TAPRING_CLOSED		= 3,
};

struct tapring_status {
	uint32_t magic;		/* TAPRING_MAGIC */
	uint16_t version;	/* TAPRING_VERSION */
	uint16_t event;		/* enum tapring_event */
	int32_t status;		/* 0 or -errno */
	uint32_t pad;
	uint64_t sectors;	/* of 512 bytes, now */
	struct tapring_token token;	/* of CONNECTED; zeroes: no successor */
};
static_assert(sizeof(struct tapring_status) == 40, "wire layout");

#endif
