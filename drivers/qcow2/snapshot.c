/* snapshot.c - see snapshot.h. */
#include "qcow2/snapshot.h"

#include <errno.h>
#include <stdio.h>

#include "base/bytes.h"

int qcow2_snapshot_decode(const uint8_t *p, size_t left,
			  const struct qcow2_header *h, uint64_t file_len,
			  struct qcow2_snapshot *sn, struct qcow2_why *why)
{
	uint64_t cs = 1ull << h->cluster_bits;

	*sn = (struct qcow2_snapshot){ .icount = UINT64_MAX };
	if (left < QCOW2_SNAPSHOT_FIXED)
		return -EAGAIN;
	sn->l1_offset = get_be64(p);
	sn->l1_entries = get_be32(p + 8);
	sn->id_len = get_be16(p + 12);
	sn->name_len = get_be16(p + 14);
	sn->date_sec = get_be32(p + 16);
	sn->date_nsec = get_be32(p + 20);
	sn->vm_clock_ns = get_be64(p + 24);
	sn->vm_state_size = get_be32(p + 32);
	sn->extra_len = get_be32(p + 36);
	if (sn->extra_len > QCOW2_SNAPSHOT_EXTRA_MAX) {
		snprintf(why->text, sizeof(why->text),
			 "a snapshot has %u bytes of extra data", sn->extra_len);
		return -EINVAL;
	}
	if (sn->l1_entries > QCOW2_L1_MAX || !is_aligned(sn->l1_offset, cs) ||
	    (sn->l1_entries && !sn->l1_offset) ||
	    !range_ok(sn->l1_offset, sn->l1_entries * 8ull,
		      align_up(min_u64(file_len, INT64_MAX), cs))) {
		snprintf(why->text, sizeof(why->text),
			 "a snapshot's L1 table, %u entries at %llu, is not in the file, or not at a cluster's start",
			 sn->l1_entries, (unsigned long long)sn->l1_offset);
		return -EINVAL;
	}
	sn->length = (uint32_t)align_up(QCOW2_SNAPSHOT_FIXED + sn->extra_len +
					sn->id_len + sn->name_len, 8);
	if (left < sn->length)
		return -EAGAIN;
	sn->extra = p + QCOW2_SNAPSHOT_FIXED;
	sn->id = sn->extra + sn->extra_len;
	sn->name = sn->id + sn->id_len;
	if (sn->extra_len >= 8)
		sn->vm_state_size = get_be64(sn->extra);
	if (sn->extra_len >= 16)
		sn->disk_size = get_be64(sn->extra + 8);
	if (sn->extra_len >= 24)
		sn->icount = get_be64(sn->extra + 16);
	return 0;
}
