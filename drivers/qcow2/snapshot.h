/* snapshot.h - one entry of the table of snapshots.  Pure. */
#ifndef QCOW2_SNAPSHOT_H
#define QCOW2_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "qcow2/header.h"

#define QCOW2_SNAPSHOT_FIXED 40u	/* bytes before the extra data */

struct qcow2_snapshot {
	uint64_t l1_offset;
	uint32_t l1_entries;
	uint16_t id_len, name_len;
	uint32_t date_sec, date_nsec;
	uint64_t vm_clock_ns;
	uint64_t vm_state_size;
	uint64_t disk_size;	/* 0: not said */
	uint64_t icount;	/* UINT64_MAX: none */
	uint32_t extra_len;
	uint32_t length;	/* of the entry, its padding included */
	/* In the bytes that were decoded; no zero byte ends them. */
	const uint8_t *extra, *id, *name;
};

/* The entry at p, of which `left` bytes are there.  h: the image's header.  0;
 * -EAGAIN: more bytes are needed, sn->length of them if that is not 0; -EINVAL:
 * it is damaged. */
int qcow2_snapshot_decode(const uint8_t *p, size_t left,
			  const struct qcow2_header *h, uint64_t file_len,
			  struct qcow2_snapshot *sn, struct qcow2_why *why);

#endif
