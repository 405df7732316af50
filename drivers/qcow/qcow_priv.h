/* qcow_priv.h - what the files of the qcow format share. */
#ifndef QCOW_PRIV_H
#define QCOW_PRIV_H

#include "qcow/header.h"
#include "sparse/sparse.h"

enum qcow_class { QCOW_L2, QCOW_L1 };

struct qcow {
	struct qcow_header h;
	uint32_t cluster;	/* bytes */
	uint32_t l2_len;	/* bytes of a level 2 table */
	bool parent;		/* holes show a backing file */
};

extern const struct td_driver td_qcow;

/* Can a level 2 table be at `host`?  (Whether it is inside the file is the
 * engine's to know.) */
bool qcow_l2_ok(const struct qcow *q, uint64_t host);
uint64_t qcow_l1_get(const struct qcow *q, const uint8_t *entry);

int qcow_map(struct sparse *s, uint64_t off, uint64_t len, struct sparse_extent *x);
int qcow_link(struct sparse *s, const struct sparse_link *l);
int qcow_unmap(struct sparse *s, uint64_t off, uint64_t len, enum sparse_unmap how,
	       uint64_t *done);
int qcow_release(struct sparse *s, unsigned file, uint64_t host, uint64_t len,
		 uint64_t *done);

#endif
