/* nbd_option.h - the handshake: options in, replies out.  Pure: bytes to bytes,
 * no socket and no disk.
 */
#ifndef NBD_OPTION_H
#define NBD_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "export/nbd/nbd_wire.h"

#define NBD_OPT_DATA_MAX	(64u << 10)	/* understood; more is skipped */
#define NBD_OPT_DATA_CUT	(1u << 20)	/* more is not even skipped */
#define NBD_OPTIONS_MAX		128u		/* a client may send */
/* Room that `out` must have before an option is given to nbd_option(). */
#define NBD_OPT_REPLIES		512u
#define NBD_CONTEXT_ALLOCATION	1u		/* our id for base:allocation */

/* What a client has negotiated, and what is to be sent to it. */
struct nbd_neg {
	bool fixed, no_zeroes;	/* its flags */
	bool structured;
	bool meta;		/* base:allocation, for the name in meta_name */
	char meta_name[32];
	unsigned options;	/* so far */
	size_t out_pos, out_len;	/* to be sent: out[out_pos .. out_len) */
	uint8_t out[2048];
};

enum nbd_verdict {
	NBD_OPT_NEXT,		/* go on */
	NBD_OPT_ENTER,		/* send what is in out, then transmission */
	NBD_OPT_LEAVE,		/* send what is in out, then close */
	NBD_OPT_CUT,		/* close */
};

void nbd_greet(struct nbd_neg *n);
/* The client's four bytes of flags. */
enum nbd_verdict nbd_client_flags(struct nbd_neg *n, uint32_t flags);
/* One whole option.  data is NULL when there was too much of it. */
enum nbd_verdict nbd_option(struct nbd_neg *n, const struct nbd_export *x,
			    uint32_t opt, const uint8_t *data, uint32_t len);

#endif
