/* The NBD export's pure half: requests checked, errors translated, flags
 * computed, replies laid out, options negotiated - from memory. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "export/nbd/nbd_option.h"
#include "export/nbd/nbd_proto.h"
#include "export/nbd/nbd_wire.h"
#include "td_driver.h"

#define SIZE (64 * MiB)

static struct nbd_export export(uint32_t caps)
{
	return (struct nbd_export){ .size = SIZE, .phys = 512, .minor = 7,
				    .flags = nbd_export_flags(caps, false) };
}

static int check(uint16_t type, uint16_t flags, uint64_t offset, uint32_t length)
{
	struct nbd_export x = export(TD_CAP_ALL);
	struct nbd_request q = { .type = type, .flags = flags, .offset = offset,
				 .length = length };

	return nbd_request_check(&q, &x, true, true);
}

static void flags_follow_from_capabilities(void **state)
{
	uint16_t all = nbd_export_flags(TD_CAP_ALL, false);
	uint16_t ro = nbd_export_flags(TD_CAP_ALL, true);
	uint16_t poor = nbd_export_flags(TD_CAP_WRITE, false);

	(void)state;
	assert_true(all & NBD_FLAG_HAS_FLAGS);
	assert_true(all & NBD_FLAG_SEND_FLUSH);
	assert_true(all & NBD_FLAG_SEND_FUA);
	assert_true(all & NBD_FLAG_SEND_TRIM);
	assert_true(all & NBD_FLAG_SEND_ZEROES);
	assert_true(all & NBD_FLAG_SEND_FAST_ZERO);
	assert_true(all & NBD_FLAG_MULTI_CONN);
	assert_false(all & NBD_FLAG_READ_ONLY);
	assert_true(ro & NBD_FLAG_READ_ONLY);
	assert_false(ro & (NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_ZEROES |
			   NBD_FLAG_SEND_FAST_ZERO));
	assert_false(poor & (NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_FUA |
			     NBD_FLAG_SEND_FLUSH));
}

static void requests_inside_the_disk_pass(void **state)
{
	(void)state;
	assert_int_equal(check(NBD_CMD_READ, 0, 0, 512), 0);
	assert_int_equal(check(NBD_CMD_READ, NBD_CMD_FLAG_DF, 1, 1), 0);
	assert_int_equal(check(NBD_CMD_READ, 0, SIZE - 1, 1), 0);
	assert_int_equal(check(NBD_CMD_READ, 0, SIZE, 0), 0);
	assert_int_equal(check(NBD_CMD_READ, 0, 0, NBD_BLOCK_MAX), 0);
	assert_int_equal(check(NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 0, 4096), 0);
	assert_int_equal(check(NBD_CMD_FLUSH, 0, 0, 0), 0);
	assert_int_equal(check(NBD_CMD_TRIM, NBD_CMD_FLAG_FUA, 0, SIZE), 0);
	assert_int_equal(check(NBD_CMD_ZEROES, NBD_CMD_FLAG_NO_HOLE |
			       NBD_CMD_FLAG_FAST_ZERO, 0, SIZE), 0);
	assert_int_equal(check(NBD_CMD_CACHE, 0, 0, SIZE), 0);
	assert_int_equal(check(NBD_CMD_BLOCK_STATUS, NBD_CMD_FLAG_REQ_ONE, 0, SIZE),
			 0);
}

static void requests_that_lie_are_refused(void **state)
{
	(void)state;
	/* past the end, and wrapping around it */
	assert_int_equal(check(NBD_CMD_READ, 0, SIZE, 1), -EINVAL);
	assert_int_equal(check(NBD_CMD_READ, 0, UINT64_MAX, 2), -EINVAL);
	assert_int_equal(check(NBD_CMD_WRITE, 0, SIZE - 1, 2), -ENOSPC);
	assert_int_equal(check(NBD_CMD_WRITE, 0, UINT64_MAX - 511, 1024), -ENOSPC);
	assert_int_equal(check(NBD_CMD_ZEROES, 0, 0, UINT32_MAX), -ENOSPC);
	assert_int_equal(check(NBD_CMD_TRIM, 0, SIZE, 512), -EINVAL);
	assert_int_equal(check(NBD_CMD_CACHE, 0, SIZE, 512), -EINVAL);
	assert_int_equal(check(NBD_CMD_BLOCK_STATUS, 0, SIZE, 1), -EINVAL);
	/* more than is advertised */
	assert_int_equal(check(NBD_CMD_READ, 0, 0, NBD_BLOCK_MAX + 1), -EINVAL);
	assert_int_equal(check(NBD_CMD_WRITE, 0, 0, NBD_BLOCK_MAX + 1), -EINVAL);
	/* flags of other commands, flags of nobody */
	assert_int_equal(check(NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 1), -EINVAL);
	assert_int_equal(check(NBD_CMD_WRITE, NBD_CMD_FLAG_DF, 0, 1), -EINVAL);
	assert_int_equal(check(NBD_CMD_TRIM, NBD_CMD_FLAG_FAST_ZERO, 0, 1), -EINVAL);
	assert_int_equal(check(NBD_CMD_READ, 1u << 5, 0, 1), -EINVAL);
	assert_int_equal(check(NBD_CMD_READ, 1u << 15, 0, 1), -EINVAL);
	/* commands of nobody */
	assert_int_equal(check(NBD_CMD_DISC, 0, 0, 0), -EINVAL);
	assert_int_equal(check(8, 0, 0, 0), -EINVAL);
	assert_int_equal(check(UINT16_MAX, 0, 0, 0), -EINVAL);
	/* reserved fields, empty block status */
	assert_int_equal(check(NBD_CMD_FLUSH, 0, 512, 0), -EINVAL);
	assert_int_equal(check(NBD_CMD_FLUSH, 0, 0, 512), -EINVAL);
	assert_int_equal(check(NBD_CMD_BLOCK_STATUS, 0, 0, 0), -EINVAL);
}

