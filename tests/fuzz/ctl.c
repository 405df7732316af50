/* The daemon, as a hostile tapdisk and a hostile tap-ctl write to it.
 *
 * Input: a byte for the disk's state, then records: who speaks (1), message type
 * (1), flags and status (1), length (1), that many bytes of payload.  Types are
 * those of the protocol; checksums are right, so that everything behind them is
 * reached.  After each input all must be gone: disks, clients, minors.
 */
#include "ctl_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void say(struct rig *r, const uint8_t *rec, const uint8_t *body, size_t len)
{
	static struct msg_out o;
	bool tapdisk = rec[0] & 1;
	uint16_t type = tapdisk ? rec[1] % 40 : (uint16_t)(60 + rec[1] % 44);
	uint32_t id = tapdisk ? r->vd->chan.next_id - (rec[2] >> 6) : rec[2];

	if (!tapdisk) {
		struct tap_verb v = { .pid = rec[0] & 2 ? 1234 : -1,
				      .minor = rec[0] & 4 ? (int)(rec[0] >> 6) : -1,
				      .flags = rec[2], .timeout = rec[2] >> 4 };

		memcpy(o.body, &v, sizeof(v));
		memcpy(o.body + sizeof(v), body, len);
		if (!(rec[0] & 8))		/* or as it comes */
			len += sizeof(v);
		else
			memcpy(o.body, body, len);
	} else {
		memcpy(o.body, body, len);
		if (type == TAP_HELLO_RSP && len >= 8)	/* or it ends here */
			memcpy(o.body, &ctl.epoch, 8);
	}
	msg_seal(&o, type, rec[2] & TAP_MORE, id,
		 tapdisk ? -(int32_t)(rec[2] >> 2 & 7) : 0, (uint32_t)len);
	if (write(tapdisk ? r->tap_wr : r->ctl_sock, &o, msg_size(&o)) < 0)
		return;
}

/* Both read what they get, and it must be sound. */
static void listen_to(int fd, struct msg_in *in)
{
	struct msg m;

	for (int i = 0; i < 1000 && read_msg(fd, in, &m) == 1; i++)
		;
	if (in->skipped)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum vdisk_state states_at_first[] = {
		VD_RUNNING, VD_PAUSED, VD_CLOSED, VD_IDLE, VD_SILENT, VD_RUNNING,
	};
	static bool started;
	struct rig r;

	if (!started) {
		log_open(LOG_TO_STDERR, "fuzz", (enum log_level)0);
		rig_start();
		atexit(rig_end);
		started = true;
	}
	if (size < 1)
		return 0;
	rig_new(&r, states_at_first[data[0] % 6], "aio:/nonexistent/x");
	if (r.vd->state == VD_IDLE)
		minor_unbind(0);
	if (r.vd->state == VD_SILENT)
		r.vd->child = false;
	data++;
	size--;
	for (int i = 0; i < 64 && size >= 4; i++) {
		size_t len = data[3];

		if (len > size - 4)
			len = size - 4;
		say(&r, data, data + 4, len);
		data += 4 + len;
		size -= 4 + len;
		if (i & 1)
			continue;
		rig_turn();
		listen_to(r.tap_rd, &r.tap_in);
		listen_to(r.ctl_sock, &r.ctl_in);
		if (!ctl.n_vdisks)	/* destroyed: nobody to speak to */
			break;
		if (list_first(&ctl.vdisks, struct vdisk, link) != r.vd)
			break;
	}
	rig_free(&r);
	return 0;
}
