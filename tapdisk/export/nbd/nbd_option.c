/* nbd_option.c - the handshake: options in, replies out.
 *
 * The one disk has three names: "" (the default), its minor in decimal, and
 * "tapdisk_client", which tapdisk3's clients use.
 *
 * I1  The replies to one option never exceed NBD_OPT_REPLIES bytes, whatever
 *     the client asks for: each thing is told once.
 * I2  data is read only through struct cur, which knows where it ends.
 */
#include "export/nbd/nbd_option.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/log.h"
#include "export/nbd/nbd_proto.h"

#define BASE "base:"
#define BASE_ALLOCATION "base:allocation"

/* ---- what comes in ---- */

struct cur {
	const uint8_t *p;
	uint32_t left;
	bool bad;		/* something was not there; all zero from then on */
};

static const uint8_t *cur_take(struct cur *c, uint32_t n)
{
	const uint8_t *p = c->p;

	if (c->bad || n > c->left) {
		c->bad = true;
		return NULL;
	}
	c->p += n;
	c->left -= n;
	return p;
}

static uint32_t cur_u32(struct cur *c)
{
	const uint8_t *p = cur_take(c, 4);

	return p ? get_be32(p) : 0;
}

static uint16_t cur_u16(struct cur *c)
{
	const uint8_t *p = cur_take(c, 2);

	return p ? get_be16(p) : 0;
}

struct str {
	const uint8_t *p;
	uint32_t len;
};

/* A string with its length before it. */
static struct str cur_str(struct cur *c)
{
	struct str s = { .len = cur_u32(c) };

	if (s.len > NBD_NAME_MAX)
		c->bad = true;
	s.p = cur_take(c, s.len);
	if (!s.p)
		s.len = 0;
	return s;
}

static bool str_is(struct str s, const char *t)
{
	return s.len == strlen(t) && (!s.len || !memcmp(s.p, t, s.len));
}

static bool name_known(struct str s, const struct nbd_export *x)
{
	char minor[16];

	snprintf(minor, sizeof(minor), "%u", x->minor);
	return str_is(s, "") || str_is(s, minor) || str_is(s, "tapdisk_client");
}

/* ---- what goes out ---- */

static uint8_t *out_room(struct nbd_neg *n, size_t len)
{
	uint8_t *p = n->out + n->out_len;

	ASSERT(len <= sizeof(n->out) - n->out_len);	/* I1 */
	n->out_len += len;
	return p;
}

/* A reply with room for `len` bytes of payload, which is returned. */
static uint8_t *reply(struct nbd_neg *n, uint32_t opt, uint32_t type, uint32_t len)
{
	uint8_t *p = out_room(n, NBD_OPT_REPLY_LEN + len);

	put_be64(p, NBD_MAGIC_OPT_REPLY);
	put_be32(p + 8, opt);
	put_be32(p + 12, type);
	put_be32(p + 16, len);
	return p + NBD_OPT_REPLY_LEN;
}

static enum nbd_verdict ack(struct nbd_neg *n, uint32_t opt)
{
	reply(n, opt, NBD_REP_ACK, 0);
	return NBD_OPT_NEXT;
}

static enum nbd_verdict refuse(struct nbd_neg *n, uint32_t opt, uint32_t type,
			       const char *text)
{
	size_t len = strlen(text);

	memcpy(reply(n, opt, type, (uint32_t)len), text, len);
	return NBD_OPT_NEXT;
}

static uint16_t flags_for(const struct nbd_neg *n, const struct nbd_export *x)
{
	return x->flags | (n->structured ? NBD_FLAG_SEND_DF : 0);
}

static void info_text(struct nbd_neg *n, uint32_t opt, uint16_t what,
		      const char *text)
{
	size_t len = strlen(text);
	uint8_t *p = reply(n, opt, NBD_REP_INFO, (uint32_t)(2 + len));

	put_be16(p, what);
	memcpy(p + 2, text, len);
}

static void info(struct nbd_neg *n, const struct nbd_export *x, uint32_t opt,
		 uint16_t what)
{
	char text[64];
	uint8_t *p;

	switch (what) {
	case NBD_INFO_EXPORT:
		p = reply(n, opt, NBD_REP_INFO, 12);
		put_be16(p, what);
		put_be64(p + 2, x->size);
		put_be16(p + 10, flags_for(n, x));
		break;
	case NBD_INFO_NAME:
		snprintf(text, sizeof(text), "%u", x->minor);
		info_text(n, opt, what, text);
		break;
	case NBD_INFO_DESCRIPTION:
		snprintf(text, sizeof(text), "blktap disk %u", x->minor);
		info_text(n, opt, what, text);
		break;
	case NBD_INFO_BLOCK_SIZE:
		p = reply(n, opt, NBD_REP_INFO, 14);
		put_be16(p, what);
		put_be32(p + 2, NBD_BLOCK_MIN);
		put_be32(p + 6, x->phys > NBD_BLOCK_PREF ? x->phys : NBD_BLOCK_PREF);
		put_be32(p + 10, NBD_BLOCK_MAX);
		break;
	}
}

/* ---- options ---- */

/* The old way in: no reply if the name is wrong, only the end. */
static enum nbd_verdict opt_export_name(struct nbd_neg *n,
					const struct nbd_export *x,
					const uint8_t *data, uint32_t len)
{
	struct str name = { data, len };
	size_t zeroes = n->no_zeroes ? 0 : 124;
	uint8_t *p;

	if (!name_known(name, x))
		return NBD_OPT_CUT;
	if (n->meta && !str_is(name, n->meta_name))
		n->meta = false;
	p = out_room(n, 10 + zeroes);
	put_be64(p, x->size);
	put_be16(p + 8, flags_for(n, x));
	memset(p + 10, 0, zeroes);
	return NBD_OPT_ENTER;
}