static void what_was_not_negotiated_is_refused(void **state)
{
	struct nbd_export x = export(TD_CAP_WRITE), ro = export(TD_CAP_ALL);
	struct nbd_request q = { .type = NBD_CMD_READ, .flags = NBD_CMD_FLAG_DF,
				 .length = 512 };

	(void)state;
	assert_int_equal(nbd_request_check(&q, &x, false, false), -EINVAL);
	q = (struct nbd_request){ .type = NBD_CMD_BLOCK_STATUS, .length = 512 };
	assert_int_equal(nbd_request_check(&q, &x, true, false), -EINVAL);
	q.type = NBD_CMD_TRIM;
	assert_int_equal(nbd_request_check(&q, &x, true, true), -EOPNOTSUPP);
	ro.flags = nbd_export_flags(TD_CAP_ALL, true);
	q.type = NBD_CMD_WRITE;
	assert_int_equal(nbd_request_check(&q, &ro, true, true), -EPERM);
	q.type = NBD_CMD_ZEROES;
	assert_int_equal(nbd_request_check(&q, &ro, true, true), -EPERM);
	q.type = NBD_CMD_TRIM;
	assert_int_equal(nbd_request_check(&q, &ro, true, true), -EPERM);
}

static void errors_are_the_protocols(void **state)
{
	(void)state;
	assert_int_equal(nbd_errno(0), 0);
	assert_int_equal(nbd_errno(-EROFS), 1);
	assert_int_equal(nbd_errno(-EPERM), 1);
	assert_int_equal(nbd_errno(-EIO), 5);
	assert_int_equal(nbd_errno(-EILSEQ), 5);
	assert_int_equal(nbd_errno(-ENOMEM), 12);
	assert_int_equal(nbd_errno(-EINVAL), 22);
	assert_int_equal(nbd_errno(-ENOSPC), 28);
	assert_int_equal(nbd_errno(-EDQUOT), 28);
	assert_int_equal(nbd_errno(-EOVERFLOW), 75);
	assert_int_equal(nbd_errno(-EOPNOTSUPP), 95);
	assert_int_equal(nbd_errno(-ESHUTDOWN), 108);
}

static void replies_have_the_layout(void **state)
{
	static const uint8_t data[] = {
		0x66, 0x8e, 0x33, 0xef, 0, 1, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8,
		0, 0, 2, 8, 0, 0, 0, 1, 0, 0, 0, 0,
	};
	static const uint8_t simple[] = {
		0x67, 0x44, 0x66, 0x98, 0, 0, 0, 5, 1, 2, 3, 4, 5, 6, 7, 8,
	};
	uint8_t p[NBD_REPLY_MAX];

	(void)state;
	assert_int_equal(nbd_put_data(p, 0x0102030405060708, 1ull << 32, 512), 28);
	assert_memory_equal(p, data, sizeof(data));
	assert_int_equal(nbd_put_simple(p, 0x0102030405060708, -EIO), 16);
	assert_memory_equal(p, simple, sizeof(simple));
	assert_int_equal(nbd_put_error(p, 1, -ENOSPC), 26);
	assert_int_equal(get_be32(p + 16), 6);
	assert_int_equal(get_be32(p + 20), 28);
	assert_int_equal(nbd_put_status(p, 1, 9, 3), 24);
	assert_int_equal(get_be32(p + 16), 28);
	assert_int_equal(get_be32(p + 20), 9);
}

