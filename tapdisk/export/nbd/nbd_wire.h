/* nbd_wire.h - bytes of the transmission phase: requests checked, replies made,
 * errors translated.  Pure: knows no socket, no disk, keeps nothing.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include <stdbool.h>
#include <stdint.h>

/* What is offered, enforced and told to clients. */
#define NBD_BLOCK_MIN	1u
#define NBD_BLOCK_PREF	4096u		/* or the disk's physical block, if larger */
#define NBD_BLOCK_MAX	(32u << 20)	/* payload of a request */
#define NBD_PAYLOAD_CUT	(64u << 20)	/* a write beyond this is not even skipped */

/* The disk as a client sees it now. */
struct nbd_export {
	uint64_t size;
	uint32_t phys;
	uint16_t flags;		/* NBD_FLAG_*; SEND_DF apart */
	unsigned minor;
};

/* Transmission flags from TD_CAP_*. */
uint16_t nbd_export_flags(uint32_t caps, bool rdonly);

struct nbd_request {
	uint64_t cookie, offset;
	uint32_t length;
	uint16_t type;		/* enum nbd_cmd, or anything */
	uint16_t flags;		/* NBD_CMD_FLAG_*, or anything */
};

/* NBD_REQUEST_LEN bytes -> *q.  False: that is no request; the stream is lost. */
bool nbd_request_get(struct nbd_request *q, const uint8_t *p);

/* May it be carried out?  0 or the -errno to answer with.  structured, meta:
 * what the client has negotiated. */
int nbd_request_check(const struct nbd_request *q, const struct nbd_export *x,
		      bool structured, bool meta);

/* Bytes that follow the request. */
static inline uint32_t nbd_request_payload(const struct nbd_request *q)
{
	return q->type == 1 /* NBD_CMD_WRITE */ ? q->length : 0;
}

/* The one place where -errno becomes an error of the protocol. */
uint32_t nbd_errno(int err);

/* Reply headers; each returns its length, at most NBD_REPLY_MAX. */
#define NBD_REPLY_MAX 28u
unsigned nbd_put_simple(uint8_t *p, uint64_t cookie, int err);
unsigned nbd_put_error(uint8_t *p, uint64_t cookie, int err);
unsigned nbd_put_none(uint8_t *p, uint64_t cookie);
/* Followed by `length` bytes of data. */
unsigned nbd_put_data(uint8_t *p, uint64_t cookie, uint64_t offset,
		      uint32_t length);
/* Followed by n pairs of length (4) and NBD_STATE_* (4). */
unsigned nbd_put_status(uint8_t *p, uint64_t cookie, uint32_t context,
			unsigned n);

#endif