static enum nbd_verdict opt_list(struct nbd_neg *n, const struct nbd_export *x,
				 uint32_t len)
{
	char name[16];
	size_t l;
	uint8_t *p;

	if (len)
		return refuse(n, NBD_OPT_LIST, NBD_REP_ERR_INVALID,
			      "this option has no data");
	l = (size_t)snprintf(name, sizeof(name), "%u", x->minor);
	p = reply(n, NBD_OPT_LIST, NBD_REP_SERVER, (uint32_t)(4 + l));
	put_be32(p, (uint32_t)l);
	memcpy(p + 4, name, l);
	return ack(n, NBD_OPT_LIST);
}

static enum nbd_verdict opt_go(struct nbd_neg *n, const struct nbd_export *x,
			       uint32_t opt, struct cur c)
{
	struct str name = cur_str(&c);
	unsigned count = cur_u16(&c), wanted = 1u << NBD_INFO_EXPORT;

	for (unsigned i = 0; i < count && !c.bad; i++) {
		uint16_t what = cur_u16(&c);

		if (what <= NBD_INFO_BLOCK_SIZE)
			wanted |= 1u << what;
	}
	if (c.bad || c.left)
		return refuse(n, opt, NBD_REP_ERR_INVALID, "lengths do not fit");
	if (!name_known(name, x))
		return refuse(n, opt, NBD_REP_ERR_UNKNOWN, "no such export");

	for (uint16_t i = 0; i <= NBD_INFO_BLOCK_SIZE; i++)
		if (wanted & (1u << i))
			info(n, x, opt, i);
	ack(n, opt);
	if (opt == NBD_OPT_INFO)
		return NBD_OPT_NEXT;
	if (n->meta && !str_is(name, n->meta_name))
		n->meta = false;
	return NBD_OPT_ENTER;
}

static enum nbd_verdict opt_meta(struct nbd_neg *n, const struct nbd_export *x,
				 uint32_t opt, struct cur c)
{
	struct str name = cur_str(&c);
	uint32_t count = cur_u32(&c);
	bool set = opt == NBD_OPT_SET_META, found = !set && !count;

	if (set)
		n->meta = false;	/* each one replaces the one before */
	for (uint32_t i = 0; i < count && !c.bad; i++) {
		struct str q = cur_str(&c);

		if (str_is(q, BASE_ALLOCATION) || (!set && str_is(q, BASE)))
			found = true;
	}
	if (!n->structured)
		return refuse(n, opt, NBD_REP_ERR_INVALID,
			      "structured replies must be negotiated first");
	if (c.bad || c.left)
		return refuse(n, opt, NBD_REP_ERR_INVALID, "lengths do not fit");
	if (!name_known(name, x))
		return refuse(n, opt, NBD_REP_ERR_UNKNOWN, "no such export");

	if (found) {
		size_t l = strlen(BASE_ALLOCATION);
		uint8_t *p = reply(n, opt, NBD_REP_META, (uint32_t)(4 + l));

		put_be32(p, set ? NBD_CONTEXT_ALLOCATION : 0);
		memcpy(p + 4, BASE_ALLOCATION, l);
		if (set) {
			n->meta = true;
			memcpy(n->meta_name, name.p, name.len);
			n->meta_name[name.len] = '\0';
		}
	}
	return ack(n, opt);
}

enum nbd_verdict nbd_option(struct nbd_neg *n, const struct nbd_export *x,
			    uint32_t opt, const uint8_t *data, uint32_t len)
{
	struct cur c = { data, len, false };

	if (++n->options > NBD_OPTIONS_MAX)
		return NBD_OPT_CUT;
	/* Without fixed newstyle a client could not understand a reply. */
	if (opt != NBD_OPT_EXPORT_NAME && !n->fixed)
		return NBD_OPT_CUT;
	if (!data)
		return opt == NBD_OPT_EXPORT_NAME ? NBD_OPT_CUT :
			refuse(n, opt, NBD_REP_ERR_TOO_BIG, "too much data");
	switch (opt) {
	case NBD_OPT_EXPORT_NAME:
		return opt_export_name(n, x, data, len);
	case NBD_OPT_ABORT:
		ack(n, opt);
		return NBD_OPT_LEAVE;
	case NBD_OPT_LIST:
		return opt_list(n, x, len);
	case NBD_OPT_STARTTLS:
		return refuse(n, opt, len ? NBD_REP_ERR_INVALID : NBD_REP_ERR_POLICY,
			      "no TLS on a local socket");
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return opt_go(n, x, opt, c);
	case NBD_OPT_STRUCTURED_REPLY:
		if (len)
			return refuse(n, opt, NBD_REP_ERR_INVALID,
				      "this option has no data");
		n->structured = true;
		return ack(n, opt);
	case NBD_OPT_LIST_META:
	case NBD_OPT_SET_META:
		return opt_meta(n, x, opt, c);
	default:
		return refuse(n, opt, NBD_REP_ERR_UNSUP, "unknown option");
	}
}

void nbd_greet(struct nbd_neg *n)
{
	uint8_t *p = out_room(n, NBD_GREETING_LEN);

	put_be64(p, NBD_MAGIC_INIT);
	put_be64(p + 8, NBD_MAGIC_OPT);
	put_be16(p + 16, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

enum nbd_verdict nbd_client_flags(struct nbd_neg *n, uint32_t flags)
{
	if (flags & ~(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES))
		return NBD_OPT_CUT;
	n->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	n->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	return NBD_OPT_NEXT;
}