static void request_magic_is_checked(void **state)
{
	uint8_t p[NBD_REQUEST_LEN] = { 0x25, 0x60, 0x95, 0x13, 0, 1, 0, 6,
		0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0 };
	struct nbd_request q;

	(void)state;
	assert_true(nbd_request_get(&q, p));
	assert_int_equal(q.flags, 1);
	assert_int_equal(q.type, 6);
	assert_int_equal(q.cookie, 9);
	assert_int_equal(q.offset, 1ull << 32);
	assert_int_equal(q.length, 512);
	p[3]++;
	assert_false(nbd_request_get(&q, p));
}

/* ---- options ---- */

struct opt {
	struct nbd_neg n;
	struct nbd_export x;
	enum nbd_verdict verdict;
	size_t at;		/* of the next reply that was not looked at */
};

static void begin(struct opt *o)
{
	memset(o, 0, sizeof(*o));
	o->x = export(TD_CAP_ALL);
	o->n.fixed = o->n.no_zeroes = true;
}

static void ask(struct opt *o, uint32_t opt, const void *data, uint32_t len)
{
	uint8_t *copy = malloc(len + 1);	/* a sanitizer sees over-reads */

	assert_non_null(copy);
	memcpy(copy, data, len);
	copy = realloc(copy, len ? len : 1);
	o->n.out_pos = o->n.out_len = o->at = 0;
	o->verdict = nbd_option(&o->n, &o->x, opt, copy, len);
	free(copy);
	assert_true(o->n.out_len <= NBD_OPT_REPLIES);
}

/* The next reply's type; its payload in *p, *len. */
static uint32_t next(struct opt *o, const uint8_t **p, uint32_t *len)
{
	const uint8_t *r = o->n.out + o->at;

	assert_true(o->at + NBD_OPT_REPLY_LEN <= o->n.out_len);
	assert_int_equal(get_be64(r), NBD_MAGIC_OPT_REPLY);
	*len = get_be32(r + 16);
	*p = r + NBD_OPT_REPLY_LEN;
	o->at += NBD_OPT_REPLY_LEN + *len;
	assert_true(o->at <= o->n.out_len);
	return get_be32(r + 12);
}

static uint32_t only(struct opt *o)
{
	const uint8_t *p;
	uint32_t len, type = next(o, &p, &len);

	assert_int_equal(o->at, o->n.out_len);
	return type;
}

#define LIT(s) (s), sizeof(s) - 1

static void go_tells_what_is_asked_for_once(void **state)
{
	struct opt o;
	const uint8_t *p;
	uint32_t len;

	(void)state;
	begin(&o);
	ask(&o, NBD_OPT_GO, LIT("\0\0\0\1" "7" "\0\4" "\0\3\0\3\0\1\377\377"));
	assert_int_equal(o.verdict, NBD_OPT_ENTER);
	assert_int_equal(next(&o, &p, &len), NBD_REP_INFO);
	assert_int_equal(len, 12);
	assert_int_equal(get_be16(p), NBD_INFO_EXPORT);
	assert_int_equal(get_be64(p + 2), SIZE);
	assert_false(get_be16(p + 10) & NBD_FLAG_SEND_DF);
	assert_int_equal(next(&o, &p, &len), NBD_REP_INFO);
	assert_int_equal(get_be16(p), NBD_INFO_NAME);
	assert_int_equal(len, 3);
	assert_int_equal(p[2], '7');
	assert_int_equal(next(&o, &p, &len), NBD_REP_INFO);
	assert_int_equal(get_be16(p), NBD_INFO_BLOCK_SIZE);
	assert_int_equal(get_be32(p + 2), 1);
	assert_int_equal(get_be32(p + 6), 4096);
	assert_int_equal(get_be32(p + 10), NBD_BLOCK_MAX);
	assert_int_equal(only(&o), NBD_REP_ACK);
}

static void names_name_the_one_disk(void **state)
{
	static const struct { const char *opt; uint32_t len; bool ok; } names[] = {
		{ LIT("\0\0\0\0" "\0\0"), true },
		{ LIT("\0\0\0\1" "7" "\0\0"), true },
		{ LIT("\0\0\0\16" "tapdisk_client" "\0\0"), true },
		{ LIT("\0\0\0\1" "8" "\0\0"), false },
		{ LIT("\0\0\0\2" "7\0" "\0\0"), false },
		{ LIT("\0\0\0\3" "abc" "\0\0"), false },
	};
	struct opt o;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		begin(&o);
		ask(&o, NBD_OPT_INFO, names[i].opt, names[i].len);
		assert_int_equal(o.verdict, NBD_OPT_NEXT);
		if (!names[i].ok)
			assert_int_equal(only(&o), NBD_REP_ERR_UNKNOWN);
		else
			assert_int_equal(o.n.out_len, 32 + 20);
	}
}

