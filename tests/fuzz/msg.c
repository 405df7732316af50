/* Control messages as a hostile peer sends them: the framing, and then what both
 * ends read out of a message.  The bytes come in pieces, as a pipe gives them.
 *
 * Input: the first byte says how large the pieces are; the rest is the stream.
 * Every other piece is preceded by a sound message, which must come through
 * unless the stream before it has begun one that swallows it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "msg.h"

#include "policy.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) do { if (!(cond)) abort(); } while (0)

static struct msg_in in;

/* What a reader does with a payload. */
static void use(const struct msg *m)
{
	static const size_t offsets[] = {
		0, sizeof(struct tap_params), sizeof(struct tap_file_ask),
		sizeof(struct tap_verb), sizeof(struct tap_hello_rsp),
		sizeof(struct tap_disk),
	};
	char text[TAP_TEXT_MAX + 1];

	CHECK(m->hdr->magic == TAP_MAGIC && m->hdr->version == TAP_VERSION);
	CHECK(m->hdr->len <= TAP_MSG_MAX - sizeof(*m->hdr));
	CHECK((uintptr_t)m->body % 8 == 0);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		if (msg_text(m, offsets[i], text, sizeof(text)))
			continue;
		CHECK(strlen(text) == m->hdr->len - offsets[i]);
		if (!policy_spec(text)) {
			static const char *const none[] = { NULL };
			static struct policy_grant g;
			struct policy p = { text, 0, none };
			size_t len = 0;
			const char *own = policy_path(text, &len), *why;
			char path[TAP_TEXT_MAX + 1] = "/";

			CHECK(!own || (own > text && own[-1] == ':' &&
				       own[0] == '/' && own + len <= text +
							strlen(text)));
			if (own)
				snprintf(path, sizeof(path), "%.*s", (int)len, own);
			CHECK(!policy_check(&p, path, 0, &g, &why) == !!own);
			CHECK(!g.found);
			p.flags = TAP_OPEN_RDONLY;
			CHECK(policy_check(&p, path, 0, &g, &why) < 0);
		}
	}
}

static void take_all(void)
{
	size_t before = in.have;
	struct msg m;

	for (size_t i = 0; msg_next(&in, &m); i++) {
		CHECK(i <= before);
		use(&m);
	}
	CHECK(in.have < TAP_MSG_MAX);		/* room for the next piece */
}

static void feed(const void *p, size_t n)
{
	CHECK(in.have + n <= sizeof(in.buf));
	memcpy(in.buf + in.have, p, n);
	in.have += n;
	take_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct msg_out sound;
	size_t piece, n;
	uint32_t id = 0;

	memset(&in, 0, sizeof(in));
	if (!size)
		return 0;
	piece = 1 + data[0] * 16u;
	data++;
	size--;
	for (; size; data += n, size -= n) {
		n = size < piece ? size : piece;
		if (n > TAP_MSG_MAX)
			n = TAP_MSG_MAX;
		/* The fuzzer cannot find a checksum: mend one where a header
		 * seems to stand. */
		if (n >= sizeof(struct tap_hdr) && (id++ & 1)) {
			static struct msg_out o;
			struct tap_hdr h;

			memcpy(&h, data, sizeof(h));
			memcpy(o.body, data + sizeof(h), n - sizeof(h) < sizeof(o.body)
			       ? n - sizeof(h) : sizeof(o.body));
			msg_seal(&o, h.type, h.flags, h.id, h.status,
				 h.len % sizeof(o.body));
			feed(&o, msg_size(&o));
		} else {
			feed(data, n);
		}
	}
	/* Whatever has been, two full-size messages later all is in order. */
	for (id = 1; id <= 2; id++) {
		memset(sound.body, 0, sizeof(sound.body));
		msg_seal(&sound, TAP_HELLO, 0, id, 0, sizeof(sound.body));
		feed(&sound, msg_size(&sound));
	}
	CHECK(in.have == 0 || in.done == in.have);
	return 0;
}
