/* nbd_proto.h - the NBD protocol's numbers (NetworkBlockDevice/nbd, proto.md):
 * what this server speaks or must recognise.  Everything on the wire is big
 * endian; sizes are bytes.
 */
#ifndef NBD_PROTO_H
#define NBD_PROTO_H

#include <stdint.h>

#define NBD_MAGIC_INIT		0x4e42444d41474943ull	/* "NBDMAGIC" */
#define NBD_MAGIC_OPT		0x49484156454f5054ull	/* "IHAVEOPT" */
#define NBD_MAGIC_OPT_REPLY	0x0003e889045565a9ull
#define NBD_MAGIC_REQUEST	0x25609513u
#define NBD_MAGIC_SIMPLE	0x67446698u
#define NBD_MAGIC_CHUNK		0x668e33efu

#define NBD_GREETING_LEN	18	/* magic, magic, flags (2) */
#define NBD_CLIENT_FLAGS_LEN	4
#define NBD_OPT_LEN		16	/* magic, option (4), length (4) */
#define NBD_OPT_REPLY_LEN	20	/* magic, option, type, length (4 each) */
#define NBD_REQUEST_LEN		28	/* magic (4), flags (2), type (2), cookie (8),
					 * offset (8), length (4) */
#define NBD_SIMPLE_LEN		16	/* magic (4), error (4), cookie (8) */
#define NBD_CHUNK_LEN		20	/* magic (4), flags (2), type (2), cookie (8),
					 * length (4) */
#define NBD_NAME_MAX		4096

/* Handshake flags, either way. */
#define NBD_FLAG_FIXED_NEWSTYLE	(1u << 0)
#define NBD_FLAG_NO_ZEROES	(1u << 1)

enum nbd_opt {
	NBD_OPT_EXPORT_NAME	= 1,
	NBD_OPT_ABORT		= 2,
	NBD_OPT_LIST		= 3,
	NBD_OPT_STARTTLS	= 5,
	NBD_OPT_INFO		= 6,
	NBD_OPT_GO		= 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META	= 9,
	NBD_OPT_SET_META	= 10,
};

#define NBD_REP_ACK		1u
#define NBD_REP_SERVER		2u
#define NBD_REP_INFO		3u
#define NBD_REP_META		4u
#define NBD_REP_ERR_UNSUP	((1u << 31) | 1)
#define NBD_REP_ERR_POLICY	((1u << 31) | 2)
#define NBD_REP_ERR_INVALID	((1u << 31) | 3)
#define NBD_REP_ERR_UNKNOWN	((1u << 31) | 6)
#define NBD_REP_ERR_TOO_BIG	((1u << 31) | 9)

enum nbd_info {
	NBD_INFO_EXPORT		= 0,
	NBD_INFO_NAME		= 1,
	NBD_INFO_DESCRIPTION	= 2,
	NBD_INFO_BLOCK_SIZE	= 3,
};

/* Transmission flags. */
#define NBD_FLAG_HAS_FLAGS	(1u << 0)
#define NBD_FLAG_READ_ONLY	(1u << 1)
#define NBD_FLAG_SEND_FLUSH	(1u << 2)
#define NBD_FLAG_SEND_FUA	(1u << 3)
#define NBD_FLAG_SEND_TRIM	(1u << 5)
#define NBD_FLAG_SEND_ZEROES	(1u << 6)
#define NBD_FLAG_SEND_DF	(1u << 7)
#define NBD_FLAG_MULTI_CONN	(1u << 8)
#define NBD_FLAG_SEND_CACHE	(1u << 10)
#define NBD_FLAG_SEND_FAST_ZERO	(1u << 11)

enum nbd_cmd {
	NBD_CMD_READ		= 0,
	NBD_CMD_WRITE		= 1,
	NBD_CMD_DISC		= 2,
	NBD_CMD_FLUSH		= 3,
	NBD_CMD_TRIM		= 4,
	NBD_CMD_CACHE		= 5,
	NBD_CMD_ZEROES		= 6,
	NBD_CMD_BLOCK_STATUS	= 7,
};

#define NBD_CMD_FLAG_FUA	(1u << 0)
#define NBD_CMD_FLAG_NO_HOLE	(1u << 1)
#define NBD_CMD_FLAG_DF		(1u << 2)
#define NBD_CMD_FLAG_REQ_ONE	(1u << 3)
#define NBD_CMD_FLAG_FAST_ZERO	(1u << 4)

#define NBD_CHUNK_DONE		(1u << 0)	/* flag: the last of its reply */
#define NBD_CHUNK_NONE		0u
#define NBD_CHUNK_DATA		1u
#define NBD_CHUNK_BLOCK_STATUS	5u
#define NBD_CHUNK_ERROR		((1u << 15) | 1)

#define NBD_STATE_HOLE		(1u << 0)	/* base:allocation */
#define NBD_STATE_ZERO		(1u << 1)

#define NBD_EPERM		1u
#define NBD_EIO			5u
#define NBD_ENOMEM		12u
#define NBD_EINVAL		22u
#define NBD_ENOSPC		28u
#define NBD_EOVERFLOW		75u
#define NBD_ENOTSUP		95u
#define NBD_ESHUTDOWN		108u

#endif