static void lengths_that_do_not_fit_are_invalid(void **state)
{
	static const struct { uint32_t opt; const char *data; uint32_t len; } bad[] = {
		{ NBD_OPT_GO, LIT("") },
		{ NBD_OPT_GO, LIT("\0\0\0\0" "\0") },
		{ NBD_OPT_GO, LIT("\0\0\0\0" "\0\1") },
		{ NBD_OPT_GO, LIT("\0\0\0\0" "\0\0" "x") },
		{ NBD_OPT_GO, LIT("\0\0\0\7" "7" "\0\0") },
		{ NBD_OPT_GO, LIT("\377\377\377\377" "\0\0") },
		{ NBD_OPT_INFO, LIT("\0\0\0\0" "\377\377" "\0\0") },
		{ NBD_OPT_SET_META, LIT("\0\0\0\0") },
		{ NBD_OPT_SET_META, LIT("\0\0\0\0" "\0\0\0\1") },
		{ NBD_OPT_SET_META, LIT("\0\0\0\0" "\377\377\377\377") },
		{ NBD_OPT_SET_META, LIT("\0\0\0\0" "\0\0\0\1" "\0\0\0\5" "base") },
		{ NBD_OPT_LIST_META, LIT("\0\0\0\0" "\0\0\0\0" "\0") },
		{ NBD_OPT_LIST, LIT("x") },
		{ NBD_OPT_STRUCTURED_REPLY, LIT("x") },
		{ NBD_OPT_STARTTLS, LIT("x") },
	};
	struct opt o;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		begin(&o);
		o.n.structured = true;
		ask(&o, bad[i].opt, bad[i].data, bad[i].len);
		assert_int_equal(o.verdict, NBD_OPT_NEXT);
		assert_int_equal(only(&o), NBD_REP_ERR_INVALID);
		assert_false(o.n.meta);
	}
}

#define ALLOC "\0\0\0\17" "base:allocation"

static void meta_contexts_are_selected(void **state)
{
	struct opt o;
	const uint8_t *p;
	uint32_t len;

	(void)state;
	begin(&o);
	/* not before structured replies */
	ask(&o, NBD_OPT_SET_META, LIT("\0\0\0\0" "\0\0\0\1" ALLOC));
	assert_int_equal(only(&o), NBD_REP_ERR_INVALID);
	assert_false(o.n.meta);
	ask(&o, NBD_OPT_STRUCTURED_REPLY, "", 0);
	assert_int_equal(only(&o), NBD_REP_ACK);

	/* asked for twice, told once */
	ask(&o, NBD_OPT_SET_META, LIT("\0\0\0\0" "\0\0\0\2" ALLOC ALLOC));
	assert_int_equal(next(&o, &p, &len), NBD_REP_META);
	assert_int_equal(len, 19);
	assert_int_equal(get_be32(p), NBD_CONTEXT_ALLOCATION);
	assert_int_equal(only(&o), NBD_REP_ACK);
	assert_true(o.n.meta);

	/* a wildcard selects nothing, and a new choice replaces the old */
	ask(&o, NBD_OPT_SET_META, LIT("\0\0\0\0" "\0\0\0\1" "\0\0\0\5" "base:"));
	assert_int_equal(only(&o), NBD_REP_ACK);
	assert_false(o.n.meta);
	ask(&o, NBD_OPT_LIST_META, LIT("\0\0\0\0" "\0\0\0\1" "\0\0\0\5" "base:"));
	assert_int_equal(next(&o, &p, &len), NBD_REP_META);
	ask(&o, NBD_OPT_LIST_META, LIT("\0\0\0\0" "\0\0\0\0"));
	assert_int_equal(next(&o, &p, &len), NBD_REP_META);
	ask(&o, NBD_OPT_LIST_META, LIT("\0\0\0\0" "\0\0\0\1" "\0\0\0\4" "qemu"));
	assert_int_equal(only(&o), NBD_REP_ACK);
	ask(&o, NBD_OPT_SET_META, LIT("\0\0\0\1" "x" "\0\0\0\1" ALLOC));
	assert_int_equal(only(&o), NBD_REP_ERR_UNKNOWN);
	assert_false(o.n.meta);

	/* chosen for one name, entered by another: nothing is selected */
	ask(&o, NBD_OPT_SET_META, LIT("\0\0\0\0" "\0\0\0\1" ALLOC));
	assert_true(o.n.meta);
	ask(&o, NBD_OPT_GO, LIT("\0\0\0\1" "7" "\0\0"));
	assert_int_equal(o.verdict, NBD_OPT_ENTER);
	assert_false(o.n.meta);
	assert_true(get_be16(o.n.out + 30) & NBD_FLAG_SEND_DF);
}

static void the_old_way_in_works(void **state)
{
	struct opt o;

	(void)state;
	begin(&o);
	ask(&o, NBD_OPT_EXPORT_NAME, "tapdisk_client", 14);
	assert_int_equal(o.verdict, NBD_OPT_ENTER);
	assert_int_equal(o.n.out_len, 10);
	begin(&o);
	o.n.no_zeroes = o.n.fixed = false;
	ask(&o, NBD_OPT_EXPORT_NAME, "", 0);
	assert_int_equal(o.verdict, NBD_OPT_ENTER);
	assert_int_equal(o.n.out_len, 134);
	assert_int_equal(get_be64(o.n.out), SIZE);
	begin(&o);
	ask(&o, NBD_OPT_EXPORT_NAME, "nonsense", 8);
	assert_int_equal(o.verdict, NBD_OPT_CUT);
	/* an old client cannot be answered otherwise */
	begin(&o);
	o.n.fixed = false;
	ask(&o, NBD_OPT_LIST, "", 0);
	assert_int_equal(o.verdict, NBD_OPT_CUT);
}

static void other_options_are_answered(void **state)
{
	struct opt o;
	const uint8_t *p;
	uint32_t len;

	(void)state;
	begin(&o);
	ask(&o, 99, LIT("whatever"));
	assert_int_equal(only(&o), NBD_REP_ERR_UNSUP);
	ask(&o, NBD_OPT_STARTTLS, "", 0);
	assert_int_equal(only(&o), NBD_REP_ERR_POLICY);
	ask(&o, NBD_OPT_LIST, "", 0);
	assert_int_equal(next(&o, &p, &len), NBD_REP_SERVER);
	assert_int_equal(len, 5);
	assert_int_equal(get_be32(p), 1);
	assert_int_equal(p[4], '7');
	assert_int_equal(only(&o), NBD_REP_ACK);
	o.n.out_len = o.at = 0;
	assert_int_equal(nbd_option(&o.n, &o.x, NBD_OPT_GO, NULL, 1u << 19),
			 NBD_OPT_NEXT);
	assert_int_equal(only(&o), NBD_REP_ERR_TOO_BIG);
	ask(&o, NBD_OPT_ABORT, "", 0);
	assert_int_equal(o.verdict, NBD_OPT_LEAVE);
	assert_int_equal(only(&o), NBD_REP_ACK);
	for (unsigned i = 0; i < NBD_OPTIONS_MAX; i++)
		ask(&o, 99, "", 0);
	assert_int_equal(o.verdict, NBD_OPT_CUT);
}

static void unknown_handshake_flags_are_cut(void **state)
{
	struct nbd_neg n = { .fixed = false };

	(void)state;
	assert_int_equal(nbd_client_flags(&n, 3), NBD_OPT_NEXT);
	assert_true(n.fixed && n.no_zeroes);
	assert_int_equal(nbd_client_flags(&n, 1), NBD_OPT_NEXT);
	assert_false(n.no_zeroes);
	assert_int_equal(nbd_client_flags(&n, 4), NBD_OPT_CUT);
	assert_int_equal(nbd_client_flags(&n, 1u << 31), NBD_OPT_CUT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_follow_from_capabilities),
		cmocka_unit_test(requests_inside_the_disk_pass),
		cmocka_unit_test(requests_that_lie_are_refused),
		cmocka_unit_test(what_was_not_negotiated_is_refused),
		cmocka_unit_test(errors_are_the_protocols),
		cmocka_unit_test(replies_have_the_layout),
		cmocka_unit_test(request_magic_is_checked),
		cmocka_unit_test(go_tells_what_is_asked_for_once),
		cmocka_unit_test(names_name_the_one_disk),
		cmocka_unit_test(lengths_that_do_not_fit_are_invalid),
		cmocka_unit_test(meta_contexts_are_selected),
		cmocka_unit_test(the_old_way_in_works),
		cmocka_unit_test(other_options_are_answered),
		cmocka_unit_test(unknown_handshake_flags_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
